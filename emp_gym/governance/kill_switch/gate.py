"""The gate that enforces the kill switch: between the last rule and the market.

``{"gate": "kill-switch", "folder": LOGDIR, "flatten": true, "drawdown": 5000, "messages": {"count": 200, "window_ms": 1000}}``
"""

from __future__ import annotations

import copy
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.array_bounds import MOST, Arrays, Bounds, typed
from emp_gym.governance.kill_switch.monitors import MonitorRules, Monitors
from emp_gym.governance.kill_switch.safe_orders import REASON_NAMES, stand_down
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.risk.gates import Gate, passed
from emp_gym.types import I8, I64, ConfigError, EmpGymError, Orders, TruncationReason, Verdicts, View

SCOPES = ("all", "lane")
WHY = {
    TruncationReason.DRAWDOWN: "equity is further below its peak than drawdown allows",
    TruncationReason.STALENESS: "the top of the book has not changed for stale_ms",
    TruncationReason.LATENCY: "the agent took longer than latency_ms",
    TruncationReason.RATE: "more messages than allowed in the window",
}


class Killed(EmpGymError):
    """A run met a closed kill switch: what it would do from there on is worth nothing."""


def raise_if_killed(gates: Iterable[Gate]) -> None:
    """Raises `Killed` if the switch of a kill gate among `gates` is closed; looks at memory only."""
    for gate in gates:
        switch = gate.switch if isinstance(gate, KillGate) else None
        if switch is not None and switch.kill is not None:
            raise Killed(
                f"stopped by the kill switch: {switch.kill}; to go on, open it with "
                f"scripts/kill.py {shlex.quote(str(switch.folder))} --rearm --key FILE --reason TEXT"
            )


class KillGate(Gate):
    """Lets nothing but cancels pass while the switch of `folder` is closed, and ends every episode with its step.

    In the step that finds the switch closed all that is open is cancelled and, with `flatten`, positions are closed by
    market orders. The rules (`MonitorRules`) close it: with `scope` "all" the switch itself, for every lane and process;
    with "lane" only the lane that broke the rule, until its episode ends, and nothing is written. Without a `folder` there
    is no switch, only the rules of lanes. `clock` times the agent, in ns.
    """

    last = True
    name = "kill-switch"
    replayable = False  # it listens to the world
    reason_names = REASON_NAMES

    def __init__(
        self, folder: str | Path | None = None, *, flatten: bool = False, scope: str = "all",
        drawdown: Decimal | float | None = None, stale_ms: int | None = None, latency_ms: int | None = None,
        messages: Mapping[str, int] | None = None, keys: Iterable[str] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        if scope not in SCOPES:
            raise ConfigError(f"scope must be one of {SCOPES}, got {scope!r}")
        if folder is None and scope == "all":
            raise ConfigError('the kill switch needs a folder for its state, e.g. that of --govern (or scope="lane")')
        self.rules = MonitorRules(drawdown, stale_ms, latency_ms, messages)
        if self.rules.drawdown is not None:
            self.counts_money = "currency"  # a fall of equity is of one
        if folder is None and not self.rules.any:
            raise ConfigError("a kill switch without a folder needs at least one rule, e.g. drawdown")
        self.switch = None if folder is None else KillSwitch.at(folder, keys=keys)
        self.flatten, self.scope, self.clock = bool(flatten), scope, clock
        self._section = None if self.switch is None else self.switch.section()
        self._monitors: Monitors | None = None
        self._own: I8 | None = None  # `TruncationReason` [N] of lanes that a rule has stopped for their episode; None: none is
        self._all: I8 = np.zeros(0, np.int8)  # `TruncationReason` [N], all alike, of the switch
        self._shown_ns: int | None = None  # when the agent got its view

    # ------------------------------------------------------------------------------------------------- between task and market

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        if self._section is not None:
            self._section.enter()
        if self.switch is not None:
            self.switch.check()
        if self.rules.any:
            self._ask(view, orders)
        stopped = self.stopped_in(len(view.time_ns))
        if stopped is None:
            return orders, passed(orders)
        return stand_down(view, orders, stopped > 0, flatten=self.flatten)

    def after_market(self, view: View) -> None:
        """The orders are sent: whoever closes the switch need not wait for this step any more. Watches what has become."""
        if self._section is not None:
            self._section.leave()
        self._watch(view)

    def before_episode(self, view: View, lanes: I64) -> None:
        """Watches how the old episodes of `lanes` ended, then lets them begin anew; the switch itself stays as it is."""
        self._watch(view, lanes)
        if self.switch is not None:
            self.switch.check()
        if self._own is not None:
            self._own[lanes] = TruncationReason.NONE
            self._own = self._own if self._own.any() else None
        self.stopped_in(len(view.time_ns))

    # ------------------------------------------------------------------------------------------------------------- who stops

    @property
    def stopped(self) -> I8 | None:
        """`TruncationReason` [N]: lanes that end with this step; None while there are none."""
        return self.stopped_in(len(self._all)) if len(self._all) else None

    def stopped_in(self, lanes: int) -> I8 | None:
        """The same, for a number of lanes."""
        if len(self._all) != lanes:
            self._all = np.zeros(lanes, np.int8)
        kill = self.switch.kill if self.switch is not None else None
        if kill is None:
            return self._own
        self._all[:] = kill.cause
        return self._all

    def _ask(self, view: View, orders: Orders) -> None:
        if self._monitors is None:
            self._monitors = Monitors(self.rules, view)
        waited = 0 if self._shown_ns is None or self.rules.latency_ms is None else self.clock() - self._shown_ns
        self._stop(self._monitors.ask(view, orders, waited))

    def _watch(self, view: View, lanes: I64 | None = None) -> None:
        if self._monitors is not None:
            self._stop(self._monitors.watch(view, lanes))
        if self.rules.latency_ms is not None:
            self._shown_ns = self.clock()

    def _stop(self, found: I8) -> None:
        """Closes the switch, or stops the lanes, for which a rule has `found` something."""
        if not found.any():
            return
        if self.scope == "lane" or self.switch is None:
            self._own = found if self._own is None else np.where(self._own, self._own, found)
            return
        lane = int(np.flatnonzero(found)[0])
        cause = TruncationReason(int(found[lane]))
        self.switch.trip_within(f"{WHY[cause]} (lane {lane}; {int((found > 0).sum())} lanes in all)", cause)

    def admit(self, venue: str, gates: tuple[Gate, ...]) -> None:
        """One kill gate a folder is enough; two of them would cancel twice."""
        twins = [gate for gate in gates if isinstance(gate, KillGate) and gate.switch is self.switch]
        if self.switch is not None and len(twins) > 1:
            raise ConfigError(f"two kill gates for {self.switch.folder}; install one, with all of its rules")

    # ----------------------------------------------------------------------------------------------------- copies, and kept

    def arrays(self) -> dict[str, np.ndarray]:
        watched = {} if self._monitors is None else self._monitors.arrays()
        return watched if self._own is None else watched | {"own": self._own}

    def checked(self, saved: Arrays, view: View, where: str) -> dict[str, np.ndarray]:
        own = {} if saved.keys() <= {"own"} else Monitors(self.rules, view).arrays()
        found, bounds = typed(own | ({"own": np.zeros(len(view.time_ns), np.int8)} if "own" in saved else {}), saved, where), Bounds(where)
        if "own" in found:
            bounds.within("gate: own", found["own"], 0, max(TruncationReason))
        if "new" in found:
            bounds.within("gate: new", found["new"].reshape(1).view(np.uint8), 0, 1)
        for table in own.keys() - {"new"}:
            for name in own[table].dtype.names or ():
                bounds.within(f"gate: {table}.{name}", found[table][name], -MOST, MOST)
        return found

    def restore(self, saved: Arrays, view: View) -> None:
        self._own, self._monitors = saved.get("own"), None
        if "new" in saved:
            self._monitors = Monitors(self.rules, view)
            self._monitors.restore(saved)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_section", "_shown_ns")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._section = None if self.switch is None else self.switch.section()
        self._shown_ns = None

    def __deepcopy__(self, memo: dict[int, Any]) -> KillGate:
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__({name: copy.deepcopy(value, memo) for name, value in self.__getstate__().items()})
        return twin
