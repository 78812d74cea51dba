"""Old names are read for one release: of parameters, of classes that files name, and of what one imports to extend."""

from __future__ import annotations

import gymnasium as gym
import pytest

from emp_gym import extend, renamed
from emp_gym.agents import registry
from emp_gym.agents.base import parameters
from emp_gym.agents.muzero.agent import MuZeroConfig
from emp_gym.agents.ppo import PPO
from emp_gym.agents.ppo.config import PPOConfig
from emp_gym.runs.config import agent_parameters
from emp_gym.types import ConfigError


@pytest.fixture(autouse=True)
def anew():
    renamed._say.cache_clear()


def test_every_new_name_is_a_parameter_and_no_old_one_is():
    known = {*PPOConfig.__dataclass_fields__, *MuZeroConfig.__dataclass_fields__}
    assert set(renamed.PARAMETERS.values()) <= known and not set(renamed.PARAMETERS) & known


def test_an_old_parameter_is_taken_under_its_new_name_with_one_line(caplog):
    assert agent_parameters("ppo", {"entropy": 0.1, "value": 0.4}) == {"ent_coef": 0.1, "vf_coef": 0.4}
    agent_parameters("ppo", {"entropy": 0.2})
    assert [record.getMessage() for record in caplog.records if "entropy" in record.getMessage()] == [
        "entropy is called ent_coef now; the old name goes with the next release"
    ]


def test_an_agent_made_by_hand_takes_an_old_parameter_too():
    env = gym.make_vec("emp-ladder-trend-v0", num_envs=2)
    agent = PPO(env.single_observation_space, env.single_action_space, env.spec, entropy=0.3)
    env.close()
    assert agent.config.ent_coef == 0.3


@pytest.mark.parametrize(("given", "counts"), [({"entropy": 1.0, "ent_coef": 2.0}, 2.0), ({"ent_coef": 2.0, "entropy": 1.0}, 1.0)])
def test_of_both_names_the_later_counts(given, counts):
    assert agent_parameters("ppo", given) == {"ent_coef": counts}


def test_an_old_name_of_another_agents_parameter_is_unknown():
    with pytest.raises(ConfigError, match=r"unknown key 'agent\.refresh'"):
        agent_parameters("ppo", {"refresh": 3})


@pytest.mark.parametrize("old", renamed.CLASSES)
def test_an_old_class_path_leads_to_a_class(old):
    module, _, name = renamed.class_now(old).partition(":")
    assert isinstance(getattr(__import__(module, fromlist=[name]), name), type)


def test_an_agent_is_found_by_the_path_that_it_had():
    assert registry.find("emp_gym.agents.certified:Optimal") is registry.find("optimal")
    assert parameters(registry.find("emp_gym.agents.baselines.schedules:AlmgrenChriss")) is not None


@pytest.mark.parametrize("old", renamed.EXTEND)
def test_extend_knows_its_old_names(old):
    assert getattr(extend, old) is getattr(extend, renamed.EXTEND[old])
