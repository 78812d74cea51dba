"""Measures of a run log: each against a figure computed by hand or by another way."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.evaluation import intervals, performance
from emp_gym.evaluation.performance import figures, parts
from emp_gym.types import CASH_UNITS, NS, RunLog
from tests.evaluation.logs import by_hand, recorded


def value(log: RunLog, name: str) -> float:
    return float(parts(log)[name].per_window[0])


ROUND_TRIP = [
    {"decision": 0, "side": 1, "price": 99, "quantity": 5, "mid": 100, "later": 97},
    {"decision": 1, "side": -1, "price": 96, "quantity": 5, "mid": 97, "maker": False, "touch": 96, "later": 95},
]


def test_a_round_trip_by_hand() -> None:
    log = by_hand([100, 97, 95], ROUND_TRIP, fee=3)
    assert value(log, "pnl_currency_per_episode") * CASH_UNITS == pytest.approx(5 * (96 - 99) - 6)
    assert value(log, "turnover_currency_per_episode") * CASH_UNITS == pytest.approx(5 * (96 + 99))
    assert value(log, "return_bp_of_turnover") == pytest.approx(-21 / 975 * 1e4)
    assert value(log, "fees_bp_of_turnover") == pytest.approx(6 / 975 * 1e4)
    assert value(log, "max_drawdown_currency") * CASH_UNITS == pytest.approx(21), "equity 0, -13, -21"
    assert value(log, "max_inventory_lots") == 5 and value(log, "traded_lots_per_episode") == 10
    assert value(log, "maker_share") == 0.5
    assert value(log, "maker_spread_captured_ticks_per_lot") == 1
    assert value(log, "taker_spread_paid_ticks_per_lot") == 1
    assert value(log, "spread_captured_ticks_per_lot") == 0
    assert value(log, "adverse_selection_ticks_per_lot_1s") == 3
    assert value(log, "realised_spread_ticks_per_lot_1s") == -2
    assert value(log, "taker_markout_ticks_per_lot_1s") == 2


def test_mids_after_the_day_are_left_out() -> None:
    log = by_hand([100, 97, 95], ROUND_TRIP)
    log.fills["mid2_after_1s"] = 0
    assert np.isnan(value(log, "adverse_selection_ticks_per_lot_1s"))


def test_a_parent_order_by_hand() -> None:
    fills = [
        {"decision": 0, "side": -1, "price": 100, "quantity": 4, "mid": 101, "maker": False},
        {"decision": 2, "side": -1, "price": 97, "quantity": 4, "mid": 98, "maker": False, "id": -1},
    ]
    log = by_hand([101, 99, 98, 96], fills, parent=-10, fee=5)
    cost = 4 * 1 + 4 * 4 + 10 + 2 * (101 - 96)  # two executions, fees, two lots missed
    assert value(log, "implementation_shortfall_bp") == pytest.approx(cost / 1010 * 1e4)
    assert value(log, "unfilled_lots") == 2 and value(log, "left_to_the_deadline_lots") == 4
    twap = (101 + 99 + 98) / 3
    assert value(log, "price_advantage_vs_twap_bp") == pytest.approx((98.5 - twap) / twap * 1e4), "sold above it: better"


def test_figures_of_parent_orders_are_given_only_where_there_are_any() -> None:
    assert "unfilled_lots" not in parts(recorded(episodes=2))
    assert "unfilled_lots" in parts(recorded("emp-lob-execution-v0", episodes=2))


def test_rates_are_the_environments_own() -> None:
    for env_id in ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"):
        log = recorded(env_id, latency_ns=1_000_000)
        found, own = parts(log), log.episodes
        assert np.array_equal(found["fill_rate"].top, own["orders_filled"])
        assert np.array_equal(found["fill_rate"].bottom, own["orders"])
        assert np.array_equal(found["maker_share"].top, own["maker_filled"])
        assert np.array_equal(found["traded_lots_per_episode"].top, own["filled"])
        assert np.allclose(found["pnl_currency_per_episode"].top, own["pnl"])


def test_the_twap_is_the_time_weighted_mid_of_the_whole_window() -> None:
    from emp_gym.data import store

    for every in ("100 messages", "5 s"):
        log = recorded("emp-lob-execution-v0", every=every, parent=100)
        assert (log.accounts["decisions"] < 50).any(), "some were done early: the window goes on"
        tape = store.tapes(log.config["env_kwargs"]["data"])
        for account, start in zip(log.accounts, log.steps[log.steps["decision"] == 0]["row"]):
            own = tape.rows[tape.day_slice(int(account["day"]))][start : account["deadline_row"] + 1]
            weights = np.diff(own["time_ns"])
            assert account["twap2"] == pytest.approx(np.average(own["mid2"][:-1], weights=weights), rel=1e-12)
        if every == "5 s":
            assert (np.diff(own["time_ns"][[0, -1]]) <= 250 * NS).all()


def test_every_figure_has_a_unit_a_meaning_and_an_interval_of_its_own_stream() -> None:
    log = recorded(episodes=64)
    some = figures(log, np.random.default_rng(1), resamples=200, only=["fill_rate", "cvar5_currency"])
    every = figures(log, np.random.default_rng(1), resamples=200)
    assert set(some) == {"fill_rate", "cvar5_currency"}
    assert all(figure.estimate == every[name].estimate for name, figure in some.items()), "leaving out changes no other"
    for name, figure in every.items():
        assert figure.unit and figure.meaning and figure.estimate.blocks, name
    low, high = every["fill_rate"].estimate.low, every["fill_rate"].estimate.high
    assert low is not None and high is not None and low < every["fill_rate"].estimate.mean < high
    pnl = log.episodes["pnl"]
    assert every["sharpe_per_episode"].estimate.mean == pytest.approx(pnl.mean() / pnl.std(ddof=1))
    assert every["cvar5_currency"].estimate.mean <= np.sort(pnl)[: max(1, len(pnl) // 20)].mean() + 1e-9
    assert performance.TAIL == 0.05 and intervals.FEWEST == 8


def test_prices_of_fills_do_not_move_queue_figures() -> None:
    log = recorded()
    found = parts(log)["ahead_at_posting_lots"]
    orders = log.orders[(log.orders["ahead"] >= 0)]
    assert found.top.sum() == orders["ahead"].sum() and found.bottom.sum() == len(orders) > 0
    assert (parts(log)["ahead_at_posting_of_filled_lots"].bottom <= found.bottom).all()
    assert (log.orders["ahead"][log.orders["kind"] == 2] == -2).all(), "market orders wait in no queue"
