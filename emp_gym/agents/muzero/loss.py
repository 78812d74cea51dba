"""What the networks learn from: stretches of play, rolled out through the model and compared with what happened.

Letters: B stretches, K steps rolled out, D features, C codes. The columns that an account keeps are those that were seen, so
no error of theirs can grow along a stretch; the market's latent is the model's own, and half of its gradient goes on from
one step to the one before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from emp_gym.agents.muzero.actions import Actions
from emp_gym.agents.muzero.networks import Networks
from emp_gym.agents.muzero.replay import Batch


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss (the settings of LightZero; `end` and `entropy` are ours)."""

    policy: float = 1.0
    value: float = 0.25
    reward: float = 1.0
    end: float = 1.0
    chance: float = 1.0
    after_value: float = 0.25
    commitment: float = 1.0
    consistency: float = 2.0
    entropy: float = 0.0


@dataclass(frozen=True)
class Rollout:
    """The model's own course along B stretches."""

    states: Tensor  # [B, K + 1, P + H]
    afters: Tensor  # [B, K, P + A + H]
    reward: Tensor  # [B, K, 51] logits
    end: Tensor  # [B, K] logits
    codes: Tensor  # [B, K, C] weights of the codes that happened
    commitment: Tensor  # [B, K] how undecided learned codes are


def roll_out(networks: Networks, batch: dict[str, Tensor]) -> Rollout:
    """The states that the model passes through when it is told what was done and which codes came."""
    following = batch["following"][:, :-1]
    codes, commitment = _codes(networks, batch)
    state = networks.represent(batch["observation"][:, 0])
    states, steps = [state], []
    for k in range(following.shape[1]):
        after = networks.afterstate(state, batch["action"][:, k])
        market, reward, end = networks.outcome(after, codes[:, k])
        market = 0.5 * market + 0.5 * market.detach()
        state = torch.cat((following[:, k][:, networks.columns], market), -1)
        steps.append((after, reward, end))
        states.append(state)
    afters, rewards, ends = (torch.stack(parts, 1) for parts in zip(*steps))
    return Rollout(torch.stack(states, 1), afters, rewards, ends, codes, commitment)


def _codes(networks: Networks, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    if networks.encoder is None:
        codes = F.one_hot(batch["code"][:, :-1], networks.shape.codes).float()
        return codes, torch.zeros(codes.shape[:2])
    codes, answer = networks.code_of(batch["observation"][:, :-1], batch["following"][:, :-1])
    return codes, (answer - codes.detach()).square().mean(-1)


def loss(
    networks: Networks, actions: Actions, batch: dict[str, Tensor], gamma: float, weights: Weights
) -> tuple[Tensor, dict[str, float], Tensor]:
    """(loss, its parts, how wrong the value of each first state was [B]); `batch` as tensors, see `tensors`, and with ``share``
    [B]: how much each row teaches policy and value."""
    rolled = roll_out(networks, batch)
    states, steps = _of_states(networks, actions, rolled, batch), _of_steps(networks, rolled, batch, gamma)
    error = states.pop("error")[:, 0]
    lived, share = batch["lived"][:, :-1].float(), batch["share"][:, None]
    parts = {name: part * lived * share for name, part in states.items()}
    parts |= {name: part * lived for name, part in steps.items()}
    means = {name: (part.mean(1) * batch["weight"]).mean() for name, part in parts.items()}
    shares = {field.name: getattr(weights, field.name) for field in fields(weights)}
    total = torch.stack([shares[name] * mean for name, mean in means.items()]).sum()
    return total, {name: float(mean.detach()) for name, mean in means.items()}, error


def _of_states(networks: Networks, actions: Actions, rolled: Rollout, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts [B, K] that belong to the states before each step."""
    policy, value = networks.predict(rolled.states[:, :-1])
    wanted, scale = batch["value"][:, :-1], networks.value_scale.size
    return {
        "policy": actions.loss(policy, batch["policy"][:, :-1]),
        "entropy": -actions.entropy(policy),
        "value": cross_entropy(value, networks.support.encode(wanted / scale)),
        "error": (networks.value_of(value.detach()) - wanted).abs() / scale,
    }


def _of_steps(networks: Networks, rolled: Rollout, batch: dict[str, Tensor], gamma: float) -> dict[str, Tensor]:
    """Parts [B, K] that belong to steps. What the afterstate is worth: the reward, and what was thought of the next state."""
    finished, encode = batch["finished"][:, :-1].float(), networks.support.encode
    gained = batch["reward"][:, :-1]
    parts = {
        "reward": cross_entropy(rolled.reward, encode(gained / networks.reward_scale.size)),
        "end": F.binary_cross_entropy_with_logits(rolled.end, finished, reduction="none"),
        "commitment": rolled.commitment,
    }
    if networks.shape.codes > 1:
        chance, value = networks.chance(rolled.afters)
        worth = gained + gamma * (1 - finished) * batch["value"][:, 1:]
        known = torch.maximum(finished, batch["lived"][:, 1:].float())
        parts["chance"] = cross_entropy(chance, rolled.codes.detach())
        parts["after_value"] = known * cross_entropy(value, encode(worth / networks.value_scale.size))
    if networks.market:
        parts["consistency"] = _consistency(networks, rolled, batch)
    return parts


def _consistency(networks: Networks, rolled: Rollout, batch: dict[str, Tensor]) -> Tensor:
    """1 - cosine [B, K] between where the model went and what was then seen, which is held still (SimSiam)."""
    with torch.no_grad():
        seen = networks.represent(batch["following"][:, :-1])[..., networks.private :]
        seen = networks.project(seen)
    went = networks.foresee(networks.project(rolled.states[:, 1:, networks.private :]))
    return 1 - F.cosine_similarity(went, seen, dim=-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """[...] of `logits` [..., n] against the weights `target`."""
    return -(target * logits.log_softmax(-1)).sum(-1)


def tensors(batch: Batch) -> dict[str, Tensor]:
    """The arrays of a batch as tensors."""
    return {field.name: torch.from_numpy(getattr(batch, field.name)) for field in fields(batch)}
