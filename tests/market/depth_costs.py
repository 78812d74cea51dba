"""What market orders cost on a shallow file of a day against the deeper file of the same day, and how shares are calibrated by it.

`judged` sends the same orders through the market of both: where the deeper file still shows all that an order takes it knows the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.ladder import APART, LOOKS
from emp_gym.types import TradingStatus
from tests.market.on_tape import replaying

TOGETHER = 4_000  # lanes


@dataclass(frozen=True)
class Sample:
    """Rows of both tapes at the same moments [n], and the side of the order."""

    row: np.ndarray
    deep_row: np.ndarray
    side: np.ndarray


def sampled(tape: TapeSet, deep: TapeSet, count: int, seed: int) -> Sample:
    """Moments at random at which both sides are quoted and trading is on."""
    rows, book = deep.rows, deep.book
    usable = (
        (rows["group_end"] == np.arange(len(rows)))
        & (rows["status"] == TradingStatus.TRADING)
        & (book["size"][:, :, 0] > 0).all(axis=1)
    )
    usable &= rows["time_ns"] >= tape.rows["time_ns"][0]
    rng = np.random.default_rng(seed)
    at = rng.choice(np.flatnonzero(usable), count)
    row = np.searchsorted(tape.rows["time_ns"], rows["time_ns"][at], side="right") - 1
    return Sample(row, at, rng.choice([1, -1], count))


def bought(tape: TapeSet, row: np.ndarray, side: np.ndarray, quantity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(price units paid, received where sold; lots beyond the file; what they alone cost; the worst visible price) of a market order of
    `quantity` lots at each row [n]."""
    paid, beyond, theirs = (np.zeros(len(row), np.int64) for _ in range(3))
    for first in range(0, len(row), TOGETHER):
        part = slice(first, first + TOGETHER)
        n = len(row[part])
        market = replaying(tape, n, every_rows=1, taker_fee_bps=0.0, maker_fee_bps=0.0)
        lanes = np.arange(n)
        market.reset(lanes, np.zeros(n, np.int64), row[part], np.full(n, len(tape.rows) - 1))
        market.close(lanes, side[part] * quantity)
        log = market.last_fills()
        assert (market.state["position"] == side[part] * quantity).all()
        np.add.at(paid[part], log.lane, log.price * log.quantity)
        np.add.at(beyond[part], log.lane, log.quantity * log.beyond_depth)
        np.add.at(theirs[part], log.lane, log.price * log.quantity * log.beyond_depth)
    return paid, beyond, theirs, ends(tape, row, side)[1]


def ends(tape: TapeSet, row: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst visible price of the side that an order of `side` takes from [n]."""
    levels = tape.book[row, np.where(side > 0, 1, 0)]
    last = np.maximum((levels["size"] > 0).sum(axis=1) - 1, 0)
    base = int(tape.days["base"][0])
    return base + levels["price"][:, 0], base + levels["price"][np.arange(len(row)), last]


def earlier(tape: TapeSet, row: np.ndarray, side: np.ndarray, tick: int) -> np.ndarray:
    """The price beyond a file by the earlier rule [n]."""
    best, worst = ends(tape, row, side)
    return np.maximum(worst + side * np.maximum(abs(worst - best), tick), tick)


def judged(tape: TapeSet, deep: TapeSet, multiples: tuple[int, ...], count: int, seed: int) -> list[dict[str, Any]]:
    """Of orders of so many typical sizes: cost per lot against the touch in ticks by the deeper file, and by how much the shallow one is
    off, by the rule and by the earlier one (the worst visible price plus its distance from the best one, for any quantity). First
    where the deeper file still shows all and the shallow one does not, then over all orders, by each file's own rule."""
    sample, tick = sampled(tape, deep, count, seed), deep.info[0].instrument.tick
    typical = int(np.median(deep.book["size"][deep.book["size"] > 0]))
    best, worst = ends(tape, sample.row, sample.side)
    found = []
    for multiple in multiples:
        quantity = multiple * typical
        true, hidden, deepest, _ = bought(deep, sample.deep_row, sample.side, quantity)
        paid, beyond, theirs, _ = bought(tape, sample.row, sample.side, quantity)
        before = paid - theirs + beyond * earlier(tape, sample.row, sample.side, tick)
        before_deep = true - deepest + hidden * earlier(deep, sample.deep_row, sample.side, tick)
        known, reached = hidden == 0, (hidden == 0) & (beyond > 0)
        cost = sample.side * (true / quantity - best) / tick
        off = {
            "": sample.side * (paid - true) / quantity / tick,
            "earlier_": sample.side * (before - before_deep) / quantity / tick,
        }
        record: dict[str, Any] = {
            "levels": tape.levels, "lots": quantity, "orders": count, "shown_by_the_deeper": int(known.sum()),
            "beyond_the_shallow": int(reached.sum()), "cost": _mean(cost[reached]), "cost_of_all": _round(cost.mean()),
        }  # fmt: skip
        for rule, error in off.items():
            assert (error[known & (beyond == 0)] == 0).all(), "what both files show costs the same"
            some = error[reached]
            record |= {
                f"{rule}bias": _mean(some), f"{rule}bias_se": _round(some.std() / np.sqrt(len(some))) if len(some) else None,
                f"{rule}mean_absolute_error": _mean(abs(some)), f"{rule}bias_of_all": _round(error.mean()),
            }  # fmt: skip
        found.append(record)
    return found


def calibrated(tape: TapeSet, deep: TapeSet, multiples: tuple[int, ...], count: int, seed: int) -> float:
    """The share (of the mean distance between levels, or of the spread where there is one level) under which orders of these sizes cost
    as much as by the deeper file in the mean, over all that it still shows: the cost of a ladder is linear in its step."""
    sample = sampled(tape, deep, count, seed)
    typical = int(np.median(deep.book["size"][deep.book["size"] > 0]))
    best, worst = ends(tape, sample.row, sample.side)
    looked = sample.row[:, None] - APART * np.arange(LOOKS)
    there, book = looked >= 0, tape.book[np.maximum(looked, 0)]
    shown = (book["size"] > 0) & there[:, :, None, None]
    size = (book["size"] * shown).sum(axis=(1, 2, 3)) / shown.sum(axis=(1, 2, 3))
    price, last = book["price"].astype(np.int64), shown.sum(axis=3) - 1
    furthest = np.take_along_axis(price, np.maximum(last, 0)[..., None], axis=3)[..., 0]
    if tape.levels == 1:
        both = shown[:, :, :, 0].all(axis=2)
        wide = ((price[:, :, 1, 0] - price[:, :, 0, 0]) * both).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
    else:
        wide = (abs(furthest - price[..., 0]) * (last > 0)).sum(axis=(1, 2)) / np.maximum(last, 0).sum(axis=(1, 2))
    missing, each = 0.0, 0.0
    for quantity in (multiple * typical for multiple in multiples):
        true, hidden, *_ = bought(deep, sample.deep_row, sample.side, quantity)
        paid, beyond, theirs, _ = bought(tape, sample.row, sample.side, quantity)
        full = beyond // size
        steps = size * full * (full + 1) / 2 + (beyond - full * size) * (full + 1)
        of = hidden == 0
        missing += float((sample.side * (true - (paid - theirs + beyond * worst)) / quantity)[of].sum())
        each += float((steps * wide / quantity)[of].sum())
    return round(missing / each, 3)


def _round(value: float) -> float:
    return round(float(value), 3)


def _mean(values: np.ndarray) -> float | None:
    """None of nothing."""
    return _round(values.mean()) if len(values) else None
