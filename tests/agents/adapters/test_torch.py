"""A torch module as CleanRL writes them is an agent: it conforms, it learns, and its PPO does what PPO says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

from emp_gym.agents import registry
from emp_gym.agents.adapters import TorchAgent
from emp_gym.agents.check import conformance
from emp_gym.types import ConfigError, DataError

fakes.register()
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SMALL = {"num_envs": 16, "num_steps": 32, "update_epochs": 1}


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


class Levers(nn.Module):
    """A Gaussian over levers, as in CleanRL's ppo_continuous_action.py."""

    def __init__(self, envs: Any) -> None:
        super().__init__()
        inputs, outputs = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]
        self.critic, self.actor_mean = nn.Linear(inputs, 1), nn.Linear(inputs, outputs)
        self.actor_logstd = nn.Parameter(torch.zeros(1, outputs))

    def get_value(self, x: torch.Tensor) -> torch.Tensor:
        return self.critic(x)

    def get_action_and_value(self, x: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        mean = self.actor_mean(x)
        probs = Normal(mean, self.actor_logstd.expand_as(mean).exp())
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


class OfLevers(TorchAgent):
    network = Levers


def built(cls: Any, seed: int = 0, env_id: str = "fake-lob-v0", **config: Any) -> Any:
    import gymnasium as gym

    env = gym.make_vec(env_id, num_envs=1)
    return cls(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **config)


def test_the_example_conforms() -> None:
    assert conformance(registry.find("cleanrl_agent:CleanRL"), "fake-lob-v0", **SMALL) == []


def test_levers_conform() -> None:
    assert conformance(OfLevers, "fake-box-v0", **SMALL) == []


def test_scores_are_the_log_probabilities_of_the_module() -> None:
    agent = built(registry.find("cleanrl_agent:CleanRL"))
    x = torch.randn(5, len(fakes.FEATURES))
    with torch.no_grad():
        expected = torch.log_softmax(agent.module.actor(x), dim=1)
        assert torch.allclose(agent.scores(x), expected, atol=1e-6)


def test_advantages_are_those_of_the_sum_over_the_future() -> None:
    """GAE by its definition, one lane and step at a time."""
    agent = built(registry.find("cleanrl_agent:CleanRL"))
    rng, c = np.random.default_rng(0), agent.config
    t, n = 9, 3
    reward, value, after = rng.normal(size=(t, n)), rng.normal(size=(t + 1, n)), None
    after, goes_on = value[-1], (rng.random((t, n)) > 0.3).astype(float)
    columns = {"value": value[:-1], "reward": reward, "goes_on": goes_on}
    found = agent._advantages({k: torch.from_numpy(v) for k, v in columns.items()}, torch.from_numpy(after))
    for lane in range(n):
        for start in range(t):
            total, weight = 0.0, 1.0
            for step in range(start, t):
                delta = reward[step, lane] + c.gamma * value[step + 1, lane] * goes_on[step, lane] - value[step, lane]
                total += weight * delta
                weight *= c.gamma * c.gae_lambda * goes_on[step, lane]
            assert found["advantage"].reshape(t, n)[start, lane].item() == pytest.approx(total)


def test_it_learns_the_trend() -> None:
    from emp_gym.training.certify import Attempt, attempt

    config = {"num_envs": 64, "num_steps": 32, "update_epochs": 2}
    judgement = attempt(Attempt("cleanrl_agent:CleanRL", "emp-ladder-trend-v0", 0, 60_000, config)).judgement
    assert judgement.score > 0.9


def test_a_file_is_read_only_when_trusted(tmp_path: Path) -> None:
    agent, path = built(registry.find("cleanrl_agent:CleanRL"), seed=4), tmp_path / "agent.pt"
    torch.save(agent.module.state_dict(), path)
    cls = registry.find("cleanrl_agent:CleanRLFile")
    with pytest.raises(ConfigError, match="trusted=true"):
        built(cls, path=str(path))
    theirs = built(cls, path=str(path), trusted=True)
    seen = np.random.default_rng(1).normal(size=(64, len(fakes.FEATURES))).astype(np.float32)
    assert np.array_equal(theirs.act(seen, None)[0], agent.act(seen, None)[0])
    assert not hasattr(theirs, "learn")


def test_a_program_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"actor.0.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(DataError, match="no plain weights"):
        built(registry.find("cleanrl_agent:CleanRLFile"), path=str(tmp_path / "trap.pt"), trusted=True)
    assert not (tmp_path / "sprung").exists()


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(ConfigError, match="needs a network"):
        built(TorchAgent)
    with pytest.raises(ConfigError, match="cannot be built for Box"):
        built(registry.find("cleanrl_agent:CleanRL"), env_id="fake-box-v0")
