"""What an agent is worth, in words: a losing one is said to lose, in the first sentence."""

from __future__ import annotations

import numpy as np

from emp_gym.evaluation.metrics import Estimate
from emp_gym.experiments.backtest import Comparison, Row
from emp_gym.experiments.findings import KNOWING, Optimum
from emp_gym.experiments.wording import bare, interval, number, percent


def verdict(comparison: Comparison, optimum: Optimum | None = None) -> str:
    """What the agent is worth, the bad news first: whether it loses money, whether it loses to its best baseline, and how it
    stands to the others. Of a problem with a known optimum: its score."""
    name = comparison.agent.name
    if optimum is not None:
        return scored(name, optimum)
    return f"{_headline(comparison)} {_others(comparison)}".strip()


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
    own = interval(comparison.agent.pnl)
    if comparison.judged != "pnl":
        return f"{_rank(comparison, comparison.agent.name)}; its {comparison.judged} is {own} per held-out episode."
    if _costs(comparison):  # a parent order costs money whoever executes it: only the rank tells
        return (
            f"{_rank(comparison, comparison.agent.name)}; it made {own} per held-out episode against the arrival price."
        )
    return f"{_money(comparison)[:-1]}, and {_rank(comparison)}."


def _money(comparison: Comparison) -> str:
    """Whether it makes or loses money. A loss counts at once; a profit only when its interval is above 0."""
    name, pnl = comparison.agent.name, comparison.agent.pnl
    if pnl.mean == 0 and not np.any(comparison.agent.episodes[comparison.judged]):
        return f"{name} neither makes nor loses money."
    verb = "loses money" if pnl.mean < 0 else "cannot be said to make money" if _open(pnl) else "makes money"
    return f"{name} {verb}: {interval(pnl)} per held-out episode{_doubt(pnl)}."


def _open(estimate: Estimate) -> bool:
    """Whether its sign is open: the interval includes 0."""
    return estimate.low is not None and not estimate.clear


def _doubt(estimate: Estimate) -> str:
    return " (the interval includes 0)" if _open(estimate) else ""


def _rank(comparison: Comparison, subject: str = "it") -> str:
    """Whether it is ahead of its best baseline."""
    best = best_rival(comparison)
    if best is None or best.ahead is None:
        return f"{subject} was compared with no baseline"
    gap = best.ahead
    size = bare(Estimate(abs(gap.mean), *_flipped(gap)))
    if gap.mean < 0:
        return f"{subject} loses to its best baseline, {best.name}, by {size}{_doubt(gap)}"
    if gap.mean == 0 and not gap.clear:
        return f"{subject} is level with its best baseline, {best.name}"
    ahead = "cannot be said to be ahead" if _open(gap) else "is ahead"
    return f"{subject} {ahead} of its best baseline, {best.name}, by {size}{_doubt(gap)}"


def _flipped(gap: Estimate) -> tuple[float | None, float | None]:
    """Bounds of the size of `gap`."""
    if gap.low is None or gap.high is None:
        return None, None
    return (gap.low, gap.high) if gap.mean >= 0 else (-gap.high, -gap.low)


def best_rival(comparison: Comparison) -> Row | None:
    """The baseline with the highest mean P&L; the oracle, who knows, is none."""
    rivals = [row for row in comparison.rows[1:] if row.name not in KNOWING]
    return max(rivals, key=lambda row: row.pnl.mean, default=None)


def _costs(comparison: Comparison) -> bool:
    """Whether the task is to execute a parent order."""
    return comparison.env_id.rpartition(":")[2].startswith("emp-lob-execution")


def _others(comparison: Comparison) -> str:
    """How it stands to every baseline."""
    rivals = [row for row in comparison.rows[1:] if row.name not in KNOWING and row.ahead is not None]
    clear = [row.name for row in rivals if row.ahead is not None and row.ahead.clear and row.ahead.mean > 0]
    mean = [row.name for row in rivals if row.ahead is not None and row.ahead.mean > 0 and row.name not in clear]
    behind = [row.name for row in rivals if row.ahead is not None and row.ahead.mean <= 0]
    parts = []
    if clear:
        parts.append(f"ahead of {', '.join(clear)} by more than the interval")
    if mean:
        few = comparison.agent.pnl.low is None
        why = "there are too few windows to say more" if few else "not by more than the interval"
        parts.append(f"ahead of {', '.join(mean)} in the mean, but {why}")
    if behind:
        parts.append(f"not ahead of {', '.join(behind)}")
    if comparison.agent.share is not None:
        way = "hold to the oracle" if comparison.judged == "pnl" else "the best naive policy to the optimum"
        parts.append(f"{percent(comparison.agent.share)} of the way from {way}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if parts else ""
