"""Floors (smallest order, whole lots, a limit in money below one lot) do not shut a position in: what only reduces passes."""

from __future__ import annotations

import gymnasium as gym
import pytest

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.reasons import Check, Latch, names
from emp_gym.types import Orders, RequestType, View
from tests.risk.worlds import calm_view, open_order

MID, TICK = 1_000_000, 100  # of `calm_view`: one lot is worth 100 units of currency
MODES = ("project", "reject", "observe")


def held(position: int, *working: tuple[int, int]) -> View:
    """A calm view with a position, and working orders of (side, lots)."""
    view = calm_view()
    view.position[0, 0] = position
    for number, (side, lots) in enumerate(working):
        open_order(view, number, side, MID - side * TICK, lots, id=7 + number)
    return view


def asking(*orders: tuple[int, int]) -> Orders:
    """Limit orders of (side, lots) in one decision, away from the mid."""
    asked = Orders.empty(1, 6)
    for slot, (side, lots) in enumerate(orders):
        asked.put(0, slot, RequestType.LIMIT, side=side, price=MID - side * TICK, quantity=lots, id=100 + slot)
    return asked


def answer(limits: dict, view: View, *orders: tuple[int, int], mode: str = "project", latched: bool = False) -> list[tuple]:
    """(lots sent, names of objections) of each order."""
    gate = RiskGate(limits, mode=mode)
    gate.observe(view)
    if latched:
        gate.state.lane["latch"], gate.state.lane["latch_bits"] = Latch.REDUCING, 1 << Check.DAILY_LOSS
    sent, verdicts = gate(view, asking(*orders))
    lots = [int(sent.quantity[0, k]) if sent.kind[0, k] else 0 for k in range(len(orders))]
    return [(lots[k], names(int(verdicts.reason[0, k]))) for k in range(len(orders))]


SMALLEST, WHOLE = {"order": {"min_quantity": 100}}, {"instrument": {"lot": 100}}
CHEAP = {"order": {"max_notional": 99}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("limits", [SMALLEST, WHOLE, SMALLEST | WHOLE, WHOLE | CHEAP])
def test_an_order_that_only_reduces_is_never_too_small(limits, side, mode):
    assert answer(limits, held(-side * 37), (side, 37), mode=mode) == [(37, [])]
    assert answer(limits, held(-side * 37), (side, 5), mode=mode) == [(5, [])]


@pytest.mark.parametrize("limits", [SMALLEST, WHOLE])
def test_an_order_that_adds_or_opens_is_still_too_small(limits):
    (bit,) = {"quantity"} if limits is SMALLEST else {"tick-lot"}
    for position in (0, 37):
        assert answer(limits, held(position), (1, 37)) == [(0, [bit])]


def test_of_an_order_beyond_flat_the_part_that_reduces_is_left():
    assert answer(SMALLEST, held(37), (-1, 90)) == [(37, ["quantity"])]
    assert answer(WHOLE, held(37), (-1, 90)) == [(37, ["tick-lot"])]
    assert answer(SMALLEST, held(37), (-1, 90), mode="reject") == [(0, ["quantity"])]
    assert answer(SMALLEST, held(37), (-1, 100)) == [(100, [])], "an order of the smallest size may turn the position round"


def test_a_notional_below_one_lot_lets_one_lot_pass_that_reduces():
    assert answer(CHEAP, held(5), (-1, 1)) == [(1, [])]
    assert answer(CHEAP, held(5), (-1, 5)) == [(1, ["notional"])]
    assert answer(CHEAP, held(0), (-1, 1)) == [(0, ["notional"])]
    assert answer(CHEAP | WHOLE, held(250), (-1, 250)) == [(100, ["notional"])], "one whole lot at a time"
    assert answer({"order": {"max_notional": 399}}, held(5), (-1, 5)) == [(3, ["notional"])], "a ceiling stays a ceiling"


def test_open_orders_worth_less_than_one_lot_let_one_lot_pass_that_reduces_while_nothing_is_open():
    limits = {"portfolio": {"max_open_notional": 99}}
    assert answer(limits, held(5), (-1, 5)) == [(1, ["open-orders"])]
    assert answer(limits, held(5), (-1, 1), (-1, 1)) == [(1, []), (0, ["open-orders"])]
    assert answer(limits, held(0), (-1, 1)) == [(0, ["open-orders"])]


def test_closings_of_the_same_lots_at_once_pass_up_to_flat():
    assert answer(SMALLEST, held(37), (-1, 37), (-1, 37)) == [(37, []), (0, ["quantity"])]
    assert answer(SMALLEST, held(37), (-1, 20), (-1, 20)) == [(20, []), (17, ["quantity"])]
    assert answer(WHOLE, held(37, (-1, 30)), (-1, 37)) == [(7, ["tick-lot"])], "30 of them are being sold already"
    assert answer(WHOLE, held(37, (-1, 37)), (-1, 37)) == [(0, ["tick-lot"])]
    assert answer(WHOLE, held(37, (1, 30)), (-1, 37)) == [(37, [])], "a working buy reduces nothing"


def test_odd_lots_leave_under_a_reducing_latch():
    assert answer(WHOLE, held(37), (-1, 37), latched=True) == [(37, [])]
    assert answer(WHOLE, held(37), (-1, 100), latched=True) == [(37, ["daily-loss"])]
    assert answer(SMALLEST, held(-37), (1, 500), latched=True) == [(37, ["daily-loss"])]
    assert answer(WHOLE, held(250), (-1, 400), latched=True) == [(200, ["daily-loss"])], "whole lots first, the rest after them"
    assert answer(WHOLE, held(37), (1, 100), latched=True) == [(0, ["daily-loss"])]


def test_floors_are_all_that_a_reducing_order_skips_besides_exposure():
    market = {"order": {"collar_bps": 1, "min_quantity": 100}}
    far = asking((-1, 37))
    far.records["price"][0, 0] = MID + 200 * TICK
    sent, verdicts = RiskGate(market)(held(37), far)
    assert sent.kind[0, 0] == RequestType.NONE and names(int(verdicts.reason[0, 0])) == ["collar"]
    off_tick = asking((-1, 37))
    off_tick.records["price"][0, 0] += 1
    assert names(int(RiskGate(WHOLE)(held(37), off_tick)[1].reason[0, 0])) == ["tick-lot"], "a price off the tick is no floor"
    assert answer({"order": {"max_quantity": 30}}, held(37), (-1, 37)) == [(30, ["quantity"])]


def test_what_a_smaller_floor_let_in_can_be_closed_under_a_larger_one():
    env = gym.make("emp-lob-v0", gates=[{"gate": "risk", "limits": {}}])
    env.reset(seed=3)
    env.step(7)  # buys 100
    unwrapped = env.unwrapped
    assert unwrapped.view.position[0, 0] == 100
    unwrapped.lanes.gates[0].hold_to({"order": {"min_quantity": 1000}, "instrument": {"lot": 1000}})
    *_, info = env.step(7)
    assert unwrapped.view.position[0, 0] == 100 and names(info["reason"]) == ["tick-lot", "quantity"]
    *_, info = env.step(10)  # flatten
    assert unwrapped.view.position[0, 0] == 0 and info["reason"] == 0
