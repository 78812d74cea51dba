"""How every picture of the project looks: one palette, safe for colour-blind readers, one style, one way to a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.extras import need
from emp_gym.reports.formatting import number
from emp_gym.types import F64

INK, MUTED, GRID = "#1f2933", "#6b7885", "#e4e7eb"
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
"""Okabe and Ito (2008), "Color Universal Design": told apart with any common colour blindness."""
AGENT, BUYS, SELLS, DRAWDOWN = BLUE, GREEN, RED, RED
RIVALS = (ORANGE, PURPLE, SKY)
TERMS = {"spread": BLUE, "impact": RED, "adverse": ORANGE, "drift": SKY, "fees": PURPLE}
"""Colour of each term of the attribution."""
TERM_NAMES = {
    "spread": "spread", "impact": "impact", "adverse": "adverse selection", "drift": "inventory drift", "fees": "fees",
}  # fmt: skip

WIDTH = 9.0  # inches of a picture that fills the report
NARROW = 7.0  # inches below which panels stand one below the other
STYLE: Any = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": "small",
}


@contextmanager
def figure(path: Path, title: str = "", **layout: Any) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) of ``plt.subplots(**layout)``, written to `path` when the block ends well, and closed in any case.

    Letters of a narrow picture are smaller, by the root of its share of `WIDTH`; its title is broken into lines.
    """
    need("matplotlib")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width = layout.get("figsize", (WIDTH, 0))[0]
    scale = min(1.0, (width / WIDTH) ** 0.5)
    with plt.rc_context({**STYLE, "font.size": 10 * scale, "axes.titlesize": 10.5 * scale}):
        drawn, axes = plt.subplots(**{"layout": "constrained", **layout})
        try:
            yield drawn, axes
            if title:
                lines = textwrap.fill(title, int(width / (0.098 * scale)))
                drawn.suptitle(lines, x=0.008, ha="left", color=INK, fontweight="bold", fontsize=11.5 * scale)
            drawn.savefig(bounded.unlinked(path), metadata={"Software": None})
        finally:
            plt.close(drawn)


def money_axis(axis: Any, name: str = "y", least: int = 0) -> None:
    """Ticks with thousands separators and true minus signs, and with the digits that they have: at least `least`."""
    chosen = axis.yaxis if name == "y" else axis.xaxis
    chosen.set_major_formatter(lambda value, _: number(value, max(least, digits_of(chosen.get_ticklocs()))))


def digits_of(ticks: F64) -> int:
    """Digits behind the point with which each of `ticks` is written as what it is, but for a thousandth of their distance."""
    off = 1e-3 * float(np.diff(np.sort(ticks)).min(initial=np.abs(ticks).max(initial=1.0)))
    return next((digits for digits in range(12) if np.abs(np.round(ticks, digits) - ticks).max(initial=0.0) <= off), 12)


def smooth(values: F64, share: float = 0.08) -> F64:
    """Running mean over `share` of the points, shorter at the ends."""
    half = max(1, int(len(values) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def clock(axis: Any) -> None:
    """An x axis in hours after midnight, written as times of day, with seconds where the ticks need them."""
    steps = (
        (1, 0),
        (1 / 2, 0),
        (1 / 4, 0),
        (1 / 6, 0),
        (1 / 12, 0),
        (1 / 30, 0),
        (1 / 60, 0),
        (1 / 120, 1),
        (1 / 360, 1),
    )
    low, high = axis.get_xlim()
    step, seconds = next(((s, d) for s, d in steps if (high - low) / s >= 3.5), (1 / 3600, 1))
    while (high - low) / step > 9:
        step *= 2
    need("matplotlib")
    from matplotlib.ticker import MultipleLocator

    axis.xaxis.set_major_locator(MultipleLocator(step))

    def written(hour: float, _: int) -> str:
        at = round(hour * 3600)
        return f"{at // 3600:02d}:{at // 60 % 60:02d}" + (f":{at % 60:02d}" if seconds else "")

    axis.xaxis.set_major_formatter(written)
