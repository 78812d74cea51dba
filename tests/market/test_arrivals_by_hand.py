"""Latency, halts, taking and money, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.market.account import fee_of
from emp_gym.market.day_rules import fee_fraction
from emp_gym.market.replay import REQUESTS, SLOTS, ReplayConfig
from emp_gym.types import NS, ConfigError, Instrument, OrderAck, Orders, RequestType
from tests.market.by_hand import CASH, Hand, Lane
from tests.market.duel import tape_of
from tests.market.on_tape import replaying

BIDS, ASKS = {100: 50, 99: 60}, {103: 40, 105: 70}
ACCEPTED, MALFORMED, UNKNOWN, HALTED, NO_SLOT = (
    OrderAck.ACCEPTED, OrderAck.MALFORMED, OrderAck.UNKNOWN, OrderAck.HALTED, OrderAck.NO_SLOT,
)  # fmt: skip


def hand(**options: int) -> Hand:
    return Hand(BIDS, ASKS, **options)


# ---- latency --------------------------------------------------------------------------------------------------------


def test_order_takes_effect_after_all_rows_up_to_its_arrival() -> None:
    day = hand().execute(1, 100, 10).execute(1, 100, 10).execute(1, 100, 10, seconds=0).execute(1, 100, 5)
    lane = Lane(day, order_latency_ns=2 * NS)
    bid = lane.bid(100, 10)
    lane.step()
    assert lane.ahead(bid) == 0 and not lane.resting  # in flight
    lane.step()
    assert lane.resting == {bid: 10} and lane.ahead(bid) == 20  # both rows of second 2 came first
    lane.step()
    assert lane.ahead(bid) == 15


def test_an_order_due_before_the_next_message_is_not_seen_to_arrive_before_its_time() -> None:
    """Else its early arrival would tell that no message comes in between."""
    lane = Lane(hand().quiet(seconds=60), every_ns=NS, order_latency_ns=10 * NS)
    take = lane.buy(10)
    lane.step(9)
    assert not lane.fills and lane.position == 0
    lane.step()
    assert lane.fills == [(take, 103, 10)]
    assert lane.market.view.time_ns[0] == lane.market.last_fills().time_ns[0] == 34_210 * NS


@pytest.mark.parametrize("price", [200, 2**31 + 500, 2**40])
def test_an_order_priced_far_beyond_the_book_does_not_fill_in_a_halt(price: int) -> None:
    lane = Lane(hand().quiet().halt(-1).halt(0).new(-1, 104, 30, 7).halt(1))
    bid = lane.bid(price, 200)
    lane.step(4)
    assert lane.filled(bid) == 110, "all that was visible, and nothing while nobody trades"


def test_progress_counts_the_decisions_of_the_episode() -> None:
    lane = Lane(hand().quiet(5))
    lane.step(2)
    assert lane.market.progress.tolist() == [2]
    zero = np.zeros(1, np.int64)
    lane.market.reset(zero, zero, zero, np.full(1, 5))
    assert lane.market.progress.tolist() == [0]


def test_a_lane_that_rests_has_no_fills_to_tell() -> None:
    lane = Lane(hand().quiet(5))
    lane.buy(10)
    lane.step()
    assert len(lane.market.last_fills().id) == 1
    lane.market.active[:] = False
    lane.step()
    assert len(lane.market.last_fills().id) == 0


def test_cancel_can_lose_the_race() -> None:
    lane = Lane(hand().quiet().execute(1, 99, 10).quiet(), order_latency_ns=NS)
    bid = lane.bid(101, 10)
    lane.step()
    lane.cancel(bid)
    assert lane.step() == [ACCEPTED]  # arrives after the row of its second, which fills us
    assert lane.fills == [(bid, 101, 10)] and lane.position == 10 and not lane.resting


def test_cancel_in_time_saves_us() -> None:
    lane = Lane(hand().quiet().execute(1, 99, 10, seconds=1.5), order_latency_ns=NS)
    bid = lane.bid(101, 10)
    lane.step()
    lane.cancel(bid)
    lane.step()
    assert not lane.fills and not lane.resting


def test_cancel_overtakes_nothing_and_follows_its_order_into_the_market() -> None:
    lane = Lane(hand().quiet(), order_latency_ns=NS)
    bid = lane.bid(103, 100)
    lane.cancel(bid)
    lane.step()
    assert lane.fills == [(bid, 103, 40)] and not lane.resting  # takes what is there, the rest is withdrawn


def test_replacement_of_an_order_that_is_gone_is_refused() -> None:
    lane = Lane(hand().quiet().execute(1, 99, 10).quiet(), order_latency_ns=NS)
    bid = lane.bid(101, 10)
    lane.step()
    new = lane.replace(bid, 1, 102, 10)
    assert lane.step() == [ACCEPTED]
    assert lane.filled(bid) == 10 and lane.filled(new) == 0 and not lane.resting
    assert lane.market.state["refused"][0] == 1


def test_cancel_behind_a_replacement_of_the_same_order_finds_nothing() -> None:
    lane = Lane(hand().quiet().quiet())
    bid = lane.bid(100, 10)
    lane.step()
    new = lane.replace(bid, 1, 99, 10)
    lane.cancel(bid)
    assert lane.step() == [ACCEPTED, ACCEPTED] and lane.resting == {new: 10}
    lane = Lane(hand().quiet().quiet())
    bid = lane.bid(100, 10)
    lane.step()
    lane.cancel(bid)
    lane.replace(bid, 1, 99, 10)
    assert lane.step() == [ACCEPTED, ACCEPTED] and not lane.resting  # the cancel came first


def test_feed_latency_shows_an_earlier_book_but_own_fills_at_once() -> None:
    lane = Lane(hand().execute(1, 100, 50).new(-1, 101, 10, 4).quiet(), feed_latency_ns=NS)
    lane.step()
    assert lane.market.view.bid_price[0, 0, 0] == 100 and lane.market.view.sold[0, 0] == 0
    bid = lane.bid(101, 10)
    lane.step()
    assert lane.filled(bid) == 10 and lane.position == 10
    assert lane.market.view.bid_price[0, 0, 0] == 99 and lane.market.view.sold[0, 0] == 50
    assert lane.market.view.ask_price[0, 0, 0] == 103
    lane.step()
    assert lane.market.view.ask_price[0, 0, 0] == 101 and lane.market.view.sold[0, 0] == 0


def test_a_decision_never_splits_a_timestamp() -> None:
    day = hand().quiet().quiet(seconds=0).quiet(seconds=0).quiet()
    lane = Lane(day)
    rows = []
    for _ in range(2):
        lane.step()
        rows.append(int(lane.market.state["row"][0]))
    assert rows == [3, 4]
    lane = Lane(hand().quiet().quiet(seconds=0).quiet(seconds=0.5).quiet(), every_ns=NS)
    lane.step()
    assert lane.market.state["row"][0] == 2 and lane.market.view.time_ns[0] == 34_201 * NS
    lane.step()
    assert lane.market.state["row"][0] == 3 and lane.market.view.time_ns[0] == 34_202 * NS


def test_a_lane_started_amid_a_timestamp_begins_at_its_last_row() -> None:
    day = hand().quiet().quiet(seconds=0).quiet().day()
    market = replaying(tape_of(day), 1)
    zero = np.zeros(1, np.int64)
    market.reset(zero, zero, zero + 1, zero + 3)
    assert market.state["row"][0] == 2


@pytest.mark.parametrize("pace", [{"every_rows": 2, "every_ns": 0}, {"every_rows": 0, "every_ns": NS}])
def test_the_end_row_does_not_split_a_timestamp_either(pace: dict[str, int]) -> None:
    day = hand().quiet().quiet(seconds=0).quiet().day()
    market = replaying(tape_of(day), 1, **pace)
    zero = np.zeros(1, np.int64)
    market.reset(zero, zero, zero, zero + 1)
    market.advance(Orders.empty(1, REQUESTS))
    assert (market.state["row"][0], market.state["exhausted"][0]) == (2, 1)


# ---- halts ----------------------------------------------------------------------------------------------------------


def test_halt_refuses_new_orders_and_lets_cancels_pass() -> None:
    lane = Lane(hand().halt().quiet().quiet().halt(0).halt(1).quiet())
    bid, other = lane.bid(100, 10), lane.bid(99, 10)
    lane.step()
    lane.bid(98, 10), lane.buy(10), lane.replace(other, 1, 98, 10), lane.cancel(bid)
    assert lane.step() == [HALTED, HALTED, HALTED, ACCEPTED]
    assert lane.resting == {other: 10}
    lane.step(2)
    lane.bid(98, 10)
    assert lane.step() == [HALTED]  # quotes only
    lane.bid(98, 10)
    assert lane.step() == [ACCEPTED]


def test_order_that_arrives_in_a_halt_is_refused_and_what_it_replaces_is_cancelled() -> None:
    lane = Lane(hand().quiet().halt().quiet(), order_latency_ns=NS)
    bid = lane.bid(100, 10)
    lane.step()
    lane.buy(10), lane.replace(bid, 1, 99, 10)
    assert lane.step() == [ACCEPTED, ACCEPTED]
    assert not lane.fills and not lane.resting and lane.market.state["refused"][0] == 2


def test_nothing_fills_in_a_halt_or_by_an_auction_print() -> None:
    for rule in ("exact", "touch", "optimistic"):
        lane = Lane(hand().cross(90, 500).halt().execute(1, 99, 30).new(-1, 101, 30, 5), fills=rule)
        bid, offer = lane.bid(101, 10), lane.offer(103, 10)
        lane.step()
        assert lane.market.view.status[0, 0] == 3
        lane.step(3)
        assert not lane.fills and lane.resting == {bid: 10, offer: 10}


# ---- taking ---------------------------------------------------------------------------------------------------------


def test_market_order_walks_the_levels_and_pays_the_stated_price_beyond_them() -> None:
    lane = Lane(hand().quiet())
    order = lane.buy(130)
    lane.step()
    assert lane.fills == [(order, 103, 40), (order, 105, 70), (order, 107, 20)]  # 105 + (105 - 103)
    assert lane.market.last_fills().beyond_depth.tolist() == [False, False, True]
    assert lane.market.state["beyond"][0] == 20 and lane.cash == -(40 * 103 + 70 * 105 + 20 * 107)


def test_beyond_a_single_level_the_price_is_a_tick_worse() -> None:
    lane = Lane(Hand(BIDS, {103: 40}).quiet())
    order = lane.buy(50)
    lane.step()
    assert lane.fills == [(order, 103, 40), (order, 104, 10)]


def test_beyond_the_book_nothing_is_sold_below_one_tick() -> None:
    lane = Lane(Hand({10: 5, 2: 5}, ASKS).quiet())
    order = lane.sell(20)
    lane.step()
    assert lane.fills == [(order, 10, 5), (order, 2, 5), (order, 1, 10)]  # not at 2 - 8


def test_on_an_empty_side_the_levels_beyond_begin_at_the_last_known_mid() -> None:
    lane = Lane(Hand(BIDS, {103: 40}).execute(-1, 103, 40).quiet())
    lane.step()
    order = lane.buy(10)
    lane.step()
    assert lane.fills == [(order, 103, 10)]  # levels begin at the mid, 101.5 rounded up, and stand a tick apart as the bids do


def test_without_any_known_price_a_market_order_is_refused() -> None:
    lane = Lane(Hand(BIDS, {}).quiet())
    lane.buy(10)
    lane.step()
    assert not lane.fills and lane.market.state["refused"][0] == 1


def test_marketable_limit_takes_up_to_its_price_and_rests_in_front() -> None:
    lane = Lane(hand().quiet())
    bid = lane.bid(104, 100)
    lane.step()
    assert lane.fills == [(bid, 103, 40)] and lane.resting == {bid: 60} and lane.ahead(bid) == 0


@pytest.mark.parametrize(
    ("half_life_ns", "second", "third"),
    [(0, 0, 40), (-1, 0, 0), (NS, 0, 20), (2 * NS, 0, 28 - 16)],  # 40 - int(40 / sqrt 2) = 12
)
def test_consumed_depth_comes_back_with_its_half_life(half_life_ns: int, second: int, third: int) -> None:
    lane = Lane(hand().quiet().quiet(), half_life_ns=half_life_ns)
    orders = [lane.bid(103, 100), lane.bid(103, 100)]  # two in one decision: the second finds nothing
    lane.step()
    assert [lane.filled(order) for order in orders] == [40, second]
    again = lane.bid(103, 100)
    lane.step()
    assert lane.filled(again) == third


def test_closing_cancels_everything_and_trades_to_the_target() -> None:
    lane = Lane(hand().quiet().quiet())
    lane.buy(30), lane.bid(99, 10)
    lane.step()
    lane.market.close(np.zeros(1, np.int64), np.array([-10]))
    assert lane.position == -10 and not lane.resting and lane.cash == -30 * 103 + 40 * 100


# ---- money and doors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bps", "amount", "fee"),
    [
        (0.3, 1, 1),
        (0.3, 10, 3),
        (0.3, 7, 3),
        (-0.3, 7, -2),
        (-0.3, 10, -3),
        (0.0, 99, 0),
        (100.0, 1, 100),
        (-0.0001, 9, 0),
    ],
)
def test_fees_are_rounded_against_us(bps: float, amount: int, fee: int) -> None:
    assert (
        fee_of(amount, *fee_fraction(bps, 10_000)) == fee
    )  # 1 price unit and lot = 10,000 cash units: 0.3 bps of it = 0.3


def test_fees_and_rebates_of_a_round_trip() -> None:
    lane = Lane(hand().quiet().execute(-1, 103, 60 - 20), taker_fee_bps=3.0, maker_fee_bps=-2.0)
    lane.buy(10), lane.offer(104, 10)
    lane.step()
    taken = 10 * 103 * CASH * 3 // 10_000
    assert lane.market.view.fees[0] == taken and lane.market.view.cash[0] == -(10 * 103 * CASH) - taken
    lane = Lane(hand().new(1, 104, 10, 6), maker_fee_bps=-2.0)
    lane.offer(104, 10)
    lane.step()
    assert lane.market.view.fees[0] == -(10 * 104 * CASH * 2 // 10_000)
    assert lane.market.view.cash[0] == 10 * 104 * CASH - lane.market.view.fees[0]


def test_touch_fills_when_the_price_trades_whatever_is_ahead() -> None:
    lane = Lane(hand().new(1, 100, 5, 1).execute(1, 100, 7), fills="touch")
    bid = lane.bid(100, 10)
    lane.step()
    assert not lane.fills
    lane.step()
    assert lane.fills == [(bid, 100, 7)]


def test_optimistic_fills_whole_at_any_message_at_its_price_while_that_is_the_best() -> None:
    lane = Lane(hand().new(1, 99, 5, 1).new(1, 100, 5, 2), fills="optimistic")
    low, high = lane.bid(99, 700), lane.bid(100, 700)
    lane.step()
    assert not lane.fills
    lane.step()
    assert lane.fills == [(high, 100, 700)] and lane.resting == {low: 700}


def test_a_level_that_leaves_the_window_is_not_a_touch() -> None:
    lane = Lane(Hand({100: 50}, ASKS, levels=1).new(1, 101, 5, 1), fills="optimistic")
    lane.bid(100, 10)
    lane.step()
    assert not lane.fills


@pytest.mark.parametrize("side", [1, -1])
def test_optimistic_order_alone_on_an_empty_side_is_the_best(side: int) -> None:
    book: list[dict[int, int]] = [{}, ASKS] if side > 0 else [BIDS, {}]
    lane = Lane(Hand(*book).new(side, 101, 5, 1), fills="optimistic")
    order = lane.bid(101, 10) if side > 0 else lane.offer(101, 10)
    lane.step()
    assert lane.fills == [(order, 101, 10)]


def test_the_door_refuses_what_is_malformed_and_says_why() -> None:
    day = Hand({1000: 50}, {1030: 40}, instrument=Instrument("LOTS", tick=10, lot=5)).quiet()
    market = replaying(tape_of(day.day()), 1, every_rows=1)
    zero = np.zeros(1, np.int64)
    market.reset(zero, zero, zero, zero + 1)
    wrong = [(1005, 5, 1), (1000, 7, 1), (1000, 0, 1), (1000, -5, 1), (-10, 5, 1), (1000, 5, 0), (1000, 5, 2)]
    orders = Orders.empty(1, REQUESTS)
    for k, (price, quantity, side) in enumerate(wrong):
        orders.put(0, k, RequestType.LIMIT, side=side, price=price, quantity=quantity, id=k + 1)
    orders.put(0, 7, RequestType.REPLACE, side=1, price=1000, quantity=5, id=8, target=99)
    orders.put(0, 8, RequestType.LIMIT, side=1, price=1000, quantity=5)
    orders.put(0, 9, RequestType.CANCEL, id=77)
    market.advance(orders)
    assert market.outcome[0].tolist() == [MALFORMED] * 7 + [UNKNOWN, MALFORMED, UNKNOWN]
    assert market.state["refused"][0] == 9 and market.state["sent"][0] == 0


def test_more_own_orders_than_slots_are_refused() -> None:
    lane = Lane(hand().quiet().quiet())
    for _ in range(SLOTS + 1):
        lane.bid(90, 1)
    assert lane.step() == [ACCEPTED] * SLOTS + [NO_SLOT]
    lane.cancel(1)
    lane.bid(90, 1)
    assert (
        lane.step() == [ACCEPTED, NO_SLOT] and len(lane.resting) == SLOTS - 1
    )  # the slot is free after the cancel's arrival


def test_more_requests_than_a_decision_may_have_are_an_error() -> None:
    lane = Lane(hand())
    with pytest.raises(ConfigError, match="requests"):
        lane.market.advance(Orders.empty(1, REQUESTS + 1))
    with pytest.raises(ConfigError, match="requests"):
        lane.market.advance(Orders.empty(2, REQUESTS))


@pytest.mark.parametrize(
    "wrong",
    [
        {"fills": "best"},
        {"latency_ns": -1},
        {"latency_ns": (0, -1)},
        {"latency_ns": (0, 0, 0)},
        {"impact": "resilient 0 s"},
        {"taker_fee_bps": float("nan")},
    ],
)
def test_impossible_assumptions_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        ReplayConfig(**wrong)
