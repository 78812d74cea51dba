"""What a run is made of: dataclasses with defaults, YAML overrides, and ``--set key=value`` on top.

Keys are dotted: ``agent.learning_rate=3e-4``, ``env.episode="128 decisions"``, ``evaluation.episodes=64``,
``total_timesteps=1e6``. An unknown key is a `ConfigError` that names the nearest; so is a value of the wrong type.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from emp_gym import bounded, trust
from emp_gym.agents import registry
from emp_gym.agents.base import parameters, traits
from emp_gym.agents.suggest import nearest
from emp_gym.runs.contract import broken, environment_keywords, takes, unregistered
from emp_gym.types import ConfigError, DataError

LOWEST_LEVEL = 0.5
"""Below it an interval misses more often than it holds; who writes 0.05 means 0.95."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How a trained agent is judged."""

    split: str = "test"  # which part of the data
    episodes: int | None = None  # disjoint windows, spread evenly; None = all there are
    baselines: tuple[str, ...] | None = None  # None = those that belong to the environment
    level: float = 0.95  # of the intervals
    resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the windows' lanes and of the bootstrap, the same for every training seed

    def __post_init__(self) -> None:
        if not LOWEST_LEVEL <= self.level < 1:
            likely = 1 - self.level if 0 < self.level < 1 else self.level / 100 if 50 <= self.level < 100 else 0.95
            raise ConfigError(
                f"evaluation.level: expected the probability with which an interval holds, from {LOWEST_LEVEL} to below 1, got "
                f"{self.level!r}; did you mean {likely:g}?"
            )
        fewest = math.ceil(2 / (1 - self.level) - 1e-6)
        if self.resamples < fewest:
            raise ConfigError(
                f"evaluation.resamples: expected at least {fewest:,} (one draw beyond each end of an interval of level {self.level:g}), "
                f"got {self.resamples!r}; 2000 is the default"
            )
        if self.episodes is not None and self.episodes < 1:
            raise ConfigError(
                f"evaluation.episodes (--episodes): expected at least 1, got {self.episodes!r}; leave it out for all windows that there are"
            )
        if self.seed < 0:
            raise ConfigError(f"evaluation.seed: expected an integer of at least 0, got {self.seed!r}")


@dataclass(frozen=True)
class RunConfig:
    """One training run. `agent` and `env` hold the parameters of the agent and of the environment."""

    env_id: str = "emp-lob-v0"
    agent_name: str = "ppo"
    total_timesteps: int = 4_000_000
    num_envs: int | None = None  # lanes; None = what the agent likes best
    seed: int = 0
    checkpoints: int = 4  # evenly spread over the run, the last one at its end
    agent: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationConfig = EvaluationConfig()

    def __post_init__(self) -> None:
        data = self.env.get("data")
        if isinstance(data, PathLike):
            object.__setattr__(self, "env", {**self.env, "data": str(data)})
        elif isinstance(data, list | tuple):
            object.__setattr__(self, "env", {**self.env, "data": [str(x) if isinstance(x, PathLike) else x for x in data]})


RESERVED = ("num_envs", "autoreset_mode", "split", "render_mode")
"""Environment keywords that training and evaluation set themselves."""


SHORT = ("memory", "extractor", "residual")
"""Parameters of the agent that ``--set`` takes without ``agent.`` before them."""


LONGEST, BASELINES = 500, 1000
"""Characters of a name that a file tells, and baselines, at most."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of overrides: nested keys as in `RunConfig`. Who names the file on the command line vouches for the classes that it
    names, not for pickles (`Untrusted`)."""
    where = f"--config {path}"
    try:
        value = bounded.read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{where}: there is no such file") from error
    except DataError as error:
        raise ConfigError(f"--config {error}") from error
    if not isinstance(value, dict | None):
        raise ConfigError(f"{where}: expected keys and values, got a {type(value).__name__}")
    trust.ask("settings", value or {}, where, code=False)
    return value or {}


def assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1"]`` as ``{"a": {"b": 1}}``; values are read as YAML."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair}: expected key=value, e.g. --set agent.n_epochs=3")
        node, key = tree, key.strip()
        *parents, last = (f"agent.{key}" if key in SHORT else key).split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {pair}: {parent!r} already has a value of its own")
        node[last] = _scalar(text, pair)
    return tree


def _scalar(text: str, pair: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or a number that is none
        raise ConfigError(f"--set {pair[:200]}: the value is not YAML") from error
    if isinstance(value, str):  # YAML 1.1 takes 3e-4 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def variant(label: str) -> tuple[str, dict[str, Any]]:
    """``ppo[extractor=mamba3,memory=faiss]`` as an agent's name and parameters of its own; a bare name has none. Values are read
    as YAML."""
    name, bracket, rest = label.partition("[")
    if not bracket:
        return label, {}
    pairs = [pair.partition("=") for pair in rest.removesuffix("]").split(",")]
    if not rest.endswith("]") or not name or any(not key.strip() or not equals for key, equals, _ in pairs):
        raise ConfigError(f"{label!r}: expected an agent with parameters in brackets, e.g. ppo[extractor=mamba3,memory=faiss]")
    return name, {key.strip(): _scalar(text, label) for key, _, text in pairs}


def subject(config: RunConfig) -> dict[str, Any]:
    """What of a configuration may name code: the same for all seeds and budgets."""
    judged = config.evaluation.baselines
    return {"env_id": config.env_id, "agent_name": config.agent_name, "agent": config.agent, "env": config.env, "baselines": judged}


def read(told: Mapping[str, Any], where: object) -> RunConfig:
    """The configuration that a file at `where` tells: `Untrusted` where it names code that nobody has vouched for."""
    config = parsed(told, where)
    trust.ask_all([question(config, where)])
    return config


def question(config: RunConfig, where: object) -> trust.Question:
    """What of `config`, found at `where`, somebody must have vouched for."""
    return trust.Question("run", subject(config), where)


def parsed(told: Mapping[str, Any], where: object) -> RunConfig:
    """The same, of which nothing may be made before `question` was asked."""
    deque(bounded.walk(told, where), maxlen=0)
    try:
        config = override(RunConfig(), told)
    except ConfigError as error:
        raise DataError(f"{where}: not the configuration of a run: {str(error)[:600]}") from error
    if len(config.evaluation.baselines or ()) > BASELINES:
        raise DataError(f"{where}: {len(config.evaluation.baselines or ()):,} baselines; expected at most {BASELINES}")
    for name in (config.env_id, config.agent_name, *(config.evaluation.baselines or ())):
        if len(name) > LONGEST:
            raise DataError(f"{where}: a name of {len(name):,} characters; expected at most {LONGEST}")
    return config


def remember(config: RunConfig, where: object) -> None:
    """Notes that `config` was typed, or comes out of a program: who reads it again is not asked."""
    trust.remember("run", subject(config), where)


def override(config: RunConfig, tree: Mapping[str, Any]) -> RunConfig:
    """`config` with the values of `tree` (nested as `RunConfig` is); checks names and types, not the agent's and env's
    own keys."""
    return _override(config, tree, "")


def _override(config: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    known = {f.name for f in fields(config)}
    hints = get_type_hints(type(config))
    changes = {}
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(f"unknown key {prefix + str(key)!r}; did you mean {prefix + nearest(str(key), known)}?")
        old = getattr(config, key)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{key}: expected keys below it, got {value!r}")
            changes[key] = _override(old, value, f"{prefix}{key}.")
        elif isinstance(old, dict):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{key}: expected keys below it, got {value!r}")
            changes[key] = {**old, **value}
        else:
            changes[key] = _counted(checked(value, hints[key], prefix + key), prefix + key)
    return replace(config, **changes)


def _counted(value: Any, key: str) -> Any:
    """`value`; `ConfigError` for a whole number that is below 0, or that no machine counts to: all of a run are counts or seeds."""
    if type(value) is int and not 0 <= value < 1 << 63:
        raise ConfigError(f"{key}: expected a whole number from 0 up to 2^63, got {str(value)[:40]}")
    return value


def with_risk(config: RunConfig, path: Path | None) -> RunConfig:
    """`config` whose environment has the risk layer with the limits of a YAML file, in the place of one that it had.

    The limits themselves are kept, so that a run can be judged and resumed wherever it is. None: `config` as it is.
    """
    if path is None:
        return config
    from emp_gym.risk.limits import load

    limits = load(path).model_dump(mode="json", exclude_unset=True)
    before = config.env.get("gates") or []
    others = [
        gate
        for gate in ([before] if isinstance(before, str | Mapping) else before)
        if (gate.get("gate") if isinstance(gate, Mapping) else gate) != "risk"
    ]
    return replace(
        config, env={**config.env, "gates": [*others, {"gate": "risk", "limits": limits, "mode": "project"}]}
    )


def checked(value: Any, kind: Any, key: str) -> Any:
    """`value` as a `kind`, with whole floats taken for integers; raises `ConfigError` otherwise."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(f"{key}: expected {getattr(kind, '__name__', kind)}, got {value!r} ({reason})") from error


def validate(config: RunConfig) -> RunConfig:
    """`config` with the agent's and the environment's own parameters checked by name and type."""
    agent = agent_parameters(config.agent_name, config.agent)
    keywords = environment_keywords(config.env_id)
    if lacks := unregistered(config.env_id):
        raise broken(config.env_id, lacks)
    for key in config.env:
        if key in RESERVED:
            raise ConfigError(f"env.{key} is set by training and evaluation themselves; leave it out")
        if not takes(keywords, key):
            raise ConfigError(f"unknown key 'env.{key}'; did you mean env.{nearest(key, keywords or [])}?")
    return replace(config, agent=agent)


def agent_parameters(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters `given` to the agent called `name`, checked by name and type."""
    cls, given = registry.configured(name, given)
    known = parameters(cls)
    schema = traits(cls).Config
    hints = get_type_hints(schema) if schema is not None else {}
    agent = {}
    for key, value in given.items():
        if known is not None and key not in known:
            raise ConfigError(f"unknown key 'agent.{key}'; did you mean agent.{nearest(key, known)}?")
        agent[key] = checked(value, hints[key], f"agent.{key}") if key in hints else value
    return agent
