"""Mamba-3, single input and output (Lahoti et al. 2026, arXiv 2603.15569, "SISO"), in plain torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from emp_gym.agents.backbones.base import State
from emp_gym.agents.backbones.blocks import Mixer, MixerSizes, StateSpace, outer, read
from emp_gym.agents.backbones.scan import scan
from emp_gym.types import ConfigError, Feature

SLOWEST = 1e-4  # A <= -SLOWEST: nothing is remembered for ever
TURN = 2.0 * math.pi


class Mamba3(StateSpace):
    """`layers` residual Mamba-3 blocks of width `size`; `state` numbers are kept per value and head, of which the share
    `rotated` turns."""

    def __init__(
        self, width: int, columns: Sequence[Feature] | None = None, *, size: int = 64, layers: int = 1, state: int = 16,
        headdim: int = 16, expand: int = 2, rotated: float = 1.0, shortest: float = 1e-3,
        longest: float = 0.1, chunk: int = 32,
    ) -> None:  # fmt: skip
        sizes = MixerSizes(size, expand, headdim, state, (shortest, longest), chunk)
        if not 0.0 <= rotated <= 1.0:
            raise ConfigError(f"rotated: expected a share from 0 to 1 of the state, got {rotated}")
        super().__init__(width, size, layers, lambda: Mamba3Mixer(size, sizes, int(state * rotated) // 2))


class Inputs(NamedTuple):
    """What a layer reads off its input: [..., H, X], the gate [..., inner]."""

    gate: Tensor
    value: Tensor  # P values
    key: Tensor  # S, not yet turned
    query: Tensor  # S, not yet turned
    log_decay: Tensor  # [..., H]: Delta A
    own: Tensor  # [..., H]: lambda Delta
    late: Tensor  # [..., H]: (1 - lambda) Delta
    turn: Tensor  # [..., H, angles]: radians of this step


class Mamba3Mixer(Mixer):
    """One Mamba-3 layer. Per head, with Delta_t = softplus(.), A_t = -softplus(.), lambda_t = sigmoid(.), all of the input:

        h_t = alpha_t h_{t-1} + beta_t k_{t-1} v_{t-1}^T + gamma_t k_t v_t^T,            y_t = q_t h_t + D v_t
        alpha = exp(Delta A),   beta = (1 - lambda) Delta alpha,   gamma = lambda Delta     (exponential-trapezoidal rule)

    k and q are B and C after a root-mean-square norm, plus a bias of the head, turned in pairs by Theta_t = sum of
    Delta pi tanh(theta) since the begin of the episode: a complex state, read in the frame that turns with it. No convolution.
    State: ``memory`` [N, H, S, P], ``key`` [N, H, S] and ``value`` [N, H, P] of the last decision, ``angle`` [N, H, angles].
    """

    def __init__(self, size: int, sizes: MixerSizes, angles: int) -> None:
        super().__init__()
        self.sizes, self.angles = sizes, angles
        s = sizes
        self.parts = [s.inner, s.inner, s.keys, s.keys, s.heads, s.heads, s.heads, angles]
        self.project = nn.Linear(size, sum(self.parts), bias=False)
        self.step_bias = nn.Parameter(s.step_bias())
        self.key_norm, self.query_norm = nn.RMSNorm(s.keys, eps=1e-5), nn.RMSNorm(s.keys, eps=1e-5)
        self.key_bias = nn.Parameter(torch.ones(s.heads, s.keys))
        self.query_bias = nn.Parameter(torch.ones(s.heads, s.keys))
        self.skip = nn.Parameter(torch.ones(s.heads))  # D
        self.out = nn.Linear(s.inner, size, bias=False)

    def initial_state(self, lanes: int) -> State:
        s = self.sizes
        return {
            "memory": self.skip.new_zeros((lanes, s.heads, s.keys, s.values)),
            "key": self.skip.new_zeros((lanes, s.heads, s.keys)),
            "value": self.skip.new_zeros((lanes, s.heads, s.values)),
            "angle": self.skip.new_zeros((lanes, s.heads, self.angles)),
        }

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        i = self._read(x)
        angle = turned(i.turn, state["angle"], fresh)
        cos, sin = angle.cos(), angle.sin()
        key, query = rotate(i.key, cos, sin), rotate(i.query, cos, sin)
        carry = torch.addcmul(state["memory"], i.late[0, ..., None, None], outer(state["key"], state["value"]))
        y, memory = scan(query, key, i.value, i.log_decay, i.own, i.late, fresh, carry, self.sizes.chunk)
        after = {"memory": memory, "key": key[-1], "value": i.value[-1], "angle": angle[-1]}
        return self._finish(y, i), after

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        i = self._read(x)
        angle = torch.remainder(state["angle"] + i.turn, TURN)
        cos, sin = angle.cos(), angle.sin()
        key, query = rotate(i.key, cos, sin), rotate(i.query, cos, sin)
        late = outer(state["key"], state["value"] * i.late.unsqueeze(-1))
        memory = (state["memory"] + late) * i.log_decay.exp()[..., None, None] + outer(key, i.value * i.own.unsqueeze(-1))
        after = {"memory": memory, "key": key, "value": i.value, "angle": angle}
        return self._finish(read(query, memory), i), after

    def _read(self, x: Tensor) -> Inputs:
        s = self.sizes
        gate, value, key, query, step, rate, share, theta = self.project(x).split(self.parts, dim=-1)
        step = functional.softplus(step + self.step_bias)
        log_decay = -step * functional.softplus(rate).clamp_min(SLOWEST)
        own = step * torch.sigmoid(share)
        key = self.key_norm(key).unsqueeze(-2) + self.key_bias
        query = self.query_norm(query).unsqueeze(-2) + self.query_bias
        turn = step.unsqueeze(-1) * (math.pi * torch.tanh(theta)).unsqueeze(-2)
        value = value.unflatten(-1, (s.heads, s.values))
        return Inputs(gate, value, key, query, log_decay, own, step - own, turn)

    def _finish(self, y: Tensor, inputs: Inputs) -> Tensor:
        y = torch.addcmul(y, inputs.value, self.skip.unsqueeze(-1)).flatten(-2)
        return self.out(y * functional.silu(inputs.gate))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., S] with the pairs (i, i + angles), i < angles, turned by the angles of `cos`, `sin` [..., angles]."""
    angles = cos.shape[-1]
    first, second, rest = x.split([angles, angles, x.shape[-1] - 2 * angles], dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], dim=-1)


def turned(turn: Tensor, before: Tensor, fresh: Tensor) -> Tensor:
    """Angles [T, N, H, A] in [0, 2 pi): sums of the steps `turn` [T, N, H, A] since the begin of the episode.

    `before` [N, H, A] is the angle before the first step, for lanes that go on; `fresh` bool [T, N] begins at 0. Summed in float64:
    after a thousand steps a float32 sum is off by more than the angles that a head tells apart.
    """
    total = torch.cat([before.unsqueeze(0), turn]).cumsum(dim=0, dtype=torch.float64)  # [T + 1, N, H, A]
    if fresh.any():
        index = torch.arange(len(fresh), device=fresh.device).unsqueeze(-1)
        begun = torch.where(fresh, index, -1).cummax(dim=0).values  # [T, N]: the last begin so far, -1: none
        base = total.gather(0, begun.clamp_min(0)[..., None, None].expand_as(turn))
        since = total[1:] - torch.where(begun[..., None, None] >= 0, base, 0.0)
    else:
        since = total[1:]
    return torch.remainder(since, TURN).to(turn.dtype)
