"""Observers: what they are told, when, and that they change nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401  registers the ids
from emp_gym.evaluation.observers import Began, Decision, Observer, Settled
from emp_gym.types import F32, I64

BUY = 7
LATER = {"episode": "2 decisions", "num_envs": 2, "gates": [{"gate": "cap-quantity", "largest": 60}]}


class Noting(Observer):
    """Writes down which call came when, with what it said of the lanes."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def began(self, now: Began) -> None:
        self.heard.append(("began", now.lanes.tolist(), now.view.decision[now.lanes].tolist()))

    def observed(self, observation: F32, lanes: I64 | None) -> None:
        self.heard.append(("observed", None if lanes is None else lanes.tolist()))

    def decided(self, now: Decision) -> None:
        self.time = now.view.time_ns.copy()
        asked, sent = (orders.quantity[now.moved, 0].tolist() for orders in (now.orders, now.sent))
        self.heard.append(("decided", now.moved.tolist(), asked, sent))
        assert [verdicts.reason[now.moved, 0].tolist() for verdicts in now.verdicts] == [[64] * len(asked)]

    def settled(self, now: Settled) -> None:
        assert (now.view.time_ns[now.moved] > self.time[now.moved]).all()
        lots = np.bincount(now.fills.lane, now.fills.side * now.fills.quantity, minlength=2)
        self.heard.append(("settled", now.moved.tolist(), now.truncated.tolist(), lots.tolist()))


@pytest.fixture
def noting():
    return Noting()


def steps(env: Any, count: int) -> list[bytes]:
    return [b"".join(array.tobytes() for array in env.step(np.full(env.num_envs, BUY))[:4]) for _ in range(count)]


BEGUN = [("began", [0, 1], [0, 0]), ("observed", [0, 1])]
DECIDED = ("decided", [True, True], [100, 100], [60, 60])
STEP = [DECIDED, ("settled", [True, True], [False, False], [60, 60]), ("observed", None)]
LAST = [DECIDED, ("settled", [True, True], [True, True], [-60, -60]), ("observed", None)]  # 60 more, and all 120 closed
AFTER = {
    "SameStep": [*BEGUN],
    "NextStep": [("decided", [False, False], [], []), BEGUN[0], ("settled", [False, False], [False, False], [0, 0]), ("observed", None)],
    "Disabled": [],
}


@pytest.mark.parametrize("mode", AFTER)
def test_what_is_told_stands_in_the_order_in_which_it_happens(mode, noting):
    env = gym.make_vec("emp-lob-v0", autoreset_mode=mode, **LATER)
    env.unwrapped.attach(noting)
    env.reset(seed=3)
    steps(env, 3 if mode == "NextStep" else 2)
    assert noting.heard == [*BEGUN, *STEP, *LAST, *AFTER[mode]]


@pytest.mark.parametrize("mode", AFTER)
def test_an_observed_environment_gives_the_same_bytes(mode, noting):
    plain, heard = (gym.make_vec("emp-lob-v0", autoreset_mode=mode, **LATER) for _ in range(2))
    heard.unwrapped.attach(noting)
    assert plain.reset(seed=3)[0].tobytes() == heard.reset(seed=3)[0].tobytes()
    assert steps(plain, 2) == steps(heard, 2)
    heard.unwrapped.detach(noting)
    so_far = len(noting.heard)
    heard.reset(seed=4)
    assert len(noting.heard) == so_far, "who has left hears nothing"


def test_no_order_is_sent_that_an_observer_refuses():
    class Full(Observer):
        def decided(self, now: Decision) -> None:
            raise OSError("disk full")

    env = gym.make_vec("emp-lob-v0", **LATER)
    env.reset(seed=3)
    env.unwrapped.attach(Full())
    before = env.unwrapped.view.time_ns.copy()
    with pytest.raises(OSError, match="disk full"):
        env.step(np.full(2, BUY))
    assert (env.unwrapped.view.time_ns == before).all() and not env.unwrapped.view.order_id.any()


def test_a_copy_is_observed_by_a_copy_or_by_nobody(noting):
    class Along(Noting):
        copied = True

    env = gym.make_vec("emp-lob-v0", **LATER)
    along = env.unwrapped.attach(Along())
    env.unwrapped.attach(noting)
    env.reset(seed=3)
    twin = copy.deepcopy(env)
    (copied,) = twin.unwrapped.lanes.watch.observers
    steps(twin, 1)
    assert (len(noting.heard), len(along.heard), len(copied.heard)) == (2, 2, 5)
    assert pickle.loads(pickle.dumps(type(env.unwrapped.lanes.watch)(2, (noting,)))).observers == ()
