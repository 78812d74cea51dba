"""numba's ``njit`` with a file cache that sees every edit and outlives damage (`emp_gym.kernel_files`).

numba's own cache does not notice an edit in a callee that lives in another file, so the cache folder's name is a hash of all
kernel sources, numba's version and the CPU. Kernels are plain functions over flat arrays and also run with
``NUMBA_DISABLE_JIT=1``.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.extending

from emp_gym.kernel_files import begin, keep, said, usable
from emp_gym.paths import NoPlace, home

F = TypeVar("F", bound=Callable[..., Any])

_MARK = b"from emp_gym.jit import"
_IMPORTED = re.compile(rb"^from (emp_gym[.\w]*) import", re.MULTILINE)
_decorating = threading.Lock()


def kernel_sources(root: Path) -> list[Path]:
    """Every source file below `root` that defines kernels, and every file of ours that those import (numba freezes the
    constants that a kernel takes from them), sorted."""
    todo = [path for path in root.rglob("*.py") if _MARK in path.read_bytes() or path == root / "jit.py"]
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for module in _IMPORTED.findall(path.read_bytes()):
            file = root.joinpath(*module.decode().split(".")[1:]).with_suffix(".py")
            if file.is_file():
                todo.append(file)
    return sorted(found)


def cache_key(root: Path) -> str:
    """Hash of the kernel sources below `root`, numba's version and the CPU."""
    digest = hashlib.sha256()
    for path in kernel_sources(root):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    cpu = numba.config.CPU_NAME or _host_cpu()
    digest.update(f"{numba.__version__} {platform.machine()} {cpu}".encode())
    return digest.hexdigest()[:16]


def _host_cpu() -> str:
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


@cache
def cache_folder() -> Path | None:
    """The folder that holds this version's compiled kernels: below ``NUMBA_CACHE_DIR`` where that is set, else below `home`; None
    where nothing can be kept, so that kernels live in memory only."""
    key, asked = cache_key(Path(__file__).parent), os.environ.get("NUMBA_CACHE_DIR")
    if asked:
        folder = Path(asked).absolute() / "emp_gym" / key
        if usable(folder):
            return begin(folder)
    try:
        return begin(home() / "kernels" / key)
    except NoPlace as error:
        said(f"compiled kernels cannot be kept, every process compiles them anew: {error.strerror}")
        return None


def kernels_are_new() -> bool:
    """Whether kernels of this version have still to be compiled."""
    folder = cache_folder()
    return not numba.config.DISABLE_JIT and (folder is None or not any(folder.glob("*/*.nbc")))


def njit(function: F | None = None, **options: Any) -> Any:
    """``numba.njit``, compiled code kept in `cache_folder`; the caller's own numba settings stay as they are."""
    if function is None:
        return lambda f: njit(f, **options)
    compiled = numba.njit(**options)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    with _decorating:
        keep(compiled, function, cache_folder())
    return compiled


def hot(function: F) -> F:
    """`njit` for the inner kernels: they may view and write arrays but not make any.

    Without reference counts on array views (two atomic operations for every sub-array, and a cache line that all threads
    fight for) they run ten times faster and scale over threads. All are inlined: an array argument is seven words or more,
    so that a call which hands on the tape costs more than most of what is called. Integer division follows C: divisors
    are never 0 here.
    """
    return njit(function, _nrt=False, error_model="numpy", forceinline=True)


def rare(function: F) -> F:
    """`hot` for what is seldom called from inner kernels: its code stands aside, so that theirs stays short."""
    return njit(function, _nrt=False, error_model="numpy")


def fused(function: F) -> F:
    """`hot` for arithmetic in which a product and a sum may be rounded once, where the processor can."""
    return njit(function, _nrt=False, error_model="numpy", forceinline=True, fastmath={"contract"})


def inner(function: F) -> F:
    """For a long kernel that one other kernel calls: it is compiled within that one and, unlike `hot`, not by itself as well."""
    if numba.config.DISABLE_JIT:
        return function

    def typed(typing_context: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            context.compile_internal(builder, function, signature, values)
            return context.get_dummy_value()

        return numba.types.void(*arguments), generate

    own = inspect.signature(function)
    context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_ONLY)
    typed.__signature__ = own.replace(parameters=[context, *own.parameters.values()])  # type: ignore[attr-defined]
    return numba.extending.intrinsic(typed)


def _prefetch(typing_context: Any, array: Any, index: Any, byte: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils, types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = context.get_value_type(types.intp)
        at, offset = (
            context.cast(builder, value, kind, types.intp)
            for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
        )
        (stride, *_) = cgutils.unpack_tuple(builder, data.strides)
        start = builder.ptrtoint(data.data, word)
        pointer = builder.inttoptr(
            builder.add(start, builder.add(builder.mul(at, stride), offset)), ir.IntType(8).as_pointer()
        )
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [pointer, flag(0), flag(3), flag(1)])  # to read, into every cache, data
        return context.get_dummy_value()

    return types.void(array, index, byte), generate


def prefetch(array: Any, index: Any, byte: Any) -> None:
    """Asks for the cache line `byte` bytes into ``array[index]``, so that a later read need not wait. Any index is safe."""


if not numba.config.DISABLE_JIT:
    prefetch = numba.extending.intrinsic(_prefetch)
