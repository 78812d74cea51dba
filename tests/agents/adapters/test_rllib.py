"""RLlib on our native environments: episodes are counted right, modules act as RLlib does, files are opened when trusted."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from emp_gym.types import ConfigError, DataError

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

DATA = {"data": "synthetic:rows=6000"}
SMALL = {"num_envs": 8, "n_steps": 32, "batch_size": 64, "n_epochs": 1, "layers": (8,)}


def environment(mode: str = "NextStep", lanes: int = 1, env_id: str = "emp-lob-v0", **keywords: Any) -> Any:
    return gym.make_vec(env_id, num_envs=lanes, autoreset_mode=mode, **(DATA if env_id == "emp-lob-v0" else {}), **keywords)


def built(env_id: str = "emp-lob-v0", seed: int = 1, **config: Any) -> Any:
    from emp_gym.agents.adapters import RLlibPPO

    env = environment(env_id=env_id)
    return RLlibPPO(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **(SMALL | config))


def test_every_step_and_reward_of_an_episode_is_counted_once() -> None:
    """RLlib's sampler on our environment, against the environment's own summaries: no Ray is started for it."""
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
    from ray.tune.registry import register_env

    from emp_gym.agents.adapters import rllib

    register_env(rllib.HOME, partial(rllib.next_step_env, *rllib.recipe(environment())))
    settings = built()._settings()
    settings.freeze()
    sampler = SingleAgentEnvRunner(config=settings, worker_index=0)
    steps: dict[str, int] = {}
    returns: dict[str, float] = {}
    ended = 0
    for _ in range(8):
        sample = sampler.sample()
        assert sum(len(chunk) for chunk in sample) == SMALL["num_envs"] * SMALL["n_steps"]
        for chunk in sample:
            steps[chunk.id_] = steps.get(chunk.id_, 0) + len(chunk)
            returns[chunk.id_] = returns.get(chunk.id_, 0.0) + chunk.get_return()
            if chunk.is_done:
                ended += 1
                summary = chunk.get_infos(-1)["summary"]
                assert steps[chunk.id_] == summary["length"]
                assert returns[chunk.id_] == pytest.approx(summary["return"])
    assert ended >= 2 * SMALL["num_envs"]


def test_an_environment_that_resets_in_the_same_step_is_refused() -> None:
    from emp_gym.agents.adapters import rllib

    with pytest.raises(ConfigError, match="resets in the next step"):
        rllib.recipe(environment("SameStep"))


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-cartea-jaimungal-v0"])
def test_a_module_acts_as_rllib_says(env_id: str) -> None:
    """RLlib's own path: module, distribution, its mode, and the connector that unsquashes and clips."""
    import torch
    from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

    agent, env = built(env_id), environment(lanes=16, env_id=env_id)
    seen = env.reset(seed=0)[0]
    with torch.no_grad():
        inputs = agent.module.forward_inference({"obs": torch.from_numpy(seen)})["action_dist_inputs"]
        expected = agent.module.get_inference_action_dist_cls().from_logits(inputs).to_deterministic().sample().numpy()
    if isinstance(env.single_action_space, gym.spaces.Box):
        space = env.single_action_space
        expected = np.stack([clip_action(unsquash_action(row, space), space) for row in expected])
    assert np.allclose(agent.act(seen, None)[0], expected)


@pytest.mark.slow
def test_rllib_ppo_conforms() -> None:
    from emp_gym.agents.check import conformance

    assert conformance("rllib-ppo", "emp-lob-v0", DATA, **(SMALL | {"num_envs": 32})) == []


@pytest.mark.slow
def test_actors_sample_and_the_run_is_a_run(tmp_path: Path, capsys: Any) -> None:
    from emp_gym.cli import evaluate, train

    root = tmp_path / "run"
    line = ["--env", "emp-lob-v0", "--data", DATA["data"], "--agent", "rllib-ppo", "--total-timesteps", "2048", "--set", "agent.n_steps=32",
            "agent.num_envs=8", "agent.batch_size=64", "agent.n_epochs=1"]  # fmt: skip
    assert train.main([*line, "--run-dir", str(root), "--engine", "ray", "--num-workers", "2", "--no-evaluation"]) == 0
    config = json.loads((root / "config.json").read_text())
    assert config["agent"]["num_env_runners"] == 2
    rows = [line.split(",") for line in (root / "curves.csv").read_text().splitlines()]
    at = {name: column for column, name in enumerate(rows[0])}
    assert [int(row[0]) for row in rows[1:]] == [512, 1024, 1536, 2048]
    assert {row[at["rollout/ep_len_mean"]] for row in rows[1:]} <= {"60", ""}, "what RLlib adds while it learns is not counted"
    assert sum(float(row[at["rollout/episodes"]]) for row in rows[1:]) == 2048 // 60 // 16 * 16
    capsys.readouterr()
    assert evaluate.main(["--run", str(root), "--json", "--episodes", "2", "--set", "evaluation.baselines=[hold]"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_checkpoint_is_opened_only_when_trusted(tmp_path: Path) -> None:
    from emp_gym.agents.adapters import RLlibCheckpoint
    from emp_gym.agents.adapters.rllib import RLlibPolicy

    agent, env = built(), environment(lanes=16)
    agent.module.save_to_path(tmp_path / "theirs")
    spaces = (env.single_observation_space, env.single_action_space, env.spec)
    with pytest.raises(ConfigError, match=r"pickles.*trusted=true"):
        RLlibCheckpoint(*spaces, path=str(tmp_path / "theirs"))
    with pytest.raises(DataError, match="no RLlib checkpoint"):
        RLlibCheckpoint(*spaces, path=str(tmp_path), trusted=True)
    seen = env.reset(seed=0)[0]
    expected = agent.act(seen, None)[0]
    assert np.array_equal(RLlibCheckpoint(*spaces, path=str(tmp_path / "theirs"), trusted=True).act(seen, None)[0], expected)
    assert np.array_equal(RLlibPolicy.wrap(agent.module, env.spec).act(seen, None)[0], expected)


def test_workers_belong_to_ray_and_not_to_processes(capsys: Any) -> None:
    from emp_gym.cli import train

    assert train.main(["--env", "emp-lob-v0", "--agent", "rllib-ppo", "--engine", "processes"]) == 2
    assert "workers of its own, on Ray" in capsys.readouterr().err
