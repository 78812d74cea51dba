"""What the decision diary costs: beside bare steps, beside PPO end to end, and in bytes a decision."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym  # noqa: F401  registers the ids
from emp_gym.benchmarks.figures import Effort, Figures
from emp_gym.envs.wrappers.diary import DiaryVectorWrapper
from emp_gym.governance.diary.diary import BLOCK
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.writer import DIARY, Log
from emp_gym.runs import backtest

ENV = "emp-lob-v0"
LANES = (64, 256, 1024)


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds, for each number of lanes, steps with and without a diary; then PPO with and without, turn by turn."""
    keywords: dict[str, Any] = {"data": list(data)} if data else {}
    for lanes in LANES if effort.many >= 1024 else (effort.many,):
        _stepping(figures, effort, lanes, keywords)
    _durable(figures, effort, keywords)
    _training(figures, effort, keywords)


@contextmanager
def _log() -> Iterator[Log]:
    """A log in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="emp_gym-") as name:
        key = KeyFile.generate(Path(name) / "key")
        with Log.create(Path(name) / "diary.log", signer=key, clock=time.time_ns, profile=DIARY) as log:
            yield log


def _stepping(figures: Figures, effort: Effort, lanes: int, keywords: Mapping[str, Any]) -> None:
    plain, kept, size = [], [], []
    for _ in range(effort.repeats):
        env = gym.make_vec(ENV, num_envs=lanes, autoreset_mode="SameStep", **keywords)
        plain.append(_microseconds(env, lanes, effort.seconds)[0])
        env.close()
        with _log() as log:
            env = DiaryVectorWrapper(gym.make_vec(ENV, num_envs=lanes, autoreset_mode="SameStep", **keywords), log)
            took, steps = _microseconds(env, lanes, effort.seconds)
            kept.append(took)
            env.close()
            size.append(_bytes(log) / (steps * lanes))
    name = f"diary, {lanes} lanes, random actions"
    figures.add(f"{name}: step without", plain, "us per decision")
    figures.add(f"{name}: step with", kept, "us per decision")
    figures.add(f"{name}: block", size, "bytes per decision")


def _microseconds(env: Any, lanes: int, seconds: float) -> tuple[float, int]:
    """(us a lane and step, steps taken in all)."""
    random = np.random.default_rng(0)
    actions = [random.integers(0, env.single_action_space.n, lanes) for _ in range(64)]
    env.reset(seed=0, options={"stagger": True})
    for action in actions[:20]:
        env.step(action)
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds or steps < 64:
        env.step(actions[steps % 64])
        steps += 1
    return (time.perf_counter() - begun) / (steps * lanes) * 1e6, steps + 20


def _bytes(log: Log) -> int:
    return sum(len(entry.payload or b"") for seq in range(log.size) for entry in log.entries(seq, seq + 1, kind=BLOCK))


def _durable(figures: Figures, effort: Effort, keywords: Mapping[str, Any]) -> None:
    """A decision that is on disk before it is sent, and its outcome after it: two syncs."""
    samples = []
    for _ in range(effort.repeats):
        with _log() as log:
            env = DiaryVectorWrapper(gym.make_vec(ENV, num_envs=1, **keywords), log, durable=True)
            samples.append(_microseconds(env, 1, effort.seconds)[0])
            env.close()
    figures.add("diary, 1 lane, a durable row each decision", samples, "us per decision")


def _training(figures: Figures, effort: Effort, keywords: Mapping[str, Any]) -> None:
    lanes = 1024 if effort.timesteps >= 100_000 else effort.many
    agent = {} if lanes == 1024 else {"n_steps": 16, "batch_size": 128, "n_epochs": 1}
    agent |= {"num_envs": lanes}
    plain, kept, slower, busier = [], [], [], []
    make = backtest.training_env(ENV, keywords)
    for repeat in range(effort.repeats):
        without = _learn(make, agent, effort.timesteps, repeat)
        with _log() as log:
            within = _learn(lambda **given: DiaryVectorWrapper(make(**given), log), agent, effort.timesteps, repeat)
        plain.append(effort.timesteps / without[0])
        kept.append(effort.timesteps / within[0])
        slower.append(100 * (within[0] / without[0] - 1))
        busier.append(100 * (within[1] / without[1] - 1))
    name = f"train ppo, {lanes} lanes, {effort.timesteps:,} steps"
    figures.add(f"{name}: without a diary", plain, "env-steps/s")
    figures.add(f"{name}: with a diary", kept, "env-steps/s")
    figures.add(f"{name}: more time with it", slower, "%")
    figures.add(f"{name}: more processor time with it", busier, "%")


def _learn(make: Callable[..., Any], agent: Mapping[str, Any], steps: int, seed: int) -> tuple[float, float]:
    """(seconds, processor seconds) of one training run from the end of its first iteration, scaled to `steps`."""
    marks: list[tuple[int, float, float]] = []

    def note(done: int, _: Mapping[str, float]) -> bool:
        marks.append((done, time.perf_counter(), time.process_time()))
        return True

    env = make(num_envs=1)
    learner = backtest.build("ppo", env.unwrapped, seed, agent)
    env.close()
    learner.learn(make, steps, note)
    (first, wall, busy), (last, wall_end, busy_end) = marks[0], marks[-1]
    share = steps / max(last - first, 1)
    return (wall_end - wall) * share, (busy_end - busy) * share
