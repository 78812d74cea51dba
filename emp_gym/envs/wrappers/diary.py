"""The decision diary as Gymnasium wrappers: what an environment decides is written into a log; nothing else changes.

    with Log.open("governed/diary.log", ...) as log:
        env = DiaryVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=64), log, policy=("ppo", weights_sha256))

The diary listens to the environment itself (its `Lanes`), so what it holds does not depend on wrappers between: rewards and
ends of episodes are the environment's own. Its gate stands last: it sees the orders as the market will, and, with
``durable=True``, lets them pass only when they are on disk. Put the wrapper around all wrappers that install gates.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym import bounded, trust
from emp_gym.data.tape import TapeSet
from emp_gym.envs.core import Lanes
from emp_gym.envs.faces import NativeWrapper
from emp_gym.envs.wrappers.risk import trading
from emp_gym.governance.diary import Diary
from emp_gym.governance.diary_recorder import Moment
from emp_gym.governance.log import Log
from emp_gym.risk.gates import Gate, passed
from emp_gym.types import F32, F64, I8, I64, Bool, ConfigError, DataError, Fills, Orders, Verdicts, View

NOT_OF_THE_MARKET = ("gates", "num_envs", "vectorization_mode", "render_mode", "threads")
PACKAGES = ("numpy", "numba", "gymnasium")

_HEARD = ("step", "settle_and_observe", "observe")  # methods of `Lanes` around which a `Listener` stands

Labels = I8 | Callable[[TapeSet], I8]
"""Regimes of every row of the tapes i1 [R], or what gives them."""


class Book(Protocol):
    """Who is told what is decided: a `Diary`, or a `Recorder` alone."""

    def observed(self, observation: F32, lanes: I64 | None = None) -> None: ...
    def decided(
        self, moment: Moment, actions: np.ndarray, orders: Orders, sent: Orders, verdicts: Sequence[Verdicts]
    ) -> None: ...
    def settled(self, reward: F64, terminated: Bool, truncated: Bool, equity2: I64, fills: Fills) -> None: ...


class Listener(Gate):
    """Tells a `Book` what the lanes of an environment do, and is their last gate.

    It stands around `step`, `settle_and_observe` and `observe` of one `Lanes` object: between the last two is the only time
    at which a step is over and no lane has been reset yet.
    """

    last = True  # after the kill switch too

    def __init__(self, lanes: Lanes, book: Book, regime: Labels | None = None) -> None:
        labels, rows = regime(lanes.tape) if callable(regime) else regime, len(lanes.tape.rows)
        if labels is not None and len(labels) != rows:
            raise ConfigError(f"regime must have one label for each of the {rows} tape rows, got {len(labels)}")
        self._lanes, self._book, self._regime = lanes, book, labels
        self._step, self._settle, self._observe = lanes.step, lanes.settle_and_observe, lanes.observe
        self._everyone, self._none = np.arange(lanes.lanes), np.zeros(lanes.lanes, np.int64)
        self._actions: np.ndarray = self._none
        self._flags: tuple[Bool, Bool] = (np.zeros(lanes.lanes, np.bool_),) * 2
        self._before = {name: vars(lanes)[name] for name in _HEARD if name in vars(lanes)}  # another listener's
        vars(lanes).update(zip(_HEARD, (self.step, self.settle, self.look), strict=True))
        lanes.gates = (*lanes.gates, self)

    def leave(self) -> None:
        """Leaves the lanes as they were."""
        lanes = self._lanes
        for name in _HEARD:
            vars(lanes).pop(name, None)
        vars(lanes).update(self._before)
        lanes.gates = tuple(gate for gate in lanes.gates if gate is not self)

    def step(self, actions: np.ndarray) -> tuple[Bool, Bool, Bool]:
        self._actions = actions
        ended, terminated, truncated = self._step(actions)
        self._flags = terminated, truncated
        return ended, terminated, truncated

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        """The last gate: tells what was decided, changes nothing."""
        lanes, lane = self._lanes, self._lanes.market.public.lane
        if lanes.gates[-1] is not self:
            raise ConfigError(
                "the diary must be the last gate, or it would not see what is sent: put its wrapper around those that "
                "install gates (risk, kill switch, stage)"
            )
        moment = Moment(
            moved=lanes.market.active, masked=self._masked(), time_ns=view.time_ns, decision=view.decision,
            day=lane["day"], row=lane["row"], regime=self._known_regime(), latch=self._latch(),
        )  # fmt: skip
        self._book.decided(moment, self._actions, lanes.orders, orders, lanes.verdicts)
        return orders, passed(orders)

    def settle(self) -> tuple[F32, F64]:
        observation, reward = self._settle()
        market = self._lanes.market
        self._book.settled(reward, *self._flags, market.view.equity2, market.last_fills())
        self._book.observed(observation)
        return observation, reward

    def look(self, lanes: I64, out: F32) -> None:
        self._observe(lanes, out)
        self._book.observed(out, lanes)

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def _masked(self) -> Bool:
        if not self._lanes.task.menu:
            return self._none.astype(np.bool_)
        return ~self._lanes.mask[self._everyone, self._actions]

    def _known_regime(self) -> I8 | None:
        """The label of the row that each lane's view shows."""
        if self._regime is None:
            return None
        lane = self._lanes.market.public.lane
        return self._regime[self._lanes.tape.days["row0"][lane["day"]] + lane["seen_row"]]

    def _latch(self) -> I64:
        latch = self._none
        for gate in self._lanes.gates:
            if (own := gate.latch) is not None:
                latch = np.maximum(latch, own)
        return latch

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise ConfigError("an environment with a diary cannot be copied: two would write one run; copy what it wraps")

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "an environment with a diary cannot be pickled: its log has one writer; wrap it where it runs"
        )


class _Kept:
    """A diary and the listener that fills it, around an environment of ours."""

    def __init__(
        self, env: Any, log: Log, policy: tuple[str, str] | None, regime: Labels | None, durable: bool, rows: int | None, actor: str
    ) -> None:  # fmt: skip
        lanes: Any = trading(env, "the diary needs").lanes
        levers = 0 if lanes.task.menu else int(lanes.task.action_space.shape[0])
        n, slots = lanes.orders.kind.shape
        about = describe(env)
        trust.remember("diary", named_in(about, "the diary"), "the diary")  # who replays it here is not asked
        self.diary = Diary(
            log, about, lanes=n, slots=slots, levers=levers, durable=durable, rows=rows, actor=actor
        )  # fmt: skip
        if policy is not None:
            self.diary.policy(*policy)
        self._seeded = False
        self._listener = Listener(lanes, self.diary, regime)

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
        self._listener.leave()
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
    lanes: Lanes = env.unwrapped.lanes
    spec, days = env.unwrapped.spec, lanes.tape.info
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in NOT_OF_THE_MARKET}
    given = _portable(kwargs.pop("data", None))
    return {
        "env": spec.id,
        "face": "vector" if isinstance(env.unwrapped, VectorEnv) else "scalar",
        "kwargs": _json("keyword arguments of the environment", kwargs),
        "gates": [_gate(gate) for gate in lanes.gates],
        "task": type(lanes.task).__name__,
        "menu": list(lanes.task.menu),
        "clip": int(lanes.task.order_quantity),
        "data": {
            "hash": lanes.tape.hash,
            "given": given,
            "days": [str(day) for day in days],
            "price_units": [repr(day.instrument.price_unit) for day in days],
            "currencies": [day.instrument.currency for day in days],
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
    return {"name": gate.title, "made_by": told, "reasons": list(gate.reason_names)}


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
