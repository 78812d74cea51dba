"""Environment speed: random actions through Gymnasium's own doors, observation and reward included, a gate in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym
from emp_gym.benchmarks import days
from emp_gym.benchmarks.figures import (
    Effort,
    Figures,
    core_word,
    cores,
    rates,
    resident_mb,
    say,
    thread_counts,
)
from emp_gym.data.synthetic import day

ID = "emp-lob-v0"
ACTIONS = 64  # different draws of actions, used in turn


class Driver:
    """A vector environment under random actions."""

    def __init__(self, data: Any, lanes: int, messages: int, threads: int) -> None:
        # With long gaps between decisions episodes are shorter, so that starts still differ on a day of 200,000 rows.
        episode = "256 decisions" if messages < 1000 else "128 decisions"
        self.env = gym.make_vec(
            ID, num_envs=lanes, data=data, split="all", every=f"{messages} messages", episode=episode,
            gates=["allow-all"], threads=threads,
        )  # fmt: skip
        self.lanes, self.steps = lanes, 0
        random = np.random.default_rng(0)
        self.actions = [random.integers(0, self.env.single_action_space.n, lanes) for _ in range(ACTIONS)]  # type: ignore[attr-defined]
        self.env.reset(seed=0, options={"stagger": True})

    def step(self) -> float:
        """One decision in every lane; returns the number of env-steps."""
        self.env.step(self.actions[self.steps % ACTIONS])
        self.steps += 1
        return float(self.lanes)

    @property
    def fills(self) -> str:
        """Proof that lanes trade: lots filled in the episodes under way."""
        lane = self.env.unwrapped.public.lane  # type: ignore[attr-defined]
        return f"{int(lane['filled'].sum()):,} lots filled, {int(lane['maker_filled'].sum()):,} of them resting"


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None, long: bool = False) -> None:
    """Adds every environment figure; with `long`, growth is watched over ten million env-steps."""
    mixed = _data(data, "mixed", effort)
    for lanes in (1, 256):  # compiles: a step, an episode's end, one thread and several
        for threads in thread_counts(lanes):
            _warm(Driver(mixed, lanes, 100, threads))
    for messages in effort.messages:
        for lanes in effort.lanes:
            for threads in thread_counts(lanes):
                _speed(figures, effort, mixed, lanes, messages, threads, "")
    for regime in () if data else days.REGIMES[1:]:
        path, which = _data(None, regime, effort), f", {regime} days"
        for messages in sorted({100, 1000} & set(effort.messages)):
            for threads in thread_counts(effort.many):
                _speed(figures, effort, path, effort.many, messages, threads, which)
    _scalar(figures, effort, mixed)
    _resets(figures, effort, mixed)
    _growth(figures, effort, mixed, 10_000_000 if long else effort.steps)
    _memory(figures, effort)


def _data(data: Sequence[str] | None, regime: str, effort: Effort) -> Any:
    return list(data) if data else str(days.chosen(None, regime, effort.rows).path)


def _speed(figures: Figures, effort: Effort, data: Any, lanes: int, messages: int, threads: int, which: str) -> None:
    run = Driver(data, lanes, messages, threads)
    _warm(run)
    name = f"env {lanes} lanes, {messages} messages, {core_word(threads)}{which}"
    figures.add(name, rates(run.step, effort), "env-steps/s")
    say(f"    {run.fills}")
    run.env.close()


def _warm(run: Driver) -> None:
    for _ in range(max(8, 300 // run.lanes)):
        run.step()


def _scalar(figures: Figures, effort: Effort, data: Any) -> None:
    env = gym.make(ID, data=data, split="all", gates=["allow-all"])
    actions = np.random.default_rng(0).integers(0, env.action_space.n, 1024).tolist()  # type: ignore[attr-defined]
    env.reset(seed=0)

    def episode() -> float:
        env.reset()
        for step, action in enumerate(actions):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                return step + 1.0
        return float(len(actions))

    episode()
    figures.add("env scalar gym.make, 100 messages, 1 core", rates(episode, effort), "env-steps/s")


def _resets(figures: Figures, effort: Effort, data: Any) -> None:
    for lanes in effort.lanes:
        run = Driver(data, lanes, 100, 1)
        samples = [1e9 / rate for rate in rates(lambda: float(lanes * (run.env.reset() is not None)), effort)]  # noqa: B023
        figures.add(f"env reset of {lanes} lanes, first observation included", samples, "ns per lane")


def _growth(figures: Figures, effort: Effort, data: Any, steps: int) -> None:
    run = Driver(data, effort.many, 100, cores() if effort.many >= 256 else 1)
    say(f"{steps:,} env-steps on {effort.many} lanes: does anything grow?")
    while run.steps * run.lanes < steps // 10:  # every array is there, every page of the tape has been seen
        run.step()
    before, first = resident_mb(), run.steps
    while (run.steps - first) * run.lanes < steps:
        run.step()
    figures.add(f"memory gained over {steps:,} env-steps", [resident_mb() - before], "MB")


def _memory(figures: Figures, effort: Effort) -> None:
    """What lanes on one long day take, in a process of their own: resident memory, pages of the tape included."""
    config = day.DayConfig(seed=7_200, rows=effort.large_rows, tick_regime="one")
    path = str(days.tape_set([config]).path)
    program = f"from emp_gym.benchmarks.env import on_one_day; on_one_day({path!r}, {effort.many})"
    root = str(Path(emp_gym.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    gained, whole = json.loads(run.stdout)
    name = f"memory of {effort.many} lanes on a day of {config.rows:,} messages"
    figures.add(f"{name}, gained by them", [gained], "MB")
    figures.add(f"{name}, whole process", [whole], "MB")


def on_one_day(path: str, lanes: int) -> None:
    """Steps `lanes` lanes on one tape and writes [MB gained, MB of the whole process] to stdout."""
    before = resident_mb()
    run = Driver(path, lanes, 100, cores() if lanes >= 256 else 1)
    for _ in range(1_000):
        run.step()
    sys.stdout.write(json.dumps([resident_mb() - before, resident_mb()]))
