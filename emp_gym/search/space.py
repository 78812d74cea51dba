"""What is searched: a space suggests genomes and builds agents' configurations of them.

`Space` is all that the driver knows. `FlatSpace` is the one for hyper-parameters, encoders, reward shaping and risk appetite:
named values, all of them suggested in every trial, since NSGA-II can only cross what all parents have. A space whose genomes
are programs is another class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from emp_gym.agents import registry
from emp_gym.agents.base import traits
from emp_gym.agents.suggest import nearest
from emp_gym.envs import problem_of
from emp_gym.envs.about import about
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, assignments, override, read_yaml, validate, with_risk
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

Genome = Mapping[str, Any]
"""JSON values: what is kept of a trial, and all that is needed to build it again."""


class Space(Protocol):
    """Where genomes come from and what they mean."""

    def suggest(self, trial: Trial) -> Genome:
        """A genome, from what `trial` suggests; nothing but `trial` may be random in it."""
        ...

    def start(self) -> Mapping[str, Any]:
        """What the first trial is told to suggest, by parameter: what one has already. It may be a part, or nothing."""
        ...

    def build(self, genome: Genome) -> RunConfig:
        """The agent and the environment of `genome`: the same for the same genome. Seed and steps are set by the driver."""
        ...

    def describe(self) -> list[tuple[str, str]]:
        """(name, what it may be), for people."""
        ...


@dataclass(frozen=True)
class Gene:
    """One named value: a number from `low` to `high`, or one of `choices`."""

    key: str  # agent.KEY, env.KEY, or risk
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Trial) -> Any:
        if self.choices:
            told = {_label(choice): choice for choice in self.choices}
            return told[trial.suggest_categorical(self.key, list(told))]
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def nearest(self, value: Any) -> dict[str, Any]:
        """What a trial must be told to suggest `value`, or what comes nearest to it; nothing where nothing does."""
        if self.choices:
            labels = {_label(choice): choice for choice in self.choices}
            label = _label(list(value) if isinstance(value, tuple) else value)
            if label not in labels and _is_number(value):
                numbers = [choice for choice in self.choices if _is_number(choice)]
                label = _label(min(numbers, key=lambda choice: abs(choice - value))) if numbers else label
            return {self.key: label} if label in labels else {}
        if not _is_number(value):
            return {}
        value = min(max(value, self.low), self.high)
        return {self.key: round(value) if self.whole else value}

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be possible if the others are."""
        return self.choices or ((int(self.low), int(self.high)) if self.whole else (self.low, self.high))

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(_label(choice) for choice in self.choices)
        return f"{self.low:g} to {self.high:g}{', whole' if self.whole else ''}{', by its logarithm' if self.log else ''}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(choice: Any) -> str:
    """A choice as Optuna may keep it."""
    return choice if isinstance(choice, str) else json.dumps(choice)


class FlatSpace:
    """Genomes of named values on top of `base`.

    ``agent.KEY`` is a parameter of the agent, ``env.KEY`` one of the task (how it rewards, what it lets the agent hold), ``risk`` a file of
    limits or null. Whatever would make the market or the problem another one is refused: scores would not compare.
    """

    def __init__(self, base: RunConfig, table: Mapping[str, Any], where: str = "--space") -> None:
        """`table` as in a YAML file: key -> a list of choices, or low and high, and log; `where` it came from, for errors."""
        if not table:
            raise ConfigError(f"{where}: nothing to search; expected keys such as agent.gamma: {{low: 0.9, high: 1.0}}")
        self._base, self._where = base, where
        self.genes = [_gene(str(key), told, where) for key, told in table.items()]
        self._may_be_shaped()
        for gene in self.genes:
            for value in gene.extremes:
                self._checked(gene, value)

    def suggest(self, trial: Trial) -> Genome:
        return {gene.key: gene.suggest(trial) for gene in self.genes}

    def start(self) -> Mapping[str, Any]:
        """The values of `base`, its agent's and its task's own where it says nothing, or what the space has next to them."""
        told: dict[str, Any] = {}
        for gene in self.genes:
            if gene.key in self._own:
                told |= gene.nearest(self._own[gene.key])
        return told

    @cached_property
    def _own(self) -> dict[str, Any]:
        """What genes are where nothing is searched, by key; those that are nothing then are left out."""
        cls, (_, shown) = registry.find(self._base.agent_name), _of_task(self._base)
        schema = traits(cls).Config
        own = {} if schema is None else {field.name: field for field in fields(schema)}
        found: dict[str, Any] = {}
        for gene in self.genes:
            part, _, name = gene.key.partition(".")
            if part == "agent" and name in self._base.agent:
                found[gene.key] = self._base.agent[name]
            elif part == "agent" and name in own:
                found[gene.key] = own[name].default
            elif part == "env":
                found[gene.key] = self._base.env.get(name, shown.get(name))
            elif part == "risk" and not self._base.env.get("gates"):
                found[gene.key] = None
        return found

    def build(self, genome: Genome) -> RunConfig:
        config = self._base
        for key, value in genome.items():
            config = _with(config, key, value)
        return validate(config)

    def describe(self) -> list[tuple[str, str]]:
        return [(gene.key, f"{gene}{_outside(gene, self._own[gene.key]) if gene.key in self._own else ''}") for gene in self.genes]

    def _checked(self, gene: Gene, value: Any) -> None:
        try:
            config = self.build({gene.key: value})
            cls = registry.find(config.agent_name)
            if (schema := traits(cls).Config) is not None:
                schema(**config.agent)
        except ConfigError as error:
            raise ConfigError(f"{self._where}: {gene.key} = {value!r}: {error}") from error

    def _may_be_shaped(self) -> None:
        wanted = [gene.key.removeprefix("env.") for gene in self.genes if not gene.key.startswith("agent.")]
        known = shaping(self._base) if wanted else []
        if "risk" in wanted and "max_position" not in known:
            raise ConfigError(f"{self._where}: risk: {self._base.env_id} has no orders that limits could hold back")
        wanted = [key for key in wanted if key != "risk"]
        for key in wanted:
            if key not in known:
                hint = f"did you mean env.{nearest(key, known)}?" if known else "this environment has no such parameters"
                raise ConfigError(
                    f"{self._where}: env.{key} may not be searched: another value would be another market or problem; "
                    f"parameters of the task may ({hint})"
                )


def _outside(gene: Gene, own: Any) -> str:
    """That a search cannot have `own`, what the gene is without one, and what it has instead."""
    own = list(own) if isinstance(own, tuple) else own
    begin = gene.nearest(own).get(gene.key)
    if begin == (_label(own) if gene.choices else own):
        return ""
    instead = "nothing comes near" if begin is None else f"nearest: {begin}"
    return f"; outside is {_label(own)}, what it is without a search ({instead})"


def _with(config: RunConfig, key: str, value: Any) -> RunConfig:
    if key == "risk":
        return with_risk(config, None if value is None else Path(value))
    part, _, name = key.partition(".")
    return override(config, {part: {name: value}})


def _gene(key: str, told: Any, where: str) -> Gene:
    part, _, name = key.partition(".")
    if key != "risk" and (part not in ("agent", "env") or not name):
        raise ConfigError(f"{where}: {key}: expected agent.KEY, env.KEY or risk")
    if isinstance(told, list) and told:
        return Gene(key, choices=tuple(_number(choice) for choice in told))
    numbers = {name: _number(told[name]) for name in ("low", "high") if name in told} if isinstance(told, Mapping) else {}
    if len(numbers) < 2 or set(told) - {"low", "high", "log"} or any(isinstance(n, str | bool | None) for n in numbers.values()):
        raise ConfigError(f"{where}: {key}: expected a list of choices, or low and high (and log: true), got {told!r}")
    low, high, log = numbers["low"], numbers["high"], bool(told.get("log", False))
    if not low < high or (log and low <= 0):
        raise ConfigError(f"{where}: {key}: expected low < high{' and low > 0, for its logarithm' if log else ''}, got {low} and {high}")
    return Gene(key, low, high, log, isinstance(low, int) and isinstance(high, int))


def _number(value: Any) -> Any:
    """A text that YAML 1.1 did not take for the number that it is (1e-4), as one."""
    return assignments([f"x={value}"])["x"] if isinstance(value, str) and value[:1].isdigit() else value


def shaping(config: RunConfig) -> list[str]:
    """Parameters of the environment that leave market and problem as they are: of its task and reward, the form of reward of a
    certificate, none where it publishes neither."""
    if problem_of(config.env_id) is not None:
        return ["reward"]
    return [name for name in _of_task(config)[1] if name != "parent"]


# ---- defaults

SPACES = Path(__file__).parent / "spaces"


def default_table(config: RunConfig) -> dict[str, Any]:
    """The space of an agent for which the user gives none: that of its class (``search_space``), or ours of its name; with
    reward shaping where the task has a choice of rewards. Raises `ConfigError` where there is neither."""
    table = traits(registry.find(config.agent_name)).search_space
    path = SPACES / f"{config.agent_name}.yaml"
    if table is None and not path.exists():
        ours = ", ".join(sorted(path.stem for path in SPACES.glob("*.yaml") if path.stem != "shaping"))
        raise ConfigError(f"--space is missing: there is a space for {ours}, none for {config.agent_name!r}; see configs/search")
    table = dict(table if table is not None else read_yaml(path))
    task = _of_task(config)[0]
    return table | read_yaml(SPACES / "shaping.yaml") if len(getattr(task, "rewards", ())) > 1 else table


def _of_task(config: RunConfig) -> tuple[Any, dict[str, Any]]:
    """What the environment publishes as its task, None where it publishes none; parameters of task and reward, by keyword."""
    env = backtest.make_env(config.env_id, config.env, 1, split="train")
    known = about(env)
    env.close()
    return known.task, {"reward": known.reward, **known.reward_parameters, **known.parameters} if known.task is not None else {}


def single_threaded(config: RunConfig) -> RunConfig:
    """`config` with one thread for the agent, where it has such a parameter and nobody said otherwise: trials run side by side, and
    sums do not depend on the number of cores."""
    known = backtest.registry_parameters(config.agent_name) or []
    return replace(config, agent={"threads": 1, **config.agent}) if "threads" in known else config
