"""Control problems of finance whose optimum is known, as the exact models of the environments that ship.

problem("cartea-jaimungal").optimal().value  # 6.0862: the dynamic programme of the 100-step environment
problem("almgren-chriss", risk_aversion=2e-6).score(value)  # 1 is the optimum, 0 the best simple policy
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from emp_gym.evaluation.optimal.base import Policy, Problem, Solution
from emp_gym.evaluation.optimal.ladder import RUNGS, Rung
from emp_gym.evaluation.optimal.liquidation import AlmgrenChriss, ObizhaevaWang
from emp_gym.evaluation.optimal.quoting import AvellanedaStoikov, CarteaJaimungal, Glft, avellaneda_stoikov_table
from emp_gym.evaluation.optimal.tabular import FiniteMDP, PolicyValue
from emp_gym.evaluation.optimal.tracking import GarleanuPedersen
from emp_gym.settings import shown
from emp_gym.types import ConfigError, UnknownKeyword

__all__ = [
    "PROBLEMS",
    "RUNGS",
    "FiniteMDP",
    "Policy",
    "PolicyValue",
    "Problem",
    "Rung",
    "Solution",
    "avellaneda_stoikov_table",
    "problem",
]

PROBLEMS: dict[str, type[Problem]] = {
    "almgren-chriss": AlmgrenChriss,
    "obizhaeva-wang": ObizhaevaWang,
    "avellaneda-stoikov": AvellanedaStoikov,
    "cartea-jaimungal": CarteaJaimungal,
    "glft": Glft,
    "garleanu-pedersen": GarleanuPedersen,
    **RUNGS,
}


def problem(name: str, **parameters: Any) -> Problem:
    """The problem called `name` in `PROBLEMS`; ConfigError for an unknown name or parameter, or a value that cannot be."""
    check_parameters(name, parameters)
    return PROBLEMS[name](**parameters)


def check_parameters(name: str, parameters: Iterable[str], besides: Sequence[str] = ()) -> None:
    """ConfigError where there is no problem `name`, or one of `parameters` is not its own; `besides` are keywords that
    whoever asks takes himself, for the hint."""
    if not isinstance(name, str) or name not in PROBLEMS:
        raise ConfigError(f"unknown problem {shown(name)}{_near(str(name), list(PROBLEMS))}; known: {', '.join(PROBLEMS)}")
    known = [*(field.name for field in fields(PROBLEMS[name])), *besides]
    for key in parameters:
        if key not in known:
            raise UnknownKeyword.of(key, known, f"; {name} knows {', '.join(known)}")


def _near(wrong: str, known: list[str]) -> str:
    found = get_close_matches(wrong, known, 1)
    return f", did you mean {found[0]!r}?" if found else ""
