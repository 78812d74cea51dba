"""What an agent is worth, in words: a losing one is said to lose, in the first sentence."""

from __future__ import annotations

import numpy as np

from emp_gym.evaluation.intervals import FEWEST, LEVEL, Estimate
from emp_gym.reports.formatting import bare, interval, number, percent, short
from emp_gym.reports.preface import moves
from emp_gym.reports.report_data import KNOWING, Optimum
from emp_gym.runs.backtest import AgentResult, Comparison


def verdict(comparison: Comparison, optimum: Optimum | None = None) -> str:
    """What the agent is worth, the bad news first: whether it loses money, whether it loses to its best baseline, what the market
    did meanwhile, and how it stands to the others. Of a problem with a known optimum: its score. Of several currencies one verdict
    each."""
    name = comparison.agent.name
    if optimum is not None:
        return scored(name, optimum)
    if comparison.by_currency:
        return " ".join(f"In {currency}: {verdict(part)}" for currency, part in comparison.by_currency.items())
    return " ".join(text for text in (_headline(comparison), _meanwhile(comparison), _others(comparison)) if text)


def scored(name: str, optimum: Optimum) -> str:
    """How far an agent came from the best naive policy to the optimum."""
    score = optimum.score
    base, value = optimum.base
    where = f"a score of {interval(score, 3) if score.low is not None else number(score.mean, 3)}, where the optimum has 1 and "
    where += f"the best naive policy ({base}, {number(value, 3)}) has 0"
    if score.mean < 0:
        return f"{name} loses to the best naive policy: {where}."
    return f"{name} reaches {where}."


def _headline(comparison: Comparison) -> str:
    """The first sentence."""
    own, name = interval(comparison.agent.pnl), comparison.agent.name
    each = f"per {comparison.proof.episode}"
    if comparison.judged != "pnl":
        return f"{_rank(comparison, name)}; its {comparison.judged} is {own} {each}."
    if _costs(comparison):  # a parent order costs money whoever executes it: only the rank tells
        return f"{_rank(comparison, name)}; it made {own} {each} against the arrival price{_help(comparison)}."
    return f"{_money(comparison)}, and {_rank(comparison)}."


def _money(comparison: Comparison) -> str:
    """Whether it makes or loses money: only when its interval is off 0, over enough dates (or windows of one date). A loss without
    that is told as one of the windows that were judged, a profit without it not at all."""
    name, pnl = comparison.agent.name, comparison.agent.pnl
    if pnl.mean == 0 and not np.any(comparison.agent.episodes[comparison.judged]):
        idle = "did not trade and " if comparison.agent.rates.get("filled") == 0 else ""
        return f"{name} {idle}neither makes nor loses money"
    each = f"per {comparison.proof.episode}"
    if pnl.mean < 0:
        loses = "loses money" if _sure(comparison, pnl) else "lost money here"
        return f"{name} {loses}: {interval(pnl)} {each}{_doubt(comparison, pnl)}{_help(comparison)}"
    if not _sure(comparison, pnl):
        return f"{name} cannot be said to make money: {interval(pnl)} {each}{_doubt(comparison, pnl)}{_help(comparison)}"
    if comparison.simulated and not _more_than_drift(comparison):
        drift = "no more than the drift of a simulated market explains"
        return f"{name} cannot be said to make money by skill: {interval(pnl)} {each}, {drift}"
    if pnl.block == "window" and comparison.recorded:
        within = f" (a within-day interval over {pnl.blocks} windows: of other dates it says nothing)"
        return f"{name} makes money on {comparison.days[0]}: {interval(pnl)} {each}{within}"
    return f"{name} makes money: {interval(pnl)} {each}"


def _sure(comparison: Comparison, estimate: Estimate) -> bool:
    """Whether its sign is known: an interval of a usual level over enough blocks, without 0 in it."""
    return estimate.clear and estimate.blocks >= FEWEST and comparison.level >= LEVEL


def _more_than_drift(comparison: Comparison) -> bool:
    """Whether something is left of a profit without what the drift of a simulated market gives to who holds a position."""
    drift = comparison.drift
    return drift is not None and drift.rest.mean > 0 and _sure(comparison, drift.rest)


def _doubt(comparison: Comparison, estimate: Estimate) -> str:
    """Why an interval says less than it seems to."""
    if estimate.low is None or estimate.high is None:
        return ""
    if estimate.low <= 0 <= estimate.high:
        return " (the interval includes 0)"
    if not estimate.low <= estimate.mean <= estimate.high:
        return " (outside of its own interval)"
    return "" if comparison.level >= LEVEL else f" (an interval of {100 * comparison.level:g}% only)"


def _help(comparison: Comparison) -> str:
    """What would give an interval, where there is none."""
    preface = comparison.preface
    return "" if comparison.agent.pnl.low is not None or preface is None or not preface.hint else f" ({preface.hint})"


def _rank(comparison: Comparison, subject: str = "it") -> str:
    """Whether it is ahead of its best baseline."""
    best = best_rival(comparison)
    if best is None or best.ahead is None:
        return f"{subject} was compared with no baseline"
    gap = best.ahead
    size = bare(Estimate(abs(gap.mean), *_flipped(gap)))
    if gap.mean < 0:
        return f"{subject} loses to its best baseline, {best.name}, by {size}{_doubt(comparison, gap)}"
    if gap.mean == 0 and not gap.clear:
        return f"{subject} is level with its best baseline, {best.name}"
    ahead = "is ahead" if _sure(comparison, gap) else "cannot be said to be ahead"
    few = " (too few to say more)" if gap.low is None else ""
    return f"{subject} {ahead} of its best baseline, {best.name}, by {size}{_doubt(comparison, gap)}{few}"


# ---- what the market did meanwhile

DRIFT = ("long", "short")
"""Baselines that hold a position from the start: what the drift of the market alone was worth."""
SCHEDULES = {"immediate": "at once", "passive": "resting at the touch", "hold": "at the deadline"}
"""Those of a parent order that watch nothing."""


def _meanwhile(comparison: Comparison) -> str:
    """What the market did, and what somebody without any skill made of it."""
    found = moves(comparison.played)
    if comparison.judged != "pnl" or not len(found):
        return ""
    if _costs(comparison):
        known = {name: row for name in SCHEDULES if (row := _any(comparison, name)) is not None}
        made = ", ".join(f"{SCHEDULES[name]} ({name}) {number(row.pnl.mean)}" for name, row in known.items())
        return f"Without watching the market: {made}." if made else ""
    one = len(found) == 1
    way = "rose" if found.mean() > 0 else "fell" if found.mean() < 0 else "stood still"
    text = f"Meanwhile the market {way}"
    text += f" by {short(abs(found.mean()))} {comparison.played[0].currency} a lot" if found.mean() else ""
    noun = "episodes" if comparison.simulated else "windows"
    text += "" if one else f", the mean of {len(found)} {noun} ({int((found > 0).sum())} of them up)"
    held = {name: row for name in DRIFT if (row := _any(comparison, name)) is not None}
    if held:
        text += "; " + ", ".join(f"being {name} all the time made {number(row.pnl.mean)}" for name, row in held.items())
    return f"{text}{_exposed(comparison) if comparison.simulated else _skill(comparison, held)}."


def _exposed(comparison: Comparison) -> str:
    """What the drift of a simulated market was worth to a constant position, and what the agent has besides."""
    drift = comparison.drift
    if drift is None:
        return "; in some episodes there was no mid, so drift and skill are not told apart"
    if not drift.limit:
        return ""
    text = f"; the best constant position, {_lots(drift.limit * np.sign(drift.constant))}, made {number(abs(drift.constant))} but for costs"
    left = f"without that drift it made {interval(drift.rest)}"
    return f"{text}; {comparison.agent.name} moved with the market as {_lots(drift.lots)} do: {left}{_doubt(comparison, drift.rest)}"


def _lots(lots: float) -> str:
    """``500 lots short``."""
    return "no lots" if abs(lots) < 0.5 else f"{abs(lots):,.0f} lots {'long' if lots > 0 else 'short'}"


def _skill(comparison: Comparison, held: dict[str, AgentResult]) -> str:
    """Whether a profit is more than drift."""
    mine = comparison.agent
    if mine.pnl.mean <= 0 or mine.name in DRIFT:
        return ""
    missing = [name for name in DRIFT if name not in held]
    if missing:
        return f"; {' and '.join(missing)} {'was' if len(missing) == 1 else 'were'} left out, so drift and skill are not told apart"
    best = max(held.values(), key=lambda row: row.pnl.mean)
    if best.ahead is None or best.ahead.mean <= 0:
        return f"; being {best.name} alone made as much: drift is not skill"
    unsure = next((row for row in held.values() if row.ahead is None or not _sure(comparison, row.ahead)), None)
    if unsure is not None:
        return f"; drift and skill are not told apart: it is ahead of being {unsure.name} by {bare(unsure.ahead)}"
    return "; it is ahead of both by more than the interval"


def _any(comparison: Comparison, name: str) -> AgentResult | None:
    """The row of an agent or a baseline."""
    return next((row for row in comparison.rows if row.name == name), None)


def _flipped(gap: Estimate) -> tuple[float | None, float | None]:
    """Bounds of the size of `gap`."""
    if gap.low is None or gap.high is None:
        return None, None
    return (gap.low, gap.high) if gap.mean >= 0 else (-gap.high, -gap.low)


def best_rival(comparison: Comparison) -> AgentResult | None:
    """The baseline with the highest mean P&L; the oracle, who knows, is none."""
    rivals = [row for row in comparison.rows[1:] if row.name not in KNOWING]
    return max(rivals, key=lambda row: row.pnl.mean, default=None)


def _costs(comparison: Comparison) -> bool:
    """Whether the task is to execute a parent order."""
    return comparison.env_id.rpartition(":")[2].startswith("emp-lob-execution")


def _others(comparison: Comparison) -> str:
    """How it stands to every baseline."""
    rivals = [row for row in comparison.rows[1:] if row.name not in KNOWING and row.ahead is not None]
    clear = [row.name for row in rivals if row.ahead is not None and _sure(comparison, row.ahead) and row.ahead.mean > 0]
    mean = [row.name for row in rivals if row.ahead is not None and row.ahead.mean > 0 and row.name not in clear]
    behind = [row.name for row in rivals if row.ahead is not None and row.ahead.mean <= 0]
    parts = []
    if clear:
        parts.append(f"ahead of {', '.join(clear)} by more than the interval")
    if mean:
        few = comparison.agent.pnl.low is None
        interval_ = "the interval" if comparison.level >= LEVEL else f"an interval of {LEVEL:.0%}"
        why = "too few windows or dates to say more" if few else f"not by more than {interval_}"
        parts.append(f"ahead of {', '.join(mean)} in the mean, but {why}")
    if behind:
        parts.append(f"not ahead of {', '.join(behind)}")
    if comparison.agent.share is not None:
        way = "hold to the oracle" if comparison.judged == "pnl" else "the best naive policy to the optimum"
        parts.append(f"{percent(comparison.agent.share)} of the way from {way}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if parts else ""
