"""The network of PPO: normalised observations, an encoder by name, layers, and a distribution over actions.

It is shown `PolicyInput`: rows of decisions, or whole sequences of lanes where the encoder has memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from emp_gym.agents.backbones import Encoder, State

IMPOSSIBLE = -1e8
"""Logit of a masked action: of probability 0 in float32, and with an entropy that is a number."""


class PolicyInput(NamedTuple):
    """What there is to decide on. Rows are [B, ...] = [N, ...]; with `fresh` they are sequences [T, N, ...]."""

    observation: Tensor  # f4 [..., D]
    mask: Tensor | None = None  # bool [..., A]: what is allowed
    choice: Tensor | None = None  # i8 [...]: entry of the menu that the baseline takes
    state: State | None = None  # of the encoders before the (first) decision, [N, ...]; None: they have no memory
    fresh: Tensor | None = None  # bool [T, N]: an episode begins here


class RunningFeatures(BaseFeaturesExtractor):
    """Flat observations, brought to mean 0 and deviation 1 by statistics that change only in `absorb`, between updates.

    Being buffers of the policy, they are saved with its weights and are frozen at evaluation.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    inverse: torch.Tensor
    count: torch.Tensor

    def __init__(self, observation_space: spaces.Box, active: bool = True) -> None:
        size = int(np.prod(observation_space.shape))
        super().__init__(observation_space, size)
        self.active = active
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.flatten = torch.nn.Flatten()
        self._refresh()

    def _refresh(self) -> None:
        self._shift = self.mean.float()
        self._inverse = torch.rsqrt(self.variance + 1e-4).float()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refresh()

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        flat = self.flatten(observation)
        if not self.active:
            return flat
        return ((flat - self._shift) * self._inverse).clamp_(-10.0, 10.0)

    def absorb(self, observations: np.ndarray) -> None:
        """Counts a rollout [T, N, D] into mean and variance (Chan et al. 1979, parallel form)."""
        if not self.active:
            return
        rows = torch.from_numpy(observations.reshape(-1, self.features_dim)) - self._shift
        count = rows.shape[0]
        ones = torch.ones(
            count
        )  # column sums as matrix-vector products: torch's var_mean over rows is ten times slower
        first, second = (rows.T @ ones).double() / count, (rows.square().T @ ones).double() / count
        mean, variance = first + self._shift.double(), second - first**2
        delta = mean - self.mean
        total = self.count + count
        spread = self.variance * self.count + variance * count + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)
        self._refresh()


class LanePolicy(ActorCriticPolicy):
    """SB3's policy, with an encoder for the policy and one for the value (or one for both), masks, and a baseline's say.

    ``extractor()`` makes an encoder; None: `layers` read the observation itself. `prior` is what the baseline's entry of a menu
    is given, in logits. For menus the numbers that PPO needs are computed without building a `Categorical`, which normalises
    twice: a tenth of the update's time.
    """

    def __init__(
        self, *args: Any, extractor: Callable[[], Encoder] | None = None, shared: bool = False, prior: float = 0.0,
        **keywords: Any,
    ) -> None:  # fmt: skip
        self._extractor, self._prior = extractor, prior
        self._sides = ("policy", "policy" if shared else "value")
        super().__init__(*args, **keywords)

    def _build_mlp_extractor(self) -> None:
        sides = [] if self._extractor is None else sorted(set(self._sides))
        self.encoders = nn.ModuleDict({side: self._extractor() for side in sides})  # type: ignore[misc]
        if sides:
            self.features_dim = int(self._encoder("policy").size)
        super()._build_mlp_extractor()

    def _encoder(self, side: str) -> Encoder:
        encoder = self.encoders[side]
        assert isinstance(encoder, Encoder)
        return encoder

    # ---- memory

    @property
    def recurrent(self) -> bool:
        """Whether its encoders have memory."""
        return any(self._encoder(side).recurrent for side in self.encoders)

    def initial_state(self, lanes: int, sides: tuple[str, ...] | None = None) -> State:
        """Memory of `lanes` fresh lanes, of all encoders or of those of `sides`; empty without memory."""
        return {
            f"{side}.{name}": tensor
            for side in (sides or tuple(self.encoders)) if side in self.encoders
            for name, tensor in self._encoder(side).initial_state(lanes).items()
        }  # fmt: skip

    def reset_state(self, state: State, fresh: Tensor) -> State:
        """`state` with the lanes of `fresh` bool [N] made new."""
        if not state or not bool(fresh.any()):
            return state
        return _join((side, self._encoder(side).reset(_part(state, side), fresh)) for side in self.encoders)

    # ---- what it makes of what it is shown

    def decide(self, seen: PolicyInput) -> tuple[Tensor, Tensor, State]:
        """Log-probabilities [B, A] of a menu, or means [B, A] of Gaussian actions; values [B, 1]; the next state."""
        features = self._features(seen)
        for_policy, state = self._encode("policy", features, seen)
        for_value = for_policy
        if self._sides[1] != "policy":
            for_value, more = self._encode("value", features, seen)
            state = state | more
        return self._actions(for_policy, seen), self.value_net(self.mlp_extractor.forward_critic(for_value)), state

    def act(self, seen: PolicyInput) -> tuple[Tensor, State]:
        """The first and the last of `decide`, without the value's part."""
        latent, state = self._encode("policy", self._features(seen), seen)
        return self._actions(latent, seen), state

    def values(self, seen: PolicyInput) -> Tensor:
        """Values [B, 1]."""
        latent, _ = self._encode(self._sides[1], self._features(seen), seen)
        return self.value_net(self.mlp_extractor.forward_critic(latent))

    def evaluate_actions(
        self, obs: PolicyInput | Tensor, actions: torch.Tensor  # type: ignore[override]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:  # fmt: skip
        """Values [B, 1], log-probabilities [B] and entropies [B]; of sequences B = T N."""
        heads, values, _ = self.decide(obs if isinstance(obs, PolicyInput) else PolicyInput(obs))
        if not isinstance(self.action_space, spaces.Discrete):
            distribution = self.action_dist.proba_distribution(heads, self.log_std)
            return values, distribution.log_prob(actions), distribution.entropy()
        chosen = heads.gather(1, actions.long().reshape(-1, 1)).squeeze(1)
        return values, chosen, -(heads.exp() * heads).sum(dim=1)

    def _features(self, seen: PolicyInput) -> Tensor:
        rows = seen.observation
        if seen.fresh is not None:
            rows = rows.flatten(0, 1)
        features = self.extract_features(rows)
        assert isinstance(features, Tensor)
        return features

    def _encode(self, side: str, features: Tensor, seen: PolicyInput) -> tuple[Tensor, State]:
        """What the layers of `side` read [B, ...], and the next state of its encoder."""
        if side not in self.encoders:
            return features, {}
        encoder, before = self._encoder(side), _part(seen.state or {}, side)
        if seen.fresh is None:
            latent, after = encoder.step(features, before)
        else:
            latent, after = encoder(features.reshape(*seen.fresh.shape, -1), before, seen.fresh)
            latent = latent.flatten(0, 1)
        return latent, _join([(side, after)])

    def _actions(self, latent: Tensor, seen: PolicyInput) -> Tensor:
        heads = self.action_net(self.mlp_extractor.forward_actor(latent))
        if not isinstance(self.action_space, spaces.Discrete):
            return heads
        if seen.choice is not None:
            choice = seen.choice.reshape(-1, 1)
            heads = heads.scatter_add(1, choice, torch.full(choice.shape, self._prior))
        if seen.mask is not None:
            heads = heads.masked_fill(~seen.mask.reshape(heads.shape), IMPOSSIBLE)
        return torch.log_softmax(heads, dim=1)


def _part(state: State, side: str) -> State:
    return {name.partition(".")[2]: tensor for name, tensor in state.items() if name.startswith(side + ".")}


def _join(parts: Any) -> State:
    return {f"{side}.{name}": tensor for side, state in parts for name, tensor in state.items()}


__all__ = ["LanePolicy", "PolicyInput", "RunningFeatures"]
