"""The decision diary as Gymnasium wrappers: what an environment decides is written into a log; nothing else changes.

    with Log.open("governed/diary.log", ...) as log:
        env = DiaryVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=64), log, policy=("ppo", weights_sha256))

The diary observes the environment itself, so what it holds does not depend on wrappers between: rewards and ends of episodes
are the environment's own. It is told after all gates: it sees the orders as the market will, and, with ``durable=True``, they
are sent only when they are on disk. Put the wrapper around all wrappers that install gates.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym import bounded, trust
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.envs.about import about
from emp_gym.envs.base_env import NativeWrapper
from emp_gym.envs.foreign_gates import reason_names
from emp_gym.envs.wrappers.risk import trading
from emp_gym.governance.diary.diary import Diary
from emp_gym.governance.diary.recorder import Regimes
from emp_gym.governance.log.writer import Log
from emp_gym.risk.gates import Gate
from emp_gym.types import I8, ConfigError, DataError

NOT_OF_THE_MARKET = ("gates", "num_envs", "vectorization_mode", "render_mode", "threads")
PACKAGES = ("numpy", "numba", "gymnasium")

Labels = I8 | Callable[[TapeSet], I8]
"""Regimes of every row of the tapes i1 [R], or what gives them."""


def regimes_of(days: TapeSet | None, regime: Labels | None) -> Regimes | None:
    """What gives the labels of the rows that lanes have been shown; `ConfigError` where there are not as many as rows of `days`."""
    labels = regime(days) if callable(regime) and days is not None else regime
    if labels is None or callable(labels) or days is None:
        return None
    if len(labels) != len(days.rows):
        raise ConfigError(f"regime must have one label for each of the {len(days.rows)} tape rows, got {len(labels)}")
    row0 = days.days["row0"]
    return lambda lane: labels[row0[lane["day"]] + lane["seen_row"]]


class _Kept:
    """A diary that observes an environment of ours."""

    def __init__(
        self, env: Any, log: Log, policy: tuple[str, str] | None, regime: Labels | None, durable: bool, rows: int | None, actor: str
    ) -> None:  # fmt: skip
        self._env = trading(env, "the diary needs")
        known, told = about(env), describe(env)
        regimes = regimes_of(known.days, regime)
        levers = 0 if known.menu else self._env.action_space.shape[-1]  # type: ignore[index]
        trust.remember("diary", named_in(told, "the diary"), "the diary")  # who replays it here is not asked
        self.diary = Diary(
            log, told, lanes=len(self._env.mask), slots=known.requests, levers=levers, durable=durable, rows=rows, actor=actor,
            regimes=regimes,
        )  # fmt: skip
        if policy is not None:
            self.diary.policy(*policy)
        self._seeded = False
        self._env.attach(self.diary)

    def reset(self, inner: Callable[..., Any], seed: Any, options: Mapping[str, Any] | None) -> Any:
        """Resets by `inner` and writes it down. The first reset always has a seed in every lane, drawn where none is given, so
        that the run can be replayed."""
        told = _json("reset options", options or {})
        if not self._seeded:
            seed = [_drawn() if own is None else own for own in seed] if isinstance(seed, Sequence) else seed
            seed = _drawn() if seed is None else seed
        answer = inner(seed=seed, options=options)
        self._seeded = True
        self.diary.reset(seed, told)
        return answer

    def close(self) -> None:
        self._env.detach(self.diary)
        self.diary.close()


def _drawn() -> int:
    """A fresh seed."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))


class DiaryVectorWrapper(NativeWrapper):
    """Keeps the diary of a native vector environment, in every autoreset mode.

    `policy` is (name, SHA-256 of the weights); ``env.diary.policy(name, digest)`` tells of new ones. `regime` i1 [R] labels
    every row of the environment's tapes (`Regime`), or is a function that does. `durable`: one row a decision, on disk before it is sent.
    """

    def __init__(
        self, env: VectorEnv, log: Log, *, policy: tuple[str, str] | None = None, regime: Labels | None = None,
        durable: bool = False, rows: int | None = None, actor: str = "diary",
    ) -> None:  # fmt: skip
        super().__init__(env)
        self._kept = _Kept(env, log, policy, regime, durable, rows, actor)

    @property
    def diary(self) -> Diary:
        """The diary of this environment: tell it of new weights and of the agent's notes."""
        return self._kept.diary

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        return self._kept.reset(self.env.reset, seed, options)

    def close(self, **keywords: Any) -> None:
        self._kept.close()
        super().close(**keywords)


class DiaryWrapper(gym.Wrapper):
    """Keeps the diary of a scalar environment; arguments as for `DiaryVectorWrapper`."""

    def __init__(
        self, env: gym.Env, log: Log, *, policy: tuple[str, str] | None = None, regime: Labels | None = None,
        durable: bool = False, rows: int | None = None, actor: str = "diary",
    ) -> None:  # fmt: skip
        super().__init__(env)
        self._kept = _Kept(env, log, policy, regime, durable, rows, actor)

    @property
    def diary(self) -> Diary:
        """The diary of this environment: tell it of new weights and of the agent's notes."""
        return self._kept.diary

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._kept.reset(self.env.reset, seed, options)

    def close(self) -> None:
        self._kept.close()
        super().close()


# ------------------------------------------------------------------------------------------------------ what a run is


def describe(env: Any) -> dict[str, Any]:
    """What a replay and a reader need to know of an environment, as canonical JSON.

    ``env`` (id), ``face``, ``kwargs`` (JSON text), ``gates`` (a list of {name, made_by, reasons}), ``task``, ``menu``,
    ``clip``, ``data`` ({hash, given} and, for each day, ``days``, ``price_units``, ``currencies``), ``versions``.
    """
    known, spec, face = about(env), env.unwrapped.spec, env.unwrapped
    if (days := known.days) is None:
        why = "a diary notes on which days a run was, so that it can be replayed"
        raise ConfigError(f"{why}; {known.market or spec.id} has none; evaluate.py --log DIR keeps decisions and fills")
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in NOT_OF_THE_MARKET}
    given = _portable(kwargs.pop("data", None))
    return {
        "env": spec.id,
        "face": "vector" if isinstance(face, VectorEnv) else "scalar",
        "kwargs": _json("keyword arguments of the environment", kwargs),
        "gates": [_gate(gate) for gate in face.gates],
        "task": type(known.task).__name__,
        "menu": list(known.menu),
        "clip": int(known.task.order_quantity),
        **({"lever_names": list(known.levers)} if known.levers else {}),
        "data": {
            "hash": known.data_hash,
            "given": given,
            "days": [str(day) for day in days.info],
            "price_units": [repr(day.instrument.price_unit) for day in days.info],
            "currencies": [day.instrument.currency for day in days.info],
        },
        "versions": {"python": platform.python_version(), "emp-gym": _own_version()}
        | {name: version(name) for name in PACKAGES},
    }


def named_in(about: Mapping[str, Any], where: object) -> dict[str, Any]:
    """What of `describe` may name code, out of its JSON; `DataError` where it has not that form."""
    try:
        kwargs, gates, env = about["kwargs"], [gate["made_by"] for gate in about["gates"]], about["env"]
        whole = all(name in about["data"] for name in ("given", "hash", "days")) and about["face"] in ("scalar", "vector")
        found = {"env": env, "kwargs": bounded.loads(kwargs, where), "gates": [bounded.loads(made, where) for made in gates if made]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: not what a run says of its environment ({type(error).__name__}: {error})") from error
    whole &= isinstance(env, str) and isinstance(found["kwargs"], dict)
    if not whole or not all(isinstance(gate, dict) for gate in found["gates"]):
        raise DataError(f"{where}: expected the id of an environment, its face and days, keywords and gates as mappings")
    return found


def _own_version() -> str:
    from emp_gym import __version__

    return __version__


def _portable(data: Any) -> str:
    """``data=`` as JSON text, files by absolute path; "" where it is no text (a replay must then be given it)."""
    listed = [data] if isinstance(data, (str, Path)) else data
    if listed is not None and not (
        isinstance(listed, (list, tuple)) and all(isinstance(x, (str, Path)) for x in listed)
    ):
        return ""
    paths = [str(Path(x).resolve()) if Path(x).exists() else str(x) for x in listed or ()]
    return json.dumps(None if listed is None else paths if isinstance(data, (list, tuple)) else paths[0])


def _gate(gate: Gate) -> dict[str, Any]:
    """How a gate is called, made again ("" if it cannot be from this record), and what its reason bits are called."""
    made_by = gate.described()
    told = "" if made_by is None else _json(f"gate {gate.title}", made_by)
    return {"name": gate.title, "made_by": told, "reasons": reason_names(gate)}


def _json(what: str, value: Any) -> str:
    """JSON text that gives equal arguments back; `ConfigError` for what has none."""

    def plain(x: Any) -> Any:
        if isinstance(x, Enum):
            return x.value
        if isinstance(x, Path):
            return str(x)
        if isinstance(x, (np.ndarray, np.generic)):
            return x.tolist()
        if isinstance(x, Mapping):
            return dict(x)
        raise ConfigError(f"{what}: {x!r} of {type(x).__name__} cannot be written down; pass JSON values")

    return json.dumps(value, default=plain, sort_keys=True)
