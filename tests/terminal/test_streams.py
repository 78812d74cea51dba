"""Standard output and error that are not what they are on the developer's machine."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emp_gym.terminal import console, streams
from emp_gym.terminal.shell_commands import command
from emp_gym.types import ConfigError

TEXT = "−481.13 → 1 × 2 … ┃ ✗ ≥"


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a stream of a given encoding, error handler and descriptor in the place of standard output."""
    made = []

    def put(handle: int, encoding: str = "utf-8", errors: str = "strict") -> None:
        stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(handle, "w", closefd=False)), encoding=encoding, errors=errors)
        made.append(stream)
        monkeypatch.setattr(sys, "stdout", stream)

    yield put
    for stream in made:
        stream.detach()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", "-481.13 -> 1 x 2 ... | x >="), ("latin-1", "-481.13 -> 1 × 2 ... | x >="), ("cp437", None), ("utf-8", TEXT)],
)
def test_what_an_encoding_lacks_is_written_with_what_it_has(encoding, expected, stdout, tmp_path):
    path = tmp_path / "out"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    stdout(handle, encoding)

    def story() -> int:
        print(TEXT)
        console.console().print("né", "日本", "\udcff", highlight=False)
        return 0

    assert console.guarded(story, "x") == 0
    os.close(handle)
    text = path.read_bytes().decode(encoding)
    if expected is not None:
        assert text.split("\n")[0] == expected
    assert "−" in text or "?481" not in text, "the sign of a number is never lost"


def test_the_streams_are_as_they_were_afterwards(stdout, tmp_path):
    handle = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    stdout(handle, "ascii")
    before = sys.stdout, sys.stderr
    console.guarded(lambda: print("→") or 0, "x")
    assert (sys.stdout, sys.stderr) == before
    print("still open")
    sys.stdout.flush()
    os.close(handle)
    assert (tmp_path / "out").read_text() == "->\nstill open\n"


def test_work_goes_on_where_the_reader_has_gone_and_the_status_says_so(stdout, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    stdout(writing)
    done = []

    def story() -> int:
        for line in range(100):
            print("line", line, flush=True)
        done.append("entered in the ledger")
        return 0

    assert console.guarded(story, "x") == 128 + signal.SIGPIPE
    assert done
    assert capfd.readouterr().err == ""
    os.close(writing)


def test_output_that_fills_its_disk_is_one_line(stdout, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    handle = os.open("/dev/full", os.O_WRONLY)
    stdout(handle)
    done = []
    assert console.guarded(lambda: print("x" * 100_000) or done.append(1) or 0, "train.py") == console.USAGE
    assert done
    assert capsys.readouterr().err == (
        f"train.py: standard output: {os.strerror(errno.ENOSPC)}; what was to be written into files is there\n"
    )
    os.close(handle)


def test_a_broken_pipe_does_not_hide_an_error(stdout):
    reading, writing = os.pipe()
    os.close(reading)
    stdout(writing)

    def story() -> int:
        print("half", flush=True)
        raise ConfigError("no")

    assert console.guarded(story, "x") == console.USAGE
    os.close(writing)


def test_ctrl_c_is_silent(capsys):
    def story() -> int:
        raise KeyboardInterrupt

    assert console.guarded(story, "x") == 130
    assert capsys.readouterr() == ("", "")


def test_progress_that_nobody_reads_stops_nothing(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(writing, "w", closefd=False)), line_buffering=True)
    monkeypatch.setattr(sys, "stderr", stream)
    assert console.guarded(lambda: console.say("10 %") or console.say("20 %") or 0, "x") == 0
    stream.detach()
    os.close(writing)


def test_nobody_that_the_machine_knows_still_has_a_name(monkeypatch):
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(console.getpass, "getuser", unknown)
    assert console.user() == f"user {os.getuid()}"


def test_a_command_line_to_be_copied_is_quoted():
    assert command("tensorboard", "--logdir", Path("my runs/it's")) == """tensorboard --logdir 'my runs/it'"'"'s'"""


SHELL = {">&-": 0, "2>&-": 0, ">&- 2>&-": 0, ">/dev/full": 2}
"""What a shell makes of stdout and stderr -> exit status."""


@pytest.mark.parametrize("redirection", SHELL)
def test_a_command_ends_as_shells_expect(redirection, root, tmp_path):
    env = os.environ | {"EMP_GYM_HOME": str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    command = f"{sys.executable} {root}/scripts/cache.py {redirection}"
    run = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == SHELL[redirection], run.stderr
    assert "Traceback" not in run.stderr and "Exception ignored" not in run.stderr


def test_a_command_whose_reader_has_gone_ends_in_silence(root, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    env = os.environ | {"EMP_GYM_HOME": str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, root / "scripts" / "cache.py"], env=env, stdout=writing, stderr=subprocess.PIPE, timeout=120)
    os.close(writing)
    assert (run.returncode, run.stderr) == (141, b"")


def test_json_is_whole_in_any_encoding(root, tmp_path):
    env = os.environ | {"EMP_GYM_HOME": str(tmp_path / "ü"), "PYTHONIOENCODING": "ascii", "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, root / "scripts" / "cache.py", "--json"], env=env, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["home"] == str(tmp_path / "ü")
    assert streams.PLAIN
