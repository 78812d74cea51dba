"""The recorded day judges the queue model; a slow ghost judges the count."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from emp_gym.data.lobster import reader
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market import queue_validation as ghost
from emp_gym.types import MessageType, RecordedDay, TradingStatus
from tests.market.by_hand import Hand
from tests.market.duel import damaged, synthetic_day, tape_of
from tests.reference_market import Day, Own, born_in_sight, look_at_front, move

CONFIGS = {
    "one tick": DayConfig(seed=41, rows=2_500, halts=1, thin=True, stressed=0.5),
    "wide, three levels": DayConfig(seed=42, rows=2_500, tick_regime="wide", levels=3),
    "two levels": DayConfig(seed=43, rows=2_500, levels=2, thin=True, stressed=0.6),
}


def slow_judge(recorded: RecordedDay) -> dict[str, int]:
    """Ghost by ghost, row by row: the rules of reference/lobster.md in the simplest words."""
    day, ids = Day(recorded), recorded.order_id.tolist()
    rows = day.rows
    last, counts = len(rows) - 1, dict.fromkeys(ghost._FIELDS, 0)
    for born, row in enumerate(rows):
        if row.kind != MessageType.NEW:
            continue
        counts["orders"] += 1
        executed, ended = real_end(rows, ids, born)
        end = min(executed, ended)
        levels = [event for r in range(born, min(end, last) + 1) for event in rows[r].events]
        out = row.price not in row.book[row.side] or any(
            event.kind == MessageType.EVICT and (event.side, event.price) == (row.side, row.price) for event in levels
        )
        unseen = row.price not in row.book[row.side]
        judged = not out and end <= last
        counts["orders_judged" if judged else "orders_out_of_sight" if out else "orders_unfinished"] += 1
        if end > last or (unseen and executed > ended):
            continue
        filled_at, ahead = follow(day, ids, born, min(ended, last), end)
        if executed <= ended:
            counts["executed_all"] += 1
            counts["executed_all_nothing_ahead"] += ahead == 0
            counts["executed_after_spell"] += out
            counts["executed_after_spell_nothing_ahead"] += out and ahead == 0
        if unseen:
            continue
        name = "spell_" if out else ""
        counts["spell_judged"] += out
        if executed > ended:
            counts[name + ("agree" if filled_at is None or filled_at >= end else "false_fills")] += 1
            continue
        counts[name + ("executed" if out else "orders_executed")] += 1
        if filled_at is None:
            counts[name + "missed"] += 1
        else:
            counts[name + ("early" if filled_at < end else "agree" if filled_at == end else "late")] += 1
    return counts


def real_end(rows: list, ids: list[int], born: int) -> tuple[int, int]:
    """Rows of the order's first execution and of its end; far away when they do not come."""
    never, left = len(rows) + 10**6, rows[born].size
    executed = ended = never
    for r in range(born + 1, len(rows)):
        if ids[r] != ids[born] or rows[r].kind not in (MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE):
            continue
        left -= rows[r].size
        if rows[r].kind == MessageType.EXECUTE:
            executed = min(executed, r)
        if rows[r].kind == MessageType.DELETE or left <= 0:
            ended = min(ended, r)
    return executed, ended


def follow(day: Day, ids: list[int], born: int, stop: int, end: int) -> tuple[int | None, int]:
    """(row of the ghost's first fill, None if none comes up to `stop`; volume ahead just before row `end`)."""
    rows = day.rows
    side, price, size = rows[born].side, rows[born].price, rows[born].size
    ghost = Own(1, side, price, 1 << 40, False, 0, 0, live=True, born=born, counted=size)
    ghost.ahead, ghost.named = max(rows[born].book[side].get(price, 0) - size, 0), born_in_sight(day, side, price, born)
    filled_at, ahead_at_end = None, ghost.ahead
    for r in range(born + 1, stop + 1):
        if r == end:
            ahead_at_end = ghost.ahead
        row = rows[r]
        here = [event for event in row.events if (event.side, event.price) == (side, price)]
        if row.status == TradingStatus.TRADING:
            for event in here:
                look_at_front(ghost, event)
            through = row.kind == MessageType.EXECUTE and row.side == side and side * row.price < side * price
            against = row.kind == MessageType.NEW and row.side == -side and side * row.price <= side * price
            at = row.kind == MessageType.EXECUTE and row.side == side and row.price == price
            if filled_at is None and (through or against or (at and row.size > ghost.ahead)):
                filled_at = r
            if at:
                ghost.ahead = max(ghost.ahead - row.size, 0)
        for event in here:
            move(day, ghost, event, r)
    return filled_at, ahead_at_end


@pytest.mark.parametrize("harm", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_slow_judge_and_kernel_count_the_same(name: str, harm: bool) -> None:
    day = synthetic_day(CONFIGS[name])
    day = damaged(day, 3) if harm else day
    counts = ghost.judge(tape_of(day))
    assert counts == slow_judge(day)
    assert (
        counts["orders_judged"] + counts["orders_out_of_sight"] + counts["orders_unfinished"] == counts["orders"] > 500
    )
    parts = ("agree", "false_fills", "missed", "early", "late")
    assert sum(counts[f"spell_{part}"] for part in parts) == counts["spell_judged"]
    assert sum(counts[part] for part in parts) == counts["orders_judged"] and counts["orders_executed"] > 20
    if harm:
        assert sum(counts[part] for part in parts[1:]) > 0  # damage makes the model err: the count is not blind


def test_on_clean_synthetic_days_the_model_is_always_right() -> None:
    for config in CONFIGS.values():
        counts = ghost.judge(tape_of(synthetic_day(config)))
        assert counts["agree"] == counts["orders_judged"]


def test_a_mutant_that_ignores_births_is_worse() -> None:
    tape = tape_of(synthetic_day(CONFIGS["one tick"]))
    assert ghost.judge(tape, births=False)["agree"] < ghost.judge(tape)["agree"]


def test_ghosts_by_hand() -> None:
    """Order 2 stands behind 1: 1 is cancelled, an execution of 50 + 5 reaches 2; 3, younger, is deleted unexecuted."""
    day = Hand({100: 50}, {103: 40}).new(1, 100, 20, 1).new(1, 100, 10, 2).new(1, 100, 30, 3).delete(1, 100, 20, 1)
    day.execute(1, 100, 50).execute(1, 100, 5, 2).delete(1, 100, 30, 3).new(1, 99, 10, 4).quiet()
    counts = ghost.judge(tape_of(day.day()))
    assert (counts["orders"], counts["orders_judged"], counts["orders_unfinished"]) == (4, 3, 1)
    assert (counts["orders_executed"], counts["agree"], counts["executed_all_nothing_ahead"]) == (1, 3, 1)
    mutant = ghost.judge(tape_of(day.day()), births=False)
    assert mutant["agree"] == 3
    early = Hand({100: 50}, {103: 40}).new(1, 100, 10, 1).new(1, 100, 40, 2).delete(1, 100, 40, 2)
    early.execute(1, 100, 30).execute(1, 100, 20).execute(1, 100, 10, 1)
    tape = tape_of(early.quiet().day())
    assert ghost.judge(tape)["agree"] == 2
    mutant = ghost.judge(tape, births=False)  # takes the later order's cancel for its own progress
    assert (mutant["agree"], mutant["early"]) == (1, 1)


# ---- the recorded day -----------------------------------------------------------------------------------------------


@cache
def amazon(folder: Path) -> TapeSet:
    zips = sorted(folder.glob("LOBSTER_SampleFile_AMZN_2012-06-21_5.zip"))
    if not zips:
        pytest.skip(f"no AMZN level-5 sample in {folder}")
    (reading,) = reader.read(zips[0])
    return tape_of(reading.day)


def test_the_recorded_day_agrees_with_the_queue_model(lobster_dir: Path) -> None:
    counts = ghost.judge(amazon(lobster_dir))
    assert (counts["orders"], counts["orders_judged"], counts["executed_all"]) == (77_381, 60_053, 6_251)
    assert counts["orders_executed"] == 5_803 and counts["executed_after_spell"] == 448
    assert counts["agree"] >= 0.9994 * counts["orders_judged"]
    assert (counts["spell_judged"], counts["spell_executed"]) == (5_149, 448)
    assert counts["spell_false_fills"] == counts["spell_early"] == 0, "out of sight nothing fills too early"
    assert counts["spell_agree"] >= 0.995 * counts["spell_judged"]
    assert (
        counts["executed_after_spell_nothing_ahead"] >= 0.84 * counts["executed_after_spell"]
    )  # what is ahead at the most


def test_the_recorded_day_tells_the_mutant_that_ignores_births(lobster_dir: Path) -> None:
    counts = ghost.judge(amazon(lobster_dir), births=False)
    assert counts["orders_judged"] == 60_053 and counts["agree"] < 0.9994 * counts["orders_judged"]
