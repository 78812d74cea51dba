"""What every problem with a known optimum answers, and the checks of its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

from emp_gym.settings import LARGEST, shown
from emp_gym.types import F64, I64, ConfigError, DataError

Policy = Callable[[I64, F64], F64]  # (step [N], state [N, S]) -> action [N, A], all in natural units


@dataclass(frozen=True)
class Solution:
    """The optimum of a problem: expected sum of rewards from the start, and a policy that attains it."""

    value: float
    policy: Policy


@dataclass(frozen=True)
class Problem:
    """A control problem whose optimum is known. Subclasses are frozen dataclasses of JSON parameters.

    `optimal`, `naive`, `base` and `evaluate` use the exact model of the discrete environment: no sampling. A value is the
    expected sum of the environment's rewards over one episode.
    """

    state: ClassVar[tuple[str, ...]] = ()  # columns of `state`, with units
    action: ClassVar[tuple[str, ...]] = ()  # columns of an action, with units

    @property
    def decisions(self) -> int:
        """Decisions of an episode: every problem has it as `steps`, a parameter or a consequence of others."""
        return int(getattr(self, "steps"))  # noqa: B009

    def optimal(self) -> Solution:
        """The optimum, by dynamic programming; solved once for equal parameters."""
        return _optimal(self)

    def naive(self) -> dict[str, Policy]:
        """The simple policies, those with a parameter at their best."""
        return dict(_naive(self))

    def published(self) -> dict[str, Policy]:
        """Policies of the literature that are neither simple nor optimal here, by name."""
        return {}

    def base(self) -> tuple[str, float]:
        """Name and value of the best simple policy: the zero of `score`."""
        return _base(self)

    def evaluate(self, policy: Policy) -> float:
        """Exact value of `policy`."""
        raise NotImplementedError

    def certainty_equivalent(self, value: float) -> float:
        """The sure sum that is worth `value`: itself where the reward is money, not utility."""
        return value

    def score(self, value: float) -> float:
        """(J - J_base) / (J_optimal - J_base), all as certainty equivalents: 1 is the optimum, 0 the best simple policy."""
        base, best = self.certainty_equivalent(self.base()[1]), self.certainty_equivalent(self.optimal().value)
        if not best - base > 1e-12 * max(abs(best), abs(base)):
            raise DataError(
                f"{type(self).__name__}: the optimum {best:.6g} is no better than {self.base()[0]!r}, so there is no score;"
                " choose parameters under which there is something to learn"
            )
        return (self.certainty_equivalent(value) - base) / (best - base)

    def _solve(self) -> Solution:
        raise NotImplementedError

    def _simple(self) -> dict[str, Policy]:
        raise NotImplementedError

    def _contenders(self) -> dict[str, Policy]:
        """The simple policies that may be the base."""
        return self.naive()

    def _check(self, **rules: str) -> None:
        """ConfigError for a parameter that is no finite number or breaks its rule: "positive", "not negative", "share" (0
        to 1), "count" (whole, at least 1) or "a | b" (one of these words)."""
        known = {field.name for field in fields(self)}
        for name, rule in rules.items():
            assert name in known, name
            value = getattr(self, name)
            if not _obeys(value, rule):
                raise ConfigError(f"{type(self).__name__}: {name} must be {_SAID.get(rule, rule)}, got {shown(value)}")


MOST_COUNT = 1_000_000_000
_SAID = {
    "positive": "a finite number above 0",
    "not negative": "a finite number, 0 or more",
    "share": "a number from 0 to 1",
    "count": f"a whole number from 1 to {MOST_COUNT:,}",
}


def _obeys(value: Any, rule: str) -> bool:
    if rule not in _SAID:
        return isinstance(value, str) and value in rule.split(" | ")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return False
    if rule == "count":
        return isinstance(value, int) and 1 <= value <= MOST_COUNT
    return value > 0 if rule == "positive" else 0 <= value <= (1 if rule == "share" else math.inf)


@lru_cache(maxsize=256)
def _optimal(problem: Problem) -> Solution:
    return problem._solve()


@lru_cache(maxsize=256)
def _naive(problem: Problem) -> tuple[tuple[str, Policy], ...]:
    return tuple(problem._simple().items())


@lru_cache(maxsize=256)
def _base(problem: Problem) -> tuple[str, float]:
    value, name = max((problem.evaluate(policy), name) for name, policy in problem._contenders().items())
    return name, value
