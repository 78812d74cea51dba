"""Run logs written by hand, and recorded ones, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.evaluation import runlog
from emp_gym.evaluation.runlog import Horizon
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig
from emp_gym.runs.run_recorder import RunRecorder
from emp_gym.types import NS, RunLog

SMALL = "synthetic:rows=6000"
SECOND = Horizon(ns=NS)


def recorded(
    env_id: str = "emp-lob-v0", episodes: int = 12, seed: int = 0, agent: Any = "random", split: str = "test",
    horizons: Sequence[Horizon] = runlog.HORIZONS, **kwargs: Any,
) -> RunLog:  # fmt: skip
    """Episodes of an agent (a name, or one that is built), recorded."""
    kwargs = {"data": SMALL, "episode": "50 decisions", **kwargs}
    chosen = backtest.windows(env_id, kwargs, EvaluationConfig(episodes=episodes, split=split))
    if isinstance(agent, str):
        agent = backtest.build(agent, backtest.make_env(env_id, kwargs, 1, split=split), seed)
    return backtest.evaluate(agent, env_id, kwargs, chosen, seed, split, record=RunRecorder(horizons))


def by_hand(mids: Sequence[int], fills: Sequence[dict[str, Any]], parent: int = 0, fee: int = 0) -> RunLog:
    """One episode with a decision each second; `mids` are the mids then, the cash unit is 1 for a price unit and lot.

    A fill: decision, side, price, quantity, mid, and optionally maker, touch, later (the mid a second after), regime, id.
    """
    steps = np.zeros(len(mids), runlog.STEP)
    steps["decision"], steps["time_ns"] = np.arange(len(mids)), np.arange(len(mids)) * NS
    steps["row"] = steps["seen_row"] = np.arange(len(mids)) * 10
    steps["mid2"] = steps["tape_mid2"] = 2 * np.array(mids)
    steps["bid"], steps["ask"] = np.array(mids) - 1, np.array(mids) + 1
    table = np.zeros(len(fills), runlog.extended("fills", [(SECOND.column, "<i8")]))
    for row, fill in zip(table, fills):
        later = fill.get("later", mids[min(fill["decision"] + 1, len(mids) - 1)])
        row["decision"], row["time_ns"], row["row"] = fill["decision"], fill["decision"] * NS, fill["decision"] * 10
        row["side"], row["price"], row["quantity"] = fill["side"], fill["price"], fill["quantity"]
        row["maker"], row["mid2"], row["fee"] = fill.get("maker", True), 2 * fill["mid"], fee
        row["mid2_lots"], row["touch"] = row["mid2"] * row["quantity"], fill.get("touch", fill["price"])
        row["regime"], row["id"], row[SECOND.column] = fill.get("regime", 0), fill.get("id", 1), 2 * later
    for step in steps:
        done = table[table["decision"] < step["decision"]]
        step["position"] = (done["side"] * done["quantity"]).sum()
        step["cash"] = -(done["side"] * done["price"] * done["quantity"]).sum() - done["fee"].sum()
        step["equity2"] = 2 * step["cash"] + step["position"] * step["mid2"]
    account = np.zeros(1, runlog.ACCOUNT)
    account["decisions"], account["tick"], account["twap2"] = len(mids) - 1, 1, 2 * np.mean(mids[:-1])
    account["mark2"], account["price_to_cash"] = steps["mid2"][-1], 1
    account["arrival2"] = steps["mid2"][0]
    if parent:
        account["parent_side"], account["parent"], account["mark2"] = np.sign(parent), abs(parent), steps["mid2"][0]
    tables = {
        "steps": steps, "fills": table, "accounts": account,
        "orders": np.zeros(0, runlog.SENT), "verdicts": np.zeros(0, runlog.VERDICT),
    }  # fmt: skip
    config = {"horizons": [{"messages": 0, "ns": NS}], "windows": [[0, 0]]}
    return RunLog(config, {}, tables)


def tape_file(hand: Any, folder: Path) -> str:
    """A day written by hand (tests.market.by_hand.Hand) as a tape on disk."""
    from emp_gym.data.tape.tape_set import build

    return str(build(hand.quiet().day()).save(folder))
