"""The place in the queue once its level was out of sight: by hand, and against an exchange that knows every order."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data.shallow import recorded, shallow, shallow_tape
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market import depths
from emp_gym.market.depths import NEVER, JoiningOrders
from emp_gym.market.records import KEPT
from emp_gym.types import NS, ConfigError, DataError, MessageType, RecordedDay
from tests.market.by_hand import Hand, Lane
from tests.market.duel import synthetic_day, tape_of, walk
from tests.market.test_ghost import amazon
from tests.market.test_judge import CONFIGS
from tests.reference_market import Rules

ASKS = {103: 40}
DAYS = 20


def spell(day: Hand, volume: int) -> Hand:
    """The level of 100 leaves a file of one level behind a better bid, and comes back with `volume` lots: two rows."""
    return day.new(1, 101, 5, 9).out_of_sight(1, 100, volume).delete(1, 101, 5, 9)


def test_who_stood_behind_before_the_spell_is_not_taken_from_those_who_came_after_it() -> None:
    """Unseen, 20 of the 50 ahead were cancelled. The cancel of an older follower then tells it."""
    day = spell(Hand({100: 50}, ASKS, levels=1).new(1, 100, 30, 1), 60).new(1, 100, 40, 2).delete(1, 100, 30, 1)
    lane = Lane(day)
    bid = lane.bid(100, 10)
    lane.step(3)
    assert lane.ahead(bid) == 50  # 60 are there, of which none is known to be behind
    lane.step()
    assert lane.ahead(bid) == 50  # 100, of which 40 are
    lane.step()
    assert lane.ahead(bid) == 30  # 70, of which 40 are


def test_what_stood_behind_may_have_been_cancelled_unseen() -> None:
    """Unseen, 30 behind were cancelled: the 50 that come back are all ahead, and 40 executed lots do not reach us."""
    day = spell(Hand({100: 50}, ASKS, levels=1).new(1, 100, 30, 1), 50).execute(1, 100, 40, 77).execute(1, 100, 10, 77)
    lane = Lane(day)
    bid = lane.bid(100, 10)
    lane.step(3)
    assert lane.ahead(bid) == 50
    lane.step(2)
    assert lane.ahead(bid) == 0 and not lane.fills


def test_the_execution_of_a_younger_order_reaches_us_whatever_could_be_ahead() -> None:
    day = spell(Hand({100: 50}, ASKS, levels=1).new(1, 100, 30, 1), 30).execute(1, 100, 10, 1)
    lane = Lane(day)
    bid = lane.bid(100, 25)
    lane.step(3)
    assert lane.ahead(bid) == 30 and not lane.fills
    lane.step()
    assert lane.fills == [(bid, 100, 10)] and lane.resting == {bid: 15} and lane.ahead(bid) == 0


def test_a_better_own_price_and_the_proof_at_one_message() -> None:
    """Ten lots are executed at 100: four go to our better bid, the rest to the one that the message proves to be the first."""
    day = spell(Hand({100: 50}, ASKS, levels=1).new(1, 100, 30, 1), 30).quiet().execute(1, 100, 10, 1)
    lane = Lane(day)
    bid = lane.bid(100, 25)
    lane.step(3)
    better = lane.bid(102, 4)
    lane.step(2)
    assert lane.fills == [(better, 102, 4), (bid, 100, 6)]


def test_the_execution_of_an_older_order_says_that_all_before_it_have_gone() -> None:
    """50 without name, then orders 1 and 2 of 20 and 30 lots, then we: after the spell order 1 is executed."""
    day = Hand({100: 50}, ASKS, levels=1).new(1, 100, 20, 1).new(1, 100, 30, 2)
    spell(day, 130).execute(1, 100, 5, 1).execute(1, 100, 10, 2).execute(1, 100, 4, 77)
    lane = Lane(day)
    lane.step(2)
    bid = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(bid) == 100
    lane.step()
    assert lane.ahead(bid) == 15 + 30
    lane.step()
    assert lane.ahead(bid) == 20  # order 1 has gone
    lane.step()
    assert lane.fills == [(bid, 100, 4)]  # 77, whose birth was not seen, is not before order 2: it came after us


def test_an_order_beyond_the_window_is_reached_by_the_execution_of_a_younger_one() -> None:
    day = Hand({100: 50, 98: 60}, {103: 40}, levels=2).out_of_sight(1, 95, 60).quiet().delete(1, 98, 60, 7)
    lane = Lane(day.new(1, 95, 40, 3).execute(1, 95, 5, 3))
    bid = lane.bid(95, 10)
    lane.step(3)
    assert lane.ahead(bid) == 60
    lane.step()
    assert lane.fills == [(bid, 95, 5)]


def test_a_level_that_was_seen_to_be_empty_has_nobody_ahead() -> None:
    """Beyond the window at first, then passed by the book without being there, then back with 70."""
    day = (
        Hand({100: 50}, ASKS, levels=1)
        .out_of_sight(1, 90, 10)
        .delete(1, 100, 50, 7)
        .new(1, 96, 5, 9)
        .out_of_sight(1, 95, 70)
    )
    lane = Lane(day.delete(1, 96, 5, 9).execute(1, 95, 6, 77))
    bid = lane.bid(95, 10)
    lane.step(2)
    assert lane.ahead(bid) == -1
    lane.step()
    assert lane.ahead(bid) == 0
    lane.step()
    assert lane.fills == [(bid, 95, 6)]


def test_an_order_without_birth_is_younger_where_all_ahead_were_born_in_sight() -> None:
    day = spell(Hand({99: 60}, ASKS, levels=1).new(1, 100, 20, 1), 50).execute(1, 100, 7, 77)
    lane = Lane(day)
    lane.step()
    bid = lane.bid(100, 10)
    lane.step(2)
    assert lane.ahead(bid) == 20
    lane.step()
    assert lane.fills == [(bid, 100, 7)]


def test_an_order_without_birth_may_be_ahead_or_behind_and_what_it_cancels_is_not_taken_from_those_ahead() -> None:
    day = (
        spell(Hand({100: 50}, ASKS, levels=1), 120)
        .reduce(1, 100, 30, 77)
        .execute(1, 100, 30, 78)
        .execute(1, 100, 25, 79)
    )
    lane = Lane(day)
    bid = lane.bid(100, 40)
    lane.step(3)
    assert lane.ahead(bid) == 50  # perhaps 77 is behind
    lane.step()
    assert lane.ahead(bid) == 20  # 78 was ahead, or else nobody is
    lane.step()
    assert lane.fills == [(bid, 100, 25)]  # 79 is not among 20 lots


# ---- an exchange that knows every order -----------------------------------------------------------------------------


@cache
def exchange_day(seed: int, rows: int = 600) -> RecordedDay:
    """A day of random limit orders, cancels and executions in order of price and time, every level in the file."""
    rng = random.Random(seed)
    day = Hand({97: 9}, {103: 9}, levels=20)
    queues = {(1, 97): [[1, 9]], (-1, 103): [[2, 9]]}  # (side, price) -> [order, lots], first come first
    number = 2
    while len(day.rows) < rows:
        side = rng.choice((1, -1))
        mine, other = sorted(day.book[side], reverse=side > 0), sorted(day.book[-side], reverse=side < 0)
        orders = [(key, entry) for key, queue in queues.items() for entry in queue if key[0] == side]
        choice = rng.random()
        if len(orders) < 6 or choice < 0.5:
            price = mine[0] - side * rng.choice((-1, 0, 0, 0, 0, 1, 1, 2))
            price = max(91, min(109, price if side * price < side * other[0] else mine[0]))
            number += 1
            lots = rng.choice((1, 5, 5, 8, 20))
            queues.setdefault((side, price), []).append([number, lots])
            day.new(side, price, lots, number)
        elif choice < 0.82 or len(mine) < 3:
            key, entry = rng.choice(orders)
            lots = entry[1] if rng.random() < 0.7 else rng.randint(1, entry[1])
            (day.delete if lots == entry[1] else day.reduce)(*key, lots, entry[0])
            less(queues, key, entry, lots)
        else:
            key = side, mine[0]
            entry = queues[key][0]
            lots = rng.randint(1, entry[1])
            day.execute(*key, lots, entry[0])
            less(queues, key, entry, lots)
    return day.day()


def less(queues: dict[tuple[int, int], list[list[int]]], key: tuple[int, int], entry: list[int], lots: int) -> None:
    entry[1] -= lots
    if not entry[1]:
        queues[key].remove(entry)


def true_fill(day: RecordedDay, born: int, until: int, side: int, price: int) -> int:
    """Row in which an order that came after row `born` would have traded first, -1 for none up to row `until`.

    It is when the exchange goes behind it: an execution at its price of an order that came later, or through its price.
    """
    rows = list(zip(day.kind.tolist(), day.price.tolist(), day.side.tolist(), day.order_id.tolist()))
    came = {order: born + 1 + i for i, (kind, _, _, order) in enumerate(rows[born + 1 : until + 1]) if kind == MessageType.NEW}
    for r in range(born + 1, until + 1):
        kind, at, where, order = rows[r]
        if kind == MessageType.EXECUTE and where == side and (side * at < side * price or (at == price and order in came)):
            return r
        if kind == MessageType.NEW and where == -side and side * at <= side * price:
            return r
    return -1


@cache
def placed(seed: int, count: int = 150, hold: int = 120) -> tuple[JoiningOrders, list[int]]:
    """Orders near the touch at random rows, and the time of each one's true fill."""
    day = exchange_day(seed)
    rng, rows = random.Random(seed), len(day.kind)
    made, truth = [], []
    while len(made) < count:
        r, side = rng.randrange(rows - hold), rng.choice((1, -1))
        s = 0 if side > 0 else 1
        if not day.book_size[r, :, 0].all():
            continue
        touch, other = int(day.book_price[r, s, 0]), int(day.book_price[r, 1 - s, 0])
        price = touch - side * rng.choice((0, 0, 0, 0, 1, 2, 3, -1))
        if side * price >= side * other:
            continue
        made.append((int(day.time_ns[r]), int(day.time_ns[r + hold]), side, touch, price))
        fill = true_fill(day, r, r + hold, side, price)
        truth.append(NEVER if fill < 0 else int(day.time_ns[fill]))
    return JoiningOrders(*(np.array(column, np.int64) for column in zip(*made))), truth


def against_truth(levels: int, births: int = 1) -> tuple[int, int, int, int]:
    """(earlier than the exchange, at its time, later, out of sight) over some days in so many levels."""
    early = same = late = hidden = 0
    for seed in range(DAYS):
        day = exchange_day(seed)
        orders, truth = placed(seed)
        tape = tape_of(shallow(day, levels) if levels < 20 else day)
        found, out = depths.first_fills(tape, orders, births=births)
        when = [np.where(times == NEVER, np.iinfo(np.int64).max, times) for times in (found, np.array(truth))]
        early, late = early + int((when[0] < when[1]).sum()), late + int((when[0] > when[1]).sum())
        same += int((when[0] == when[1]).sum())
        hidden += int(out.sum())
    return early, same, late, hidden


def test_where_every_order_is_in_sight_fills_are_those_of_the_exchange() -> None:
    assert against_truth(20) == (0, 150 * DAYS, 0, 0)


@pytest.mark.parametrize(("levels", "latest"), [(1, 0.005), (2, 0.002), (3, 0.002)])
def test_a_shallow_file_never_fills_earlier_than_the_exchange(levels: int, latest: float) -> None:
    early, _, late, hidden = against_truth(levels)
    assert early == 0 and hidden > 100
    assert late < latest * 150 * DAYS


@pytest.mark.parametrize("births", [0, KEPT])
def test_the_exchange_catches_the_rules_that_ignore_births_and_that_keep_what_stood_behind(births: int) -> None:
    assert against_truth(1, births)[0] > 0


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("fills", ["exact", "touch"])
def test_kernel_and_slow_judge_agree_on_shallow_days(levels: int, fills: str) -> None:
    spells = 0
    for name, rules in (
        ("ten levels", Rules(fills, every_rows=6)),
        ("one tick, thin", Rules(fills, order_latency_ns=20 * NS)),
    ):
        day = shallow(synthetic_day(CONFIGS[name]), levels)
        for duel in walk(day, rules, lanes=6, steps=120, seed=levels):
            spells += sum(own.level_left is not None for judge in duel.judges for own in judge.orders)
    for seed in range(3):
        for duel in walk(
            shallow(exchange_day(seed), levels), Rules(fills, every_rows=2), lanes=6, steps=150, seed=seed
        ):
            spells += sum(own.level_left is not None for judge in duel.judges for own in judge.orders)
    assert spells > 500


# ---- shallow days and the recorded one ------------------------------------------------------------------------------


def test_a_shallow_day_has_the_rows_that_touch_its_levels() -> None:
    """Row by row: the first two levels of either side, messages at them, and those at no level."""
    day = synthetic_day(CONFIGS["ten levels"])
    found, kept = shallow(day, 2), [0]
    for r in range(1, len(day.kind)):
        s = 0 if day.side[r] > 0 else 1
        levels = {
            int(p) for at in (r - 1, r) for p, lots in zip(day.book_price[at, s, :2], day.book_size[at, s, :2]) if lots
        }
        if day.kind[r] not in (1, 2, 3, 4) or int(day.price[r]) in levels:
            kept.append(r)
    assert (found.time_ns == day.time_ns[kept]).all() and (found.order_id == day.order_id[kept]).all()
    assert (found.book_price == day.book_price[kept][:, :, :2]).all() and (
        found.book_size == day.book_size[kept][:, :, :2]
    ).all()
    with pytest.raises(ConfigError, match="levels must be 1 to 9"):
        shallow(day, 10)


def test_the_day_of_a_tape_is_the_day_that_it_was_made_from() -> None:
    day = synthetic_day(CONFIGS["one tick, thin"])
    back = recorded(tape_of(day))
    for name in ("time_ns", "kind", "size", "price", "side", "book_price", "book_size"):
        assert (getattr(back, name) == getattr(day, name)).all(), name
    visible = (day.kind >= 1) & (day.kind <= 4)
    assert len(set(zip(day.order_id[visible], back.order_id[visible]))) == len(set(back.order_id[visible]))


def test_files_of_two_days_are_refused() -> None:
    day, other = (tape_of(synthetic_day(CONFIGS[name])) for name in ("ten levels", "two levels, wide"))
    with pytest.raises(DataError, match="of the same day"):
        depths.compare(other, day, depths.sampled(other, day, 50, NS, 0))


def amazon_pair(folder: Path, levels: int) -> tuple[TapeSet, TapeSet]:
    deep = amazon(folder)
    return shallow_tape(deep, levels), deep


@pytest.mark.parametrize(("levels", "later"), [(1, 0.006), (2, 0.002)])
def test_the_deeper_file_of_the_recorded_day_finds_no_fill_too_early(
    lobster_dir: Path, levels: int, later: float
) -> None:
    tape, deep = amazon_pair(lobster_dir, levels)
    found = depths.compare(tape, deep, depths.sampled(tape, deep, 20_000, 600 * NS, 7))
    assert found.earlier == found.only_shallow == 0 and found.out_of_sight > 10_000
    assert found.later + found.only_deeper < later * found.orders


def test_the_deeper_file_of_the_recorded_day_catches_the_rule_that_keeps_what_stood_behind(lobster_dir: Path) -> None:
    tape, deep = amazon_pair(lobster_dir, 1)
    found = depths.compare(tape, deep, depths.sampled(tape, deep, 20_000, 600 * NS, 7), births=KEPT)
    assert found.earlier + found.only_shallow > 50
