"""Exact columns, judged by the environments themselves: roll one, and the rule says what is seen next."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import emp_gym  # noqa: F401 (registers the ids)
from emp_gym.agents.muzero.actions import actions_of
from emp_gym.agents.muzero.known_dynamics import BookDynamics, ClockDynamics, KnownDynamics, QuoteDynamics, account_of

LANES = 32
QUOTES = ("emp-cartea-jaimungal-v0", "emp-avellaneda-stoikov-v0", "emp-glft-v0")


def roll(env_id: str, steps: int, seed: int = 0, **arguments: Any) -> tuple[KnownDynamics, dict[str, np.ndarray]]:
    """The account of `env_id`, and `steps` random steps: before, action, after, each [steps * N, ...]."""
    env = gym.make_vec(env_id, num_envs=LANES, autoreset_mode="SameStep", **arguments)
    account = account_of(env.spec)
    actions = actions_of(env.single_action_space, 1, 1, 1.0, 0.1, 0.5)
    observation, info = env.reset(seed=seed)
    random = np.random.default_rng(seed)
    told: dict[str, list[np.ndarray]] = {"before": [], "action": [], "after": []}
    for _ in range(steps):
        action = _random(random, env.single_action_space, info.get("action_mask"))
        encoded = np.eye(actions.size, dtype=np.float32)[action] if action.dtype.kind == "i" else action
        before = observation.copy()
        observation, _, terminated, truncated, info = env.step(action)
        after = observation.copy()
        for lane in np.flatnonzero(terminated | truncated):
            after[lane] = info["final_obs"][lane]
        account.watch(before, after)
        for name, rows in (("before", before), ("action", encoded), ("after", after)):
            told[name].append(rows)
    env.close()
    return account, {name: np.concatenate(parts) for name, parts in told.items()}


def _random(random: np.random.Generator, space: spaces.Space, mask: np.ndarray | None) -> np.ndarray:
    if isinstance(space, spaces.Box):
        return random.uniform(-1, 0.3, (LANES, *space.shape)).astype(np.float32)
    allowed = np.ones((LANES, int(space.n))) if mask is None else mask  # type: ignore[attr-defined]
    return (random.random(allowed.shape) * allowed).argmax(1)


def said(account: KnownDynamics, told: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(what the rule says, what was seen) of the kept columns."""
    code = torch.from_numpy(account.code(told["before"], told["action"], told["after"]))
    assert int(code.min()) >= 0 and int(code.max()) < account.codes
    before, action = torch.from_numpy(told["before"])[:, account.columns], torch.from_numpy(told["action"])
    return account.advance(before, action, code).numpy(), told["after"][:, account.columns]


@pytest.mark.parametrize("env_id", QUOTES)
def test_the_account_of_quoting_problems_is_exact(env_id: str) -> None:
    account, told = roll(env_id, 250)
    assert isinstance(account, QuoteDynamics) and len(account.columns) == told["before"].shape[1], "nothing is left to learn"
    expected, seen = said(account, told)
    assert np.abs(expected - seen).max() < 1e-5
    codes = account.code(told["before"], told["action"], told["after"])
    assert set(np.unique(codes)) == {0, 1, 2}


def test_the_account_of_the_book_is_exact_but_for_orders_filled_in_part() -> None:
    account, told = roll("emp-lob-v0", 400, episode="64 decisions")
    assert isinstance(account, BookDynamics)
    expected, seen = said(account, told)
    clock, inventory, live = expected[:, 0], expected[:, 1], expected[:, 2:4]
    assert np.abs(clock - seen[:, 0]).max() < 1e-5
    assert np.array_equal(live, seen[:, 2:4])
    ends = seen[:, 0] > 1 - 1e-6  # positions are closed at the end
    whole = (np.abs(seen[:, 4:6] * (1 - seen[:, 4:6])) < 1e-6).all(1) & (
        np.abs(told["before"][:, account.columns[4:6]] % 1) < 1e-6
    ).all(1)
    exact = np.abs(inventory - seen[:, 1]) < 1e-5
    assert whole.mean() > 0.5
    assert exact[whole & ~ends].mean() > 0.999, f"{exact[whole & ~ends].mean()} of {int(whole.sum())}"


def test_a_wrong_rule_is_noticed() -> None:
    account, told = roll(QUOTES[0], 100)
    told["action"] = told["action"].copy()
    code = torch.from_numpy(account.code(told["before"], told["action"], told["after"]))
    before = torch.from_numpy(told["before"])
    wrong = account.advance(before, torch.from_numpy(told["action"]), 2 - code).numpy()
    assert np.abs(wrong - told["after"]).max() > 0.1


def test_environments_without_a_rule_keep_the_clock_or_nothing() -> None:
    ladder = gym.make_vec("emp-ladder-trend-v0", num_envs=2)
    account = account_of(ladder.spec)
    assert isinstance(account, ClockDynamics) and account.codes == 0
    plain = account_of(gym.spec("CartPole-v1"))
    assert type(plain) is KnownDynamics and plain.columns == [] and account_of(None).codes == 0
    late = gym.make_vec("emp-lob-v0", num_envs=2, latency_ns=1000)
    assert isinstance(account_of(late.spec), ClockDynamics), "orders in flight have no exact rule"
    theirs = [gym.make_vec("emp-lob-v0", num_envs=2, market=f"tests.faulty_markets:{name}") for name in ("Late", "Walk")]
    assert [type(account_of(env.spec)) for env in theirs] == [ClockDynamics, BookDynamics]


def test_the_clock_of_many_steps_adds_up_no_rounding() -> None:
    account = ClockDynamics({"elapsed": 0})
    tick = np.float32(1 / 384)
    account.watch(np.zeros((1, 1), np.float32), np.full((1, 1), tick))
    clock = torch.zeros(1, 1)
    for step in range(384):
        clock = account.advance(clock, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))
        assert float(clock) == pytest.approx((step + 1) / 384, abs=1e-6)
    assert float(account.advance(clock, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64))) == 1
