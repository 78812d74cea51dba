"""Training speed: Stable-Baselines3's PPO end to end, as `scripts/train.py` runs it, on the embedded days."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emp_gym.benchmarks.figures import Effort, Figures, say
from emp_gym.runs.config import RunConfig
from emp_gym.training import train


class Iterations:
    """Notes when each iteration of a run was done."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []
        self.last: Mapping[str, float] = {}

    def update(self, steps: int, scalars: Mapping[str, float]) -> None:
        self.marks.append((time.perf_counter(), steps))
        self.last = {**self.last, **scalars}

    def speed(self) -> float:
        """Env-steps a second from the end of the first iteration, which compiles, to the end of the last."""
        (begun, first), (ended, last) = self.marks[0], self.marks[-1]
        return (last - first) / (ended - begun)


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds env-steps a second of rollout and learning together, checkpoints, curves and market scalars included."""
    lanes = 1024 if effort.timesteps >= 100_000 else effort.many
    agent: dict[str, Any] = {} if lanes == 1024 else {"n_steps": 16, "batch_size": 128, "n_epochs": 1}
    env: dict[str, Any] = {"data": list(data)} if data else {}
    config = replace(RunConfig(total_timesteps=effort.timesteps, num_envs=lanes), env=env, agent=agent)
    iterations: list[float] = []
    for repeat in range(effort.repeats):
        progress = Iterations()
        with tempfile.TemporaryDirectory(prefix="emp_gym-") as folder:
            train.train(replace(config, seed=repeat), Path(folder) / "run", progress)
        whole = progress.speed()
        iterations.append(whole)
        say(f"    repeat {repeat + 1}: {whole:,.0f} env-steps/s; {_proof(progress.last)}")
    figures.add(f"train ppo, {lanes} lanes, 100 messages, {effort.timesteps:,} steps", iterations, "env-steps/s")


def _proof(scalars: Mapping[str, float]) -> str:
    """What the last iterations said, to see that it learned on a market that trades."""
    market = {tag.removeprefix("market/"): value for tag, value in sorted(scalars.items()) if tag.startswith("market/")}
    return ", ".join(f"{name} {value:.3g}" for name, value in market.items()) or "no episode ended"
