"""Sizing hits its target on GARCH paths, sees only the past, and its regimes do not flicker."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.risk.gate import RiskGate
from emp_gym.risk.sizing import Garch, Sizer, SizingConfig, _from_free, _to_free, fit_garch
from emp_gym.risk.state import FULL_SCALE
from emp_gym.types import Condition, ConfigError
from tests.risk.worlds import calm_view, one

TRUE = Garch(omega=2e-6, alpha=0.08, beta=0.90)
TARGET = 0.3 * np.sqrt(TRUE.variance)


def realised(sizer: Sizer, returns: np.ndarray, skip: int = 100) -> np.ndarray:
    """Volatility [paths] of positions sized by what was known before each return."""
    scale, earned = sizer.scale_bps, np.empty_like(returns)
    for t, now in enumerate(returns):
        earned[t] = scale / FULL_SCALE * now
        scale = sizer.update(now)
    return earned[skip:].std(axis=0)


@pytest.mark.parametrize("model", ["garch", "fitted", "ewma"])
def test_realised_volatility_is_within_a_tenth_of_the_target_on_garch_paths(model):
    returns = TRUE.simulate(4000, 40, np.random.default_rng(7))
    garch = {"garch": TRUE, "fitted": fit_garch(TRUE.simulate(4000, 1, np.random.default_rng(8))[:, 0]), "ewma": None}[
        model
    ]
    ratios = realised(Sizer(SizingConfig(target=TARGET), (40,), garch), returns) / TARGET
    error = 2 * ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert ratios.mean() - error > 0.9 and ratios.mean() + error < 1.1, (ratios.mean(), error)
    assert ((ratios > 0.9) & (ratios < 1.1)).mean() > 0.9, "and nearly every path by itself"
    fixed = (returns[100:] * 0.3).std(axis=0) / TARGET
    assert ratios.std() < 0.5 * fixed.std(), "a position of fixed size is much less steady"


def test_the_fit_finds_the_parameters():
    fitted = fit_garch(TRUE.simulate(20_000, 1, np.random.default_rng(3))[:, 0])
    assert fitted.alpha == pytest.approx(TRUE.alpha, abs=0.02) and fitted.beta == pytest.approx(TRUE.beta, abs=0.03)
    assert fitted.variance == pytest.approx(TRUE.variance, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_agrees_with_arch(seed):
    arch = pytest.importorskip("arch")
    returns = TRUE.simulate(5000, 1, np.random.default_rng(seed))[:, 0]
    theirs = arch.arch_model(returns * 100, mean="Zero", vol="GARCH", p=1, q=1).fit(disp="off").params
    ours = fit_garch(returns)
    assert ours.alpha == pytest.approx(theirs["alpha[1]"], abs=0.005)
    assert ours.beta == pytest.approx(theirs["beta[1]"], abs=0.01)
    assert ours.omega * 1e4 == pytest.approx(theirs["omega"], rel=0.1)


def test_the_future_does_not_change_a_scale():
    returns = TRUE.simulate(300, 2, np.random.default_rng(1))
    changed = returns.copy()
    changed[200:] *= 50
    first, second = (Sizer(SizingConfig(target=TARGET), (2,), TRUE) for _ in range(2))
    for t in range(200):
        assert (first.update(returns[t]) == second.update(changed[t])).all()


def test_regimes_turn_with_the_volatility_and_do_not_flicker_at_a_border():
    config = SizingConfig(target=0.01, window=2, blend=0.0, storm_scale=0.5)
    sizer = Sizer(config, (1,), Garch(omega=1e-4, alpha=0.0, beta=0.0))  # long-run volatility 0.01
    seen = []
    for volatility in (
        0.01,
        0.0161,
        0.0161,
        0.0155,
        0.0155,
        0.0143,
        0.0143,
        0.0069,
        0.0069,
        0.0075,
        0.0075,
        0.0079,
        0.0079,
    ):
        sizer.update(np.array([volatility]))
        seen.append(Condition(int(sizer.regime[0])).name)
    assert seen[0] == "NORMAL" and seen[2] == "STRESSED" and seen[4] == "STRESSED" and seen[6] == "NORMAL"
    assert seen[8] == "CALM" and seen[10] == "CALM" and seen[12] == "NORMAL"


def test_a_storm_is_cut_further_and_the_scale_never_passes_the_limit():
    config = SizingConfig(target=0.01, window=2, blend=0.0, storm_scale=0.5)
    sizer = Sizer(config, (1,), Garch(omega=1e-4, alpha=0.0, beta=0.0))
    assert sizer.scale_bps[0] == FULL_SCALE
    sizer.update(np.array([0.02]))
    assert sizer.update(np.array([0.02]))[0] == 2500
    sizer.update(np.array([0.0001]))
    assert sizer.update(np.array([0.0001]))[0] == FULL_SCALE


def test_a_condition_given_from_outside_decides_what_a_storm_is():
    config = SizingConfig(target=0.01, window=2, blend=0.0, storm_scale=0.5)
    sizer = Sizer(config, (2,), Garch(omega=1e-4, alpha=0.0, beta=0.0))
    given = np.array([Condition.STRESSED, Condition.CALM], np.int8)
    assert sizer.update(np.array([0.01, 0.01]), given).tolist() == [FULL_SCALE // 2, FULL_SCALE]
    given[:] = Condition.NORMAL
    assert sizer.regime.tolist() == [Condition.STRESSED, Condition.CALM], "what was given is copied"
    for wrong in (np.array([3, 0]), np.array([2])):
        with pytest.raises(ConfigError, match="values of Condition"):
            sizer.update(np.array([0.01, 0.01]), wrong)


def test_nothing_known_means_no_position():
    assert Sizer(SizingConfig(target=0.01), (2, 3)).scale_bps.tolist() == [[0] * 3] * 2


def test_the_gate_applies_a_scale_to_position_limits():
    gate, view = RiskGate({"instrument": {"max_position": 10}}), calm_view()
    gate.observe(view)
    gate.scale(np.array([[4999]]))
    assert gate(view, one())[0].quantity[0, 0] == 4
    with pytest.raises(ConfigError, match="basis points"):
        gate.scale(np.array([[10_001]]))


def test_impossible_models_are_refused():
    for bad in ((0.0, 0.1, 0.8), (1e-6, 0.2, 0.9), (1e-6, -0.1, 0.8)):
        with pytest.raises(ConfigError, match="GARCH needs"):
            Garch(*bad)
    with pytest.raises(ConfigError, match="at least 100"):
        fit_garch(np.zeros(200))
    for wrong in (
        {"target": 0.0}, {"window": 1}, {"decay": 0.0}, {"decay": 1.0}, {"blend": -0.1}, {"blend": 1.1}, {"calm": 0.0},
        {"calm": 1.6}, {"hysteresis": -0.1}, {"hysteresis": 1.0}, {"storm_scale": 0.0}, {"storm_scale": 1.1},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="sizing needs"):
            SizingConfig(**({"target": 0.01} | wrong))
    assert SizingConfig(target=1e-9, window=2, blend=0.0, hysteresis=0.0, storm_scale=1.0).blend == 0.0
    assert SizingConfig(target=0.01, blend=1.0).blend == 1.0


def test_a_border_belongs_to_normal():
    config = SizingConfig(target=1.0, window=2, blend=0.0, calm=0.5, storm=2.0, hysteresis=0.5)
    sizer = Sizer(config, (1,), Garch(omega=1.0, alpha=0.0, beta=0.0))  # ratio = root of the mean of two squares
    for volatility, condition in (
        (0.5, Condition.NORMAL), (2.0, Condition.NORMAL), (2.5, Condition.STRESSED), (1.25, Condition.STRESSED),
        (1.0, Condition.NORMAL), (0.25, Condition.CALM), (0.625, Condition.CALM), (0.75, Condition.NORMAL),
    ):  # fmt: skip
        for _ in range(2):
            sizer.update(np.array([volatility]))
        assert sizer.regime[0] == condition, volatility


@pytest.mark.parametrize("given", [(0.05, 0.95, 0.05), (2.0, 0.5, 0.9), (1e-6, 0.999, 0.01)])
def test_the_free_numbers_of_the_fit_give_back_what_they_are_made_from(given):
    omega, persistence, share = given
    omega2, alpha, beta = _from_free(_to_free(*given))
    expected = (omega, 0.9999 * persistence * share, 0.9999 * persistence * (1 - share))
    assert (omega2, alpha, beta) == pytest.approx(expected, rel=1e-9)
