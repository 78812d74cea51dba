"""Each check by hand: one order that it stops and one that it lets pass, then the laws that all of them keep."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.reasons import Check, Latch
from emp_gym.types import ConfigError, Orders, RequestType, TradingStatus, View
from tests.risk.worlds import BIG, MID2, TICK, Adversary, calm_view, copied, one, open_order, random_limits

LIMIT, MARKET, CANCEL, REPLACE = RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE
MID = MID2 // 2  # 1,000,000 price units = 100.00 currency
LOSS = 100 * 10**8  # cash units


def asked(
    limits: dict, orders: Orders, view: View | None = None, mode: str = "project", before: list[View] | None = None
):
    """(lots sent, names of the checks that objected, kind sent) of entry 0 of lane 0."""
    gate = RiskGate(limits, mode=mode)
    for earlier in before or []:
        gate.observe(earlier)
    sent, verdicts = gate(calm_view() if view is None else view, orders)
    reason = int(verdicts.reason[0, 0])
    quantity = int(sent.records[0, 0]["quantity"]) if sent.kind[0, 0] else 0
    return quantity, {check.name for check in Check if reason >> check & 1}, int(sent.kind[0, 0])


def seen(**changes) -> View:
    """A calm view with lane 0's fields changed."""
    view = calm_view()
    for name, value in changes.items():
        getattr(view, name)[0] = value
    return view


def with_order(side: int, price: int, quantity: int = 10, **changes) -> View:
    view = seen(**changes)
    open_order(view, 0, side, price, quantity, id=7)
    return view


CASES = [  # name, limits, order, view, lots that may be sent
    ("MALFORMED", {}, one(quantity=0), None, 0),
    ("MALFORMED", {}, one(side=0), None, 0),
    ("MALFORMED", {}, one(price=0), None, 0),
    ("MALFORMED", {}, one(id=0), None, 0),
    ("MALFORMED", {}, one(kind=9), None, 0),
    ("MALFORMED", {}, one(REPLACE, target=0), None, 0),
    ("RESTRICTED", {}, one(instrument=1), None, 0),
    ("RESTRICTED", {"instrument": {"restricted": True}}, one(), None, 0),
    ("HALT", {}, one(), seen(status=TradingStatus.HALTED), 0),
    ("HALT", {"instrument": {"session": ["09:30:00", "10:00:00"]}}, one(), None, 0),
    ("STALE", {}, one(), seen(mid2=0), 0),
    ("STALE", {}, one(MARKET), seen(ask_size=0), 0),
    ("TICK_LOT", {}, one(price=MID + 1), None, 0),
    ("TICK_LOT", {"instrument": {"lot": 4}}, one(), None, 8),
    ("QUANTITY", {"order": {"max_quantity": 9}}, one(), None, 9),
    ("QUANTITY", {"order": {"min_quantity": 11}}, one(), None, 0),
    ("NOTIONAL", {"order": {"max_notional": 999.99}}, one(), None, 9),
    ("COLLAR", {"order": {"collar_bps": 50}}, one(price=MID + 51 * TICK), None, 0),
    ("COLLAR", {"order": {"collar_bps": 1}}, one(MARKET, quantity=1001), None, 1000),
    ("FAT_FINGER", {"instrument": {"adv_lots": 900, "max_adv_bps": 100}}, one(), None, 9),
    ("FAT_FINGER", {"instrument": {"max_top_multiple": 2}}, one(quantity=2001), None, 2000),
    ("SELF_TRADE", {}, one(), with_order(-1, MID), 0),
    ("SELF_TRADE", {}, one(MARKET), with_order(-1, MID + 50 * TICK), 0),
    ("OPEN_ORDERS", {"portfolio": {"max_open_orders": 1}}, one(), with_order(1, MID), 0),
    ("OPEN_ORDERS", {"portfolio": {"max_open_notional": 1900}}, one(), with_order(1, MID), 9),
    ("POSITION", {"instrument": {"max_position": 19}}, one(), with_order(1, MID), 9),
    ("POSITION", {"instrument": {"max_position": 19}}, one(), seen(position=10), 9),
    ("GROSS_NET", {"portfolio": {"max_gross": 900}}, one(), None, 9),
    ("GROSS_NET", {"portfolio": {"max_net": 900}}, one(side=-1), None, 9),
    ("SECTOR", {"sectors": {0: {"max_gross": 900}}}, one(), None, 9),
    ("LEVERAGE_CREDIT", {"portfolio": {"capital": 900, "max_leverage_pct": 100}}, one(), None, 9),
    ("LEVERAGE_CREDIT", {"portfolio": {"capital": 800, "credit": 100}}, one(), None, 9),
]


@pytest.mark.parametrize(
    ("name", "limits", "order", "view", "lots"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_a_check_cuts_to_what_it_allows_and_says_its_name(name, limits, order, view, lots):
    asked_for = int(order.records[0, 0]["quantity"])
    assert asked(limits, order, view)[:2] == (lots, {name})
    quantity, reasons, kind = asked(limits, order, view, mode="reject")
    assert (quantity if kind != CANCEL else 0, reasons) == (0, {name})
    assert asked(limits, order, view, mode="observe")[:2] == (asked_for, {name})


PASSES = [
    ({"order": {"max_quantity": 10, "max_notional": 1000, "collar_bps": 50, "min_quantity": 10}}, one(), None),
    ({"order": {"collar_bps": 50}}, one(price=MID + 50 * TICK), None),
    ({"order": {"collar_bps": 1}}, one(MARKET, quantity=1000), None),
    ({"instrument": {"adv_lots": 1000, "max_adv_bps": 100, "max_top_multiple": 1, "lot": 5}}, one(), None),
    ({"instrument": {"session": ["10:00:00", "10:00:01"], "max_quote_age_ms": 1}}, one(), None),
    ({"instrument": {"max_position": 20}}, one(), with_order(1, MID)),
    ({"portfolio": {"max_open_orders": 2, "max_open_notional": 2000}}, one(), with_order(1, MID)),
    ({"portfolio": {"max_gross": 1000, "max_net": 1000}, "sectors": {0: {"max_gross": 1000}}}, one(), None),
    ({"portfolio": {"capital": 1000, "max_leverage_pct": 100, "credit": 0}}, one(), None),
    ({"portfolio": {"daily_loss": {"hard": 1}, "drawdown": {"hard": 1}}}, one(), None),
    ({"order": {"self_trade": "allow"}}, one(), with_order(-1, MID)),
    ({}, one(), with_order(-1, MID + TICK)),
]


@pytest.mark.parametrize(("limits", "order", "view"), PASSES)
def test_an_order_at_its_limits_passes_untouched(limits, order, view):
    assert asked(limits, order, view) == (10 if order.quantity[0, 0] == 10 else 1000, set(), int(order.kind[0, 0]))


# -------------------------------------------------------------------------------------------------------- time and memory


def test_an_old_quote_is_stale_and_a_new_one_is_not():
    first, later = calm_view(), seen(time_ns=36_000 * 10**9 + 10**9 + 1)
    limits = {"instrument": {"max_quote_age_ms": 1000}}
    assert asked(limits, one(), later, before=[first]) == (0, {"STALE"}, 0)
    later.bid_size[0, 0, 0] += 1
    assert asked(limits, one(), later, before=[first]) == (10, set(), LIMIT)


def test_a_windowed_collar_remembers_the_mids_of_the_window():
    limits = {"window": {"collar": {"bps": 50, "window_ms": 1000}}}
    first, later = calm_view(), seen(time_ns=36_000 * 10**9 + 10**9, mid2=MID2 + 2 * 51 * TICK)
    assert asked(limits, one(price=MID + 51 * TICK), later, before=[first]) == (0, {"WINDOW_COLLAR"}, 0)
    assert asked(limits, one(price=MID + 50 * TICK), later, before=[first]) == (10, set(), LIMIT)
    later.time_ns[0] += 2 * 10**9
    assert asked(limits, one(price=MID + 51 * TICK), later, before=[first]) == (10, set(), LIMIT)


def test_an_id_must_be_above_all_that_were_sent_until_the_next_episode():
    gate, view = RiskGate({}), calm_view()
    assert not gate(view, one(id=5))[1].reason.any()
    assert gate(view, one(id=5))[1].reason[0, 0] == 1 << Check.DUPLICATE_ID
    assert gate(view, one(id=4))[1].reason[0, 0] == 1 << Check.DUPLICATE_ID
    view.decision[0] = 0
    assert not gate(view, one(id=1))[1].reason.any()


def test_the_same_content_may_come_so_often_in_a_window_and_no_more():
    gate, view = RiskGate({"window": {"duplicates": {"count": 2, "window_ms": 1000}}}), calm_view()
    orders = one(id=1)
    for slot in (1, 2):
        orders.put(0, slot, LIMIT, side=1, price=MID, quantity=10, id=slot + 1)
    _, verdicts = gate(view, orders)
    assert verdicts.reason[0, :3].tolist() == [0, 0, 1 << Check.DUPLICATE_CONTENT]
    assert gate(view, one(id=9, price=MID - TICK))[1].reason[0, 0] == 0, "another content"
    view.time_ns[0] += 10**9
    assert gate(view, one(id=10))[1].reason[0, 0] == 0, "the window is over"


def test_a_fifth_of_the_tokens_is_kept_for_orders_that_reduce():
    gate, view = RiskGate({"window": {"submit": {"count": 10, "window_ms": 1000}}}), seen(position=1000)
    passed = [int(gate(view, one(id=n, price=MID - n * TICK))[1].reason[0, 0] == 0) for n in range(1, 12)]
    assert sum(passed) == 8 and passed[8:] == [0, 0, 0]
    reducing = [int(gate(view, one(id=n, side=-1, price=MID + n * TICK))[1].reason[0, 0] == 0) for n in range(12, 15)]
    assert reducing == [1, 1, 0]
    view.time_ns[0] += 10**9
    assert gate(view, one(id=20))[1].reason[0, 0] == 0


def test_cancels_count_as_messages_and_always_pass():
    gate, view = RiskGate({"window": {"messages": {"count": 5, "window_ms": 1000}}}), calm_view()
    for _ in range(20):
        sent, verdicts = gate(view, one(CANCEL, id=7))
        assert sent.kind[0, 0] == CANCEL and not verdicts.reason.any()
    assert gate(view, one())[1].reason[0, 0] == 1 << Check.MESSAGE_RATE


def test_more_messages_than_executions_deserve_are_stopped():
    gate, view = (
        RiskGate({"window": {"order_to_trade": {"messages_per_execution": 5, "free_messages": 5}}}),
        calm_view(),
    )
    reasons = [int(gate(view, one(id=n))[1].reason[0, 0]) for n in range(1, 7)]
    assert reasons == [0, 0, 0, 0, 1 << Check.MESSAGE_RATE, 1 << Check.MESSAGE_RATE]
    view.position[0] = 10
    assert gate(view, one(id=9))[1].reason[0, 0] == 0, "an execution allows five more"


def test_repeated_executions_latch():
    limits = {"window": {"executions": {"count": 2, "window_ms": 1000, "then": "halted"}}}
    gate, view = RiskGate(limits), calm_view()
    for position in (0, 10, 20):
        view.position[0] = position
        gate.observe(view)
        assert gate.latch[0] == Latch.NORMAL
    view.position[0] = 30
    assert gate(view, one(side=-1))[1].reason[0, 0] == 1 << Check.REPEATED_EXECUTION
    assert gate.latch[0] == Latch.HALTED


@pytest.mark.parametrize(("limit", "check"), [("daily_loss", Check.DAILY_LOSS), ("drawdown", Check.DRAWDOWN)])
def test_a_loss_latches_in_the_step_that_shows_it_and_its_overshoot_is_told(limit, check):
    gate, view = RiskGate({"portfolio": {limit: {"soft": 100, "hard": 200}}}), seen(position=10)
    gate.observe(view)
    view.cash[0] = -LOSS
    gate.observe(view)
    assert gate.latch[0] == Latch.NORMAL, "at the limit is within it"
    view.cash[0] = -LOSS - 3 * 10**8
    gate.observe(view)
    gate.observe(view)
    assert gate.latch[0] == Latch.REDUCING and gate.overshoot[0] == pytest.approx(3.0)
    view.cash[0] -= 5 * 10**8
    gate.observe(view)
    assert gate.overshoot[0] == pytest.approx(3.0), "what it was when the latch closed"
    view.cash[0] = 0
    sent, verdicts = gate(view, one(side=-1, quantity=15))
    assert sent.quantity[0, 0] == 10 and verdicts.reason[0, 0] == 1 << check, (
        "cut at flat, latched though the loss is made up"
    )
    assert gate(view, one(id=200))[0].kind[0, 0] == RequestType.NONE
    view.cash[0] = -2 * LOSS - 1_000_000
    assert gate(view, one(side=-1, id=300))[0].kind[0, 0] == RequestType.NONE and gate.latch[0] == Latch.HALTED
    assert gate(view, one(CANCEL, id=7))[0].kind[0, 0] == CANCEL
    gate.rearm()
    assert gate(view, one(id=400))[1].reason[0, 0] == 0


def test_drawdown_shrinks_position_limits():
    limits = {"instrument": {"max_position": 100}, "portfolio": {"drawdown": {"hard": 100, "scaled": True}}}
    gate, view = RiskGate(limits), calm_view()
    gate.observe(view)
    view.cash[0] = -LOSS * 3 // 10
    assert gate(view, one(quantity=100))[0].quantity[0, 0] == 70


def test_the_kill_latch_stops_orders_but_not_cancels_and_survives_an_episode():
    gate, view = RiskGate({}), seen(position=50)
    gate.observe(view)
    gate.kill()
    view.decision[0] = 0
    assert gate(view, one(side=-1))[1].reason[0, 0] == 1 << Check.KILL
    sent, _ = gate(view, one(REPLACE, target=7, id=200))
    assert (sent.kind[0, 0], sent.id[0, 0]) == (CANCEL, 7), "the cancel of a replacement passes"
    gate.rearm(np.array([0]))
    assert not gate(view, one(id=300))[1].reason.any()


# ---------------------------------------------------------------------------------------------------------- worst cases


def test_an_order_whose_cancel_is_sent_still_counts_and_so_does_one_that_is_replaced():
    limits, view = {"instrument": {"max_position": 25}}, with_order(1, MID, 10)
    orders = one(CANCEL, id=7)
    orders.put(0, 1, LIMIT, side=1, price=MID, quantity=20, id=50)
    sent, _ = RiskGate(limits)(view, orders)
    assert sent.quantity[0, 1] == 15
    sent, _ = RiskGate(limits)(view, one(REPLACE, target=7, quantity=20))
    assert sent.quantity[0, 0] == 15


def test_entries_of_one_decision_count_for_those_behind_them():
    orders = one(quantity=60)
    orders.put(0, 1, LIMIT, side=1, price=MID - TICK, quantity=60, id=101)
    orders.put(0, 2, LIMIT, side=-1, price=MID + TICK, quantity=60, id=102)
    sent, _ = RiskGate({"instrument": {"max_position": 100}})(calm_view(), orders)
    assert sent.quantity[0, :3].tolist() == [60, 40, 60]


def test_a_reducing_order_skips_position_limits_only_up_to_flat_and_counts_what_already_reduces():
    limits = {"instrument": {"max_position": 10}, "portfolio": {"max_gross": 1}}
    view = seen(position=-500)
    open_order(view, 0, 1, MID - TICK, 100, id=7)
    sent, _ = RiskGate(limits)(view, one(quantity=1000))
    assert sent.quantity[0, 0] == 400
    assert asked(limits | {"order": {"collar_bps": 1}}, one(price=MID + 50 * TICK), view)[1] == {"COLLAR"}


def test_an_order_cancelled_earlier_in_the_decision_is_no_self_trade():
    view = with_order(-1, MID)
    orders = one(CANCEL, id=7)
    orders.put(0, 1, MARKET, side=1, quantity=5, id=50)
    assert not RiskGate({})(view, orders)[1].reason.any()
    orders = one(MARKET, quantity=5, id=50)
    orders.put(0, 1, CANCEL, id=7)
    assert RiskGate({})(view, orders)[1].reason[0, 0] == 1 << Check.SELF_TRADE


def test_three_instruments_share_gross_sector_and_net():
    view = calm_view(instruments=3)
    view.position[0] = [10, -20, 0]
    orders = Orders.empty(1, 6)
    orders.put(0, 0, LIMIT, side=1, price=MID, quantity=100, id=1, instrument=2)
    for limits, lots in (
        ({"portfolio": {"max_gross": 4500}}, 15),
        ({"portfolio": {"max_net": 4500}}, 55),
        ({"sectors": {1: {"max_gross": 4500}}, "instruments": {0: {"sector": 0}}, "instrument": {"sector": 1}}, 25),
        ({"instruments": {2: {"max_position": 7}}, "instrument": {"max_position": 1}}, 7),
    ):
        assert RiskGate(limits)(view, orders)[0].quantity[0, 0] == lots, limits
    view.mid2[0, 1] = 0
    _, verdicts = RiskGate({"portfolio": {"max_gross": 4500}})(view, orders)
    assert verdicts.reason[0, 0] == 1 << Check.GROSS_NET, "an exposure that cannot be valued fails closed"


def test_absurd_numbers_fail_closed():
    for name in ("position", "cash", "time_ns", "mid2"):
        for value in BIG:
            limits = {"instrument": {"max_position": 10}, "portfolio": {"daily_loss": {"hard": 1}, "max_gross": 10_000}}
            view = seen(**{name: value})
            if (value == -1 and name in ("position", "cash")) or (name in ("cash", "time_ns") and 0 < value <= 1 << 60):
                continue  # these are numbers like any other
            assert asked(limits, one(), view)[0] == 0, (name, value)


def test_numbers_at_their_bounds_are_still_known():
    for cash in (-(1 << 60), 1 << 60):
        assert asked({"portfolio": {"daily_loss": {"hard": 1}}}, one(), seen(cash=cash)) == (10, set(), LIMIT)
    for time_ns in (0, 1 << 60):
        assert asked({}, one(), seen(time_ns=time_ns)) == (10, set(), LIMIT)
    assert asked({}, one(), with_order(1, MID, 0)) == (10, set(), LIMIT), "an open order of which nothing remains"
    assert asked({}, one(), with_order(1, MID, 1 << 44)) == (10, set(), LIMIT)
    assert asked({}, one(), with_order(1, MID, (1 << 44) + 1)) == (0, {"POSITION"}, 0)
    assert asked({}, one(price=1 << 44), seen(tick=1)) == (10, set(), LIMIT)


def test_a_view_of_several_instruments_must_say_which_orders_are_whose():
    view = calm_view(instruments=3)
    view.order_instrument = None
    with pytest.raises(ConfigError, match="order_instrument"):
        RiskGate({})(view, one())


# ------------------------------------------------------------------------------------------------------------------ laws


def fresh(seed: int, mode: str, instruments: int) -> tuple[Adversary, RiskGate]:
    rng = random.Random(seed)
    limits = random_limits(rng, instruments)
    return Adversary(rng, limits, 8, instruments, 6, 4), RiskGate(limits, mode=mode)


@pytest.mark.parametrize("mode", ["project", "reject", "observe"])
@pytest.mark.parametrize("instruments", [1, 3])
def test_idempotent_and_never_larger_or_flipped(mode, instruments):
    for seed in range(25):
        world, gate = fresh(seed, mode, instruments)
        for _ in range(15):
            world.move()
            orders = world.ask()
            gate.observe(world.view)
            twin = copy.deepcopy(gate)
            sent, verdicts = gate(world.view, orders)
            new = (sent.kind != RequestType.NONE) & (sent.kind != CANCEL)
            assert (sent.kind[new] == orders.kind[new]).all() and (sent.side == orders.side)[new].all()
            assert (sent.price == orders.price)[new].all() and (sent.quantity <= orders.quantity)[new].all()
            assert ((orders.kind == CANCEL) <= (sent.kind == CANCEL)).all(), "cancels pass"
            untouched = verdicts.reason == 0
            assert (sent.kind == orders.kind)[untouched].all() and (sent.quantity == orders.quantity)[
                untouched & new
            ].all()
            if mode == "observe":
                assert sent is orders
                continue
            again, second = twin(world.view, Orders(sent.kind.copy(), sent.records.copy()))
            assert not second.reason.any()
            assert (again.kind == sent.kind).all() and (again.records == sent.records)[sent.kind != 0].all()


def test_lanes_do_not_know_of_each_other():
    world, gate = fresh(3, "project", 3)
    order = np.random.default_rng(0).permutation(8)
    other = RiskGate(gate.limits)
    for _ in range(20):
        world.move()
        orders = world.ask()
        mixed = copied(world.view)
        for value in vars(mixed).values():
            if isinstance(value, np.ndarray):
                value[...] = value[order]
        sent, verdicts = gate(world.view, orders)
        sent2, verdicts2 = other(mixed, Orders(orders.kind[order], orders.records[order]))
        assert (verdicts.reason[order] == verdicts2.reason).all() and (sent.kind[order] == sent2.kind).all()
        assert (sent.records[order] == sent2.records)[sent2.kind != 0].all()


def test_the_mask_says_what_would_pass_untouched_and_takes_nothing():
    world, gate = fresh(5, "reject", 3)
    gate_limits = gate.limits
    for _ in range(15):
        world.move()
        menus = [world.ask() for _ in range(4)]
        candidates = Orders(np.stack([m.kind for m in menus], 1), np.stack([m.records for m in menus], 1))
        gate.observe(world.view)
        before = gate.state.copy()
        mask = gate.allowed(world.view, candidates)
        assert (before.lane == gate.state.lane).all() and (before.ring == gate.state.ring).all()
        for a, menu in enumerate(menus):
            twin = RiskGate(gate_limits, mode="reject")
            twin.observe(world.view)
            twin._state = before.copy()
            assert (mask[:, a] == ~twin(world.view, menu)[1].reason.any(axis=1)).all()
        gate(world.view, menus[0])


def test_the_kernels_know_the_bits_and_kinds_by_the_same_numbers():
    from emp_gym.risk import check_kernels, exposure_kernels, price_kernels, self_trade_kernels, watch_kernels
    from emp_gym.risk.reasons import Mode

    for module in (check_kernels, exposure_kernels, price_kernels):
        bits = {name: value for name, value in vars(module).items() if name in Check.__members__}
        assert bits and all(int(value) == 1 << Check[name] for name, value in bits.items())
    assert (watch_kernels.LOSS_BIT, watch_kernels.FALL_BIT) == (1 << Check.DAILY_LOSS, 1 << Check.DRAWDOWN)
    assert watch_kernels.REPEATED_BIT == 1 << Check.REPEATED_EXECUTION
    for name, value in RequestType.__members__.items():
        assert getattr(check_kernels, name) == getattr(self_trade_kernels, name) == value
    assert list(Latch) == [watch_kernels.NORMAL, watch_kernels.REDUCING, watch_kernels.HALTED]
    assert list(Mode) == [check_kernels.OBSERVE, check_kernels.PROJECT, check_kernels.REJECT]
