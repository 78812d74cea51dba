"""The terms of P&L sum to it, in integers, whatever happened; and each term shows what it is called after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.data import store
from emp_gym.evaluation.attribution import TERMS, attribute, one_tick, per_regime_decisions, spread_ticks
from emp_gym.evaluation.runlog import HORIZONS, Horizon, pnl2, price_to_cash
from emp_gym.types import NS, ConfigError, Regime, RunLog
from tests.evaluation.logs import SECOND, by_hand, recorded, tape_file
from tests.market.by_hand import Hand

IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")


def terms_of(log: RunLog, horizon: Horizon = SECOND) -> dict[str, int]:
    found = attribute(log, horizon)
    assert not found.residual2.any()
    return {name: int(found.terms[name].sum()) for name in TERMS}


# ------------------------------------------------------------------------------------------------------------- by hand


def test_a_round_trip_at_a_mid_that_stands_still_is_spread_and_nothing_else() -> None:
    log = by_hand([100, 100, 100, 100], [
        {"decision": 0, "side": 1, "price": 99, "quantity": 5, "mid": 100},
        {"decision": 1, "side": -1, "price": 101, "quantity": 5, "mid": 100},
    ])  # fmt: skip
    assert terms_of(log) == {"spread2": 20, "impact2": 0, "adverse2": 0, "drift2": 0, "fees2": 0}


def test_a_mid_that_falls_within_the_horizon_is_adverse_and_later_it_is_drift() -> None:
    log = by_hand([100, 97, 95], [{"decision": 0, "side": 1, "price": 99, "quantity": 5, "mid": 100, "later": 97}])
    assert terms_of(log) == {"spread2": 10, "impact2": 0, "adverse2": -30, "drift2": -20, "fees2": 0}
    assert pnl2(log).tolist() == [-40]


def test_lots_stay_young_though_they_are_sold_at_once() -> None:
    log = by_hand([100, 97, 97], [
        {"decision": 0, "side": 1, "price": 99, "quantity": 5, "mid": 100, "later": 97},
        {"decision": 0, "side": -1, "price": 99, "quantity": 5, "mid": 100, "maker": False, "touch": 99, "later": 97},
    ])  # fmt: skip
    assert terms_of(log) == {"spread2": 0, "impact2": 0, "adverse2": -30, "drift2": 30, "fees2": 0}


def test_beyond_the_touch_is_impact() -> None:
    log = by_hand([100, 100], [
        {"decision": 0, "side": 1, "price": 104, "quantity": 2, "mid": 100, "maker": False, "touch": 101},
    ], fee=7)  # fmt: skip
    assert terms_of(log) == {"spread2": -4, "impact2": -12, "adverse2": 0, "drift2": 0, "fees2": -14}


def test_waiting_with_a_parent_order_is_drift() -> None:
    log = by_hand([100, 103, 103], [
        {"decision": 1, "side": 1, "price": 104, "quantity": 4, "mid": 103, "maker": False, "touch": 104},
    ], parent=4)  # fmt: skip
    assert terms_of(log) == {"spread2": -8, "impact2": 0, "adverse2": 0, "drift2": -24, "fees2": 0}


def test_each_regime_gets_its_own() -> None:
    log = by_hand([100, 97, 95], [{"decision": 0, "side": 1, "price": 99, "quantity": 5, "mid": 100, "later": 97}])
    log.steps["regime"] = [0, 4, -1]
    found = attribute(log, SECOND).by_regime[0]
    assert found["adverse2"].tolist() == [-30] + [0] * 9 and found["drift2"][Regime.NORMAL_FLAT] == -20
    assert per_regime_decisions(log).tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0, 0], "the end is no decision"
    log.fills["regime"] = -1
    assert attribute(log, SECOND).by_regime[0]["spread2"].tolist() == [0] * 9 + [10]


def test_an_unknown_horizon_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"only \['1s'\]"):
        attribute(by_hand([1, 1], []), Horizon(messages=10))


# ------------------------------------------------------------------------------------------------- planted, whole way


class Quoter:
    """Quotes one clip on both sides at the touch, always."""

    def initial_state(self, lanes: int) -> None:
        return None

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        return np.where(mask[:, 1], 1, 0), state


def played(hand: Hand, folder: Any, decisions: int) -> RunLog:
    data = tape_file(hand, folder / "day.tape")
    keywords = {"every": "1 messages", "episode": f"{decisions} decisions", "order_quantity": 1, "max_position": 50}
    horizon = [Horizon(messages=4)]
    return recorded(agent=Quoter(), episodes=1, split="all", data=data, horizons=horizon, **keywords)


def test_flow_that_comes_both_ways_shows_as_spread(tmp_path: Any) -> None:
    hand = Hand({99: 4, 98: 9}, {101: 4, 102: 9})
    for _ in range(40):
        hand.execute(1, 99, 2).new(1, 99, 2, 7).execute(-1, 101, 2).new(-1, 101, 2, 8)
    log = played(hand, tmp_path, 150)
    found = terms_of(log, Horizon(messages=4))
    makers = log.fills[log.fills["maker"]]
    assert len(makers) > 20 and abs(makers["side"].sum()) <= 1
    assert found["spread2"] >= 2 * int(price_to_cash(log)[0]) * (len(makers) - 1)
    assert found["adverse2"] == found["drift2"] == found["impact2"] == 0


def test_flow_that_knows_shows_as_adverse_selection(tmp_path: Any) -> None:
    hand = Hand(dict.fromkeys(range(160, 200), 2), {201: 2})
    for price in range(199, 170, -1):  # sellers take the bid and one more level; then the ask follows down
        hand.execute(1, price, 2).execute(1, price - 1, 1).new(1, price - 1, 1, 7).new(-1, price + 1, 2, 8)
    log = played(hand, tmp_path, 100)
    found = terms_of(log, Horizon(messages=4))
    makers = log.fills[log.fills["maker"]]
    assert len(makers) > 10 and (makers["side"] == 1).all(), "only the bid is hit"
    assert (makers["side"] * (makers["mid2_lots"] - 2 * makers["price"] * makers["quantity"]) >= 0).all()
    assert found["adverse2"] < -2 * int(price_to_cash(log)[0]) * len(makers), "more than a tick a lot"


# ------------------------------------------------------------------------------------------------------------ the judge


def judged(log: RunLog, horizon: Horizon) -> list[dict[str, int]]:
    """The terms the slow way: each execution on its own, from its moment to the end of the episode, mids off the tape."""
    tape, to_cash, found = store.tapes(log.config["env_kwargs"]["data"]), int(price_to_cash(log)[0]), []
    for account in log.accounts:
        steps, fills = (table[table["episode"] == account["episode"]] for table in (log.steps, log.fills))
        mids = tape.rows["mid2"][tape.day_slice(int(account["day"]))].astype(object)
        times = tape.rows["time_ns"][tape.day_slice(int(account["day"]))]
        end, end_ns = int(steps["row"][-1]), int(steps["time_ns"][-1])
        terms, held = dict.fromkeys(TERMS, 0), 0
        for fill in fills:
            side, lots, price = int(fill["side"]), int(fill["quantity"]), int(fill["price"])
            edge = side * (int(fill["mid2_lots"]) - 2 * price * lots)
            beyond = 0 if fill["maker"] else 2 * side * (int(fill["touch"]) - price) * lots
            terms["spread2"] += (edge - beyond) * to_cash
            terms["impact2"] += beyond * to_cash
            terms["fees2"] -= 2 * int(fill["fee"])
            held += side * (int(mids[end]) * lots - int(fill["mid2_lots"]))  # from the execution to the end
            if fill["maker"]:
                then = int(fill["row"]) + horizon.messages
                if horizon.ns:
                    until = int(fill["time_ns"]) + horizon.ns
                    then = end if until > end_ns else int(np.searchsorted(times, until, side="right")) - 1
                terms["adverse2"] += side * (int(mids[min(then, end)]) * lots - int(fill["mid2_lots"])) * to_cash
        held += int(steps["position"][-1]) * (int(account["mark2"]) - int(mids[end]))
        terms["drift2"] = held * to_cash - terms["adverse2"]
        found.append(terms)
    return found


@settings(max_examples=25)
@given(
    env_id=st.sampled_from(IDS),
    seed=st.integers(0, 1000),
    horizon=st.sampled_from([*HORIZONS, Horizon(messages=1), Horizon(ns=1), Horizon(ns=3600 * NS)]),
    latency=st.sampled_from([0, 100_000, [2_000_000_000, 500_000_000]]),
    every=st.sampled_from(["1 messages", "100 messages", "700 ms", "30 s"]),
    impact=st.sampled_from(["none", "resilient", "permanent"]),
    fills=st.sampled_from(["exact", "touch", "optimistic"]),
    clip=st.sampled_from([10, 100, 4000]),
    fee=st.sampled_from([-0.3, 0.0, 1.1]),
)
def test_whatever_happened_nothing_is_left_and_the_judge_agrees(
    env_id: str, seed: int, horizon: Horizon, latency: Any, every: str, impact: str, fills: str, clip: int, fee: float
) -> None:
    own = {"parent" if env_id == IDS[2] else "max_position": 10 * clip}
    log = recorded(
        env_id, 3, seed, latency_ns=latency, every=every, impact=impact, fills=fills, order_quantity=clip,
        gates=["cap-quantity"], maker_fee_bps=-fee, taker_fee_bps=fee, episode="20 decisions", horizons=[horizon], **own,
    )  # fmt: skip
    found = attribute(log, horizon)
    assert not found.residual2.any()
    assert np.array_equal(found.pnl2, np.rint(log.episodes["pnl"] * 2e8))
    for terms, judge in zip(found.terms, judged(log, horizon), strict=True):
        assert {name: int(terms[name]) for name in TERMS} == judge


@pytest.mark.parametrize("column", ["price", "quantity", "fee", "mid2_lots"])
def test_a_planted_fault_in_one_fill_moves_a_term(column: str) -> None:
    log = recorded()
    before = attribute(log, SECOND)
    log.fills[column][np.flatnonzero(log.fills["maker"])[0]] += 2
    after = attribute(log, SECOND)
    assert before.terms.tobytes() != after.terms.tobytes()
    assert not after.residual2.any(), "the identity is one of arithmetic: that the log is right is another test's matter"


def test_tick_regimes_follow_the_spread() -> None:
    log = recorded()
    ticks = spread_ticks(log)
    assert np.isfinite(ticks).all() and one_tick(log).any() and not one_tick(log).all()
    assert ((ticks <= 1.5) == one_tick(log)).all()
