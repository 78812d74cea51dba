"""The run log tells the same story as the environment: P&L to the unit, orders, fills, verdicts, and it survives a file."""

from __future__ import annotations

import importlib.util
from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym.evaluation import runlog
from emp_gym.experiments import backtest
from emp_gym.experiments.config import EvaluationConfig
from emp_gym.experiments.recording import Recorder
from emp_gym.types import ConfigError, DataError, RunLog

SMALL = "synthetic:rows=6000"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "latency and fees": {"latency_ns": [200_000, 100_000_000], "maker_fee_bps": -0.2, "taker_fee_bps": 0.3},
    "impact and gates": {
        "impact": "resilient", "every": "37 messages",
        "gates": [{"gate": "cap-quantity", "largest": 30}, "emp_gym.risk.gates:AllowAll"],
    },
    "by time, touch": {"every": "20 s", "fills": "touch", "latency_ns": 5_000_000_000, "taker_fee_bps": 1.7},
    "large clips": {"order_quantity": 5000, "max_position": 50_000, "parent": 20_000, "impact": "permanent"},
}  # fmt: skip
IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")
PARQUET = importlib.util.find_spec("pyarrow") is not None


def record(env_id: str, episodes: int = 12, seed: int = 0, agent: str = "random", **kwargs: Any) -> RunLog:
    kwargs = {"data": SMALL, "episode": "50 decisions", **kwargs}
    if env_id != "emp-lob-execution-v0":
        kwargs.pop("parent", None)
    chosen = backtest.windows(env_id, kwargs, EvaluationConfig(episodes=episodes))
    env = backtest.make_env(env_id, kwargs, 1)
    return backtest.evaluate(backtest.build(agent, env, seed), env_id, kwargs, chosen, seed, record=Recorder())


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("env_id", IDS)
def test_pnl_from_the_log_alone_is_the_environments_own_to_the_unit(env_id: str, setting: str) -> None:
    log = record(env_id, **SETTINGS[setting])
    own = np.rint(log.episodes["pnl"] * 2e8).astype(np.int64)
    assert np.count_nonzero(own) > 6, "episodes without a trade would show nothing"
    assert np.array_equal(runlog.pnl2(log), own)
    ends = log.steps[np.flatnonzero(np.diff(log.steps["episode"], append=-1))]
    assert np.array_equal(ends["position"], runlog.final_position(log))
    assert np.array_equal(ends["fees"], runlog.per_episode(log.fills, log.fills["fee"], len(own)))
    assert np.array_equal(np.bincount(log.steps["episode"], log.steps["reward"]).round(6), log.episodes["return"].round(6))
    if setting == "impact and gates":
        assert (log.verdicts["after"] < log.verdicts["before"]).any() and log.orders["quantity"].max() <= 30
    if setting == "large clips":
        assert log.fills["beyond"].any()
    if env_id != IDS[2]:
        assert (log.fills["id"] == -1).any(), "positions were closed at the end"


def test_a_changed_fill_breaks_the_identity() -> None:
    log = record(IDS[0])
    log.fills["price"][3] += 100
    assert not np.array_equal(runlog.pnl2(log), np.rint(log.episodes["pnl"] * 2e8))


@pytest.mark.skipif(not PARQUET, reason="pyarrow is not installed (extra: parquet)")
@pytest.mark.parametrize("env_id", IDS[:2])
def test_a_log_survives_its_files(env_id: str, tmp_path: Any) -> None:
    log = record(env_id, gates=["cap-quantity"])
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


def test_without_pyarrow_the_remedy_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install.*\[parquet\]"):
        runlog.save(RunLog({}), tmp_path)


def test_what_was_not_recorded_is_asked_for_in_vain() -> None:
    with pytest.raises(DataError, match=r"no table 'fills'.*--log"):
        RunLog({}).fills


def test_an_environment_without_a_market_is_refused() -> None:
    fakes.register()
    env = backtest.make_env("fake-lob-v0", {}, 1)
    with pytest.raises(ConfigError, match="environments with a market"):
        backtest.evaluate(backtest.build("hold", env), "fake-lob-v0", {}, [(10, 0)], record=Recorder())
