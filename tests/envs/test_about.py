"""What an environment is, is asked in one place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest

import emp_gym  # noqa: F401
from emp_gym.envs.about import CERTIFICATE, FOREIGN, MARKET, about
from emp_gym.evaluation.assumptions import Assumptions
from emp_gym.types import Action

SETTINGS: list[dict[str, Any]] = [
    {}, {"impact": "permanent"}, {"impact": "resilient 250 ms", "latency_ns": [5, 7]}, {"fills": "touch", "taker_fee_bps": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("keywords", SETTINGS)
@pytest.mark.parametrize("many", [False, True])
def test_a_market_says_what_it_assumes_and_is_on(many, keywords):
    env: Any = gym.make_vec("emp-lob-v0", num_envs=2, **keywords) if many else gym.make("emp-lob-v0", **keywords)
    known, expected = about(env), Assumptions.of(keywords)
    assert (known.kind, known.env_id, known.episode, known.reward) == (MARKET, "emp-lob-v0", 256, "pnl")
    told = known.assumes
    assert told is not None
    for name in ("fills", "hidden_prints", "order_latency_ns", "feed_latency_ns", "half_life_ns", "maker_fee_bps", "taker_fee_bps"):
        assert getattr(told, name) == getattr(expected, name), name
    assert known.days is env.unwrapped.tape_set and known.data_hash == known.days.hash and known.truth
    assert known.windows is not None and known.windows(2) == env.unwrapped.windows(2)
    assert known.features == env.unwrapped.features and known.menu[0] == "keep" and known.problem is None
    assert str(known.clock) == "100 messages" and known.starts is not None and len(known.starts.table)


def test_tasks_say_what_their_actions_do():
    trade, execute, make = (about(gym.make(f"emp-lob{name}-v0")) for name in ("", "-execution", "-market-making"))
    assert trade.actions[5] == Action("bid, ask deeper", bid=0, ask=1) and trade.menu == tuple(action.name for action in trade.actions)
    assert [action.name for action in trade.actions if action.keeps] == ["keep"] and not trade.relative and trade.levers == ()
    assert execute.relative and execute.actions[4] == Action("take two", take=2, cancel=True)
    assert make.levers == ("half-spread", "skew", "size") and make.actions == make.menu == ()


def test_a_certificate_has_a_problem_and_no_days():
    known = about(gym.make("emp-glft-v0"))
    assert known.kind == CERTIFICATE and known.problem is not None and known.windows is not None
    assert known.days is known.assumes is known.starts is known.clock is None and not known.truth
    assert about(gym.make("emp-ladder-trend-v0")).first_observations < 8


def test_an_environment_of_somebody_else_says_what_it_wants_to():
    plain = about(gym.make("CartPole-v1"))
    assert (plain.kind, plain.env_id) == (FOREIGN, "CartPole-v1")
    assert plain.days is plain.windows is plain.problem is plain.task is None and plain.features == plain.menu == ()

    class Told(gym.Env):
        tape_set = SimpleNamespace(signal=None, hash="5")
        task = SimpleNamespace(menu=["keep", "buy"], reward="growth")
        constant_features, starts = {"status"}, 3

        def windows(self, n=None):
            return [(0, 1)]

    known = about(gym.wrappers.TimeLimit(Told(), 5))
    assert (known.env_id, known.menu, known.reward, known.data_hash) == ("Told", ("keep", "buy"), "growth", "5")
    assert known.windows is not None and known.windows() == [(0, 1)] and not known.truth
    assert known.constant_features == ("status",) and known.first_observations == 3


def test_words_that_mean_something_else_elsewhere_are_no_answers():
    class Odd(gym.Env):
        features, starts, windows, constant_features, task = 5, [0, 1], 7, "status", "walk"

    known = about(Odd())
    assert known.features == known.constant_features == known.menu == () and known.windows is None and known.first_observations == 8
