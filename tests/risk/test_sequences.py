"""Sequences of sends, fills, cancels, prices and kills: a hand-made market in which anything may fill at any time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.reasons import Latch
from emp_gym.types import OrderKind, Orders
from tests.risk.worlds import MID2, TICK, calm_view, open_order

MAX_POSITION, MAX_QUANTITY, MAX_OPEN, SUBMITS, CASH = 100, 60, 3, 4, 10**8
LIMITS = {
    "order": {"max_quantity": MAX_QUANTITY, "collar_bps": 100},
    "instrument": {"max_position": MAX_POSITION},
    "portfolio": {"max_open_orders": MAX_OPEN, "drawdown": {"soft": 50, "hard": 200}},
    "window": {"submit": {"count": SUBMITS, "window_ms": 1000}},
}


class Trading(RuleBasedStateMachine):
    """One lane. `open` is the venue's book of own orders: id -> [side, price, lots, whether its cancel is on its way]."""

    @initialize(latch=st.just(0))
    def start(self, latch):
        self.gate, self.view = RiskGate(LIMITS), calm_view(lanes=2)
        self.view.decision[:] = 0
        self.open: dict[int, list] = {}
        self.next_id, self.latch, self.killed, self.peak2 = 1, latch, False, 0
        self.sent_at: list[int] = []

    def show(self):
        """Writes the venue's book into the view."""
        self.view.order_id[0] = 0
        for slot, (order, (side, price, lots, _)) in enumerate(self.open.items()):
            open_order(self.view, slot, side, price, lots, id=order)
        self.peak2 = max(self.peak2, int(self.view.equity2[0]))

    @rule(
        kind=st.sampled_from([OrderKind.LIMIT, OrderKind.LIMIT, OrderKind.MARKET, OrderKind.REPLACE]),
        side=st.sampled_from([1, -1]),
        ticks=st.sampled_from([0, 0, 1, -1, 5, -5, 99, 100, 101, -99, -100, -101, 120]),
        lots=st.sampled_from([1, 1, 1, 1, 2, 30, 59, 60, 61, 99, 100, 101, 200]),
        entries=st.integers(1, 6),
    )
    def send(self, kind, side, ticks, lots, entries):
        self.show()
        mid, orders = int(self.view.mid2[0, 0]) // 2, Orders.empty(2, 6)
        for slot in range(entries):
            target = next(iter(self.open), 999)
            orders.put(
                0, slot, kind, side=side, price=mid - mid % TICK + ticks * TICK + slot * TICK, quantity=lots,
                id=self.next_id, target=target if kind == OrderKind.REPLACE else 0,
            )  # fmt: skip
            self.next_id += 1
        before = int(self.view.position[0, 0])
        sent, _ = self.gate(self.view, orders)
        self.view.decision[0] += 1
        for slot in range(6):
            self.take(int(sent.kind[0, slot]), sent.records[0, slot], before, mid)

    def take(self, kind, record, position, mid):
        """The venue takes one message; what a control promises holds at this moment."""
        if kind == OrderKind.NONE:
            return
        if kind in (OrderKind.CANCEL, OrderKind.REPLACE):
            leaving = int(record["id"] if kind == OrderKind.CANCEL else record["target"])
            if leaving in self.open:
                self.open[leaving][3] = True
        if kind == OrderKind.CANCEL:
            return
        side, lots, price = int(record["side"]), int(record["quantity"]), int(record["price"])
        assert not self.killed and self.gate.latch[0] != Latch.HALTED
        assert 0 < lots <= MAX_QUANTITY and len(self.open) < MAX_OPEN
        exposed = side * position + sum(o[2] for o in self.open.values() if o[0] == side) + lots
        assert exposed <= MAX_POSITION
        if self.gate.latch[0] == Latch.REDUCING:
            assert exposed <= 0, "only what reduces"
        if kind == OrderKind.MARKET:
            price = 0
        else:
            assert abs(price - mid) <= mid // 100 + 1
        self.sent_at.append(int(self.view.time_ns[0]))
        self.open[int(record["id"])] = [side, price, lots, False]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.sampled_from([0.3, 1.0]))
    def fill(self, data, share):
        order = data.draw(st.sampled_from(sorted(self.open)))
        self.execute(order, share)

    @rule()
    def everything_fills(self):
        for order in sorted(self.open):
            self.execute(order, 1.0)

    def execute(self, order, share):
        side, price, lots, _ = self.open[order]
        done = max(1, int(lots * share))
        at = price or int(self.view.mid2[0, 0]) // 2
        self.view.position[0, 0] += side * done
        self.view.cash[0] -= side * done * at * self.view.price_to_cash
        self.open[order][2] -= done
        if self.open[order][2] == 0:
            del self.open[order]

    @rule()
    def cancels_arrive(self):
        self.open = {order: entry for order, entry in self.open.items() if not entry[3]}

    @rule(
        milliseconds=st.sampled_from([0, 0, 1, 99, 100, 249, 250, 1000]),
        ticks=st.sampled_from([-300, -51, -50, -1, 0, 0, 1, 50, 51, 300]),
    )
    def time_passes(self, milliseconds, ticks):
        self.view.time_ns[0] += milliseconds * 10**6
        if int(self.view.mid2[0, 0]) + 2 * ticks * TICK > MID2 // 2:
            self.view.mid2[0, 0] += 2 * ticks * TICK

    @rule(killed=st.booleans())
    def kill_or_rearm(self, killed):
        self.show()
        self.gate.observe(self.view)
        self.killed = killed
        if killed:
            self.gate.kill()
        else:
            self.gate.rearm()
            self.latch, self.peak2 = 0, int(self.view.equity2[0])

    @rule()
    def new_episode(self):
        self.open, self.latch, self.peak2 = {}, 0, 0
        for name in ("decision", "cash", "position"):
            getattr(self.view, name)[0] = 0
        self.next_id, self.sent_at = 1, []

    @invariant()
    def limits_hold(self):
        if not hasattr(self, "gate"):
            return
        assert abs(int(self.view.position[0, 0])) <= MAX_POSITION, "whatever fills, the position stays within its limit"
        now = int(self.view.time_ns[0])
        assert sum(at > now - 10**9 for at in self.sent_at) <= 2 * SUBMITS, "a full bucket and what a window refills"

    @invariant()
    def losses_are_seen_at_once_and_stay(self):
        if not hasattr(self, "gate"):
            return
        self.show()
        self.gate.observe(self.view)
        loss2 = self.peak2 - int(self.view.equity2[0])
        self.latch = max(self.latch, 2 if loss2 > 400 * CASH else 1 if loss2 > 100 * CASH else 0)
        assert int(self.gate.state.lane["latch"][0]) == self.latch


TestTrading = Trading.TestCase
TestTrading.settings = settings(max_examples=150, stateful_step_count=60)
