"""What an encoder is: a small module that turns observations into what a policy reads, with or without memory.

Letters: T decisions, N lanes, D columns of the observation. ``forward`` reads whole sequences (training), ``step`` one decision of
every lane (acting); T calls of ``step`` give what one ``forward`` over T gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from emp_gym.agents.suggest import nearest
from emp_gym.types import ConfigError, Feature

State = dict[str, Tensor]
"""Memory of N lanes: named tensors [N, ...]; empty for an encoder without memory."""

CLASSES = {
    "mlp": ("plain", "MLP"),
    "gru": ("plain", "GRU"),
    "cnn": ("levels", "LevelCNN"),
    "mamba2": ("mamba2", "Mamba2"),
    "mamba3": ("mamba3", "Mamba3"),
}
NAMES = tuple(CLASSES)


class Encoder(nn.Module):
    """Base of all encoders. A subclass takes ``(width, columns, **options)`` and defines `forward`; one with memory also
    `initial_state` and `step`. Weights are drawn from torch's global generator; nothing else is random."""

    size: int
    """Width of the output."""
    recurrent: bool = False
    """Whether it has a state."""

    def initial_state(self, lanes: int) -> State:
        """The state of `lanes` lanes at the begin of an episode."""
        return {}

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        """Outputs [T, N, size] of observations x [T, N, D], and the state after the last of them.

        `fresh` bool [T, N]: the state of lane n is made new before x[t, n] is read, because an episode begins there.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, state, fresh)")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs [N, size] of one observation x [N, D] a lane, and the next state; `state` itself is left alone."""
        y, after = self(x.unsqueeze(0), state, torch.zeros((1, len(x)), dtype=torch.bool, device=x.device))
        return y.squeeze(0), after

    def reset(self, state: Mapping[str, Tensor], fresh: Tensor) -> State:
        """`state` with the lanes of `fresh` bool [N] made new."""
        new = self.initial_state(len(fresh))
        return {
            name: torch.where(fresh.reshape(-1, *[1] * (old.dim() - 1)), new[name], old) for name, old in state.items()
        }


def encoder(name: str, width: int, columns: Sequence[Feature] | None = None, **options: Any) -> Encoder:
    """The encoder called `name` for observations of `width` columns; `columns` are their features, where they are known.

    `options` are the keyword parameters of its class. Raises `ConfigError` for an unknown name or option, naming the nearest,
    and for an observation that the encoder cannot read.
    """
    if name not in CLASSES:
        raise ConfigError(f"no encoder is called {name!r}; did you mean {nearest(name, NAMES)}?")
    if columns is not None and len(columns) != width:
        raise ConfigError(
            f"encoder {name!r}: the observation has {width} columns, but {len(columns)} features are named; "
            "give the features of this observation (spec.features), or none"
        )
    module, attribute = CLASSES[name]
    made = getattr(import_module(f"emp_gym.agents.backbones.{module}"), attribute)
    parameters = inspect.signature(made).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"encoder {name!r} has no option {option!r}; did you mean {nearest(option, known)}?")
    return cast(Encoder, made(width, columns, **options))


def at_least_one(**values: int) -> None:
    """Raises `ConfigError` for the first of `values` below 1."""
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
