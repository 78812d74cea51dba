"""The run log tells the same story as the environment: P&L to the unit, orders, fills, verdicts, and it survives a file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import fakes
import numpy as np
import pytest
from pyarrow import parquet

from emp_gym.cli import evaluate
from emp_gym.data import store
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import build
from emp_gym.evaluation import runlog
from emp_gym.evaluation.attribution import attribute, one_tick
from emp_gym.evaluation.runlog import Horizon
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig
from emp_gym.runs.run_recorder import RunRecorder, recorder
from emp_gym.types import NS, ConfigError, DataError, OrderAck, RequestType, RunLog
from tests.envs.test_days_of_unlike_rules import AAA, BBB
from tests.evaluation.logs import SMALL, recorded, tape_file
from tests.market.by_hand import Hand
from tests.market.duel import synthetic_day

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "latency and fees": {"latency_ns": [200_000, 100_000_000], "maker_fee_bps": -0.2, "taker_fee_bps": 0.3},
    "impact and gates": {
        "impact": "resilient", "every": "37 messages",
        "gates": [{"gate": "cap-quantity", "largest": 30}, "emp_gym.risk.gates:AllowAll"],
    },
    "by time, touch": {"every": "20 s", "fills": "touch", "latency_ns": 5_000_000_000, "taker_fee_bps": 1.7},
    "large clips": {"order_quantity": 5000, "max_position": 50_000, "impact": "permanent"},
}  # fmt: skip
IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("env_id", IDS)
def test_pnl_from_the_log_alone_is_the_environments_own_to_the_unit(env_id: str, setting: str) -> None:
    more = {"parent": 20_000} if setting == "large clips" and env_id == IDS[2] else {}
    log = recorded(env_id, **SETTINGS[setting], **more)
    own = np.rint(log.episodes["pnl"] * 2e8).astype(np.int64)
    assert np.count_nonzero(own) > 6, "episodes without a trade would show nothing"
    assert np.array_equal(runlog.pnl2(log), own)
    ends = runlog.ends(log)
    assert np.array_equal(ends["position"], runlog.final_position(log))
    assert np.array_equal(ends["fees"], runlog.per_episode(log.fills, log.fills["fee"], len(own)))
    assert np.array_equal(np.bincount(log.steps["episode"], log.steps["reward"]).round(6), log.episodes["return"].round(6))
    captured = log.fills["side"] * (log.fills["mid2_lots"] - 2 * log.fills["price"] * log.fills["quantity"])
    captured = runlog.per_episode(log.fills, captured, len(own)) * runlog.price_to_cash(log)
    assert np.array_equal(captured, np.rint(log.episodes["spread_captured"] * 2e8))
    if setting == "impact and gates":
        assert (log.verdicts["after"] < log.verdicts["before"]).any() and log.orders["quantity"].max() <= 30
    if setting == "large clips":
        assert log.fills["beyond"].any()
    if env_id != IDS[2]:
        assert (log.fills["id"] == -1).any(), "positions were closed at the end"


class Spy:
    """Random actions, and what the view showed when they were taken."""

    def __init__(self, env: Any, seed: int) -> None:
        self.agent, self.shown, self.asked = backtest.build("random", env, seed), [], []

    def bind(self, env: Any) -> None:
        self.env = env.unwrapped

    def initial_state(self, lanes: int) -> Any:
        return self.agent.initial_state(lanes)

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        view = self.env.view
        columns = (view.time_ns, view.bid_price[:, 0, 0], view.mid2[:, 0], view.position[:, 0], view.cash, view.equity2)
        self.shown.append([column.copy() for column in columns])
        self.orders = {int(i): int(a) for i, a in zip(view.order_id[0], view.order_ahead[0]) if i}
        action, state = self.agent.act(observation, state, mask)
        self.asked.append(np.array(action))
        return action, state


@pytest.mark.parametrize("env_id", IDS)
def test_steps_show_what_the_agent_saw_and_did(env_id: str) -> None:
    keywords = {"latency_ns": [0, 300_000_000], "data": SMALL}
    spy = Spy(backtest.make_env(env_id, keywords, 1), 3)
    log = recorded(env_id, agent=spy, **keywords)
    names = ("time_ns", "bid", "mid2", "position", "cash", "equity2")
    acted = log.steps[log.steps["decision"] < log.accounts["decisions"][log.steps["episode"]]]
    for step in acted:
        seen = [column[step["episode"]] for column in spy.shown[step["decision"]]]
        assert [step[name] for name in names] == seen
        action = spy.asked[step["decision"]][step["episode"]]
        told = step["action"] if env_id != IDS[1] else [step[f"lever_{i}"] for i in range(3)]
        assert np.array_equal(told, action)
    assert (acted["seen_row"] < acted["row"]).any() and (acted["tape_mid2"] != acted["mid2"]).any()


class Poster:
    """Posts once, and then looks at the volume ahead."""

    def __init__(self, action: int) -> None:
        self.action, self.ahead = action, list[int]()

    def bind(self, env: Any) -> None:
        self.env = env.unwrapped

    def initial_state(self, lanes: int) -> int:
        return 0

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        ids = self.env.view.order_id[0]
        self.ahead += self.env.view.order_ahead[0][ids > 0].tolist()
        return np.array([0 if state else self.action]), 1


@pytest.mark.parametrize(("latency", "action", "ahead"), [
    (0, 3, [7]), (0, 6, [3, 4]), (1_500_000_000, 3, [9]), (2_500_000_000, 6, [3, 5]),
])  # fmt: skip
def test_volume_ahead_at_posting_is_what_the_market_gave(
    latency: int, action: int, ahead: list[int], tmp_path: Any
) -> None:
    hand = Hand({99: 7, 98: 3}, {101: 4, 102: 5})  # a row a second
    hand.new(1, 99, 2, 7).new(-1, 101, 1, 8) if latency else hand
    hand.quiet(60)
    poster = Poster(action)
    log = recorded(
        agent=poster, episodes=1, split="all", data=tape_file(hand, tmp_path / "day.tape"), latency_ns=[latency, 0],
        every="5 messages", episode="3 decisions", order_quantity=1,
    )  # fmt: skip
    assert log.orders["kind"].tolist() == [RequestType.LIMIT] * len(ahead)
    assert log.orders["outcome"].tolist() == [OrderAck.ACCEPTED] * len(ahead)
    assert log.orders["ahead"].tolist() == ahead == poster.ahead[: len(ahead)]


def test_mids_after_fills_are_those_of_the_tape() -> None:
    log = recorded(every="1000 messages")
    tape, fills = store.tapes(SMALL), log.fills
    lost = 0
    for fill in fills[:: max(len(fills) // 50, 1)]:
        own = tape.rows[tape.day_slice(int(log.accounts["day"][fill["episode"]]))]
        for horizon in runlog.horizons(log):
            if horizon.messages:
                later = own["mid2"][int(fill["row"]) + horizon.messages :][:1]
            else:
                until = fill["time_ns"] + horizon.ns
                later = own["mid2"][own["time_ns"] <= until][-1:] if until <= own["time_ns"][-1] else []
            assert fill[horizon.column] == (later[0] if len(later) else 0)
            lost += len(later) == 0
    assert lost, "some horizons end after the day"


def test_recording_changes_nothing() -> None:
    chosen = backtest.windows(IDS[0], {"data": SMALL}, EvaluationConfig(episodes=6))
    agents = [backtest.build("random", backtest.make_env(IDS[0], {}, 1), 1) for _ in range(2)]
    plain, kept = (
        backtest.evaluate(agent, IDS[0], {"data": SMALL}, chosen, record=record)
        for agent, record in zip(agents, (None, RunRecorder()))
    )
    assert all(np.array_equal(plain.episodes[name], kept.episodes[name]) for name in plain.episodes)
    with pytest.raises(ConfigError, match="records one evaluation"):
        record = RunRecorder()
        for agent in agents:
            backtest.evaluate(agent, IDS[0], {"data": SMALL}, chosen, record=record)


def test_joined_logs_keep_their_numbers() -> None:
    first, second = recorded(episodes=4), recorded(episodes=3, seed=5)
    both = runlog.join([first, second])
    assert runlog.pnl2(both).tolist() == [*runlog.pnl2(first), *runlog.pnl2(second)]
    assert len(both.config["windows"]) == 7 and both.steps["episode"].max() == 6
    assert first.steps["episode"].max() == 3, "the parts are as they were"
    with pytest.raises(DataError, match="same columns and tables"):
        runlog.join([first, RunLog(first.config, first.episodes)])


def test_chosen_episodes_keep_what_is_theirs() -> None:
    log = recorded()
    wide = ~one_tick(log)
    assert wide.any() and not wide.all()
    own = runlog.select(log, wide)
    assert np.array_equal(runlog.pnl2(own), runlog.pnl2(log)[wide]) and len(own.config["windows"]) == wide.sum()
    assert np.array_equal(attribute(own).by_regime, attribute(log).by_regime[wide])
    assert not one_tick(own).any()


def test_horizons_are_called_after_their_length() -> None:
    names = [Horizon(ns=ns).name for ns in (NS, 90 * NS, 1_500_000_000, 7_000, 11)]
    assert names == ["1s", "90s", "1500ms", "7us", "11ns"] and Horizon(messages=10).column == "mid2_after_10_messages"
    for wrong in ({}, {"messages": 1, "ns": 1}, {"ns": -1}):
        with pytest.raises(ConfigError, match="exactly one"):
            Horizon(**wrong)


def test_a_changed_fill_breaks_the_identity() -> None:
    log = recorded(IDS[0])
    log.fills["price"][3] += 100
    assert not np.array_equal(runlog.pnl2(log), np.rint(log.episodes["pnl"] * 2e8))


@pytest.mark.parametrize("env_id", IDS[:2])
def test_a_log_survives_its_files(env_id: str, tmp_path: Any) -> None:
    log = recorded(env_id, gates=["cap-quantity"])
    back = runlog.load(runlog.save(log, tmp_path / "log"))
    assert set(back.tables) == set(log.tables) and set(back.episodes) == set(log.episodes)
    for name, table in log.tables.items():
        assert back.tables[name].dtype == table.dtype and back.tables[name].tobytes() == table.tobytes()
    assert np.array_equal(runlog.pnl2(back), runlog.pnl2(log)) and back.config["days"] == log.config["days"]
    with pytest.raises(ConfigError, match="holds a run log already"):
        runlog.save(log, tmp_path / "log")
    (tmp_path / "log" / "fills.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="not the file that"):
        runlog.load(tmp_path / "log")


def test_a_log_of_the_first_schema_is_read_as_of_one_instrument(tmp_path: Any) -> None:
    log = recorded(IDS[0])
    folder = runlog.save(log, tmp_path / "log")
    header = json.loads((folder / "runlog.json").read_text())
    header["schema"], header["config"]["price_to_cash"], header["config"]["currency"] = 1, 10_000, "USD"
    del header["config"]["window_days"]
    for name, about in header["tables"].items():
        lacking = {"instrument"} | ({"price_to_cash", "position"} if name == "accounts" else set())
        file = folder / about["file"]
        table = parquet.read_table(file)
        parquet.write_table(table.drop_columns([column for column in table.column_names if column in lacking]), file)
        about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "runlog.json").write_text(json.dumps(header))
    back = runlog.load(folder)
    for name, table in log.tables.items():
        assert back.tables[name].tobytes() == table.tobytes(), name
    assert set(runlog.currencies(back)) == {"USD"} and np.array_equal(runlog.pnl2(back), runlog.pnl2(log))


@pytest.mark.parametrize("first", [0, 1])
def test_episodes_of_days_of_unlike_money_are_each_in_their_own(first: int, tmp_path: Any) -> None:
    paths = [
        str(build(replace(synthetic_day(DayConfig(seed=seed, rows=3_000)), instrument=own)).save(tmp_path / f"{own.symbol}.tape"))
        for seed, own in ((31, AAA), (32, BBB))
    ]
    kwargs = {"data": paths[::-1] if first else paths, "every": "10 messages", "episode": "20 decisions"}
    env = backtest.make_env(IDS[0], kwargs, 1, split="all")
    chosen = [(day, row) for day in (0, 1) for row in (300, 1_500)]
    days = backtest.window_days(IDS[0], kwargs, chosen, "all")
    log = backtest.evaluate(backtest.build("random", env), IDS[0], kwargs, chosen, 3, "all", record=RunRecorder())
    assert list(log.config["window_days"]) == days
    assert {(day["symbol"], day["currency"]) for day in days} == {("AAA", "USD"), ("BBB", "EUR")}
    assert runlog.currencies(log) == [day["currency"] for day in days]
    units = np.array([{"USD": 10_000, "EUR": 1_000_000}[currency] for currency in runlog.currencies(log)])
    assert np.array_equal(log.accounts["price_to_cash"], units)
    assert np.array_equal(runlog.pnl2(log), np.rint(log.episodes["pnl"] * 2e8)) and np.count_nonzero(log.episodes["pnl"]) == 4
    charged = runlog.per_episode(log.fills, log.fills["fee"], 4)
    assert np.array_equal(charged != 0, units == 1_000_000), "only BBB charges"
    terms = attribute(log)
    parts = [terms.currency()[name] for name in ("spread", "impact", "adverse", "drift", "fees")]
    assert np.allclose(np.sum(parts, axis=0), terms.currency()["pnl"], atol=1e-9)
    one = runlog.select(log, units == 10_000)
    assert set(runlog.currencies(one)) == {"USD"} and runlog.currencies(runlog.join([one, one])) == ["USD"] * 4
    assert np.array_equal(log.accounts["position"], runlog.final_position(log))
    for table in ("steps", "orders", "fills", "verdicts", "accounts"):
        assert not log.tables[table]["instrument"].any()


def test_what_was_not_recorded_is_asked_for_in_vain() -> None:
    with pytest.raises(DataError, match=r"no table 'fills'.*--log"):
        RunLog({}).fills


def test_an_environment_without_a_market_is_refused() -> None:
    fakes.register()
    env = backtest.make_env("fake-lob-v0", {}, 1)
    with pytest.raises(ConfigError, match="days of a market"):
        backtest.evaluate(backtest.build("hold", env), "fake-lob-v0", {}, [(10, 0)], record=RunRecorder())


@pytest.mark.parametrize("env_id", ["emp-cartea-jaimungal-v0", "emp-ladder-trend-v0", "fake-lob-v0"])
def test_of_an_environment_without_a_market_decisions_and_rewards_are_recorded(env_id: str, tmp_path: Any) -> None:
    fakes.register()
    env = backtest.make_env(env_id, {}, 1)
    chosen = backtest.windows(env_id, {}, EvaluationConfig(episodes=5))
    spy = Noting(backtest.build("random", env, 3))
    log = backtest.evaluate(spy, env_id, {}, chosen, record=recorder(env))
    table = log.table("decisions")
    assert set(log.tables) == {"decisions"}
    levers = [name for name in table.dtype.names or () if name.startswith("lever_")]
    for row in table:
        told = [row[name] for name in levers] if levers else row["action"]
        assert np.array_equal(told, np.float32(spy.asked[row["decision"]][row["episode"]]))
    assert np.allclose(np.bincount(table["episode"], table["reward"]), log.episodes["return"])
    lengths = np.bincount(table["episode"])
    assert lengths.tolist() == log.episodes["length"].tolist()
    assert table["decision"].tolist() == [at for length in lengths for at in range(length)]
    with pytest.raises(DataError, match="no table 'fills'"):
        runlog.pnl2(log)
    assert runlog.load(runlog.save(log, tmp_path / "log")).table("decisions").tobytes() == table.tobytes()


class Noting:
    """Whoever it is of, with what it asked for."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.asked = agent, list[np.ndarray]()

    def initial_state(self, lanes: int) -> Any:
        return self.agent.initial_state(lanes)

    def act(self, *args: Any) -> Any:
        action, state = self.agent.act(*args)
        self.asked.append(np.array(action))
        return action, state


def test_a_market_is_recorded_as_a_market_and_one_evaluation_at_a_time() -> None:
    assert isinstance(recorder(backtest.make_env(IDS[0], {"data": SMALL}, 1)), RunRecorder)
    env = backtest.make_env("emp-ladder-trend-v0", {}, 1)
    noting = recorder(env)
    noting.begin(env)
    with pytest.raises(ConfigError, match="records one evaluation"):
        noting.begin(env)


def test_the_command_logs_a_certificate_and_reports_it(tmp_path: Any) -> None:
    words = ["--env", "emp-cartea-jaimungal-v0", "--agent", "hold", "--episodes", "8", "--json"]
    assert evaluate.main([*words, "--log", str(tmp_path / "logs"), "--report", str(tmp_path / "report")]) == 0
    logs = {path.name: runlog.load(path) for path in (tmp_path / "logs").iterdir()}
    assert {"hold", "naive", "optimal"} <= set(logs)
    for log in logs.values():
        table = log.table("decisions")
        assert np.allclose(np.bincount(table["episode"], table["reward"]), log.episodes["return"])


def test_the_tape_is_labelled_once_for_everybody_who_plays_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def regime(tape: Any) -> Any:
        asked.append(tape.hash)
        return np.zeros(len(tape.rows), np.int8)

    for data in (SMALL, SMALL, "synthetic:rows=7000"):
        kwargs = {"data": data, "episode": "3 decisions"}
        hold = backtest.build("hold", backtest.make_env(IDS[0], kwargs, 1))
        backtest.evaluate(hold, IDS[0], kwargs, [(0, 100)], split="all", record=RunRecorder(regime=regime))
    assert len(asked) == 2 == len(set(asked))
