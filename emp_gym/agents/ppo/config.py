"""What can be chosen about PPO, and how rollouts are cut into minibatches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from emp_gym.agents.backbones import NAMES
from emp_gym.agents.suggest import nearest
from emp_gym.types import ConfigError

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}
PLAIN = "mlp"
"""The extractor that is none: `layers` read the observation itself."""


@dataclass(frozen=True)
class PPOConfig:
    """Parameters of `PPO`. Steps count over all lanes."""

    num_envs: int = 1024  # lanes
    n_steps: int = 32  # decisions per lane and rollout; with memory also the length of a training sequence
    batch_size: int = 2048  # decisions per minibatch; with memory those of whole sequences, of one lane at least
    n_epochs: int = 4
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4  # reached linearly at the end of training
    gamma: float = 0.97  # per decision: looks about 30 decisions ahead
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    ent_coef: float = 0.002
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    layers: tuple[int, ...] = (64, 64)  # of the policy and of the value network, which share nothing
    extractor: str = PLAIN  # what reads observations before `layers`: mlp (nothing), gru, cnn, mamba2, mamba3
    extractor_width: int = 64  # of its output
    extractor_options: dict[str, Any] = field(default_factory=dict)  # other parameters of the encoder
    shared: bool = False  # policy and value network read one extractor, not one each
    deviation: float = 1.0  # of Gaussian actions at the beginning, in units of the action
    activation: str = "relu"  # tanh costs a third of the speed and learns no better here
    masks: bool = True  # masked entries of a menu have no probability while learning either, where a mask is published
    residual: str | None = None  # a baseline around which the policy acts
    residual_options: dict[str, Any] = field(default_factory=dict)  # parameters of the baseline
    residual_scale: float = 0.25  # the reach of the policy around it, in units of the (Box) action
    residual_prior: float = 3.0  # what the baseline's entry of a menu is given, in logits
    normalise_observation: bool = True  # running mean and variance, frozen outside of learn()
    normalise_reward: bool = True  # divided by the running deviation of the discounted return
    threads: int = 2  # torch threads while learning
    deterministic: bool = True  # act() takes the most probable action

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.extractor not in NAMES:
            raise ConfigError(
                f"extractor: expected one of {', '.join(NAMES)}, got {self.extractor!r}; "
                f"did you mean {nearest(self.extractor, NAMES)}?"
            )
        if self.extractor == PLAIN and self.extractor_options:
            raise ConfigError(f"extractor_options: extractor {PLAIN} is `layers` alone and has none, got {self.extractor_options}")
        object.__setattr__(self, "layers", tuple(int(width) for width in self.layers))
        for name in ("num_envs", "n_steps", "batch_size", "n_epochs", "threads", "extractor_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "final_learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number from 0 to 1, got {getattr(self, name)}")
        if any(width < 1 for width in self.layers):
            raise ConfigError(f"layers: expected widths of at least 1, got {self.layers}")
        for name in ("residual_scale", "residual_prior", "clip_range", "max_grad_norm", "deviation"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")


def whole_batch(size: int, wanted: int) -> int:
    """The largest batch up to `wanted` that divides a rollout of `size` steps evenly."""
    count = -(-size // wanted)
    while size % count:
        count += 1
    return size // count


def sequence_batch(lanes: int, steps: int, wanted: int) -> int:
    """The same for sequences of `steps` decisions in `lanes` lanes: whole sequences, of one lane at least."""
    return steps * whole_batch(lanes, max(1, wanted // steps))
