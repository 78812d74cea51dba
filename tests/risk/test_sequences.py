"""Sequences of sends, fills, cancels, prices, scales and kills: a hand-made market in which anything may fill at any time.

The layer and the slow judge walk through them side by side; under limits that are known the promises themselves are checked.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.limits import load
from emp_gym.risk.reasons import Check, Latch
from emp_gym.types import Orders, RequestType
from tests.risk.reference_lane import entries_of, lanes_of
from tests.risk.reference_risk import Judge, same
from tests.risk.worlds import MID2, PRICE_TO_CASH, TICK, calm_view, open_order, random_limits

ROOT = Path(__file__).resolve().parents[2]

MAX_POSITION, MAX_QUANTITY, MAX_OPEN, SUBMITS, CASH = 100, 60, 3, 4, 10**8
LIMITS = {
    "order": {"max_quantity": MAX_QUANTITY, "collar_bps": 100},
    "instrument": {"max_position": MAX_POSITION},
    "portfolio": {"max_open_orders": MAX_OPEN, "drawdown": {"soft": 50, "hard": 200}},
    "window": {"submit": {"count": SUBMITS, "window_ms": 1000}},
}


class Walk(RuleBasedStateMachine):
    """One lane, judged twice. `open` is the venue's book of own orders: id -> [side, price, lots, whether its cancel is
    on its way]."""

    told: Counter = Counter()  # of all runs

    def limits(self, seed: int) -> Any:
        return random_limits(random.Random(seed), 1)

    @initialize(seed=st.integers(0, 10**6), mode=st.sampled_from(["project", "project", "reject"]))
    def start(self, seed, mode):
        limits = load(self.limits(seed))
        self.gate, self.view = RiskGate(limits, mode), calm_view(lanes=2)
        self.judge = Judge(limits, 1, PRICE_TO_CASH, mode)
        self.view.decision[:] = 0
        self.open: dict[int, list] = {}
        self.next_id = 1
        self.told["runs"] += 1
        self.look()

    def show(self):
        """Writes the venue's book into the view."""
        self.view.order_id[0] = 0
        for slot, (order, (side, price, lots, _)) in enumerate(self.open.items()):
            open_order(self.view, slot, side, price, lots, id=order)

    def look(self):
        """Both bring themselves up to date, and agree on the latch."""
        self.show()
        self.gate.observe(self.view)
        self.judge.watch(lanes_of(self.view)[0])
        assert int(self.gate.state.lane["latch"][0]) == self.judge.memory.latch

    @rule(
        kind=st.sampled_from([RequestType.LIMIT, RequestType.LIMIT, RequestType.MARKET, RequestType.REPLACE, RequestType.CANCEL]),
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
                id=target if kind == RequestType.CANCEL else self.next_id, target=target if kind == RequestType.REPLACE else 0,
            )  # fmt: skip
            self.next_id += 1
        before = int(self.view.position[0, 0])
        sent = self.judged(orders)
        self.view.decision[0] += 1
        for slot in range(6):
            self.take(int(sent.kind[0, slot]), sent.records[0, slot], before, mid)

    def judged(self, orders):
        """What the layer sends: it is what the judge would send, for the same reasons."""
        asked = entries_of(orders)[0]
        sent, verdicts = self.gate(self.view, orders)
        seen = lanes_of(self.view)[0]
        self.judge.watch(seen)
        expected, reasons = self.judge.judge(seen, asked)
        for slot, (entry, reason) in enumerate(zip(expected, reasons)):
            got = int(verdicts.reason[0, slot])
            assert got == reason and same(entry, int(sent.kind[0, slot]), sent.records[0, slot]), (
                slot,
                entry,
                reason,
                got,
            )
            self.told["orders"] += asked[slot].kind != RequestType.NONE
            self.told.update(check.name.lower() for check in Check if reason >> check & 1)
        return sent

    def take(self, kind, record, position, mid):
        """The venue takes one message."""
        if kind in (RequestType.CANCEL, RequestType.REPLACE):
            leaving = int(record["id"] if kind == RequestType.CANCEL else record["target"])
            if leaving in self.open:
                self.open[leaving][3] = True
        if (
            kind in (RequestType.LIMIT, RequestType.MARKET, RequestType.REPLACE)
            and len(self.open) < self.view.order_id.shape[1]
        ):
            price = 0 if kind == RequestType.MARKET else int(record["price"])
            self.open[int(record["id"])] = [int(record["side"]), price, int(record["quantity"]), False]

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
        self.view.cash[0] -= side * done * at * PRICE_TO_CASH
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

    @rule(scale=st.sampled_from([10_000, 10_000, 5_000, 101, 0]))
    def sizing_changes(self, scale):
        self.gate.scale(np.array([[scale]]))
        self.judge.scale = [scale]

    @rule(killed=st.booleans())
    def kill_or_rearm(self, killed):
        self.look()
        self.judge.killed = killed
        if killed:
            self.gate.kill()
            return
        self.gate.rearm()
        memory = self.judge.memory
        memory.latch, memory.latch_bits, memory.start2, memory.peak2, memory.budget = 0, set(), None, None, 10_000
        memory.buckets["executions"] = 0

    @rule()
    def new_episode(self):
        self.open, self.next_id = {}, 1
        for name in ("decision", "cash", "position"):
            getattr(self.view, name)[0] = 0

    @invariant()
    def both_agree_after_every_step(self):
        if hasattr(self, "gate"):
            self.told["steps"] += 1
            self.look()


class Trading(Walk):
    """The same under limits that are known, with what they promise."""

    told: Counter = Counter()

    def limits(self, seed: int) -> Any:
        return LIMITS

    def start(self, seed, mode):
        self.latch, self.peak2, self.sent_at = 0, 0, []
        super().start(seed, mode)

    start = initialize(seed=st.just(0), mode=st.sampled_from(["project", "reject"]))(start)

    def show(self):
        super().show()
        self.peak2 = max(self.peak2, int(self.view.equity2[0]))

    def take(self, kind, record, position, mid):
        """What a control promises holds at the moment of sending."""
        if kind not in (RequestType.NONE, RequestType.CANCEL):
            side, lots, price = int(record["side"]), int(record["quantity"]), int(record["price"])
            assert not self.judge.killed and self.gate.latch[0] != Latch.HALTED
            assert 0 < lots <= MAX_QUANTITY and len(self.open) < MAX_OPEN
            exposed = side * position + sum(o[2] for o in self.open.values() if o[0] == side) + lots
            assert exposed <= MAX_POSITION
            if self.gate.latch[0] == Latch.REDUCING:
                assert exposed <= 0, "only what reduces"
            assert kind == RequestType.MARKET or abs(price - mid) <= mid // 100 + 1
            self.sent_at.append(int(self.view.time_ns[0]))
        super().take(kind, record, position, mid)

    @rule(killed=st.booleans())
    def kill_or_rearm(self, killed):
        super().kill_or_rearm(killed)
        if not killed:
            self.latch, self.peak2 = 0, int(self.view.equity2[0])

    @rule()
    def new_episode(self):
        super().new_episode()
        self.latch, self.peak2, self.sent_at = 0, 0, []

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
        self.look()
        loss2 = self.peak2 - int(self.view.equity2[0])
        self.latch = max(self.latch, 2 if loss2 > 400 * CASH else 1 if loss2 > 100 * CASH else 0)
        assert int(self.gate.state.lane["latch"][0]) == self.latch


OBJECTIONS = {
    Walk: ("position", "kill", "collar", "gross_net"),
    Trading: ("position", "kill", "collar", "quantity", "open_orders", "submit_rate"),
}
"""What must have been met. Random limits hardly ever have a rate that these short walks reach; known ones do. A drawdown is met in some
draws of these walks and not in others: the two thousand long ones meet it, and `test_checks` by hand."""


@pytest.mark.parametrize("machine", [Walk, Trading])
def test_the_layer_keeps_its_promises_and_agrees_with_the_judge_through_any_sequence(machine):
    machine.told.clear()
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40))
    assert machine.told["runs"] >= 60 and machine.told["orders"] > 400
    assert all(machine.told[objection] for objection in OBJECTIONS[machine]), machine.told


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_thousand_runs_of_a_hundred_steps():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    runs, told = int(os.environ.get("EMP_RISK_RUNS", 2_000)), {}
    for machine in (Walk, Trading):
        machine.told.clear()
        run_state_machine_as_test(machine, settings=settings(max_examples=runs, stateful_step_count=100))
        told[machine.__name__.lower()] = dict(sorted(machine.told.items()))
    evidence = {
        "what": "random sequences of 100 steps through layer and judge side by side: under random limits (walk), and under "
        "known ones with their promises (trading); failing runs end the test", "tier": "long", "commit": commit,
        "command": "pytest -m long -n 0 tests/risk/test_sequences.py", "seed": "derandomized (hypothesis)", "n": runs,
        "steps": 100, "failures": 0, "seen": told,
    }  # fmt: skip
    (ROOT / "docs/evidence/risk_sequences.json").write_text(json.dumps(evidence, indent=1) + "\n")
