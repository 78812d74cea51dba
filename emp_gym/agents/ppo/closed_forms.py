"""The closed forms of the literature on certificates: what a certificate's own numbers make of a formula.

The baselines of `emp_gym.agents.baselines` trade order books in ticks and clips; here the same formulas are read in the units of a
certificate's problem. They are approximations there (`emp_gym.evaluation.optimal` says how far): the optimum is the programme's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import BaseAgent
from emp_gym.agents.baselines.quotes import avellaneda_stoikov, glft
from emp_gym.agents.suggest import nearest
from emp_gym.envs import problem_of
from emp_gym.evaluation import optimal
from emp_gym.evaluation.optimal import Policy
from emp_gym.types import F32, F64, I64, Bool, ConfigError


def _twap(p: Any) -> Policy:
    return p.even()


def _almgren_chriss(p: Any) -> Policy:
    """Fractions of what remains, from the holdings of equation 17."""
    holdings = p.closed_form_holdings()
    fractions = 1.0 - holdings[1:] / holdings[:-1]
    return lambda step, state: fractions[np.minimum(step, p.steps - 1)][:, None]


def _cartea_jaimungal(p: Any) -> Policy:
    """Quotes of the continuous problem at the time of each step; a side that the limit forbids quotes as far as can be."""
    quotes = np.stack([p.continuous_quotes(step * p.dt) for step in range(p.steps)])
    quotes = np.minimum(quotes, p.max_offset)
    return lambda step, state: quotes[np.minimum(step, p.steps - 1), _lots(p, state) + p.max_inventory]


def _avellaneda_stoikov(p: Any) -> Policy:
    def policy(step: I64, state: F64) -> F64:
        left = p.horizon - step * np.float64(p.dt)
        return np.stack(avellaneda_stoikov(state[:, 0], left, p.risk_aversion, p.volatility, p.decay), axis=1)

    return policy


def _glft(p: Any) -> Policy:
    def policy(step: I64, state: F64) -> F64:
        return np.stack(glft(state[:, 0], p.risk_aversion, p.volatility, p.arrival, p.decay), axis=1)

    return policy


def _lots(p: Any, state: F64) -> I64:
    return np.clip(np.rint(state[:, 0]).astype(np.int64), -p.max_inventory, p.max_inventory)


SALES, AVERSE = ("almgren-chriss", "obizhaeva-wang"), ("avellaneda-stoikov", "glft")
RULES: dict[str, tuple[tuple[str, ...], Callable[[Any], Policy]]] = {
    "twap": (SALES, _twap),
    "almgren-chriss": (("almgren-chriss",), _almgren_chriss),
    "cartea-jaimungal": (("cartea-jaimungal",), _cartea_jaimungal),
    "avellaneda-stoikov": (AVERSE, _avellaneda_stoikov),
    "glft": (AVERSE, _glft),
}
"""Name of a rule -> (problems that have its numbers, what makes the policy of one)."""


@dataclass(frozen=True)
class ClosedFormConfig:
    """Parameters of `ClosedForm`."""

    rule: str = "twap"  # one of `RULES`


class ClosedForm(BaseAgent):
    """Acts on a certificate as the formula `rule` says, given the parameters that the environment was made with. It reads
    elapsed time and what is held from the observation. State: none."""

    Config: ClassVar[type | None] = ClosedFormConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rule, name = self.config.rule, problem_of(self.env_id) or "none"
        here = [known for known, (problems, _) in RULES.items() if name in problems]
        if rule not in here:
            which = f"it has {', '.join(here)}" if here else "it has none"
            near = f"; did you mean {nearest(rule, here)}?" if here else ""
            raise ConfigError(f"{rule!r} is no closed form of {self.env_id or 'this environment'}: {which}{near}")
        known = {field.name for field in fields(optimal.PROBLEMS[name])}
        given = {key: value for key, value in self.spec.kwargs.items() if key in known}
        problem: Any = optimal.problem(name, **given)
        self.problem = problem
        self._held = "parent_left" if name in SALES else "inventory"
        self._top = 1.0 if name in SALES else float(problem.max_offset)
        self._rule = RULES[rule][1](problem)
        assert isinstance(self.action_space, spaces.Box)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        step = np.rint(self.value(observation, "elapsed") * self.problem.decisions).astype(np.int64)
        action = self._rule(step, self.value(observation, self._held)[:, None])
        return np.clip(2.0 * action / self._top - 1.0, -1.0, 1.0).astype(np.float32), state


__all__ = ["RULES", "ClosedForm"]
