"""Agents, environments and gates of the user's own, as the command line names them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.agents.check import conformance
from emp_gym.cli import check, evaluate, train, user_modules
from emp_gym.envs import gates
from emp_gym.envs.conformance.subject import resolve
from emp_gym.runs.config import agent_parameters
from emp_gym.runs.contract import environment
from emp_gym.types import ConfigError

AGENT = """
import numpy as np
from emp_gym.agents.base import BaseAgent

class Still(BaseAgent):
    def act(self, observation, state, mask=None):
        return np.zeros(len(observation), np.int64), state
"""
PLAIN = """
import gymnasium as gym
import numpy as np

class Plain(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}

gym.register("NAME-v0", "NAME:Plain", max_episode_steps=5)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of one's own; what is put on the path is taken away again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_of_the_working_folder_is_found_when_it_is_named(here):
    (here / "own_agents_a.py").write_text(AGENT)
    with pytest.raises(registry.UnknownAgent, match="PYTHONPATH"):
        registry.find("own_agents_a:Still")
    user_modules.admit(Namespace(agent="own_agents_a:Still"))
    assert registry.find("own_agents_a:Still").__name__ == "Still"


@pytest.mark.parametrize("name", ["./{file}:Still", "{folder}/{file}:Still", "below/../{file}:Still"])
def test_a_file_is_the_module_that_it_is(name, here):
    stem = f"own_agents_{abs(hash(name)) % 10**8}"
    (here / f"{stem}.py").write_text(AGENT)
    (here / "below").mkdir()
    arguments = Namespace(agent=name.format(file=f"{stem}.py", folder=here), env=None)
    user_modules.admit(arguments)
    assert arguments.agent == f"{stem}:Still"
    assert registry.find(arguments.agent).__name__ == "Still"


def test_gates_inside_a_setting_are_found_too(here):
    (here / "own_gates_a.py").write_text("class Open:\n    def __call__(self, state, orders):\n        return orders, None\n")
    user_modules.admit(Namespace(set=['env.gates=["own_gates_a:Open"]']))
    (gate,) = gates.resolve("own_gates_a:Open")
    assert gate.title == "own_gates_a:Open"


@pytest.mark.parametrize("text", [
    "env.reward=./{}:Own", "env.gates=[\"{}:Own\"]", "env.reward={{reward: below/../{}:Own, capital: 5}}", "agent.network={here}/{}:Own"
])  # fmt: skip
def test_a_file_inside_a_setting_is_the_module_that_it_is(text, here):
    stem = f"own_inside_{abs(hash(text)) % 10**8}"
    (here / f"{stem}.py").write_text("class Own: ...\n")
    (here / "below").mkdir()
    arguments = Namespace(set=[typed := text.format(f"{stem}.py", here=here)])
    user_modules.admit(arguments)
    assert arguments.set == [re.sub(r'[^"= ]*\.py', stem, typed)]
    with pytest.raises(ConfigError, match="there is no file"):
        user_modules.admit(Namespace(set=["env.reward=./not_there.py:Own"]))


def test_the_working_folder_hides_nothing_that_is_installed(here):
    (here / "json.py").write_text("raise RuntimeError('not this one')")
    user_modules.admit(Namespace(agent="json:JSONDecoder"))
    assert sys.path[-1] == str(here)
    with pytest.raises(ConfigError, match="another module 'json'"):
        user_modules.admit(Namespace(agent="./json.py:JSONDecoder"))


def test_a_name_alone_puts_nothing_on_the_path(here):
    before = list(sys.path)
    user_modules.admit(Namespace(agent="ppo", env="emp-lob-v0", agents=["hold"], set=["agent.gamma=0.9", "env.episode=10 decisions"]))
    assert sys.path == before


@pytest.mark.parametrize("name", ["./x.py:A", "a/b:A", ":A", "1x:A", "a-b:A"])
def test_what_is_no_module_is_said_to_be_none(name):
    with pytest.raises(ConfigError, match=r"no module|no file|expected FILE"):
        user_modules.admit(arguments := Namespace(agent=name))
        registry.find(arguments.agent)
    with pytest.raises(ConfigError):
        registry.find(name)
    with pytest.raises(ConfigError):
        gates.resolve(name)
    if name != ":A":
        with pytest.raises(ConfigError):
            environment(name)
        with pytest.raises(ConfigError):
            resolve(name)


def test_a_missing_file_and_a_missing_class_are_named(here, capsys):
    assert evaluate.main(["--env", "emp-lob-v0", "--agent", "./nothing.py:A"]) == 2
    assert f"there is no file {here / 'nothing.py'}" in capsys.readouterr().err
    (here / "own_agents_b.py").write_text(AGENT)
    assert evaluate.main(["--env", "emp-lob-v0", "--agent", "own_agents_b:Stil"]) == 2
    assert "did you mean Still" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no module 'not_here_at_all'"):
        gates.resolve("not_here_at_all:Gate")


@pytest.mark.parametrize("script", ["scripts/check.py", "emp-check"])
def test_scripts_and_installed_commands_find_it_alike(script, here, root):
    (here / "own_agents_c.py").write_text(AGENT.replace("class Still", "Other = 1\nclass Still"))
    program = f"import sys; sys.argv[0] = {script!r}\nfrom emp_gym.cli.check import main\nsys.exit(main())"
    words = [root / script] if script.endswith(".py") else ["-c", program]
    run = subprocess.run([sys.executable, *words, "--agent", "own_agents_c:Other"], capture_output=True, text=True, timeout=200,
                         env=os.environ | ({} if script.endswith(".py") else {"PYTHONPATH": str(root)}))  # fmt: skip
    assert run.returncode == 2
    assert "own_agents_c:Other is not an agent class" in run.stderr


# ------------------------------------------------------------------------------------- what does not fit


def plain(folder: Path, name: str) -> str:
    (folder / f"{name}.py").write_text(PLAIN.replace("NAME", name))
    return f"{name}:{name}-v0"


def test_an_environment_without_a_split_is_told_what_it_lacks(here, capsys):
    name = plain(here, "own_plain_a")
    assert train.main(["--env", name, "--total-timesteps", "10"]) == 2
    assert "takes no `split`" in capsys.readouterr().err
    assert train.main(["--env", "CartPole-v1", "--total-timesteps", "10"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the training contract (docs/own_environment.md)" in error and "`split`" in error and "`autoreset_mode`" in error


def test_the_check_says_what_keeps_an_environment_from_being_trained_on(here, capsys):
    name = plain(here, "own_plain_b")
    assert check.main(["--env", name, "--skip", "conformance"]) == 0
    said = capsys.readouterr().out
    assert "train.py does not take it yet: it does not keep the training contract" in said
    for lack in ("takes no `split`", "has no windows(count)", "has no info['summary'] with pnl, return, length"):
        assert f"it {lack}" in said


def test_an_agent_outside_of_its_space_is_a_finding(here):
    class Wild(registry.find("hold")):  # type: ignore[misc]
        def act(self, observation, state, mask=None):
            return np.full(len(observation), 99), state

    found = conformance(Wild, "emp-ladder-trend-v0")
    assert {finding.check for finding in found} == {"actions_fit_the_space"}
    assert "outside of" in found[0].what


@pytest.mark.parametrize(
    ("agent", "parameter", "value"),
    [("ppo", "learning_rate", -1), ("ppo", "gamma", 2), ("ppo", "clip_range", 0), ("ppo", "layers", [0]), ("ppo", "gae_lambda", -0.1),
     ("ppo", "final_learning_rate", float("inf")), ("muzero", "learning_rate", -1), ("muzero", "gamma", 2)],
)  # fmt: skip
def test_a_parameter_out_of_range_is_one_sentence(agent, parameter, value):
    cls = registry.find(agent)
    known = agent_parameters(agent, {parameter: value})
    with pytest.raises(ConfigError, match=f"{parameter}: expected"):
        cls(gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(2), None, seed=0, **known)
