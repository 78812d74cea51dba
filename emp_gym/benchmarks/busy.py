"""What is left of the speed of the environments beside busy processes, and what a fair scheduler would leave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from emp_gym.benchmarks import days
from emp_gym.benchmarks.env import ACTIONS, ID
from emp_gym.benchmarks.figures import Effort, Figures, core_word, cores, rates, say
from emp_gym.envs.about import about

BESIDE = (1, 4)  # busy processes


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds, for each number of lanes and of busy processes, the speed alone and the share of it that is left.

    A share is of the speed alone in the same repeat: the three are measured one after another, so that a machine that others
    use too gets slower for all of them."""
    path = list(data) if data else str(days.chosen(None, "mixed", effort.rows).path)
    for lanes in sorted({effort.many, max(effort.lanes)}):
        _beside(figures, effort, path, lanes)


def _beside(figures: Figures, effort: Effort, path: Any, lanes: int) -> None:
    env: Any = gym.make_vec(ID, num_envs=lanes, data=path, split="all", every="100 messages")
    random, step = np.random.default_rng(0), 0
    actions = [random.integers(0, env.single_action_space.n, lanes) for _ in range(ACTIONS)]
    env.reset(seed=0, options={"stagger": True})

    def work() -> float:
        nonlocal step
        env.step(actions[step % ACTIONS])
        step += 1
        return float(lanes)

    once = Effort(repeats=1, seconds=effort.seconds)
    rates(work, once)
    threads = about(env).threads
    alone: list[float] = []
    left: dict[int, list[float]] = {others: [] for others in BESIDE}
    for _ in range(effort.repeats):
        alone += rates(work, once)
        for others in BESIDE:
            with _busy(others):
                left[others].append(rates(work, once)[0] / alone[-1])
    name = f"env {lanes} lanes, 100 messages, {core_word(threads)}"
    figures.add(f"{name}, alone", alone, "env-steps/s")
    for others, shares in left.items():
        fair = min(1.0, cores() / (threads + others))
        figures.add(f"{name}, beside {others} busy", shares, f"of the speed alone; a fair share is {fair:.2f}")
    say(f"    {env.unwrapped.public.lane['filled'].sum():,} lots filled")
    env.close()


@contextmanager
def _busy(others: int) -> Iterator[None]:
    """That many processes that never wait, at work."""
    program = "import sys\nsys.stdout.write('.')\nsys.stdout.flush()\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(others)]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.read(1)
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()
