"""Small diaries for tests: environments driven by random actions, and blocks that a test has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

import emp_gym  # noqa: F401
from emp_gym.envs.wrappers.diary import DiaryVectorWrapper, DiaryWrapper
from emp_gym.governance.diary.blocks import Block, decode, encode
from emp_gym.governance.diary.diary import BLOCK, DiaryReader
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.writer import DIARY, Draft, Log
from tests.governance.logs import create

RISK = {"gate": "risk", "limits": "configs/limits/strict.yaml"}
WEIGHTS = "ab" * 32


def diary_log(folder: Path) -> Log:
    return create(folder / "diary.log", profile=DIARY)


def drive(env: Any, steps: int = 50, seed: int = 3, reset: Any = "seed") -> None:
    """Random actions; lanes that do not reset themselves are reset by hand."""
    env.action_space.seed(seed)
    env.reset(seed=seed if reset == "seed" else reset)
    for _ in range(steps):
        _, _, end, cut, _ = env.step(env.action_space.sample())
        if not isinstance(env.unwrapped, VectorEnv):
            if end or cut:
                env.reset()
        elif env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and (end | cut).all():
            env.reset(options={"reset_mask": end | cut})


def vector(log: Log, name: str = "emp-lob-v0", *, lanes: int = 3, kept: dict | None = None, **arguments: Any) -> Any:
    """A vector environment of short episodes with a diary; `kept` goes to the wrapper."""
    made = gym.make_vec(name, num_envs=lanes, **{"episode": "12 decisions", **arguments})
    return DiaryVectorWrapper(made, log, **{"rows": 40, **(kept or {})})


def scalar(log: Log, name: str = "emp-lob-v0", *, kept: dict | None = None, **arguments: Any) -> Any:
    return DiaryWrapper(gym.make(name, **{"episode": "12 decisions", **arguments}), log, **{"rows": 40, **(kept or {})})


def blocks(folder: Path, run: int | None = None) -> list[Block]:
    """The blocks of a run, in memory."""
    with DiaryReader(folder) as reader:
        return list(reader.blocks(reader.run(run)))


def forged(source: Path, target: Path, change: Callable[[list[Block]], None]) -> None:
    """A new, whole log with the entries of `source`, its blocks changed by `change`."""
    target.mkdir()
    with LogReader(source / "diary.log") as reader:
        entries = list(reader.entries())
    found = [copy.deepcopy(decode(entry.payload)) for entry in entries if entry.kind == BLOCK and entry.payload]
    change(found)
    payloads = iter([encode(block) for block in found])
    with create(target / "diary.log", profile=DIARY, log_id=entries[0].log_id) as log:
        for entry in entries:
            payload = next(payloads) if entry.kind == BLOCK else entry.payload
            log.append_many([Draft(entry.actor, entry.kind, entry.subject_hash, payload, entry.evidence, entry.ts_ns)])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the bit, field by field."""
    if a.dtype.names:
        return a.shape == b.shape and all(same(a[name], b[name]) for name in a.dtype.names)
    return a.dtype == b.dtype and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
