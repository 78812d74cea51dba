"""Hold against slices at every depth of one day: whether what is best depends on how many levels the file happens to have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym  # noqa: F401
from emp_gym.agents.baselines.schedules import TWAP
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.evaluation.assumptions import HONEST
from emp_gym.types import NS

CLIPS = 10  # slices of a parent
SECONDS = 120  # of an episode, with a decision each


def costs(tape: Path, starts_ns: np.ndarray, parent: int, agent: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cost of a lot of the parent order against its arrival mid, in ticks, and the share of lots beyond the file, of each episode [W]:
    of ``hold``, for whom all is taken at the deadline, or ``twap``. Honest costs, a decision a second."""
    env = gym.make_vec(
        "emp-lob-execution-v0", num_envs=len(starts_ns), data=str(tape), split="all", every="1 s", episode=f"{SECONDS} decisions",
        parent=parent, order_quantity=parent // CLIPS, autoreset_mode="Disabled", **HONEST,
    )  # fmt: skip
    tapes: TapeSet = env.unwrapped.tape_set
    rows = np.searchsorted(tapes.rows["time_ns"], starts_ns, side="right") - 1
    observation, info = env.reset(seed=seed, options={"day": [0] * len(rows), "start": rows.tolist()})
    slices = TWAP(env.single_observation_space, env.single_action_space, env.spec, seed=0)
    done, keep = np.zeros(len(rows), bool), [action.keeps for action in env.spec.about.actions].index(True)
    cost, beyond = np.zeros(len(rows)), np.zeros(len(rows))
    state = slices.initial_state(len(rows))
    while not done.all():
        action = np.full(len(rows), keep)
        if agent == "twap":
            action, state = slices.act(observation, state, info.get("action_mask"))
        observation, _, terminated, truncated, info = env.step(action)
        ended = (terminated | truncated) & ~done
        if ended.any():
            instrument = tapes.info[0].instrument
            cost[ended] = -info["summary"]["pnl"][ended] / parent / (instrument.tick * instrument.price_unit)
            beyond[ended] = info["summary"]["beyond_depth"][ended] / parent
            done |= ended
    env.close()
    return cost, beyond


def starts(tape: TapeSet) -> np.ndarray:
    """Moments at which episodes begin, one after the other through the day, a minute after it opened."""
    times = tape.rows["time_ns"]
    return np.arange(times[0] + 60 * NS, times[-1] - SECONDS * NS, SECONDS * NS)


def compared(tape: Path, starts_ns: np.ndarray, parent: int, seed: int) -> dict[str, Any]:
    """Hold less slices, paired: mean and the 95 % interval of a normal mean, in ticks a lot."""
    (hold, beyond), (twap, _) = (costs(tape, starts_ns, parent, agent, seed) for agent in ("hold", "twap"))
    apart = hold - twap
    half = 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
    return {
        "parent": parent, "episodes": len(apart), "hold": round(float(hold.mean()), 3), "twap": round(float(twap.mean()), 3),
        "hold_less_twap": round(float(apart.mean()), 3), "interval": [round(float(apart.mean() + k * half), 3) for k in (-1, 1)],
        "beyond_of_hold": round(float(beyond.mean()), 3),
    }  # fmt: skip
