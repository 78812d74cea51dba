"""Environments by id, and what one of somebody else needs to be trained in and judged on here: the training contract.

docs/own_environment.md has it in words, and an environment that keeps it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym import trust
from emp_gym.agents.names import nearest
from emp_gym.envs.about import about
from emp_gym.envs.subject import failure, place
from emp_gym.types import ConfigError

CONTRACT = "the training contract (docs/own_environment.md)"
MAKERS = ("id", "vectorization_mode", "vector_kwargs", "wrappers")
"""Keywords that Gymnasium's own ``make_vec`` takes for itself, before an environment sees any."""
KEYWORDS = {
    "split": "takes no `split` ('train', 'test'), so nothing can be held out of training",
    "autoreset_mode": "takes no `autoreset_mode` ('SameStep' to learn, 'Disabled' to be judged)",
}
SUMMARY = ("pnl", "return", "length")  # what reports are made of
LANES = 2
LONGEST = 20_000  # steps within which an episode of random actions must have ended


def broken(env_id: str, lacks: list[str]) -> ConfigError:
    """The refusal of environment `env_id`, which lacks something."""
    return ConfigError(f"{env_id} does not keep {CONTRACT}: it {'; it '.join(lacks)}")


def unregistered(env_id: str) -> list[str]:
    """What the registration and signature of `env_id` lack, without making one. Unknown ids raise `ConfigError`."""
    keywords = environment_keywords(env_id)
    lacks = [said for name, said in KEYWORDS.items() if keywords is not None and name not in keywords]
    if environment(env_id).vector_entry_point is None:
        lacks.append("has no vector face (vector_entry_point), and agents learn in many lanes")
    return lacks


def missing(env_id: str, **keywords: Any) -> list[str]:
    """All that `env_id` lacks to be trained in and judged on, each the predicate of a sentence. An episode of random actions is run."""
    lacks, known = unregistered(env_id), environment_keywords(env_id)
    learning, judged = (
        {**keywords, **{name: value for name, value in own.items() if known is None or name in known}}
        for own in ({"split": "train", "autoreset_mode": "SameStep"}, {"split": "test", "autoreset_mode": "Disabled"})
    )
    try:
        gym.make_vec(env_id, num_envs=LANES, **learning).close()
        env = gym.make_vec(env_id, num_envs=LANES, **judged)
        try:
            return [*lacks, *_unjudged(env)]
        finally:
            env.close()
    except Exception as error:  # foreign code: any kind of failure is what we came to report
        return [*lacks, f"fails: {failure(error)} ({place(error)})"]


def _unjudged(env: VectorEnv) -> Iterator[str]:
    """What keeps an episode of `env` from being judged."""
    windows, options = about(env).windows, None
    if windows is None:
        yield "has no windows(count), so there is nothing to judge it on"
    else:
        found = [(int(day), int(start)) for day, start in windows(LANES)]
        if len(found) != LANES:
            yield f"has {len(found)} windows in its test split where windows({LANES}) asks for {LANES}"
            return
        options = {"day": [day for day, _ in found], "start": [start for _, start in found]}
    env.reset(seed=0, options=options)
    env.action_space.seed(0)
    for _ in range(LONGEST):
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        if (terminated | truncated).any():
            summary = info.get("summary", {})
            if left := [name for name in SUMMARY if np.shape(summary.get(name)) != (LANES,)]:
                yield f"has no info['summary'] with {', '.join(left)} of each lane at the end of an episode"
            return
    yield f"had no end of an episode in {LONGEST:,} steps of random actions"


# ---- environments by id


def environment_keywords(env_id: str) -> list[str] | None:
    """Keywords that environment `env_id` takes; None where it takes anything. Unknown ids raise `ConfigError`."""
    spec = environment(env_id)
    point = spec.vector_entry_point or spec.entry_point
    creator = gym.envs.registration.load_env_creator(point) if isinstance(point, str) else point
    signature = inspect.signature(creator).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
        return None
    return [parameter.name for parameter in signature]


def takes(keywords: list[str] | None, key: str) -> bool:
    """Whether an environment with `keywords` (as `environment_keywords` says them) may be given `key`."""
    return key not in MAKERS if keywords is None else key in keywords


def environment(env_id: str) -> Any:
    """The registered spec of `env_id` (``module:Id`` imports the module first); raises `ConfigError` naming the
    nearest."""
    module, _, name = env_id.rpartition(":")
    if module:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"--env {env_id}: {module!r} is no module; expected module:Id, e.g. my_env:my-env-v0 for a my_env.py here")
        try:
            __import__(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"--env {env_id}: there is no module {error.name!r} on the path ({trust.HERE})") from error
    if name not in gym.registry:
        ours = [known for known in gym.registry if known.startswith("emp-")] or list(gym.registry)
        raise ConfigError(f"no environment is called {name!r}; did you mean {nearest(name, ours)}?")
    return gym.registry[name]
