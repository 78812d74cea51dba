"""What a tape adds to a recorded day: window events, recycled slots, levels grouped by price, crossings, running sums.

One file, long as it is: each pass builds on the arrays of the one before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emp_gym.data.tape.format import (
    BLOCK,
    ELSEWHERE,
    FAR,
    LEVEL,
    LINK,
    NEVER_ASK,
    NEVER_BID,
    NO_ROW,
    NO_TOUCH,
    ROW,
    TOUCH,
)
from emp_gym.jit import njit
from emp_gym.types import I8, I32, I64, WINDOW_EVENT, DataError, MessageType, TradingStatus

NEW, REDUCE, DELETE, EXECUTE = int(MessageType.NEW), int(MessageType.REDUCE), int(MessageType.DELETE), int(MessageType.EXECUTE)
HIDDEN, CROSS, HALT = int(MessageType.EXECUTE_HIDDEN), int(MessageType.CROSS), int(MessageType.HALT)
ADOPT, EVICT = int(MessageType.ADOPT), int(MessageType.EVICT)
TRADING, HALTED, QUOTING, CROSSING = (int(status) for status in TradingStatus)


class Levels(NamedTuple):
    """Touches grouped by level; see the table of `emp_gym.data.tape.format`."""

    price: I64  # of each level: the bids ascending, then the asks [P]
    start: I64  # its first touch, and one end mark [P + 1]
    touches: np.ndarray
    bids: int  # how many of the levels are bids
    event_row: I32  # row of each event in order of time [E]
    event_touch: I64  # where that event stands in `touches` [E]
    event_level: I64  # its level [E]


def whole_records(records: np.ndarray) -> np.ndarray:
    """The same memory as records without fields: numpy then copies their padding too, so that tapes are the same bytes."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))


def number_orders(kind: I8, order_id: I64) -> tuple[I32, I32, I32]:
    """Dense numbers by first appearance, the row of each order's first mention, and the birth row of each message.

    Returns (order [R], first_seen [O], birth [R]); order is -1 for messages that name no visible order.
    """
    visible = np.flatnonzero((kind >= NEW) & (kind <= EXECUTE))
    ids, first, inverse = np.unique(order_id[visible], return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    rank = np.empty(len(ids), np.int32)
    rank[by_appearance] = np.arange(len(ids), dtype=np.int32)
    order = np.full(len(kind), -1, np.int32)
    order[visible] = rank[inverse]
    first_seen = visible[first[by_appearance]].astype(np.int32)
    return order, first_seen, _births(kind, order, len(ids))


@njit
def _births(kind, order, orders):
    born = np.full(orders, -1, np.int32)
    birth = np.full(len(kind), -1, np.int32)
    for i in range(len(kind)):
        if order[i] >= 0:
            if kind[i] == NEW:
                born[order[i]] = i
            birth[i] = born[order[i]]
    return birth


def statuses(kind: I8, price: I64) -> I8:
    """`TradingStatus` after each row: type 7 with price -1 halts, 0 resumes quotes, 1 resumes trading; a type 6 row is a cross."""
    return _statuses(kind, price)


@njit
def _statuses(kind, price):
    status = np.empty(len(kind), np.int8)
    now = TRADING
    for i in range(len(kind)):
        if kind[i] == HALT:
            now = HALTED if price[i] == -1 else (QUOTING if price[i] == 0 else TRADING)
        status[i] = CROSSING if kind[i] == CROSS and now == TRADING else now
    return status


def window_events(kind: I8, side: I8, price: I64, size: I32, book_price: I64, book_size: I32) -> np.ndarray:
    """ADOPT/EVICT events that turn "message i applied to book row i - 1" into book row i. Returns WINDOW_EVENT [W]."""
    out = np.zeros(max(1024, len(kind) // 2), WINDOW_EVENT)
    while True:
        count = _window_events(kind, side, price, size, book_price, book_size, out)
        if count >= 0:
            return whole_records(out[:count]).copy().view(WINDOW_EVENT)
        out = np.zeros(2 * len(out), WINDOW_EVENT)


@njit
def _window_events(kind, side, price, size, book_price, book_size, out):
    rows, levels = book_price.shape[0], book_price.shape[2]
    expect_price = np.empty((2, levels + 1), np.int64)
    expect_size = np.empty((2, levels + 1), np.int64)
    n = 0
    for i in range(rows):
        for s in range(2):
            sign = 1 if s == 0 else -1
            depth = 0
            if i > 0:
                for level in range(levels):
                    if book_size[i - 1, s, level] > 0:
                        expect_price[s, depth] = book_price[i - 1, s, level]
                        expect_size[s, depth] = book_size[i - 1, s, level]
                        depth += 1
            if side[i] == sign and NEW <= kind[i] <= EXECUTE:
                depth = _apply(expect_price[s], expect_size[s], depth, sign, kind[i], price[i], size[i])
            a = b = 0
            while a < depth or (b < levels and book_size[i, s, b] > 0):
                seen = b < levels and book_size[i, s, b] > 0
                if n >= len(out):
                    return -1
                if seen and a < depth and expect_price[s, a] == book_price[i, s, b]:
                    if expect_size[s, a] != book_size[i, s, b]:
                        n = _event(out, n, i, ADOPT, sign, book_price[i, s, b], book_size[i, s, b])
                    a += 1
                    b += 1
                elif seen and (a >= depth or sign * book_price[i, s, b] > sign * expect_price[s, a]):
                    n = _event(out, n, i, ADOPT, sign, book_price[i, s, b], book_size[i, s, b])
                    b += 1
                else:
                    n = _event(out, n, i, EVICT, sign, expect_price[s, a], expect_size[s, a])
                    a += 1
    return n


@njit
def _event(out, n, row, kind, side, price, size):
    out[n]["row"], out[n]["kind"], out[n]["side"] = row, kind, side
    out[n]["price"], out[n]["size"] = price, size
    return n + 1


@njit
def _apply(level_price, level_size, depth, sign, kind, price, size):
    """Applies a message to sorted levels (best first, room for one more); returns the new depth."""
    at = 0
    while at < depth and sign * level_price[at] > sign * price:
        at += 1
    here = at < depth and level_price[at] == price
    if kind == NEW:
        if here:
            level_size[at] += size
            return depth
        for j in range(depth, at, -1):
            level_price[j], level_size[j] = level_price[j - 1], level_size[j - 1]
        level_price[at], level_size[at] = price, size
        return depth + 1
    if not here:
        return depth
    level_size[at] -= size
    if level_size[at] > 0:
        return depth
    for j in range(at, depth - 1):
        level_price[j], level_size[j] = level_price[j + 1], level_size[j + 1]
    return depth - 1


def slots(messages: np.ndarray, window: np.ndarray) -> I32:
    """Recycled slot of each message's order: given at its visible NEW, freed when it is gone or its level leaves the window."""
    return _slots(messages, window, int(messages["order"].max(initial=-1)) + 1)


@njit
def _slots(messages, window, orders):
    slot_of = np.full(orders, -1, np.int32)
    left = np.zeros(orders, np.int64)
    holder = np.empty(orders + 1, np.int32)  # slot -> order, -1 when free
    level = np.empty(orders + 1, np.int64)  # slot -> price * side
    free = np.empty(orders + 1, np.int32)
    frees = used = w = 0
    out = np.full(len(messages), -1, np.int32)
    for i in range(len(messages)):
        m = messages[i]
        order, kind = m["order"], m["kind"]
        if order >= 0:
            if kind == NEW and slot_of[order] < 0:
                if frees > 0:
                    frees -= 1
                    slot_of[order] = free[frees]
                else:
                    slot_of[order] = used
                    used += 1
                holder[slot_of[order]] = order
                level[slot_of[order]] = m["price"] * m["side"]
                left[order] = m["size"]
            slot = slot_of[order]
            out[i] = slot
            if kind != NEW and slot >= 0:
                left[order] -= m["size"]
                if kind == DELETE or left[order] <= 0:
                    holder[slot] = -1
                    slot_of[order] = -1
                    free[frees] = slot
                    frees += 1
        while w < len(window) and window[w]["row"] == i:
            if window[w]["kind"] == EVICT:
                gone = window[w]["price"] * window[w]["side"]
                for slot in range(used):
                    if holder[slot] >= 0 and level[slot] == gone:
                        slot_of[holder[slot]] = -1
                        holder[slot] = -1
                        free[frees] = slot
                        frees += 1
            w += 1
    return out


def group_by_level(
    messages: np.ndarray, window: np.ndarray, first_seen: I32, book_price: I64, book_size: I32, base: int
) -> Levels:
    """All messages 1-4 and window events, sorted by (side, price, time), with the visible volume after each and the mid
    before it (`row_records` has written that into `messages`)."""
    at = np.flatnonzero((messages["kind"] >= NEW) & (messages["kind"] <= EXECUTE))
    picked = messages[at]
    touches = np.zeros(len(at) + len(window), TOUCH)
    heads, tails = touches[: len(at)], touches[len(at) :]
    heads["row"], heads["kind"], heads["size"] = at, picked["kind"], picked["size"]
    heads["birth"] = np.where(picked["birth"] >= 0, picked["birth"], -1 - first_seen[picked["order"]])
    heads["volume"] = _visible_volume(at, picked["side"], picked["price"], book_price, book_size)
    tails["row"], tails["kind"], tails["size"] = window["row"], window["kind"], window["size"]
    tails["volume"] = np.where(window["kind"] == ADOPT, window["size"], 0)
    tails["birth"] = -1
    ask = np.concatenate([picked["side"] < 0, window["side"] < 0])
    price = np.concatenate([picked["price"], window["price"]])
    sequence = np.concatenate([2 * at, 2 * window["row"].astype(np.int64) + 1])
    by_level = np.lexsort((sequence, price, ask))
    ask, price, touches = ask[by_level], price[by_level], whole_records(touches)[by_level].view(TOUCH)
    new = np.ones(len(touches), bool)
    new[1:] = (price[1:] != price[:-1]) | (ask[1:] != ask[:-1])
    starts = np.flatnonzero(new)
    level = np.cumsum(new) - 1
    touches["last"] = np.append(new[1:], True)
    touches["status"] = messages["status"][touches["row"]]
    mid2 = messages["mid2"][touches["row"]]
    fits = (mid2 > 0) & (mid2 - 2 * base <= NO_ROW)
    touches["mid2"] = np.where(fits, mid2 - 2 * base, ELSEWHERE)
    in_time = np.argsort(sequence[by_level], kind="stable")
    return Levels(
        price=price[starts],
        start=np.append(starts, len(touches)),
        touches=touches,
        bids=int((~ask[starts]).sum()),
        event_row=touches["row"][in_time],
        event_touch=in_time,
        event_level=level[in_time],
    )


STRETCH = 1024  # rows of a stretch of `first_touch`, or more where its table would take more than 16 bytes a row
GRID = 1 << 15  # prices of `first_touch` at the most


def first_touches(levels: Levels, rows: int, tick: int) -> tuple[I32, int, int, int]:
    """The first touch of a price in or after a stretch of rows, NO_TOUCH if there is none.

    The grid holds the prices on the tick around the median touch; `far_touches` has the others (stub quotes stand a thousand
    times away). Returns (first_touch [stretches * 2 * ticks], rows of a stretch, lowest price, ticks).
    """
    touched = np.diff(levels.start)
    on_tick = np.flatnonzero(levels.price % tick == 0)
    if len(on_tick) == 0:
        return np.zeros(0, np.int32), rows, 0, 0
    by_price = on_tick[np.argsort(levels.price[on_tick], kind="stable")]
    middle = np.searchsorted(np.cumsum(touched[by_price]), touched[by_price].sum() / 2)
    low = levels.price[by_price[middle]] - tick * (GRID // 2)
    on_grid = on_tick[(levels.price[on_tick] >= low) & (levels.price[on_tick] < low + tick * GRID)]
    grid = int(levels.price[on_grid].min())
    ticks = int((levels.price[on_grid].max() - grid) // tick) + 1
    stretch = STRETCH
    while 2 * ticks * -(-rows // stretch) > max(4 * rows, 2 * GRID) and stretch < rows:
        stretch *= 2
    table = np.full((-(-rows // stretch), 2, ticks), NO_TOUCH, np.int32)
    begins = np.arange(len(table)) * stretch
    for level in on_grid:
        first, end = levels.start[level], levels.start[level + 1]
        at = first + np.searchsorted(levels.touches["row"][first:end], begins)
        side, price = int(level >= levels.bids), (levels.price[level] - grid) // tick
        table[:, side, price] = np.where(at < end, at, NO_TOUCH)
    return table.reshape(-1), stretch, grid, ticks


def far_touches(levels: Levels, tick: int, grid: int, ticks: int) -> np.ndarray:
    """FAR [G]: the first touch of the day of every level that is not on the grid, by price."""
    off = (levels.price % tick != 0) | (levels.price < grid) | (levels.price >= grid + tick * ticks)
    level = np.flatnonzero(off)
    level = level[np.argsort(levels.price[level], kind="stable")]
    far = np.zeros(len(level), FAR)
    far["price"], far["touch"] = levels.price[level], levels.start[level]
    far["side"] = np.where(level < levels.bids, 1, -1)
    return far


def base_price(book_price: I64, book_size: I32) -> int:
    """Lowest visible price of the day. `DataError` if the day's prices span more than 31 bits."""
    seen = book_price[book_size > 0]
    if len(seen) == 0:
        raise DataError("the book is empty in every row; expected at least one visible level")
    low, high = int(seen.min()), int(seen.max())
    if high - low >= NO_ROW:
        raise DataError(
            f"visible prices span {high - low} price units, expected less than 2^31; check for stray prices"
        )
    return low


def book_records(book_price: I64, book_size: I32, base: int) -> np.ndarray:
    """LEVEL [R, 2, L]: the visible book, prices above `base`."""
    book = np.zeros(book_price.shape, LEVEL)
    book["size"] = book_size
    book["price"] = np.where(book_size > 0, book_price - base, 0)
    return book


def link_records(book: np.ndarray, base: int, levels: Levels, cross: I32, cross_block: I32) -> np.ndarray:
    """LINK [R, 2, L]: the next touch of each visible level and the next row that crosses it."""
    links = np.zeros(book.shape, LINK)
    last = levels.touches["last"].astype(np.bool_)
    _next_touches(
        book, links, base, levels.price, levels.bids, levels.event_row, levels.event_touch, levels.event_level, last
    )
    _next_crossings(book, links, cross, cross_block)
    return links


@njit
def _next_touches(book, links, base, level_price, bids, event_row, event_touch, event_level, last):
    latest = np.zeros(len(level_price), np.int64)
    event = 0
    for i in range(book.shape[0]):
        while event < len(event_row) and event_row[event] == i:
            latest[event_level[event]] = event_touch[event]
            event += 1
        for s in range(2):
            first, end = (0, bids) if s == 0 else (bids, len(level_price))
            for j in range(book.shape[2]):
                if book[i, s, j]["size"] > 0:
                    price = base + book[i, s, j]["price"]
                    at = latest[first + np.searchsorted(level_price[first:end], price)]
                    links[i, s, j]["touch"] = NO_TOUCH if last[at] else at + 1


@njit
def _next_crossings(book, links, cross, cross_block):
    rows, depth = book.shape[0], book.shape[2]
    for i in range(rows - 1, -1, -1):
        for s in range(2):
            sign = 1 if s == 0 else -1
            for j in range(depth):
                if book[i, s, j]["size"] <= 0:
                    continue
                price, found = book[i, s, j]["price"], -1
                if i + 1 < rows:
                    if sign * cross[s, i + 1] <= sign * price:
                        found = i + 1
                    else:
                        for k in range(depth):
                            if book[i + 1, s, k]["size"] > 0 and book[i + 1, s, k]["price"] == price:
                                found = links[i + 1, s, k]["cross"]
                links[i, s, j]["cross"] = (
                    found if found >= 0 else _search_crossing(price, sign, s, i, cross, cross_block)
                )


@njit
def _search_crossing(price, sign, s, row, cross, cross_block):
    i, rows = row + 1, cross.shape[1]
    while i < rows:
        if i % BLOCK == 0 and sign * cross_block[s, i // BLOCK] > sign * price:
            i += BLOCK
            continue
        if sign * cross[s, i] <= sign * price:
            return i
        i += 1
    return NO_ROW


@njit
def _visible_volume(at, side, price, book_price, book_size):
    out = np.zeros(len(at), np.int32)
    for j in range(len(at)):
        s = 0 if side[j] > 0 else 1
        for level in range(book_price.shape[2]):
            if book_price[at[j], s, level] == price[j]:
                out[j] = book_size[at[j], s, level]
    return out


def crossings(messages: np.ndarray, block: int, base: int) -> tuple[I32, I32]:
    """Per row, the lowest own bid and the highest own ask that the row trades through or arrives against.

    A resting own bid at p is crossed by an execution of a bid below p and by a new ask at p or lower: that ask is in the
    record only because our bid was not. Prices count from `base`. Returns (cross [2, R], cross_block [2, ceil(R / block)]).
    """
    cross = _crossings(messages, base)
    blocks = -(-len(messages) // block)
    padded = np.empty((2, blocks * block), np.int32)
    padded[0], padded[1] = NEVER_BID, NEVER_ASK
    padded[:, : len(messages)] = cross
    shaped = padded.reshape(2, blocks, block)
    return cross, np.stack([shaped[0].min(axis=1), shaped[1].max(axis=1)])


@njit
def _near(price):
    """The price, or the nearest one that 32 bits hold: visible prices span less than 2^31, and own ones lie among them."""
    return min(max(price, NEVER_ASK + 1), NEVER_BID - 1)


@njit
def _crossings(messages, base):
    cross = np.empty((2, len(messages)), np.int32)
    cross[0], cross[1] = NEVER_BID, NEVER_ASK
    for i in range(len(messages)):
        m = messages[i]
        if m["status"] != TRADING:
            continue
        if m["kind"] == EXECUTE:
            if m["side"] > 0:
                cross[0, i] = _near(m["price"] + 1 - base)
            else:
                cross[1, i] = _near(m["price"] - 1 - base)
        elif m["kind"] == NEW:
            cross[1 if m["side"] > 0 else 0, i] = _near(m["price"] - base)
    return cross


def row_records(messages: np.ndarray, book_price: I64, book_size: I32) -> np.ndarray:
    """ROW [R]: time groups, status and running sums. Also writes the mid before each message into `messages`."""
    rows = np.zeros(len(messages), ROW)
    rows["time_ns"], rows["status"] = messages["time_ns"], messages["status"]
    _running_sums(messages, book_price, book_size, rows)
    return rows


@njit
def _running_sums(messages, book_price, book_size, rows):
    bought = sold = flow = hidden = moves2 = mid2 = 0
    for i in range(len(messages)):
        m = messages[i]
        m["mid2"] = mid2
        if m["kind"] == EXECUTE:
            if m["side"] < 0:
                bought += m["size"]
            else:
                sold += m["size"]
        elif m["kind"] == HIDDEN and mid2 > 0:  # its direction is not told since 2014: the price is
            hidden += m["size"] * np.sign(2 * m["price"] - mid2)
        if i > 0:
            flow += _flow(book_price, book_size, i, 0) - _flow(book_price, book_size, i, 1)
        if book_size[i, 0, 0] > 0 and book_size[i, 1, 0] > 0:
            now = book_price[i, 0, 0] + book_price[i, 1, 0]
            if mid2 > 0:
                moves2 += (now - mid2) ** 2
            mid2 = now
        rows[i]["bought"], rows[i]["sold"], rows[i]["flow"] = bought, sold, flow
        rows[i]["hidden"], rows[i]["moves2"], rows[i]["mid2"] = hidden, moves2, mid2
    end = len(messages) - 1
    for i in range(len(messages) - 1, -1, -1):
        if messages[i]["time_ns"] != messages[end]["time_ns"]:
            end = i
        rows[i]["group_end"] = end


@njit
def _flow(book_price, book_size, i, s):
    """Change of demand (s = 0) or supply (s = 1) at the best level between rows i - 1 and i, lots."""
    better = 1 if s == 0 else -1
    before, now = better * book_price[i - 1, s, 0], better * book_price[i, s, 0]
    change = 0
    if now >= before:
        change += book_size[i, s, 0]
    if now <= before:
        change -= book_size[i - 1, s, 0]
    return change
