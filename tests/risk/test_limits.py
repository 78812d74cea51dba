"""Limits: the files that ship load, and what is unknown, impossible or contradictory is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from emp_gym.risk.compiled_limits import OFF, bind
from emp_gym.risk.limits import Limits, load
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
    ({"instrument": {"restricted": "yes"}}, "restricted: .*got 'yes'"),
    ({"portfolio": {"drawdown": {"hard": 1, "scaled": 1}}}, "scaled: .*got 1"),
    ({"order": {"max_quantity": "5"}}, "max_quantity: .*got '5'"),
    ({"order": {"collar_bps": "5"}}, "collar_bps: .*got '5'"),
    ({"instrument": {"sector": "1"}}, "sector: .*got '1'"),
    ({"portfolio": {"max_open_orders": "1"}}, "max_open_orders: .*got '1'"),
    ({"window": {"submit": {"count": "5", "window_ms": 1}}}, "count: .*got '5'"),
    ({"window": {"submit": {"count": 5, "window_ms": "1"}}}, "window_ms: .*got '1'"),
    ({"window": {"duplicates": {"count": "5", "window_ms": 1}}}, "count: .*got '5'"),
    ({"window": {"executions": {"count": "5", "window_ms": 1}}}, "count: .*got '5'"),
    (["order"], "expected keys and values"),
    ("/nowhere/limits.yaml", "no such file"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_cannot_be_is_refused(given, reason):
    with pytest.raises(ConfigError, match=reason):
        load(given)


def rate(count: int, window_ms: int = 1000) -> dict:
    return {"count": count, "window_ms": window_ms}


BOUNDS = [  # the last value that may be, and the first that may not
    (lambda x: {"order": {"min_quantity": x, "max_quantity": 5}}, 5, 6),
    (lambda x: {"order": {"max_notional": x}, "portfolio": {"max_gross": 10}}, 10, 10.01),
    (lambda x: {"sectors": {1: {"max_gross": x}}, "portfolio": {"max_gross": 10}}, 10, 10.01),
    (lambda x: {"portfolio": {"max_net": x, "max_gross": 10}}, 10, 10.01),
    (lambda x: {"portfolio": {"daily_loss": {"soft": x, "hard": 2}}}, 2, 2.01),
    (lambda x: {"portfolio": {"capital": 1, "credit": x}}, 0, -0.01),
    (lambda x: {"portfolio": {"max_open_orders": x}}, 64, 65),
    (lambda x: {"portfolio": {"max_open_orders": x}}, 1, 0),
    (lambda x: {"portfolio": {"capital": 1, "max_leverage_pct": x}}, 1_000_000, 1_000_001),
    (lambda x: {"portfolio": {"capital": 1, "max_leverage_pct": x}}, 1, 0),
    (lambda x: {"instrument": {"lot": x}, "order": {"max_quantity": 9}}, 9, 10),
    (lambda x: {"instrument": {"lot": x}, "order": {"min_quantity": 7, "max_quantity": 9}}, 9, 5),
    (lambda x: {"instrument": {"lot": x, "max_position": 10}}, 10, 11),
    (lambda x: {"instrument": {"max_position": 10}, "order": {"min_quantity": x}}, 10, 11),
    (lambda x: {"instrument": {"adv_lots": x}}, 100, 99),
    (lambda x: {"instrument": {"adv_lots": 1 << 44, "max_adv_bps": x}}, 10_000, 10_001),
    (lambda x: {"instrument": {"max_quote_age_ms": x}}, 86_400_000, 86_400_001),
    (lambda x: {"instrument": {"max_quote_age_ms": x}}, 1, 0),
    (lambda x: {"instrument": {"sector": x}}, 255, 256),
    (lambda x: {"instrument": {"sector": x}}, 0, -1),
    (lambda x: {"instruments": {x: {}}}, 15, 16),
    (lambda x: {"instruments": {x: {}}}, 0, -1),
    (lambda x: {"sectors": {x: {"max_gross": 1}}}, 255, 256),
    (lambda x: {"sectors": {x: {"max_gross": 1}}}, 0, -1),
    (lambda x: {"order": {"max_quantity": x}}, 1 << 44, (1 << 44) + 1),
    (lambda x: {"order": {"collar_bps": x}}, 10_000, 10_001),
    (lambda x: {"order": {"collar_bps": x}}, 1, 0),
    (lambda x: {"window": {"submit": rate(x)}}, 2, 1),
    (lambda x: {"window": {"submit": rate(x)}}, 1_000_000, 1_000_001),
    (lambda x: {"window": {"submit": rate(10, 1), "messages": rate(x, 1)}}, 10, 9),
    (lambda x: {"window": {"submit": rate(10, 1000), "messages": rate(20, x)}}, 2000, 2001),
    (lambda x: {"window": {"duplicates": rate(x)}}, 16, 17),
    (lambda x: {"window": {"duplicates": rate(x)}}, 1, 0),
    (lambda x: {"window": {"executions": rate(x)}}, 1, 0),
    (lambda x: {"instrument": {"session": ["00:00:00", x]}}, "24:00:00", "24:00:01"),
    (lambda x: {"instrument": {"session": [x, "16:00:00"]}}, "15:59:59", "16:00:00"),
    (lambda x: {"instrument": {"session": ["09:00:00", x]}}, "10:59:00", "10:60:00"),
    (lambda x: {"instrument": {"session": ["09:00:00", x]}}, "10:00:59", "10:00:60"),
    (lambda x: {"instrument": {"session": ["09:00:00", x]}}, "10:00:00", "10:00"),
    (lambda x: {"instrument": {"session": ["09:00:00", x]}}, "23:00:00", "25:00:00"),
]


@pytest.mark.parametrize(("limits", "last", "beyond"), BOUNDS, ids=[str(i) for i in range(len(BOUNDS))])
def test_the_last_value_that_may_be_is_taken_and_the_next_is_refused(limits, last, beyond):
    assert load(limits(last))
    with pytest.raises(ConfigError):
        load(limits(beyond))


def test_what_is_left_out_has_these_values():
    limits = load({"window": {"order_to_trade": {"messages_per_execution": 1}, "executions": rate(1)}})
    assert (limits.order.min_quantity, limits.order.self_trade, limits.instrument.lot) == (1, "cancel-new", 1)
    assert (limits.instrument.max_adv_bps, limits.instrument.sector, limits.instrument.restricted) == (100, 0, False)
    assert limits.window.order_to_trade.free_messages == 1000 and limits.window.executions.then == "reducing"


def test_limits_are_bound_to_these_integers():
    limits = load(
        {
            "order": {"min_quantity": 2, "max_quantity": 9, "max_notional": 1.5, "collar_bps": 7, "self_trade": "allow"},
            "instrument": {"session": ["09:30:01", "16:00:00"], "max_quote_age_ms": 3, "lot": 2, "max_position": 8},
            "instruments": {1: {"adv_lots": 1111, "max_adv_bps": 90, "max_top_multiple": 4, "restricted": True, "sector": 2}},
            "sectors": {2: {"max_gross": 2}},
            "portfolio": {
                "capital": 3, "credit": 0.25, "max_gross": 4, "max_net": 3.5, "max_leverage_pct": 150, "max_open_orders": 6,
                "max_open_notional": 2.5, "daily_loss": {"soft": 1}, "drawdown": {"soft": 1, "hard": 2, "scaled": True},
            },
            "window": {
                "submit": rate(7), "messages": rate(11), "executions": rate(3) | {"then": "halted"},
                "collar": {"bps": 12, "window_ms": 5}, "duplicates": rate(4, 6),
                "order_to_trade": {"messages_per_execution": 13, "free_messages": 14},
            },
        }
    )  # fmt: skip
    rules = bind(limits, 2, 10_000)  # one currency unit is 10,000 amounts
    assert {name: int(rules.portfolio[0][name]) for name in rules.portfolio.dtype.names} == {
        "price_to_cash": 10_000, "min_quantity": 2, "max_quantity": 9, "max_notional": 15_000, "collar_bps": 7, "self_trade": 0,
        "capital2": 60_000, "credit": 2_500, "max_gross": 40_000, "max_net": 35_000, "leverage_pct": 150, "max_open": 6,
        "max_open_amount": 25_000, "loss_soft2": 20_000, "loss_hard2": OFF, "fall_soft2": 20_000, "fall_hard2": 40_000, "scaled": 1,
        "submit_cost": 142_857_143, "submit_full": 1_000_000_001, "submit_share": 714_285_715,
        "message_cost": 90_909_091, "message_full": 1_000_000_001, "message_share": 727_272_728,
        "execution_cost": 333_333_334, "execution_full": 1_000_000_002, "execution_latch": 2,
        "window_bps": 12, "window_ns": 5_000_000, "same": 4, "same_ns": 6_000_000, "ratio": 13, "free": 14,
    }  # fmt: skip
    names = rules.instruments.dtype.names
    assert [dict(zip(names, map(int, row))) for row in rules.instruments.tolist()] == [
        dict(lot=2, restricted=0, open_ns=34_201 * 10**9, close_ns=57_600 * 10**9, max_age_ns=3_000_000, largest=OFF,
             top_multiple=OFF, max_position=8, sector=0),
        dict(lot=1, restricted=1, open_ns=OFF, close_ns=OFF, max_age_ns=OFF, largest=9, top_multiple=4, max_position=OFF, sector=2),
    ]  # fmt: skip
    assert rules.sectors.tolist() == [OFF, OFF, 20_000]
    largest = 2**56 * 10_000 / 10**8
    assert bind(load({"order": {"max_notional": int(largest)}}), 1, 10_000).portfolio[0]["max_notional"] <= 2**56
    assert len(bind(load({}), 16, 10_000).instruments) == 16
    with pytest.raises(ConfigError, match="1 to 16"):
        bind(load({}), 0, 10_000)


def test_a_broken_file_says_so(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("order: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load(path)
    path.write_text("order")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load(path)
    with pytest.raises(ConfigError, match="expected a regular file, got a folder"):
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
