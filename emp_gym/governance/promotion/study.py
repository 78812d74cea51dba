"""How often the promotion guard lets luck through, and how often it stops skill: simulated searches with a known truth.

A search tries N strategies on T sessions and puts forward the one with the best Sharpe ratio. The guard then judges it
**on the sessions that it was selected on**: the worst case, a held-out block that was looked at. Whoever keeps a block
untouched does better on both figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from emp_gym.evaluation.intervals import binomial_bounds, student_t
from emp_gym.evaluation.overfitting import NORMAL, expected_maximum, sharpe_score
from emp_gym.governance.promotion.guard import (
    GATES,
    RULES,
    Evidence,
    Judgement,
    Performance,
    PromotionCriteria,
    judge,
    search_overfits,
)
from emp_gym.types import F64

QUICK = tuple(rule for rule in RULES if rule is not search_overfits)
NAMED = ("deflated Sharpe ratio", "profit in every regime", "baseline hold")  # rules that the studied worlds can fail

Noise = Callable[[int, int, np.random.Generator], F64]
"""P&L [T, N] of strategies without skill: mean 0, standard deviation 1."""


def normal(sessions: int, strategies: int, rng: np.random.Generator) -> F64:
    """Independent normal."""
    return rng.normal(size=(sessions, strategies))


def heavy(sessions: int, strategies: int, rng: np.random.Generator) -> F64:
    """Student's t with 3 degrees of freedom: infinite kurtosis."""
    return rng.standard_t(3, size=(sessions, strategies)) / np.sqrt(3)


def skewed(sessions: int, strategies: int, rng: np.random.Generator) -> F64:
    """Many small gains, fewer larger losses: 1 - Exp(1), skew -2, raw kurtosis 9."""
    return 1 - rng.exponential(size=(sessions, strategies))


def alike(sessions: int, strategies: int, rng: np.random.Generator) -> F64:
    """Normal with correlation 0.5 between any two."""
    return np.sqrt(0.5) * (rng.normal(size=(sessions, 1)) + rng.normal(size=(sessions, strategies)))


def rare_losses(sessions: int, strategies: int, rng: np.random.Generator) -> F64:
    """A steady gain with a loss 49 times as large in one session of 50: in 60 sessions three in ten see no loss at all."""
    lost = rng.random((sessions, strategies)) < 0.02
    return np.where(lost, -7.0, 1 / 7) + 0.01 * rng.normal(size=(sessions, strategies))


WORLDS: tuple[Noise, ...] = (normal, heavy, skewed, alike)


@dataclass(frozen=True)
class SimulatedSearch:
    """A search whose truth is known."""

    noise: Noise = normal
    edge: float = 0.0  # true Sharpe ratio a session of one strategy; the others have none
    sessions: int = 60
    strategies: int = 100
    regimes: int = 4  # sessions take them in turn
    decisions: int = 50  # a session
    recorded: bool = True  # False: the search is hidden from the guard, which sees one trial

    def run(self, gate: PromotionCriteria, rng: np.random.Generator) -> Judgement:
        """One search, its winner judged. The rule for PBO takes most of the time, so it is asked last, and only where
        all others pass: the verdict is the same, findings are fewer."""
        pnl = self.noise(self.sessions, self.strategies, rng)
        pnl[:, 0] += self.edge
        winner = pnl[:, sharpe_score(pnl.mean(axis=0), pnl.std(axis=0, ddof=1)).argmax()]
        hold = (self._performance("hold", np.zeros(self.sessions)),)
        search = {"trials": self.strategies, "trial_pnl": pnl} if self.recorded else {"trials": 1}
        evidence = Evidence(self._performance("winner", winner), breaches=0, baselines=hold, **search)
        first = judge(evidence, gate, rng, rules=QUICK)
        if not first.passed:
            return first
        last = judge(evidence, gate, rng, rules=(search_overfits,))
        return replace(last, findings=first.findings + last.findings)

    def _performance(self, name: str, pnl: F64) -> Performance:
        number = np.arange(self.sessions)
        regime = (number % self.regimes).astype(np.int8)
        return Performance(name, number, number, regime, pnl, np.full(self.sessions, self.decisions))

    def power(self, gate: PromotionCriteria) -> float:
        """Probability, from theory, that the planted strategy passes each rule; at least this, for normal sessions.

        The rules for the Sharpe ratio and for each regime all ask for high P&L in independent sessions, so passing one
        makes no other less likely (Harris 1960), and the product is a lower bound. Left out: the rule for PBO, that a
        lucky rival wins the search, and that sample moments widen the error of the ratio.
        """
        each = self.sessions // self.regimes
        return self.power_of_ratio(gate) * power_of_t(self.edge * np.sqrt(each), each - 1, gate.level) ** self.regimes

    def power_of_ratio(self, gate: PromotionCriteria) -> float:
        """Probability, from theory, that the planted strategy passes the rule for the deflated Sharpe ratio."""
        across = 1 / self.sessions + self.edge**2 / self.strategies
        bar = expected_maximum(self.strategies, max(across, 1 / (self.sessions - 1)))
        z, root = NORMAL.inv_cdf(gate.deflated_sharpe), np.sqrt(self.sessions - 1)

        def passes(ratio: float) -> bool:
            return bool((ratio - bar) * root >= z * np.sqrt(1 + ratio**2 / 2))

        least = _where(passes, bar, bar + 100.0)
        return NORMAL.cdf((self.edge - least) * np.sqrt(self.sessions / (1 + self.edge**2 / 2)))


def power_of_t(shift: float, freedom: int, level: float) -> float:
    """Probability that Student's t shifted by `shift` exceeds its one-sided critical value (Abramowitz and Stegun
    26.7.10)."""
    critical = student_t(2 * level - 1, freedom)
    return 1 - NORMAL.cdf((critical * (1 - 1 / (4 * freedom)) - shift) / np.sqrt(1 + critical**2 / (2 * freedom)))


def planted(theory: Callable[[SimulatedSearch, PromotionCriteria], float], gate: PromotionCriteria, power: float) -> SimulatedSearch:
    """The search with the smallest edge to which `theory` gives `power`."""
    search = SimulatedSearch(regimes=gate.regimes)
    return replace(search, edge=_where(lambda edge: theory(replace(search, edge=edge), gate) >= power, 0.0, 10.0))


def _where(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds` turns true between `low` and `high`, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@dataclass
class Tally:
    """Of n searches, how many were promoted, and how many passed each rule (PBO: of those that were asked)."""

    n: int = 0
    promoted: int = 0
    asked: int = 0  # for PBO
    passed: dict[str, int] = field(default_factory=dict)

    def add(self, judgement: Judgement) -> None:
        self.n += 1
        self.promoted += int(judgement.passed)
        regimes = [f.passed for f in judgement.findings if f.rule.startswith("profit in")]
        self.asked += any(f.rule == "backtest overfitting" for f in judgement.findings)
        other = {f.rule: f.passed for f in judgement.findings if not f.rule.startswith("profit in")}
        for rule, passed in (other | {"profit in every regime": all(regimes)}).items():
            self.passed[rule] = self.passed.get(rule, 0) + int(passed)

    def figures(self) -> dict[str, Any]:
        """Shares with 95 % Clopper-Pearson bounds, each on its own side, and the shares that passed single rules."""
        low, high = binomial_bounds(self.promoted, self.n)
        return {
            "n": self.n,
            "promoted": self.promoted,
            "share": round(self.promoted / self.n, 5),
            "lower_95": round(low, 5),
            "upper_95": round(high, 5),
            "passed_all_but_pbo": round(self.asked / self.n, 5),
            "passed_rule": {rule: round(self.passed[rule] / self.n, 5) for rule in NAMED if rule in self.passed},
        }


def tally(search: SimulatedSearch, gate: PromotionCriteria, searches: int, rng: np.random.Generator) -> Tally:
    """`searches` independent searches."""
    counted = Tally()
    for _ in range(searches):
        counted.add(search.run(gate, rng))
    return counted


def false_promotion(searches: int, rng: np.random.Generator, *, worlds: tuple[Noise, ...] = WORLDS) -> dict[str, Any]:
    """Shares of searches over noise that were promoted, by stage, number of sessions and world.

    Sessions are as few as the stage takes, and `SimulatedSearch.sessions`; regimes are as few as it takes.
    """
    figures: dict[str, Any] = {}
    for stage, gate in GATES.items():
        for sessions in (gate.sessions, SimulatedSearch.sessions):
            seen = {
                world.__name__: tally(SimulatedSearch(world, sessions=sessions, regimes=gate.regimes), gate, searches, rng)
                for world in worlds
            }
            figures.setdefault(stage, {})[str(sessions)] = {name: counted.figures() for name, counted in seen.items()}
    return figures


def planted_power(searches: int, rng: np.random.Generator, *, power: float = 0.90) -> dict[str, Any]:
    """Shares of searches with one planted edge that were promoted, by stage.

    Two edges: `guard`, at which theory gives all rules together `power`; `ratio`, a smaller one, at which theory gives
    it to the rule for the deflated Sharpe ratio alone (see `passed_rule` for how often that rule passed).
    """
    figures: dict[str, Any] = {}
    for stage, gate in GATES.items():
        for name, theory in (("guard", SimulatedSearch.power), ("ratio", SimulatedSearch.power_of_ratio)):
            search = planted(theory, gate, power)
            promised = {
                "edge": round(search.edge, 4),
                "theory_guard": round(search.power(gate), 4),
                "theory_ratio": round(search.power_of_ratio(gate), 4),
            }
            figures.setdefault(stage, {})[name] = promised | tally(search, gate, searches, rng).figures()
    return figures


def limits(searches: int, rng: np.random.Generator) -> dict[str, Any]:
    """What the guard cannot see: a search that was not recorded, and losses that have not happened yet to the only
    strategy that was tried, where there is no search whose ranks would tell."""
    blind = {
        "unrecorded_search_into_paper": (SimulatedSearch(recorded=False, regimes=2), GATES["paper"]),
        "one_skewed_strategy_into_paper": (SimulatedSearch(skewed, strategies=1, sessions=10, regimes=2), GATES["paper"]),
        "rare_losses_into_live": (SimulatedSearch(rare_losses, strategies=1), GATES["live"]),
    }
    return {name: tally(search, gate, searches, rng).figures() for name, (search, gate) in blind.items()}


def study(seed: int, *, noise_searches: int = 1000, planted_searches: int = 200) -> dict[str, Any]:
    """All figures, as JSON values. Some minutes of one core as it stands."""
    noise, skill, blind = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    return {
        "seed": seed,
        "searches": {"noise": noise_searches, "planted": planted_searches, "strategies": SimulatedSearch.strategies},
        "false_promotion": false_promotion(noise_searches, noise),
        "power": planted_power(planted_searches, skill),
        "limits": limits(noise_searches, blind),
    }
