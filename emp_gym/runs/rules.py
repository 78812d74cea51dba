"""What an agent may have learned besides what its run recorded: which are rules, that cannot have learned anything, and what
brings something that was learned elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path, PurePath
from typing import Any

from emp_gym.agents import registry
from emp_gym.agents.base import Learner, traits
from emp_gym.agents.baselines import TABLE
from emp_gym.agents.optimal_policies import Naive, Optimal
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig
from emp_gym.runs.held_out import Proof, Standing, not_recorded, prove
from emp_gym.runs.spans import Span, trained_spans

NO_RECORD = "no record of what it was trained on; only built-in rules are known to have learned nothing"
KNOWN = {*(row.agent for row in TABLE), Optimal, Naive}
FILES = ("path", "file", "folder", "weights", "checkpoint", "pretrained")
"""Words in the names of parameters that may bring something learned."""


def is_rule(config: RunConfig) -> bool:
    """Whether the agent that `config` names cannot have learned: a built-in baseline that measures nothing. What a class of
    somebody else has read or counted before cannot be seen."""
    cls, _ = registry.configured(config.agent_name, config.agent)
    return cls in KNOWN and not issubclass(cls, Learner)


def brought(config: RunConfig) -> str:
    """Why nobody knows all that an agent of `config` learned from: a parameter that brings a file; empty where none does."""
    cls, given = registry.configured(config.agent_name, config.agent)
    taken = {**_defaults(cls), **given}
    found = next((name for name, value in taken.items() if _brings(name, value)), None)
    return "" if found is None else f"its parameter {found}={taken[found]!r} brings what this run has no record of"


def _defaults(cls: type) -> dict[str, Any]:
    if (known := traits(cls).Config) is not None:
        return {field.name: field.default for field in fields(known)}
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}


def _brings(name: str, value: Any) -> bool:
    if not isinstance(value, str | PurePath) or not str(value):
        return False
    named = any(word in FILES for word in name.lower().split("_"))
    return named or "/" in str(value) or "\\" in str(value) or Path(value).is_file()


def calibrated_on(config: RunConfig) -> list[Span]:
    """The rows on which a built-in rule measures its numbers, before it is judged; empty for any other agent."""
    cls, _ = registry.configured(config.agent_name, config.agent)
    if cls not in KNOWN or not issubclass(cls, Learner):
        return []
    env = backtest.make_env(config.env_id, config.env, 1, split="train")
    spans = trained_spans(env, "train")
    env.close()
    return spans


def without_run(judged: Sequence[Span], config: RunConfig) -> Proof:
    """How the windows `judged` stand to an agent that no run folder is about."""
    split = config.evaluation.split
    if is_rule(config):
        return Proof(Standing.RULE, split)
    spans = calibrated_on(config)
    return prove(judged, spans, split) if spans else not_recorded(split, NO_RECORD)
