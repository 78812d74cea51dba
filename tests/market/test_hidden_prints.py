"""Hidden executions that fill own orders (`hidden_prints="fill"`), by hand; and what they are on a recorded day."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data.lobster import reader
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.market.replay import ReplayConfig
from emp_gym.types import ConfigError, MessageType
from tests.market.by_hand import Hand, Lane
from tests.market.duel import synthetic_day
from tests.market.on_tape import replaying
from tests.market.test_judge import CONFIGS, RULES, bytes_of_run, play, scripted

BIDS, ASKS = {100: 50, 99: 60}, {106: 40, 107: 70}  # the middle is 103
TOLD, UNTOLD = "2014-07-11", "2014-07-14"


def lane_on(day: Hand, **rules: Any) -> Lane:
    return Lane(day, **{"hidden_prints": "fill"} | rules)


def hand(date: str = TOLD, **options: Any) -> Hand:
    return Hand(BIDS, ASKS, date=date, **options)


def test_a_print_at_our_price_or_worse_fills_us_at_our_price() -> None:
    lane = lane_on(hand().hidden(102, 4).hidden(101, 5))
    bid = lane.bid(102, 10)
    lane.step()
    assert lane.fills == [(bid, 102, 4)] and lane.resting == {bid: 6}
    lane.step()
    assert lane.fills == [(bid, 102, 4), (bid, 102, 5)]


def test_a_print_at_a_better_price_than_ours_or_on_the_other_side_does_not() -> None:
    lane = lane_on(hand().hidden(103, 50).hidden(102, 50, side=-1).hidden(101, 50))
    lane.bid(102, 10), lane.offer(102, 10)
    lane.step(2)
    assert lane.fills == [(2, 102, 10)]  # the offer, by the print of the second row
    lane.step()
    assert lane.filled(1) == 10


def test_its_size_is_shared_by_price_and_then_by_age() -> None:
    lane = lane_on(hand().quiet(2).hidden(101, 15))
    old, young = lane.bid(101, 10), lane.bid(101, 10)
    lane.step()
    best = lane.bid(102, 4)
    lane.step(2)
    assert sorted(lane.fills) == [(old, 101, 10), (young, 101, 1), (best, 102, 4)] and lane.resting == {young: 9}


@pytest.mark.parametrize("fills", ["exact", "touch"])
@pytest.mark.parametrize(("side", "price"), [(1, 100), (1, 99), (1, 106), (1, 108), (-1, 106), (-1, 107), (-1, 100), (-1, 98)])
def test_a_print_at_the_touch_or_outside_contradicts_what_is_displayed_and_fills_nobody(side: int, price: int, fills: str) -> None:
    lane = lane_on(hand().hidden(price, 500, side=side), fills=fills)
    for own in (100, 101):
        lane.bid(own, 10)
    for own in (106, 105):
        lane.offer(own, 10)
    lane.step()
    assert not lane.fills


def test_no_queue_is_jumped_but_an_order_whose_queue_has_gone_is_filled() -> None:
    """What is hidden at a price comes after all that is displayed there: a reserve order shows when the level is empty."""
    lane = lane_on(hand().hidden(100, 30).execute(1, 100, 45).hidden(100, 30).execute(1, 100, 5).hidden(100, 30))
    bid = lane.bid(100, 10)
    lane.step(4)
    assert lane.ahead(bid) == 0 and not lane.fills
    lane.step()
    assert lane.fills == [(bid, 100, 10)]


def test_an_order_between_levels_is_filled_once_the_better_ones_were_cancelled() -> None:
    day = Hand({100: 50, 98: 60}, ASKS, date=TOLD).hidden(99, 30).delete(1, 100, 50, 1).hidden(99, 30)
    lane = lane_on(day)
    bid = lane.bid(99, 10)
    lane.step(2)
    assert not lane.fills
    lane.step()
    assert lane.fills == [(bid, 99, 10)]


@pytest.mark.parametrize(("price", "untold"), [(101, {"bid"}), (103, set()), (105, {"offer"})])
def test_the_side_is_the_one_told_and_where_none_is_told_the_nearer_touch(price: int, untold: set[str]) -> None:
    for date, expected in ((TOLD, {"offer"}), (UNTOLD, untold)):
        lane = lane_on(hand(date=date).hidden(price, 5, side=-1))
        own = {lane.bid(price, 10): "bid", lane.offer(price, 10): "offer"}
        lane.step()
        assert {own[order] for order, *_ in lane.fills} == expected


def test_halts_and_a_side_without_orders_leave_it_unfilled() -> None:
    for day in (hand().halt(-1).hidden(102, 50), hand().delete(-1, 106, 40, 1).delete(-1, 107, 70, 2).hidden(102, 50)):
        lane = lane_on(day)
        lane.bid(102, 10)
        lane.step(3)
        assert not lane.fills


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden_prints must be one of \['ignore', 'fill'\], got 'maybe'"):
        ReplayConfig(hidden_prints="maybe")


@pytest.mark.parametrize("day", ["wide tick, sides told", "two levels, wide"])
def test_kernel_and_judge_agree_on_days_whose_sides_are_told_and_on_others(day: str) -> None:
    made = synthetic_day(CONFIGS[day])
    rules = RULES["hidden prints"]
    decisions, fills = play(made, rules, lanes=8, steps=160, seed=3)
    assert decisions >= 240 and fills > 40


def test_a_market_that_was_stored_and_one_that_was_copied_go_on_with_them(tmp_path: Path) -> None:
    day, rules = synthetic_day(CONFIGS["two levels, wide"]), RULES["hidden prints, touch"]
    build(day).save(tmp_path / "day.tape")
    tape = TapeSet.open(tmp_path / "day.tape")
    market = replaying(tape, 1, **vars(rules))
    for twin in (pickle.loads(pickle.dumps(market)), copy.deepcopy(market)):
        for name in ("cross", "cross_block"):
            assert np.array_equal(getattr(twin.data, name), getattr(market.data, name))
            assert not np.array_equal(getattr(twin.data, name), getattr(tape, name))
    script = scripted(day, rules, lanes=3, steps=60)
    ignoring = list(bytes_of_run(tape, script, RULES["touch, fees"]))
    assert list(bytes_of_run(tape, script, rules)) != ignoring


def test_what_docs_say_of_hidden_prints_is_so_on_recorded_days(lobster_dir: Path) -> None:
    """docs/market.md, "Hidden executions": shares of lots; where they print; whether the direction can be believed."""
    found = {}
    for name in ("AMZN", "AAPL"):
        (reading,) = reader.read(next(lobster_dir.glob(f"*{name}*.zip"), None) or next(lobster_dir.glob(f"{name}*message*")))
        found[name] = facts(reading.day)
    assert found == {
        "AMZN": {"prints": 2_445, "lots": 197_507, "share of lots": 0.2436, "inside": 2_444, "by bids": 0.5253, "beside": (625, 625),
                 "nearer touch": (2_043, 2_312), "middle": 132},
        "AAPL": {"prints": 61, "lots": 5_862, "share of lots": 0.5534, "inside": 61, "by bids": 0.3746, "beside": (20, 20),
                 "nearer touch": (55, 61), "middle": 0},
    }  # fmt: skip


def facts(day: Any) -> dict[str, Any]:
    hidden = np.flatnonzero(day.kind == MessageType.EXECUTE_HIDDEN)
    lots = int(day.size[hidden].sum())
    visible = int(day.size[day.kind == MessageType.EXECUTE].sum())
    after = hidden[hidden > 0]  # those with a book before them
    price, side = day.price[after], day.side[after]
    bid, offer = day.book_price[after - 1, 0, 0], day.book_price[after - 1, 1, 0]
    nearer = np.sign(bid + offer - 2 * price)
    beside = [
        day.side[i] == day.side[j]
        for i in hidden.tolist() for j in (i - 1, i + 1)
        if 0 <= j < len(day.kind) and day.kind[j] == MessageType.EXECUTE and day.time_ns[i] == day.time_ns[j]
    ]  # fmt: skip
    return {
        "prints": len(hidden), "lots": lots, "share of lots": round(lots / (lots + visible), 4),
        "inside": int(((bid < price) & (price < offer)).sum()), "by bids": round(int(day.size[after][side > 0].sum()) / lots, 4),
        "beside": (sum(beside), len(beside)), "nearer touch": (int((nearer == side).sum()), int((nearer != 0).sum())),
        "middle": int((nearer == 0).sum()),
    }  # fmt: skip
