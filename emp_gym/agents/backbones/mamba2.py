"""Mamba-2: selective state space with one decay a head (Dao & Gu 2024, arXiv 2405.21060, "SSD"), in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emp_gym.agents.backbones.base import State, at_least_one
from emp_gym.agents.backbones.blocks import Mixer, MixerSizes, StateSpace, outer, read
from emp_gym.agents.backbones.scan import scan
from emp_gym.types import Feature


class Mamba2(StateSpace):
    """`layers` residual Mamba-2 blocks of width `size`; `state` numbers are kept per value and head."""

    def __init__(
        self, width: int, columns: Sequence[Feature] | None = None, *, size: int = 64, layers: int = 1, state: int = 16,
        headdim: int = 16, expand: int = 2, conv: int = 4, shortest: float = 1e-3, longest: float = 0.1,
        chunk: int = 32,
    ) -> None:  # fmt: skip
        at_least_one(conv=conv)
        sizes = MixerSizes(size, expand, headdim, state, (shortest, longest), chunk)
        super().__init__(width, size, layers, lambda: Mamba2Mixer(size, sizes, conv))


class Mamba2Mixer(Mixer):
    """One Mamba-2 layer: projection, short causal convolution, scan, gated norm, projection.

    Per head, with Delta_t = softplus(.) and A < 0 learned:  h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t^T,
    y_t = C_t h_t + D x_t; B and C are shared by the heads. State: ``memory`` [N, H, S, P] and ``inputs`` [N, conv - 1, channels],
    what the convolution still sees.
    """

    def __init__(self, size: int, sizes: MixerSizes, conv: int) -> None:
        super().__init__()
        self.sizes, self.taps = sizes, conv
        self.channels = sizes.inner + 2 * sizes.keys
        self.project = nn.Linear(size, sizes.inner + self.channels + sizes.heads, bias=False)
        self.filter = nn.Parameter(torch.empty(conv, self.channels).uniform_(-(conv**-0.5), conv**-0.5))
        self.filter_bias = nn.Parameter(torch.zeros(self.channels))
        self.step_bias = nn.Parameter(sizes.step_bias())
        self.log_rate = nn.Parameter(torch.empty(sizes.heads).uniform_(1.0, 16.0).log())  # A = -exp(log_rate)
        self.skip = nn.Parameter(torch.ones(sizes.heads))  # D
        self.norm = nn.RMSNorm(sizes.inner, eps=1e-5)
        self.out = nn.Linear(sizes.inner, size, bias=False)

    def initial_state(self, lanes: int) -> State:
        s = self.sizes
        return {
            "memory": self.skip.new_zeros((lanes, s.heads, s.keys, s.values)),
            "inputs": self.skip.new_zeros((lanes, self.taps - 1, self.channels)),
        }

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        gate, channels, step = self._project(x)
        channels, inputs = convolve(channels, state["inputs"], fresh, self.filter, self.filter_bias)
        value, key, query = self._split(channels)
        log_decay = -step * self.log_rate.exp()
        y, memory = scan(query, key, value, log_decay, step, None, fresh, state["memory"], self.sizes.chunk)
        return self._finish(y, value, gate), {"memory": memory, "inputs": inputs}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        gate, channels, step = self._project(x)
        seen = torch.cat([state["inputs"], channels.unsqueeze(1)], dim=1)
        value, key, query = self._split((seen * self.filter).sum(dim=1) + self.filter_bias)
        decay = torch.exp(-step * self.log_rate.exp())[..., None, None]
        memory = decay * state["memory"] + outer(key, value * step.unsqueeze(-1))
        return self._finish(read(query, memory), value, gate), {"memory": memory, "inputs": seen[:, 1:]}

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gate [..., inner], inputs of the convolution [..., channels], steps Delta [..., H]."""
        s = self.sizes
        gate, channels, step = self.project(x).split([s.inner, self.channels, s.heads], dim=-1)
        return gate, channels, functional.softplus(step + self.step_bias)

    def _split(self, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values [..., H, P]; keys and queries [..., 1, S], shared by the heads."""
        s = self.sizes
        value, key, query = functional.silu(channels).split([s.inner, s.keys, s.keys], dim=-1)
        return value.unflatten(-1, (s.heads, s.values)), key.unsqueeze(-2), query.unsqueeze(-2)

    def _finish(self, y: Tensor, value: Tensor, gate: Tensor) -> Tensor:
        y = torch.addcmul(y, value, self.skip.unsqueeze(-1)).flatten(-2)
        return self.out(self.norm(y * functional.silu(gate)))


def convolve(x: Tensor, before: Tensor, fresh: Tensor, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Causal convolution of every channel with its own filter: y_t = bias + sum_k weights[-1 - k] x_{t-k}.

    `x` [T, N, C]; `before` [N, K - 1, C]: the inputs before it; `weights` [K, C]. What lies before the episode's begin (`fresh`
    bool [T, N]) counts as 0. Gives y [T, N, C] and the last K - 1 inputs of the episodes under way, [N, K - 1, C].
    """
    steps, taps = len(x), len(weights)
    seen = torch.cat([before.transpose(0, 1), x])  # [K - 1 + T, N, C]
    episode = functional.pad(fresh.cumsum(dim=0), (0, 0, taps - 1, 0)).unsqueeze(-1)
    now = episode[taps - 1 :]
    y, begins = torch.addcmul(bias, x, weights[-1]), bool(fresh.any())
    for tap in range(taps - 1):
        past = seen[tap : tap + steps]
        if begins:
            past = past * (episode[tap : tap + steps] == now)
        y = torch.addcmul(y, past, weights[tap])
    rest = slice(len(seen) - (taps - 1), None)
    return y, (seen[rest] * (episode[rest] == episode[-1])).transpose(0, 1)
