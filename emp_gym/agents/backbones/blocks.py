"""What both state-space encoders share: a stack of pre-norm residual blocks around a mixer of decisions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from emp_gym.agents.backbones.base import Encoder, State, at_least_one
from emp_gym.types import ConfigError


class Mixer(nn.Module):
    """Mixes decisions over time: `size` numbers in, `size` numbers out, with the same promises as `Encoder`."""

    def initial_state(self, lanes: int) -> State:
        raise NotImplementedError

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError


class MixerSizes:
    """Sizes of a mixer, checked: `heads` heads of `values` values with `keys` keys each; `inner` = heads * values."""

    def __init__(self, size: int, expand: int, headdim: int, keys: int, steps: tuple[float, float], chunk: int) -> None:
        at_least_one(size=size, expand=expand, headdim=headdim, state=keys, chunk=chunk)
        self.inner, self.values, self.keys, self.steps, self.chunk = expand * size, headdim, keys, steps, chunk
        self.heads = self.inner // headdim
        if self.inner % headdim:
            raise ConfigError(f"headdim: expected a divisor of expand * size = {self.inner}, got {headdim}")
        if not 0.0 < steps[0] <= steps[1]:
            raise ConfigError(f"shortest, longest: expected 0 < shortest <= longest, got {steps[0]:g} and {steps[1]:g}")

    def step_bias(self) -> Tensor:
        """Biases [H] for which softplus gives first steps Delta drawn log-uniformly from `steps`."""
        first = torch.exp(torch.empty(self.heads).uniform_(*map(math.log, self.steps)))
        return first + torch.log(-torch.expm1(-first))


class StateSpace(Encoder):
    """Observation -> linear -> `layers` times x + mixer(norm(x)) -> norm. State: ``0.name``, ``1.name``, ... of its mixers."""

    recurrent = True

    def __init__(self, width: int, size: int, layers: int, mixer: Callable[[], Mixer]) -> None:
        super().__init__()
        at_least_one(width=width, size=size, layers=layers)
        self.size = size
        self.embed = nn.Linear(width, size)
        self.norms = nn.ModuleList(nn.RMSNorm(size, eps=1e-5) for _ in range(layers))
        self.mixers = nn.ModuleList(mixer() for _ in range(layers))
        self.norm = nn.RMSNorm(size, eps=1e-5)

    def initial_state(self, lanes: int) -> State:
        return {
            f"{layer}.{name}": value
            for layer, mixer in enumerate(self.mixers)
            for name, value in mixer.initial_state(lanes).items()  # type: ignore[operator]
        }

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        return self._through(x, state, lambda mixer, y, own: mixer(y, own, fresh))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._through(x, state, lambda mixer, y, own: mixer.step(y, own))

    def _through(
        self, x: Tensor, state: State, mix: Callable[[Mixer, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        x, after = self.embed(x), State()
        for layer, (norm, mixer) in enumerate(zip(self.norms, self.mixers, strict=True)):
            prefix = f"{layer}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            y, own = mix(mixer, norm(x), own)  # type: ignore[arg-type]
            x = x + y
            after |= {prefix + name: value for name, value in own.items()}
        return self.norm(x), after


def outer(key: Tensor, value: Tensor) -> Tensor:
    """k v^T: [N, H, S, P]."""
    return key.unsqueeze(-1) * value.unsqueeze(-2)


def read(query: Tensor, memory: Tensor) -> Tensor:
    """q h: [N, H, P]."""
    return (query.unsqueeze(-2) @ memory).squeeze(-2)
