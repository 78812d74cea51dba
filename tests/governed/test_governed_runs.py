"""Runs under limits and under a kill switch: `--risk`, its curves, and what a kill leaves behind."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.cli import train
from emp_gym.governance.kill_switch.gate import Killed
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.risk.limits import load
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, override, with_risk
from emp_gym.training.episode_statistics import EpisodeStatistics, MeteredVectorEnv
from emp_gym.types import ConfigError

LIMITS = ("default", "slack", "strict")
BUY = 7


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_are_kept_in_the_configuration_and_survive_json(name):
    path = Path(f"configs/limits/{name}.yaml")
    config = with_risk(RunConfig(), path)
    again = override(RunConfig(), json.loads(json.dumps(asdict(config))))
    (gate,) = again.env["gates"]
    assert (gate["gate"], gate["mode"]) == ("risk", "project") and load(gate["limits"]).digest == load(path).digest
    assert with_risk(config, None) is config


def test_other_gates_stay_and_other_limits_are_replaced():
    first = with_risk(RunConfig(env={"gates": "allow-all"}), Path("configs/limits/slack.yaml"))
    second = with_risk(first, Path("configs/limits/strict.yaml"))
    assert [gate if isinstance(gate, str) else gate["gate"] for gate in second.env["gates"]] == ["allow-all", "risk"]
    assert load(second.env["gates"][1]["limits"]).order.max_quantity == 100
    with pytest.raises(ConfigError, match="no such file"):
        with_risk(RunConfig(), Path("nowhere.yaml"))


def test_risk_cannot_be_changed_by_a_resume(capsys):
    assert train.main(["--resume", "somewhere", "--risk", "configs/limits/slack.yaml"]) == 2
    assert "--risk cannot be changed" in capsys.readouterr().err


def test_objections_become_scalars_since_the_last_write():
    limits = {
        "instrument": {"max_position": 150},
        "portfolio": {"drawdown": {"soft": 0.01}},
        "order": {"self_trade": "allow"},
    }
    meter = EpisodeStatistics()
    assert meter.drain() == {}
    inner = gym.make_vec("emp-lob-v0", num_envs=2, gates=[{"gate": "risk", "limits": limits}, "allow-all"])
    env = MeteredVectorEnv(inner, meter)
    env.reset(seed=0)
    assert meter.drain() == {"risk/latched": 0.0}
    env.step(np.array([BUY, 0])), env.step(np.array([BUY, 0]))
    told = meter.drain()
    assert told.pop("risk/latched") == 0.5 and sum(told.values()) >= 1 and all(tag.startswith("risk/") for tag in told)
    later = meter.drain()
    assert later.pop("risk/latched") == 0.5 and set(later) == set(told) and not any(later.values())


def test_a_kill_ends_training_and_evaluation(tmp_path):
    arguments = {"gates": [{"gate": "kill-switch", "folder": str(tmp_path)}]}
    env = MeteredVectorEnv(backtest.make_env("emp-lob-v0", arguments, 2), EpisodeStatistics())
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    KillSwitch.at(tmp_path).trip("alice", "why")
    with pytest.raises(Killed, match="by alice"):
        env.step(np.zeros(2, int))
    hold = backtest.build("hold", backtest.make_env("emp-lob-v0", {}, 1))
    with pytest.raises(Killed, match="--rearm"):
        backtest.evaluate(hold, "emp-lob-v0", arguments, [(0, 1000)], split="all")


SHORT = ["--env", "emp-lob-v0", "--total-timesteps", "60000", "--seed", "3", "--set", "agent.batch_size=1024",
         "agent.n_epochs=2", "evaluation.episodes=2", "evaluation.resamples=100", "env.threads=1", "agent.threads=1"]  # fmt: skip


@pytest.mark.slow
def test_limits_that_never_bind_change_no_bit_of_a_training(tmp_path):
    """So the return under slack limits is not within 5 % of the unconstrained one: it is the same."""
    for name, more in (("free", []), ("slack", ["--risk", "configs/limits/slack.yaml"])):
        assert train.main([*SHORT, *more, "--run-dir", str(tmp_path / name)]) == 0
    free, slack = tmp_path / "free", tmp_path / "slack"
    assert (free / "model.safetensors").read_bytes() == (slack / "model.safetensors").read_bytes()
    assert (free / "evaluation.json").read_text() == (slack / "evaluation.json").read_text()
    curves = [list(csv.DictReader((folder / "curves.csv").open())) for folder in (free, slack)]
    for before, after in zip(*curves, strict=True):
        kept = [tag for tag in after if not tag.startswith(("time/", "risk/"))]
        assert [before[tag] for tag in kept] == [after[tag] for tag in kept] and len(kept) > 20
        assert {tag: after[tag] for tag in after if tag.startswith("risk/")} == {"risk/latched": "0"}


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_after_a_signed_order(tmp_path, capsys, monkeypatch):
    from emp_gym.governance.kill_switch.switch import Rearm
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    key = KeyFile.generate(tmp_path / "bob.key")
    folder, run, config = tmp_path / "gov", tmp_path / "run", tmp_path / "config.yaml"
    config.write_text(f"env: {{gates: [{{gate: kill-switch, folder: {folder}}}]}}\n")
    switch = KillSwitch.at(folder, keys=[key.public_key])
    looks, check = [], KillSwitch.check

    def trip_later(self):
        looks.append(1)
        if len(looks) == 90:
            self.trip("alice", "mid-run")
        return check(self)

    monkeypatch.setattr(KillSwitch, "check", trip_later)
    words = [*SHORT, "--no-evaluation", "--config", str(config), "--run-dir", str(run)]
    assert train.main(words) == 2
    assert "stopped by the kill switch" in capsys.readouterr().err and not (run / "model.json").exists()
    assert train.main(["--resume", str(run), "--no-evaluation"]) == 2, "it is still closed"
    switch.rearm(Rearm.sign(key, switch.kill.kill_id, who="bob", reason="looked at it", ts_ns=1))
    assert train.main(["--resume", str(run), "--no-evaluation"]) == 0 and (run / "model.json").exists()
