"""What the layer counts and keeps, to the last one: counters, the state of a lane, and bits in states that are not known."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.risk import checks
from emp_gym.risk.checks import CheckBuffers
from emp_gym.risk.compiled_limits import bind
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.limits import load
from emp_gym.risk.reasons import Check, Latch
from emp_gym.risk.state import RiskState
from emp_gym.types import ConfigError, Orders, RequestType
from tests.risk.worlds import MID2, PRICE_TO_CASH, TICK, calm_view, one, open_order

MID = MID2 // 2
RING_ON = {"window": {"duplicates": {"count": 3, "window_ms": 1000}}}


def mixed() -> Orders:
    """Two limit orders, a cancel, a malformed one and a replacement."""
    orders = Orders.empty(1, 6)
    orders.put(0, 0, RequestType.LIMIT, side=1, price=MID, quantity=10, id=5)
    orders.put(0, 1, RequestType.LIMIT, side=1, price=MID - TICK, quantity=10, id=6)
    orders.put(0, 2, RequestType.CANCEL, id=77)
    orders.put(0, 3, RequestType.LIMIT, side=1, price=MID, quantity=0, id=7)
    orders.put(0, 4, RequestType.REPLACE, side=1, price=MID - 2 * TICK, quantity=10, id=8, target=78)
    return orders


def test_a_lanes_counters_say_what_was_sent_and_touched_with_and_without_the_duplicate_ring():
    for limits in ({}, RING_ON):
        gate, view = RiskGate(limits), calm_view()
        gate(view, mixed())
        lane = gate.state.lane[0]
        assert (lane["sent"], lane["touched"], lane["messages"], lane["highest_id"]) == (3, 1, 4, 8)
        gate(view, Orders.empty(1, 6))
        assert (lane["sent"], lane["messages"]) == (3, 4), "nothing asked, nothing counted"


def test_verdicts_say_whether_anything_was_touched():
    gate, view = RiskGate({"order": {"max_quantity": 9}}), calm_view()
    assert gate.masks is False and RiskGate({}, masks=True).masks is True
    assert gate(view, one())[1].touched is True
    assert gate(view, one(id=200, quantity=9))[1].touched is False


def test_the_functions_work_without_a_desk_on_fresh_arrays():
    limits, view = load({"instrument": {"max_position": 5}}), calm_view()
    view.order_instrument = None  # all of instrument 0
    state, rules = RiskState.empty(1, 1), bind(limits, 1, PRICE_TO_CASH)
    checks.observe(view, state, rules)
    candidates = Orders(one().kind[:, None], one().records[:, None])
    assert checks.allowed(view, candidates, state, rules).tolist() == [[False]]
    first, verdicts = checks.check(view, one(), state, rules)
    second, _ = checks.check(view, one(id=200, quantity=3), state, rules)
    assert (first.quantity[0, 0], second.quantity[0, 0]) == (5, 3) and verdicts.touched


def test_more_than_64_orders_a_lane_are_refused():
    assert CheckBuffers.of(calm_view(slots=64), 64).slots == 64
    for view, slots in ((calm_view(slots=65), 6), (calm_view(), 65)):
        with pytest.raises(ConfigError, match="at most 64 orders a lane"):
            CheckBuffers.of(view, slots)


def test_the_second_reason_for_a_latch_is_noted_with_its_own_overshoot():
    gate, view = RiskGate({"portfolio": {"daily_loss": {"soft": 100}, "drawdown": {"soft": 150}}}), calm_view()
    for loss, overshoot in ((0, 0), (101, 1), (180, 30), (300, 30)):
        view.cash[0] = -loss * 10**8
        gate.observe(view)
        assert gate.overshoot[0] == overshoot
    assert gate.latch_bits[0] == 1 << Check.DAILY_LOSS | 1 << Check.DRAWDOWN


def test_a_small_drawdown_scales_in_the_smallest_unit():
    limits = {"instrument": {"max_position": 100}, "portfolio": {"drawdown": {"hard": 0.5, "scaled": True}}}
    gate, view = RiskGate(limits), calm_view()
    gate.observe(view)
    view.cash[0] = -25_000_000  # half of the hard drawdown
    assert gate(view, one(quantity=100))[0].quantity[0, 0] == 50


def test_a_quote_is_new_when_any_part_of_the_top_changes_and_only_then():
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        for level, fresh in ((0, True), (1, False), (2, False)):
            gate, view = RiskGate({"instrument": {"max_quote_age_ms": 1000}}), calm_view()
            gate.observe(view)
            view.time_ns[0] += 10**9 + 1
            getattr(view, name)[0, 0, level] += 1
            assert (gate(view, one())[1].reason[0, 0] == 0) == fresh, (name, level)


def test_counters_of_checks_count_each_order_once():
    gate, view = RiskGate({"instrument": {"max_position": 5}, "order": {"max_quantity": 9}}), calm_view(lanes=2)
    orders = Orders.empty(2, 3)
    for lane in range(2):
        orders.put(lane, 0, RequestType.LIMIT, side=1, price=MID, quantity=10, id=1)
        orders.put(lane, 1, RequestType.LIMIT, side=-1, price=MID, quantity=1, id=2)
    gate(view, orders)
    told = {name: count for name, count in gate.counters().items() if count}
    assert told == {"quantity": 2, "position": 2, "self-trade": 2}
    gate(view, orders)
    assert gate.counters()["duplicate-id"] == 2 and gate.counters()["quantity"] == 4


def test_every_reason_is_told_even_where_exposure_is_not_known():
    gate, view = RiskGate({"portfolio": {"drawdown": {"soft": 100}}}), calm_view()
    gate.observe(view)
    view.cash[0] = -101 * 10**8
    gate.observe(view)
    assert gate.latch[0] == Latch.REDUCING
    view.position[0] = 1 << 60
    _, verdicts = gate(view, one(quantity=1, side=-1))
    assert verdicts.reason[0, 0] == 1 << Check.POSITION | 1 << Check.DRAWDOWN


def test_lots_before_and_after_are_told_and_never_below_zero():
    gate, view = RiskGate({"instrument": {"max_position": 4}, "portfolio": {"daily_loss": {"hard": 1}}}), calm_view()
    _, verdicts = gate(view, one())
    assert (verdicts.quantity_before[0, 0], verdicts.quantity_after[0, 0]) == (10, 4)
    view.cash[0] = -(10**9)
    gate.observe(view)
    assert gate.latch[0] == Latch.HALTED
    sent, verdicts = gate(view, one(id=200, quantity=4))
    assert sent.kind[0, 0] == RequestType.NONE and verdicts.quantity_after[0, 0] == 0
    assert verdicts.reason.dtype == np.uint64 and verdicts.reason[0, 0] == 1 << Check.DAILY_LOSS


def test_what_cannot_be_valued_lets_not_even_one_lot_pass():
    orders = Orders.empty(1, 6)
    orders.put(0, 0, RequestType.LIMIT, side=1, price=MID, quantity=1, id=1, instrument=2)
    for limits, check in (
        ({"portfolio": {"max_net": 4500}}, Check.GROSS_NET),
        ({"portfolio": {"max_gross": 4500}}, Check.GROSS_NET),
        ({"sectors": {0: {"max_gross": 4500}}}, Check.SECTOR),
        ({"portfolio": {"capital": 10**6, "max_leverage_pct": 100}}, Check.LEVERAGE_CREDIT),
    ):
        view = calm_view(instruments=3)
        view.position[0, 1], view.mid2[0, 1] = 10, 0
        sent, verdicts = RiskGate(limits)(view, orders)
        assert sent.kind[0, 0] == RequestType.NONE and verdicts.reason[0, 0] == 1 << check
    view = calm_view(instruments=3)
    view.cash[0] = (1 << 60) + 1
    sent, verdicts = RiskGate({"portfolio": {"capital": 10**6, "credit": 0}})(view, orders)
    assert sent.kind[0, 0] == RequestType.NONE and verdicts.reason[0, 0] == 1 << Check.LEVERAGE_CREDIT


def test_own_orders_at_the_ends_of_all_prices_are_no_blind_spot_of_the_self_trade_check():
    for side in (1, -1):
        view = calm_view()
        view.tick[:] = 1
        open_order(view, 0, side, 1, 10, id=7)
        _, verdicts = RiskGate({})(view, one(side=-side, price=1))
        assert verdicts.reason[0, 0] == 1 << Check.SELF_TRADE
    view = calm_view()
    open_order(view, 0, -1, (1 << 63) - 1, 10, id=7)
    _, verdicts = RiskGate({})(view, one(RequestType.MARKET))
    assert verdicts.reason[0, 0] == 1 << Check.SELF_TRADE, "nor at the highest, which a market order may reach"


def test_the_smallest_amount_there_is_is_an_amount_like_any_other():
    view = calm_view()
    view.tick[:], view.mid2[:] = 1, 2
    limits = {
        "order": {"max_notional": 1},
        "portfolio": {"max_gross": 1, "max_net": 1},
        "sectors": {0: {"max_gross": 1}},
    }
    assert not RiskGate(limits)(view, one(price=1, quantity=1))[1].reason.any()
