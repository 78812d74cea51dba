"""The quoting optimum against the papers' figures, enumeration, a plain simulation and the continuous limit."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from emp_gym.evaluation.optimal.quoting import AvellanedaStoikov, CarteaJaimungal, Glft, avellaneda_stoikov_table
from emp_gym.evaluation.optimal.quoting_model import Quoting
from emp_gym.types import ConfigError, DataError

FILLS = ("arrival", "poisson", "linear")
TINY = dict(arrival=1.5, decay=0.8, horizon=1.0, steps=3, max_offset=3.0, max_inventory=2, volatility=0.7)


def tiny(gamma: float, fills: str, noise: str = "binomial") -> Quoting:
    if gamma:
        return AvellanedaStoikov(risk_aversion=gamma, fills=fills, noise=noise, **TINY)
    return CarteaJaimungal(running_penalty=0.4, terminal_penalty=0.3, fills=fills, noise=noise, **TINY)


def rate(model: Quoting, offset: float) -> float:
    """Fill probability, written again."""
    reach = model.arrival * model.horizon / model.steps
    if model.fills == "arrival":
        return (1 - math.exp(-reach)) * math.exp(-model.decay * offset)
    if model.fills == "poisson":
        return 1 - math.exp(-reach * math.exp(-model.decay * offset))
    return min(reach * math.exp(-model.decay * offset), 1.0)


def random_policy(model: Quoting, seed: int):
    table = np.random.default_rng(seed).uniform(0, model.max_offset, (model.steps, 2 * model.max_inventory + 1, 2))
    return lambda step, state: table[step, state[:, 0].astype(int) + model.max_inventory]


# --- Cartea and Jaimungal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fills", "printed"), [("arrival", 6.0862), ("poisson", 6.2904), ("linear", 6.4115)])
def test_the_three_programmes_have_the_values_of_the_reference(fills: str, printed: float) -> None:
    value = CarteaJaimungal(fills=fills).optimal().value
    assert math.floor(value * 1e4) / 1e4 == printed  # 6.411552 is printed as 6.4115


@pytest.mark.parametrize("fills", FILLS)
def test_the_box_and_the_bound_do_not_matter_at_the_printed_digits(fills: str) -> None:
    model = CarteaJaimungal(fills=fills)
    wide = replace(model, max_offset=12.0, max_inventory=25)
    assert model.optimal().value == pytest.approx(wide.optimal().value, abs=1e-6)


def test_fixed_and_skewed_quotes_have_the_values_of_the_reference() -> None:
    model = CarteaJaimungal()
    assert model.evaluate(model.fixed(1.2)) == pytest.approx(5.495, abs=5e-4)
    assert model.evaluate(model.skewed(1.15, 1 / 3)) == pytest.approx(6.019, abs=5e-4)
    name, base = model.base()
    assert name == "fixed" and base == pytest.approx(5.49866, abs=5e-6)
    assert model.score(5.495) < 0 < model.score(5.5)


@pytest.mark.parametrize(
    ("arrival", "decay", "horizon", "value"),
    [(140, 1.5, 1, 68.2558), (100, 1, 1, 73.2259), (50, 2, 1, 18.2193), (50, 2, 2, 36.3261)],
)
def test_the_continuous_worth_is_that_of_the_reference(arrival, decay, horizon, value) -> None:
    model = CarteaJaimungal(arrival=arrival, decay=decay, horizon=horizon, running_penalty=0.01)
    assert model.continuous_worth(0.0, bound=100)[100] == pytest.approx(value, abs=5e-5)


def test_the_continuous_task_has_the_printed_worth_and_quotes() -> None:
    model = CarteaJaimungal()
    assert model.continuous_worth(0.0, bound=20)[20] == pytest.approx(6.3806, abs=5e-5)
    quotes = model.continuous_quotes(0.5, bound=20)[20:24]
    printed = [[1.1679, 1.1679], [1.5003, 0.8321], [1.8228, 0.4997], [2.1305, 0.1772]]
    np.testing.assert_allclose(quotes, printed, atol=5e-5)


# --- risk-averse ---------------------------------------------------------------------------------------------------


def test_glft_has_the_constants_of_the_reference() -> None:
    model = Glft()
    assert model.asymptotic_constants() == pytest.approx((3.27898, 0.067866), abs=5e-6)
    at = np.array([-5, 0, 5]) + model.max_inventory
    np.testing.assert_allclose(model.continuous_quotes(0.0)[at, 0], [2.9725, 3.3130, 3.6535], atol=6e-5)
    np.testing.assert_allclose(model.asymptotic_quotes()[at, 0], [2.9736, 3.3129, 3.6522], atol=6e-5)


PUBLISHED = [  # gamma, strategy, spread, profit, its deviation, deviation of inventory: the journal, 1,000 paths
    (0.1, "inventory", 1.49, 65.0, 6.6, 2.9),
    (0.1, "symmetric", 1.49, 68.4, 12.7, 8.4),
    (0.01, "inventory", 1.35, 68.6, 8.7, 5.1),
    (0.01, "symmetric", 1.35, 68.8, 12.8, 8.7),
    (1.0, "inventory", 3.02, 31.4, 5.0, 1.7),
    (1.0, "symmetric", 3.02, 44.0, 11.0, 5.1),
]


@pytest.fixture(scope="module")
def table():
    rows = avellaneda_stoikov_table(np.random.default_rng(7), 4000)
    return {(row.risk_aversion, row.strategy, row.fills): row for row in rows}


@pytest.mark.parametrize("printed", PUBLISHED, ids=lambda p: f"{p[0]}-{p[1]}")
def test_the_tables_of_avellaneda_and_stoikov_come_out(table, printed) -> None:
    gamma, strategy, spread, profit, deviation, held = printed
    row = table[gamma, strategy, "linear"]
    error = math.hypot(row.error, deviation / math.sqrt(1000))  # the paper's figures are simulated too
    assert row.spread == pytest.approx(spread, abs=5e-3)
    assert abs(row.profit - profit) < 3 * error
    assert row.profit_deviation == pytest.approx(deviation, rel=0.15)
    assert row.inventory_deviation == pytest.approx(held, rel=0.15)


RECOMPUTED = [6.5, 13.4, 8.8, 13.5, 4.7, 10.6]  # deviations of profit with 4,000 paths, by another program


@pytest.mark.parametrize(("printed", "deviation"), list(zip(PUBLISHED, RECOMPUTED)), ids=lambda p: str(p)[:18])
def test_the_tables_dispersions_are_those_of_another_program(table, printed, deviation: float) -> None:
    assert table[printed[0], printed[1], "linear"].profit_deviation == pytest.approx(deviation, rel=0.05)


def test_exact_thinning_pays_less_than_the_literal_probability(table) -> None:
    row = table[0.1, "inventory", "poisson"]
    assert abs(row.profit - 57.1) < 3 * row.error + 0.05
    assert table[0.1, "inventory", "linear"].profit - row.profit > 20 * row.error


@pytest.mark.parametrize("gamma", [0.1, 0.01, 1.0])
def test_the_tables_means_are_those_of_the_chain(table, gamma: float) -> None:
    """Terminal wealth has the mean of the risk-neutral value of the same policy, which the programme knows without noise."""
    strategies = AvellanedaStoikov(risk_aversion=gamma).published()
    shape = dict(arrival=140.0, decay=1.5, steps=200, volatility=2.0, max_offset=99.0, max_inventory=60)
    neutral = CarteaJaimungal(running_penalty=0.0, terminal_penalty=0.0, fills="linear", **shape)
    row = table[gamma, "symmetric", "linear"]
    assert abs(neutral.evaluate(strategies["symmetric"]) - row.profit) < 4 * row.error


# --- against enumeration and simulation ----------------------------------------------------------------------------


def every_path(model: Quoting, policy, gamma: float, running: float, terminal: float) -> float:
    """Expected sum of rewards, over all fills and all moves of the mid, from cash and marks."""
    jump, dt = model.volatility * math.sqrt(model.horizon / model.steps), model.horizon / model.steps

    def utility(wealth: float) -> float:
        return (1 - math.exp(-gamma * wealth)) / gamma if gamma else wealth

    def go(step: int, q: int, cash: float, mid: float) -> float:
        if step == model.steps:
            return 0.0
        bid, ask = policy(np.array([step]), np.array([[float(q)]]))[0]
        hit = rate(model, bid) if q < model.max_inventory else 0.0
        lifted = rate(model, ask) if q > -model.max_inventory else 0.0
        total = 0.0
        for bought, sold, move in itertools.product((0, 1), (0, 1), (-jump, jump)):
            chance = (hit if bought else 1 - hit) * (lifted if sold else 1 - lifted) / 2
            new_q, new_cash = q + bought - sold, cash - bought * (mid - bid) + sold * (mid + ask)
            new_mid = mid + move
            reward = utility(new_cash + new_q * new_mid) - utility(cash + q * mid) - running * dt * q * q
            if step == model.steps - 1:
                reward -= terminal * new_q * new_q
            if chance:
                total += chance * (reward + go(step + 1, new_q, new_cash, new_mid))
        return total

    return go(0, 0, 0.0, 0.0)


@pytest.mark.parametrize("fills", FILLS)
@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_a_policys_value_is_the_sum_over_every_path(fills: str, gamma: float) -> None:
    model = tiny(gamma, fills)
    for policy in (random_policy(model, 3), model.optimal().policy):
        slow = every_path(model, policy, gamma, *((0.0, 0.0) if gamma else (0.4, 0.3)))
        assert model.evaluate(policy) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("fills", FILLS)
@pytest.mark.parametrize(
    ("gamma", "noise"), [(0.0, "gaussian"), (0.6, "gaussian"), (0.6, "binomial"), (2.0, "gaussian")]
)
def test_no_pair_of_offsets_on_a_fine_grid_is_better(fills: str, gamma: float, noise: str) -> None:
    model = tiny(gamma, fills, noise)
    bound, jump = model.max_inventory, model.volatility * math.sqrt(model.dt)
    grid = np.linspace(0, model.max_offset, 601)
    chance = np.array([rate(model, x) for x in grid])
    q = np.arange(-bound, bound + 1.0)
    if gamma:
        mid = np.exp((gamma * q * jump) ** 2 / 2) if noise == "gaussian" else np.cosh(gamma * q * jump)
        worth = np.ones(2 * bound + 1)  # E exp(-gamma * later wealth): to be made small
    else:
        worth = -(0.3 * q**2)
    for _ in range(model.steps):
        after, new = worth * mid if gamma else worth, np.empty(2 * bound + 1)
        for i in range(2 * bound + 1):
            hit = (chance if i < 2 * bound else 0 * chance)[:, None]
            lifted = (chance if i > 0 else 0 * chance)[None, :]
            up, down = after[min(i + 1, 2 * bound)], after[max(i - 1, 0)]
            bid, ask = grid[:, None], grid[None, :]
            if gamma:
                paid = np.exp(-gamma * bid), np.exp(-gamma * ask)
                both = hit * lifted * paid[0] * paid[1] * after[i]
                one = hit * (1 - lifted) * paid[0] * up + lifted * (1 - hit) * paid[1] * down
                new[i] = (both + one + (1 - hit) * (1 - lifted) * after[i]).min()
            else:
                one = hit * (1 - lifted) * (bid + up) + lifted * (1 - hit) * (ask + down)
                none = (1 - hit) * (1 - lifted) * after[i]
                new[i] = (hit * lifted * (bid + ask + after[i]) + one + none).max() - 0.4 * model.dt * q[i] ** 2
        worth = new
    best = (1 - worth[bound]) / gamma if gamma else worth[bound]
    value = model.optimal().value
    assert best <= value + 1e-12
    assert best == pytest.approx(value, abs=2e-5)


@st.composite
def any_model(draw: st.DrawFn) -> Quoting:
    """A problem of any kind, also one where fills are certain or the risk of one unit is ruinous."""
    shape = dict(
        arrival=math.exp(draw(st.floats(-1, 4))),
        decay=math.exp(draw(st.floats(-1, 1.2))),
        max_offset=draw(st.floats(1, 6)),
        volatility=draw(st.floats(0, 3)),
        steps=draw(st.integers(1, 3)),
        max_inventory=draw(st.integers(1, 3)),
        fills=draw(st.sampled_from(FILLS)),
        noise=draw(st.sampled_from(["gaussian", "binomial"])),
    )
    gamma = draw(st.sampled_from([0.0, 0.3, 1.0, 3.0]))
    return AvellanedaStoikov(risk_aversion=gamma, **shape) if gamma else CarteaJaimungal(**shape)


HARD = [  # two pairs of offsets that neither side alone would leave; the first that is found need not be the better
    AvellanedaStoikov(
        arrival=26.9, decay=1.44, volatility=2.06, steps=3, fills="arrival", noise="gaussian", max_offset=1.97,
        max_inventory=2, risk_aversion=3.0,
    ),
    AvellanedaStoikov(
        arrival=3.44, decay=2.125, volatility=1.85, steps=2, fills="linear", noise="gaussian", max_offset=1.327,
        max_inventory=2, risk_aversion=3.0,
    ),
]  # fmt: skip


@given(any_model())
@example(HARD[0])
@example(HARD[1])
@settings(max_examples=40)
def test_no_pair_of_offsets_is_better_in_any_state_of_any_problem(model: Quoting) -> None:
    worth, q, gamma = model.worth(), model.inventories, model.aversion
    jump, grid = model.volatility * math.sqrt(model.dt), np.linspace(0, model.max_offset, 201)
    bid, ask = np.meshgrid(grid, grid, indexing="ij")
    chance = np.array([rate(model, x) for x in grid])
    for step, i in itertools.product(range(model.steps), range(len(q))):
        after = worth[step + 1].copy()
        if gamma:
            noise = (gamma * q * jump) ** 2 / 2 if model.noise == "gaussian" else np.log(np.cosh(gamma * q * jump))
            after -= noise / gamma
        elif step == model.steps - 1:
            after -= model.terminal_penalty * q**2
        hit = chance[:, None] if i < len(q) - 1 else np.zeros((201, 1))
        lifted = chance[None, :] if i > 0 else np.zeros((1, 201))
        bought = bid + (after[min(i + 1, len(q) - 1)] - after[i])
        sold = ask + (after[max(i - 1, 0)] - after[i])
        gain = worth[step, i] - after[i] + (0.0 if gamma else model.running_penalty * model.dt * q[i] ** 2)

        def utility(x):
            return (1 - np.exp(-gamma * x)) / gamma if gamma else x

        best = (
            hit * (1 - lifted) * utility(bought)
            + lifted * (1 - hit) * utility(sold)
            + hit * lifted * utility(bid + ask)
        )
        assert best.max() <= utility(gain) + 1e-9 * (1 + abs(utility(gain)))


@pytest.mark.parametrize("model", [CarteaJaimungal(), AvellanedaStoikov(), Glft(horizon=60.0, steps=60)], ids=str)
def test_a_plain_simulation_earns_the_value(model: Quoting) -> None:
    rng, paths, policy = np.random.default_rng(11), 10_000, model.optimal().policy
    gamma, bound = model.aversion, model.max_inventory
    cash, q, mid, total = np.zeros(paths), np.zeros(paths), np.full(paths, 100.0), np.zeros(paths)
    for step in range(model.steps):
        quotes = policy(np.full(2 * bound + 1, step), np.arange(-bound, bound + 1.0)[:, None])
        rates = np.array([[rate(model, x) for x in row] for row in quotes])
        place = q.astype(int) + bound
        offset, chance = quotes[place], rates[place]
        bought = (rng.random(paths) < chance[:, 0]) & (q < bound)
        sold = (rng.random(paths) < chance[:, 1]) & (q > -bound)
        if isinstance(model, CarteaJaimungal):
            total -= model.running_penalty * q**2 * model.horizon / model.steps
        cash += sold * (mid + offset[:, 1]) - bought * (mid - offset[:, 0])
        q = q + bought - sold
        noise = rng.normal(size=paths) if model.noise == "gaussian" else rng.integers(0, 2, paths) * 2.0 - 1
        mid = mid + model.volatility * math.sqrt(model.horizon / model.steps) * noise
    wealth = cash + q * mid
    if isinstance(model, CarteaJaimungal):
        total += wealth - model.terminal_penalty * q**2
    else:
        total = (1 - np.exp(-gamma * wealth)) / gamma
    error = total.std(ddof=1) / math.sqrt(paths)
    assert abs(total.mean() - model.optimal().value) < 4 * error


# --- properties ----------------------------------------------------------------------------------------------------

MODELS = [tiny(gamma, fills) for gamma in (0.0, 0.6) for fills in FILLS]


@given(st.sampled_from(MODELS), st.integers(0, 10**6))
@settings(max_examples=60)
def test_no_policy_beats_the_optimum(model: Quoting, seed: int) -> None:
    assert model.evaluate(random_policy(model, seed)) <= model.optimal().value + 1e-12


@pytest.mark.parametrize(
    "model", [CarteaJaimungal(), AvellanedaStoikov(), Glft(horizon=60.0, steps=60), *MODELS], ids=str
)
def test_the_optimal_policy_has_the_optimal_value(model: Quoting) -> None:
    assert model.evaluate(model.optimal().policy) == pytest.approx(model.optimal().value, abs=1e-9)
    assert model.score(model.optimal().value) == 1 and model.score(model.base()[1]) == 0


@pytest.mark.parametrize("fills", FILLS)
def test_small_steps_lead_to_cartea_and_jaimungals_continuous_worth(fills: str) -> None:
    models = [CarteaJaimungal(fills=fills, steps=steps, max_inventory=6) for steps in (100, 200, 400)]
    limit = models[0].continuous_worth(0.0)[6]
    gaps = [abs(model.optimal().value - limit) for model in models]
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[1] / gaps[2] == pytest.approx(2, abs=0.3)  # first order in dt
    assert abs(2 * models[2].optimal().value - models[1].optimal().value - limit) < 2e-3


def test_small_steps_lead_to_glfts_continuous_worth() -> None:
    models = [Glft(horizon=10.0, steps=steps, max_inventory=6) for steps in (100, 200, 400)]
    limit = models[0].continuous_worth(0.0)[6]
    worth = [model.worth()[0, 6] for model in models]
    assert (worth[1] - limit) / (worth[2] - limit) == pytest.approx(2, abs=0.2)
    assert 2 * worth[2] - worth[1] == pytest.approx(limit, abs=2e-3)


@pytest.mark.parametrize("fills", FILLS)
def test_without_aversion_the_averse_dealer_is_the_neutral_one(fills: str) -> None:
    averse = AvellanedaStoikov(risk_aversion=1e-7, fills=fills, **TINY)
    neutral = CarteaJaimungal(running_penalty=0.0, terminal_penalty=0.0, fills=fills, **TINY)
    assert averse.optimal().value == pytest.approx(neutral.optimal().value, abs=1e-6)
    np.testing.assert_allclose(averse.quotes(), neutral.quotes(), atol=1e-5)


def test_a_side_at_the_bound_is_not_quoted_and_the_programme_is_symmetric() -> None:
    model = CarteaJaimungal(max_inventory=3)
    quotes = model.quotes()
    assert (quotes[:, -1, 0] == model.max_offset).all() and (quotes[:, 0, 1] == model.max_offset).all()
    np.testing.assert_allclose(quotes, quotes[:, ::-1, ::-1], atol=1e-11)


def test_the_best_half_spread_is_the_best_of_a_fine_grid() -> None:
    model = CarteaJaimungal(steps=20)
    grid = np.linspace(0, model.max_offset, 801)
    best = grid[np.argmax([model.evaluate(model.fixed(x)) for x in grid])]
    assert model.best_half_spread() == pytest.approx(best, abs=0.006)


def test_the_matrix_exponential_is_scipys() -> None:
    model = Glft(horizon=30.0, max_inventory=6)
    q = np.arange(-6.0, 7)
    alpha = model.decay * model.risk_aversion * model.volatility**2 / 2
    eta = model.arrival * (1 + model.risk_aversion / model.decay) ** -(1 + model.decay / model.risk_aversion)
    matrix = np.diag(alpha * q**2) - eta * (np.eye(13, k=1) + np.eye(13, k=-1))
    v = expm(-matrix * 20.0) @ np.ones(13)
    np.testing.assert_allclose(model.continuous_worth(10.0), np.log(v) / model.decay, atol=1e-10)


def test_certainty_equivalents_invert_the_utility_and_refuse_what_no_wealth_is_worth() -> None:
    model = AvellanedaStoikov()
    assert model.certainty_equivalent((1 - math.exp(-0.1 * 12)) / 0.1) == pytest.approx(12)
    assert model.certainty_equivalent(model.optimal().value) == pytest.approx(model.worth()[0, model.max_inventory])
    with pytest.raises(DataError, match="below 1 / risk_aversion"):
        model.certainty_equivalent(10.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fills": "poison"},
        {"steps": 0},
        {"steps": 2.5},
        {"decay": -1.0},
        {"max_inventory": True},
        {"arrival": math.nan},
    ],
)
def test_impossible_parameters_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CarteaJaimungal(**wrong)
