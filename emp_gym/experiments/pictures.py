"""Pictures of a run: how it learned, how it compares, and one episode with its own fills."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.experiments import backtest
from emp_gym.experiments.backtest import Comparison
from emp_gym.types import CASH_UNITS, F64, NS

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BUYS, SELLS, EQUITY = "#0b7a75", "#d1495b", "#2f4b7c"
STYLE = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


# ---- learning curve


def read_curves(path: Path) -> dict[str, F64]:
    """Columns of a ``curves.csv``, NaN where an iteration had no value."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = rows[0].keys() if rows else []
    return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in names}


PANELS = (
    ("rollout/ep_rew_mean", "Return per training episode", "sum of rewards"),
    ("market/pnl", "P&L per training episode", "currency"),
    ("market/inventory", "Mean absolute inventory", "lots"),
    ("market/fill_rate", "Orders that got a fill", "share"),
    ("market/spread_captured", "Spread captured per episode (negative: paid)", "currency"),
)


def learning_curve(curves: Sequence[Mapping[str, F64]], title: str, path: Path) -> bool:
    """Draws one line per seed for what was recorded; False where nothing was (an agent that does not learn)."""
    panels = [panel for panel in PANELS if any(_tells(panel[0], curve) for curve in curves)][:4]
    if not panels:
        return False
    plt = _pyplot()
    shades = [EQUITY] if len(curves) == 1 else [plt.get_cmap("viridis")(i / len(curves)) for i in range(len(curves))]
    with plt.rc_context(STYLE):
        columns = min(2, len(panels))
        lines = -(-len(panels) // columns)
        figure, axes = plt.subplots(lines, columns, figsize=(5.2 * columns, 2.9 * lines), squeeze=False, sharex=True)
        for axis, (tag, name, unit) in zip(axes.flat, panels):
            for shade, curve in zip(shades, curves):
                if tag in curve:
                    _learning_line(axis, curve["steps"] / 1e6, curve[tag], shade)
            axis.set_title(name)
            axis.set_ylabel(unit)
            axis.margins(x=0.01)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("environment steps, millions")
        figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)
    return True


def _tells(tag: str, curve: Mapping[str, F64]) -> bool:
    """Whether `tag` was recorded and is not the return once more (a reward in ticks per clip may equal the P&L)."""
    if tag not in curve or not np.isfinite(curve[tag]).any():
        return False
    returns = curve.get("rollout/ep_rew_mean")
    return tag == "rollout/ep_rew_mean" or returns is None or not np.allclose(curve[tag], returns, equal_nan=True)


def _learning_line(axis: Any, steps: F64, values: F64, colour: Any) -> None:
    seen = np.isfinite(values)
    steps, values = steps[seen], values[seen]
    axis.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
    axis.plot(steps, smooth(values), color=colour, linewidth=2)


def smooth(values: F64, share: float = 0.08) -> F64:
    """Running mean over `share` of the points, shorter at the ends."""
    half = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


# ---- comparison


def comparison_chart(comparison: Comparison, path: Path) -> None:
    """P&L per episode of the agent and of every baseline: mean, interval, and each window as a dot."""
    plt = _pyplot()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 0.62 * len(comparison.rows) + 1.5))
        jitter = np.random.default_rng(0)
        for place, row in enumerate(reversed(comparison.rows)):
            colour = EQUITY if row is comparison.agent else MUTED
            dots = row.episodes["pnl"].mean(axis=0)
            axis.scatter(
                dots, place + jitter.uniform(-0.16, 0.16, len(dots)), s=12, color=colour, alpha=0.35, linewidths=0
            )
            if row.pnl.low is not None:
                axis.plot(
                    [row.pnl.low, row.pnl.high], [place, place], color=colour, linewidth=3, solid_capstyle="round"
                )
            axis.plot(row.pnl.mean, place, "o", color=colour, markersize=8, markeredgecolor="white")
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(comparison.rows)), [row.name for row in reversed(comparison.rows)], color=INK)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("P&L per held-out episode, currency: windows, mean and interval")
        axis.set_title(f"{comparison.env_id}: {comparison.agent.name} and its baselines")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


# ---- one episode


@dataclass
class Trace:
    """One episode, decision by decision. Times in hours after midnight, prices and equity in currency, position in
    lots."""

    date: str
    hours: list[float] = field(default_factory=list)
    bid: list[float] = field(default_factory=list)
    ask: list[float] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    fills: list[tuple[float, float, int, float, bool]] = field(default_factory=list)  # hours, price, side, lots, maker


def trace(
    agent: Any, env_id: str, env_kwargs: Mapping[str, Any], window: tuple[int, int], split: str, date: str
) -> Trace | None:
    """Plays one window and notes what a picture needs; None for environments that publish no view."""
    env = backtest.make_env(env_id, env_kwargs, 1, split=split, autoreset_mode="Disabled")
    core: Any = env.unwrapped
    if not (hasattr(core, "view") and hasattr(core, "last_fills")):
        env.close()
        return None
    if hasattr(agent, "bind"):
        agent.bind(env)
    seen = Trace(date)
    unit = core.tape_set.info[window[0]].instrument.price_unit
    observation, info = env.reset(seed=0, options={"day": [window[0]], "start": [window[1]]})
    state = agent.initial_state(1)
    _note(seen, core, unit)
    done = False
    while not done:
        action, state = agent.act(observation, state, info.get("action_mask"))
        observation, _, terminated, truncated, info = env.step(action)
        done = bool(terminated[0] or truncated[0])
        _note(seen, core, unit)
    env.close()
    return seen


def _note(seen: Trace, core: Any, unit: float) -> None:
    view, fills = core.view, core.last_fills
    hour = 3600 * NS
    seen.hours.append(float(view.time_ns[0]) / hour)
    seen.bid.append(float(view.bid_price[0, 0, 0]) * unit)
    seen.ask.append(float(view.ask_price[0, 0, 0]) * unit)
    seen.position.append(float(view.position[0, 0]))
    seen.equity.append(float(view.equity2[0]) / 2 / CASH_UNITS)
    if len(seen.hours) > 1:
        for time_ns, price, side, lots, maker in zip(
            fills.time_ns, fills.price, fills.side, fills.quantity, fills.maker
        ):
            seen.fills.append((float(time_ns) / hour, float(price) * unit, int(side), float(lots), bool(maker)))


def episode(seen: Trace, title: str, path: Path) -> None:
    """Price with own fills, inventory, equity."""
    plt = _pyplot()
    hours = np.array(seen.hours)
    bid, ask = np.array(seen.bid), np.array(seen.ask)
    with plt.rc_context(STYLE):
        figure, (top, middle, bottom) = plt.subplots(
            3, 1, figsize=(10.5, 8.2), sharex=True, gridspec_kw={"height_ratios": [3, 1.2, 1.4]}
        )
        top.fill_between(
            hours, bid, ask, step="post", color=MUTED, alpha=0.22, linewidth=0, label="best bid to best ask"
        )
        top.step(hours, (bid + ask) / 2, where="post", color=INK, linewidth=1, label="mid")
        _fills(top, seen)
        top.set_ylabel("price")
        top.set_title("Price and own fills")
        top.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=6, handletextpad=0.4, columnspacing=1.2)
        position = np.array(seen.position)
        middle.fill_between(hours, 0, np.maximum(position, 0), step="post", color=BUYS, alpha=0.55, linewidth=0)
        middle.fill_between(hours, 0, np.minimum(position, 0), step="post", color=SELLS, alpha=0.55, linewidth=0)
        middle.axhline(0, color=INK, linewidth=0.8)
        middle.set_ylabel("lots")
        middle.set_title("Inventory")
        bottom.plot(hours, seen.equity, color=EQUITY, linewidth=1.8)
        bottom.fill_between(hours, 0, seen.equity, color=EQUITY, alpha=0.1, linewidth=0)
        bottom.axhline(0, color=INK, linewidth=0.8)
        bottom.set_ylabel("currency")
        bottom.set_title("Equity, marked at mid, fees included")
        bottom.xaxis.set_major_formatter(lambda hour, _: f"{int(hour):02d}:{round((hour % 1) * 60) % 60:02d}")
        bottom.set_xlabel(f"time of day, {seen.date}")
        bottom.margins(x=0.01)
        figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def _fills(axis: Any, seen: Trace) -> None:
    if not seen.fills:
        return
    hours, prices, sides, lots, makers = (np.array(column) for column in zip(*seen.fills))
    size = 18 + 42 * np.sqrt(lots / lots.max())
    for side, marker, colour, name in ((1, "^", BUYS, "bought"), (-1, "v", SELLS, "sold")):
        for maker, face, how in ((True, "white", "resting"), (False, colour, "taking")):
            chosen = (sides == side) & (makers == maker)
            if chosen.any():
                axis.scatter(
                    hours[chosen], prices[chosen], s=size[chosen], marker=marker, facecolors=face, edgecolors=colour,
                    linewidths=1.1, label=f"{name}, {how}", zorder=3,
                )  # fmt: skip


def median_window(comparison: Comparison) -> int:
    """The window whose P&L is the agent's median: neither its best nor its worst."""
    pnl = comparison.agent.episodes["pnl"][0]
    return int(np.argsort(pnl, kind="stable")[len(pnl) // 2])
