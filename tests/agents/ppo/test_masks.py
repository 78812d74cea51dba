"""Masks while learning, as in MaskablePPO (Huang and Ontañón 2020, arXiv 2006.14171), and against sb3-contrib's own numbers."""

from __future__ import annotations

from typing import Any

import fakes
import numpy as np
import pytest
import torch

from emp_gym.agents.ppo import PPO
from emp_gym.agents.ppo.policy import PolicyInput

SMALL: dict[str, Any] = {"num_envs": 16, "n_steps": 16, "batch_size": 64, "n_epochs": 2, "layers": (16,), "threads": 1}
ROLLOUT = 256


def agent(seed: int = 0, env_id: str = "fake-lob-v0", **config: Any) -> PPO:
    env = fakes.make_env(1, id=env_id)
    return PPO(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **{**SMALL, **config})


def drawn_masks(rows: int) -> torch.Tensor:
    masks = torch.rand(rows, 11, generator=torch.Generator().manual_seed(3)) < 0.5
    masks[:, 0] = True
    masks[0] = True
    masks[1, 1:] = False
    return masks


@pytest.mark.parametrize("extractor", ["mlp", "gru"])
def test_log_probabilities_and_entropies_are_those_of_sb3_contrib(extractor: str) -> None:
    """The same logits and masks into `MaskableCategorical`: probabilities of every action, entropy, and the gradient of both."""
    contrib = pytest.importorskip("sb3_contrib.common.maskable.distributions")
    one, masks = agent(extractor=extractor), drawn_masks(50)
    torch.nn.init.normal_(one.policy.action_net.weight, 0.0, 2.0, generator=torch.Generator().manual_seed(1))
    observation = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    state = one.policy.initial_state(50) or None
    free = one.policy.decide(PolicyInput(observation, state=state))[0].detach()
    theirs = contrib.MaskableCategorical(logits=free.clone(), masks=masks.numpy())
    actions = torch.from_numpy(np.argmax(np.random.default_rng(0).random((50, 11)) * masks.numpy(), axis=1))
    _, log_probs, entropy = one.policy.evaluate_actions(PolicyInput(observation, masks, state=state), actions)
    ours = one.policy.decide(PolicyInput(observation, masks, state=state))[0]
    assert torch.allclose(ours.exp(), theirs.probs, atol=1e-6)
    assert torch.allclose(log_probs, theirs.log_prob(actions), atol=1e-5)
    assert entropy is not None and torch.allclose(entropy, theirs.entropy(), atol=1e-5)
    (log_probs.sum() + entropy.sum()).backward()
    gradient = one.policy.action_net.weight.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all())


def test_a_rollout_takes_no_masked_action_and_the_update_is_shown_the_same_masks() -> None:
    masked, taken = [], []

    def make_env(num_envs: int | None = None, **keywords: Any) -> Any:
        env = fakes.make_env(num_envs, max_position=10, **keywords)
        inner, before = env.step, [None]

        def reset(**given: Any) -> Any:
            observation, info = type(env).reset(env, **given)
            before[0] = info["action_mask"].copy()
            return observation, info

        def step(actions: Any) -> Any:
            masked.append(before[0])
            taken.append(np.array(actions))
            answer = inner(actions)
            before[0] = answer[4]["action_mask"].copy()
            return answer

        env.reset, env.step = reset, step
        return env

    one = agent()
    one.learn(make_env, 4 * ROLLOUT)
    masks, actions = np.stack(masked), np.stack(taken)
    assert not masks.all(), "something was forbidden"
    assert np.take_along_axis(masks, actions[..., None], axis=2).all()
    buffer = one._trainer.rollout_buffer  # type: ignore[union-attr]
    shown = np.concatenate([samples.observations.mask.numpy() for samples in buffer.get(64)])  # type: ignore[attr-defined]
    assert sorted(map(bytes, shown)) == sorted(map(bytes, masks[-16:].reshape(-1, 11)))
    masked.clear(), taken.clear()
    agent(masks=False).learn(make_env, 4 * ROLLOUT)
    assert not np.take_along_axis(np.stack(masked), np.stack(taken)[..., None], axis=2).all()


def test_a_mask_that_allows_all_changes_no_bit() -> None:
    """Also what an environment that publishes none gets."""

    def allowing(num_envs: int | None = None, **keywords: Any) -> Any:
        env = fakes.make_env(num_envs, **keywords)
        env._allowed = lambda: np.ones((env.num_envs, 11), bool)
        return env

    masked, plain = agent(), agent(masks=False)
    masked.learn(allowing, 2 * ROLLOUT)
    plain.learn(allowing, 2 * ROLLOUT)
    assert all(np.array_equal(masked.arrays()[name], array) for name, array in plain.arrays().items())
