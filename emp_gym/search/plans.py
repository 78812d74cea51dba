"""The plan of a study: what is searched and how, and how one that somebody else may have made is read with care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import optuna

from emp_gym import trust
from emp_gym.agents.suggest import nearest
from emp_gym.runs.config import EvaluationConfig, RunConfig, checked
from emp_gym.search.samplers import SAMPLERS
from emp_gym.search.space import single_threaded
from emp_gym.search.store import JOURNAL
from emp_gym.types import ConfigError, DataError

SHARE = 4
"""The first rung is this part of the budget."""


@dataclass(frozen=True)
class HalvingRung:
    """How long a trial learns before it is judged again."""

    steps: int
    seeds: int


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and how. Only `trials` may change later."""

    env_id: str
    agent_name: str = "ppo"
    trials: int = 48  # begun, whatever becomes of them
    population: int = 8  # of parents, and trials that a generation completes
    halving: int = 2  # one in so many goes on after a quarter of the budget; 1: all trials have the whole
    budget: int = 100_000  # environment steps of a training run
    seeds: int = 2  # training runs of a trial that is not pruned
    sampler: str = "nsga2"
    seed: int = 0  # of the search
    episodes: int | None = None  # that judge; None: all of the validation split
    start: bool = True  # whether the first trial is what one has already
    finalists: int = 4  # trials of the highest values that are trained again before one of them is the champion; 0: none
    more_seeds: int = 6  # with which they are: the best of many is lucky in the seeds that it was chosen by
    agent: dict[str, Any] = field(default_factory=dict)  # parameters of every trial
    env: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)  # the space, as `FlatSpace` reads it

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("population", 2), ("halving", 1), ("budget", SHARE), ("seeds", 1), ("finalists", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"no sampler is called {self.sampler!r}; did you mean {nearest(self.sampler, SAMPLERS)}?")

    @property
    def base(self) -> RunConfig:
        """What all trials have in common."""
        evaluation = EvaluationConfig(split="validation", episodes=self.episodes)
        config = RunConfig(self.env_id, self.agent_name, self.budget, agent=self.agent, env=self.env, evaluation=evaluation)
        return single_threaded(config)

    @property
    def rungs(self) -> tuple[HalvingRung, ...]:
        whole = HalvingRung(self.budget, self.seeds)
        return (whole,) if self.halving == 1 else (HalvingRung(self.budget // SHARE, 1), whole)

    @property
    def generation(self) -> int:
        """Trials that a generation begins."""
        return self.population * self.halving ** (len(self.rungs) - 1)

    def survivors(self, begun: int, level: int) -> int:
        """How many of a generation that began `begun` trials are left after `level` cuts."""
        return -(-begun // self.halving**level)

    @property
    def steps(self) -> int:
        """Environment steps of the whole, if all goes well."""
        return self.steps_by(1)

    def steps_by(self, rollout: int) -> int:
        """The same where a training run ends with its last rollout of so many steps, which may go over the budget."""
        return self._trial_steps(rollout) + self.finalists * self.more_seeds * _whole(self.budget, rollout)

    @property
    def trial_steps(self) -> int:
        """Those of its trials."""
        return self._trial_steps(1)

    def _trial_steps(self, rollout: int) -> int:
        sizes = [min(self.generation, self.trials - first) for first in range(0, self.trials, self.generation)]
        return sum(
            self.survivors(begun, level) * _whole(rung.steps, rollout) * rung.seeds
            for begun in sizes for level, rung in enumerate(self.rungs)
        )  # fmt: skip


def _whole(steps: int, rollout: int) -> int:
    return -(-steps // rollout) * rollout


LARGEST = 1_000_000
"""Trials, population and the like of a study that is read, at most."""
SIZES = ("trials", "population", "halving", "seeds", "finalists", "more_seeds")


def subject(plan: SearchPlan) -> dict[str, Any]:
    """What of a plan may name code."""
    return {"env_id": plan.env_id, "agent_name": plan.agent_name, "agent": plan.agent, "env": plan.env, "table": plan.table}


def remember(plan: SearchPlan, folder: Path) -> None:
    """Notes that `plan` was typed: who goes on with the study is not asked."""
    trust.remember("study", subject(plan), folder)


def read(kind: type[SearchPlan], study: optuna.Study, folder: Path, *, flat: bool = True) -> SearchPlan:
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


def _typed(kind: type[SearchPlan], told: Mapping[str, Any], where: Path) -> SearchPlan:
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
