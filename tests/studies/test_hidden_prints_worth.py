"""What hidden prints are worth to the rules that quote, on LOBSTER's AMZN day. By hand:
``EMP_EVIDENCE=docs/evidence/hidden_prints_AMZN_2012-06-21.json pytest -n 0 -m long tests/studies/test_hidden_prints_worth.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.evaluation import intervals
from emp_gym.evaluation.assumptions import HONEST
from emp_gym.market import hidden
from emp_gym.runs import backtest
from emp_gym.runs.config import EvaluationConfig

SEEDS = {"symmetric": 1, "avellaneda-stoikov": 5, "glft": 5}  # of what a rule measures on the first 70 % of the day
ALONE = {"hidden_prints": "ignore"}
VARIANTS = {"ignore": "ignore", "fill": "fill", "fill, side by the nearer touch": "fill"}


@pytest.mark.long
@pytest.mark.parametrize("setting", [HONEST, ALONE], ids=["honest", "the market alone"])
@pytest.mark.parametrize("agent", SEEDS)
@pytest.mark.parametrize("env_id", ["emp-lob-market-making-v0", "emp-lob-v0"])
def test_who_quotes_is_filled_more(
    env_id: str, agent: str, setting: dict[str, Any], lobster_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**setting, "data": str(next(lobster_dir.glob("*AMZN*.zip"))), "episode": "32 decisions"}
    chosen = backtest.windows(env_id, env, EvaluationConfig(split="all"))
    made = backtest.make_env(env_id, env, 1, split="train")
    agents = [backtest.build(agent, made, seed) for seed in range(SEEDS[agent])]
    for one in agents:
        backtest.calibrate(one, env_id, env)
    played, told = {}, {}
    for variant, word in VARIANTS.items():
        monkeypatch.setattr(hidden, "SIDE_UNTOLD_FROM", "2000-01-01" if "nearer" in variant else "2014-07-14")
        logs = [backtest.evaluate(one, env_id, {**env, "hidden_prints": word}, chosen, 0, "all").episodes for one in agents]
        played[variant] = {name: np.stack([log[name] for log in logs]) for name in ("pnl", "maker_filled", "orders_filled")}
    for variant, figures in played.items():
        told[variant] = {name: estimate(values) for name, values in figures.items()}
        if variant != "ignore":
            told[variant] |= {f"{name} beyond ignore": estimate(x - played["ignore"][name]) for name, x in figures.items()}
    assert len(chosen) == 48 and told["fill"]["maker_filled beyond ignore"]["mean"] > 0
    keep(root, f"{env_id}, {agent}, {'honest' if setting is HONEST else 'the market alone'}", told)


def estimate(values: np.ndarray) -> dict[str, Any]:
    found = asdict(intervals.bootstrap(values, np.zeros(values.shape[1], np.int64), np.random.default_rng(0), resamples=10_000))
    return {name: round(value, 2) for name, value in found.items() if isinstance(value, float)}


def keep(root: Path, name: str, told: dict[str, Any]) -> None:
    if "EMP_EVIDENCE" not in os.environ:
        return
    path = Path(os.environ["EMP_EVIDENCE"])
    kept = json.loads(path.read_text()) if path.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    kept |= {
        "day": "AMZN 2012-06-21, 5 levels (LOBSTER's sample), all of it", "n": "48 windows of 32 decisions", "seeds": SEEDS,
        "commit": commit, "command": (__doc__ or "").split("``")[1],
    }  # fmt: skip
    kept[name] = told
    path.write_text(json.dumps(kept, indent=1) + "\n")
