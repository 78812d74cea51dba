"""Certification: what a score is, and that it can be failed."""

import json

import gymnasium as gym
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.agents.base import BaseAgent
from emp_gym.agents.hyperparams import PRESETS, REMEMBERING, preset
from emp_gym.agents.optimal_policies import Naive, Optimal
from emp_gym.cli import check
from emp_gym.envs import CERTIFICATES
from emp_gym.training import certify as module
from emp_gym.training.certify import certify, judge
from emp_gym.types import ConfigError


class Skewed(BaseAgent):
    """Quotes a fixed distance, skewed by the inventory: good and not optimal."""

    def act(self, observation, state, mask=None):
        q = observation[:, 1]
        return np.stack([-0.4 + 1.5 * q, -0.4 - 1.5 * q], axis=1).clip(-1, 1).astype(np.float32), state


class Remembering(Skewed):
    """The same with a state, so that nobody may take its actions for a function of what it sees."""

    def initial_state(self, lanes):
        return np.zeros(lanes)


class Follower(BaseAgent):
    """Follows the last move on the trend rung; with a state, `Remembering` in another place."""

    def act(self, observation, state, mask=None):
        return np.where(observation[:, 1] > 0, 2, 1), state  # long, short


def built(agent_class, env_id):
    env = gym.make_vec(env_id, num_envs=1)
    return agent_class(env.single_observation_space, env.single_action_space, env.spec)


@pytest.mark.parametrize("env_id", sorted(CERTIFICATES))
def test_the_optimal_policy_scores_one_and_the_naive_one_scores_nothing(env_id):
    one, nothing = judge(built(Optimal, env_id), env_id, 2048), judge(built(Naive, env_id), env_id, 2048)
    assert one.score == pytest.approx(1.0, abs=1e-9)
    assert abs(nothing.score) <= 4.5 * nothing.error + 1e-6


def test_an_exact_judgement_is_what_sampling_comes_to():
    env_id = "emp-cartea-jaimungal-v0"
    exact, sampled = judge(built(Skewed, env_id), env_id), judge(built(Remembering, env_id), env_id, 8192)
    assert (exact.exact, sampled.exact) == (True, False)
    assert 0.0 < exact.score < 0.95
    assert sampled.score == pytest.approx(exact.score, abs=4.5 * sampled.error)
    assert sampled.error < 0.03


def test_a_table_is_judged_exactly():
    found = judge(built(Follower, "emp-ladder-trend-v0"), "emp-ladder-trend-v0")
    assert found.exact
    assert found.score == pytest.approx(1.0, abs=0.05)
    assert found.turnover > 0.1


def test_an_agent_that_trades_noise_does_not_abstain():
    assert not certify("random", "emp-ladder-noise-v0", [0, 1]).passed
    assert certify("hold", "emp-ladder-noise-v0", [0, 1]).passed


def test_ppo_is_certified_on_a_rung_in_seconds_and_fails_the_one_that_needs_memory():
    learned = certify("ppo", "emp-ladder-trend-v0", [0], total_timesteps=500_000)
    assert learned.passed
    assert learned.score.mean > 0.95
    forgot = certify("ppo", "emp-ladder-memory-v0", [0], total_timesteps=100_000)
    assert not forgot.passed
    assert forgot.score.mean < 0.1


@pytest.mark.slow
def test_ppo_with_a_memory_passes_the_rung_that_needs_one():
    """Minutes. Seeds 1 and 2 pass, too (docs/ppo.md)."""
    learned = certify("ppo", "emp-ladder-memory-v0", [0], total_timesteps=700_000, config={"extractor": "gru"})
    assert learned.passed
    assert learned.score.mean > 0.95


def test_steps_are_told_as_they_were_taken_and_not_as_they_were_asked_for():
    rollouts = certify("ppo", "emp-ladder-trend-v0", [0], total_timesteps=1000, config={"num_envs": 64, "n_steps": 24, "batch_size": 256})
    assert rollouts.env_steps == 1536
    assert certify("hold", "emp-ladder-noise-v0", [0]).env_steps == 0


def test_a_preset_is_for_an_environment_and_parameters_that_exist():
    for agent, table in PRESETS.items():
        known = set(registry.find(agent).Config.__dataclass_fields__)
        for env_id, parameters in table.items():
            assert env_id in gym.registry
            assert set(parameters) <= known
    assert preset("ppo", "emp-unknown-v0")[1] == {}
    for agent, table in REMEMBERING.items():
        for env_id, extractors in table.items():
            for extractor in extractors:
                registry.find(agent).Config(extractor=extractor, **preset(agent, env_id, {"extractor": extractor})[1])
    assert preset("ppo", "emp-ladder-memory-v0")[1] == {}, "memory is asked for, or there is none"


def test_what_has_no_known_optimum_cannot_be_certified():
    with pytest.raises(ConfigError, match="no certificate"):
        certify("hold", "emp-lob-v0", [0])


def test_the_command_prints_one_object_or_a_table(capsys):
    ids = ["emp-ladder-quote-v0", "emp-ladder-noise-v0"]
    status = check.main(["--certify", "--agent", "random", "--only", *ids, "--seeds", "2", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert status == 1
    assert list(record) == ids
    assert {"score", "low", "high", "seeds", "env_steps", "seconds"} <= set(record[ids[0]])
    assert check.main(["--certify", "--agent", "random", "--only", ids[0], "--seeds", "1"]) == 1
    assert "ladder-quote" in capsys.readouterr().out


def test_the_command_takes_parameters_of_the_agent_and_says_what_is_none(capsys, monkeypatch):
    from emp_gym.agents.ppo import PPO

    seen = []
    monkeypatch.setattr(PPO, "learn", lambda self, make_env, steps, callback=None: seen.append((self.config, steps)))
    asked = ["--certify", "--agent", "ppo", "--only", "emp-ladder-memory-v0", "--seeds", "1", "--json", "--set"]
    assert check.main([*asked, "extractor=gru", "agent.n_steps=32"]) == 1
    (config, steps), = seen
    assert (config.extractor, config.n_steps) == ("gru", 32)
    assert config.gamma == preset("ppo", "emp-ladder-memory-v0", {"extractor": "gru"})[1]["gamma"], "the preset of memories"
    assert steps == preset("ppo", "emp-ladder-memory-v0", {"extractor": "gru"})[0]
    for wrong, says in (
        ("agent.n_step=3", "agent.n_steps"),
        ("total_timesteps=3", "agent.KEY and env.KEY only"),
        ("env.reward=certain", "risk aversion"),
    ):
        assert check.main([*asked, wrong]) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.main(["--agent", "ppo", "--set", "extractor=gru"])


def test_the_command_needs_an_agent(capsys):
    with pytest.raises(SystemExit):
        check.main(["--certify", "--env", "emp-ladder-quote-v0"])
    assert "--agent" in capsys.readouterr().err


def test_episodes_of_the_optimum_are_played_once(monkeypatch):
    monkeypatch.setattr(module, "_kept", {})
    for _ in range(2):
        judge(built(Naive, "emp-garleanu-pedersen-v0"), "emp-garleanu-pedersen-v0", 64)
    assert list(module._kept) == [("emp-garleanu-pedersen-v0", 64, "test")]


def test_the_record_is_json_that_anybody_reads():
    record = certify("hold", "emp-cartea-jaimungal-v0", [0, 1]).as_json()
    assert json.loads(json.dumps(record, allow_nan=False))["turnover"] == [None, None]


def test_an_agent_that_draws_its_actions_is_sampled():
    env_id = "emp-ladder-trend-v0"
    env = gym.make_vec(env_id, num_envs=1)
    drawing = registry.find("ppo")(env.single_observation_space, env.single_action_space, env.spec, deterministic=False)
    assert not judge(drawing, env_id, 256).exact
    assert judge(built(registry.find("ppo"), env_id), env_id).exact


def test_a_problem_without_days_cannot_be_governed(tmp_path, capsys):
    from emp_gym.cli import train

    arguments = ["--env", "emp-ladder-quote-v0", "--govern", str(tmp_path / "log"), "--run-dir", str(tmp_path / "run")]
    assert train.main(arguments) == 2
    assert "nothing to govern" in capsys.readouterr().err


def test_flags_that_would_do_nothing_and_names_that_are_none_are_refused(capsys):
    for arguments, words in (
        (["--agent", "random", "--only", "emp-ladder-noise-v0"], "belong to --certify"),
        (["--certify", "--agent", "random", "--seeds", "0"], "expected 1 or more"),
    ):
        with pytest.raises(SystemExit):
            check.main(arguments)
        assert words in capsys.readouterr().err
    assert check.main(["--certify", "--agent", "random", "--only", "emp-ladder-nose-v0"]) == 2
    assert "did you mean emp-ladder-noise-v0" in capsys.readouterr().err
