"""What every market shows, in the same arrays: tasks, features and views read these and nothing else of a market.

Besides the letters of `emp_gym.types`: W look-backs that were asked for, I rows of trading rules.

=======  ==================  ======================================================================================
array    shape               meaning
=======  ==================  ======================================================================================
lane     LANE [N]            clock, money and counters of a lane
quote    QUOTE [N, M]        an instrument's price, status and what was traded since the decision before; our position
seen     SEEN [N, M, 1 + W]  sums over the session as of now, and as of each look-back
book     i8 [N, M, 4, L]     bid price, bid size, ask price, ask size; best first
open     OPEN [N, K]         own orders, the oldest first: those of ``lane["orders"]`` entries, the others are FREE
rules    RULES [I]           fees, lot, ticks and session; ``quote["rules"]`` says which row holds
=======  ==================  ======================================================================================

Entries of `LANE`, `OPEN` and `RULES` are larger than their fields. The other bytes belong to the market: its own types
(`within`) name the same memory and more, so that nothing is copied, nobody reads a market's own by name, and a kernel over
these arrays is compiled once for all markets. numpy copies the named fields of such a view only: whoever copies or fills whole
entries does it in the market's own type. Nobody but the market writes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from emp_gym.jit import hot
from emp_gym.types import RequestType, TradingStatus, View

NONE, LIMIT, MARKET, CANCEL, REPLACE = (int(kind) for kind in RequestType)
TRADING = int(TradingStatus.TRADING)
FREE, IN_FLIGHT, LIVE = 0, 1, 2  # `OPEN.state`; a cancel under way is `leaving`
ENDLESS = 1 << 62  # `Market.progress` of a lane whose source has come to its end
CLOSING_ID = -1  # id of the fills that close a position at the end of an episode
MOST_STEPS = 24  # prices from which another tick holds (the European tick size table has 19 bands)


def room(own: int, size: int, fields: Sequence[tuple]) -> np.dtype:
    """A record of `size` bytes whose `fields` begin, aligned, behind `own` bytes of the market's; a field may be (name, type, shape)."""
    packed = np.dtype(list(fields), align=True)
    return _record(size, {name: (packed[name], own + packed.fields[name][1]) for name in packed.names or ()})  # type: ignore[index]


def within(public: np.dtype, fields: Sequence[tuple]) -> np.dtype:
    """The record of a market's own: `fields` in the room before those of `public`, and these at their places.

    They come first so that numba does not take the one record for a kind of the other.
    """
    own, places = np.dtype(list(fields), align=True), dict(public.fields or {})
    first = min(at for _, at, *_ in places.values())
    if own.itemsize > first:
        raise ValueError(f"a market's own fields must fit {first} bytes, got {own.itemsize}")
    return _record(public.itemsize, {**{name: (own[name], own.fields[name][1]) for name in own.names or ()}, **places})  # type: ignore[index]


def _record(size: int, places: Mapping[str, tuple]) -> np.dtype:
    kinds, offsets = [place[0] for place in places.values()], [place[1] for place in places.values()]
    return np.dtype({"names": list(places), "formats": kinds, "offsets": offsets, "itemsize": size}, align=True)


LANE = room(
    64,
    256,
    [
        ("time_ns", "i8"),  # time of the decision
        ("decision", "i8"),  # decisions taken in this episode
        # where the market's source stands; of no meaning to tasks
        ("day", "i8"),  # number of the source's part
        ("row", "i8"),  # its last event that has happened
        ("seen_row", "i8"),  # the last event that is shown (earlier than `row` under feed latency)
        ("start_row", "i8"),
        ("end_row", "i8"),  # last event that this episode may reach
        ("midnight_utc_ns", "i8"),
        # account
        ("cash", "i8"),  # 1e-8 currency
        ("fees", "i8"),
        # counters of the episode
        ("sent", "i8"),  # orders accepted
        ("hit", "i8"),  # orders with at least one fill
        ("filled", "i8"),  # lots
        ("maker_filled", "i8"),  # lots
        ("captured2", "i8"),  # sum of side * (mid2 - 2 price) * lots: twice the spread captured, price units
        ("refused", "i8"),  # orders refused
        ("beyond", "i8"),  # lots taken beyond the visible book
        ("unknown_place", "i8"),  # orders posted beyond the visible window
        ("max_position", "i8"),  # largest |position|, lots
        ("position_sum", "i8"),  # sum over decisions of |position|
        ("orders", "i4"),  # used entries of `open`
    ],
)
"""One lane, orders aside: four cache lines."""

QUOTE = np.dtype(
    [
        ("position", "i8"),  # lots
        ("mid2", "i8"),  # best bid + best ask; the last known one while a side is empty
        ("mid2_before", "i8"),  # at the decision before
        ("tick", "i8"),  # price units; at the mid, where it depends on the price
        ("least_tick", "i8"),  # the smallest tick that any price has
        ("price_to_cash", "i8"),  # cash units (1e-8 currency) of a price unit and lot
        # since the decision before
        ("bought", "i8"),  # lots that aggressive buyers took
        ("sold", "i8"),
        ("flow", "i8"),  # order-flow imbalance of the best levels, lots
        ("hidden", "i8"),  # lots of hidden executions above the mid minus those below it
        ("rules", "i4"),  # row of `rules`
        ("status", "i1"),  # Status
    ],
    align=True,
)
"""One instrument, as a lane sees it now."""

SEEN = np.dtype(
    [
        ("time_ns", "i8"),
        ("mid2", "i8"),
        # sums over the session
        ("bought", "i8"),
        ("sold", "i8"),
        ("flow", "i8"),
        ("hidden", "i8"),
        ("moves2", "i8"),  # squared changes of mid2, price units squared
        ("messages", "i8"),
    ]
)
"""Sums at one event that has been shown: any trailing window is a difference of two. One cache line."""

OPEN = _record(
    128,
    {
        "price": ("i8", 0),  # price units
        "quantity": ("i8", 8),  # lots that remain; 0 in a FREE entry
        "ahead": ("i8", 16),  # lots ahead of us in the queue, -1 unknown
        "side": ("i1", 64),
        "state": ("i1", 65),  # FREE, IN_FLIGHT, LIVE
        "kind": ("i1", 66),  # LIMIT or MARKET
        "live": ("?", 67),
        "leaving": ("?", 69),  # its cancel is on its way
        "instrument": ("i2", 70),
        "id": ("i8", 80),  # 0 in a FREE entry
        "filled": ("i8", 88),  # lots
        "target": ("i8", 112),  # the order that this one replaces, 0 for none
        "decision": ("i4", 124),  # decision in which it was sent
    },
)
"""One own order: two cache lines. Where its fields stand is where the walk over a recorded day wants them."""

RULES = room(
    128,
    640,
    [
        ("price_to_cash", "i8"),  # cash units (1e-8 currency) of a price unit and lot
        ("maker_numerator", "i8"),  # fee in cash units of a price unit and lot, as a fraction
        ("maker_denominator", "i8"),
        ("taker_numerator", "i8"),
        ("taker_denominator", "i8"),
        ("maker_per_lot", "i8"),  # cash units a lot, on top; negative = rebate
        ("taker_per_lot", "i8"),
        ("lot", "i8"),  # quantity multiple
        ("session_start_ns", "i8"),
        ("session_ns", "i8"),
        ("midnight_utc_ns", "i8"),
        ("first_tick", "i8"),  # tick below the first step, and everywhere where there are none; price units
        ("least_tick", "i8"),  # the smallest of all
        ("steps", "i8"),  # used entries of the two arrays below
        ("step_price", "i8", (MOST_STEPS,)),  # from which price, ascending
        ("step_tick", "i8", (MOST_STEPS,)),  # another tick holds
    ],
)
"""Under which rules an instrument trades."""


class Public(NamedTuple):
    """The arrays of a market, as this module's table has them."""

    lane: np.ndarray
    quote: np.ndarray
    seen: np.ndarray
    book: np.ndarray
    open: np.ndarray
    rules: np.ndarray


def allocate(
    lanes: int, instruments: int, slots: int, levels: int, looks: int, rules: np.ndarray,
    zeros: Callable[..., np.ndarray] = np.zeros,
) -> Public:  # fmt: skip
    """Empty arrays for `lanes` lanes, `slots` own orders in each and `looks` look-backs; `rules` is taken as it is."""
    return Public(
        lane=zeros(lanes, LANE),
        quote=zeros((lanes, instruments), QUOTE),
        seen=zeros((lanes, instruments, 1 + looks), SEEN),
        book=zeros((lanes, instruments, 4, levels), np.int64),
        open=zeros((lanes, slots), OPEN),
        rules=rules,
    )


def view_of(public: Public, named: Mapping[str, np.ndarray] | None = None) -> View:
    """What the arrays show, read-only and without copying; `named` is what a market publishes besides [N, M, ...]."""

    def shown(array: np.ndarray) -> np.ndarray:
        view = array.view()
        view.setflags(write=False)
        return view

    lane, quote, _, book, own, _ = public
    return View(
        time_ns=shown(lane["time_ns"]),
        status=shown(quote["status"]),
        bid_price=shown(book[:, :, 0]),
        bid_size=shown(book[:, :, 1]),
        ask_price=shown(book[:, :, 2]),
        ask_size=shown(book[:, :, 3]),
        bought=shown(quote["bought"]),
        sold=shown(quote["sold"]),
        cash=shown(lane["cash"]),
        fees=shown(lane["fees"]),
        position=shown(quote["position"]),
        order_id=shown(own["id"]),
        order_live=shown(own["live"]),
        order_side=shown(own["side"]),
        order_price=shown(own["price"]),
        order_quantity=shown(own["quantity"]),
        order_ahead=shown(own["ahead"]),
        decision=shown(lane["decision"]),
        mid2=shown(quote["mid2"]),
        tick=shown(quote["tick"]),
        price_to_cash=shown(quote["price_to_cash"]),
        midnight_utc_ns=shown(lane["midnight_utc_ns"]),
        order_instrument=None if quote.shape[1] == 1 else shown(own["instrument"]),
        least_tick=shown(quote["least_tick"]),
        order_kind=shown(own["kind"]),
        order_leaving=shown(own["leaving"]),
        order_decision=shown(own["decision"]),
        named={name: shown(array) for name, array in (named or {}).items()},
    )


# --------------------------------------------------------------------------------------------------------------- kernels


@hot
def tick_at(rules, price):
    """The tick of an order at `price`, price units."""
    tick = rules["first_tick"]
    for k in range(rules["steps"]):
        if price < rules["step_price"][k]:
            break
        tick = rules["step_tick"][k]
    return tick


@hot
def ticks_away(rules, price, ticks):
    """The price so many ticks above `price`, below it where `ticks` is negative; each tick is that of the price it starts
    from, or leads down to."""
    if rules["steps"] == 0:
        return price + ticks * rules["first_tick"]
    for _ in range(ticks):
        price += tick_at(rules, price)
    for _ in range(-ticks):
        price -= tick_at(rules, price - 1)
    return price


@hot
def on_tick(rules, price, side):
    """`price` itself if it is on its tick, else the next one that is: above it for `side` +1, below for -1."""
    tick = tick_at(rules, price)
    over = price % tick
    if over == 0:
        return price
    return price - over + tick if side > 0 else price - over
