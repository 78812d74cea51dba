"""One day of a tape as hftbacktest's events: by order (L3) and by price (L2), every visible level in both.

LOBSTER's file shows L levels. A level that leaves them is taken away (its orders are cancelled) and one that comes back
is put there anew, so that hftbacktest sees exactly the visible book. An order that was not born in sight is entered
when its level comes into sight, with all that the file later says to have gone from it while in sight; what remains of
the level's volume is one order that nothing happens to. An execution is a fill and then a modify or cancel, as in
market-by-order feeds. Hidden executions, crosses and halts change no visible level and are left out; feed and exchange
have the same times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.types import MessageType

Level = tuple[int, int]  # side, price
_NEW, _DELETE, _EXECUTE, _ADOPT = int(MessageType.NEW), int(MessageType.DELETE), int(MessageType.EXECUTE), int(MessageType.ADOPT)
_REST = 1 << 40  # order numbers from here on: the rest of a level's volume


def market_by_order(tape: TapeSet) -> np.ndarray:
    """hftbacktest's L3 events of the tape's only day."""
    from hftbacktest import ADD_ORDER_EVENT, CANCEL_ORDER_EVENT, FILL_EVENT, MODIFY_ORDER_EVENT

    contents = _contents(tape)
    book: dict[Level, dict[int, int]] = defaultdict(dict)
    events, adopted = [], 0
    for time_ns, kind, level, size, order in _stream(tape):
        here = book[level]
        if kind == _NEW:
            here[order] = size
            events.append((ADD_ORDER_EVENT, time_ns, level, size, order))
        elif kind <= _EXECUTE:
            if order not in here:
                continue
            if kind == _EXECUTE:
                events.append((FILL_EVENT, time_ns, level, size, order))
            here[order] -= size
            if kind == _DELETE or here[order] <= 0:
                del here[order]
                events.append((CANCEL_ORDER_EVENT, time_ns, level, 0, order))
            else:
                events.append((MODIFY_ORDER_EVENT, time_ns, level, here[order], order))
        else:
            events += [(CANCEL_ORDER_EVENT, time_ns, level, 0, number) for number in here]
            here.clear()
            if kind == _ADOPT:
                rest = size - sum(contents[adopted].values())
                here.update(({_REST + adopted: rest} if rest > 0 else {}) | contents[adopted])
                events += [(ADD_ORDER_EVENT, time_ns, level, lots, number) for number, lots in here.items()]
                adopted += 1
    return _packed(events)


def _contents(tape: TapeSet) -> list[dict[int, int]]:
    """For each ADOPT event, the orders that the file names later while the level stays in sight: order -> lots."""
    born: dict[Level, set[int]] = defaultdict(set)
    spell: dict[Level, dict[int, int]] = {}
    contents = []
    for _, kind, level, size, order in _stream(tape):
        if kind == _NEW:
            born[level].add(order)
        elif kind <= _EXECUTE:
            if order not in born[level] and level in spell:
                spell[level][order] = spell[level].get(order, 0) + size
        else:
            born[level].clear()
            spell[level] = {}
            if kind == _ADOPT:
                contents.append(spell[level])
    return contents


def market_by_price(tape: TapeSet) -> np.ndarray:
    """hftbacktest's L2 events of the tape's only day: trades, and the volume of every level that changed."""
    from hftbacktest import DEPTH_EVENT, TRADE_EVENT

    volume: dict[Level, int] = defaultdict(int)
    events = []
    for time_ns, kind, level, size, _ in _stream(tape):
        if kind == _EXECUTE:
            events.append((TRADE_EVENT, time_ns, (-level[0], level[1]), size, 0))
        if kind == _NEW:
            volume[level] += size
        elif kind <= _EXECUTE:
            volume[level] = max(volume[level] - size, 0)
        else:
            volume[level] = size if kind == _ADOPT else 0
        events.append((DEPTH_EVENT, time_ns, level, volume[level], 0))
    return _packed(events)


def _stream(tape: TapeSet) -> Iterator[tuple[int, int, Level, int, int]]:
    """(ns, kind, (side, price), lots, order) of every message of kinds 1-4 and every window event, in order."""
    m, w = tape.messages, tape.window
    columns = [m[name].tolist() for name in ("time_ns", "kind", "side", "price", "size", "order")]
    window = [w[name].tolist() for name in ("row", "kind", "side", "price", "size")]
    at = 0
    for row, (time_ns, kind, side, price, size, order) in enumerate(zip(*columns, strict=True)):
        if kind <= _EXECUTE:
            yield time_ns, kind, (side, price), size, order
        while at < len(w) and window[0][at] == row:
            yield time_ns, window[1][at], (window[2][at], window[3][at]), window[4][at], -1
            at += 1


def _packed(events: list[tuple[int, int, Level, int, int]]) -> np.ndarray:
    """hftbacktest's event records; prices stay in price units."""
    from hftbacktest import BUY_EVENT, EXCH_EVENT, LOCAL_EVENT, SELL_EVENT
    from hftbacktest.types import event_dtype

    out: Any = np.zeros(len(events), event_dtype)
    code, time_ns, level, size, order = zip(*events, strict=True)
    side = np.array([s for s, _ in level])
    out["ev"] = np.array(code, np.uint64) | np.uint64(EXCH_EVENT | LOCAL_EVENT)
    out["ev"] |= np.where(side > 0, np.uint64(BUY_EVENT), np.uint64(SELL_EVENT))
    out["exch_ts"] = out["local_ts"] = time_ns
    out["px"], out["qty"] = [price for _, price in level], size
    out["order_id"] = np.array(order, np.int64) + 1
    return out
