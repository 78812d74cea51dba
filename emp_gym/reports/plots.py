"""Pictures of a judged run: how it learned, how it compares, its equity over all judged time, where its P&L came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.evaluation.intervals import Estimate
from emp_gym.reports.episode_plot import marked2
from emp_gym.reports.formatting import short
from emp_gym.reports.plot_style import (
    AGENT,
    DRAWDOWN,
    INK,
    MUTED,
    NARROW,
    RIVALS,
    TERM_NAMES,
    TERMS,
    WIDTH,
    figure,
    money_axis,
    smooth,
)  # fmt: skip
from emp_gym.reports.report_data import KNOWING
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.runs.run_metadata import curve_rows
from emp_gym.types import CASH_UNITS, F64, I64, RunLog

# ---- learning curve


def read_curves(path: Path) -> dict[str, F64]:
    """Columns of a ``curves.csv``, NaN where an iteration had no value."""
    rows = curve_rows(path)
    names = rows[0].keys() if rows else []
    return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in names}


PANELS = (
    ("rollout/ep_rew_mean", "Return per training episode", "sum of rewards"),
    ("market/pnl", "P&L per training episode", "currency"),
    ("market/inventory", "Mean absolute inventory", "lots"),
    ("market/fill_rate", "Orders that got a fill", "share"),
    ("market/spread_captured", "Spread captured per episode", "currency"),
)
POINTS = 200  # of a curve over seeds
DRAWS = 1000  # of its bootstrap


def learning_curve(curves: Sequence[Mapping[str, F64]], title: str, path: Path, width: float = WIDTH) -> bool:
    """Draws what was recorded while learning; False where nothing was (an agent that does not learn).

    One seed: its values and their running mean. Several: a thin line a seed, and the interquartile mean over seeds with its
    95 % bootstrap band (of three seeds or more).
    """
    panels = [panel for panel in PANELS if any(_tells(panel[0], curve) for curve in curves)][:4]
    if not panels:
        return False
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    layout = {"nrows": lines, "ncols": columns, "figsize": (width, 2.6 * lines), "squeeze": False, "sharex": True}
    if not any(np.isfinite(curve[tag]).sum() > 1 for tag, _, _ in panels for curve in curves if tag in curve):
        title += ", one iteration only"
    unit_of_steps, words = _steps_unit(max(float(curve["steps"][-1]) for curve in curves))
    with figure(path, title, **layout) as (_, axes):
        for axis, (tag, name, unit) in zip(axes.flat, panels):
            told = [curve for curve in curves if tag in curve]
            if len(told) == 1:
                _one_seed(axis, told[0]["steps"] / unit_of_steps, told[0][tag])
            else:
                _many_seeds(axis, [(curve["steps"] / unit_of_steps, curve[tag]) for curve in told])
            axis.set_title(name)
            axis.set_ylabel(unit)
            axis.margins(x=0.01)
            money_axis(axis)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis in [*axes[-1], *(axes[-2, 1:] if len(panels) % columns else [])]:
            axis.set_xlabel(f"environment steps{words}")
            axis.xaxis.set_tick_params(labelbottom=True)
        axes[0, 0].legend(loc="best", fontsize="small")
    return True


def _steps_unit(most: float) -> tuple[float, str]:
    """What to divide steps by so that ticks are short, and how an axis says so."""
    return (1e6, ", millions") if most >= 1e6 else (1e3, ", thousands") if most >= 1e4 else (1.0, "")


def _tells(tag: str, curve: Mapping[str, F64]) -> bool:
    """Whether `tag` was recorded and is not the return once more (a reward in ticks per clip may equal the P&L)."""
    if tag not in curve or not np.isfinite(curve[tag]).any():
        return False
    returns = curve.get("rollout/ep_rew_mean")
    return tag == "rollout/ep_rew_mean" or returns is None or not np.allclose(curve[tag], returns, equal_nan=True)


def _one_seed(axis: Any, steps: F64, values: F64) -> None:
    seen = np.isfinite(values)
    axis.plot(steps[seen], values[seen], color=AGENT, alpha=0.3, linewidth=0.9, label="every iteration")
    alone = "o" if seen.sum() == 1 else None  # of one point there is no line
    axis.plot(steps[seen], smooth(values[seen]), color=AGENT, linewidth=2, marker=alone, label="running mean")


def _many_seeds(axis: Any, curves: Sequence[tuple[F64, F64]]) -> None:
    smoothed = []
    for steps, values in curves:
        seen = np.isfinite(values)
        if seen.any():
            smoothed.append((steps[seen], smooth(values[seen])))
    grid = np.unique(np.linspace(max(s[0] for s, _ in smoothed), min(s[-1] for s, _ in smoothed), POINTS))
    alone = "o" if len(grid) == 1 else None  # of one point there is no line
    table = np.stack([np.interp(grid, steps, values) for steps, values in smoothed])  # [S, POINTS]
    for at, (steps, values) in enumerate(smoothed):
        axis.plot(steps, values, color=MUTED, alpha=0.55, linewidth=0.8, marker=alone, label="each seed" if at == 0 else None)
    middle, low, high = iqm_band(table)
    if len(table) >= 3:
        axis.fill_between(grid, low, high, color=AGENT, alpha=0.22, linewidth=6 if alone else 0, label="95 % interval")
    axis.plot(grid, middle, color=AGENT, linewidth=2, marker=alone, label=f"IQM of {len(table)} seeds")


def iqm_band(table: F64, level: float = 0.95, seed: int = 0) -> tuple[F64, F64, F64]:
    """Interquartile mean over seeds of `table` [S, P] at each point, and its percentile bootstrap bounds: [P] each."""

    def iqm(values: F64) -> F64:
        ordered = np.sort(values, axis=-2)
        cut = values.shape[-2] // 4
        return ordered[..., cut : values.shape[-2] - cut, :].mean(axis=-2)

    drawn = np.random.default_rng(seed).integers(len(table), size=(DRAWS, len(table)))
    low, high = np.quantile(iqm(table[drawn]), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return iqm(table), low, high


# ---- comparison


def comparison_chart(comparison: Comparison, path: Path, width: float = WIDTH) -> None:
    """P&L per episode of the agent and of every baseline: mean, interval, and each window as a dot."""
    rows = comparison.rows
    title = f"{comparison.agent.name} and its baselines on {comparison.env_id}"
    with figure(path, title, figsize=(width, 0.5 * len(rows) + 1.3)) as (_, axis):
        jitter = np.random.default_rng(0)
        for place, row in enumerate(reversed(rows)):
            colour = AGENT if row is comparison.agent else MUTED
            dots = row.episodes[comparison.judged].mean(axis=0)
            axis.scatter(
                dots, place + jitter.uniform(-0.17, 0.17, len(dots)), s=11, color=colour, alpha=0.35, linewidths=0
            )
            if row.pnl.low is not None:
                axis.plot(
                    [row.pnl.low, row.pnl.high], [place, place], color=colour, linewidth=3, solid_capstyle="round"
                )
            axis.plot(row.pnl.mean, place, "o", color=colour, markersize=7, markeredgecolor="white")
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(rows)), [row.name for row in reversed(rows)], color=INK)
        axis.grid(axis="y", visible=False)
        money_axis(axis, "x")
        what = "P&L" if comparison.judged == "pnl" else comparison.judged
        unit = "currency" if comparison.judged == "pnl" else "the problem's unit"
        seeds = f" (dots: means over {comparison.seeds} seeds)" if comparison.seeds > 1 else ""
        axis.set_xlabel(f"{what} per {comparison.proof.episode}, {unit}{seeds}")


# ---- equity over all judged time

DRAWN = 4000  # points of an equity line


def equity_curve(
    comparison: Comparison, runs: Sequence[RunLog], baselines: Mapping[str, RunLog], title: str, path: Path,
    width: float = WIDTH,
) -> None:  # fmt: skip
    """Equity of the agent added up over all windows, one after the other, with its drawdown; the best baselines beside.

    Several seeds: a thin line each and their mean. The drawdown is each seed's own, and the mean of them.
    """
    rivals = [row.name for row in best_baselines(comparison) if row.name in baselines]
    spans = np.max([minutes(log) for log in [*runs, *(baselines[name] for name in rivals)]], axis=0)
    lines = [whole_equity(log, spans) for log in runs]
    times = lines[0][0] if len(lines) == 1 else np.linspace(0.0, spans.sum(), DRAWN)
    common = [line if len(lines) == 1 else np.interp(times, at, line) for at, line in lines]
    layout = {"nrows": 2, "sharex": True, "figsize": (width, 5.0), "gridspec_kw": {"height_ratios": [2.2, 1]}}
    with figure(path, title, **layout) as (_, (top, bottom)):
        for colour, name in zip(RIVALS, rivals):
            _thin(top, *whole_equity(baselines[name], spans), color=colour, linewidth=1.3, label=name)
        if len(lines) > 1:
            for line in common:
                _thin(top, times, line, color=AGENT, alpha=0.3, linewidth=0.7)
                _thin(bottom, times, drawdown(line), color=DRAWDOWN, alpha=0.35, linewidth=0.7)
        label = comparison.agent.name + (f", mean of {len(lines)} seeds" if len(lines) > 1 else "")
        _thin(top, times, np.mean(common, axis=0), color=AGENT, linewidth=2, label=label)
        under = np.mean([drawdown(line) for line in common], axis=0)
        keep = _kept(len(times))
        bottom.fill_between(times[keep], under[keep], 0, color=DRAWDOWN, alpha=0.3, linewidth=0)
        _thin(bottom, times, under, color=DRAWDOWN, linewidth=1.2)
        _days(top, bottom, comparison, spans)
        top.axhline(0, color=INK, linewidth=0.8)
        top.set_ylabel("equity,\ncurrency")
        top.legend(loc="best", fontsize="small")
        bottom.set_ylabel("drawdown,\ncurrency")
        bottom.set_xlabel(_time_label(comparison))
        for axis in (top, bottom):
            axis.margins(x=0.01)
            money_axis(axis)
            money_axis(axis, "x")


def minutes(log: RunLog) -> F64:
    """How long each episode lasted [W]."""
    first, last = _first_and_last(log)
    return (log.steps["time_ns"][last] - log.steps["time_ns"][first]) / 60e9


def whole_equity(log: RunLog, spans: F64) -> tuple[F64, F64]:
    """(minutes of judged time [P], equity added up over the windows [P], currency); a window takes `spans` [W] minutes."""
    steps = log.steps
    first, last = _first_and_last(log)
    equity2, episode = marked2(log), steps["episode"]
    before = np.concatenate([[0.0], np.cumsum(spans)[:-1]])
    base = np.concatenate([[0], np.cumsum(equity2[last])[:-1]])
    times = before[episode] + (steps["time_ns"] - steps["time_ns"][first[episode]]) / 60e9
    return times, (base[episode] + equity2) / (2 * CASH_UNITS)


def _first_and_last(log: RunLog) -> tuple[I64, I64]:
    """Rows of the steps at which each episode begins and ends [W]."""
    first = np.searchsorted(log.steps["episode"], np.arange(len(log.accounts)))
    return first, np.append(first[1:], len(log.steps)) - 1


def drawdown(equity: F64) -> F64:
    """How far `equity` [P] is below its highest so far (0 at the start included): <= 0."""
    return equity - np.maximum(np.maximum.accumulate(equity), 0.0)


def best_baselines(comparison: Comparison, count: int = len(RIVALS)) -> list[AgentResult]:
    """The baselines with the highest mean P&L, best first; neither the oracle, who knows, nor one that holds at zero."""
    rivals = [row for row in comparison.rows[1:] if row.name not in KNOWING and np.any(row.episodes[comparison.judged])]
    return sorted(rivals, key=lambda row: -row.pnl.mean)[:count]


def _kept(points: int) -> np.ndarray:
    return np.unique(np.linspace(0, points - 1, min(points, DRAWN)).astype(np.int64))


def _thin(axis: Any, times: F64, values: F64, **look: Any) -> None:
    keep = _kept(len(times))
    axis.plot(times[keep], values[keep], **look)


def _days(top: Any, bottom: Any, comparison: Comparison, spans: F64) -> None:
    """Light lines between days, their dates (of several symbols with the symbol) above where there is room."""
    days = _named_days(comparison)
    starts = [i for i, day in enumerate(days) if i == 0 or day != days[i - 1]]
    if len(starts) < 2:
        return
    at = np.concatenate([[0.0], np.cumsum(spans)])[starts]
    free = -np.inf
    room = spans.sum() / (top.figure.get_figwidth() * 1.15) * max(map(len, days)) / len("2012-06-21")
    for x, i in zip(at, starts):
        for axis in (top, bottom) if i else ():
            axis.axvline(x, color=MUTED, linewidth=0.6, linestyle=(0, (2, 3)))
        if x >= free:
            top.annotate(days[i], (x, 1.0), xycoords=("data", "axes fraction"), xytext=(2, 2),
                         textcoords="offset points", fontsize="x-small", color=MUTED)  # fmt: skip
            free = x + room


def _named_days(comparison: Comparison) -> list[str]:
    """What each window is of: its date, and before it its symbol where there are several."""
    symbols = [one.span.symbol for one in comparison.played]
    return [f"{symbol} {day}" for symbol, day in zip(symbols, comparison.days)] if len(set(symbols)) > 1 else comparison.days


def _time_label(comparison: Comparison) -> str:
    dates, episodes = len(set(comparison.days)), len(comparison.windows)
    symbols = len({one.span.symbol for one in comparison.played})
    many = f"{episodes} episodes" if episodes > 1 else "1 episode"
    of = f"{symbols} symbols, one after the other, on " if symbols > 1 else ""
    return f"minutes of {comparison.proof.adjective}trading ({many}, {of}{f'{dates} dates' if dates > 1 else comparison.days[0]})"


# ---- attribution


def attribution_bars(terms: Mapping[str, Mapping[str, Estimate]], title: str, path: Path, width: float = WIDTH) -> None:
    """Where the P&L came from: the judged agent's terms one by one, adding up to its P&L, and everybody's stacked.

    `terms`: agent -> term (and "pnl") -> currency per episode; the judged agent first.
    """
    mine, *others = terms
    height = max(2.6, 0.42 * len(terms) + 1.1)
    panels = 2 if others else 1
    layout: dict[str, Any] = {"ncols": panels, "figsize": (width, height + 0.4), "squeeze": False}
    if width < NARROW:
        layout |= {"ncols": 1, "nrows": panels, "figsize": (width, height * panels)}
    elif others:
        layout["gridspec_kw"] = {"width_ratios": [1, 1.15]}
    with figure(path, title, **layout) as (_, axes):
        _waterfall(axes.flat[0], terms[mine])
        axes.flat[0].set_title(f"{mine}: adding up to its P&L")
        if others:
            _stacks(axes.flat[1], terms)
            axes.flat[1].set_title("Beside the baselines")


LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}


def _waterfall(axis: Any, terms: Mapping[str, Estimate]) -> None:
    names = [name for name in TERMS if name in terms]
    total = 0.0
    reach = [0.0]
    for place, name in enumerate(names):
        value = terms[name].mean
        axis.barh(place, value, left=total, color=TERMS[name], height=0.62)
        axis.plot([total + value] * 2, [place - 0.31, place + 1.31], color=MUTED, linewidth=0.7)
        total += value
        reach.append(total)
    pnl = terms["pnl"]
    axis.barh(len(names), pnl.mean, color=INK, height=0.62)
    if pnl.low is not None and pnl.high is not None:
        axis.plot([pnl.low, pnl.high], [len(names)] * 2, color=MUTED, linewidth=2.5, solid_capstyle="round")
        reach += [pnl.low, pnl.high]
    span = (max(reach) - min(reach)) or 1.0
    axis.set_xlim(min(reach) - 0.08 * span, max(reach) + 0.42 * span)
    for place, (name, end) in enumerate([*zip(names, pairwise(reach)), ("pnl", (pnl.high or 0.0, pnl.mean))]):
        axis.annotate(short(terms[name].mean), (max(*end, 0.0 if name == "pnl" else -np.inf), place), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize="small", color=INK, bbox=LABEL)  # fmt: skip
    axis.set_yticks(range(len(names) + 1), [*(TERM_NAMES[name] for name in names), "P&L"], color=INK)
    axis.invert_yaxis()
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("currency per episode")
    axis.locator_params(axis="x", nbins=5)
    money_axis(axis, "x")


def _stacks(axis: Any, terms: Mapping[str, Mapping[str, Estimate]]) -> None:
    for place, parts in enumerate(terms.values()):
        up = down = 0.0
        for name, colour in TERMS.items():
            value = parts[name].mean
            axis.barh(place, value, left=up if value > 0 else down, color=colour, height=0.62,
                      label=TERM_NAMES[name] if place == 0 else None)  # fmt: skip
            up, down = up + max(value, 0.0), down + min(value, 0.0)
        axis.plot(parts["pnl"].mean, place, "D", color="white", markeredgecolor=INK, markersize=5.5,
                  label="P&L" if place == 0 else None)  # fmt: skip
    axis.set_yticks(range(len(terms)), list(terms), color=INK)
    axis.invert_yaxis()
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("currency per episode")
    axis.locator_params(axis="x", nbins=6)
    axis.margins(x=0.06)
    axis.use_sticky_edges = False
    axis.autoscale_view()
    money_axis(axis, "x")
    handles, labels = axis.get_legend_handles_labels()
    columns = 3 if axis.figure.get_figwidth() < NARROW else 6
    axis.figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.2, columnspacing=1.2)


# ---- what an assumption is worth


def gap_chart(rows: Sequence[tuple[str, Estimate, Estimate]], title: str, path: Path, width: float = WIDTH) -> None:
    """P&L under each setting (left) and its paired distance from the first one, the honest setting (right)."""
    layout = {"ncols": 2, "sharey": True, "figsize": (width, 0.36 * len(rows) + 1.5)}
    with figure(path, title, **layout) as (_, (left, right)):
        for place, (_, pnl, gap) in enumerate(rows):
            honest = place == 0
            for axis, estimate in ((left, pnl), (right, gap)):
                if axis is right and honest:
                    continue
                colour = AGENT if honest else DRAWDOWN if place == len(rows) - 1 else RIVALS[0]
                if estimate.low is not None:
                    axis.plot(
                        [estimate.low, estimate.high], [place] * 2, color=colour, linewidth=3, solid_capstyle="round"
                    )
                axis.plot(estimate.mean, place, "o", color=colour, markersize=7, markeredgecolor="white")
        for axis in (left, right):
            axis.axvline(0, color=INK, linewidth=0.8)
            axis.grid(axis="y", visible=False)
            axis.locator_params(axis="x", nbins=5)
            money_axis(axis, "x")
        left.axvline(rows[0][1].mean, color=AGENT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        left.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=INK)
        left.invert_yaxis()
        left.set_title("P&L")
        right.set_title("Beyond the honest setting")
        left.set_xlabel("currency per episode")
        right.set_xlabel("paired difference, currency")


__all__ = [
    "attribution_bars", "best_baselines", "comparison_chart", "drawdown", "equity_curve", "gap_chart", "iqm_band",
    "learning_curve", "read_curves", "whole_equity",
]  # fmt: skip
