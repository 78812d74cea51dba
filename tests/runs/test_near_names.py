"""A name that is misspelt is answered with the nearest that there is, whatever it stands for."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import dataclass

import gymnasium as gym
import pytest

from emp_gym.agents import registry
from emp_gym.cli import train, user_modules
from emp_gym.envs.conformance.subject import resolve as subject
from emp_gym.envs.gates import resolve
from emp_gym.envs.tasks import Reward, Task
from emp_gym.envs.tasks.trade import TradeBook
from emp_gym.market.base import Market
from emp_gym.runs.contract import environment
from emp_gym.sensory.sets import FeatureSet
from emp_gym.types import ConfigError

FILE = """
import gymnasium as gym
from emp_gym.extend import Gate, Reward, passed

class Half(Gate):
    def __init__(self, most: int = 100):
        self.most = most
    def __call__(self, view, orders):
        return orders, passed(orders)

class Draw(Reward):
    def __init__(self, scold: float = 1.0):
        self.scold = scold
    def __call__(self, moved):
        return self.world.view.equity2 * 1e-8

gym.register("near-names-v0", entry_point=lambda: None)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a module ``near_names`` and a package ``near_pack``."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near_names.py").write_text(FILE)
    (tmp_path / "near_pack").mkdir()
    (tmp_path / "near_pack" / "__init__.py").write_text("")
    (tmp_path / "near_pack" / "gates.py").write_text(FILE.replace("near-names", "near-pack"))
    yield tmp_path
    for name in ("near_names", "near_pack", "near_pack.gates"):
        sys.modules.pop(name, None)
    gym.registry.pop("near-names-v0", None)
    gym.registry.pop("near-pack-v0", None)


@pytest.mark.parametrize(("settings", "near"), [
    (["env.rewrd=pnl"], "did you mean 'reward'"), (["env.tsk=trade"], "did you mean 'task'"),
    (["env.featurs=[book]"], "did you mean 'features'"),
    (["env.gate=allow-all"], "did you mean 'gates'"), (["env.marke=replay"], "did you mean 'market'"),
    (["env.reward=near_names:Draw", "env.scolld=0.8"], "did you mean 'scold'"),
    (["env.reward=near_name:Draw"], "no module 'near_name' on the path; did you mean 'near_names'"),
    (["env.reward=near_pack.gate:Draw"], "no module 'near_pack.gate' on the path; did you mean 'near_pack.gates'"),
    (["env.reward=near_names:Drew"], "near_names has no 'Drew'; did you mean Draw"),
    (["env.reward=./near_nams.py:Draw"], "did you mean near_names.py?"),
    (['env.gates=[{gate: "near_names:Half", mots: 50}]'], "argument 'mots'; did you mean 'most'? (gate 'near_names:Half'"),
    (['env.gates=[{gate:"near_names:Half",mots:50}]'], "without the key 'gate' (in YAML a blank stands behind each colon)"),
    (["env.reward={reward:pnl}"], "without the key 'reward' (in YAML a blank stands behind each colon)"),
    (["env.gates=[{gat: near_names:Half}]"], "without the key 'gate'"), (["env.gates=[cap-quantiti]"], "did you mean 'cap-quantity'"),
    (["env.gates=[{gate: cap-quantity, larges: 3}]"], "did you mean 'largest'"),
])  # fmt: skip
def test_a_setting_of_the_environment(settings, near, capsys):
    assert train.main(["--env", "emp-lob-v0", "--agent", "ppo", "--total-timesteps", "10", "--set", *settings]) == 2
    assert near in capsys.readouterr().err


@pytest.mark.parametrize(("name", "near"), [
    ("near_name:near-names-v0", "did you mean 'near_names'"), ("near_names:near-name-v0", "did you mean near-names-v0"),
])  # fmt: skip
def test_an_environment(name, near):
    user_modules.admit(Namespace(env="near_names:x"))
    with pytest.raises(ConfigError, match=near):
        environment(name)


def test_what_is_checked_and_what_acts():
    with pytest.raises(ConfigError, match=r"cannot import 'near_name' .*; did you mean 'near_names'"):
        subject("near_name:near-names-v0")
    with pytest.raises(registry.UnknownAgent, match="no module 'near_name' on the path; did you mean 'near_names'"):
        registry.find("near_name:Draw")


def test_a_parameter_that_a_gate_wants_is_named():
    user_modules.admit(Namespace(set=["env.gates=[near_names:Half]"]))
    (gate,) = resolve([{"gate": "near_names:Half", "most": 7}])
    assert gate.most == 7 and gate.described() == {"gate": "near_names:Half", "most": 7}
    with pytest.raises(ConfigError, match=r"missing a required argument: 'folder'|needs a folder"):
        resolve("kill-switch")


# ------------------------------------------------------------- parameters that are called as the environment's own keywords


@dataclass
class Long(TradeBook):
    episode: int = 3


@dataclass
class Split(Reward):
    split: float = 0.5


class Levels(FeatureSet):
    def __init__(self, levels: int = 2) -> None: ...


class Timed(Market):
    @dataclass
    class Config:
        every: int = 5


@pytest.mark.parametrize(("keyword", "kind", "taken"), [
    ("task", Long, "episode"), ("reward", Split, "split"), ("features", Levels, "levels"), ("market", Timed, "every"),
])  # fmt: skip
@pytest.mark.parametrize(
    "given", [lambda kind, word: kind, lambda kind, word: {word: kind}, lambda kind, word: f"{__name__}:{kind.__name__}"]
)
def test_a_parameter_that_would_be_shadowed_is_refused(keyword, kind, taken, given):
    entry = given(kind, keyword)
    with pytest.raises(ConfigError, match=rf"{keyword} .*{kind.__name__}' has a parameter '{taken}', which is a keyword of the env"):
        gym.make("emp-lob-v0", **{keyword: [entry] if keyword == "features" else entry}, episode="64 decisions")


def test_what_is_ours_shadows_nothing():
    assert issubclass(Long, Task)
    for env_id in ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"):
        gym.make(env_id)
