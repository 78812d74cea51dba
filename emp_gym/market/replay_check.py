"""Bounds of a replay market's arrays that come from a file: nothing is a place, a number or an enum that a lane could not have reached.

Every field that a kernel follows is compared with the tape under it; what the market shows (book, row, rules of the day) must be
what the tape has there. `DataError` names array, lane, field, expected and got.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from emp_gym.data.array_bounds import MOST, Arrays, Bounds
from emp_gym.data.tape.format import NO_ROW
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.lots import MOST_CASH
from emp_gym.market.public import ENDLESS, FREE, IN_FLIGHT, LIMIT, LIVE, MARKET, SEEN
from emp_gym.market.records import BEYOND
from emp_gym.types import EMPTY_ASK, EMPTY_BID, OrderAck, TradingStatus

LOTS = 1 << 40  # of one order, and of a queue
PRICE = 1 << 50
LATEST_NS = 1 << 57  # four years after midnight
_COUNTED = ("filled", "maker_filled", "sent", "hit", "refused", "beyond", "unknown_place", "max_position", "position_sum")
_AMOUNTS = ("cash", "fees", "position", "captured2")
_QUOTED = ("bought", "sold", "flow", "hidden", "mid2_before")


class Replaying(Protocol):
    """What is asked of the market: `emp_gym.market.replay.ReplayMarket`."""

    lanes: int
    config: Any
    data: TapeSet
    days: np.ndarray
    looks: np.ndarray
    taken: np.ndarray
    notes_of_a_row: int

    def make_room(self, notes: int) -> None: ...


def with_notes(market: Replaying, saved: Arrays) -> Arrays:
    """`saved` with its notes of consumed depth, which grow with the prices at which was taken, as wide as those of `market`, which gets
    the room that they need."""
    stored = np.ascontiguousarray(saved.get("taken", np.zeros(0, np.uint8))).reshape(-1).view(np.uint8)
    width, rest = divmod(stored.nbytes, market.lanes * market.taken.itemsize)
    if rest or "taken" not in saved:
        return saved  # `typed` refuses it
    market.make_room(width)
    there = np.zeros_like(market.taken)
    there[:, :width] = stored.view(there.dtype).reshape(market.lanes, width)
    return {**saved, "taken": there}


def check(market: Replaying, saved: Arrays, where: str) -> None:
    """`DataError` where `saved`, arrays as `ReplayMarket.arrays` gives, cannot be a state of `market`."""
    bounds, state = Bounds(where), saved["state"]
    for name, array in saved.items():
        bounds.plain(name, array)
    bounds.within("state.day", state["day"], 0, len(market.data.info) - 1)
    begun = saved["public.quote"]["tick"][:, 0] != 0  # a lane that no reset has begun holds zeros
    days = market.days[state["day"]]
    _state(bounds, market, saved, days, begun)
    _seen(bounds, market, saved, days, begun)
    _orders(bounds, market, saved, days)
    _logs(bounds, saved, days)
    bounds.within("progress", saved["progress"], 0, ENDLESS)
    bounds.within("outcome", saved["outcome"], 0, max(OrderAck))


def _state(bounds: Bounds, market: Replaying, saved: Arrays, days: np.ndarray, begun: np.ndarray) -> None:
    state, quote, last = saved["state"], saved["public.quote"][:, 0], days["rows"] - 1
    furthest = int(market.days["rows"].max()) - 1
    notes = saved["taken"].shape[1] if market.config.half_life_ns else market.notes_of_a_row
    for name, high in (
        ("row", last), ("seen_row", state["row"]), ("last_row", state["seen_row"]), ("start_row", state["row"]), ("end_row", last),
        ("target", furthest), ("consumed_row", furthest), ("next_row", NO_ROW), ("decision", LOTS),
        ("orders", saved["slots"].shape[1]), ("consumed", notes), ("fills", saved["fills"].shape[1]),
        ("exhausted", 1), *((name, MOST) for name in _COUNTED),
    ):  # fmt: skip
        bounds.within(f"state.{name}", state[name], 0, high)
    for name in _AMOUNTS:
        most = 2 * MOST_CASH if name == "cash" else MOST
        bounds.within(f"state.{name}", state[name], -most, most)
    for name in _QUOTED:
        bounds.within(f"quote.{name}", quote[name], -MOST, MOST)
    bounds.within("quote.status", quote["status"], 0, max(TradingStatus))
    bounds.equal("quote.position", quote["position"], state["position"])
    rows = market.data.rows[days["row0"] + state["row"]]
    bounds.within("state.time_ns", state["time_ns"], rows["time_ns"], LATEST_NS, begun)
    bounds.equal("state.midnight_utc_ns", state["midnight_utc_ns"], days["midnight_utc_ns"], begun)
    bounds.equal("quote.rules", quote["rules"], state["day"])
    for name in ("price_to_cash", "least_tick"):
        bounds.equal(f"quote.{name}", quote[name], days[name], begun)
    ticks = (quote["tick"] == days["first_tick"]) | (
        (days["step_tick"] == quote["tick"][:, None]) & (np.arange(days["step_tick"].shape[1]) < days["steps"][:, None])
    ).any(axis=1)
    bounds.within("quote.tick", np.where(ticks, quote["tick"], -1), 1, MOST, begun)


def _seen(bounds: Bounds, market: Replaying, saved: Arrays, days: np.ndarray, begun: np.ndarray) -> None:
    """What the view shows is what the tape has."""
    number = saved["state"]["seen_row"]
    rows, levels = market.data.rows[days["row0"] + number], market.data.book[days["row0"] + number]
    for w, look in enumerate([0, *market.looks.tolist()]):
        seen, then = saved["public.seen"][:, 0, w], np.maximum(number - look, 0)
        bounds.equal("seen.messages", seen["messages"], then, begun)
        for name in SEEN.names[:-1] if SEEN.names else ():
            bounds.equal(f"seen.{name}", seen[name], market.data.rows[days["row0"] + then][name], begun)
    for name in ("mid2", "status"):
        bounds.equal(f"quote.{name}", saved["public.quote"][name][:, 0], rows[name], begun)
    size = levels["size"].astype(np.int64)
    price = levels["price"] + days["base"][:, None, None]
    for s, empty in enumerate((EMPTY_BID, EMPTY_ASK)):
        bounds.equal("book", saved["public.book"][:, 0, 2 * s], np.where(size[:, s] > 0, price[:, s], empty), begun[:, None])
        bounds.equal("book", saved["public.book"][:, 0, 2 * s + 1], size[:, s], begun[:, None])


def _orders(bounds: Bounds, market: Replaying, saved: Arrays, days: np.ndarray) -> None:
    state, slots = saved["state"], saved["slots"]
    used = np.arange(slots.shape[1]) < state["orders"][:, None]
    live, flying = used & (slots["state"] == LIVE), used & (slots["state"] == IN_FLIGHT)
    last, row = (days["rows"] - 1)[:, None], state["row"][:, None]

    def within(name: str, low: Any, high: Any, which: np.ndarray) -> None:
        bounds.within(f"slots.{name}", slots[name], low, high, which)

    within("state", IN_FLIGHT, LIVE, used)
    within("state", FREE, FREE, ~used)
    within("id", 0, 0, ~used)
    within("quantity", 0, 0, ~used)
    bounds.equal("slots.live", slots["live"].view(np.uint8), live)
    within("id", 1, MOST, used)
    within("quantity", 1, LOTS, used)
    within("kind", LIMIT, MARKET, used)
    within("kind", LIMIT, LIMIT, live)
    bounds.within("slots.side", np.abs(slots["side"].astype(np.int64)), 1, 1, used)
    within("price", -PRICE, PRICE, used)
    within("price", 1, PRICE, used & (slots["kind"] == LIMIT))
    within("passed", 0, 1, used)
    within("filled", 0, MOST, used)
    within("target", 0, MOST, used)
    within("decision", 0, state["decision"][:, None], used)
    within("arrive_row", 0, last, used)
    within("arrive_ns", 0, LATEST_NS, used)
    leaving = used & (slots["cancel_row"] != NO_ROW)
    bounds.equal("slots.leaving", slots["leaving"].view(np.uint8), leaving, used)
    within("instrument", 0, 0, used)
    within("cancel_row", 0, last, leaving)
    within("cancel_ns", 0, LATEST_NS, leaving)
    within("ahead", -1, LOTS, live)
    within("behind", 0, LOTS, live)
    within("counted", 0, 0, live)
    within("nameless", 0, LOTS, live)
    within("born_row", 0, row, live)
    within("spell_row", -1, row, live)
    within("cross_row", row + 1, last, live & (slots["cross_row"] != NO_ROW))
    within("exec_row", 0, last, live & (slots["exec_row"] != NO_ROW))
    touched = live & (slots["touch_row"] != NO_ROW)
    within("touch_row", row + 1, last + 1, touched)
    first = days["touch0"][:, None]
    end = np.append(market.days["touch0"][1:], len(market.data.touches))[state["day"]][:, None]
    within("touch", first, end - 1, touched)
    within("touch", first - 1, end, live & ~touched)
    known = np.where(live, np.minimum(slots["cross_row"], np.minimum(slots["cancel_row"], slots["touch_row"])), NO_ROW)
    known = np.where(flying, slots["arrive_row"], known).min(axis=1, initial=NO_ROW)
    bounds.within("state.next_row", state["next_row"], 0, known, state["orders"] > 0)


def _logs(bounds: Bounds, saved: Arrays, days: np.ndarray) -> None:
    """Consumed depth, and the own executions of the last step."""
    state, last = saved["state"], (days["rows"] - 1)[:, None]
    for name, count, latest in (("taken", "consumed", state["time_ns"][:, None]), ("fills", "fills", LATEST_NS)):
        log = saved[name]
        used = np.arange(log.shape[1]) < state[count][:, None]
        bounds.within(f"{name}.row", log["row"], 0, last, used)
        bounds.within(f"{name}.time_ns", log["time_ns"], 0, latest, used)
        amount = "parts" if name == "taken" else "quantity"
        bounds.within(f"{name}.{amount}", log[amount], 0, MOST, used)
        bounds.within(f"{name}.price", log["price"], -PRICE, PRICE, used)
        bounds.within(f"{name}.side", np.abs(log["side"].astype(np.int64)), 1, BEYOND if name == "taken" else 1, used)
    for name in ("maker", "beyond"):
        log = saved["fills"]
        bounds.within(f"fills.{name}", log[name], 0, 1, np.arange(log.shape[1]) < state["fills"][:, None])
