"""The plan of a study that somebody else may have made, read with care, and what of it may name code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import optuna

from emp_gym import trust
from emp_gym.experiments.config import checked
from emp_gym.experiments.search.store import JOURNAL
from emp_gym.types import ConfigError, DataError

if TYPE_CHECKING:
    from emp_gym.experiments.search.driver import Plan

LARGEST = 1_000_000
"""Trials, population and the like of a study that is read, at most."""
SIZES = ("trials", "population", "halving", "seeds", "finalists", "more_seeds")


def subject(plan: Plan) -> dict[str, Any]:
    """What of a plan may name code."""
    return {"env_id": plan.env_id, "agent_name": plan.agent_name, "agent": plan.agent, "env": plan.env, "table": plan.table}


def remember(plan: Plan, folder: Path) -> None:
    """Notes that `plan` was typed: who goes on with the study is not asked."""
    trust.remember("study", subject(plan), folder)


def read(kind: type[Plan], study: optuna.Study, folder: Path, *, flat: bool = True) -> Plan:
    """The plan of `study`: `DataError` where it is none, `Untrusted` where it names code that nobody has vouched for. `flat`: genomes are
    values of its table, and are looked at, too."""
    where = folder / JOURNAL
    plan = _typed(kind, study.user_attrs["plan"], where)
    batches = study.user_attrs.get("batches")
    numbers = batches if isinstance(batches, list) and all(type(end) is int and 0 <= end <= plan.trials for end in batches) else None
    if numbers is None or numbers != sorted(numbers):
        raise DataError(f"{where}: expected batches as rising numbers up to {plan.trials}, got {str(batches)[:200]}")
    asked = [trust.Question("study", subject(plan), where)]
    genomes = [trial.user_attrs["genome"] for trial in study.get_trials(deepcopy=False) if "genome" in trial.user_attrs]
    if flat:
        for genome in genomes:
            _must_be_of(plan.table, genome, where)
    else:
        asked.append(trust.Question("genomes", genomes, where))
    trust.ask_all(asked)
    return plan


def _typed(kind: type[Plan], told: Mapping[str, Any], where: Path) -> Plan:
    kinds = get_type_hints(kind)
    unknown = [name for name in told if name not in kinds]
    if unknown:
        raise DataError(f"{where}: a plan has no {unknown[0][:80]!r}; the study is of another version")
    try:
        plan = kind(**{name: checked(value, kinds[name], f"plan.{name}") for name, value in told.items()})
    except (ConfigError, TypeError) as error:
        raise DataError(f"{where}: not the plan of a study: {str(error)[:400]}") from error
    sizes = {name: getattr(plan, name) for name in SIZES}
    if any(not 0 <= size <= LARGEST for size in sizes.values()):
        raise DataError(f"{where}: expected sizes of 0 to {LARGEST:,}, got {str(sizes)[:300]}")
    return plan


def _must_be_of(table: Mapping[str, Any], genome: Any, where: Path) -> None:
    """That everything in a genome but numbers is a choice of the table, which was asked about."""
    if not isinstance(genome, dict):
        raise DataError(f"{where}: expected genomes as names and values, got {str(genome)[:200]}")
    for key, value in genome.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        choices = table.get(key)
        if key not in table or not (number or (isinstance(choices, list) and value in choices)):
            raise DataError(f"{where}: a genome has {key[:80]} = {str(value)[:200]!r}, which its space does not offer")
