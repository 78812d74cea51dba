"""Quotes become the actions that the tasks' own documentation says they are."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.agents.baselines import menus
from emp_gym.agents.baselines.menus import DEFAULTS, quotes_in_box, quotes_in_menu
from emp_gym.envs.tasks import ExecuteParent, MakeMarket, TradeBook

TICKS = st.floats(-6, 25, allow_nan=False)


def test_defaults_equal_the_environments() -> None:
    import inspect

    from emp_gym.envs.core import Lanes

    assert MakeMarket().max_offset == DEFAULTS["max_offset"]
    assert (ExecuteParent().parent, ExecuteParent().order_quantity) == (DEFAULTS["parent"], DEFAULTS["order_quantity"])
    assert (TradeBook().order_quantity, TradeBook().max_position) == (100, DEFAULTS["max_position"])
    assert inspect.signature(Lanes).parameters["episode"].default == DEFAULTS["episode"]
    named = {
        menus.KEEP: "keep",
        menus.QUOTE_BOTH: "quote both",
        menus.BUY: "buy",
        menus.SELL: "sell",
        menus.CANCEL_ALL: "cancel all",
        menus.FLATTEN: "flatten",
    }
    assert {entry: TradeBook().menu[entry] for entry in named} == named
    execution = {menus.KEEP: "keep", menus.POST: "post", menus.TAKE_ONE: "take one", menus.TAKE_TWO: "take two"}
    assert {entry: ExecuteParent().menu[entry] for entry in execution} == execution


@given(TICKS, TICKS, st.integers(1, 30))
def test_the_box_quotes_what_was_asked_wherever_it_can(bid: float, ask: float, most: int) -> None:
    half, skew, size = quotes_in_box(np.array([bid]), np.array([ask]), most)[0].astype(float)
    half, skew = (half + 1) / 2 * most, skew * most  # as MakeMarket's documentation says
    assert size == 1
    if 0 <= bid + ask <= 2 * most and abs(ask - bid) <= 2 * most:
        assert (half - skew, half + skew) == pytest.approx((bid, ask), abs=1e-4)
    else:
        assert 0 <= half <= most + 1e-9 and abs(skew) <= most + 1e-9


def nearest(bid: float, ask: float, mask: list[bool]) -> set[int]:
    """Every allowed entry of the menu at the smallest distance, straight from its names."""
    behind = {"touch": Fraction(0), "deeper": Fraction(1), "none": Fraction(2)}
    menu = {
        1: ("touch", "touch"),
        2: ("deeper", "deeper"),
        3: ("touch", "none"),
        4: ("none", "touch"),
        5: ("touch", "deeper"),
        6: ("deeper", "touch"),
        9: ("none", "none"),
    }
    wanted = [min(max(Fraction(side), Fraction(0)), Fraction(2)) for side in (bid, ask)]
    apart = {
        entry: sum(abs(behind[word] - side) for word, side in zip(words, wanted))
        for entry, words in menu.items()
        if mask[entry]
    }
    if not apart:
        return {0}
    return {entry for entry, distance in apart.items() if distance <= min(apart.values()) + Fraction(1, 10**9)}


@given(TICKS, TICKS, st.lists(st.booleans(), min_size=11, max_size=11))
def test_the_menu_takes_the_nearest_entry_that_is_allowed(bid: float, ask: float, mask: list[bool]) -> None:
    got = quotes_in_menu(np.array([bid]), np.array([ask]), np.array([mask]))
    assert int(got[0]) in nearest(bid, ask, mask)


def test_a_tie_goes_to_the_side_that_changes_the_inventory() -> None:
    bid, ask = np.array([1.0, 5.0]), np.array([5.0, 1.0])
    assert quotes_in_menu(bid, ask, None).tolist() == [3, 4], "one deeper and none: that side alone, at the touch"
