"""Checks of a scalar environment. Each yields what does not hold, and raises `Skip` where it does not apply."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from emp_gym.envs.about import about
from emp_gym.envs.conformance.subject import (
    Skip,
    Subject,
    closing,
    failure,
    feature_name,
    first_change,
    first_difference,
    flat,
    one_line,
    sampler,
    trace,
)
from emp_gym.extras import MissingPackage

LONG, SHORT = 4_000, 300  # steps of a run


def gymnasium_accepts(subject: Subject) -> Iterator[str]:
    """Gymnasium's own checker has no complaint and no warning."""
    from gymnasium.utils.env_checker import check_env

    with subject.alone() as env:
        unspecified = env.unwrapped.spec is None  # without a spec it cannot be made in other render modes
        yield from _complaints(lambda: check_env(env.unwrapped, skip_render_check=unspecified))


def sb3_accepts(subject: Subject) -> Iterator[str]:
    """Stable-Baselines3's checker has no complaint and no warning."""
    try:
        from stable_baselines3.common.env_checker import check_env
    except ImportError:
        raise Skip("stable-baselines3 is not installed") from None
    with subject.alone() as env:
        yield from _complaints(lambda: check_env(env))


def _complaints(run: Callable[[], Any]) -> list[str]:
    """Warnings and the assertion of a checker, as findings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = None
        try:
            run()
        except MissingPackage as missing:  # of ours, to draw
            raise Skip(str(missing)) from None
        except Exception as failed:  # checkers raise AssertionError, the environment whatever it likes
            error = failure(failed)
    quiet = (ResourceWarning, ImportWarning, PendingDeprecationWarning)
    seen = [f"{w.category.__name__}: {one_line(str(w.message))}" for w in caught]
    found = [text for text, w in zip(seen, caught) if not issubclass(w.category, quiet)]
    return found + ([error] if error else [])


def spaces_are_finite(subject: Subject) -> Iterator[str]:
    """Observation and action spaces have finite bounds."""
    with subject.alone() as env:
        for label, space in (("observation", env.observation_space), ("action", env.action_space)):
            for name, box in _boxes(label, space):
                if not (np.isfinite(box.low).all() and np.isfinite(box.high).all()):
                    yield f"{name}: Box without finite bounds"


def _boxes(name: str, space: gym.Space) -> Iterator[tuple[str, gym.spaces.Box]]:
    if isinstance(space, gym.spaces.Box):
        yield name, space
    elif isinstance(space, gym.spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _boxes(f"{name}.{key}", inner)
    elif isinstance(space, gym.spaces.Tuple):
        for i, inner in enumerate(space.spaces):
            yield from _boxes(f"{name}.{i}", inner)


def outputs_stay_inside(subject: Subject) -> Iterator[str]:
    """Every observation of a long random run is finite and inside its space, every reward a finite number."""
    with subject.alone() as env:
        seen = trace(env, 1, LONG)
        for step, output in enumerate(seen):
            observation = output[0]
            if not env.observation_space.contains(observation):
                yield f"step {step}: the observation is outside its space: {_outside(env, observation)}"
                return
            if any(x.dtype.kind == "f" and not np.isfinite(x).all() for _, x in flat("observation", observation)):
                yield f"step {step}: the observation is not finite"
                return
            if len(output) == 5 and not np.isfinite(float(output[1])):
                yield f"step {step}: reward {output[1]}"
                return


def _outside(env: gym.Env, observation: Any) -> str:
    """Which column of a flat observation lies outside, as far as that can be said."""
    space = env.observation_space
    if not isinstance(space, gym.spaces.Box) or not isinstance(observation, np.ndarray):
        return f"{type(observation).__name__} for {space}"
    if observation.shape != space.shape or observation.dtype != space.dtype:
        return f"{observation.dtype}{list(observation.shape)}, expected {space.dtype}{list(space.shape)}"
    i = int(np.flatnonzero(~((observation >= space.low) & (observation <= space.high)).reshape(-1))[0])
    return f"{feature_name(env, i)} = {observation.reshape(-1)[i]}"


def seeds_decide_everything(subject: Subject) -> Iterator[str]:
    """The same seed gives the same bytes in two environments and again in one; another seed gives others."""
    with subject.alone() as env, subject.alone() as other:
        first = trace(env, 3, SHORT)
        for label, twin in (("a second environment", other), ("the same one again", env)):
            difference = first_change(first, trace(twin, 3, SHORT))
            if difference:
                yield f"seed 3, {label}: {difference}"
        actions = sampler(env.action_space, 3)
        fixed = [actions.sample() for _ in range(8)]
        if len({_start(env, fixed, seed) for seed in range(6)}) == 1:
            yield "seeds 0 to 5 all give the same observations: is the seed used?"


def _start(env: gym.Env, actions: list, seed: int | None) -> bytes:
    """Bytes of the first observations after a reset."""
    seen = [env.reset(seed=seed)[0]]
    for action in actions:
        observation, _, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        if terminated or truncated:
            break
    return b"".join(x.tobytes() for _, x in flat("", seen))


def starts_are_random(subject: Subject) -> Iterator[str]:
    """Resets without a seed go on to other starts, and most seeds start elsewhere."""
    with subject.alone() as env:
        enough = min(8, about(env).first_observations)
        if enough == 1:
            raise Skip("every episode begins alike, as the environment declares (starts = 1)")
        by_seed = {_start(env, [], seed) for seed in range(16)}
        env.reset(seed=0)
        unseeded = {_start(env, [], None) for _ in range(16)}
    if len(by_seed) < enough:
        yield f"16 seeds gave {len(by_seed)} different first observations"
    if len(unseeded) < enough:
        yield f"16 resets without a seed gave {len(unseeded)} different first observations"


def features_vary(subject: Subject) -> Iterator[str]:
    """No column of a flat observation is constant over a long random run, but those that the environment declares."""
    with subject.alone() as env:
        if not isinstance(env.observation_space, gym.spaces.Box):
            raise Skip("observations are not one flat Box")
        rows = np.stack([output[0].reshape(-1) for output in trace(env, 5, LONG)])
        allowed = set(about(env).constant_features)
        names = [feature_name(env, int(i)) for i in np.flatnonzero((rows == rows[0]).all(axis=0))]
    constant = [name for name in names if name not in allowed]
    if constant:
        yield f"constant over {len(rows)} observations: {', '.join(constant)}"


def rewards_vary(subject: Subject) -> Iterator[str]:
    """Rewards of a long random run take many values."""
    with subject.alone() as env:
        rewards = {float(output[1]) for output in trace(env, 5, LONG) if len(output) == 5}
    if len(rewards) < 2:
        yield f"every reward of {LONG} random steps is {next(iter(rewards))}"


def returned_arrays_are_not_shared(subject: Subject) -> Iterator[str]:
    """No two returned arrays share memory, none changes later, and writing into one changes nothing."""
    with subject.alone() as env:
        yield from _sharing("scalar", env, env.action_space)
    if subject.vector is not None:
        with closing(subject.together(5, **subject.short)) as lanes:
            yield from _sharing("vector", lanes, lanes.action_space)


def _sharing(face: str, env: Any, space: gym.Space, steps: int = 60) -> Iterator[str]:
    actions = sampler(space, 2)
    held: list[tuple[int, str, np.ndarray, bytes]] = []
    output: tuple[Any, ...] = env.reset(seed=2)
    for step in range(steps):
        new = list(flat("output", output))
        for name, x in new:
            for at, other, y, _ in held[-200:]:
                if x is y or (np.may_share_memory(x, y) and np.shares_memory(x, y)):
                    yield f"{face}: {name} of step {step} shares memory with {other} of step {at}"
                    return
            held.append((step, name, x, x.tobytes()))
        output = env.step(actions.sample())
        if isinstance(env, gym.Env) and (output[2] or output[3]):
            output = env.reset()
    for at, name, x, before in held:
        if x.dtype != object and x.tobytes() != before:
            yield f"{face}: {name} of step {at} was changed by a later step"
            return


def scribbling_changes_nothing(subject: Subject) -> Iterator[str]:
    """A user who writes into returned arrays does not change what comes next."""
    with subject.alone() as env, subject.alone() as other:
        actions = sampler(env.action_space, 4)
        clean: tuple[Any, ...] = env.reset(seed=4)
        spoiled: tuple[Any, ...] = other.reset(seed=4)
        for step in range(40):
            difference = first_difference(clean, spoiled, "output")
            if difference:
                yield f"step {step}, after writing into the arrays of the step before: {difference}"
                return
            for _, x in flat("", spoiled):
                if x.flags.writeable and x.dtype.kind in "fiub":
                    x[...] = 1
            action = actions.sample()
            clean, spoiled = env.step(action), other.step(action)
            if clean[2] or clean[3]:
                return


def copies_continue_alike(subject: Subject) -> Iterator[str]:
    """A deep copy and a pickle, taken in mid-episode, go on as the original does, alone and as lanes."""
    yield from _copying("scalar", subject.alone())
    if subject.vector is not None:
        yield from _copying("vector", subject.together(3, **subject.short))


def _copying(face: str, env: Any) -> Iterator[str]:
    """Copies an environment after ten steps; original and copies then get the same actions."""
    actions = sampler(env.action_space, 6)
    env.reset(seed=6)
    for _ in range(10):
        _advance(env, actions.sample())
    copies = {}
    for how, make in (("copy.deepcopy", copy.deepcopy), ("pickle", lambda env: pickle.loads(pickle.dumps(env)))):
        try:
            copies[how] = make(env)
        except Exception as error:  # copying asks every object inside, and each may refuse in its own way
            yield f"{face}: {how}: {failure(error)}"
    for step in range(60):
        action = actions.sample()
        wanted = _advance(env, action)
        for how in list(copies):
            difference = first_difference(wanted, _advance(copies[how], action), "output")
            if difference:
                yield f"{face}: {how}: step {step} after the copy: {difference}"
                del copies[how]
    env.close()


def _advance(env: Any, action: Any) -> list[Any]:
    """The outputs of a step, and of the reset that follows the end of a scalar episode."""
    output = [*env.step(action)]
    if isinstance(env, gym.Env) and (output[2] or output[3]):
        output += env.reset()
    return output


def masks_hold(subject: Subject) -> Iterator[str]:
    """An action mask allows something at every step, and a masked action does what "keep" does and is counted."""
    with subject.alone(**subject.short) as env:
        _, info = env.reset(seed=12)
        if "action_mask" not in info:
            raise Skip("no action_mask in the info")
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise Skip("masks of actions that are not Discrete")
        known = about(env)
        keep = next((n for n, action in enumerate(known.actions) if action.keeps), known.menu.index("keep") if "keep" in known.menu else 0)
        actions, tried = sampler(env.action_space, 12), 0
        for step in range(LONG):
            mask = np.asarray(info["action_mask"], bool)
            if mask.shape != (env.action_space.n,) or not mask.any():
                yield f"step {step}: mask {mask.astype(int).tolist()} for {env.action_space.n} actions"
                return
            masked = np.flatnonzero(~mask)
            if len(masked) and tried < 20:
                tried += 1
                yield from _masked_is_keep(env, int(masked[tried % len(masked)]), keep, step)
            _, _, terminated, truncated, info = env.step(actions.sample())
            if terminated or truncated:
                _, info = env.reset()
        if not tried:
            raise Skip(f"masks allow something, but nothing was masked in {LONG} random steps")


def _masked_is_keep(env: gym.Env, action: int, keep: int, step: int) -> Iterator[str]:
    """Forks the episode: one copy sends a masked action, the other keeps; both then keep to the end."""
    masked, kept = copy.deepcopy(env), copy.deepcopy(env)
    x, y = _advance(masked, action), _advance(kept, keep)
    difference = first_difference(x[:4], y[:4], "output")
    if difference:
        yield f"step {step}: masked action {action} is not keep: {difference}"
        return
    for _ in range(LONG):
        if x[2] or x[3]:
            break
        x, y = _advance(masked, keep), _advance(kept, keep)
    counts = [output[4].get("summary", {}).get("masked") for output in (x, y)]
    if None not in counts and counts[0] != counts[1] + 1:
        yield f"step {step}: one masked action was counted as {counts[0] - counts[1]:g}"
