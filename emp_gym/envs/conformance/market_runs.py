"""Checks of a market: its clock, and that lanes, threads, copies, splits and the future do not leak into what it shows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from emp_gym.envs.conformance.market_driver import EPISODE, LANES, Found, MarketDriver, MarketSubject, first, shown
from emp_gym.envs.conformance.subject import Skip, flat
from emp_gym.market.base import Market
from emp_gym.market.public import ENDLESS

SHORT = 24  # decisions, where whole courses are compared byte for byte

# ------------------------------------------------------------------------------------------------ time, lanes, copies, chance


def time_goes_on(subject: MarketSubject) -> Found:
    """A decision moves the active lanes' clocks by one step, and not a byte of the others."""
    market = subject.make()
    course, found = MarketDriver(market), []
    for step in range(SHORT // 2):
        market.active[:] = (course.everyone + step) % 3 > 0 if step else False  # once nobody moves
        still = {name: array[~market.active].copy() for name, array in _of_lanes(market).items()}
        moment = course.step(course.ask())
        moved = market.active
        found += [f"{name} of a lane that is not active has changed" for name, array in _of_lanes(market).items()
                  if array[~moved].tobytes() != still[name].tobytes()]  # fmt: skip
        gone = market.public.lane["time_ns"] - moment.before.lane["time_ns"]
        taken = market.public.lane["decision"] - moment.before.lane["decision"]
        if (taken != moved).any():
            found.append(f"decisions went on by {taken.tolist()}, expected {moved.astype(int).tolist()}")
        if (gone[moved] < 0).any() or (market.clock.ns and (gone[moved] != market.clock.ns).any()):
            found.append(f"time went on by {gone[moved].tolist()} ns, expected {market.clock}")
        if ((market.progress != market.public.lane["decision"]) & (market.progress < ENDLESS) & moved).any():
            found.append(f"progress is {market.progress.tolist()} after decision {market.public.lane['decision'].tolist()}")
    yield from first(iter(found))


def _of_lanes(market: Market) -> dict[str, np.ndarray]:
    """Everything that a market says of its lanes, field by field: what lies between fields has no meaning."""
    arrays = {name: array for name, array in market.public._asdict().items() if name != "rules"}
    return dict(flat("public", {**arrays, "named": market.named, "progress": market.progress}))


def record(market: Market, decisions: int = SHORT, lanes: int = 1, starts: Any = None) -> list[bytes]:
    """What the first lanes are shown after each decision of a course, and when one of them is closed."""
    walk = MarketDriver(market, starts).walk(decisions)
    return [shown(market, lanes) for moment in walk if moment.closed is None or (moment.closed < lanes).any()]


def lanes_do_not_know_each_other(subject: MarketSubject) -> Found:
    """A lane goes the same way beside 1, 3, 7 and 320 others."""
    alone = record(subject.make(1, threads=1))
    for lanes in (3, 7, 320):
        yield from _differs(alone, record(subject.make(lanes, threads=1)), f"lane 0 alone and among {lanes}")
    three, seven = (record(subject.make(lanes, threads=1), lanes=3) for lanes in (3, 7))
    yield from _differs(three, seven, "three lanes, and the same among seven")


def threads_change_nothing(subject: MarketSubject) -> Found:
    """One thread and two give the same bytes."""
    one, two = (record(subject.make(320, threads=threads), 8, 320) for threads in (1, 2))
    yield from _differs(one, two, "1 thread and 2")


def same_start_same_bytes(subject: MarketSubject) -> Found:
    """The same starts and requests give the same bytes: in another market, and in the same one again."""
    market = subject.make()
    starts = market.starts.draw(np.arange(LANES), np.arange(LANES, dtype=np.uint64))
    once = record(market, EPISODE // 2 - 1, LANES, starts)
    yield from _differs(once, record(subject.make(), EPISODE // 2 - 1, LANES, starts), "one market and another of the same")
    yield from _differs(once, record(market, EPISODE // 2 - 1, LANES, starts), "a market and the same one again")


def copies_continue(subject: MarketSubject) -> Found:
    """A deep copy, a pickle and a fresh market with the arrays of this one go on as it does, and leave it alone."""
    ways: dict[str, Callable[[Market], Market]] = {
        "a deep copy": copy.deepcopy, "a pickle": lambda market: pickle.loads(pickle.dumps(market)),
        "a fresh market with its arrays": lambda market: _restored(subject.make(), market),
    }  # fmt: skip
    untouched = _rest(MarketDriver(subject.make()))
    for name, way in ways.items():
        course = MarketDriver(subject.make())
        for _ in course.walk(EPISODE // 4):
            pass
        twin = copy.copy(course)
        twin.market, twin.random = way(course.market), course.random.copy()
        yield from _differs(untouched, _rest(twin, 0), f"the market and {name}")
        yield from _differs(untouched, _rest(course, 0), f"the market and itself, of which {name} has gone on")


def _restored(fresh: Market, market: Market) -> Market:
    fresh.restore(fresh.checked(market.kept("a copy"), "a copy"))
    return fresh


def _rest(course: MarketDriver, before: int = EPISODE // 4) -> list[bytes]:
    for _ in course.walk(before):
        pass
    return [shown(course.market, LANES) for _ in course.walk(EPISODE // 4)]


def _differs(one: list[bytes], other: list[bytes], who: str) -> Found:
    if one != other:
        at = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
        yield f"{who} differ from step {at} on"


# ------------------------------------------------------------------------------------------------- starts, names, the future


def starts_keep_apart(subject: MarketSubject) -> Found:
    """Splits share no start and no event, disjoint episodes share none either, and no lane passes the end of its window."""
    for one, other in (("train", "test"), ("fit", "validation"), ("validation", "test")):
        for a in subject.make(split=one).starts.table:
            for b in subject.make(split=other).starts.table:
                if a[0] == b[0] and a[1] <= b[3] and b[1] <= a[3]:
                    yield f"{one} and {other} share events {max(a[1], b[1])} to {min(a[3], b[3])} of part {a[0]}"
    market = subject.make(split="test")
    windows = market.starts.disjoint()
    if len(set(windows)) != len(windows) or windows != sorted(windows):
        yield "disjoint starts are not ascending, or one is there twice"
    lanes = np.arange(min(8, len(windows)))
    pinned = [market.starts.pin(*window) for window in windows[: len(lanes)]]
    market = subject.make(len(lanes), split="test")
    day, row, end = (np.array(column, np.int64) for column in zip(*pinned))
    course = MarketDriver(market, (day, row, end))
    for _ in range(EPISODE):
        course.step()
        if ((market.public.lane["row"] > market.public.lane["end_row"]) & (market.progress < ENDLESS)).any():
            yield "a lane has passed the end of its window and says that it goes on"
            return
    last = market.public.lane["row"]
    yield from first(f"disjoint episodes {i} and {i + 1} overlap: {last[i]} and {row[i + 1]}" for i in lanes[:-1]
                     if day[i] == day[i + 1] and row[i + 1] < last[i])  # fmt: skip


def named_are_announced(subject: MarketSubject) -> Found:
    """What is published by name is what was announced: names, types, shapes, finite numbers, written in place, shown read-only."""
    market = subject.make()
    if not market.published and not market.named:
        raise Skip("it publishes no array by name")
    if set(market.published) != set(market.named):
        yield f"announced are {sorted(market.published)}, published {sorted(market.named)}"
    course, memory = MarketDriver(market), {name: array.ctypes.data for name, array in market.named.items()}
    sizes = {"N": market.lanes, "M": market.public.quote.shape[1], "W": len(market.spec.looks)}
    for name in sorted(set(market.published) & set(market.named)):
        told, array = market.published[name], market.named[name]
        letters = told.shape.split()
        known = [sizes.get(letter, int(letter) if letter.isdigit() else size) for letter, size in zip(letters, array.shape)]
        if array.dtype != np.dtype(told.dtype) or list(array.shape) != known or len(letters) != array.ndim or letters[:2] != ["N", "M"]:
            yield f"{name}: announced {told.dtype} [{', '.join(letters)}], got {array.dtype} {list(array.shape)}"
    for _ in course.walk(SHORT):
        for name, array in market.named.items():
            seen = market.view.named[name]
            if array.ctypes.data != memory[name] or not np.shares_memory(seen, array) or seen.flags.writeable:
                yield f"{name} is not written in place, or not read-only in the view"
                return
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                yield f"{name} has numbers that are not finite"
                return


def nothing_after_t(subject: MarketSubject) -> Found:
    """Other noise from a decision on changes nothing of what is shown before it, and something after it."""
    try:
        subject.make().branch(0, 1)
    except NotImplementedError:
        raise Skip("it has no `branch`; of recorded data the look-ahead check of --env rewrites the future") from None
    at, branched = EPISODE // 4, subject.make()
    branched.branch(at + 1, 99)
    plain, other = (_shown_each(market, at + 3) for market in (subject.make(), branched))
    for step in range(at + 1):
        if plain[step] != other[step]:
            yield f"what is shown at decision {step} depends on the noise of decision {at + 1}"
            return
    if plain[at + 1] == other[at + 1]:
        yield f"other noise from decision {at + 1} on changes nothing there: `branch` does nothing, or the market shows old numbers"


def _shown_each(market: Market, decisions: int) -> list[bytes]:
    course = MarketDriver(market)
    return [shown(market, LANES), *(shown(moment.market, LANES) for moment in course.walk(decisions) if moment.closed is None)]
