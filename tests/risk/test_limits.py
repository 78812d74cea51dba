"""Limits: the files that ship load, and what is unknown, impossible or contradictory is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from emp_gym.risk.limits import Limits, load
from emp_gym.risk.rules import OFF, bind
from emp_gym.types import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs/limits").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_files_that_ship_load_and_bind(path):
    limits = load(path)
    assert load(limits.model_dump(mode="json", exclude_unset=True)).digest == limits.digest
    rules = bind(limits, 3, 10_000)
    assert len(rules.instruments) == 3 and rules.portfolio[0]["price_to_cash"] == 10_000


REFUSED = [
    ({"ordre": {}}, "limits: ordre is unknown; did you mean 'order'"),
    ({"order": {"max_quantiti": 1}}, "order.max_quantiti is unknown; did you mean 'max_quantity'"),
    ({"portfolio": {"drawdown": {"sotf": 1}}}, "did you mean 'soft'"),
    ({"instruments": {0: {"lott": 1}}}, "did you mean 'lot'"),
    ({"window": {"submit": {"count": 5, "window": 1}}}, "did you mean 'window_ms'"),
    ({"order": {"min_quantity": 5, "max_quantity": 4}}, r"min_quantity \(5\) is above max_quantity \(4\)"),
    (
        {"order": {"max_notional": 11}, "portfolio": {"max_gross": 10}},
        "order.max_notional .11. is above portfolio.max_gross",
    ),
    ({"sectors": {1: {"max_gross": 11}}, "portfolio": {"max_gross": 10}}, "sectors.1.max_gross"),
    ({"portfolio": {"max_net": 11, "max_gross": 10}}, "max_net"),
    ({"portfolio": {"daily_loss": {"soft": 3, "hard": 2}}}, r"soft \(3\) is above hard \(2\)"),
    ({"portfolio": {"drawdown": {"soft": 3, "scaled": True}}}, "scaled needs a hard drawdown"),
    ({"portfolio": {"max_leverage_pct": 100}}, "need capital"),
    ({"instrument": {"lot": 10}, "order": {"min_quantity": 1, "max_quantity": 9}}, "no multiple of lot 10"),
    ({"instrument": {"lot": 10, "max_position": 9}}, "below one lot"),
    ({"instrument": {"session": ["16:00:00", "09:30:00"]}}, "at or after its end"),
    ({"instrument": {"session": ["9am", "16:00:00"]}}, "HH:MM:SS"),
    ({"instrument": {"adv_lots": 10, "max_adv_bps": 1}}, "below one lot"),
    ({"window": {"submit": {"count": 10, "window_ms": 1}, "messages": {"count": 9, "window_ms": 1}}}, "lower rate"),
    ({"window": {"submit": {"count": 1, "window_ms": 1}}}, "greater than or equal to 2"),
    ({"order": {"max_quantity": 0}}, "max_quantity: .*got 0"),
    ({"order": {"max_quantity": 1.5}}, "got 1.5"),
    ({"order": {"max_quantity": True}}, "got True"),
    ({"order": {"max_quantity": 1 << 45}}, "less than or equal"),
    ({"order": {"max_notional": float("nan")}}, "got nan"),
    ({"order": {"max_notional": -1}}, "greater than 0"),
    ({"order": {"collar_bps": 10_001}}, "less than or equal"),
    ({"order": {"self_trade": "maybe"}}, "self_trade"),
    (["order"], "expected keys and values"),
    ("/nowhere/limits.yaml", "no such file"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_cannot_be_is_refused(given, reason):
    with pytest.raises(ConfigError, match=reason):
        load(given)


def test_a_broken_file_says_so(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("order: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load(path)
    path.write_text("order")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_limits_do_not_change_and_what_is_left_out_is_off():
    limits = load({})
    with pytest.raises(ValueError, match="frozen"):
        limits.order = None
    rules = bind(limits, 1, 10_000).portfolio[0]
    assert rules["max_gross"] == rules["collar_bps"] == rules["submit_cost"] == rules["loss_hard2"] == OFF
    assert isinstance(limits, Limits) and limits.digest != load({"order": {"max_quantity": 1}}).digest


def test_money_is_rounded_down_to_whole_amounts():
    rules = bind(load({"order": {"max_notional": 0.00019}}), 1, 10_000).portfolio[0]
    assert rules["max_notional"] == 1


def test_limits_of_an_instrument_that_is_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"limits.instruments: \[2\] are not in this market"):
        bind(load({"instruments": {2: {"max_position": 1}}}), 2, 10_000)
    with pytest.raises(ConfigError, match="1 to 16 instruments"):
        bind(load({}), 17, 10_000)
    with pytest.raises(ConfigError, match="a money limit must be at most"):
        bind(load({"order": {"max_notional": 10**15}}), 1, 10_000)
