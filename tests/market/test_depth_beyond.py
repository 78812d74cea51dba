"""Depth that no file shows, and depth that was taken: by hand, and against the slow judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emp_gym.evaluation.observers import Began, Settled
from emp_gym.evaluation.retaken import Retaken
from emp_gym.market.replay import ReplayMarket
from emp_gym.types import EMPTY_ASK, EMPTY_BID, NS, Instrument, RecordedDay
from tests.market.by_hand import Hand, Lane
from tests.market.duel import Duel, Taker, synthetic_day, walk
from tests.market.test_judge import CONFIGS, day_of, through_a_dollar
from tests.reference_market import BEYOND_FILE, Rules

BIDS, ASKS = {100: 50, 99: 60}, {103: 40, 105: 70}
"""Neighbours are 2 and 1 apart, three quarters of the mean 1.125: levels beyond stand 2 apart, with (50 + 60 + 40 + 70) / 4 = 55 lots."""


def hand(**options: int) -> Hand:
    return Hand(BIDS, ASKS, **options)


# ---- the ladder


def test_further_levels_go_on_as_far_apart_and_as_deep_as_the_visible_ones() -> None:
    lane = Lane(hand().quiet())
    order = lane.buy(40 + 70 + 55 + 55 + 10)  # at 107, 109 and 111: 108.25 in the mean
    lane.step()
    assert lane.fills == [(order, 103, 40), (order, 105, 70), (order, 109, 120)]
    lane = Lane(hand().quiet())
    order = lane.sell(50 + 60 + 55 + 55 + 10)  # at 97, 95 and 93: 95.75 in the mean
    lane.step()
    assert lane.fills == [(order, 100, 50), (order, 99, 60), (order, 95, 120)]


def test_the_price_grows_with_the_quantity() -> None:
    paid = []
    for lots in (1, 55, 56, 110, 500, 1_000, 5_000, 10**8):
        lane = Lane(hand().quiet())
        lane.buy(110 + lots)
        lane.step()
        paid.append(lane.fills[-1][1])
    assert paid == sorted(paid) and paid[:4] == [107, 107, 108, 108] and paid[-1] == 210


@pytest.mark.parametrize("lots", [10**6, 10**8, 10**10])
def test_a_buy_pays_at_most_twice_the_worst_visible_price_and_a_sell_gets_at_least_a_tick(lots: int) -> None:
    lane = Lane(hand().quiet().quiet())
    lane.buy(lots), lane.sell(lots)
    lane.step()
    (_, bought, _), (_, sold, _) = (fill for fill in lane.fills if fill[2] > 70)
    assert (bought, sold) == (210, 1)


def test_the_levels_of_a_file_of_one_stand_a_fifth_of_the_spread_apart() -> None:
    lane = Lane(Hand({100: 50}, {110: 40}, levels=1).quiet())  # 10 / 5 = 2, with 45 lots
    order = lane.buy(40 + 45 + 1)
    lane.step()
    assert lane.fills == [(order, 110, 40), (order, 113, 46)]  # 112 and one lot at 114, rounded away from us


def test_what_was_visible_half_a_minute_before_counts_as_well() -> None:
    """Sixteen looks, 32 rows apart: the bid was 50 lots then and is 10 now."""
    day = Hand({100: 50}, {110: 40}, levels=1).quiet(31).reduce(1, 100, 40, 7)
    lane = Lane(day)
    lane.step(32)
    order = lane.buy(40 + 35 + 1)  # (50 + 40 + 10 + 40) / 4 = 35 a level
    lane.step()
    assert lane.fills == [(order, 110, 40), (order, 113, 36)]


def test_nothing_earlier_than_the_day_or_the_last_sixteen_looks_counts() -> None:
    day = Hand({100: 9_999}, {110: 40}, levels=1).reduce(1, 100, 9_939, 7).quiet(16 * 32)
    lane = Lane(day)
    lane.step(16 * 32)
    lane.buy(40 + 50 + 1)  # row 512 looks at rows 32 to 512: (60 + 40) / 2
    lane.step()
    assert lane.fills[-1][1:] == (113, 51)


def test_a_stock_below_a_dollar_pays_whole_cents_from_there_on() -> None:
    rules = Instrument("HAND", tick=1, price_unit=0.0001, ticks=((0, 1), (10_000, 100)))
    book = {9_900: 10, 9_890: 10}, {9_950: 10, 9_980: 10}  # three quarters of 20 are 15, with 10 lots
    for beyond, price in ((10, 9_995), (11, 9_997), (20, 10_100)):  # 10,002.5 in the mean
        lane = Lane(Hand(*book, instrument=rules).quiet())
        lane.buy(20 + beyond)
        lane.step()
        assert lane.fills[-1][1:] == (price, beyond)
    lane = Lane(Hand({10_000: 10, 9_990: 10}, {10_100: 10, 10_200: 10}, instrument=rules).quiet())
    lane.sell(25)  # three quarters of 55 are 41.25
    lane.step()
    assert lane.fills[-1][1:] == (9_990 - 42, 5)
    lane = Lane(Hand({10_100: 10, 10_000: 10}, {10_200: 10}, instrument=rules).quiet())
    lane.sell(21)  # three quarters of 100: below a dollar a tick is 1
    lane.step()
    assert lane.fills[-1][1:] == (9_925, 1)
    lane = Lane(Hand({9_999: 10}, {10_000: 10, 10_100: 10}, instrument=rules).quiet())
    lane.buy(25)  # three quarters of 100, but no level is nearer than a tick
    lane.step()
    assert lane.fills[-1][1:] == (10_200, 5)


def test_on_an_empty_side_the_ladder_begins_at_the_last_known_mid() -> None:
    lane = Lane(Hand(BIDS, {103: 40}).execute(-1, 103, 40).quiet())
    lane.step()
    order = lane.buy(120)  # from 102 (101.5) on, 1 apart, with 55 lots: 55 at 103, 55 at 104, 10 at 105
    lane.step()
    assert lane.fills == [(order, 104, 120)]


def test_where_no_price_was_ever_known_a_position_is_closed_at_one_tick() -> None:
    """Bids there were none: 10 lots that came to a resting bid are sold to nobody knows whom."""
    lane = Lane(Hand({}, {103: 40}).quiet().new(-1, 50, 10, 7).quiet())
    lane.bid(50, 10)
    lane.step(2)
    assert lane.position == 10 and lane.market.view.mid2[0, 0] == 0
    lane.market.close(np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert lane.market.last_fills().price[-1] == 1 and lane.cash == 10 * (1 - 50)


def test_on_an_empty_side_the_ladder_begins_beyond_what_the_other_side_shows() -> None:
    """Asks have gone from 103 down to 50 while there are no bids: nobody sells at 99 what is offered at 50."""
    day = Hand({100: 50}, {102: 40, 103: 40}).execute(1, 100, 50).new(-1, 50, 30, 7).quiet().quiet()
    lane = Lane(day, half_life_ns=-1)
    lane.step(2)
    order = lane.buy(30)
    lane.step()
    lane.market.close(np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert lane.fills[-1] == (order, 50, 30) and int(lane.market.last_fills().price[-1]) < 50 and lane.cash < 0


def test_half_a_unit_of_the_last_known_mid_goes_against_the_taker() -> None:
    """The mid is 95.5, levels beyond stand a tick apart (a row with one side has no spread)."""
    for emptied, price in ((-1, 96 + 1), (1, 95 - 1)):
        lane = Lane(Hand({90: 40}, {101: 40}).execute(emptied, 101 if emptied < 0 else 90, 40).quiet().quiet())
        lane.step()
        order = lane.buy(10) if emptied < 0 else lane.sell(10)
        lane.step()
        assert lane.fills == [(order, price, 10)]


# ---- what is remembered


def test_the_next_order_begins_behind_what_was_taken_beyond_the_file() -> None:
    lane = Lane(hand().quiet().quiet(), half_life_ns=-1)
    lane.buy(110 + 120)
    lane.step()
    order = lane.buy(46)  # 45 lots are left at 111
    lane.step()
    assert lane.fills[-1] == (order, 112, 46)


def test_what_was_taken_beyond_the_file_comes_back_with_its_half_life() -> None:
    lane = Lane(hand().quiet().quiet(), half_life_ns=NS)
    lane.buy(110 + 120)
    lane.step()
    order = lane.buy(20 + 35 + 20)  # half is back: 60 are gone, so that 109 is next
    lane.step()
    assert lane.fills[-3:] == [(order, 103, 20), (order, 105, 35), (order, 109, 20)]


def test_without_impact_it_is_back_at_once_but_for_orders_of_the_same_instant() -> None:
    lane = Lane(hand().quiet().quiet())
    lane.buy(110 + 55), lane.buy(55)
    lane.step()
    assert [price for _, price, _ in lane.fills] == [103, 105, 107, 109]
    lane.buy(110 + 55)
    lane.step()
    assert [price for _, price, _ in lane.fills[4:]] == [103, 105, 107]


def test_lots_taken_beyond_the_file_are_missing_when_their_level_comes_into_view() -> None:
    lane = Lane(Hand({100: 50}, ASKS, levels=1).quiet().execute(-1, 103, 40).quiet(), half_life_ns=-1)
    lane.buy(40 + 20)
    lane.step()
    assert lane.fills[-1][1:] == (104, 20)  # 3 / 5 of a tick is a tick
    lane.step()
    order = lane.buy(60)
    lane.step()
    assert lane.fills[-2:] == [(order, 105, 50), (order, 106, 10)]  # of 70, 20 are gone
    order = lane.buy(1)
    lane.step()
    assert lane.fills[-1] == (order, 106, 1)  # 30 are gone: what 105 still had, and 10 behind it


def test_every_price_of_the_episode_is_remembered() -> None:
    """Up through 40 prices, with 10 of 40 lots taken at each, and down again: 30 are left at every one."""
    day = Hand({100: 50}, {103 + k: 40 for k in range(41)}, levels=1)
    for k in range(40):
        day.quiet(2).execute(-1, 103 + k, 40)
    for k in reversed(range(40)):
        day.new(-1, 103 + k, 40, 1_000 + k).quiet(2)
    lane = Lane(day, half_life_ns=-1)
    for k in range(40):
        lane.bid(103 + k, 10)
        lane.step(3)
    for k in reversed(range(40)):
        lane.step()
        order = lane.bid(103 + k, 100)
        lane.step()
        assert lane.filled(order) == 30, k
        lane.cancel(order)
        lane.step()
    assert lane.market.state["consumed"][0] == 40


def test_notes_of_which_nothing_is_left_make_room() -> None:
    day = Hand({100: 50}, {103 + k: 40 for k in range(61)}, levels=1)
    for k in range(60):
        day.quiet(2, seconds=30).execute(-1, 103 + k, 40)
    lane = Lane(day, half_life_ns=NS)
    for k in range(60):
        lane.bid(103 + k, 10)
        lane.step(3)
    assert lane.position == 600 and lane.market.state["consumed"][0] == 1


def test_what_was_taken_at_prices_that_left_the_window_is_missing_beyond_it() -> None:
    """40 at 103 are taken, then 101 and 102 come in front of them: 103 is past the window of two levels, and has nothing more."""
    day = Hand({100: 50}, {103: 40, 104: 40}, levels=2).quiet().new(-1, 101, 40, 7).new(-1, 102, 40, 8).quiet().quiet()
    lane = Lane(day, half_life_ns=-1)
    lane.buy(40)
    lane.step(4)
    lane.buy(80 + 40)
    lane.step()
    assert lane.fills[-1][1:] == (104, 40)  # 103 would be the next level: its 40 are gone
    far = Hand({100: 50}, {203: 40, 204: 40}, levels=2).quiet().new(-1, 101, 40, 7).new(-1, 102, 40, 8).quiet().quiet()
    lane = Lane(far, half_life_ns=-1)
    lane.buy(40)
    lane.step(4)
    lane.buy(80 + 1)
    lane.step()
    assert lane.fills[-1][1] < 203  # so far the ladder need not reach: nothing is missing before


def test_one_at_a_time_is_as_dear_as_all_at_once_where_what_was_taken_comes_back_slowly() -> None:
    """Half-life of a thousand seconds, an order every millisecond: what is kept in lots would be back at every look."""
    costs = []
    for clip in (60, 20, 1):
        day = Hand({100: 50}, {103: 20, 104: 20, 105: 40})
        for _ in range(60 // clip + 1):
            day.quiet(seconds=0.001)
        lane = Lane(day, half_life_ns=1_000 * NS)
        for _ in range(60 // clip):
            lane.buy(clip)
            lane.step()
        costs.append(sum(price * lots for _, price, lots in lane.fills))
    assert costs == [20 * (103 + 104 + 105)] * 3


# ---- kernel and judge


def blanked(day: RecordedDay, seed: int) -> RecordedDay:
    """The day with a side of its book empty for some rows, as after the last order went."""
    rng = np.random.default_rng(seed)
    day = replace(day, book_price=day.book_price.copy(), book_size=day.book_size.copy())
    for first in rng.choice(np.arange(200, len(day.time_ns)), len(day.time_ns) // 60, replace=False):
        side = int(rng.integers(2))
        part = slice(int(first), int(first + rng.integers(1, 12)))
        day.book_price[part, side], day.book_size[part, side] = (EMPTY_BID, EMPTY_ASK)[side], 0
    return day


RULES = {
    "none": Rules(every_rows=2), "permanent": Rules(every_rows=3, half_life_ns=-1, taker_fee_bps=0.3),
    "resilient": Rules(every_rows=2, half_life_ns=40 * NS, order_latency_ns=15 * NS),
}  # fmt: skip


def met(duel: Duel) -> set[str]:
    """What is worth a comparison, of all lanes as they stand."""
    found: set[str] = set()
    for judge in duel.judges:
        book = judge.day.rows[judge.row].book
        for fill in judge.fills:
            there = judge.day.rows[fill.row].book[-fill.side]
            if fill.beyond:
                found.add(f"beyond, side {fill.side}" if there else "beyond an empty side")
                far = 2 * next(reversed(there), 0) if fill.side > 0 else judge.day.instrument.tick
                found |= {"as far as can be"} if there and fill.price == far else set()
        found |= {"more prices than one row shows"} if len(judge.taken) > 2 * judge.day.levels + 2 else set()
        for side, past, lots, *_ in judge.taken:
            if abs(side) == BEYOND_FILE and lots and any(-side * price > -side * past for price in book[side // BEYOND_FILE]):
                found.add("came into view")
    return found


@pytest.mark.parametrize("rules", RULES)
def test_kernel_and_judge_agree_on_all_that_is_taken(rules: str) -> None:
    seen: set[str] = set()
    for day in ("one level", "two levels, wide; damaged", "wide tick", "through a dollar"):
        for duel in walk(blanked(day_of(day), 1), RULES[rules], lanes=5, steps=200, seed=len(day), trader=Taker):
            seen |= met(duel)
    assert seen >= {"beyond, side 1", "beyond, side -1", "beyond an empty side", "as far as can be", "came into view"}
    assert rules != "permanent" or "more prices than one row shows" in seen


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("day", [*CONFIGS, "through a dollar"])
def test_kernel_and_judge_agree_on_all_that_is_taken_over_many_steps(day: str, rules: str, seed: int) -> None:
    dollar = (2_000, 2_001, 2_002, 2_005)  # days that keep their levels apart when they are moved there
    seeds = dollar[seed] if "dollar" in day else 2_000 + seed
    made = synthetic_day(replace(CONFIGS["wide tick" if "dollar" in day else day], seed=seeds, rows=12_000))
    made = blanked(through_a_dollar(made) if "dollar" in day else made, seed)
    for _ in walk(made, RULES[rules], lanes=12, steps=500, seed=seed, trader=Taker):
        pass


def test_no_price_is_taken_more_often_than_it_was_shown_where_nothing_comes_back() -> None:
    retaken = None
    for duel in walk(day_of("one tick, thin"), Rules(every_rows=2, half_life_ns=-1), lanes=6, steps=300, seed=3, trader=Taker):
        retaken = retaken or noting(duel.market)
        retaken.settled(settled(duel.market))
    assert sum(map(len, retaken._takes)) > 150 and not retaken.lots().any()


# ---- what was taken again


def noting(market: ReplayMarket) -> Retaken:
    retaken = Retaken(market.data)
    retaken.began(Began(market.view, market.public, np.arange(market.lanes)))
    return retaken


def settled(market: ReplayMarket) -> Settled:
    flags, said = np.zeros(market.lanes, bool), (market.last_fills(), market.outcome, market.last_reports())
    return Settled(market.view, market.public, ~flags, np.zeros(market.lanes), flags, flags, *said)


def again(lane: Lane, orders: list[int]) -> float:
    """Lots that were taken more often than shown, of an order after each message."""
    retaken = noting(lane.market)
    for lots in orders:
        if lots:
            lane.bid(103, lots)
        lane.step()
        retaken.settled(settled(lane.market))
    return float(retaken.lots()[0])


def test_what_is_back_at_once_is_counted_as_taken_again() -> None:
    day = Hand({100: 50}, {103: 40}).quiet().quiet().new(-1, 103, 30, 7).quiet()
    assert again(Lane(day), [40, 40, 0, 70]) == 40 + 40  # shown were 40 and 30 more; 150 were taken


def test_half_of_what_is_shown_taken_twice_is_taken_once() -> None:
    day = Hand({100: 50}, {103: 40}).quiet(4)
    assert again(Lane(day), [20, 20]) == 0 and again(Lane(day), [20, 20, 1]) == 1


def test_what_is_gone_for_good_is_taken_once() -> None:
    assert again(Lane(Hand({100: 50}, {103: 40}).quiet(4), half_life_ns=-1), [40, 40, 40]) == 0


def test_a_level_that_comes_back_into_view_counts_as_new() -> None:
    day = Hand({100: 50}, {103: 40}).quiet().execute(-1, 103, 40).new(-1, 103, 25, 8).quiet()
    lane = Lane(day)
    retaken = noting(lane.market)
    for lots in (40, 0, 0, 25):
        if lots:
            lane.buy(lots)
        lane.step()
        retaken.settled(settled(lane.market))
    assert retaken.lots().tolist() == [0]
