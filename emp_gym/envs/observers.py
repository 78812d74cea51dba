"""The observers of an environment, and when they are told what. What an observer is: `emp_gym.evaluation.observers`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np

from emp_gym import trust
from emp_gym.evaluation.observers import Began, Decision, Observer, Settled
from emp_gym.plugins import read_only
from emp_gym.risk.gates import Gate
from emp_gym.types import F32, F64, I64, Bool, Orders, Verdicts, View


class Observed(Protocol):
    """What is asked of the lanes: `emp_gym.envs.trading_core.Lanes`."""

    market: Any
    task: Any
    mask: Bool
    orders: Orders
    verdicts: list[Verdicts]

    @property
    def gates(self) -> Sequence[Gate]: ...


class ObserverList:
    """The observers of N lanes, in the order in which they came."""

    def __init__(self, lanes: int, observers: tuple[Observer, ...] = ()) -> None:
        self.observers = observers
        self.flags: tuple[Bool, Bool] = (np.zeros(lanes, np.bool_),) * 2  # terminated, truncated: a face may cut more until it settles
        self._everyone, self._none = np.arange(lanes), np.zeros(lanes, np.int64)
        self._beginners, self._lookers, self._deciders, self._settlers = (
            tuple(_told(each, name) for each in observers if getattr(type(each), name) is not getattr(Observer, name))
            for name in ("began", "observed", "decided", "settled")
        )

    def joined(self, observer: Observer) -> ObserverList:
        """One more."""
        return ObserverList(len(self._none), (*self.observers, observer))

    def left(self, observer: Observer) -> ObserverList:
        """One less."""
        return ObserverList(len(self._none), tuple(each for each in self.observers if each is not observer))

    def began(self, of: Observed, lanes: I64) -> None:
        for each in self._beginners:
            each(Began(of.market.view, of.market.public, lanes))

    def decided(self, of: Observed, actions: np.ndarray, sent: Orders) -> None:
        if not self._deciders:
            return
        market, latch = of.market, self._none
        masked = ~of.mask[self._everyone, actions] if of.task.menu else self._none.astype(np.bool_)
        for gate in of.gates:
            if (own := gate.latch) is not None:
                latch = np.maximum(latch, own)
        now = Decision(market.view, market.public, market.active, actions, masked, of.orders, sent, of.verdicts, latch)
        for each in self._deciders:
            each(now)

    def settled(self, of: Observed, reward: F64, observation: F32) -> None:
        """The step is over, and no lane has begun anew; `observation` is what each lane sees now."""
        if self._settlers:
            market = of.market
            said = (market.last_fills(), market.outcome, market.last_reports())
            now = Settled(market.view, market.public, market.active, reward, *self.flags, *said)
            for each in self._settlers:
                each(now)
        self.observed(observation, None)

    def observed(self, observation: F32, lanes: I64 | None) -> None:
        for each in self._lookers:
            each(observation, lanes)

    def __deepcopy__(self, memo: dict[int, Any]) -> ObserverList:
        return ObserverList(len(self._none), tuple(copy.deepcopy(each, memo) for each in self.observers if each.copied))

    def __reduce__(self) -> tuple[Any, ...]:
        return ObserverList, (len(self._none), tuple(each for each in self.observers if each.copied))


def _told(observer: Observer, name: str) -> Callable[..., None]:
    """How `observer` is told: one of somebody else may read and not write."""
    call: Callable[..., None] = getattr(observer, name)
    return call if trust.is_ours(type(observer).__module__) else lambda *told: call(*_lent(told, {}))


def _lent(told: Any, seen: dict[int, Any]) -> Any:
    """The same with read-only arrays, at any depth; what is one object stays one."""
    if isinstance(told, np.ndarray):
        return read_only(told)
    if isinstance(told, tuple | list):
        lent = [_lent(each, seen) for each in told]
        return type(told)(lent) if type(told) in (tuple, list) else type(told)(*lent)
    if is_dataclass(told) and not isinstance(told, View | type) and id(told) not in seen:
        parts = {each.name: _lent(getattr(told, each.name), seen) for each in fields(told) if each.init}
        seen[id(told)] = replace(told, **parts)
    return seen.get(id(told), told)
