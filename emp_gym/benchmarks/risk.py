"""What the risk layer costs: the gate and the mask of a menu, each in ns per env-step, inside a running environment.

Time on the clock, on one core and on all of them: what other programs do in the meantime counts, too. The gate is timed
while no mask is asked for, as it stands between a continuous agent and its market; the mask afterwards, on top.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym  # noqa: F401  registers the ids
from emp_gym.benchmarks.figures import Effort, Figures, core_word, thread_counts
from emp_gym.envs.action_mask import narrow
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.gates import Gate
from emp_gym.types import Orders, Verdicts, View

LIMITS = ("configs/limits/slack.yaml", "configs/limits/default.yaml", "configs/limits/strict.yaml")
LANES = 4096


class Timed(Gate):
    """A gate and the time that it takes."""

    def __init__(self, gate: RiskGate) -> None:
        self.gate, self.seconds = gate, 0.0

    def use_threads(self, threads: int) -> None:
        self.gate.use_threads(threads)

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        started = time.perf_counter()
        answer = self.gate(view, orders)
        self.seconds += time.perf_counter() - started
        return answer


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds for each file of limits: the gate's and the mask's ns per env-step, and the gate's share of the step."""
    lanes = LANES if effort.many >= 1024 else effort.many
    for path in LIMITS:
        for threads in thread_counts(lanes):
            name = f"risk {path.rsplit('/', 1)[-1].removesuffix('.yaml')}, {lanes} lanes, {core_word(threads)}"
            samples = [_run(path, lanes, threads, effort.seconds, data) for _ in range(effort.repeats)]
            figures.add(f"{name}: gate", [gate for gate, _, _ in samples], "ns per env-step")
            figures.add(f"{name}: gate's share of the step", [share for _, share, _ in samples], "%")
            figures.add(f"{name}: mask", [mask for _, _, mask in samples], "ns per env-step")


def _run(
    limits: Any, lanes: int, threads: int, seconds: float, data: Sequence[str] | None
) -> tuple[float, float, float]:
    """(gate ns, gate's share of the step in %, mask ns) per env-step of random actions."""
    timed = Timed(RiskGate(limits))
    env: Any = gym.make_vec(
        "emp-lob-v0",
        num_envs=lanes,
        data=list(data) if data else None,
        gates=[timed],
        threads=threads,
        episode="256 decisions",
    )
    env.reset(seed=0, options={"stagger": True})
    random = np.random.default_rng(0)
    actions = [random.integers(0, env.single_action_space.n, lanes) for _ in range(64)]
    for step in range(20):
        env.step(actions[step])
    timed.seconds, total, steps = 0.0, 0.0, 0
    while total < seconds or steps < 64:
        started = time.perf_counter()
        env.step(actions[steps % 64])
        total, steps = total + time.perf_counter() - started, steps + 1
    gate = timed.seconds
    return gate * 1e9 / (steps * lanes), 100 * gate / total, _mask(env, timed, actions)


def _mask(env: Any, timed: Timed, actions: list[np.ndarray]) -> float:
    """ns per env-step of the mask, between steps."""
    timed.gate.masks, inner, spent = True, env.unwrapped.lanes, 0.0
    own = inner.gates
    for action in actions:
        env.step(action)
        inner.gates = (timed.gate,)
        started = time.perf_counter()
        narrow(inner.mask, inner.task, inner.market.view, inner.orders.kind.shape[1], inner.row)
        spent += time.perf_counter() - started
        inner.gates = own
    return spent * 1e9 / (len(actions) * len(action))
