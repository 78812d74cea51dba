"""The place in the queue, computed by hand: who is ahead, who moves us forward, who fills us."""

from __future__ import annotations

from emp_gym.types import OrderAck
from tests.market.by_hand import Hand, Lane

BIDS, ASKS = {100: 50, 99: 60}, {103: 40, 104: 70}


def hand(**options: int) -> Hand:
    return Hand(BIDS, ASKS, **options)


def test_an_order_joins_behind_the_visible_volume() -> None:
    lane = Lane(hand().quiet())
    bid, offer, inside = lane.bid(100, 10), lane.offer(104, 10), lane.bid(101, 10)
    lane.step()
    assert (lane.ahead(bid), lane.ahead(offer), lane.ahead(inside)) == (50, 70, 0)


def test_an_execution_eats_the_volume_ahead_and_then_us() -> None:
    lane = Lane(hand().execute(1, 100, 30).new(1, 100, 25, 1).execute(1, 100, 28).execute(1, 100, 5))
    bid = lane.bid(100, 10)
    lane.step()
    assert lane.ahead(bid) == 20 and not lane.fills
    lane.step(2)
    assert lane.fills == [(bid, 100, 8)] and lane.resting == {bid: 2}  # 28 - 20 ahead
    lane.step()
    assert lane.filled(bid) == 10 and lane.position == 10 and not lane.resting


def test_cancel_of_earlier_order_moves_us_forward() -> None:
    lane = Lane(hand().new(1, 100, 20, 1).quiet().delete(1, 100, 20, 1))
    lane.step()
    bid = lane.bid(100, 10)
    lane.step()
    assert lane.ahead(bid) == 70
    lane.step()
    assert lane.ahead(bid) == 50


def test_partial_cancel_of_earlier_order_moves_us_forward_by_its_size() -> None:
    lane = Lane(hand().new(1, 100, 20, 1).quiet().reduce(1, 100, 5, 1))
    lane.step()
    bid = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(bid) == 65


def test_cancel_of_later_order_does_not() -> None:
    lane = Lane(hand().new(1, 100, 20, 1).delete(1, 100, 20, 1))
    bid = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(bid) == 50


def test_an_order_born_in_the_row_after_which_we_arrive_is_earlier() -> None:
    lane = Lane(hand().new(1, 100, 20, 1).new(1, 100, 30, 2).delete(1, 100, 20, 1))
    lane.step()
    bid = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(bid) == 50


def test_cancel_of_an_order_whose_birth_was_never_seen_counts_as_earlier() -> None:
    lane = Lane(hand().reduce(1, 100, 15, 777))
    bid = lane.bid(100, 10)
    lane.step()
    assert lane.ahead(bid) == 35


def test_volume_ahead_is_never_more_than_what_is_visible_and_not_behind() -> None:
    day = hand().new(1, 100, 30, 1).execute(1, 100, 30, 1).execute(1, 100, 40, 2)
    lane = Lane(day)
    lane.step()
    bid = lane.bid(100, 10)  # 80 ahead
    lane.step()
    assert lane.ahead(bid) == 50
    other = Lane(hand().new(1, 100, 30, 5).out_of_sight(1, 100, 45).quiet().reduce(1, 100, 5, 5))
    bid = other.bid(100, 10)  # 50 ahead, 30 behind; then the book shows 45, and no message says who has gone
    other.step(2)
    assert other.ahead(bid) == 45
    other.step()
    assert other.ahead(bid) == 40


def test_own_orders_at_one_price_share_an_execution_in_order_of_age() -> None:
    lane = Lane(hand().quiet().execute(1, 100, 50).new(1, 100, 100, 1).execute(1, 100, 12, 1).execute(1, 100, 100, 1))
    first, second = lane.bid(100, 10), lane.bid(100, 10)
    lane.step(4)
    assert lane.fills == [(first, 100, 10), (second, 100, 2)]
    lane.step()
    assert lane.position == 20


def test_volume_between_two_own_orders_is_served_between_them() -> None:
    lane = Lane(hand().new(1, 100, 30, 1).execute(1, 100, 57).execute(1, 100, 20, 1))
    first = lane.bid(100, 5)
    lane.step()
    second = lane.bid(100, 5)  # 80 ahead: 50 older than `first`, 30 younger
    lane.step()
    assert (
        lane.fills == [(first, 100, 5)] and lane.ahead(second) == 23
    )  # 57 - 5 to us took 52 of 80, but 23 are left to see
    lane.step()
    assert lane.ahead(second) == 3 and lane.filled(second) == 0


def test_a_better_own_price_is_served_before_an_older_order() -> None:
    lane = Lane(hand().quiet().execute(1, 100, 8))
    old = lane.bid(100, 10)
    lane.step()
    young = lane.bid(101, 5)
    lane.step()
    assert lane.fills == [(young, 101, 5)] and lane.ahead(old) == 42  # 3 of the 8 reach the queue, 42 are left to see


def test_an_execution_at_a_worse_price_fills_us_whatever_is_ahead() -> None:
    lane = Lane(hand().execute(1, 99, 20))
    bid = lane.bid(100, 30)
    lane.step()
    assert lane.fills == [(bid, 100, 20)] and lane.resting == {bid: 10}


def test_an_execution_at_a_better_price_does_not() -> None:
    lane = Lane(hand().execute(1, 100, 50))
    lane.bid(99, 30)
    lane.step()
    assert not lane.fills


def test_ask_that_arrives_through_our_bid_fills_us() -> None:
    lane = Lane(hand().new(-1, 101, 30, 1).new(-1, 102, 30, 2))
    high, low, out = lane.bid(102, 20), lane.bid(101, 20), lane.bid(100, 20)
    lane.step()
    assert lane.fills == [(high, 102, 20), (low, 101, 10)] and lane.ahead(out) == 50


def test_bid_that_arrives_at_our_offer_fills_us() -> None:
    lane = Lane(hand().new(1, 101, 30, 1).new(1, 102, 30, 2))
    offer = lane.offer(102, 40)
    lane.step()
    assert not lane.fills
    lane.step()
    assert lane.fills == [(offer, 102, 30)] and lane.position == -30 and lane.cash == 30 * 102


def test_replace_loses_the_place() -> None:
    lane = Lane(hand().execute(1, 100, 45).new(1, 100, 60, 1).quiet())
    old = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(old) == 5
    new = lane.replace(old, 1, 100, 10)
    assert lane.step() == [OrderAck.ACCEPTED]
    assert lane.resting == {new: 10} and lane.ahead(new) == 65


def test_level_that_comes_back_smaller_moves_us_forward() -> None:
    day = Hand({100: 50}, ASKS, levels=1).new(1, 101, 5, 1).out_of_sight(1, 100, 20).delete(1, 101, 5, 1)
    lane = Lane(day)
    bid = lane.bid(100, 10)
    lane.step()
    assert lane.ahead(bid) == 50  # out of sight: the last known
    lane.step()
    assert lane.ahead(bid) == 20


def test_orders_first_seen_after_a_spell_out_of_sight_are_behind_us() -> None:
    day = Hand({100: 50}, ASKS, levels=1).reduce(1, 100, 5, 88).new(1, 101, 5, 1).out_of_sight(1, 100, 75)
    day.delete(1, 101, 5, 1).delete(1, 100, 30, 77).delete(1, 100, 10, 88)
    lane = Lane(day)
    bid = lane.bid(100, 10)
    lane.step(3)
    assert lane.ahead(bid) == 45
    lane.step()
    assert lane.ahead(bid) == 45  # 77 was never seen before the spell
    lane.step()
    assert lane.ahead(bid) == 35  # 88 was


def test_an_order_beyond_the_window_has_an_unknown_place_until_its_level_enters() -> None:
    day = (
        Hand({100: 50, 98: 60}, ASKS, levels=2).out_of_sight(1, 95, 30).quiet().delete(1, 98, 60, 7).execute(1, 100, 50)
    )
    lane = Lane(day.execute(1, 95, 29).execute(1, 95, 1).new(1, 95, 5, 3).execute(1, 95, 5, 3))
    bid = lane.bid(95, 10)
    lane.step()
    assert lane.ahead(bid) == -1 and lane.market.state["unknown_place"][0] == 1
    lane.step()
    assert lane.ahead(bid) == 30
    lane.step(4)
    assert lane.ahead(bid) == 0 and not lane.fills
    lane.step()
    assert lane.fills == [(bid, 95, 5)]


def test_an_empty_level_that_enters_the_window_puts_us_first() -> None:
    day = Hand({100: 50, 98: 60}, ASKS, levels=2).quiet().delete(1, 98, 60, 7).new(1, 95, 30, 8).execute(1, 100, 50)
    lane = Lane(day.execute(1, 95, 4, 8))
    bid = lane.bid(95, 10)
    lane.step()
    assert lane.ahead(bid) == -1
    lane.step(2)
    assert lane.ahead(bid) == 0
    lane.step(2)
    assert lane.fills == [(bid, 95, 4)]


def test_an_order_beyond_the_window_fills_on_a_trade_through() -> None:
    day = Hand({100: 50, 98: 60}, ASKS, levels=2).out_of_sight(1, 95, 30).quiet()
    lane = Lane(day.new(-1, 94, 7, 9))
    bid = lane.bid(95, 10)
    lane.step(2)
    assert lane.fills == [(bid, 95, 7)]


def test_a_side_that_is_not_full_has_no_unknown_places() -> None:
    lane = Lane(hand().quiet())
    bid = lane.bid(50, 10)
    lane.step()
    assert lane.ahead(bid) == 0


def test_hidden_execution_prints_but_fills_nothing() -> None:
    lane = Lane(hand().hidden(100, 500).hidden(99, 500))
    lane.bid(101, 10), lane.offer(103, 10)
    lane.step(2)
    assert not lane.fills and lane.market.view.bought[0, 0] == lane.market.view.sold[0, 0] == 0


def test_own_orders_do_not_trade_with_each_other() -> None:
    lane = Lane(hand().quiet().quiet())
    lane.bid(102, 10)
    lane.step()
    offer = lane.offer(102, 10)
    lane.step()
    assert not lane.fills and len(lane.resting) == 2 and lane.ahead(offer) == 0


def test_an_older_order_that_is_not_reached_keeps_younger_ones_waiting() -> None:
    """After a spell and a damaged row the younger order may know of less ahead: age still comes first."""
    day = Hand({100: 50}, ASKS, levels=1).new(1, 101, 5, 1).out_of_sight(1, 100, 60).delete(1, 101, 5, 1)
    day.out_of_sight(1, 100, 200).delete(1, 100, 30, 77).execute(1, 100, 40).execute(1, 100, 20)
    lane = Lane(day)
    old = lane.bid(100, 4)
    lane.step(2)
    young = lane.bid(100, 9)
    lane.step()
    assert (lane.ahead(old), lane.ahead(young)) == (50, 30)  # 77 came while `old` could not see its level, perhaps
    lane.step()
    assert (lane.ahead(old), lane.ahead(young)) == (10, 0) and not lane.fills
    lane.step()
    assert lane.fills == [(old, 100, 4), (young, 100, 9)]  # 20 lots are more than the 10 that can be older than `old`


def test_a_crossing_thousands_of_rows_ahead_is_found() -> None:
    lane = Lane(hand().quiet(2_500).execute(1, 99, 20), every_rows=300)
    alone, below = lane.bid(101, 30), lane.bid(90, 30)
    lane.step(8)
    assert not lane.fills and lane.resting == {alone: 30, below: 30}
    lane.step()
    assert lane.fills == [(alone, 101, 20)]
