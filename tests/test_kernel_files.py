"""Files of compiled kernels: damaged ones are no files, and one that cannot be written stops nobody."""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path
from typing import Any

import numba
import pytest

from emp_gym import kernel_files

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="kernels are plain Python here")


def compiled(tmp_path: Path) -> Any:
    """A dispatcher of one small function, its code kept below `tmp_path`, as a new process would see it."""
    source = tmp_path / "source.py"
    if not source.exists():
        source.write_text("def add(a, b):\n    return a + b\n")
    spec = importlib.util.spec_from_file_location("source_of_a_kernel", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dispatcher = numba.njit(module.add)
    kernel_files.keep(dispatcher, module.add, tmp_path / "kernels")
    return dispatcher


def hits(dispatcher: Any) -> int:
    return sum(dispatcher.stats.cache_hits.values())


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    assert compiled(tmp_path)(1, 2) == 3
    again = compiled(tmp_path)
    assert again(1, 2) == 3
    assert hits(again) == 1


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"\0",
                                    lambda data: b"not a pickle at all", lambda data: data[:40] + b"\xff" + data[41:]],
                         ids=["cut", "empty", "last byte", "other text", "one byte"])  # fmt: skip
def test_a_damaged_file_is_compiled_again_and_mended(suffix, damage, tmp_path, caplog):
    compiled(tmp_path)(1, 2)
    (file,) = (tmp_path / "kernels").rglob(f"*.{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    again = compiled(tmp_path)
    assert again(1, 2) == 3
    assert hits(again) == 0
    assert "damaged" in caplog.text
    mended = compiled(tmp_path)
    assert mended(1, 2) == 3
    assert hits(mended) == 1


def test_a_full_disk_costs_the_next_process_a_compilation_and_nothing_else(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kernel_files._Files, "_write", full)
    monkeypatch.setattr(kernel_files, "_told", set())
    first, second = compiled(tmp_path), compiled(tmp_path)
    assert first(1, 2) == 3 and first(1.5, 2) == 3.5 and second(2, 2) == 4
    assert caplog.text.count("EMP_GYM_HOME") == 1


def test_a_folder_that_cannot_be_written_is_none(tmp_path, monkeypatch, caplog):
    (tmp_path / "kernels").write_text("a file in the way")
    monkeypatch.setattr(kernel_files, "_told", set())
    assert compiled(tmp_path)(1, 2) == 3
    assert "EMP_GYM_HOME" in caplog.text
    assert not kernel_files.usable(tmp_path / "kernels" / "x")


def test_kernels_of_the_last_few_versions_are_kept_and_older_ones_go(tmp_path):
    names = [f"{i:016x}" for i in range(7)]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "something else").mkdir()
    now = kernel_files.begin(tmp_path / f"{99:016x}")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([now.name, "something else", *names[: kernel_files.KEPT]])
    kernel_files.begin(tmp_path / names[0])
    assert len(list(tmp_path.iterdir())) == len(left), "where nothing is new nothing goes"
