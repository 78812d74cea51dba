"""`kill -9` at the moments at which a run writes something: whatever is left goes on, and ends as if nothing had been."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp_gym.agents.base import BaseAgent, read_arrays, read_json, write_arrays
from emp_gym.cli import train
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.verify import verify
from emp_gym.runs.run_metadata import learning_time
from emp_gym.training import callbacks

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}  # and files that are opened to write


class Walker(BaseAgent):
    """Acts at random and sums up what it sees: any lane, draw or step that differs shows in its arrays."""

    num_timesteps = 0

    def __init__(self, *spaces: Any, **keywords: Any) -> None:
        super().__init__(*spaces, **keywords)
        self.rng, self.seen = np.random.default_rng(self.seed), np.zeros(self.observation_space.shape)

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        env = make_env(4)
        env.reset(seed=self.seed)
        while self.num_timesteps < total_timesteps:
            for _ in range(16):
                actions = self.rng.integers(env.single_action_space.n, size=4)
                observation, reward, *_ = env.step(actions)
                self.seen += observation.sum(axis=0) * (1 + reward.sum())
            self.num_timesteps += 64
            if callback(self.num_timesteps, {"train/seen": float(self.seen.sum())}) is False:
                break
        env.close()

    def arrays(self) -> dict[str, np.ndarray]:
        return {"seen": self.seen}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.seen = arrays["seen"].copy()

    def checkpoint(self, folder: Path) -> None:
        self.save(folder)
        state = self.rng.bit_generator.state["state"]
        words = [state[name] >> shift & (1 << 64) - 1 for name in ("state", "inc") for shift in (0, 64)]
        write_arrays(folder / "rng.safetensors", {"rng": np.array(words, np.uint64), "at": np.array([self.num_timesteps])})

    def resume(self, folder: Path) -> None:
        self.load(folder)
        saved = read_arrays(folder / "rng.safetensors")
        low, high, low_inc, high_inc = map(int, saved["rng"])
        own = self.rng.bit_generator.state
        self.rng.bit_generator.state = own | {"state": {"state": high << 64 | low, "inc": high_inc << 64 | low_inc}}
        self.num_timesteps = int(saved["at"][0])


def in_a_child(words: list[str], killed_at: int | None) -> tuple[int, int]:
    """Runs the command in a process of its own that kills itself (SIGKILL) at its n-th write. Returns (exit status, negative for
    a signal, and how many writes there were)."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        count = 0

        def heard(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if opened or event in WRITES:
                count += 1
                if count == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        sys.addaudithook(heard)
        status = 99
        try:
            status = train.main(words)
        finally:
            os.write(writing, str(count).encode())
            os._exit(status)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        return os.waitstatus_to_exitcode(status), int(stream.read() or 0)


def live(words: list[str], run: Path, govern: list[str], moments: list[int]) -> None:
    """Begins a run and kills it at each of `moments`, then lets it end; each life goes on from what the last one left."""
    for moment in (*moments, None):
        begun = (run / "config.json").exists()
        command = ["--resume", str(run), "--no-evaluation"] if begun else [*words, "--run-dir", str(run)]
        status, _ = in_a_child([*command, *govern], moment)
        assert status in ((-signal.SIGKILL, 0) if moment else (0,)), (moments, moment, begun, status)


@pytest.fixture
def words(monkeypatch, root) -> list[str]:
    monkeypatch.chdir(root)
    return ["--env", "emp-lob-v0", "--agent", f"{__name__}:Walker", "--total-timesteps", "512", "--no-evaluation", "--set",
            "checkpoints=4", "env.episode=40 decisions", "env.threads=1"]  # fmt: skip


def check(words: list[str], tmp_path: Path, governed: bool, draw: Callable[[int], list[list[int]]]) -> None:
    """Lives with kills at moments that `draw` gives (for a number of writes) end like one without."""

    def govern(name: str) -> list[str]:
        if not governed:
            return []
        GovernanceFolder.create(tmp_path / f"{name}-log", clock=time.time_ns).close()
        return ["--govern", str(tmp_path / f"{name}-log")]

    assert train.main([*words, "--run-dir", str(tmp_path / "first"), *govern("first")]) == 0  # children need not load it all
    status, writes = in_a_child([*words, "--run-dir", str(tmp_path / "whole"), *govern("whole")], None)
    assert status == 0 and writes > 30
    expected = read_arrays(tmp_path / "whole" / "model.safetensors")["seen"]
    assert expected.any()
    for number, moments in enumerate(draw(writes)):
        name = f"run-{number}"
        run, log = tmp_path / name, tmp_path / f"{name}-log"
        live(words, run, govern(name), moments)
        assert np.array_equal(read_arrays(run / "model.safetensors")["seen"], expected), moments
        assert read_json(run / "model.json") == read_json(tmp_path / "whole" / "model.json")
        rows = (run / "curves.csv").read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(64, 513, 64)), moments
        if governed:
            assert all(verify(log / part, log / "witness").whole for part in ("ledger.log", "diary.log"))
            with LogReader(log / "ledger.log") as reader:
                kinds = [entry.kind for entry in reader.entries()]
            assert kinds.count("register") == 1 and kinds[-1] == "register" and kinds.count("trial") <= len(moments) + 1


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.mark.parametrize("governed", [False, True])
def test_a_run_that_is_killed_while_it_writes_ends_as_if_nothing_had_been(words, tmp_path, governed):
    rng = np.random.default_rng(7)
    check(words, tmp_path, governed, lambda writes: [[int(m) for m in rng.integers(1, writes, 2)] for _ in range(2 if governed else 4)])


def test_seconds_of_training_are_those_of_all_its_lives(words, tmp_path, monkeypatch):
    """Ten seconds an iteration, by a clock that only `Recorder` reads; what the checkpoint does not hold is not counted."""
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run = tmp_path / "run"
    assert train.main([*words, "--run-dir", str(tmp_path / "whole")]) == 0
    assert learning_time(tmp_path / "whole" / "curves.csv") == (512, 80.0)
    status, _ = in_a_child([*words, "--run-dir", str(run)], 45)
    assert status == -signal.SIGKILL and not (run / "model.json").exists()
    assert max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit()) in range(1, 512)
    assert train.main(["--resume", str(run), "--no-evaluation"]) == 0
    assert learning_time(run / "curves.csv") == (512, 80.0)


def test_curves_of_an_earlier_version_still_tell_their_seconds(tmp_path):
    (tmp_path / "curves.csv").write_text("steps,time/fps\n100,50\n400,100\n")
    assert learning_time(tmp_path / "curves.csv") == (400, 4.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("governed", [False, True])
def test_every_moment_at_which_it_writes(words, tmp_path, governed):
    check(words, tmp_path, governed, lambda writes: [[moment] for moment in range(1, writes + 1)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ppo_in_a_process_of_its_own_killed_at_random_times(tmp_path, root):
    """The real thing: `kill -9` from outside, whatever the process is at."""
    rng = np.random.default_rng(3)
    command = [sys.executable, "scripts/train.py", "--no-evaluation"]
    new = ["--env", "emp-lob-v0", "--total-timesteps", "120000", "--num-envs", "64", "--set", "agent.n_steps=64",
           "agent.threads=1", "env.threads=1", "checkpoints=20"]  # fmt: skip

    def begin(folder: Path) -> subprocess.Popen[bytes]:
        begun = (folder / "config.json").exists()
        words = ["--resume", str(folder)] if begun else [*new, "--run-dir", str(folder)]
        return subprocess.Popen([*command, *words], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert begin(tmp_path / "whole").wait(900) == 0
    run, kept = tmp_path / "run", 0
    for _ in range(4):
        process, kept = begin(run), kept + int(rng.integers(1, 5))
        while len(list((run / "checkpoints").glob("*"))) < kept and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(float(rng.uniform(0.0, 0.1)))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert begin(run).wait(900) == 0
    for name in ("model.safetensors", "checkpoints/000000122880/training.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
