"""One episode as a picture: the price with own fills on it, inventory, equity with drawdown. Drawn from a run log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.evaluation.runlog import price_to_cash
from emp_gym.reports.plot_style import (
    AGENT,
    BUYS,
    DRAWDOWN,
    INK,
    MUTED,
    NARROW,
    SELLS,
    WIDTH,
    clock,
    figure,
    money_axis,
)
from emp_gym.runs.backtest import Comparison
from emp_gym.types import CASH_UNITS, EMPTY_ASK, EMPTY_BID, F64, I64, NS, RunLog

HOUR = 3600 * NS
CROWDED = 400  # fills of one kind from which markers shrink and fade


def median_window(comparison: Comparison) -> int:
    """The window whose P&L is the agent's median (its first seed's): neither its best nor its worst."""
    pnl = comparison.agent.episodes[comparison.judged][0]
    return int(np.argsort(pnl, kind="stable")[len(pnl) // 2])


def called(comparison: Comparison) -> str:
    """The episode that is drawn, in words."""
    each = comparison.proof.adjective
    which = f"the {each}episode of median P&L" if len(comparison.windows) > 1 else f"the one {each}episode"
    return which + (", first seed" if comparison.seeds > 1 else "")


def marked2(log: RunLog) -> I64:
    """Twice the equity at each step of `log`, 1e-8 currency; at the end of an episode it is its P&L.

    Marked at the mid that was seen; of a parent order at the mid of its arrival, against which it is judged.
    """
    steps, accounts = log.steps, log.accounts
    if not accounts["parent"].any():
        return steps["equity2"].astype(np.int64)
    return 2 * steps["cash"] + steps["position"] * accounts["mark2"][steps["episode"]] * price_to_cash(log)[steps["episode"]]


def draw(log: RunLog, number: int, title: str, path: Path, width: float = WIDTH) -> None:
    """Draws episode `number` of `log`, which must have tables."""
    steps, fills = (table[table["episode"] == number] for table in (log.steps, log.fills))
    equity = marked2(log)[log.steps["episode"] == number] / (2 * CASH_UNITS)
    mark = "the arrival mid" if log.accounts["parent"].any() else "mid"
    day = log.config["days"][int(log.accounts["day"][number])]
    unit = float(day["price_unit"] if "price_unit" in day else log.config["price_unit"])  # that of the log, in the first schema
    hours = steps["time_ns"] / HOUR
    layout = {"nrows": 3, "sharex": True, "figsize": (width, 7.4), "gridspec_kw": {"height_ratios": [3, 1.1, 1.6]}}
    with figure(path, title, **layout) as (_, (top, middle, bottom)):
        _price(top, hours, steps, fills, unit)
        _inventory(middle, hours, steps["position"])
        _equity(bottom, hours, equity, f"Equity at {mark}, fees included")
        bottom.margins(x=0.01)
        clock(bottom)
        bottom.set_xlabel(f"time of day, {day['symbol']} {day['date']}")


def _price(axis: Any, hours: F64, steps: np.ndarray, fills: np.ndarray, unit: float) -> None:
    quoted = (steps["bid"] != EMPTY_BID) & (steps["ask"] != EMPTY_ASK)
    bid, ask = (np.where(quoted, steps[side] * unit, np.nan) for side in ("bid", "ask"))
    axis.fill_between(hours, bid, ask, step="post", color=MUTED, alpha=0.25, linewidth=0, label="bid to ask")
    axis.step(hours, (bid + ask) / 2, where="post", color=INK, linewidth=0.9, label="mid")
    _fills(axis, fills, unit)
    axis.set_ylabel("price, currency")
    narrow = axis.figure.get_figwidth() < NARROW
    axis.set_title("Price and own fills" + ("" if len(fills) else ": none"), pad=36 if narrow else None)
    axis.margins(y=0.08)
    money_axis(axis, least=2)
    axis.legend(
        loc="lower right",
        bbox_to_anchor=(1.01, 0.99),
        ncols=3 if narrow else 6,
        handletextpad=0.3,
        columnspacing=1.0,
        fontsize="small",
    )


def _fills(axis: Any, fills: np.ndarray, unit: float) -> None:
    if not len(fills):
        return
    lots = fills["quantity"]
    crowd = min(1.0, (CROWDED / len(fills)) ** 0.5)
    size = (16 + 40 * np.sqrt(lots / lots.max())) * crowd
    for side, marker, colour, name in ((1, "^", BUYS, "bought"), (-1, "v", SELLS, "sold")):
        for maker, face, how in ((True, "white", "resting"), (False, colour, "taking")):
            chosen = (fills["side"] == side) & (fills["maker"] == maker)
            if chosen.any():
                axis.scatter(
                    fills["time_ns"][chosen] / HOUR, fills["price"][chosen] * unit, s=size[chosen], marker=marker,
                    facecolors=face, edgecolors=colour, linewidths=0.5 + 0.6 * crowd, alpha=0.5 + 0.5 * crowd,
                    label=f"{name}, {how}", zorder=3,
                )  # fmt: skip


def _inventory(axis: Any, hours: F64, position: np.ndarray) -> None:
    axis.fill_between(hours, 0, np.maximum(position, 0), step="post", color=BUYS, alpha=0.6, linewidth=0)
    axis.fill_between(hours, 0, np.minimum(position, 0), step="post", color=SELLS, alpha=0.6, linewidth=0)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_ylabel("lots")
    axis.set_title("Inventory")
    money_axis(axis)


def _equity(axis: Any, hours: F64, equity: F64, title: str) -> None:
    peak = np.maximum.accumulate(equity)
    axis.fill_between(hours, equity, peak, color=DRAWDOWN, alpha=0.2, linewidth=0, label="drawdown")
    axis.plot(hours, equity, color=AGENT, linewidth=1.5, label="equity")
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_ylabel("currency")
    axis.set_title(title)
    axis.legend(loc="lower right", bbox_to_anchor=(1.01, 0.97), ncols=2, fontsize="small")
    money_axis(axis)
