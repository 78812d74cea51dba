"""The risk gate over several threads: the same bytes as over one, and no helpers where nobody asked for them."""

from __future__ import annotations

import copy
import multiprocessing
import random

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym import threads
from emp_gym.risk.gate import RiskGate
from emp_gym.types import Orders
from tests.risk.worlds import Adversary, random_limits

MANY = 3


def played(count: int, seed: int, lanes: int, mode: str) -> list[bytes]:
    """What a gate gives back, and what it remembers, in a drawn world of `lanes` lanes."""
    rng = random.Random(seed)
    limits = random_limits(rng, 3)
    gate, world, told = RiskGate(limits, mode), Adversary(rng, limits, lanes, 3, 6, 4), []
    gate.use_threads(count)
    for step in range(12):
        if step:
            world.move()
        sent, verdicts = gate(world.view, world.ask())
        orders = sent.records[sent.kind != 0].tolist()  # not their bytes: records have gaps that nobody fills
        told.append(sent.kind.tobytes() + repr(orders).encode() + verdicts.reason.tobytes())
        told.append(bytes([verdicts.touched]))
        if step % 4 == 3:
            gate.observe(world.view)
    state = gate.state
    kept = (array.tobytes() for array in (state.lane, state.instrument, state.ring))
    return [*told, *kept, repr(gate.counters()).encode()]


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
@pytest.mark.parametrize("mode", ["project", "reject", "observe"])
def test_every_byte_is_the_same_for_any_number_of_threads(lanes, mode):
    for seed in range(3):
        alone = played(1, seed, lanes, mode)
        for count in range(2, MANY + 1):
            assert played(count, seed, lanes, mode) == alone


def test_a_guarded_environment_is_the_same_for_any_number_of_threads():
    def trace(count: int) -> list[bytes]:
        gate = RiskGate("configs/limits/strict.yaml")
        env = gym.make_vec("emp-lob-v0", num_envs=256, gates=[gate], threads=count, episode="20 decisions")
        env.reset(seed=1)
        env.action_space.seed(1)
        told = []
        for _ in range(45):
            observation, reward, *_, info = env.step(env.action_space.sample())
            told.append(observation.tobytes() + reward.tobytes() + info["reason"].tobytes())
        assert gate._desk.threads == count, "the environment says how many"
        return told

    assert trace(1) == trace(MANY)


@pytest.fixture
def no_region(monkeypatch):
    """Fails whoever asks for helpers."""

    def refuse(*_):
        raise AssertionError("helpers were asked for")

    monkeypatch.setattr(threads._Crew, "of", refuse)


def test_a_gate_by_itself_and_one_of_few_lanes_ask_for_no_helpers(no_region):
    rng = random.Random(0)
    limits = random_limits(rng, 1)
    gate, world = RiskGate(limits), Adversary(rng, limits, 300, 1, 6, 4)
    gate(world.view, world.ask())
    gate.observe(world.view)
    env = gym.make_vec("emp-lob-v0", num_envs=8, gates=[{"gate": "risk", "limits": "configs/limits/default.yaml"}])
    env.reset(seed=0)
    env.step(np.full(8, 7))


def test_a_forked_child_of_a_guarded_environment_lives_on():
    env = gym.make_vec(
        "emp-lob-v0", num_envs=300, threads=1, gates=[{"gate": "risk", "limits": "configs/limits/default.yaml"}]
    )
    env.reset(seed=0)
    env.step(np.full(300, 7))
    twin = copy.deepcopy(env.unwrapped.lanes.gates[0])
    child = multiprocessing.get_context("fork").Process(target=_step_in_a_child, args=(env, twin))
    child.start()
    child.join()
    assert child.exitcode == 0


def _step_in_a_child(env, gate) -> None:
    env.step(np.full(300, 1))
    gate(env.unwrapped.view, Orders.empty(300, 10))


def test_counters_outlive_a_change_of_threads():
    rng = random.Random(1)
    limits = random_limits(rng, 1)
    gate, world = RiskGate(limits), Adversary(rng, limits, 40, 1, 6, 4)
    gate(world.view, world.ask())
    before = gate.counters()
    gate.use_threads(2)
    gate(world.view, Orders.empty(40, 6))
    assert gate.counters() == before and sum(before.values()) > 0
