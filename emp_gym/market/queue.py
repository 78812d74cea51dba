"""An own order in its queue: where it starts, how its place moves with the record, and when it is filled.

Volume ahead. At birth it is the visible volume at our price. An execution at our price eats the volume ahead, then us. A
cancel or deletion at our price shrinks the volume ahead if that order was born before ours. After every touch the volume ahead
is at most (visible volume - what is known to be behind us).

While our level is in sight all of that is exact: an order whose birth was not seen is older than ours. Once it was out of sight
(`spell_row`), what stood behind may have been cancelled unseen and who came meanwhile is not known by birth. From then on
`ahead` is the most that can be ahead, and nothing is taken from it that may stand behind (`pass_uncertain`).
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.format import ELSEWHERE, NO_ROW, NO_TOUCH
from emp_gym.jit import hot, rare
from emp_gym.market.public import LIVE, TRADING
from emp_gym.market.records import (
    ADOPT,
    DELETE,
    EVICT,
    EXACT,
    EXECUTE,
    HIDDEN,
    KEPT,
    NEW,
    OPTIMISTIC,
    REDUCE,
    TOUCHED,
    UNKNOWN_PLACE,
)
from emp_gym.market.taking import fill_maker
from emp_gym.market.tape_cursor import find_cross, find_touch, point_at

ANY = (1 << 31) - 1  # `nameless` of an order whose place is not known
LOOK_BACK = 64  # rows before a level comes back that are looked at: more cost a fifth of a step, and tell little


@hot
def rest(lane, day, slot, tape, row):
    """Puts an order into the book after `row`: its place is behind the visible volume at its price."""
    at, s = day["row0"] + row, 0 if slot["side"] > 0 else 1
    levels, price = tape.book.shape[2], slot["price"] - day["base"]
    slot["behind"], slot["counted"], slot["nameless"], slot["spell_row"] = 0, 0, 0, -1
    slot["state"], slot["live"], slot["born_row"] = LIVE, True, row
    inside, better = tape.book[at, s, levels - 1]["size"] == 0, -1
    for j in range(levels):
        level = tape.book[at, s, j]
        if level["size"] <= 0:
            break
        if level["price"] == price:
            slot["ahead"] = level["size"]
            link = tape.links[at, s, j]
            slot["cross_row"], slot["exec_row"] = link["cross"], NO_ROW
            slot["touch"], slot["touch_row"] = day["touch0"] + link["touch"], NO_ROW
            if link["touch"] != NO_TOUCH:
                slot["touch_row"] = row + 1  # it is not earlier; to look would mean to wait for it
            return
        if slot["side"] * level["price"] < slot["side"] * price:
            inside = True
            break
        better = j
    slot["ahead"] = 0
    if not inside:
        slot["ahead"], slot["nameless"], slot["spell_row"] = UNKNOWN_PLACE, ANY, row
        lane["unknown_place"] += 1
    find_touch(tape, day, slot, row)
    if better >= 0:  # nothing crosses us before it crosses a better level: look then
        slot["cross_row"] = tape.links[at, s, better]["cross"]
    else:
        find_cross(tape, day, slot, row)


@hot
def pass_touches(day, slot, tape, upto, served, params):
    """Moves the slot's volume ahead over its touches up to and including row `upto`.

    Stops before an execution that reaches us and notes its row as `exec_row`: `serve` has to share it out. What the message
    of row `served` took from the volume ahead is done already. Whether a cancel was ahead of us or behind is as good as
    random, so the usual messages are counted without asking: a wrong guess of the processor costs more than the sums.
    """
    touches = tape.touches
    if slot["spell_row"] >= 0:
        pass_uncertain(day, slot, tape.book, touches, upto, served, params)
        return
    births, mode = params["births"] != 0, params["fills"]
    i, ahead, behind = slot["touch"], slot["ahead"], slot["behind"]
    born, counted = np.int64(slot["born_row"]), np.int64(slot["counted"])
    usual, reached, left, there = births and mode == EXACT, False, False, True
    while there and touches[i]["row"] <= born:  # before the order came: see `find_touch`
        there = touches[i]["last"] == 0
        i += 1
    while there:
        touch = touches[i]
        row, kind, size, birth = touch["row"], touch["kind"], np.int64(touch["size"]), np.int64(touch["birth"])
        if row > upto:
            break
        if usual and kind <= DELETE and birth != born:
            change = size if kind == NEW else -size
            younger = np.int64(birth > born)  # as every new order is
            behind = max(behind + change * younger, 0)
            ahead = max(ahead + change * (1 - younger), 0)
            ahead = min(ahead, max(touch["volume"] - counted - behind, np.int64(0)))
            i += 1
            there = touch["last"] == 0
            continue
        executed = kind == EXECUTE and row != served and touch["status"] == TRADING
        if mode == OPTIMISTIC:
            reached = kind <= EXECUTE and row != served and touch["status"] == TRADING
        elif executed:
            reached = size > ahead or mode == TOUCHED
        left = kind == EVICT or kind == ADOPT
        if reached or left:
            break
        if executed and ahead > 0:
            ahead -= size
        if kind == NEW:
            behind += size
        elif birth == born and counted > 0:
            counted = max(counted - size, np.int64(0))  # the real order whose place a ghost has taken
        elif birth > born and births:
            behind = max(behind - size, 0)
        elif kind != EXECUTE:
            ahead = max(ahead - size, np.int64(0))
        if ahead > 0:
            ahead = min(ahead, max(touch["volume"] - counted - behind, np.int64(0)))
        i += 1
        there = touch["last"] == 0
    slot["ahead"], slot["behind"], slot["counted"] = ahead, behind, counted
    point_at(slot, touches, i, there)
    if reached:
        slot["exec_row"] = slot["touch_row"]
    elif left:
        slot["nameless"] = nameless_ahead(slot, touches, i)
        slot["spell_row"] = born
        pass_uncertain(day, slot, tape.book, touches, upto, served, params)


@rare
def pass_uncertain(day, slot, book, touches, upto, served, params):
    """`pass_touches` of an order whose level was out of sight since it came, or when it came.

    Orders of its level are of four kinds: known to be behind (`behind` has those of which no lot can have gone unseen), known
    by birth to be ahead, older because they were mentioned before ours came, and the rest, first mentioned later and born out of
    sight: on which side they stand nobody knows. At most `nameless` lots ahead are of orders whose birth was not seen.
    """
    births, mode = params["births"] != 0, params["fills"]
    i, ahead, behind, nameless = slot["touch"], slot["ahead"], slot["behind"], np.int64(slot["nameless"])
    born, spell, counted = np.int64(slot["born_row"]), np.int64(slot["spell_row"]), np.int64(slot["counted"])
    reached, there = False, True
    while there and touches[i]["row"] <= born:
        there = touches[i]["last"] == 0
        i += 1
    while there:
        touch = touches[i]
        row, kind, size, birth = touch["row"], touch["kind"], np.int64(touch["size"]), np.int64(touch["birth"])
        if row > upto:
            break
        trade = kind == EXECUTE and touch["status"] == TRADING
        if trade and births and is_younger(birth, size, born, nameless):
            ahead, nameless = np.int64(0), np.int64(0)  # an executed order is the front of its queue
        if mode == OPTIMISTIC:
            reached = kind <= EXECUTE and row != served and touch["status"] == TRADING
        elif trade and row != served and ahead != UNKNOWN_PLACE:
            reached = size > ahead or mode == TOUCHED
        if reached:
            break
        cancel = (kind == REDUCE or kind == DELETE) and ahead > 0
        if trade and row != served and ahead > 0:
            ahead -= size
        if kind > EXECUTE:  # the level leaves or comes back, or changes without a message
            if kind == ADOPT and ahead != 0:
                if seen_empty(day, book, slot, spell, np.int64(row)):
                    ahead, nameless = np.int64(0), np.int64(0)
                elif ahead == UNKNOWN_PLACE:
                    ahead, nameless = size, size
            spell, counted = np.int64(row), min(counted, np.int64(1))
            behind = behind if params["births"] == KEPT else np.int64(0)
        elif kind == NEW:
            behind += size
            if ahead == UNKNOWN_PLACE:  # the level was in sight, and empty
                ahead, nameless = np.int64(0), np.int64(0)
        elif birth == born and counted > 0:  # the real order whose place a ghost has taken
            counted = max(counted - size, np.int64(0))
        elif not births:
            ahead = max(ahead - size, 0) if cancel else ahead
        elif birth > born:
            behind = max(behind - size, 0) if birth > spell else behind
        elif birth >= 0:
            ahead = max(ahead - size, 0) if cancel else ahead
            remain = known_from(touches, i, birth, born, counted > 0) if trade and ahead > 0 else np.int64(-1)
            if remain >= 0:  # who was older than the executed order has gone
                ahead, nameless = min(ahead, remain), np.int64(0)
        elif -1 - birth <= born:
            ahead = max(ahead - size, 0) if cancel else ahead
            nameless = max(nameless - size, np.int64(0))
        elif trade:  # ahead, or else nobody is
            nameless = max(nameless - size, np.int64(0))
        if kind != EVICT and ahead > 0:
            ahead = min(ahead, max(touch["volume"] - counted - behind, np.int64(0)))
        nameless = min(nameless, ahead) if ahead != UNKNOWN_PLACE else nameless
        i += 1
        there = touch["last"] == 0
    slot["ahead"], slot["behind"], slot["nameless"] = ahead, behind, nameless
    slot["spell_row"], slot["counted"] = spell, counted
    point_at(slot, touches, i, there)
    if reached:
        slot["exec_row"] = slot["touch_row"]


@hot
def is_younger(birth, size, born, nameless):
    """Whether a message is of an order that came after ours, of which a level that was out of sight leaves `nameless` lots
    ahead at the most to orders whose birth nobody saw."""
    if birth >= 0:
        return birth > born
    return -1 - birth > born and size > nameless


@rare
def look_at_front(slot, touches, row):
    """Nobody is ahead of the slot if the order that the message of `row` executes came after it."""
    i, there = slot["touch"], slot["touch_row"] <= row
    while there and touches[i]["row"] < row:
        there = touches[i]["last"] == 0
        i += 1
    while there and touches[i]["row"] == row:
        touch = touches[i]
        if touch["kind"] == EXECUTE and is_younger(touch["birth"], touch["size"], slot["born_row"], slot["nameless"]):
            slot["ahead"], slot["nameless"] = 0, 0
        there = touch["last"] == 0
        i += 1


@hot
def seen_empty(day, book, slot, since, row):
    """Whether the book reached past our price without having it, after row `since` and within the `LOOK_BACK` rows before `row`:
    then who was ahead has gone."""
    s, side, price = 0 if slot["side"] > 0 else 1, slot["side"], slot["price"] - day["base"]
    levels = book.shape[2]
    for r in range(row - 1, max(since, row - LOOK_BACK), -1):
        worst = book[day["row0"] + r, s, levels - 1]
        if worst["size"] == 0 or side * worst["price"] < side * price:
            there = False
            for j in range(levels):
                level = book[day["row0"] + r, s, j]
                there = there or (level["size"] > 0 and level["price"] == price)
            if not there:
                return True
    return False


@hot
def nameless_ahead(slot, touches, i):
    """Lots ahead of the slot that can be of orders whose birth was not seen, before touch i takes its level out of sight."""
    ahead, start, known = slot["ahead"], i, np.int64(0)
    youngest = np.int64(slot["born_row"]) - (slot["counted"] > 0)
    if ahead <= 0:
        return ahead
    while start > 0 and touches[start - 1]["last"] == 0 and touches[start - 1]["volume"] > 0:
        start -= 1
        if touches[start]["kind"] > EXECUTE:
            break
    seen = np.int64(-1)  # who came later is known by birth
    if touches[start]["kind"] > EXECUTE and start < i:
        seen = np.int64(touches[start]["row"])
    elif start > 0 and touches[start - 1]["last"] == 0:
        seen = np.int64(touches[start - 1]["row"])
    for j in range(start, i):
        touch = touches[j]
        if touch["kind"] <= EXECUTE and seen < touch["birth"] <= youngest:
            known += touch["size"] if touch["kind"] == NEW else -touch["size"]
    return max(ahead - max(known, 0), 0)


@hot
def known_from(touches, i, oldest, born, ghost):
    """The most that can remain after touch i of orders born from row `oldest` to `born`; -1 if the level was out of sight or
    empty between these rows. The order in whose place a ghost stands is not among them."""
    j, known = np.int64(i), np.int64(0)
    while touches[j]["row"] >= oldest:
        touch = touches[j]
        if touch["row"] <= born and (touch["kind"] > EXECUTE or touch["volume"] == 0):
            return np.int64(-1)
        if touch["kind"] <= EXECUTE and oldest <= touch["birth"] <= born - ghost:
            known += touch["size"] if touch["kind"] == NEW else -touch["size"]
        j -= 1
        if j < 0 or touches[j]["last"] == 1:
            break
    return max(known, 0)


@hot
def mid_before(day, tape, touch):
    """Best bid + best ask before the message of `touch`, 0 if not known."""
    if touch["mid2"] == ELSEWHERE:
        return tape.messages[day["row0"] + touch["row"]]["mid2"]
    return 2 * day["base"] + touch["mid2"]


@hot
def serve(lane, day, slots, fills, tape, params, row, kind, side, price, size, mid2):
    """Lets the message of `row` fill own resting orders, best price first, then oldest; its size is shared among them.

    `side` is that of the message's order; `mid2` (best bid + best ask, 0 if not known) stood before it.
    """
    mode, count, eaten, left = params["fills"], lane["orders"], np.int64(0), np.int64(size)
    if mode == OPTIMISTIC:
        fill_touched(lane, day, slots, fills, tape, params, row, kind, side, price, mid2)
    if kind == NEW:
        side = -side  # a new order trades with those of the other side
    elif kind != EXECUTE and kind != HIDDEN:
        return
    for k in range(count):
        slots[k]["passed"] = 0
    for _ in range(count):
        best = -1
        for k in range(count):
            slot = slots[k]
            if slot["state"] != LIVE or slot["passed"] == 1 or slot["side"] != side or slot["quantity"] == 0:
                continue
            if side * slot["price"] < side * price:
                continue
            if best < 0 or side * slot["price"] > side * slots[best]["price"]:
                best = k
        if best < 0:
            return
        slot = slots[best]
        slot["passed"] = 1
        if kind == EXECUTE and slot["price"] == price:
            if mode == EXACT:
                if slot["spell_row"] >= 0 and params["births"] != 0:
                    look_at_front(slot, tape.touches, row)
                if slot["ahead"] == UNKNOWN_PLACE:
                    continue
                if slot["touch_row"] > row:  # it has passed the row already, not reached: nor is anybody behind it
                    eaten, left = eaten + left, np.int64(0)
                    continue
                queue = min(left, max(slot["ahead"] - eaten, 0))
                left -= queue
                eaten += queue
                slot["ahead"] = max(slot["ahead"] - eaten, 0)
        part = slot["quantity"] if mode == OPTIMISTIC else min(left, slot["quantity"])
        if part > 0:
            fill_maker(lane, day, slot, fills, part, row, mid2)
            left = max(left - part, np.int64(0))


@hot
def fill_touched(lane, day, slots, fills, tape, params, row, kind, side, price, mid2):
    """The optimistic rule: an order fills whole at the first message at its price while that price is the best."""
    if kind < NEW or kind > EXECUTE:
        return
    for k in range(lane["orders"]):
        slot = slots[k]
        if slot["state"] != LIVE or slot["quantity"] == 0 or slot["side"] != side or slot["price"] != price:
            continue
        best = tape.book[day["row0"] + max(row - 1, 0), 0 if side > 0 else 1, 0]
        if best["size"] <= 0 or side * (day["base"] + best["price"]) <= side * price:
            fill_maker(lane, day, slot, fills, slot["quantity"], row, mid2)
