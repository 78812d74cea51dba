"""Checks of a native vector environment against its scalar twin, and of what happens under threads and forks."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from emp_gym.envs.conformance.subject import (
    Skip,
    Subject,
    closing,
    failure,
    first_change,
    first_difference,
    of_lane,
    sampler,
    trace,
)

MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)
MANY = 320  # lanes: enough for a native environment to use its threads
SHORT, LIMIT, PATIENCE_S = 300, 4_000, 60.0


def lanes_equal_their_twins(subject: Subject) -> Iterator[str]:
    """Every lane is its scalar twin bit for bit, through episode ends, in every autoreset mode and number of lanes."""
    for mode, argument in _modes(subject):
        for count in (1, 3):
            difference = _walk_beside_twins(subject, mode, argument, [20 + lane for lane in range(count)])
            if difference:
                yield f"{mode.value}, {count} lanes: {difference}"


def _modes(subject: Subject) -> list[tuple[AutoresetMode, dict[str, str]]]:
    """Every autoreset mode with the argument that asks for it, or the environment's only one."""
    with closing(subject.together(1)) as lanes:
        own = lanes.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    try:
        subject.together(1, autoreset_mode=own.value).close()
    except TypeError:  # no such argument
        return [(own, {})]
    return [(mode, {"autoreset_mode": mode.value}) for mode in MODES]


def _walk_beside_twins(
    subject: Subject, mode: AutoresetMode, argument: dict[str, str], seeds: list[int], ends: int = 3
) -> str | None:
    """Steps lanes and scalar twins until every lane has ended `ends` episodes; the first difference."""
    with closing(subject.together(len(seeds), **argument, **subject.short)) as lanes:
        twins = [subject.alone(**subject.short) for _ in seeds]
        observations, infos = lanes.reset(seed=seeds)  # type: ignore[arg-type]  # a list: one seed a lane
        expected = [twin.reset(seed=seed) for twin, seed in zip(twins, seeds)]
        difference = _compare(expected, observations, infos, "reset")
        actions = sampler(lanes.action_space, 20)
        over, ended = np.zeros(len(seeds), bool), np.zeros(len(seeds), int)
        for step in range(LIMIT):
            if difference or ended.min() >= ends:
                return difference
            if mode is AutoresetMode.DISABLED and over.any():
                observations, infos = lanes.reset(options={"reset_mask": over.copy()})
                for i in np.flatnonzero(over).tolist():
                    difference = difference or _compare_lane(twins[i].reset(), observations, infos, i)
                over[:] = False
            action = actions.sample()
            output = lanes.step(action)
            for lane, twin in enumerate(twins):
                if mode is AutoresetMode.NEXT_STEP and over[lane]:  # this step was the lane's reset
                    wanted, over[lane] = _as_step(twin.reset()), False
                else:
                    wanted = tuple(twin.step(action[lane]))
                    over[lane] = wanted[2] or wanted[3]
                    ended[lane] += int(over[lane])
                difference = difference or _compare_step(mode, wanted, twin, output, lane, bool(over[lane]))
            difference = difference and f"step {step}: {difference}"
            if mode is AutoresetMode.SAME_STEP:
                over[:] = False
        return f"only {ended.min()} episodes ended in {LIMIT} steps"


def _as_step(reset: tuple[Any, dict[str, Any]]) -> tuple[Any, ...]:
    """A reset as the step of a lane that resets itself: no reward, no end."""
    return reset[0], 0.0, False, False, reset[1]


def _compare(expected: list[tuple], observations: Any, infos: Any, when: str) -> str | None:
    found = (_compare_lane(output, observations, infos, lane) for lane, output in enumerate(expected))
    difference = next(filter(None, found), None)
    return difference and f"{when}: {difference}"


def _compare_lane(wanted: tuple[Any, Any], observations: Any, infos: Any, lane: int) -> str | None:
    """Difference between a scalar's (observation, info) and one lane's."""
    difference = first_difference(wanted[0], of_lane(observations, lane)) or _compare_info(wanted[1], infos, lane)
    return difference and f"lane {lane}: {difference}"


def _compare_step(
    mode: AutoresetMode, wanted: tuple, twin: gym.Env, output: tuple, lane: int, ended: bool
) -> str | None:
    """Difference between a scalar's step and one lane's; in SAME_STEP mode an ended twin is reset here."""
    observations, rewards, terminated, truncated, infos = output
    for name, x, y in zip(("reward", "terminated", "truncated"), wanted[1:4], (rewards, terminated, truncated)):
        if x != y[lane]:
            return f"lane {lane}: {name}: {x!r} alone and {y[lane]!r} as a lane"
    if mode is AutoresetMode.SAME_STEP and ended:
        final = infos.get("final_obs")
        if final is None or not infos.get("_final_obs", np.zeros(lane + 1, bool))[lane]:
            return f"lane {lane}: the episode ended, but infos have no final_obs for it"
        difference = first_difference(wanted[0], of_lane(final, lane), "final_obs")
        difference = difference or _compare_info(wanted[4], infos.get("final_info", {}), lane)
        if difference:
            return f"lane {lane}: {difference}"
        wanted = _as_step(twin.reset())
    return _compare_lane((wanted[0], wanted[4]), observations, infos, lane)


def _compare_info(alone: Mapping[str, Any], infos: Mapping[str, Any], lane: int) -> str | None:
    """Difference between a scalar's info and one lane's part of the batched infos, key by key, masks obeyed."""
    for key, value in alone.items():
        present = infos.get(f"_{key}")
        if key not in infos or (present is not None and not present[lane]):
            return f"info[{key!r}] is missing in the lane"
        if isinstance(value, Mapping):
            difference = _compare_info(value, infos[key], lane)
        else:
            x, y = np.asarray(value), np.asarray(infos[key][lane])
            same = x.shape == y.shape and (x.dtype == object or np.array_equal(x, y, equal_nan=x.dtype.kind == "f"))
            difference = None if same else f"{x.tolist()!r:.60} alone and {y.tolist()!r:.60} as a lane"
        if difference:
            return f"info[{key!r}]: {difference}"
    return None


def lanes_do_not_know_each_other(subject: Subject) -> Iterator[str]:
    """Lane i is the same whatever the number of lanes, and lane 0 of a whole-number seed is the scalar environment."""
    runs = {count: _run_lanes(subject, count, seed=21, lanes=3) for count in (3, 7, MANY)}
    for count in (7, MANY):
        difference = first_change(runs[3], runs[count])
        if difference:
            yield f"the first 3 of {count} lanes are not those of 3 lanes: {difference}"
    with subject.alone(**subject.short) as env:
        observation, _ = env.reset(seed=21)
        difference = first_difference(observation, of_lane(runs[3][0][0], 0))
        if difference:
            yield f"seed 21: the scalar environment is not lane 0: {difference}"


def threads_change_nothing(subject: Subject) -> Iterator[str]:
    """Any number of threads gives the same bytes."""
    if len(subject.threads) < 2:
        raise Skip("the environment has no argument `threads` that we know of")
    first, *others = [_run_lanes(subject, MANY, seed=22, lanes=MANY, threads=n) for n in subject.threads]
    for count, run in zip(subject.threads[1:], others):
        difference = first_change(first, run)
        if difference:
            yield f"{subject.threads[0]} and {count} threads: {difference}"


def _run_lanes(subject: Subject, count: int, *, seed: int, lanes: int, **more: Any) -> list[tuple]:
    """What the first `lanes` of `count` lanes give through an episode end, every lane with its own actions."""
    with closing(subject.together(count, **subject.short, **more)) as env:
        actions = [sampler(env.single_action_space, 100 + lane) for lane in range(count)]
        seen: list[tuple] = [(of_lane(env.reset(seed=seed)[0], slice(lanes)),)]
        for _ in range(60):
            action = np.stack([space.sample() for space in actions])
            seen.append(tuple(of_lane(x, slice(lanes)) for x in env.step(action)[:4]))
    return seen


def forked_workers_survive(subject: Subject) -> Iterator[str]:
    """Forked AsyncVectorEnv workers give what scalar ones give, after a threaded one ran here."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Skip("this platform does not fork")
    if subject.vector is not None and subject.threads:
        with closing(subject.together(MANY, threads=max(subject.threads))) as busy:
            busy.reset(seed=0)
            for _ in range(3):
                busy.step(busy.action_space.sample())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads: our very question
        workers = gym.vector.AsyncVectorEnv([subject.alone] * 2, shared_memory=False, context="fork")
    try:
        workers.reset_async(seed=[8, 9])
        got = [workers.reset_wait(timeout=PATIENCE_S)[0]]
        actions = sampler(workers.action_space, 8)
        sent = [actions.sample() for _ in range(10)]
        for action in sent:
            workers.step_async(action)
            got.append(workers.step_wait(timeout=PATIENCE_S)[0])
        workers.close()
    except (multiprocessing.TimeoutError, EOFError, OSError) as error:
        yield f"a forked worker died, or did not answer in {PATIENCE_S:.0f} s: {failure(error)}"
        for process in workers.processes:
            process.kill()
        workers.closed = True  # nothing is left to be asked politely
        return
    for lane, seed in enumerate((8, 9)):
        with subject.alone() as env:
            want = [env.reset(seed=seed)[0]]
            for action in sent:
                observation, _, terminated, truncated, _ = env.step(action[lane])
                if terminated or truncated:
                    break
                want.append(observation)
        for step, observation in enumerate(want):
            difference = first_difference(observation, of_lane(got[step], lane))
            if difference:
                yield f"worker {lane}, step {step}: {difference}"
                return


def python_threads_do_not_meet(subject: Subject) -> Iterator[str]:
    """Two Python threads, each with its own environment, get what each gets alone."""
    alone = [trace(subject.alone(), seed, SHORT) for seed in (10, 11)]
    together: dict[int, Any] = {}

    def work(i: int, seed: int) -> None:
        try:
            together[i] = trace(subject.alone(), seed, SHORT)
        except Exception as error:  # an exception XX
            together[i] = error

    threads = [threading.Thread(target=work, args=(i, seed), daemon=True) for i, seed in enumerate((10, 11))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    for i, want in enumerate(alone):
        got = together.get(i, TimeoutError(f"no answer in {PATIENCE_S:.0f} s"))
        difference = failure(got) if isinstance(got, Exception) else first_change(want, got)
        if difference:
            yield f"thread {i}: {difference}"
