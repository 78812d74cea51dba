"""Checks of what somebody has put into an environment of ours: it writes into nothing but its own, and a file of lanes brings it back."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import trust
from emp_gym.envs import snapshot
from emp_gym.envs.about import MARKET, about
from emp_gym.envs.conformance.subject import Skip, Subject, closing, first_difference, sampler
from emp_gym.envs.tasks import Reward, Task
from emp_gym.envs.trading_core import Lanes
from emp_gym.plugins import Plugin
from emp_gym.sensory.sets import FeatureSet
from emp_gym.types import ConfigError, Orders

LANES, STEPS, EVERY = 3, 60, 4
Hook = Callable[[], Any]


def plugins_write_nothing_else(subject: Subject) -> Iterator[str]:
    """Task, reward and feature sets of somebody else write into no array of the environment."""
    with closing(_together(subject)) as env:
        face: Any = env.unwrapped
        if not _theirs(face.lanes):
            raise Skip("task, reward and feature sets are ours")
        actions = sampler(env.action_space, 14)
        env.reset(seed=14)
        for step in range(STEPS):
            if step % EVERY == 0:
                found = list(_written(copy.deepcopy(face.lanes)))
                if found:
                    yield from (f"{what} (step {step})" for what in found)
                    return
            env.step(actions.sample())


def _together(subject: Subject) -> Any:
    """Lanes of an environment of ours that stands on a market, or `Skip`."""
    env = subject.together(LANES, **subject.short)
    if about(env).kind != MARKET:
        env.close()
        raise Skip("it has no market of the kind that plug-ins are put on")
    return env


def _theirs(lanes: Lanes) -> list[Plugin]:
    return [one for one in lanes.plugins().values() if not trust.is_ours(type(one).__module__)]


def _written(lanes: Lanes) -> Iterator[str]:
    """What each method of a plug-in of `lanes`, a copy that nobody uses any more, changes of what it is shown."""
    for plugin in _theirs(lanes):
        shown = {name: array for name, array in plugin.world.arrays().items() if name != 'episodes["masked"]'}  # which a task counts
        for name, ask in _hooks(plugin, lanes):
            before = {key: array.tobytes() for key, array in shown.items()}
            ask()
            changed = [f"world.{key}" for key, array in shown.items() if array.tobytes() != before[key]]
            if changed:
                kind = type(plugin)
                yield f"{kind.__module__}:{kind.__qualname__}.{name} writes into {', '.join(changed[:4])}, which is not its own"


def _hooks(plugin: Plugin, lanes: Lanes) -> Iterator[tuple[str, Hook]]:
    everyone, moved = np.arange(lanes.lanes), lanes.market.active.copy()
    late = np.zeros(lanes.lanes, np.bool_)
    if isinstance(plugin, FeatureSet):
        out = np.zeros((lanes.lanes, len(plugin.columns)), np.float32)
        yield "step", lambda: plugin.step(moved)
        yield "write", lambda: plugin.write(everyone, out)
    elif isinstance(plugin, Reward):
        yield "__call__", lambda: plugin(moved)
    elif isinstance(plugin, Task):
        for action in _actions(plugin, lanes.lanes):
            yield "orders", partial(plugin.request, action, lanes.mask.copy(), Orders.empty(lanes.lanes, lanes.market.requests))
        if plugin.own_features:
            own = np.zeros((lanes.lanes, len(plugin.own_features)), np.float32)
            yield "observe", lambda: plugin.observe(everyone, own)
        yield "mask", lambda: plugin.mask(lanes.mask.copy())
        yield "ends", lambda: plugin.ends(late)
        yield "target", lambda: plugin.target(everyone, late)
        yield "summary", lambda: plugin.summary(everyone)
    yield "begin", lambda: plugin.begin(everyone)
    yield "bind", lambda: plugin.bind(plugin.world)


def _actions(task: Task, lanes: int) -> list[np.ndarray]:
    if task.levers:
        return [np.full((lanes, len(task.levers)), value, np.float32) for value in (-1.0, 0.5, 1.0)]
    return [np.full(lanes, action) for action in range(len(task.actions))]


def snapshots_continue_alike(subject: Subject) -> Iterator[str]:
    """Lanes that go on from a file, taken in mid-episode, go on as the originals do."""
    with closing(_together(subject)) as env, closing(_together(subject)) as other, tempfile.TemporaryDirectory() as folder:
        actions = sampler(env.action_space, 15)
        env.reset(seed=15)
        other.reset(seed=16)
        other.step(actions.sample())
        for _ in range(10):
            env.step(actions.sample())
        path = Path(folder) / "lanes.npz"
        try:
            snapshot.save(env, path)
        except ConfigError as refusal:
            why = str(refusal).removeprefix(f"{path}: ")
            raise Skip(f"it cannot be kept in a file, and a run that goes on begins new episodes: {why}") from None
        other.reset(options={"state": str(path)})
        for step in range(STEPS):
            action = actions.sample()
            difference = first_difference(env.step(action), other.step(action), "output")
            if difference:
                yield f"step {step} after the file: {difference}"
                return
