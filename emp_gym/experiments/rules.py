"""Agents that no run folder is about: which are rules, that cannot have learned anything, and which only have no record."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from emp_gym.agents import registry
from emp_gym.agents.base import BaseAgent, parameters
from emp_gym.agents.baselines import TABLE
from emp_gym.agents.certified import Naive, Optimal
from emp_gym.experiments import backtest
from emp_gym.experiments.config import RunConfig
from emp_gym.experiments.heldout import Proof, Standing, not_recorded, prove
from emp_gym.experiments.spans import Span, trained_spans

NO_RECORD = "no record of what it was trained on"
KNOWN = {*(row.agent for row in TABLE), Optimal, Naive}
LEARNED = ("learn", "load", "save", "arrays", "restore", "checkpoint", "resume")
"""Methods of an agent that may hold something learned."""
FILES = ("path", "file", "folder", "weights", "checkpoint", "model", "pretrained", "trusted")
"""Words in the names of parameters that may bring something learned."""


def is_rule(config: RunConfig) -> bool:
    """Whether the agent that `config` names cannot have learned: a baseline that measures nothing, or a class that neither
    learns nor loads and takes no file. What a class reads by itself cannot be seen."""
    cls, given = registry.configured(config.agent_name, config.agent)
    if cls in KNOWN:
        return not hasattr(cls, "learn")
    own = [name for name in LEARNED if getattr(cls, name, None) is not getattr(BaseAgent, name, None)]
    taken = {**dict.fromkeys(inspect.signature(cls).parameters), **dict.fromkeys(parameters(cls) or ()), **given}
    return not own and not any(_brings(name, value) for name, value in taken.items())


def _brings(name: str, value: Any) -> bool:
    words = name.lower().split("_")
    return any(word in words for word in FILES) or (isinstance(value, str) and ("/" in value or "\\" in value))


def calibrated_on(config: RunConfig) -> list[Span]:
    """The rows on which a built-in rule measures its numbers, before it is judged; empty for any other agent."""
    cls, _ = registry.configured(config.agent_name, config.agent)
    if cls not in KNOWN or not hasattr(cls, "learn"):
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
