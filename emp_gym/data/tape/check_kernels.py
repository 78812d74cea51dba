"""One pass over a day's arrays: the first place where they contradict each other or point outside of the day.

Each gives (rule, place, expected, got), rule 0 where nothing is wrong; `emp_gym.data.tape.check` has the words. Whatever a kernel
of the market follows as an index is looked at everywhere, not in a sample.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.format import BLOCK, ELSEWHERE, NEVER_ASK, NEVER_BID, NO_ROW, NO_TOUCH
from emp_gym.jit import njit
from emp_gym.types import NS, MessageType, TradingStatus

NEW, REDUCE, DELETE, EXECUTE = int(MessageType.NEW), int(MessageType.REDUCE), int(MessageType.DELETE), int(MessageType.EXECUTE)
HIDDEN, CROSS, HALT = int(MessageType.EXECUTE_HIDDEN), int(MessageType.CROSS), int(MessageType.HALT)
ADOPT, EVICT = int(MessageType.ADOPT), int(MessageType.EVICT)
TRADING, HALTED, QUOTING, CROSSING = (int(status) for status in TradingStatus)
DAY_NS = 48 * 3600 * NS  # no time of a day is later
FURTHEST = 1 << 40  # price units

(
    TIME, TIME_RANGE, GROUP, KIND, SIDE, SIZE, PRICE, ORDER, BIRTH, SLOT, STATUS, ROW_STATUS, MID_BEFORE, MID,
    BOUGHT, SOLD, HIDDEN_SUM, FLOW, MOVES, LEVEL_SIZE, LEVEL_GAP, LEVEL_PRICE, LEVEL_ORDER, EMPTY_PRICE,
    LINK_TOUCH, LINK_CROSS, LINK_EMPTY, TOUCH_ROW, TOUCH_ORDER, TOUCH_KIND, TOUCH_STATUS, TOUCH_SIZE, TOUCH_VOLUME,
    TOUCH_BIRTH, TOUCH_LAST, TOUCH_END, TOUCH_MID, CROSS_ROW, CROSS_BLOCK, WINDOW_ROW, WINDOW_KIND, WINDOW_SIDE,
    WINDOW_SIZE, WINDOW_DAYS,
) = range(1, 45)  # fmt: skip


@njit
def row_fault(rows, messages, book, base):
    """Of `rows`, `messages` and `book` of a day: its running sums follow from messages and book."""
    count = len(rows)
    time = bought = sold = hidden = flow = moves2 = mid2 = np.int64(0)
    now = TRADING
    for i in range(count):
        row, m = rows[i], messages[i]
        kind, size = m["kind"], np.int64(m["size"])
        if m["time_ns"] != row["time_ns"]:
            return TIME, i, m["time_ns"], row["time_ns"]
        if row["time_ns"] < time or row["time_ns"] > DAY_NS:
            return TIME_RANGE, i, time, row["time_ns"]
        time = row["time_ns"]
        if i + 1 < count and rows[i + 1]["time_ns"] == time:
            end = np.int64(rows[i + 1]["group_end"])
        else:
            end = np.int64(i)
        if row["group_end"] != end or end < i or end >= count:
            return GROUP, i, end, np.int64(row["group_end"])
        if kind < NEW or kind > HALT:
            return KIND, i, np.int64(HALT), np.int64(kind)
        if m["side"] < -1 or m["side"] > 1:
            return SIDE, i, np.int64(1), np.int64(m["side"])
        if size < 0:
            return SIZE, i, np.int64(0), size
        if m["price"] < -FURTHEST or m["price"] > FURTHEST:
            return PRICE, i, np.int64(FURTHEST), m["price"]
        if m["order"] < -1 or m["order"] >= count or (m["order"] >= 0) != (kind <= EXECUTE):
            return ORDER, i, np.int64(count - 1), np.int64(m["order"])
        if m["birth"] < -1 or m["birth"] > i:
            return BIRTH, i, np.int64(i), np.int64(m["birth"])
        if m["slot"] < -1 or m["slot"] >= count:
            return SLOT, i, np.int64(count - 1), np.int64(m["slot"])
        if kind == HALT:
            now = HALTED if m["price"] == -1 else (QUOTING if m["price"] == 0 else TRADING)
        status = CROSSING if kind == CROSS and now == TRADING else now
        if m["status"] != status:
            return STATUS, i, np.int64(status), np.int64(m["status"])
        if row["status"] != status:
            return ROW_STATUS, i, np.int64(status), np.int64(row["status"])
        if m["mid2"] != mid2:
            return MID_BEFORE, i, mid2, m["mid2"]
        if kind == EXECUTE:
            if m["side"] < 0:
                bought += size
            else:
                sold += size
        elif kind == HIDDEN and mid2 > 0:
            hidden += size * np.sign(2 * m["price"] - mid2)
        bid, ask = book[i, 0, 0], book[i, 1, 0]
        if bid["size"] > 0 and ask["size"] > 0:
            best2 = 2 * base + np.int64(bid["price"]) + np.int64(ask["price"])
            if mid2 > 0:
                moves2 += (best2 - mid2) ** 2
            mid2 = best2
        if i > 0:
            whole = bid["size"] > 0 and ask["size"] > 0 and book[i - 1, 0, 0]["size"] > 0 and book[i - 1, 1, 0]["size"] > 0
            if whole:
                flow += _flow(book[i - 1, 0, 0], bid, 1) - _flow(book[i - 1, 1, 0], ask, -1)
            else:  # the price of an empty level is the reader's business
                flow = row["flow"]
        if row["mid2"] != mid2:
            return MID, i, mid2, row["mid2"]
        if row["bought"] != bought:
            return BOUGHT, i, bought, row["bought"]
        if row["sold"] != sold:
            return SOLD, i, sold, row["sold"]
        if row["hidden"] != hidden:
            return HIDDEN_SUM, i, hidden, row["hidden"]
        if row["flow"] != flow:
            return FLOW, i, flow, row["flow"]
        if row["moves2"] != moves2:
            return MOVES, i, moves2, row["moves2"]
    return 0, 0, np.int64(0), np.int64(0)


@njit
def _flow(before, after, better):
    """Change of what stands at the best level, lots; see `tape_index`."""
    change = np.int64(0)
    if better * after["price"] >= better * before["price"]:
        change += after["size"]
    if better * after["price"] <= better * before["price"]:
        change -= before["size"]
    return change


@njit
def book_fault(book, links, touches):
    """Of `book` and `links` of a day with that many touches."""
    count, depth = book.shape[0], book.shape[2]
    for i in range(count):
        for s in range(2):
            better = 1 if s == 0 else -1
            showing = True
            for j in range(depth):
                size, price = book[i, s, j]["size"], np.int64(book[i, s, j]["price"])
                touch, cross = links[i, s, j]["touch"], links[i, s, j]["cross"]
                if size < 0:
                    return LEVEL_SIZE, i, np.int64(0), np.int64(size)
                if size == 0:
                    showing = False
                    if price != 0:
                        return EMPTY_PRICE, i, np.int64(0), price
                    if touch != 0 or cross != 0:
                        return LINK_EMPTY, i, np.int64(0), np.int64(max(touch, cross))
                    continue
                if not showing:
                    return LEVEL_GAP, i, np.int64(0), np.int64(size)
                if price < 0 or price >= NO_ROW:
                    return LEVEL_PRICE, i, np.int64(0), price
                if j > 0 and better * price >= better * np.int64(book[i, s, j - 1]["price"]):
                    return LEVEL_ORDER, i, np.int64(book[i, s, j - 1]["price"]), price
                if touch < NO_TOUCH or touch >= touches:
                    return LINK_TOUCH, i, np.int64(touches - 1), np.int64(touch)
                if cross != NO_ROW and (cross <= i or cross >= count):
                    return LINK_CROSS, i, np.int64(count - 1), np.int64(cross)
    return 0, 0, np.int64(0), np.int64(0)


@njit
def touch_fault(touches, messages, base):
    """Of `touches` of a day."""
    count, before = len(messages), np.int64(-1)
    for t in range(len(touches)):
        touch = touches[t]
        row, kind = np.int64(touch["row"]), touch["kind"]
        if row < 0 or row >= count:
            return TOUCH_ROW, t, np.int64(count - 1), row
        if row < before:
            return TOUCH_ORDER, t, before, row
        m = messages[row]
        if touch["status"] != m["status"]:
            return TOUCH_STATUS, t, np.int64(m["status"]), np.int64(touch["status"])
        if kind <= EXECUTE:
            if kind < NEW or kind != m["kind"]:
                return TOUCH_KIND, t, np.int64(m["kind"]), np.int64(kind)
            if touch["size"] != m["size"]:
                return TOUCH_SIZE, t, np.int64(m["size"]), np.int64(touch["size"])
            if (touch["birth"] >= 0 or m["birth"] >= 0) and touch["birth"] != m["birth"]:
                return TOUCH_BIRTH, t, np.int64(m["birth"]), np.int64(touch["birth"])
            if -1 - np.int64(touch["birth"]) > row:
                return TOUCH_BIRTH, t, row, np.int64(touch["birth"])
        elif kind == ADOPT or kind == EVICT:
            if touch["size"] < 0:
                return TOUCH_SIZE, t, np.int64(0), np.int64(touch["size"])
            if touch["birth"] != -1:
                return TOUCH_BIRTH, t, np.int64(-1), np.int64(touch["birth"])
            if touch["volume"] != (touch["size"] if kind == ADOPT else 0):
                return TOUCH_VOLUME, t, np.int64(touch["size"] if kind == ADOPT else 0), np.int64(touch["volume"])
        else:
            return TOUCH_KIND, t, np.int64(ADOPT), np.int64(kind)
        if touch["volume"] < 0:
            return TOUCH_VOLUME, t, np.int64(0), np.int64(touch["volume"])
        above = m["mid2"] - 2 * base
        if touch["mid2"] != (above if m["mid2"] > 0 and above <= NO_ROW else ELSEWHERE):
            return TOUCH_MID, t, above, np.int64(touch["mid2"])
        if touch["last"] != 0 and touch["last"] != 1:
            return TOUCH_LAST, t, np.int64(1), np.int64(touch["last"])
        before = np.int64(-1) if touch["last"] == 1 else row
    if len(touches) and touches[len(touches) - 1]["last"] != 1:
        return TOUCH_END, len(touches) - 1, np.int64(1), np.int64(0)
    return 0, 0, np.int64(0), np.int64(0)


@njit
def cross_fault(cross, blocks, messages, base):
    """Of `cross` and `cross_block` of a day: both follow from the messages."""
    low, high = NEVER_BID, NEVER_ASK
    for i in range(len(messages)):
        m = messages[i]
        bid, ask = NEVER_BID, NEVER_ASK
        if m["status"] == TRADING:
            if m["kind"] == EXECUTE:
                if m["side"] > 0:
                    bid = _near(m["price"] + 1 - base)
                else:
                    ask = _near(m["price"] - 1 - base)
            elif m["kind"] == NEW:
                if m["side"] > 0:
                    ask = _near(m["price"] - base)
                else:
                    bid = _near(m["price"] - base)
        if cross[0, i] != bid:
            return CROSS_ROW, i, np.int64(bid), np.int64(cross[0, i])
        if cross[1, i] != ask:
            return CROSS_ROW, i, np.int64(ask), np.int64(cross[1, i])
        if i % BLOCK == 0:
            low, high = NEVER_BID, NEVER_ASK
        low, high = min(low, bid), max(high, ask)
        if i % BLOCK == BLOCK - 1 or i == len(messages) - 1:
            if blocks[0, i // BLOCK] != low:
                return CROSS_BLOCK, i // BLOCK, np.int64(low), np.int64(blocks[0, i // BLOCK])
            if blocks[1, i // BLOCK] != high:
                return CROSS_BLOCK, i // BLOCK, np.int64(high), np.int64(blocks[1, i // BLOCK])
    return 0, 0, np.int64(0), np.int64(0)


@njit
def _near(price):
    return min(max(price, NEVER_ASK + 1), NEVER_BID - 1)


@njit
def window_fault(window, rows, days):
    """Of `window` of a set: its rows begin anew at most once a day."""
    before, begun = np.int64(-1), 1
    for i in range(len(window)):
        event = window[i]
        row = np.int64(event["row"])
        if row < 0 or row >= rows:
            return WINDOW_ROW, i, np.int64(rows - 1), row
        if row < before:
            begun += 1
        before = row
        if event["kind"] != ADOPT and event["kind"] != EVICT:
            return WINDOW_KIND, i, np.int64(ADOPT), np.int64(event["kind"])
        if event["side"] != 1 and event["side"] != -1:
            return WINDOW_SIDE, i, np.int64(1), np.int64(event["side"])
        if event["size"] <= 0:
            return WINDOW_SIZE, i, np.int64(1), np.int64(event["size"])
    if begun > days:
        return WINDOW_DAYS, len(window) - 1, np.int64(days), np.int64(begun)
    return 0, 0, np.int64(0), np.int64(0)
