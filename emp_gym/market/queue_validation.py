"""Ghost orders: the recorded day judges the queue model.

A ghost of ours takes the place of every visible limit order of the day, through the kernel that the environments use: same
row, price, side and size, cancelled when the real one was. The exchange decided when the real order was executed first; the
model is right when its first fill is that very message, or none when there was none. Orders whose level was out of sight for
some time are counted apart: of them the model promises only that it never fills one too early.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emp_gym.data.tape.format import NO_ROW
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.jit import njit
from emp_gym.market.account import FILL
from emp_gym.market.day_rules import market_days
from emp_gym.market.overlay import walk
from emp_gym.market.public import LIVE
from emp_gym.market.records import CURSOR, DELETE, EVICT, EXECUTE, NEW, PARAMS, SLOT, TAKEN, Tape
from emp_gym.market.tape_cursor import find_cross, find_touch, point_at
from emp_gym.types import MessageType

ENDLESS = 1 << 40  # lots of a ghost, so that it stays after its first fill and its queue can still be read

_FIELDS = (
    "orders", "orders_judged", "orders_out_of_sight", "orders_unfinished", "orders_executed",
    "agree", "false_fills", "missed", "early", "late",
    "executed_all", "executed_all_nothing_ahead", "executed_after_spell", "executed_after_spell_nothing_ahead",
    "spell_judged", "spell_executed", "spell_agree", "spell_false_fills", "spell_missed", "spell_early", "spell_late",
)  # fmt: skip


def judge(tape: TapeSet, day: int = 0, *, births: bool = True) -> dict[str, int]:
    """Counts of the ghost orders of one day.

    An order is judged if its level stays inside the visible window from its birth until its end (first execution or
    deletion) and that end comes before the end of the day; otherwise it is out of sight or unfinished. Of those out of sight
    the ones whose end the file shows are judged too (`spell_...`). `births=False` runs
    the mutant kernel that ignores when an order was born, which a test shows to be worse.
    """
    rows = tape.day_slice(day)
    messages = tape.messages[rows]
    new_rows = np.flatnonzero(messages["kind"] == MessageType.NEW)
    executed, deleted = _ends(messages, int(messages["order"].max(initial=-1)) + 1)
    params = np.zeros(1, PARAMS)
    params["births"] = births
    own = market_days(tape.days[day : day + 1], tape.info[day : day + 1], bps=(0.0, 0.0), per_lot=(0.0, 0.0))
    own["price_to_cash"] = 1
    counts = _judge(
        new_rows, executed, deleted, np.zeros(1, CURSOR), np.zeros(1, SLOT), np.zeros(1, TAKEN), np.zeros(64, FILL), params,
        own, tape.rows, tape.messages, tape.book, tape.links, tape.touches, tape.first_touch, tape.far_touch,
        tape.cross, tape.cross_block,
    )  # fmt: skip
    return dict(zip(_FIELDS, (int(count) for count in counts), strict=True))


def judge_day(path: str, **options: Any) -> dict[str, int]:
    """`judge` for a recorded day given by path, summed over its days if it holds several."""
    from emp_gym.data import store

    tape = store.tapes(path)
    total = dict.fromkeys(_FIELDS, 0)
    for day in range(len(tape.info)):
        for name, count in judge(tape, day, **options).items():
            total[name] += count
    return total


@njit
def _ends(messages, orders):
    """Row of each message's order's first execution and of its end (deleted or used up), NO_ROW if it did not come."""
    executed, ended = np.full(orders, NO_ROW, np.int64), np.full(orders, NO_ROW, np.int64)
    left = np.zeros(orders, np.int64)
    for i in range(len(messages)):
        m = messages[i]
        order = m["order"]
        if order < 0:
            continue
        if m["kind"] == NEW:
            left[order] = m["size"]
            continue
        left[order] -= m["size"]
        if m["kind"] == EXECUTE and executed[order] == NO_ROW:
            executed[order] = i
        if (m["kind"] == DELETE or left[order] <= 0) and ended[order] == NO_ROW:
            ended[order] = i
    return executed, ended


@njit
def _evicted_between(touches, slot, last):
    """Whether the slot's level leaves the window from its next touch up to row `last`."""
    i = slot["touch"]
    if slot["touch_row"] == NO_ROW:
        return False
    while touches[i]["row"] <= last:
        if touches[i]["kind"] == EVICT:
            return True
        if touches[i]["last"] == 1:
            break
        i += 1
    return False


@njit
def _judge(
    new_rows, executed, ended, state, slots, taken, fills, params, days, rows, messages, book, links,
    touches, first_touch, far_touch, cross, cross_block,
):  # fmt: skip
    tape = Tape(rows, messages, book, links, touches, first_touch, far_touch, cross, cross_block)
    counts = np.zeros(21, np.int64)
    lane, slot, day, setup = state[0], slots[0], days[0], params[0]
    base, last = day["row0"], day["rows"] - 1
    for born in new_rows:
        m = messages[base + born]
        first_execution, end = executed[m["order"]], ended[m["order"]]
        counts[0] += 1
        lane["orders"], lane["fills"], lane["next_row"] = 1, 0, NO_ROW
        slot["id"], slot["price"], slot["side"], slot["kind"] = 1, m["price"], m["side"], 1
        slot["quantity"], slot["filled"], slot["behind"], slot["counted"] = ENDLESS, 0, 0, m["size"]
        slot["cancel_row"], slot["spell_row"], slot["nameless"] = NO_ROW, -1, 0
        slot["state"], slot["live"], slot["born_row"] = LIVE, True, born
        find_touch(tape, day, slot, born - 1)
        visible = 0
        while slot["touch_row"] != NO_ROW and touches[slot["touch"]]["row"] <= born:
            touch = slot["touch"]
            if touches[touch]["row"] == born:
                visible = touches[touch]["volume"]
            point_at(slot, touches, touch + 1, touches[touch]["last"] == 0)
        slot["ahead"] = max(visible - m["size"], 0)
        find_cross(tape, day, slot, born)
        finish = min(first_execution, end)
        spell = _evicted_between(touches, slot, min(finish, last))
        judged = not spell and visible > 0 and finish <= last
        if judged:
            counts[1] += 1
        elif spell or visible == 0:
            counts[2] += 1
        else:
            counts[3] += 1
        if finish > last or (visible == 0 and first_execution > end):
            continue
        walk(lane, day, slots, taken, fills, tape, setup, finish - 1, 0)
        before, ahead = slot["filled"], slot["ahead"]
        if first_execution <= end:
            counts[10] += 1
            counts[11] += 1 if ahead == 0 else 0
            if not judged:
                counts[12] += 1
                counts[13] += 1 if ahead == 0 else 0
        if visible == 0:
            continue
        if spell:
            counts[14] += 1
        agree, false, missed, early, late = (16, 17, 18, 19, 20) if spell else (5, 6, 7, 8, 9)
        if first_execution > end:
            counts[agree if before == 0 else false] += 1
            continue
        counts[15 if spell else 4] += 1
        if before > 0:
            counts[early] += 1
            continue
        for target in (finish, min(end, last)):
            if slot["filled"] == 0:
                walk(lane, day, slots, taken, fills, tape, setup, target, 0)
                if slot["filled"] > 0:
                    counts[agree if target == finish else late] += 1
        if slot["filled"] == 0:
            counts[missed] += 1
    return counts
