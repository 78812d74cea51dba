"""hftbacktest (optional) on the same day, with the same quoting policy at the same decisions, beside `ReplayMarket`.

A day is converted to hftbacktest's own event formats so that it sees every visible level (see `market_by_order` and
`market_by_price`); the best prices of both are compared at every decision, and the fills order by order.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emp_gym.benchmarks import days
from emp_gym.benchmarks.figures import Effort, Figures, say
from emp_gym.benchmarks.hft_events import market_by_order, market_by_price
from emp_gym.benchmarks.quoting import QuotingLanes
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.public import ENDLESS
from emp_gym.types import I64, MessageType

MESSAGES = 100  # between two decisions
FIRST_ROW = 200  # behind the opening cross
MISSING = "not installed: pip install -c constraints.txt hftbacktest"


class Quotes(NamedTuple):
    """What one quoting run did."""

    best: I64  # [T, 2] best bid and ask at each decision, price units, 0 where a side is empty
    fills: dict[tuple[int, int], tuple[int, int]]  # (decision when it was sent, side) -> (price, ns of its first fill)
    messages: int  # rows between the first and the last decision
    through: frozenset[tuple[int, int]] = frozenset()  # our orders that a trade at a worse price filled


def measure(figures: Figures, effort: Effort, tape: TapeSet) -> None:
    """Adds hftbacktest's figures and ours over theirs; `tape` are the days of our own figures."""
    try:
        import hftbacktest  # noqa: F401
    except ImportError:
        figures.missing("hftbacktest", MISSING)
        return
    for regime in days.REGIMES[1:]:
        _compare(figures, effort, regime, tape)


def _compare(figures: Figures, effort: Effort, regime: str, mixed: TapeSet) -> None:
    # Neither knows the other's rules for halts, so the day has none.
    config = days.configs(regime, effort.rows, 1)[0]
    tape = days.tape_set((config,))
    ours, times = own_quotes(tape)
    feeds = {"L3 FIFO queue": market_by_order(tape), "L2 risk-averse queue": market_by_price(tape)}
    rows = int(tape.days[0]["rows"])
    for name, events in feeds.items():
        level3 = name.startswith("L3")
        say(f"hftbacktest {name}, {regime} day: {len(events):,} events of {rows:,} messages")
        theirs, _ = _quotes(tape, events, times, level3)
        _agreement(figures, f"{regime} day, hftbacktest {name}", ours, theirs)
        contenders = {f"{effort.many} lanes, {len(mixed.info)} days": QuotingLanes(mixed, effort.many, MESSAGES, 1)}
        for lanes in (1, effort.many):
            contenders[f"{lanes} lanes, same day"] = QuotingLanes(tape, lanes, MESSAGES, 1)
        speeds, ratios = [], {key: [] for key in contenders}  # type: ignore[var-annotated]
        for _ in range(effort.repeats):
            _, seconds = _quotes(tape, events, times, level3)
            speeds.append(theirs.messages / seconds)
            for key, run in contenders.items():
                ratios[key].append(_speed(run.step, effort.seconds) / speeds[-1])
        figures.add(f"hftbacktest {name}, {MESSAGES} messages, 1 core, {regime} day", speeds, "messages/s")
        for key, samples in ratios.items():
            figures.add(f"ours {key} / hftbacktest {name}, {MESSAGES} messages, 1 core, {regime} day", samples, "times")


def _speed(step: Callable[[], float], seconds: float) -> float:
    step()
    done, took, begun = 0.0, 0.0, time.perf_counter()
    while took < seconds:
        done += step()
        took = time.perf_counter() - begun
    return done / took


def _agreement(figures: Figures, where: str, ours: Quotes, theirs: Quotes) -> None:
    """How many best prices and fills of the two runs are the same."""
    same = float((ours.best == theirs.best).all(axis=1).mean())
    figures.add(f"{where}: decisions with equal best prices", [same], f"share of {len(ours.best):,}")
    both = ours.fills.keys() & theirs.fills.keys()
    equal = sum(ours.fills[order] == theirs.fills[order] for order in both)
    through = sum(ours.fills[order] == theirs.fills.get(order) for order in ours.through)
    for name, count in (
        ("our fills", len(ours.fills)),
        ("their fills", len(theirs.fills)),
        ("same order, price and time of fill", equal),
        ("same order, another price or time", len(both) - equal),
        ("only we filled", len(ours.fills) - len(both)),
        ("only they filled", len(theirs.fills) - len(both)),
        ("our fills by a trade through our price", len(ours.through)),
        ("of them filled by hftbacktest at the same time", through),
    ):
        figures.add(f"{where}: {name}", [count], "orders")


def own_quotes(tape: TapeSet) -> tuple[Quotes, I64]:
    """The policy in one lane of `ReplayMarket` over the whole day, and the time of every decision [T]."""
    run = QuotingLanes(tape, 1, MESSAGES, 1)
    end = int(run.ends[0])
    run.market.reset(np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, FIRST_ROW), np.full(1, end))
    lane = run.market.public.lane[0]
    first = int(lane["row"])
    times, best = [], []
    fills: dict[tuple[int, int], tuple[int, int]] = {}
    through = set()
    while run.market.progress[0] != ENDLESS:
        times.append(int(lane["time_ns"]))
        book = run.market.public.book[0, 0]
        best.append((book[0, 0] if book[1, 0] > 0 else 0, book[2, 0] if book[3, 0] > 0 else 0))
        last = int(lane["row"])
        run.step()
        log = run.market.last_fills()
        for order, side, price, time_ns, row in zip(log.id, log.side, log.price, log.time_ns, log.row, strict=True):
            sent = ((int(order) - 1) // 4, int(side))
            fills.setdefault(sent, (int(price), int(time_ns)))
            message = tape.messages[int(row)]
            if message["kind"] == MessageType.EXECUTE and message["price"] != price:
                through.add(sent)
        if lane["row"] >= end - MESSAGES:
            break
    fills = {order: fill for order, fill in fills.items() if fill[1] <= times[-1]}
    quotes = Quotes(np.array(best, np.int64), fills, last - first, frozenset(through & fills.keys()))
    return quotes, np.array(times, np.int64)


def _quotes(tape: TapeSet, events: np.ndarray, times: I64, level3: bool) -> tuple[Quotes, float]:
    """The policy in hftbacktest at `times`, and the seconds that its loop took."""
    from hftbacktest import BacktestAsset, ROIVectorMarketDepthBacktest

    tick = float(tape.days[0]["tick"])
    seen = events["px"][events["px"] > 0]
    asset = BacktestAsset().data(events).linear_asset(1.0).constant_order_latency(0, 0)
    asset = asset.tick_size(tick).lot_size(1.0).no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    asset = asset.roi_lb(float(seen.min()) - 100 * tick).roi_ub(float(seen.max()) + 100 * tick)
    asset = asset.l3_fifo_queue_model() if level3 else asset.risk_adverse_queue_model()
    backtest = ROIVectorMarketDepthBacktest([asset])
    best, fills = np.zeros((len(times), 2), np.int64), np.zeros((2 * len(times), 4), np.int64)
    begun = time.perf_counter()
    count = _loop(backtest, times, tick, best, fills)
    seconds = time.perf_counter() - begun
    backtest.close()
    found = {(int(order) // 2, int(side)): (int(price * tick), int(ns)) for order, side, price, ns in fills[:count]}
    rows = tape.rows["time_ns"]
    messages = int(np.searchsorted(rows, times[-1], "right") - np.searchsorted(rows, times[0], "right"))
    return Quotes((best * tick).astype(np.int64), found, messages), seconds


_compiled: list[Callable[..., int]] = []


def _loop(*arguments: object) -> int:
    """hftbacktest's side of the comparison: the same policy, compiled with its numba binding; the number of fills."""
    if not _compiled:
        from emp_gym.benchmarks import hft_loop

        _compiled.append(hft_loop.quoting())
    with warnings.catch_warnings():  # numba says that a loop over a foreign library is not kept in its file cache
        warnings.simplefilter("ignore")
        return _compiled[0](*arguments)
