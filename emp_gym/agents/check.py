"""Conformance of agents: what one must show before its results mean anything.

``conformance("ppo")``, ``conformance("module:Class")`` or ``conformance(MyAgent)`` gives the list of what does not
hold. Each check is a generator of sentences; its name says what it shows. Agents act on recorded observations, so no
check depends on how well one trades. What an agent may declare: ``stochastic = True`` (its actions differ from episode
to episode by design: equality of lanes is then not asked for), ``bind(env)`` (an oracle: it looks at the environment,
not at observations) and ``learns_first = True`` (it cannot act before `learn`, and is given a little of it; it must have
`arrays` and `restore`).
"""

from __future__ import annotations

import copy
import inspect
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from emp_gym.agents import registry
from emp_gym.agents.base import Bound, Kept, Learner, traits
from emp_gym.envs.conformance.subject import failure, place
from emp_gym.envs.conformance.suite import Finding
from emp_gym.types import ConfigError, EmpGymError

LANES, STEPS, LEARN_STEPS = 6, 24, 4_000


@dataclass
class Candidate:
    """An agent class, an environment that it accepts, and observations recorded there with random actions."""

    build: Callable[[int], Any]
    env: Any
    observations: np.ndarray  # [STEPS, LANES, D]
    masks: np.ndarray | None  # [STEPS, LANES, A]
    make_env: Callable[..., Any]

    @property
    def space(self) -> spaces.Space:
        return self.env.single_action_space

    @cached_property
    def learned(self) -> dict[str, Any] | None:
        """What an agent that `learns_first` has learned of a few training steps; None for one that acts at once."""
        agent = self.build(3)
        if not traits(agent).learns_first:
            return None
        agent.learn(self.make_env, LEARN_STEPS)
        return agent.arrays()

    def fresh(self, seed: int = 3) -> Any:
        agent = self.build(seed)
        if self.learned is not None:
            agent.restore(self.learned)
        if isinstance(agent, Bound):
            agent.bind(self.env)
        return agent

    def play(
        self, agent: Any, lanes: Any = slice(None), observations: np.ndarray | None = None, state: Any = None
    ) -> np.ndarray:
        """Actions [STEPS, N, ...] on the recorded observations of `lanes`, from a fresh state unless one is given."""
        seen = (self.observations if observations is None else observations)[:, lanes]
        masks = None if self.masks is None else self.masks[:, lanes]
        state = agent.initial_state(seen.shape[1]) if state is None else state
        actions = []
        for step, observation in enumerate(seen):
            action, state = _acted(agent, observation.copy(), state, None if masks is None else masks[step].copy())
            actions.append(np.array(action))
        return np.stack(actions)


def _acted(agent: Any, *seen: Any) -> tuple[Any, Any]:
    """What `act` gives, if it is a pair."""
    answer = agent.act(*seen)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"act() must return (actions, state), got {type(answer).__name__}")
    return answer


METHODS = {
    "initial_state": ("lanes",), "act": ("observation", "state", "mask"), "reset_state": ("state", "done"),
    "learn": ("make_env", "total_timesteps", "callback"), "save": ("folder",), "load": ("folder",),
    "arrays": (), "restore": ("arrays",),
}  # fmt: skip
"""What an agent may have, with what it is called with, by place; the first three it must have."""


def methods_are_there(c: Candidate) -> Iterator[str]:
    """Every method that is called is there and takes what it is called with."""
    agent = c.build(3)
    needed = dict.fromkeys(list(METHODS)[:3], "every agent has one")
    if isinstance(agent, Learner | Kept):
        needed |= dict.fromkeys(("save", "load"), "what was learned could not be kept")
    if traits(agent).learns_first:
        needed |= dict.fromkeys(("learn", "arrays", "restore"), "it says that it learns first")
    for name, arguments in METHODS.items():
        method, told = getattr(agent, name, None), f"{name}({', '.join(arguments)})"
        if not callable(method):
            if name in needed:
                yield f"there is no {told}: {needed[name]}; a class derived from emp_gym.agents.base.BaseAgent has it"
        elif not _takes(method, len(arguments)):
            yield f"it is called as {told}, and does not take that: it is {name}{inspect.signature(method)}"


def _takes(method: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(method).bind(*range(count))
    except ValueError:  # written in C: nobody knows
        return True
    except TypeError:
        return False
    return True


def actions_fit_the_space(c: Candidate) -> Iterator[str]:
    """Shape [N, ...], a dtype of the right kind, every action inside the space."""
    actions = c.play(c.fresh())
    expected = (STEPS, LANES, *(c.space.shape or ()))
    if actions.shape != expected:
        yield f"actions must have shape {expected[1:]} for {LANES} lanes, got {actions.shape[1:]}"
        return
    kind = "iu" if isinstance(c.space, spaces.Discrete) else "f"
    if actions.dtype.kind not in kind:
        yield f"actions must be {'integers' if kind == 'iu' else 'floating numbers'}, got {actions.dtype}"
        return
    dtype = c.space.dtype or actions.dtype
    outside = [a for a in actions.reshape(-1, *(c.space.shape or ())) if not c.space.contains(np.asarray(a, dtype))]
    if outside:
        yield f"{len(outside)} of {STEPS * LANES} actions are outside of {c.space}, e.g. {outside[0]}"


def masks_are_respected(c: Candidate) -> Iterator[str]:
    """No masked action, for masks drawn at random in which action 0 is always allowed."""
    if c.masks is None:
        return
    masks = np.random.default_rng(5).random(c.masks.shape) < 0.5
    masks[..., 0] = True
    drawn = Candidate(c.build, c.env, c.observations, masks, c.make_env)
    actions = drawn.play(c.fresh())
    allowed = np.take_along_axis(masks, actions[..., None].astype(np.int64), axis=2)
    if not allowed.all():
        yield f"{int((~allowed).sum())} of {allowed.size} actions were masked (mask is bool [N, A], True = allowed)"


def the_seed_decides(c: Candidate) -> Iterator[str]:
    """Two agents of one seed act alike, and global generators are left alone."""
    before = (random.getstate(), copy.deepcopy(np.random.get_state()))
    first, second = c.play(c.fresh()), c.play(c.fresh())
    if not np.array_equal(first, second):
        yield "two agents built with the same seed act differently on the same observations"
    after = (random.getstate(), np.random.get_state())
    same = before[0] == after[0] and all(np.array_equal(a, b) for a, b in zip(before[1], after[1]))
    if not same:
        yield "acting draws from Python's or numpy's global generator; draw from one made from `seed`"


def lanes_do_not_know_each_other(c: Candidate) -> Iterator[str]:
    """Lane 0 acts the same whatever the other lanes see."""
    other = c.observations.copy()
    other[:, 1:] = np.roll(other[:, 1:], 7, axis=0)
    if not _same(c.play(c.fresh())[:, 0], c.play(c.fresh(), observations=other)[:, 0]):
        yield "lane 0 acts differently when only the observations of other lanes change"


def lanes_may_change_places(c: Candidate) -> Iterator[str]:
    """Permuted observations give permuted actions; a batch of one is a lane of many."""
    agent = c.fresh()
    if _declared(agent):
        return
    order = np.random.default_rng(1).permutation(LANES)
    whole = c.play(c.fresh())
    if not _same(c.play(c.fresh(), order), whole[:, order]):
        yield "permuting the lanes does not permute the actions"
    if not _same(c.play(c.fresh(), [2])[:, 0], whole[:, 2]):
        yield "a batch of one lane acts differently from the same lane in a batch of many"


def first_lane_stands_alone(c: Candidate) -> Iterator[str]:
    """Stochastic agents too: lane 0 of one is lane 0 of many."""
    agent = c.fresh()
    if isinstance(agent, Bound):
        return
    if not _same(c.play(c.fresh(), [0])[:, 0], c.play(c.fresh())[:, 0]):
        yield "lane 0 alone acts differently from lane 0 among others: draw each lane's randomness from (seed, lane)"


def done_lanes_forget(c: Candidate) -> Iterator[str]:
    """A lane that was reset acts as a fresh one; the others go on as if nothing had happened."""
    agent = c.fresh()
    state = agent.initial_state(LANES)
    for step in range(11):
        _, state = _acted(agent, c.observations[step].copy(), state, None if c.masks is None else c.masks[step].copy())
    done = np.arange(LANES) % 2 == 1
    went_on, restarted = c.play(agent, state=state), c.play(agent, state=agent.reset_state(state, done.copy()))
    if not _same(went_on[:, ~done], restarted[:, ~done]):
        yield "reset_state changes lanes that are not done"
    if not _declared(agent) and not _same(c.play(c.fresh())[:, done], restarted[:, done]):
        yield "after reset_state a done lane does not act like a fresh one"


def inputs_are_left_alone(c: Candidate) -> Iterator[str]:
    """act() does not write to observation, mask or state."""
    agent = c.fresh()
    state = agent.initial_state(LANES)
    observation = c.observations[0].copy()
    mask = None if c.masks is None else c.masks[0].copy()
    first, _ = _acted(agent, observation, state, mask)
    if not np.array_equal(observation, c.observations[0]):
        yield "act() wrote to the observation; copy before changing it"
    if mask is not None and c.masks is not None and not np.array_equal(mask, c.masks[0]):
        yield "act() wrote to the mask; copy before changing it"
    again, _ = _acted(agent, observation, state, mask)
    if not traits(agent).stochastic and not _same(np.array(first), np.array(again)):
        yield "act() twice from the same state and observation differs: it writes to its state, or has memory in itself"


def files_bring_it_back(c: Candidate) -> Iterator[str]:
    """save() then load() into a new agent gives the same actions, without pickles."""
    agent = c.fresh()
    if isinstance(agent, Kept):
        yield from _round_trip(c, agent)


def learning_runs(c: Candidate) -> Iterator[str]:
    """learn() comes back, and what was learned survives save and load."""
    agent = c.fresh()
    if not isinstance(agent, Learner):
        return
    heard: list[int] = []

    def callback(steps: int, scalars: Mapping[str, float]) -> bool:
        heard.append(steps)
        return steps < LEARN_STEPS

    agent.learn(c.make_env, LEARN_STEPS, callback)
    if not heard:
        yield "learn() never called callback(steps, scalars): curves, progress and checkpoints depend on it"
    elif heard != sorted(heard):
        yield f"learn() reports steps that go back: {heard[:6]}"
    if isinstance(agent, Kept):
        yield from _round_trip(c, agent)


def _round_trip(c: Candidate, agent: Any) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "agent"
        agent.save(folder)
        pickles = [p.name for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".pth", ".zip", ".npz")]
        if pickles:
            yield f"save() leaves {', '.join(pickles)}: use safetensors and JSON, which can be opened without being run"
        other = c.fresh(seed=4)
        other.load(folder)
        if traits(agent).stochastic:
            return
        if not _same(c.play(agent), c.play(other)):
            yield "an agent that loads what another saved acts differently"


def _declared(agent: Any) -> bool:
    return traits(agent).stochastic or isinstance(agent, Bound)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal menus; equal numbers up to what another batch size changes in the last bits of a matrix product."""
    if a.dtype.kind in "iu":
        return np.array_equal(a, b)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5)


CHECKS: tuple[Callable[[Candidate], Iterator[str]], ...] = (
    methods_are_there,
    actions_fit_the_space,
    masks_are_respected,
    the_seed_decides,
    lanes_do_not_know_each_other,
    lanes_may_change_places,
    first_lane_stands_alone,
    done_lanes_forget,
    inputs_are_left_alone,
    files_bring_it_back,
    learning_runs,
)


def conformance(
    agent: str | type, env_id: str | None = None, env_kwargs: Mapping[str, Any] | None = None, **config: Any
) -> list[Finding]:
    """What does not hold of `agent` (a name, ``module:Class`` or a class); empty when it conforms.

    Without `env_id` a baseline is checked on every environment that it is a baseline of, any other agent on the first
    environment of this package that accepts it. Raises `ConfigError` where none does.
    """
    cls = registry.find(agent) if isinstance(agent, str) else agent
    homes = [[home] for home in registry.HOMES if agent in registry.baselines(home)]
    choices = [[env_id]] if env_id else homes or [list(registry.HOMES)]
    return [finding for ids in choices for finding in _findings(cls, ids, dict(env_kwargs or {}), config)]


def _findings(cls: type, ids: list[str], env_kwargs: dict[str, Any], config: dict[str, Any]) -> Iterator[Finding]:
    try:
        candidate = _candidate(cls, ids, env_kwargs, config)
    except NotBuilt as error:
        yield Finding("it_is_built", str(error))
        return
    try:
        raised: set[str] = set()
        for check in CHECKS:
            try:
                found = [Finding(check.__name__, what) for what in check(candidate)]
            except Exception as error:  # foreign code: whatever it raises is what we came to report
                told = f"{failure(error)} ({place(error)})"
                found = [] if told in raised else [Finding(check.__name__, told)]
                raised.add(told)
            yield from found
            if found and check in BASIC:
                yield Finding(check.__name__, f"nothing else was looked at: every other check takes {BASIC[check]}")
                return
    finally:
        candidate.env.close()


BASIC = {methods_are_there: "these methods", actions_fit_the_space: "actions that the space holds"}
"""Checks without which the others say nothing."""


class NotBuilt(EmpGymError):
    """The class cannot be called as agents are."""


def _candidate(cls: type, ids: list[str], env_kwargs: dict[str, Any], config: dict[str, Any]) -> Candidate:
    refusals = []
    for env_id in ids:

        def make_env(num_envs: int | None = None, env_id: str = env_id, **keywords: Any) -> Any:
            more = {"autoreset_mode": "SameStep", "split": "train", **env_kwargs, **keywords}
            return gym.make_vec(env_id, num_envs=num_envs or LANES, **more)

        env = make_env(LANES)

        def build(seed: int, env: Any = env) -> Any:
            return cls(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **config)

        try:
            build(0)
        except ConfigError as error:
            env.close()
            refusals.append(f"{env_id}: {error}")
            continue
        except Exception as error:  # foreign code
            env.close()
            raise NotBuilt(
                f"{cls.__name__}(observation_space, action_space, spec, seed=0) raised {failure(error)} ({place(error)})"
            ) from error
        return Candidate(build, env, *_record(env), make_env)
    raise ConfigError(f"{cls.__name__} accepts none of the environments: {'; '.join(refusals)}")


def _record(env: Any) -> tuple[np.ndarray, np.ndarray | None]:
    env.action_space.seed(2)
    observation, info = env.reset(seed=2)
    observations, masks = [], []
    for _ in range(STEPS):
        observations.append(np.array(observation))
        masks.append(info.get("action_mask"))
        observation, _, _, _, info = env.step(env.action_space.sample())
    return np.stack(observations), None if masks[0] is None else np.stack(masks)
