"""How numbers are written: in texts, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from emp_gym.evaluation.intervals import Estimate

MINUS = "−"
NO_P = "–"
"""Where there is no p-value."""


def number(value: float, digits: int = 2) -> str:
    """`value` with thousands separators, a true minus and no negative zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else f"{0:.{digits}f}"


def short(value: float) -> str:
    """`value` with about three digits: 1,234 · 12.3 · 0.123."""
    size = abs(value)
    return number(value, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 or not size else 3)


def interval(estimate: Estimate, digits: int = 2) -> str:
    """``1.23 [0.10, 2.36]``, or the mean and why there is no interval; with more digits where nothing would be left of the mean."""
    if not np.isfinite(estimate.mean):
        return "–"
    if 0 < abs(estimate.mean) < 0.5 * 10**-digits:
        digits = min(1 - math.floor(math.log10(abs(estimate.mean))), 8)
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.mean, digits)} ({estimate.note})"
    return f"{number(estimate.mean, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def bare(estimate: Estimate | None, digits: int = 2) -> str:
    """As `interval`, without the reason where there is none: the column beside it has said it."""
    if estimate is None:
        return ""
    return number(estimate.mean, digits) if estimate.low is None else interval(estimate, digits)


def estimated(estimate: Estimate) -> str:
    """The same, empty without an interval: a probability of too few blocks is 0 or 1 and reads like a proof."""
    return "" if estimate.low is None else bare(estimate)


def left_out(skipped: Mapping[str, str]) -> list[str]:
    """``long, short (why)``: names by why they are not there."""
    return [f"{', '.join(name for name, own in skipped.items() if own == why)} ({why})" for why in dict.fromkeys(skipped.values())]


def p_value(value: float, observations: int) -> str:
    """A p-value of so many observations; "–" of fewer than 6, with which a signed-rank test can say nothing."""
    return NO_P if not np.isfinite(value) or observations < 6 else "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float, digits: int = 0) -> str:
    return f"{number(100 * value, digits)}%"
