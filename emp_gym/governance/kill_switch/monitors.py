"""Rules by which the kill switch closes itself: pure functions of what a view shows, batched over lanes, in integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from emp_gym.governance.kill_switch import monitor_kernels
from emp_gym.governance.kill_switch.monitor_kernels import BOOK, LANE, LIMITS, OFF, MonitorArrays
from emp_gym.types import CASH_UNITS, I8, I64, ConfigError, Orders, TruncationReason, View

MS = 1_000_000  # ns in a millisecond
LARGEST = 10**10  # of any limit: currency, ms (115 days) or messages, so that 64 bits hold what is counted


@dataclass(frozen=True)
class MonitorRules:
    """Limits beyond which the switch closes. None: no such rule."""

    drawdown: Decimal | float | None = None  # currency, fall of a lane's equity from its highest in the episode
    stale_ms: int | None = None  # the top of the book of a market that trades did not change for longer, in market time
    latency_ms: int | None = None  # from the view that the agent saw to its orders, on the clock of the gate
    messages: Mapping[str, int] | None = None  # {"count": n, "window_ms": w}: new orders and cancels of a lane

    def __post_init__(self) -> None:
        if self.drawdown is not None and not 0 < _amount(self.drawdown) <= LARGEST:
            raise ConfigError(f"drawdown must be an amount of currency > 0, up to {LARGEST:,}, got {self.drawdown!r}")
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
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST):
        raise ConfigError(f"{name} must be an integer from 1 to {LARGEST:,}, got {value!r}")


def bucket(count: int, window_ms: int) -> tuple[int, int]:
    """(size, what a message pours) in ns of a leaky bucket that takes `count` messages at once and no more; what pours is
    rounded up to whole ns."""
    cost_ns = -(-window_ms * MS // count)
    return cost_ns * count, cost_ns


class Monitors:
    """The state that the rules need, for N lanes; what it gives back is `TruncationReason` codes i8 [N], 0 where nothing is wrong."""

    def __init__(self, rules: MonitorRules, view: View) -> None:
        lanes, instruments = view.position.shape
        self.rules = rules
        self.limits = np.full(1, OFF, LIMITS)
        if rules.drawdown is not None:
            self.limits["fall2"] = int(2 * _amount(rules.drawdown) * CASH_UNITS)
        if rules.stale_ms is not None:
            self.limits["stale_ns"] = rules.stale_ms * MS
        if rules.messages is not None:
            self.limits["full_ns"], self.limits["cost_ns"] = bucket(**rules.messages)
        self.lanes, self.books = np.zeros(lanes, LANE), np.zeros((lanes, instruments), BOOK)
        self.everyone = np.arange(lanes)
        self._new = True

    def ask(self, view: View, orders: Orders, waited_ns: int) -> I8:
        """Before `orders` are sent: rate of messages, and the `waited_ns` that the agent took. Starts anew in lanes that are
        at the first decision of an episode."""
        found = np.zeros(len(self.lanes), np.int8)
        monitor_kernels.ask(
            orders.kind, _shown(view), view.price_to_cash, self.limits, self.lanes, self.books, self._new, found
        )
        self._new = False
        if self.rules.latency_ms is not None and waited_ns > self.rules.latency_ms * MS:
            found[:] = TruncationReason.LATENCY
        return found

    def watch(self, view: View, lanes: I64 | None = None) -> I8:
        """After the market has moved: equity and the age of the book of `lanes` [n], or of all. Doing it again for one view
        changes nothing."""
        found = np.zeros(len(self.lanes), np.int8)
        if self.rules.stale_ms is not None or self.rules.drawdown is not None:
            which = self.everyone if lanes is None else lanes
            monitor_kernels.watch(which, _shown(view), view.price_to_cash, self.limits, self.lanes, self.books, found)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """What one step leaves to the next; a copy in `restore` goes on as this one."""
        return {"lanes": self.lanes, "books": self.books, "new": np.array(self._new)}

    def restore(self, saved: Mapping[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        self.lanes[...], self.books[...], self._new = saved["lanes"], saved["books"], bool(saved["new"])


def _shown(view: View) -> MonitorArrays:
    return MonitorArrays(
        view.time_ns, view.decision, view.status, view.bid_price, view.bid_size, view.ask_price, view.ask_size, view.cash,
        view.position, view.mid2,
    )  # fmt: skip
