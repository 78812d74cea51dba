"""Where things are kept, on machines that are not ours: no home, one of somebody else, a disk that cannot be written."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emp_gym import paths


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of an earlier setting."""
    monkeypatch.delenv(paths.SHARED, raising=False)
    paths._settled.cache_clear()
    yield
    paths._settled.cache_clear()


def only(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name in ("EMP_GYM_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_the_chosen_folder_is_made_and_taken(monkeypatch, tmp_path, caplog):
    only(monkeypatch, EMP_GYM_HOME=str(tmp_path / "a" / "b"))
    assert paths.home() == tmp_path / "a" / "b"
    assert paths.home().is_dir()
    assert not caplog.records


@pytest.mark.parametrize("setting", ["EMP_GYM_HOME", "HOME", "XDG_CACHE_HOME"])
def test_a_folder_that_cannot_be_made_gives_a_temporary_one_and_one_line(setting, monkeypatch, caplog):
    only(monkeypatch, HOME="/dev/null")
    monkeypatch.setenv(setting, "/dev/null/x")
    home = paths.home()
    assert home.is_dir()
    assert "emp_gym-home-" in home.name
    assert paths.home() == home
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "EMP_GYM_HOME" in caplog.text and "Not a directory" in caplog.text


def test_a_user_without_a_home_has_a_temporary_one(monkeypatch, caplog):
    only(monkeypatch)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nobody knows this user
    assert paths.wanted() is None
    assert "emp_gym-home-" in paths.home().name
    assert "no home folder" in caplog.text


def test_the_home_of_another_user_is_neither_written_nor_read(monkeypatch, tmp_path, caplog):
    (tmp_path / ".cache" / "emp_gym" / "tapes" / "x").mkdir(parents=True)
    only(monkeypatch, HOME=str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    home = paths.home()
    assert tmp_path not in home.parents
    assert not (home / "tapes").exists(), "kernels are pickles: those of others would be run"
    assert "another user" in caplog.text


def test_what_a_folder_holds_that_cannot_be_written_is_used_and_new_things_go_beside_it(monkeypatch, tmp_path):
    for name in ("tapes/day/meta.json", "kernels/0123/module_1/f.nbi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("kept")
    only(monkeypatch, EMP_GYM_HOME=str(tmp_path))
    real = paths.obstacle
    monkeypatch.setattr(paths, "obstacle", lambda folder: "Read-only file system" if folder == tmp_path else real(folder))
    home = paths.home()
    assert home != tmp_path
    for name in ("tapes/day/meta.json", "kernels/0123/module_1/f.nbi"):
        assert (home / name).read_text() == "kept"
    (home / "kernels/0123/module_1/g.nbi").write_text("new")
    (home / "tapes/other").mkdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["tapes", "day", "meta.json", "kernels", "0123", "module_1", "f.nbi"]
    )


def test_a_folder_below_that_cannot_be_written_counts_too(tmp_path, monkeypatch):
    (tmp_path / "kernels").mkdir()
    real = paths.tempfile.TemporaryFile

    def refusing(*, dir):
        if Path(dir).name == "kernels":
            raise PermissionError(13, "Permission denied", str(dir))
        return real(dir=dir)

    monkeypatch.setattr(paths.tempfile, "TemporaryFile", refusing)
    assert paths.obstacle(tmp_path) == f"{tmp_path / 'kernels'}: Permission denied"


def test_without_any_place_the_error_names_the_remedy(monkeypatch):
    only(monkeypatch, EMP_GYM_HOME="/dev/null/x")

    def none(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(paths.tempfile, "mkdtemp", none)
    with pytest.raises(paths.NoPlace, match="EMP_GYM_HOME"):
        paths.home()


PROGRAM = """
import os, subprocess, sys
from emp_gym import paths
home = paths.home()
(home / "x").write_text("x")
child = subprocess.run([sys.executable, "-c", "from emp_gym.paths import home; print(home())"], capture_output=True, text=True)
assert child.stdout.strip() == str(home), child
assert not child.stderr, child.stderr
if os.fork() == 0:
    sys.exit(0)  # a forked child ends like a program, and leaves the folder alone
os.wait()
assert (home / "x").exists()
print(home)
"""


def test_the_temporary_home_is_shared_with_children_and_gone_at_the_end():
    settings = {k: v for k, v in os.environ.items() if k not in ("EMP_GYM_HOME", "XDG_CACHE_HOME", paths.SHARED)}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=settings | {"HOME": "/dev/null"}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert not Path(run.stdout.strip()).exists()
    assert run.stderr.count("\n") == 1
    assert "EMP_GYM_HOME" in run.stderr


KERNEL = """
from emp_gym.jit import cache_folder, njit

@njit
def twice(x):
    return 2 * x

assert twice(21) == 42
print(cache_folder())
"""


@pytest.mark.parametrize("numba_folder", [False, True])
def test_kernels_run_without_a_home_and_go_where_numba_is_told(numba_folder, tmp_path):
    (tmp_path / "kernel.py").write_text(KERNEL)
    settings = {k: v for k, v in os.environ.items() if k not in ("EMP_GYM_HOME", "XDG_CACHE_HOME", paths.SHARED)}
    settings |= {"HOME": "/dev/null"} | ({"NUMBA_CACHE_DIR": str(tmp_path / "numba")} if numba_folder else {})
    run = subprocess.run([sys.executable, str(tmp_path / "kernel.py")], env=settings, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    folder = Path(run.stdout.strip())
    assert folder.name.isalnum() and len(folder.name) == 16, "keyed by the sources"
    if numba_folder:
        assert folder.parent == tmp_path / "numba" / "emp_gym"
        assert list(folder.rglob("*.nbc"))
        assert not run.stderr
    else:
        assert run.stderr.count("EMP_GYM_HOME") == 1
        assert not folder.exists()
