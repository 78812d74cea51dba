"""Schedules against their closed forms and plain loops, on observations by hand and in the environment itself."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from by_hand import EXECUTION, KEEP, TAKE_ONE, TAKE_TWO, build, rows
from hypothesis import given
from hypothesis import strategies as st

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.agents.baselines import POV, TWAP, VWAP, AlmgrenChrissSchedule
from emp_gym.agents.baselines.schedules import ac_holdings, ac_kappa, curves
from emp_gym.types import ConfigError, Feature

FEATURES = [
    Feature("parent_left", "share"),
    Feature("elapsed", "share"),
    Feature("time_of_day", "share"),
    Feature("volume_step", "lots"),
    Feature("return_step", "half ticks"),
]
EPISODE = 64


def test_twap_takes_what_is_due_and_no_more() -> None:
    agent = build(TWAP, EXECUTION, FEATURES)
    seen = [[1.0, 0.0], [0.9, 0.05], [0.9, 0.1], [1.0, 0.15], [0.1, 0.85]]
    actions, _ = agent.act(rows(*[[*row, 0, 0, 0] for row in seen]), None)
    assert actions.tolist() == [TAKE_ONE, KEEP, TAKE_ONE, TAKE_TWO, KEEP]


def test_a_last_part_below_one_clip_is_taken_too() -> None:
    agent = build(TWAP, EXECUTION, FEATURES, {"parent": 250})
    assert agent.act(rows([0.2, 0.79, 0, 0, 0], [0.2, 0.81, 0, 0, 0], [0.0, 1.0, 0, 0, 0]), None)[0].tolist() == [
        KEEP,
        TAKE_ONE,
        KEEP,
    ]


def test_vwap_follows_its_curve() -> None:
    agent = build(VWAP, EXECUTION, FEATURES, buckets=1, points=2)
    agent.restore({"curve": np.array([[0.0, 0.9, 1.0]])})
    assert agent.act(rows([0.9, 0.1, 0.5, 0, 0]), agent.initial_state(1))[0].tolist() == [TAKE_ONE]
    assert agent.act(rows([0.15, 0.45, 0.5, 0, 0]), agent.initial_state(1))[0].tolist() == [KEEP]


@pytest.mark.parametrize("cls", [VWAP, POV])
def test_schedules_do_not_act_on_numbers_that_nobody_measured(cls: Any) -> None:
    agent = build(cls, EXECUTION, FEATURES)
    with pytest.raises(ConfigError, match="not been calibrated"):
        agent.act(rows([1.0, 0, 0, 0, 0]), agent.initial_state(1))


def test_volume_curves() -> None:
    found = curves(np.array([[1.0, 3.0], [0.0, 0.0]]))
    assert np.allclose(found, [[0, 0.25, 1], [0, 0.25, 1]], atol=1e-3)


# ---- Almgren and Chriss


@pytest.mark.parametrize(
    ("risk_aversion", "kappa", "held"),
    [(1e-6, 0.6071, [542.0, 289.9, 147.9, 62.1, 0]), (2e-6, 0.8463, [428.6, 182.9, 76.3, 27.6, 0])],
)
def test_the_papers_example(risk_aversion: float, kappa: float, held: list[float]) -> None:
    """X 1e6, T = N = 5, sigma 0.95, gamma 2.5e-7, eta 2.5e-6: eta less half of gamma counts."""
    found = ac_kappa(risk_aversion, 0.95, 2.5e-6 - 2.5e-7 / 2)
    assert found == pytest.approx(kappa, abs=5e-5)
    assert 1000 * ac_holdings(np.arange(1, 6) / 5, 5 * found) == pytest.approx(held, abs=0.05)


@given(st.floats(1e-3, 5.0), st.floats(0.1, 10), st.floats(1e-2, 2.0), st.integers(2, 40))
def test_no_other_schedule_has_a_lower_cost_plus_risk(risk: float, sigma: float, eta: float, steps: int) -> None:
    """The first-order conditions of eta sum n^2 + lambda sigma^2 sum x^2, solved as a linear system."""
    inner = steps - 1
    system = np.diag(np.full(inner, 2 + risk * sigma**2 / eta))
    system -= np.diag(np.ones(inner - 1), 1) + np.diag(np.ones(inner - 1), -1)
    held = np.linalg.solve(system, np.eye(inner)[0])  # starts with 1, ends with 0
    gone = np.arange(1, steps) / steps
    assert ac_holdings(gone, steps * ac_kappa(risk, sigma, eta)) == pytest.approx(held, abs=1e-9)


@given(st.floats(0, 1), st.floats(1e-9, 2000))
def test_holdings_are_the_sinh_curve_and_never_overflow(gone: float, kappa_t: float) -> None:
    held = float(ac_holdings(np.array([gone]), kappa_t)[0])
    assert 0 <= held <= 1
    if 1e-3 < kappa_t < 300:
        assert held == pytest.approx(np.sinh(kappa_t * (1 - gone)) / np.sinh(kappa_t), abs=1e-9)


def test_risk_aversion_uses_what_was_measured_and_given_numbers_win() -> None:
    agent = build(AlmgrenChrissSchedule, EXECUTION, FEATURES, risk_aversion=1e-4, impact=0.5)
    with pytest.raises(ConfigError, match="volatility unknown"):
        agent.kappa()
    agent.restore({"volatility": np.array([3.0]), "impact": np.array([7.0])})
    assert agent.kappa() == pytest.approx(ac_kappa(1e-4, 3.0, 0.5))


# ---- in the environment


def make_env(num_envs: int | None = None, **keywords: Any) -> Any:
    made = {"split": "train", "autoreset_mode": "SameStep", "episode": f"{EPISODE} decisions"} | keywords
    return gym.make_vec("emp-lob-execution-v0", num_envs=num_envs or 8, **made)


def executed(cls: Any, **config: Any) -> dict[str, np.ndarray]:
    """Clips done and market volume seen [T + 1, 8] before each decision of one episode, and what was done at each."""
    env = make_env(autoreset_mode="Disabled", split="test")
    agent = cls(env.single_observation_space, env.single_action_space, env.spec, **config)
    names = [feature.name for feature in env.unwrapped.features]
    observation, info = env.reset(seed=11)
    state, record = agent.initial_state(8), []
    for _ in range(EPISODE):
        left = observation[:, names.index("parent_left")].astype(float)
        view = env.unwrapped.view
        volume = (view.bought + view.sold)[:, 0].astype(float)
        action, state = agent.act(observation, state, info["action_mask"])
        record.append((10 * (1 - left), volume, action))
        observation, _, _, _, info = env.step(action)
    env.close()
    done, volumes, actions = (np.array(values) for values in zip(*record))
    return {"done": done, "seen": np.cumsum(volumes, axis=0), "action": actions}


def test_without_risk_aversion_almgren_chriss_is_twap() -> None:
    twap = executed(TWAP)
    ours = executed(AlmgrenChrissSchedule, risk_aversion=0.0, volatility=3.0, impact=0.3)
    assert np.array_equal(twap["action"], ours["action"]) and (twap["action"] == TAKE_ONE).sum() >= 8 * 9


def test_the_more_it_fears_risk_the_earlier_it_sells() -> None:
    done = [
        executed(AlmgrenChrissSchedule, risk_aversion=risk, volatility=3.0, impact=0.3)["done"][:16].mean()
        for risk in (0.0, 1e-4, 1e-3, 1.0)
    ]
    assert done[0] < done[1] < done[2] < done[3]


def test_participation_stays_within_a_clip_of_its_target_until_the_deadline_nears() -> None:
    run = executed(POV, rate=0.02)
    target = np.minimum(0.02 * run["seen"] / 100, 10.0)  # clips
    taking = np.array([0, 0, 0, 1, 2, 0])[run["action"]]
    after = np.minimum(run["done"] + taking, 10.0)
    decisions = EPISODE - np.arange(len(after))[:, None]
    must = 10.0 - (decisions - 1.0)
    free = must <= target  # the deadline says nothing yet
    lag = target - after
    assert lag[free].min() > -1e-3, "never ahead of the volume seen"
    assert (lag[free & (taking < 2)] < 1.0 + 1e-3).all(), "never a clip behind, unless two were not enough"
    assert free.sum() > 50 and (taking[free] > 0).sum() > 5


def test_a_slow_market_does_not_make_it_miss_the_deadline() -> None:
    run = executed(POV, rate=1e-7)
    assert (run["action"][:-11] == KEEP).all()
    assert ((run["action"][-10:] == TAKE_ONE).all()) and (run["done"][-1] == pytest.approx(9.0, abs=1e-4))


def test_pov_equals_a_plain_loop() -> None:
    agent = build(POV, EXECUTION, FEATURES, {"episode": "40 decisions"}, rate=0.05)
    rng = np.random.default_rng(4)
    left, seen, state = 1.0, 0.0, agent.initial_state(1)
    for step in range(40):
        volume = float(rng.integers(0, 9_000)) if step else 0.0
        seen += volume
        done, decisions = 10 * (1 - left), 40 - step
        want = min(max(0.05 * seen / 100, 10 - (decisions - 1)), 10.0) - done
        due = min(1.0, 10 * left)
        plain = TAKE_TWO if want >= due + 1 - 1e-6 else TAKE_ONE if want >= due - 1e-6 and left > 0 else KEEP
        action, state = agent.act(rows([left, step / 40, 0.5, volume, 0]), state)
        assert int(action[0]) == plain, step
        left = max(0.0, round(left - {KEEP: 0, TAKE_ONE: 0.1, TAKE_TWO: 0.2}[plain], 6))
    assert left == 0


def test_vwap_equals_a_plain_loop_over_its_curve() -> None:
    agent = build(VWAP, EXECUTION, FEATURES, {"episode": "40 decisions"}, buckets=2, points=8)
    curve = curves(np.random.default_rng(3).random((2, 8)) ** 3)
    agent.restore({"curve": curve})
    left, state = 1.0, agent.initial_state(1)
    for step in range(40):
        action, state = agent.act(rows([left, step / 40, 0.49 + step / 500, 0, 0]), state)
        elapsed = float(np.float32(step / 40))  # the episode began in the first part and stays with its curve
        due = np.interp(elapsed, np.linspace(0, 1, 9), curve[0]) - (1 - left)
        plain = TAKE_TWO if due >= 0.1 - 1e-7 else TAKE_ONE if due >= -1e-7 and left > 0 else KEEP
        assert int(action[0]) == plain, step
        left = max(0.0, round(left - {KEEP: 0, TAKE_ONE: 0.1, TAKE_TWO: 0.2}[plain], 6))
    assert left == 0


def watched(cls: Any, **config: Any) -> tuple[Any, list[dict[str, Any]]]:
    """An agent that has learned, and the keywords with which it asked for environments."""
    env = make_env()
    agent = cls(env.single_observation_space, env.single_action_space, env.spec, **config)
    env.close()
    asked: list[dict[str, Any]] = []

    def watch(num_envs: int | None = None, **keywords: Any) -> Any:
        asked.append(keywords)
        return make_env(num_envs, **keywords)

    agent.learn(watch, 1024)
    return agent, asked


@pytest.mark.parametrize("cls", [VWAP, POV, AlmgrenChrissSchedule])
def test_schedules_learn_from_the_training_days_that_they_are_given(cls: Any) -> None:
    agent, asked = watched(cls)
    assert asked == [{}], "no other split, no other data"
    assert all(np.isfinite(values).all() for values in agent.arrays().values()) and agent.arrays()


def test_measured_numbers_equal_those_of_a_plain_loop() -> None:
    """Volume per decision, sigma and eta of the first 64 decisions of 16 lanes, from the view instead of features."""
    pov, _ = watched(POV, lanes=16)
    ac, _ = watched(AlmgrenChrissSchedule, lanes=16)
    env = make_env(16)
    env.reset(seed=0)
    volumes, moves, costs = [], [], [[] for _ in range(5)]  # type: ignore[var-annotated]
    for _ in range(64):
        view = env.unwrapped.view
        mid2 = view.mid2[:, 0].copy()
        tick = view.tick[:, 0].copy()
        for lane in range(16):
            for price, size in ((view.bid_price, view.bid_size), (view.ask_price, view.ask_size)):
                sweep(price[lane, 0].tolist(), size[lane, 0].tolist(), int(tick[lane]), costs)
        _, _, terminated, truncated, _ = env.step(np.zeros(16, np.int64))
        going, view = ~(terminated | truncated), env.unwrapped.view
        volumes += (view.bought + view.sold)[going, 0].tolist()
        moves += ((view.mid2[:, 0] - mid2) / (2 * tick))[going].tolist()
    env.close()
    assert pov.arrays()["rate"][0] == pytest.approx(1000 / (np.mean(volumes) * EPISODE), rel=1e-4)
    assert ac.arrays()["volatility"][0] == pytest.approx(np.sqrt(np.mean(np.square(moves))), rel=1e-4)
    mean = np.array([np.mean(cost) for cost in costs])
    clips = np.arange(1, 6)
    assert ac.arrays()["impact"][0] == pytest.approx((clips @ mean) / (clips @ clips), rel=1e-3)


def sweep(prices: list[int], sizes: list[int], tick: int, costs: list[list[float]]) -> None:
    """Adds what taking 1 to 5 clips of 100 lots costs beyond the touch, ticks a lot, where the depth is there."""
    each = [abs(price - prices[0]) / tick for price, size in zip(prices, sizes) for _ in range(size)]
    for n in range(1, 6):
        if len(each) >= 100 * n:
            costs[n - 1].append(sum(each[: 100 * n]) / (100 * n))


def test_an_uncalibrated_schedule_says_how_to_calibrate_it() -> None:
    agent = build(POV, EXECUTION, FEATURES)
    with pytest.raises(ConfigError) as error:
        agent.act(rows([1.0, 0, 0, 0, 0]), agent.initial_state(1))
    assert re.search(r"learn on training days.*give rate", str(error.value))
