"""Files in the way, closed folders and full disks: one line with path and remedy, status 2, and what was done stands."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import resource
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym import bounded
from emp_gym.agents import registry
from emp_gym.cli import benchmark, cache, check, diary, evaluate, evolve, ingest, kill, leaderboard, promote, train
from emp_gym.data import store
from emp_gym.governance import verify
from emp_gym.terminal import obstacles
from emp_gym.terminal.obstacles import told

fakes.register()
SMALL = ["agent.batch_size=256", "agent.n_epochs=1", "agent.threads=1", "agent.layers=[16]", "env.days=40", "evaluation.episodes=4"]
NEW = ["--env", "fake-lob-v0", "--total-timesteps", "4096", "--num-envs", "32", "--set", *SMALL]
JUDGED = ["--env", "fake-lob-v0", "--agent", "hold", "--set", "env.days=40", "evaluation.episodes=4"]
DAY = "AAA_2024-05-02_34200000_57600000"


@pytest.fixture(autouse=True)
def fake_baselines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(registry.BASELINES, "fake-lob-v0", ("hold", "random"))
    monkeypatch.chdir(tmp_path)


class Refusing:
    """The operating system refuses to make, or to write, what lies at or below `target`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def __call__(self, target: Path, number: int, *, named: bool = True, reading: bool = False, after: int = 0) -> None:
        """`named`: the error names the path; `after`: so many files are still written."""
        left = [after]

        def refuse(path: Any) -> None:
            if not isinstance(path, str | Path) or not (Path(path) == target or target in Path(path).absolute().parents):
                return
            left[0] -= 1
            if left[0] < 0:
                raise OSError(number, os.strerror(number), *([str(path)] if named else []))

        mkdir, opened = os.mkdir, io.open

        def make(path: Any, *more: Any, **options: Any) -> Any:
            refuse(path)
            return mkdir(path, *more, **options)

        def open_(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if reading == ("r" in mode):
                refuse(path)
            return opened(path, mode, *more, **options)

        self._patch.setattr(io, "open", open_)
        self._patch.setattr(builtins, "open", open_)
        if not reading and not after:
            self._patch.setattr(os, "mkdir", make)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(monkeypatch)


def file(path: Path) -> Path:
    path.write_text("a file in the way")
    return path


def nowhere(path: Path) -> Path:
    path.symlink_to(path.parent / "not there")
    return path


def a_day(folder: Path) -> Path:
    """A LOBSTER day of three rows."""
    folder.mkdir()
    (folder / f"{DAY}_message_1.csv").write_text("34200.1,1,1,10,999900,1\n34200.2,1,2,10,1000100,-1\n34200.3,1,3,5,999900,1\n")
    rows = ["9999999999,0,999900,10", "1000100,10,999900,10", "1000100,10,999900,15"]
    (folder / f"{DAY}_orderbook_1.csv").write_text("\n".join(rows) + "\n")
    return folder


Case = tuple[Callable[..., int], Callable[[Path, Refusing], list[Any]]]
CASES: dict[str, Case] = {
    "train: a file": (train.main, lambda at, no: [*NEW, "--run-dir", file(at / "x")]),
    "train: a link that leads nowhere": (train.main, lambda at, no: [*NEW, "--run-dir", nowhere(at / "x")]),
    "train: below a file": (train.main, lambda at, no: [*NEW, "--run-dir", file(at / "x") / "run"]),
    "train: read-only": (train.main, lambda at, no: no(at / "x", errno.EROFS) or [*NEW, "--run-dir", at / "x"]),
    "train: a closed folder": (train.main, lambda at, no: no(at / "x", errno.EACCES) or [*NEW, "--run-dir", at / "x"]),
    "train: the working folder is read-only": (train.main, lambda at, no: no(at / "runs", errno.EROFS) or NEW),
    "train: seeds below a file": (train.main, lambda at, no: [*NEW, "--seeds", "2", "--run-dir", file(at / "x")]),
    "train: a disk that is full at once": (
        train.main, lambda at, no: no(at / "x", errno.ENOSPC, named=False) or [*NEW, "--run-dir", at / "x"]
    ),
    "train: the configuration is a folder": (train.main, lambda at, no: [*NEW, "--config", at]),
    "train: limits that are a folder": (train.main, lambda at, no: [*NEW, "--risk", at]),
    "train: govern is a file": (train.main, lambda at, no: [*NEW, "--run-dir", at / "y", "--govern", file(at / "x")]),
    "train: govern on a read-only disk": (
        train.main, lambda at, no: no(at / "x", errno.EROFS) or [*NEW, "--run-dir", at / "y", "--govern", at / "x"]
    ),
    "evaluate: a file": (evaluate.main, lambda at, no: [*JUDGED, "--report", file(at / "x")]),
    "evaluate: a link that leads nowhere": (evaluate.main, lambda at, no: [*JUDGED, "--report", nowhere(at / "x")]),
    "evaluate: read-only": (evaluate.main, lambda at, no: no(at / "x", errno.EROFS) or [*JUDGED, "--report", at / "x"]),
    "evaluate: html is a folder": (evaluate.main, lambda at, no: [*JUDGED, "--html", at]),
    "evaluate: logs below a file": (evaluate.main, lambda at, no: [*JUDGED, "--log", file(at / "x")]),
    "evaluate: a run that is a file": (evaluate.main, lambda at, no: ["--run", file(at / "x")]),
    "ingest: a file": (ingest.main, lambda at, no: [a_day(at / "day"), "--out", file(at / "x")]),
    "ingest: a link that leads nowhere": (ingest.main, lambda at, no: [a_day(at / "day"), "--out", nowhere(at / "x")]),
    "ingest: a full disk": (ingest.main, lambda at, no: no(at / "x", errno.ENOSPC, named=False) or [a_day(at / "day"), "--out", at / "x"]),
    "ingest: a day that may not be read": (
        ingest.main, lambda at, no: no(at / "x", errno.EACCES, reading=True) or [a_day(at / "x"), "--out", at / "y"]
    ),
    "evolve: a file": (evolve.main, lambda at, no: ["--env", "emp-ladder-trend-v0", "--out", file(at / "x")]),
    "evolve: a link that leads nowhere": (evolve.main, lambda at, no: ["--env", "emp-ladder-trend-v0", "--out", nowhere(at / "x")]),
    "evolve: read-only": (evolve.main, lambda at, no: no(at / "x", errno.EROFS) or ["--env", "emp-ladder-trend-v0", "--out", at / "x"]),
    "evolve: a space that is a folder": (evolve.main, lambda at, no: ["--env", "emp-ladder-trend-v0", "--space", at]),
    "benchmark: a file": (
        benchmark.main, lambda at, no: ["agents", "--only", "emp-ladder-trend-v0", "--agents", "hold", "--out", file(at / "x")]
    ),
    "check: a day that may not be read": (
        check.main, lambda at, no: no(at / "x", errno.EACCES, reading=True) or ["--queue", a_day(at / "x")]
    ),
    "diary: a file": (diary.main, lambda at, no: [file(at / "x")]),
    "kill: a key that is a folder": (kill.main, lambda at, no: [at, "--allow", (file(at / "kill"), at)[1]]),
    "leaderboard: a report that is a folder": (
        leaderboard.main, lambda at, no: ((at / "evaluation.json").mkdir(), file(at / "config.json"), [at])[2]
    ),
    "promote: a file": (promote.main, lambda at, no: [file(at / "x")]),
    "verify: a log that may not be read": (verify.main, lambda at, no: [at / "x" / ("y" * 300)]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_machine_refuses_is_one_line_with_the_path(name, tmp_path, refusing, capsys):
    main, prepare = CASES[name]
    assert main([str(word) for word in prepare(tmp_path, refusing)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.split(":")[0].removesuffix(".py") == name.split(":")[0]
    assert str(tmp_path) in line or "runs/" in line
    assert "Traceback" not in line


def test_cases_are_at_least_as_many_as_were_once_tracebacks():
    assert len(CASES) >= 18


def test_a_cache_that_refuses_to_go_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "tapes" / "old").mkdir(parents=True)
    monkeypatch.setenv("EMP_GYM_HOME", str(tmp_path))

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("emp_gym.runs.caches.shutil.rmtree", refuse)
    assert cache.main(["prune"]) == 2
    assert f"cache.py: {tmp_path / 'tapes' / 'old'}: Permission denied; name a folder that you can write" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- a full disk, and after it


def test_a_disk_that_fills_during_training_leaves_the_last_checkpoint_and_resume_goes_on(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a run"
    written = bounded.write
    models = []

    def full_at_the_second(path: Path, data: str | bytes) -> None:
        if "checkpoints" in path.parts and path.name.startswith("model.safetensors"):
            models.append(path)
            if len(models) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, data)

    monkeypatch.setattr(bounded, "write", full_at_the_second)
    assert train.main([*NEW, "checkpoints=4", "--run-dir", str(folder)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    (kept,) = (folder / "checkpoints").iterdir()
    assert f"the last checkpoint, of {int(kept.name):,} steps, stands" in error
    assert f"{folder}: No space left on device" in error
    again = shlex.split(error.rpartition("to go on: ")[2])
    assert train.main(again[2:]) == 0
    assert (folder / "report.md").exists()


def test_files_may_grow_to_a_limit_only_and_the_run_goes_on_where_it_is_lifted(tmp_path, capsys):
    folder = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        status = train.main([*NEW, "agent.layers=[64,64]", "--run-dir", str(folder)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "File too large" in error and "no checkpoint yet, it goes on from step 0; to go on: " in error
    assert train.main(["--resume", str(folder)]) == 0


def test_a_result_is_told_although_its_report_cannot_be_written(tmp_path, refusing, capsys):
    refusing(tmp_path / "x", errno.ENOSPC, named=False, after=2)
    assert evaluate.main([*JUDGED, "--report", str(tmp_path / "x")]) == 2
    out, err = capsys.readouterr()
    assert "hold" in out and "random" in out
    assert "No space left on device" in err.splitlines()[-1]
    assert "report.md" not in out


def test_json_is_told_although_the_page_cannot_be_written(tmp_path, capsys):
    assert evaluate.main([*JUDGED, "--json", "--html", str(tmp_path)]) == 2
    assert json.loads(capsys.readouterr().out)


# ------------------------------------------------------------------------------------------------- the sentences


@pytest.mark.parametrize("number", sorted(obstacles.REMEDIES))
def test_every_remedy_says_path_and_cause(number):
    line = told(OSError(number, os.strerror(number), "/some/where"))
    assert line.startswith(f"/some/where: {os.strerror(number)}; ")


def test_a_link_that_leads_nowhere_is_called_so(tmp_path):
    with pytest.raises(OSError) as refused:
        nowhere(tmp_path / "x").mkdir()
    assert told(refused.value) == f"{tmp_path / 'x'}: a link that leads nowhere; remove it, or name another place"


def test_numpy_names_neither_number_nor_path_and_a_full_disk_is_still_one(tmp_path):
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError) as refused, obstacles.writing(tmp_path):
        np.zeros(100_000).tofile(file)
    assert refused.value.errno == errno.ENOSPC
    assert refused.value.filename == str(tmp_path)
    assert told(OSError("1000 requested and 20 written")).startswith("No space left on device, or files may not be so large (ulimit -f); ")


def test_a_cache_without_room_for_a_tape_names_the_file_and_another_place(tmp_path, monkeypatch):
    store.tapes("synthetic:rows=2000").one(0).save(tmp_path / "day.tape")
    monkeypatch.setenv("EMP_GYM_HOME", str(tmp_path / "home"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
        with pytest.raises(OSError) as refused:
            store._kept(tmp_path / "home" / "x.tape", lambda: store.tapes(str(tmp_path / "day.tape")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = told(refused.value)
    assert line.startswith(f"{tmp_path / 'home' / 'x.tape'}: ") and "EMP_GYM_HOME=DIR" in line and "ulimit -f" in line
