"""Environments by id, and what one of somebody else needs to be trained in and judged on here: the training contract.

docs/own_environment.md has it in words, and an environment that keeps it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from emp_gym import trust
from emp_gym.agents.suggest import nearest
from emp_gym.envs.about import about
from emp_gym.envs.conformance.subject import closing, failure, first_difference, of_lane, place
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
    """The refusal of environment `env_id`, which lacks something, and perhaps more."""
    told = f"{env_id} does not keep {CONTRACT}: it {'; it '.join(lacks)}"
    return ConfigError(f"{told} (all that it lacks: emp-check --env {env_id} --skip conformance)")


def unregistered(env_id: str) -> list[str]:
    """What the registration and signature of `env_id` lack, without making one. Unknown ids raise `ConfigError`."""
    keywords = environment_keywords(env_id)
    lacks = [said for name, said in KEYWORDS.items() if keywords is not None and name not in keywords]
    if environment(env_id).vector_entry_point is None:
        lacks.append("has no vector face (vector_entry_point), and agents learn in many lanes")
    return lacks


def missing(env_id: str, **keywords: Any) -> list[str]:
    """All that `env_id` lacks to be trained in and judged on, each the predicate of a sentence. Episodes of random actions are run."""
    lacks, known = unregistered(env_id), environment_keywords(env_id)
    learning, judged = (
        {**keywords, **{name: value for name, value in own.items() if known is None or name in known}}
        for own in ({"split": "train", "autoreset_mode": "SameStep"}, {"split": "test", "autoreset_mode": "Disabled"})
    )
    try:
        with closing(gym.make_vec(env_id, num_envs=LANES, **learning)) as env:
            lacks += _unlearned(env) if "autoreset_mode" in learning else ()
        with closing(gym.make_vec(env_id, num_envs=LANES, **judged)) as env:
            lacks += _unjudged(env, "autoreset_mode" in judged)
    except Exception as error:  # foreign code: any kind of failure is what we came to report
        lacks.append(f"fails: {failure(error)} ({place(error)})")
    return lacks


def _unlearned(env: VectorEnv) -> Iterator[str]:
    """What keeps an agent from learning in `env`, whose lanes are to reset in the same step."""
    yield from _mode(env, AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    done, _, info = _played(env)
    if done.any() and not np.all(np.asarray(info.get("_final_obs", False) & done)[done]):
        yield "has no info['final_obs'] with its mask ['_final_obs'] where a lane resets in the same step"


def _unjudged(env: VectorEnv, stands: bool) -> Iterator[str]:
    """What keeps an episode of `env` from being judged; `stands`: its lanes are to stand still when their episode is over."""
    windows, options = about(env).windows, None
    if windows is None:
        yield "has no windows(count), so there is nothing to judge it on"
    else:
        found, every = ([(int(day), int(start)) for day, start in windows(count)] for count in (LANES, None))
        if len(found) != LANES:
            yield f"has {len(found)} windows in its test split where windows({LANES}) asks for {LANES}"
            return
        if len({*every}) != len(every) or not {*found} <= {*every}:
            yield f"names a window twice in windows(None), or in windows({LANES}) one that is not among them"
        options = {"day": [day for day, _ in found], "start": [start for _, start in found]}
        turned = {name: each[::-1] for name, each in options.items()}
        first, other, here, there, again = (
            copy.deepcopy(env.reset(seed=seed, options=pinned)[0])
            for seed, pinned in ((0, None), (1, None), (0, options), (0, turned), (0, options))
        )
        heeds = first_difference(first, here) or first_difference(first, there) or not first_difference(first, other)
        if first_difference(here, again) or not heeds:
            yield "does not begin at the windows that reset(options={'day': [...], 'start': [...]}) names"
    env.reset(seed=0, options=options)
    done, observation, info = _played(env)
    if not done.any():
        yield f"had no end of an episode in {LONGEST:,} steps of random actions"
        return
    if left := [name for name in SUMMARY if np.shape(info.get("summary", {}).get(name)) != (LANES,)]:
        yield f"has no info['summary'] with {', '.join(left)} of each lane at the end of an episode"
    if stands:
        yield from _mode(env, AutoresetMode.DISABLED)
        yield from _restless(env, done, of_lane(observation, done))


def _restless(env: VectorEnv, done: np.ndarray, last: Any) -> Iterator[str]:
    """How lanes whose episode is over, `done` [N], do not stand still until a reset; they have shown `last`."""
    observation, rewards, *_ = env.step(env.action_space.sample())
    if first_difference(last, of_lane(observation, done)) or np.any(np.asarray(rewards)[done]):
        yield "moves lanes whose episode is over with autoreset_mode 'Disabled': they must stand still, with reward 0"
    mask = done if not done.all() else np.arange(LANES) == 0
    kept, over = of_lane(observation, ~mask), of_lane(observation, mask)
    observation, _ = env.reset(seed=2, options={"reset_mask": mask.copy()})
    if first_difference(kept, of_lane(observation, ~mask)):
        yield "begins other lanes, too, than those of reset(options={'reset_mask': bool [N]})"
    shown = [of_lane(observation, mask), *(of_lane(env.step(env.action_space.sample())[0], mask) for _ in range(3))]
    if not any(first_difference(over, each) for each in shown):
        yield "does not begin the lanes of reset(options={'reset_mask': bool [N]}) anew"


def _mode(env: VectorEnv, asked: AutoresetMode) -> Iterator[str]:
    told = env.metadata.get("autoreset_mode")
    if told is not asked:
        yield f"says metadata['autoreset_mode'] = {told!r:.60} where {asked.value!r} was asked for"


def _played(env: VectorEnv) -> tuple[np.ndarray, Any, dict[str, Any]]:
    """The first step of random actions that ends an episode: which lanes [N] it ended, what they saw, its info."""
    env.action_space.seed(0)
    for _ in range(LONGEST):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        if (done := np.asarray(terminated | truncated)).any():
            break
    return done, observation, info


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
            hint = trust.near_module(str(error.name))
            raise ConfigError(f"--env {env_id}: there is no module {error.name!r} on the path{hint} ({trust.HERE})") from error
    if name not in gym.registry:
        ours = [known for known in gym.registry if known.startswith("emp-")] or list(gym.registry)
        near = get_close_matches(name, list(gym.registry), 1)
        raise ConfigError(f"no environment is called {name!r}; did you mean {near[0] if near else nearest(name, ours)}?")
    return gym.registry[name]
