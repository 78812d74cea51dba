"""What threads need inside kernels and numba does not have: atomic words, locks taken without the GIL, a kernel shared out.

Words live in arrays of i8. All is sequentially consistent. Without a compiler (``NUMBA_DISABLE_JIT=1``) kernels never share and
only `share_out` is called.
"""

from __future__ import annotations

import platform
from typing import Any

import numba
import numba.extending
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.callconv import RETCODE_NONE, RETCODE_OK

_WORD = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
_ORDER = "seq_cst"
_PART = ir.FunctionType(ir.VoidType(), [_BYTES, _WORD, _WORD.as_pointer()])
_X86: tuple[str, list[int]] = ("llvm.x86.sse2.pause", [])  # tells the processor that a thread only looks
_ARM: tuple[str, list[int]] = ("llvm.aarch64.hint", [1])
_RELAX = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}


def _word(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Pointer to word ``arguments[1]`` of the array ``arguments[0]``."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    at = context.cast(builder, arguments[1], signature.args[1], types.intp)
    return builder.gep(data, [at], inbounds=True)


def _values(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    return [
        context.cast(builder, value, kind, types.int64)
        for value, kind in zip(arguments[2:], signature.args[2:], strict=True)
    ]


def _load(typing: Any, words: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_word(context, builder, signature, arguments), _ORDER, 8)

    return types.int64(words, at), generate


def _store(typing: Any, words: Any, at: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (new,) = _values(context, builder, signature, arguments)
        builder.store_atomic(new, _word(context, builder, signature, arguments), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(words, at, value), generate


def _read_and_write(operation: str) -> Any:
    def typed(typing: Any, words: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (value,) = _values(context, builder, signature, arguments)
            return builder.atomic_rmw(operation, _word(context, builder, signature, arguments), value, _ORDER)

        return types.int64(words, at, value), generate

    return typed


def _replace(typing: Any, words: Any, at: Any, expected: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        before, after = _values(context, builder, signature, arguments)
        done = builder.cmpxchg(_word(context, builder, signature, arguments), before, after, _ORDER, _ORDER)
        return builder.extract_value(done, 1)

    return types.boolean(words, at, expected, value), generate


def _relax(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine() in _RELAX:
            name, values = _RELAX[platform.machine()]
            given = [ir.IntType(32)(value) for value in values]
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), generate


def _of_python(name: str, result: ir.Type, more: list[ir.Type]) -> Any:
    """A call of CPython's own lock, which needs no GIL, on the lock that word `at` points to."""

    def typed(typing: Any, words: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lock = builder.inttoptr(builder.load(_word(context, builder, signature, arguments)), _BYTES)
            kind = ir.FunctionType(result, [_BYTES, *more])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [lock, *[of(1) for of in more]])
            return context.get_dummy_value()

        return types.void(words, at), generate

    return typed


def _take_part(typing: Any, words: Any, part: Any, given: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        part, given, place = (
            context.cast(builder, value, kind, types.int64)
            for value, kind in zip(arguments[1:], signature.args[1:], strict=True)
        )
        builder.call(builder.inttoptr(part, _PART.as_pointer()), [builder.inttoptr(given, _BYTES), place, data])
        return context.get_dummy_value()

    return types.void(words, part, given, place), generate


def sharing(share: Any, status: int, exception: int) -> Any:
    """The intrinsic ``fan_out(call, words)`` for the first line of a kernel ``kernel(call: int, words, ...)``.

    ``call > 1``: ``share(words, part, given, call)`` has threads run ``take_part(words, part, given, place)``, which enters the
    very kernel again with the arguments of now and ``-place`` as its first; then the kernel is over, and raises what one
    of them has raised (words `status` and `exception`, which `share` clears; it gives back `status`). ``call == 1``: the kernel
    goes on alone. ``call <= 0``: one of several. Where it goes on, the place is given back.
    """

    def fan_out(typing: Any, call: Any, words: Any) -> Any:
        if call != types.int64:
            raise numba.TypingError(f"the number of threads must be an int64, got {call}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            call, words = arguments
            with builder.if_then(builder.icmp_signed(">", call, _WORD(1))):
                part, given = _again(builder, status, exception)
                whole = types.int64(signature.args[1], types.int64, types.int64, types.int64)
                code = context.compile_internal(builder, share, whole, [words, part, given, call])
                with builder.if_then(builder.icmp_signed("!=", code, _WORD(0))):
                    data = context.make_array(signature.args[1])(context, builder, words).data
                    raised = builder.load(builder.gep(data, [_WORD(exception)]))
                    slot = builder.function.args[1]
                    builder.store(builder.inttoptr(raised, slot.type.pointee), slot)
                    builder.ret(builder.trunc(code, ir.IntType(32)))
                builder.ret(RETCODE_NONE)
            return builder.select(builder.icmp_signed("<", call, _WORD(0)), builder.neg(call), _WORD(0))

        return types.int64(call, words), generate

    return numba.extending.intrinsic(fan_out)


def _again(builder: Any, status: int, exception: int) -> tuple[Any, Any]:
    """(part, given): addresses of a function that enters the kernel under way again, and of its packed arguments."""
    kernel = builder.function
    given = list(kernel.args)[3:]  # after result, exception and the first argument
    kind = ir.LiteralStructType([value.type for value in given])
    packed = cgutils.alloca_once(builder, kind)
    for k, value in enumerate(given):
        builder.store(value, cgutils.gep_inbounds(builder, packed, 0, k))

    part = ir.Function(builder.module, _PART, name=f"{kernel.name}.part")
    part.linkage = "internal"
    inside = ir.IRBuilder(part.append_basic_block("entry"))
    room, place, words = part.args
    room = inside.bitcast(room, kind.as_pointer())
    values = [inside.load(cgutils.gep_inbounds(inside, room, 0, k)) for k in range(len(given))]
    result, raised = (cgutils.alloca_once(inside, slot.type.pointee) for slot in kernel.args[:2])
    code = inside.call(kernel, [result, raised, inside.neg(place), *values])
    failed = inside.and_(inside.icmp_signed("!=", code, RETCODE_OK), inside.icmp_signed("!=", code, RETCODE_NONE))
    with inside.if_then(failed, likely=False):
        told = inside.gep(words, [_WORD(status)])
        first = inside.extract_value(inside.cmpxchg(told, _WORD(0), inside.sext(code, _WORD), _ORDER, _ORDER), 1)
        with inside.if_then(first):
            inside.store(inside.ptrtoint(inside.load(raised), _WORD), inside.gep(words, [_WORD(exception)]))
    inside.ret_void()
    return builder.ptrtoint(part, _WORD), builder.ptrtoint(packed, _WORD)


_intrinsic = numba.extending.intrinsic
load, store, replace, pause = _intrinsic(_load), _intrinsic(_store), _intrinsic(_replace), _intrinsic(_relax)
add, exchange = _intrinsic(_read_and_write("add")), _intrinsic(_read_and_write("xchg"))
acquire = _intrinsic(_of_python("PyThread_acquire_lock", ir.IntType(32), [ir.IntType(32)]))
release = _intrinsic(_of_python("PyThread_release_lock", ir.VoidType(), []))
take_part = _intrinsic(_take_part)
