"""Finite processes against enumeration and simulation; every rung tests its one ability."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.evaluation.optimal.ladder import RUNGS, Memory, Quote, Returning, Rung, Toxic, Trend
from emp_gym.evaluation.optimal.tabular import FiniteMDP
from emp_gym.types import ConfigError, DataError


def random_mdp(seed: int, *, actions: int = 2, states: int = 2, horizon: int = 3, controlled: bool = True) -> FiniteMDP:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(states), (actions if controlled else 1, states))
    return FiniteMDP(
        transition=np.broadcast_to(transition, (actions, states, states)).copy(),
        reward=rng.normal(size=(actions, states, states)),
        start=rng.dirichlet(np.ones(states)),
        observation=rng.integers(0, 2, (states, 1)).astype(np.float32),
        features=("x",),
        horizon=horizon,
        turnover=rng.random((actions, states)),
        cost=rng.random((actions, states)),
    )


def slow_value(mdp: FiniteMDP, choose) -> float:
    """Sum over every path of states."""

    def go(step: int, state: int) -> float:
        if step == mdp.horizon:
            return 0.0
        action, total = choose(step, state), 0.0
        for after in range(mdp.states):
            total += mdp.transition[action, state, after] * (mdp.reward[action, state, after] + go(step + 1, after))
        return total

    return sum(mdp.start[s] * go(0, s) for s in range(mdp.states))


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_backward_induction_is_the_best_of_all_policies(seed: int) -> None:
    mdp = random_mdp(seed)
    values, actions = mdp.backward_induction()
    tables = [np.array(choice).reshape(3, 2) for choice in itertools.product((0, 1), repeat=6)]
    worth = [slow_value(mdp, lambda step, state, t=table: t[step, state]) for table in tables]
    assert mdp.start @ values[0] == pytest.approx(max(worth), abs=1e-12)
    for table, value in zip(tables, worth):
        judged = mdp.judge(lambda step, state, t=table: t[step, state[:, 0].astype(int)][:, None])
        assert judged.value == pytest.approx(value, abs=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_the_best_memoryless_value_is_the_best_of_all_maps_from_observations(seed: int) -> None:
    mdp = random_mdp(seed, states=4, horizon=4, controlled=False)
    worth = []
    for choice in itertools.product((0, 1), repeat=2):
        table = np.array(choice, float)
        worth.append(mdp.judge(mdp.seeing(lambda seen, t=table: t[seen[:, 0].astype(int)][:, None])).value)
    assert mdp.best_memoryless() == pytest.approx(max(worth), abs=1e-12)


def test_where_actions_move_the_state_there_is_no_such_shortcut() -> None:
    with pytest.raises(DataError, match="do not depend on actions"):
        random_mdp(0).best_memoryless()


def test_a_mixed_policy_is_judged_as_a_simulation_judges_it() -> None:
    mdp, rng, paths = random_mdp(4, actions=3, states=4, horizon=6), np.random.default_rng(1), 20_000
    table = rng.dirichlet(np.ones(3), 4)
    state = rng.choice(4, size=paths, p=mdp.start)
    total, traded, paid = np.zeros(paths), 0.0, 0.0
    for _ in range(mdp.horizon):
        action = (rng.random(paths)[:, None] > table[state].cumsum(axis=1)).sum(axis=1).clip(max=2)
        after = (rng.random(paths)[:, None] > mdp.transition[action, state].cumsum(axis=1)).sum(axis=1).clip(max=3)
        total += mdp.reward[action, state, after]
        traded, paid = traded + mdp.turnover[action, state].mean() / 6, paid + mdp.cost[action, state].mean() / 6
        state = after
    judged = mdp.judge(lambda step, state: table[state[:, 0].astype(int)])
    assert abs(total.mean() - judged.value) < 4 * total.std() / math.sqrt(paths)
    assert (traded, paid) == pytest.approx((judged.turnover, judged.cost), abs=0.01)


def test_a_process_that_loses_probability_is_refused() -> None:
    mdp = random_mdp(1)
    with pytest.raises(DataError, match="sum to 1"):
        FiniteMDP(**(vars(mdp) | {"start": mdp.start * 0.9}))
    with pytest.raises(DataError, match="turnover must be"):
        FiniteMDP(**(vars(mdp) | {"turnover": mdp.turnover[:, :1]}))
    with pytest.raises(DataError, match="from 0 to 1 or probabilities"):
        mdp.judge(lambda step, state: state + 5)
    with pytest.raises(ValueError, match="read-only"):
        mdp.reward[0, 0, 0] = 1.0


# --- the rungs -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=RUNGS, ids=str)
def rung(request) -> Rung:
    return RUNGS[request.param]()


def first_step(rung: Rung):
    """The best policy that does not know the time: what a learner without a clock can be."""
    table = rung.mdp().backward_induction()[1][0]
    return lambda step, state: table[state[:, 0].astype(int)][:, None]


def test_every_rung_is_passed_by_its_optimum_and_by_no_simple_policy(rung: Rung) -> None:
    optimum = rung.judge(rung.optimal().policy)
    assert optimum.value == pytest.approx(rung.optimal().value, abs=1e-9)
    assert rung.passes(*vars(optimum).values())
    for name, policy in rung.naive().items():
        judged = rung.judge(policy)
        assert rung.evaluate(policy) == judged.value <= optimum.value + 1e-12
        assert rung.passes(*vars(judged).values()) == (rung.abstention and name == "hold"), name


def test_a_learner_without_a_clock_can_pass_every_rung(rung: Rung) -> None:
    if isinstance(rung, Memory):
        pytest.skip("its clock is part of the observation")
    assert rung.score(rung.evaluate(first_step(rung))) > 0.999


def test_a_rung_is_small_seen_in_full_and_bounded(rung: Rung) -> None:
    mdp = rung.mdp()
    assert 32 <= rung.steps <= 64 and mdp.states <= 64 and len(mdp.features) <= 4
    distinct = len(np.unique(mdp.observation, axis=0))
    hidden = {Memory: rung.steps + 1, Returning: 5}  # observations of rungs that must be remembered
    assert distinct == hidden.get(type(rung), mdp.states)
    assert (np.ptp(mdp.observation, axis=0) > 0).all(), "no feature is constant"


@given(st.sampled_from(sorted(RUNGS)), st.integers(0, 10**6))
@settings(max_examples=40)
def test_no_policy_beats_the_optimum(name: str, seed: int) -> None:
    rung = RUNGS[name]()
    table = np.random.default_rng(seed).dirichlet(np.ones(rung.mdp().actions), (rung.steps, rung.mdp().states))
    value = rung.evaluate(lambda step, state: table[step, state[:, 0].astype(int)])
    assert value <= rung.optimal().value + 1e-12


def test_following_the_trend_makes_what_a_price_path_says() -> None:
    rung, rng, paths = Trend(), np.random.default_rng(3), 20_000
    move = rng.choice((-1, 1), size=paths)
    mid, cash, position = np.zeros(paths), np.zeros(paths), np.zeros(paths)
    for _ in range(rung.steps):
        wanted = move
        cash -= (wanted - position) * mid + 0.5 * np.abs(wanted - position)
        position = wanted
        move = np.where(rng.random(paths) < 0.8, move, -move)
        mid = mid + move
    wealth = cash + position * mid
    assert abs(wealth.mean() - rung.optimal().value) < 4 * wealth.std() / math.sqrt(paths)


def test_quotes_earn_what_arithmetic_says() -> None:
    assert Quote().optimal().value == pytest.approx(64 * 0.4)
    always = Toxic().evaluate(Toxic().naive()["always-quote"])
    assert always == pytest.approx(64 * 0.5 * (0.5 - 0.8 * 1.0))
    assert Toxic().optimal().value == 0


def test_only_memory_earns_in_the_memory_rung() -> None:
    rung = Memory()
    assert rung.optimal().value == pytest.approx(8 * (2.0 - 2 * 0.5))
    assert rung.best_memoryless() == 0 == rung.base()[1]


def test_a_returning_regime_pays_for_its_first_step_without_memory_and_always_with_it() -> None:
    rung = Returning()
    first_steps = 1 + 63 * 0.1
    assert rung.optimal().value == pytest.approx(64 * (2.0 - 2 * 0.5))
    assert rung.best_memoryless() == pytest.approx(first_steps * (2.0 - 2 * 0.5))
    signs = rung.mdp().observation[::2]  # of the four regimes
    assert np.abs(signs.T @ signs.prod(axis=1)).max() == 0, "no sign by itself goes with the drift"


def test_who_remembers_the_last_signature_makes_the_optimum_of_a_price_path() -> None:
    rung, rng, wealth = Returning(), np.random.default_rng(5), np.zeros(4000)
    regime, comes = rng.integers(4, size=4000), np.ones(4000, bool)
    remembered = np.zeros((4000, 2))
    for _ in range(rung.steps):
        signs = np.column_stack((np.where(regime < 2, -1, 1), np.where(regime % 2 == 0, -1, 1)))
        remembered[comes] = signs[comes]
        wealth += remembered.prod(axis=1) * 2.0 * signs.prod(axis=1) - 1.0
        comes = rng.random(4000) < 0.1
        regime = np.where(comes, (regime + rng.integers(1, 4, 4000)) % 4, regime)
    assert wealth == pytest.approx(rung.optimal().value)


def test_every_memoryless_policy_of_a_small_memory_rung_fails() -> None:
    rung = Memory(steps=3, session=1)
    mdp = rung.mdp()
    seen, which = np.unique(mdp.observation, axis=0, return_inverse=True)
    worth = []
    for choice in itertools.product(range(3), repeat=len(seen)):
        actions = np.array(choice, float)[which.ravel()]
        worth.append(rung.evaluate(lambda step, state, a=actions: a[state[:, 0].astype(int)][:, None]))
    assert max(worth) == pytest.approx(rung.best_memoryless(), abs=1e-12) == 0
    assert rung.optimal().value == pytest.approx(1.0)


def test_buying_once_and_holding_is_no_abstention() -> None:
    rung = RUNGS["noise"]()
    judged = rung.judge(rung.naive()["always-long"])
    assert not rung.passes(judged.value, judged.turnover, judged.cost)
    assert rung.passes(0.0, 0.005, 0.0025) and not rung.passes(0.0, 0.005, 0.02)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("toxic", {"toxicity": 0.4}),
        ("memory", {"session": 32}),
        ("memory", {"drift": 1.0}),
        ("returning", {"drift": 1.0}),
        ("returning", {"persistence": 1.5}),
        ("mean-reversion", {"pull": 0.2}),
        ("order-flow", {"edge": 0.7}),
        ("trend", {"persistence": 1.2}),
    ],
)
def test_a_market_that_would_test_something_else_is_refused(name: str, wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RUNGS[name](**wrong)
