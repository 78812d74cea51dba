"""The gate that enforces the kill switch: what is sent in its stead, and the rules by which it closes."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from governance.views import asking, cash, view_of
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.governance.kill_switch.gate import KillGate
from emp_gym.governance.kill_switch.monitor_kernels import poured
from emp_gym.governance.kill_switch.monitors import MonitorRules, Monitors, bucket
from emp_gym.governance.kill_switch.safe_orders import DROPPED, OWN, OWN_ID, stand_down
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.types import ConfigError, Orders, RequestType, TruncationReason

LIMIT, MARKET, CANCEL, REPLACE = RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE
MS = 1_000_000


class Clock:
    """A clock that stands still until it is moved."""

    now = 0

    def __call__(self) -> int:
        return self.now


def stop_all(view, orders, **options):
    return stand_down(view, orders, np.ones(len(view.time_ns), bool), **{"flatten": False, **options})


# ---------------------------------------------------------------------------------------------------- what is sent instead


def test_everything_asked_is_dropped_and_everything_open_is_cancelled():
    view = view_of(order_id=[[7, 0, 9]], order_side=[[1, 0, -1]])
    orders = asking(LIMIT, MARKET, REPLACE, CANCEL)
    sent, verdicts = stop_all(view, orders)
    assert [(o["kind"], o["id"], o["side"]) for o in sent.asked(0)] == [(CANCEL, 7, 1), (CANCEL, 9, -1)]
    assert verdicts.reason.tolist() == [[int(DROPPED | OWN)] * 2 + [int(DROPPED)] * 2]
    assert verdicts.quantity_before.tolist() == [[10] * 4] and not verdicts.quantity_after.any()
    assert len(orders.asked(0)) == 4, "the orders that were handed in stay as they were"


def test_positions_are_closed_once_by_market_orders_of_their_own():
    view = view_of(instruments=2, position=[[30, -4]], order_id=[[7, 0, 0]], decision=[5])
    view.order_instrument = np.zeros((1, 3), np.int32)
    sent, verdicts = stop_all(view, asking(LIMIT, 0, 0), flatten=True)
    told = [(o["kind"], o["side"], o["quantity"], o["instrument"], o["id"]) for o in sent.asked(0)]
    assert told[1:] == [(MARKET, -1, 30, 0, OWN_ID + 10), (MARKET, 1, 4, 1, OWN_ID + 11)] and told[0][0] == CANCEL
    assert (verdicts.reason[0, 1:3] == OWN).all()
    flying = view_of(instruments=2, position=[[30, -4]], order_id=[[OWN_ID + 10, 0, 0]], decision=[6])
    flying.order_instrument = np.zeros((1, 3), np.int32)
    again, _ = stop_all(flying, asking(LIMIT, 0, 0), flatten=True)
    assert [(o["kind"], o["instrument"]) for o in again.asked(0)] == [(MARKET, 1)], (
        "one is on its way, and is not cancelled"
    )


def test_lanes_that_go_on_are_left_alone():
    view, orders = view_of(lanes=2, order_id=[[7, 0, 0]] * 2), asking(LIMIT, CANCEL, lanes=2)
    sent, verdicts = stand_down(view, orders, np.array([False, True]), flatten=True)
    assert sent.asked(0) == orders.asked(0) and not verdicts.reason[0].any()
    assert [o["kind"] for o in sent.asked(1)] == [CANCEL]


def test_more_open_orders_than_entries_are_all_cancelled_at_once():
    view = view_of(slots=1000, order_id=np.arange(1, 1001)[None])
    sent, _ = stop_all(view, asking(LIMIT, LIMIT), flatten=True)
    assert [o["id"] for o in sent.asked(0)] == list(range(1, 1001)) and {o["kind"] for o in sent.asked(0)} == {CANCEL}


lanes_of = st.integers(1, 4)


@given(st.data(), lanes_of, st.integers(1, 3), st.integers(1, 6), st.integers(1, 8), st.booleans())
def test_a_slow_plain_judge_agrees(data, lanes, instruments, slots, entries, flatten):
    draw = lambda low, high, *shape: np.array(  # noqa: E731
        data.draw(st.lists(st.integers(low, high), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    ).reshape(shape)
    order_id = np.where(draw(0, 1, lanes, slots) > 0, np.arange(1, slots + 1) + draw(0, 1, lanes, slots) * OWN_ID, 0)
    view = view_of(lanes, instruments, slots, order_id=order_id, position=draw(-2, 2, lanes, instruments) * 10)
    view.order_instrument = draw(0, instruments - 1, lanes, slots).astype(np.int32)
    orders = Orders(draw(0, 4, lanes, entries).astype(np.int8), Orders.empty(lanes, entries).records)
    orders.quantity[:] = 10
    stopped = draw(0, 1, lanes) > 0
    sent, verdicts = stand_down(view, orders, stopped, flatten=flatten)
    for lane in range(lanes):
        got = [(o["kind"], o["id"], o["instrument"]) for o in sent.asked(lane)]
        if not stopped[lane]:
            assert sent.asked(lane) == orders.asked(lane) and not verdicts.reason[lane].any()
            continue
        wanted, closing = [], set()
        for slot in range(slots):
            if order_id[lane, slot] >= OWN_ID:
                closing.add(int(view.order_instrument[lane, slot]))
            elif order_id[lane, slot] > 0:
                wanted.append((CANCEL, int(order_id[lane, slot]), int(view.order_instrument[lane, slot])))
        for m in range(instruments):
            if flatten and view.position[lane, m] and m not in closing:
                wanted.append((MARKET, OWN_ID + m, m))
        assert got == wanted
        own = (verdicts.reason[lane] & OWN) > 0
        assert (
            own.sum() == len(wanted)
            and (((verdicts.reason[lane] & DROPPED) > 0)[:entries] == (orders.kind[lane] > 0)).all()
        )


# ----------------------------------------------------------------------------------------------------------------- the gate


def test_an_open_switch_changes_nothing(tmp_path):
    gate, orders = KillGate(tmp_path), asking(LIMIT, CANCEL)
    sent, verdicts = gate(view_of(), orders)
    assert sent is orders and not verdicts.touched and gate.stopped is None


def test_a_closed_switch_stops_every_lane_with_its_cause(tmp_path):
    gate, view = KillGate(tmp_path), view_of(lanes=2, order_id=[[7, 0, 0], [0, 0, 0]])
    gate.switch.trip("alice", "why")
    sent, verdicts = gate(view, asking(LIMIT, 0, 0, lanes=2))
    assert [[o["kind"] for o in sent.asked(lane)] for lane in (0, 1)] == [[CANCEL], []] and verdicts.touched
    assert gate.stopped.tolist() == [TruncationReason.CALL] * 2
    gate.after_market(view)
    gate.before_episode(view, np.arange(2))
    assert gate.stopped.tolist() == [TruncationReason.CALL] * 2, "a new episode opens nothing"


class PlainMonitor:
    """The rules for one lane, in plain Python."""

    def __init__(self, rules: MonitorRules) -> None:
        self.rules, self.peak = rules, None

    def equity2(self, view, i) -> int:
        worth = sum(int(p) * int(mid) for p, mid in zip(view.position[i], view.mid2[i], strict=True))
        return 2 * int(view.cash[i]) + worth * int(view.price_to_cash[i, 0])

    def tops(self, view, i) -> list[tuple[int, ...]]:
        sides = (view.bid_price, view.bid_size, view.ask_price, view.ask_size)
        return [tuple(int(side[i, m, 0]) for side in sides) for m in range(view.position.shape[1])]

    def ask(self, view, i, messages: int, waited_ns: int) -> int:
        now = int(view.time_ns[i])
        if self.peak is None or view.decision[i] == 0:
            self.peak, self.top, self.changed = self.equity2(view, i), self.tops(view, i), [now] * len(view.position[i])
            self.level, self.asked = 0, now
        found = 0
        if self.rules.messages is not None:
            count, window_ms = self.rules.messages["count"], self.rules.messages["window_ms"]
            cost = -(-window_ms * MS // count)
            self.level = max(self.level - max(now - self.asked, 0), 0) + messages * cost
            self.asked = now
            found = TruncationReason.RATE if self.level > count * cost else 0
        late = self.rules.latency_ms is not None and waited_ns > self.rules.latency_ms * MS
        return int(TruncationReason.LATENCY if late else found)

    def watch(self, view, i) -> int:
        now, running, found = int(view.time_ns[i]), view.decision[i] > 0, 0
        if self.rules.stale_ms is not None:
            for m, top in enumerate(self.tops(view, i)):
                if top != self.top[m]:
                    self.top[m], self.changed[m] = top, now
                if running and view.status[i, m] == 0 and now - self.changed[m] > self.rules.stale_ms * MS:
                    found = TruncationReason.STALENESS
        if self.rules.drawdown is not None:
            equity = self.equity2(view, i)
            self.peak = max(self.peak, equity)
            unpriced = any(p and mid <= 0 for p, mid in zip(view.position[i], view.mid2[i], strict=True))
            if running and (unpriced or self.peak - equity > 2 * self.rules.drawdown * 10**8):
                found = TruncationReason.DRAWDOWN
        return int(found)


def rules_of(gate: KillGate, views, orders=None):
    """Stops told after each view, as an environment goes through them: asked, sent, watched."""
    told = []
    for before, after in pairwise(views):
        gate(before, orders or asking(LIMIT, lanes=len(before.time_ns)))
        gate.after_market(after)
        told.append(gate.stopped)
    return told


def test_a_drawdown_closes_it_in_the_step_in_which_it_happens(tmp_path):
    gate = KillGate(tmp_path, drawdown=100)
    worth = [0, 50, -50, -50.01]  # the peak is 50: 100 below it is allowed
    views = [view_of(lanes=2, cash=[cash(w), 0], decision=[i] * 2) for i, w in enumerate(worth)]
    told = rules_of(gate, views)
    assert told[0] is None and told[1] is None and told[2].tolist() == [TruncationReason.DRAWDOWN] * 2
    assert gate.switch.kill.cause is TruncationReason.DRAWDOWN and "lane 0; 1 lanes" in gate.switch.kill.reason


def test_a_position_without_a_price_closes_it(tmp_path):
    gate = KillGate(tmp_path, drawdown=100)
    (told,) = rules_of(gate, [view_of(), view_of(position=[[10]], mid2=[[0]], decision=[1])])
    assert told.tolist() == [TruncationReason.DRAWDOWN]


def test_the_drawdown_begins_anew_with_an_episode(tmp_path):
    gate = KillGate(tmp_path, drawdown=100)
    views = [view_of(cash=[cash(w)], decision=[d]) for w, d in ((0, 0), (90, 1), (0, 0), (-90, 1))]
    assert rules_of(gate, views[:2]) == [None]
    assert rules_of(gate, views[2:]) == [None]


def test_a_lane_alone_is_stopped_for_its_episode_only():
    gate = KillGate(scope="lane", drawdown=100)
    views = [view_of(lanes=2, cash=[cash(w), 0], decision=[i] * 2) for i, w in enumerate((0, -101, -101))]
    told = rules_of(gate, views)
    assert [stops.tolist() for stops in told] == [[TruncationReason.DRAWDOWN, 0]] * 2 and gate.switch is None
    gate.before_episode(views[-1], np.array([0]))
    assert gate.stopped is None
    gate(view_of(lanes=2, decision=[0, 3]), asking(LIMIT, lanes=2))
    assert gate.stopped is None


def test_a_book_that_stands_still_closes_it_unless_the_market_does(tmp_path):
    times = [0, 500, 1000, 1001]
    still = [view_of(time_ns=[t * MS], decision=[i]) for i, t in enumerate(times)]
    halted = [view_of(time_ns=[t * MS], decision=[i], status=[[1]]) for i, t in enumerate(times)]
    moving = [view_of(time_ns=[t * MS], decision=[i], bid_size=1000 + i % 2) for i, t in enumerate(times)]
    for name, views, end in (("still", still, TruncationReason.STALENESS), ("halted", halted, None), ("moving", moving, None)):
        told = rules_of(KillGate(tmp_path / name, stale_ms=1000), views)
        assert told[:2] == [None, None]
        assert (told[2] is None) if end is None else (told[2].tolist() == [end])


def test_an_agent_that_takes_too_long_closes_it_before_its_orders_go_out(tmp_path):
    clock = Clock()
    gate, view = KillGate(tmp_path, latency_ms=10, clock=clock), view_of(decision=[1])
    gate.before_episode(view, np.array([0]))
    for wait, allowed in ((10 * MS, True), (10 * MS + 1, False)):
        clock.now += wait
        sent, _ = gate(view, asking(LIMIT))
        assert bool(sent.asked(0)) is allowed
        gate.after_market(view)
    assert gate.switch.kill.cause is TruncationReason.LATENCY


def test_too_many_messages_close_it_before_the_one_too_many(tmp_path):
    gate = KillGate(tmp_path, messages={"count": 4, "window_ms": 1000})
    view = view_of(decision=[1])
    sent, _ = gate(view, asking(LIMIT, CANCEL, LIMIT, LIMIT))
    assert len(sent.asked(0)) == 4
    gate.after_market(view)
    later = view_of(time_ns=view.time_ns + 250 * MS, decision=[2])
    sent, _ = gate(later, asking(CANCEL, 0))
    assert len(sent.asked(0)) == 1
    gate.after_market(later)
    sent, verdicts = gate(later, asking(LIMIT, 0))
    assert not sent.asked(0) and verdicts.reason[0, 0] == DROPPED and gate.stopped.tolist() == [TruncationReason.RATE]


@given(st.integers(1, 2000), st.integers(1, 10_000))
def test_a_bucket_takes_count_messages_at_once_and_no_more(count, window_ms):
    full, cost = bucket(count, window_ms)
    level = poured((count - 1) * cost, 0, 1, cost)
    assert level <= full < level + cost and 0 <= full - window_ms * MS < count


@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_the_monitors_find_what_a_plain_judge_finds(data, lanes, instruments):
    pick = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    rules = MonitorRules(pick(None, 1), pick(None, 2), pick(None, 1), pick(None, {"count": 3, "window_ms": 2}))
    monitors, judges = None, [PlainMonitor(rules) for _ in range(lanes)]
    view = view_of(lanes, instruments)
    for _ in range(data.draw(st.integers(1, 12))):
        for i in range(lanes):
            view.decision[i] = pick(0, view.decision[i] + 1, view.decision[i] + 1, view.decision[i] + 1)
            view.time_ns[i] += pick(0, MS - 1, MS, MS + 1, 3 * MS, -MS)
            view.cash[i] = pick(0, cash(1), cash(-0.5), cash(-1.01))
            for m in range(instruments):
                view.position[i, m], view.mid2[i, m] = pick(0, 0, 50, -50), pick(2_000_000, 2_000_100, 0)
                view.status[i, m], view.bid_size[i, m, 0] = pick(0, 0, 0, 1), pick(5, 5, 5, 6)
        waited, kinds = pick(0, MS, MS + 1), [pick(0, 0, LIMIT, CANCEL) for _ in range(3)]
        orders = asking(*kinds, lanes=lanes)
        monitors = monitors or Monitors(rules, view)
        asked = [judge.ask(view, i, sum(kind != 0 for kind in kinds), waited) for i, judge in enumerate(judges)]
        assert monitors.ask(view, orders, waited).tolist() == asked
        watched = [judge.watch(view, i) for i, judge in enumerate(judges)]
        assert monitors.watch(view).tolist() == watched == monitors.watch(view).tolist(), "and again"
        assert monitors.watch(view, np.array([lanes - 1])).tolist() == [0] * (lanes - 1) + watched[-1:]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs a folder"), ({"scope": "lane"}, "at least one rule"), ({"scope": "some"}, "scope must be"),
        ({"folder": "x", "drawdown": 0}, "drawdown must be"), ({"folder": "x", "drawdown": float("nan")}, "drawdown must"),
        ({"folder": "x", "stale_ms": 1.5}, "stale_ms must be"), ({"folder": "x", "latency_ms": 0}, "latency_ms must be"),
        ({"folder": "x", "messages": 5}, "messages must be"), ({"folder": "x", "messages": {"count": 0, "window_ms": 1}}, "count"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        KillGate(**options)
    assert not MonitorRules().any


def test_copies_of_a_gate_share_the_switch_and_keep_their_own_lanes(tmp_path):
    gate = KillGate(tmp_path, scope="lane", drawdown=100)
    rules_of(gate, [view_of(), view_of(cash=[cash(-101)], decision=[1])])
    for twin in (copy.deepcopy(gate), pickle.loads(pickle.dumps(gate))):
        assert twin.switch is gate.switch and twin.stopped.tolist() == [TruncationReason.DRAWDOWN]
        twin.before_episode(view_of(), np.array([0]))
        assert twin.stopped is None and gate.stopped is not None
    gate.switch.trip("alice", "why")
    assert twin.switch.check() and twin.stopped.tolist() == [TruncationReason.CALL]


def test_a_step_that_failed_does_not_block_the_next_nor_a_kill(tmp_path):
    gate = KillGate(tmp_path)
    gate(view_of(), asking(LIMIT))  # and nobody says that it was sent
    gate(view_of(), asking(LIMIT))
    switch = KillSwitch.at(Path(tmp_path))
    switch.trip("alice", "why", patience_s=0.01)
    assert not gate(view_of(), asking(LIMIT))[0].asked(0)
