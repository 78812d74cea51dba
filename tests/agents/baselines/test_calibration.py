"""The fit of fill intensities: it finds what was planted, says when it cannot, and counts as a plain loop counts."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.agents.baselines import GLFT
from emp_gym.agents.baselines.calibration import BINS, MakerMarket, QuoteFills, fit_impact, fit_intensity
from emp_gym.types import DataError

DISTANCE = 0.5 * np.arange(BINS)


def expected(intensity: float, decay: float, orders: float) -> np.ndarray:
    return orders * -np.expm1(-intensity * np.exp(-decay * DISTANCE))


@given(st.floats(0.05, 3.0), st.floats(0.05, 2.0))
def test_the_fit_finds_a_planted_intensity(intensity: float, decay: float) -> None:
    orders = np.full(BINS, 1e7)
    found = fit_intensity(orders, expected(intensity, decay, orders))
    assert found == pytest.approx((intensity, decay), rel=1e-6)


def test_the_fit_is_as_precise_as_its_fills_allow() -> None:
    """400 samples of 2,000 orders at each of five distances: no bias beyond 2 %, and a spread of a few percent."""
    rng = np.random.default_rng(8)
    orders = np.zeros(BINS)
    orders[[1, 3, 5, 9, 17]] = 2_000
    fits = []
    for _ in range(400):
        hits = rng.binomial(orders.astype(int), -np.expm1(-1.3 * np.exp(-0.5 * DISTANCE))).astype(float)
        found = fit_intensity(orders, hits)
        assert found is not None
        fits.append(found)
    mean, spread = np.mean(fits, axis=0), np.std(fits, axis=0)
    assert mean == pytest.approx((1.3, 0.5), rel=0.02)
    assert (spread / mean < 0.06).all()


@pytest.mark.parametrize(
    "hits",
    [
        np.zeros(BINS),
        np.where(np.arange(BINS) == 4, 50.0, 0.0),
        np.where(np.arange(BINS) < 9, np.arange(BINS) * 20.0, 0),
    ],
    ids=["no fills", "one distance", "rising"],
)
def test_no_intensity_is_made_up(hits: np.ndarray) -> None:
    seen = QuoteFills.none()
    seen.exposure[:], seen.hits[:], seen.steps[:] = 1000.0, hits, 100.0
    assert fit_intensity(seen.exposure[0], hits) is None
    with pytest.raises(DataError, match=r"cannot be told.*agent\.intensity"):
        MakerMarket.measured(seen)


def test_a_tick_regime_without_fills_takes_all_numbers_of_the_other() -> None:
    seen = QuoteFills.none()
    seen.exposure[1], seen.steps[:], seen.moved2[:], seen.spread[:] = 1e5, 100.0, (100.0, 900.0), (100.0, 800.0)
    seen.hits[1] = expected(1.3, 0.5, 1e5)
    market = MakerMarket.measured(seen)
    assert market.decay == pytest.approx([0.5, 0.5]) and market.intensity == pytest.approx([1.3, 1.3])
    assert market.volatility == pytest.approx([3.0, 3.0]) and market.half_spread == pytest.approx([4.0, 4.0])


def test_impact_is_a_line_through_the_origin() -> None:
    assert fit_impact(np.array([3.0, 12.0, 0.0]), np.array([10.0, 20.0, 0.0])) == pytest.approx(0.3)
    with pytest.raises(DataError, match=r"agent\.impact"):
        fit_impact(np.zeros(5), np.zeros(5))


def make_env(env_id: str, num_envs: int, **keywords: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, split="train", autoreset_mode="SameStep", **keywords)


@pytest.mark.parametrize("env_id", ["emp-lob-market-making-v0", "emp-lob-v0"])
def test_fills_and_exposure_equal_those_of_a_plain_loop(env_id: str) -> None:
    """The same actions again, counted order by order from the public view and the public fills, in integers. Episodes end
    in between, and orders take so long that some arrive where they cross the book."""
    lanes, steps, more = 10, 120, {"episode": "50 decisions", "latency_ns": 50_000_000}
    actions: list[np.ndarray] = []
    env = make_env(env_id, lanes, **more)
    agent = GLFT(env.single_observation_space, env.single_action_space, env.spec, lanes=lanes, steps=lanes * steps)
    env.close()

    class Told(gym.vector.VectorWrapper):
        def step(self, action: Any) -> Any:
            actions.append(np.array(action))
            return self.env.step(action)

    with suppress(DataError):  # too few for a fit is no matter here: the counts are kept
        agent.learn(lambda num_envs, **keywords: Told(make_env(env_id, num_envs, **more, **keywords)), 1 << 20)
    assert len(actions) == steps
    exposure, hits, crossed = np.zeros((2, BINS)), np.zeros((2, BINS)), 0
    env = make_env(env_id, lanes, **more)
    env.reset(seed=0)
    for action in actions:
        view = env.unwrapped.view
        quoting = [a[2] == 1 if env_id != "emp-lob-v0" else a in (1, 2) for a in action]
        spread2 = (2 * view.spread[:, 0] // view.tick[:, 0]).tolist()  # half ticks
        _, _, terminated, truncated, _ = env.step(action)
        ended, view, fills = terminated | truncated, env.unwrapped.view, env.unwrapped.last_fills
        for lane in range(lanes):
            behind = round((float(action[lane][0]) + 1) * 5) if env_id != "emp-lob-v0" else int(action[lane]) - 1
            crossed += sum(fills.lane == lane) - sum(fills.maker[fills.lane == lane])
            if ended[lane] or not quoting[lane]:
                continue
            at = spread2[lane] // 2 + 2 * behind
            for side in (1, -1):
                mine = [f for f in range(len(fills.lane)) if fills.lane[f] == lane and fills.side[f] == side]
                lots = sum(int(fills.quantity[f]) for f in mine if fills.maker[f])
                stands = any(s == side and n > 0 for s, n in zip(view.order_side[lane], view.order_id[lane]))
                if at < BINS and (lots or stands):
                    exposure[int(spread2[lane] > 2), at] += 1
                    hits[int(spread2[lane] > 2), at] += min(lots / 100, 1)
    env.close()
    assert np.array_equal(agent._seen.exposure, exposure) and exposure.sum() > lanes * steps
    assert agent._seen.hits == pytest.approx(hits)
    assert hits.sum() > 100 and crossed > 20


def test_the_fit_on_the_embedded_days_describes_the_share_of_orders_that_fill() -> None:
    """One-tick books: the two nearest distances, which most orders meet, to 4 percentage points."""
    env = make_env("emp-lob-market-making-v0", 1)
    agent = GLFT(env.single_observation_space, env.single_action_space, env.spec)
    env.close()
    asked: list[dict[str, Any]] = []

    def training(num_envs: int, **keywords: Any) -> Any:
        asked.append(keywords)
        return make_env("emp-lob-market-making-v0", num_envs, **keywords)

    agent.learn(training, 1 << 20)
    assert asked == [{"info": "full"}], "no other split, no other data"
    seen, market = agent._seen, agent.market
    for at in (1, 3):
        share = seen.hits[0, at] / seen.exposure[0, at]
        assert -np.expm1(-market.intensity[0] * np.exp(-market.decay[0] * at / 2)) == pytest.approx(share, abs=0.04)
    assert market.decay[0] > 3 * market.decay[1], "orders reach farther in a wide book"


def test_learning_stops_when_it_is_told_to() -> None:
    env = make_env("emp-lob-market-making-v0", 1)
    agent = GLFT(env.single_observation_space, env.single_action_space, env.spec)
    env.close()
    heard: list[int] = []

    def callback(steps: int, scalars: Any) -> bool:
        heard.append(steps)
        return steps < 6_400

    agent.learn(
        lambda num_envs, **keywords: make_env("emp-lob-market-making-v0", num_envs, **keywords), 1 << 20, callback
    )
    assert heard == list(range(64, 6_401, 64))
