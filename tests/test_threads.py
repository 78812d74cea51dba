"""Threads of our own: every lane once, whatever their number; errors, forks, exits and other callers do no harm."""

from __future__ import annotations

import ast
import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium as gym
import numba
import numpy as np
import pytest

import emp_gym
from emp_gym import threads
from emp_gym.envs import ENVIRONMENTS
from emp_gym.jit import njit, rare
from emp_gym.threads import fan_out, region, run

ROOT = Path(emp_gym.__file__).parent
COUNTS = (1, 2, 3, 8)
compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="kernels that are not compiled are never shared")
forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
LAST_LOOK = 1 << 34  # minutes: a helper that has not come by then never will

if not numba.config.DISABLE_JIT:
    from emp_gym.atomics import load, pause, store


@region
def double(low, high, place, x, y, by):
    for i in range(low, high):
        if x[i] < 0:
            raise ValueError("a lane below zero")
        y[i] += 2 * x[i]
        by[i] = place


@rare
def meet(call, words, lanes, met, fails):
    """The caller waits until the others have come; nobody has to let go of the GIL for that."""
    place = fan_out(call, words)
    if place > 0:
        store(met, place, 1)
        if fails:
            raise ValueError("a helper fails")
        return
    for other in range(1, lanes):
        looks = 0
        while load(met, other) == 0 and looks < LAST_LOOK:
            looks += 1
            pause()


@pytest.fixture(params=[1, 5, 32], ids=lambda lanes: f"chunks of {lanes} lanes or more")
def any_chunk(request, monkeypatch):
    monkeypatch.setattr(threads, "FEWEST", request.param)


@pytest.mark.parametrize("lanes", [1, 2, 31, 64, 700])
def test_every_lane_is_worked_on_once_by_any_number_of_threads(lanes, any_chunk):
    x = np.arange(lanes)
    for count in COUNTS:
        for _ in range(4):
            y, by = np.zeros(lanes, np.int64), np.full(lanes, -1)
            run(count, double, lanes, x, y, by)
            assert np.array_equal(y, 2 * x)
            assert ((by >= 0) & (by < count)).all()


@compiled
@pytest.mark.parametrize("count", [2, 3, 8])
def test_helpers_come_while_the_caller_holds_the_gil(count):
    for _ in range(5):
        met = np.zeros(count, np.int64)
        run(count, meet, count, met, False)
        assert met.tolist() == [0, *[1] * (count - 1)]


@compiled
def test_what_a_helper_raises_is_raised_here_and_the_next_region_is_sound():
    for _ in range(3):
        with pytest.raises(ValueError, match="a helper fails"):
            run(2, meet, 2, np.zeros(2, np.int64), True)
        run(2, meet, 2, np.zeros(2, np.int64), False)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("lane", [0, 350, 699])
def test_what_any_lane_raises_is_raised_here(count, lane):
    x = np.arange(700)
    x[lane] = -1
    with pytest.raises(ValueError, match="a lane below zero"):
        run(count, double, 700, x, np.zeros_like(x), np.zeros_like(x))
    y = np.zeros(700, np.int64)
    run(count, double, 700, abs(x), y, np.zeros_like(x))
    assert np.array_equal(y, 2 * abs(x))


@pytest.mark.parametrize("count", COUNTS)
def test_bound_to_some_arrays_a_region_takes_others_of_any_type(count):
    by = np.zeros(700, np.int64)
    bound = threads.BoundRegion(count, double, 700, by)
    wide, fixed = np.zeros((700, 2), np.int64), np.arange(700)
    fixed.flags.writeable = False
    for x, y in (
        (np.arange(700), np.zeros(700, np.int64)),
        (np.arange(700), np.zeros(700, np.int64)),  # entered at once
        (np.arange(700), wide[:, 1]),  # not one after the other
        (np.arange(700.0), np.zeros(700)),
        (np.arange(700, dtype=np.int32), np.zeros(700, np.int64)),
        (fixed, np.zeros(700, np.int64)),
        (np.arange(1400), np.zeros(1400, np.int64)),  # the first 700 are lanes
        (np.arange(700), np.zeros(700, np.int64)),
    ):
        by[:] = -1
        bound(x, y)
        assert np.array_equal(y[:700], 2 * np.arange(700)) and not y[700:].any()
        assert ((by >= 0) & (by < count)).all()
    assert not wide[:, 0].any()
    with pytest.raises(ValueError, match="a lane below zero"):
        bound(-np.arange(700), np.zeros(700, np.int64))
    assert copy.deepcopy(bound) is None and pickle.loads(pickle.dumps(bound)) is None


@compiled
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_step_asks_for_no_types_of_what_stays_the_same(env_id, monkeypatch):
    env = gym.make_vec(env_id, num_envs=2, episode="16 decisions")
    env.reset(seed=0)
    twin = copy.deepcopy(env.unwrapped)
    for each in (env, twin):
        each.action_space.seed(0)
        each.step(each.action_space.sample())
    asked: list[str] = []
    monkeypatch.setattr(threads, "run", lambda threads, kernel, *more: asked.append(kernel.__name__))
    for _ in range(40):
        for own, other in zip(env.step(action := env.action_space.sample())[:4], twin.step(action)[:4], strict=True):
            assert np.array_equal(own, other)
    assert not asked


def test_regions_of_several_python_threads_do_not_meet():
    found: list[bool] = []

    def work() -> None:
        x = np.arange(500)
        for count in COUNTS * 5:
            y = np.zeros(500, np.int64)
            run(count, double, 500, x, y, np.zeros_like(x))
            found.append(np.array_equal(y, 2 * x))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4 * 20 and all(found)


@compiled
def test_helpers_end_when_they_are_told_and_callers_then_work_alone(monkeypatch):
    crew = threads._Crew()
    monkeypatch.setattr(threads, "_crew", crew)
    run(3, meet, 3, np.zeros(3, np.int64), False)
    helpers = list(crew.helpers)
    assert len(helpers) == 2 and all(helper.is_alive() and helper.daemon for helper in helpers)
    crew.stop()
    assert not any(helper.is_alive() for helper in helpers)
    y, by = np.zeros(9, np.int64), np.full(9, -1)
    run(3, double, 9, np.arange(9), y, by)
    assert y.tolist() == list(range(0, 18, 2)) and not by.any() and not crew.helpers


# ---------------------------------------------------------------------------------------------------------- environments


def trace(env_id: str, count: int | None, lanes: int = 256, **arguments) -> list[bytes]:
    env = gym.make_vec(env_id, num_envs=lanes, threads=count, episode="8 decisions", **arguments)
    env.action_space.seed(1)
    told = [env.reset(seed=1)[0].tobytes()]
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        told.append(observation.tobytes() + reward.tobytes() + terminated.tobytes() + truncated.tobytes())
        told += [info[name].tobytes() for name in ("action_mask", "reason", "cost") if name in info]
        told.append(env.unwrapped.view.cash.tobytes() + env.unwrapped.last_fills.price.tobytes())
    env.close()
    return told


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
@pytest.mark.parametrize("gate", ["allow-all", {"gate": "risk", "limits": "configs/limits/strict.yaml"}], ids=["open", "risk"])
def test_environments_give_the_same_bytes_for_any_number_of_threads(env_id, gate, any_chunk):
    alone = trace(env_id, 1, gates=[gate])
    for count in COUNTS[1:]:
        assert trace(env_id, count, gates=[gate]) == alone


def test_two_environments_in_two_python_threads_give_what_each_gives_alone():
    wanted = {name: trace(name, 1) for name in list(ENVIRONMENTS)[:2]}
    found: dict[str, list[bytes]] = {}
    callers = [
        threading.Thread(target=lambda name=name: found.update({name: trace(name, 2)}))  # type: ignore[misc]
        for name in wanted
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == wanted


def _trace_in_a_child(pipe) -> None:
    pipe.send(trace("emp-lob-v0", 2, lanes=512))
    pipe.close()


@pytest.mark.parametrize("method", [pytest.param("fork", marks=forks), "spawn"])
def test_a_child_of_a_process_that_has_stepped_512_lanes_steps_them_too(method):
    wanted = trace("emp-lob-v0", 2, lanes=512)
    context = multiprocessing.get_context(method)
    mine, its = context.Pipe()
    child = context.Process(target=_trace_in_a_child, args=(its,))
    child.start()
    its.close()
    assert mine.recv() == wanted
    child.join()
    assert child.exitcode == 0


@forks
def test_a_forked_child_may_leave_by_itself_and_its_parent_goes_on():
    env = gym.make_vec("emp-lob-v0", num_envs=512, threads=2)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    child = os.fork()
    if child == 0:
        env.step(env.action_space.sample())
        os._exit(7)
    env.step(env.action_space.sample())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


EXITS = {
    "at the end": "",
    "by sys.exit": "sys.exit(0)",
    "with work left for the very end": "atexit.register(lambda: env.step(env.action_space.sample()))",
}
STEPS = """
import atexit, sys
{first}
import gymnasium as gym, emp_gym
env = gym.make_vec("emp-lob-v0", num_envs=512, threads=3)
env.reset(seed=0)
for _ in range(5):
    env.step(env.action_space.sample())
{last}
"""


@pytest.mark.parametrize("last", EXITS.values(), ids=EXITS)
@pytest.mark.parametrize("first", ["", "import torch"], ids=["alone", "after torch"])
def test_a_program_that_has_stepped_ends_quietly(first, last):
    late = EXITS["with work left for the very end"]
    first, last = (first + "\n" + "import emp_gym.threads", last) if last != late else (first, last)
    told = subprocess.run([sys.executable, "-c", STEPS.format(first=first, last=last)], capture_output=True, text=True, cwd=ROOT.parent)
    assert (told.returncode, told.stderr) == (0, "")


def test_kernels_run_without_a_compiler():
    program = (
        "import numpy as np, tests.test_threads as t\n"
        "for count in (1, 2, 8):\n"
        "    x, y = np.arange(100), np.zeros(100, int)\n"
        "    t.run(count, t.double, 100, x, y, np.zeros(100, int))\n"
        "    assert (y == 2 * x).all()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT.parent, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# ------------------------------------------------------------------------------------------------------------ no OpenMP


def spinning(text: str) -> list[str]:
    """Where a source makes a parallel region of numba's own: its threads spin, and die in a forked child."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "parallel":
            found.append(f"line {node.value.lineno}: parallel")
        if isinstance(node, ast.Name | ast.Attribute) and "prange" in (getattr(node, "id", ""), getattr(node, "attr", "")):
            found.append(f"line {node.lineno}: prange")
    return found


def test_no_kernel_is_a_parallel_region_of_numbas_own():
    assert {str(path): found for path in ROOT.rglob("*.py") if (found := spinning(path.read_text()))} == {}
    assert spinning("@njit(parallel=True)\ndef f():\n    for i in numba.prange(3):\n        pass\n") == [
        "line 1: parallel", "line 3: prange",
    ]  # fmt: skip
    assert njit is not numba.njit
