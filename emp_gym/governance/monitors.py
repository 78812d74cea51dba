"""Rules by which the kill switch closes itself: pure functions of what a view shows, batched over lanes, in integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from emp_gym.types import CASH_UNITS, I64, Bool, ConfigError, Orders, Status, Stop, View

MS = 1_000_000  # ns in a millisecond


@dataclass(frozen=True)
class MonitorRules:
    """Limits beyond which the switch closes. None: no such rule."""

    drawdown: Decimal | float | None = None  # currency, fall of a lane's equity from its highest in the episode
    stale_ms: int | None = None  # the top of the book of a market that trades did not change for longer, in market time
    latency_ms: int | None = None  # from the view that the agent saw to its orders, on the clock of the gate
    messages: Mapping[str, int] | None = None  # {"count": n, "window_ms": w}: new orders and cancels of a lane

    def __post_init__(self) -> None:
        if self.drawdown is not None and not _amount(self.drawdown) > 0:
            raise ConfigError(f"drawdown must be an amount of currency > 0, got {self.drawdown!r}")
        for name in ("stale_ms", "latency_ms"):
            _whole(name, getattr(self, name))
        if self.messages is not None:
            if not isinstance(self.messages, Mapping) or set(self.messages) != {"count", "window_ms"}:
                raise ConfigError(f'messages must be {{"count": n, "window_ms": w}}, got {self.messages!r}')
            for name in ("count", "window_ms"):
                _whole(f"messages.{name}", self.messages[name])

    @property
    def any(self) -> bool:
        return any(value is not None for value in vars(self).values())


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return amount if amount.is_finite() else Decimal(0)


def _whole(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{name} must be an integer from 1 up, got {value!r}")


def fallen(view: View, equity2: I64, peak2: I64, limit2: int) -> Bool:
    """[N] whose equity is more than `limit2` below its peak (1e-8 currency, doubled), or cannot be told: a position without
    a price."""
    unpriced = ((view.position != 0) & (view.mid2 <= 0)).any(axis=1)
    return unpriced | (peak2 - equity2 > limit2)


def stale(view: View, changed_ns: I64, limit_ns: int) -> Bool:
    """[N] with an instrument that trades and whose top has not changed since changed_ns [N, M], longer than `limit_ns` ago."""
    waiting = view.time_ns[:, None] - changed_ns > limit_ns
    return (waiting & (view.status == Status.TRADING)).any(axis=1)


def poured(orders: Orders, level_ns: I64, elapsed_ns: I64, cost_ns: int) -> I64:
    """Level [N] of leaky buckets: what was in them runs out with time, each message pours `cost_ns`."""
    messages = (orders.kind != 0).sum(axis=1)
    return np.maximum(level_ns - np.maximum(elapsed_ns, 0), 0) + messages * cost_ns


class Monitors:
    """The state that the rules need, for N lanes; what it gives back is `Stop` codes i8 [N], 0 where nothing is wrong."""

    def __init__(self, rules: MonitorRules, view: View) -> None:
        lanes, instruments = view.position.shape
        self.rules = rules
        self.limit2 = 0 if rules.drawdown is None else int(2 * _amount(rules.drawdown) * CASH_UNITS)
        self.full_ns = self.cost_ns = 0
        if rules.messages is not None:
            self.full_ns = rules.messages["window_ms"] * MS
            self.cost_ns = max(1, self.full_ns // rules.messages["count"])
        self.peak2 = np.zeros(lanes, np.int64)
        self.level_ns, self.asked_ns = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        self.changed_ns = np.zeros((lanes, instruments), np.int64)
        self.top = np.zeros((4, lanes, instruments), np.int64)  # bid price and size, ask price and size
        self._begin(view, np.ones(lanes, np.bool_))

    def begin(self, view: View) -> None:
        """Starts anew in lanes that are at the first decision of an episode."""
        fresh = view.decision == 0
        if fresh.any():
            self._begin(view, fresh)

    def _begin(self, view: View, fresh: Bool) -> None:
        self.peak2[fresh] = view.equity2[fresh]
        self.level_ns[fresh], self.asked_ns[fresh] = 0, view.time_ns[fresh]
        self.changed_ns[fresh] = view.time_ns[fresh, None]
        for kept, shown in zip(self.top, _top(view), strict=True):
            kept[fresh] = shown[fresh]

    def ask(self, view: View, orders: Orders, waited_ns: int) -> np.ndarray:
        """Before `orders` are sent: rate of messages, and the `waited_ns` that the agent took."""
        found = np.zeros(len(view.time_ns), np.int8)
        if self.rules.messages is not None:
            self.level_ns = poured(orders, self.level_ns, view.time_ns - self.asked_ns, self.cost_ns)
            self.asked_ns = view.time_ns.copy()
            found[self.level_ns > self.full_ns] = Stop.RATE
        if self.rules.latency_ms is not None and waited_ns > self.rules.latency_ms * MS:
            found[:] = Stop.LATENCY
        return found

    def watch(self, view: View) -> np.ndarray:
        """After the market has moved: equity and the age of the book. Doing it again for one view changes nothing."""
        found = np.zeros(len(view.time_ns), np.int8)
        running = view.decision > 0  # at decision 0 of an episode there is nothing to lose, and nothing old
        if self.rules.stale_ms is not None:
            changed = np.zeros(self.changed_ns.shape, np.bool_)
            for kept, shown in zip(self.top, _top(view), strict=True):
                changed |= kept != shown
                kept[:] = shown
            self.changed_ns = np.where(changed, view.time_ns[:, None], self.changed_ns)
            found[running & stale(view, self.changed_ns, self.rules.stale_ms * MS)] = Stop.STALENESS
        if self.rules.drawdown is not None:
            equity2 = view.equity2
            self.peak2 = np.maximum(self.peak2, equity2)
            found[running & fallen(view, equity2, self.peak2, self.limit2)] = Stop.DRAWDOWN
        return found


def _top(view: View) -> tuple[I64, ...]:
    return view.bid_price[..., 0], view.bid_size[..., 0], view.ask_price[..., 0], view.ask_size[..., 0]
