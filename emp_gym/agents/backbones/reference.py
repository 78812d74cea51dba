"""Slow judges of the state-space encoders: one lane, one decision and one layer at a time, in float64, from the recurrences.

They share nothing with the scan but the weights. Mamba-3 is written as what it is, a state of complex numbers that decays and
turns at each decision, instead of turning keys and queries; see Lahoti et al. 2026 (arXiv 2603.15569), complex-valued SSM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from emp_gym.agents.backbones.blocks import Mixer, StateSpace
from emp_gym.agents.backbones.mamba2 import Mamba2Mixer
from emp_gym.agents.backbones.mamba3 import SLOWEST, Mamba3Mixer

Weights = Mapping[str, Tensor]


def reference(encoder: StateSpace, x: Tensor, fresh: Tensor) -> Tensor:
    """Outputs [T, N, size], float64, of observations x [T, N, D] that begin with a new state; gradients pass."""
    lanes = [_lane(encoder, x[:, lane].double(), fresh[:, lane].tolist()) for lane in range(x.shape[1])]
    return torch.stack(lanes, dim=1)


def _lane(encoder: StateSpace, x: Tensor, fresh: list[bool]) -> Tensor:
    w = {name: value.double() for name, value in encoder.named_parameters()}
    x = x @ w["embed.weight"].T + w["embed.bias"]
    for layer, mixer in enumerate(encoder.mixers):
        own = {name.removeprefix(f"mixers.{layer}."): value for name, value in w.items() if f"mixers.{layer}." in name}
        y = _rms(x, w[f"norms.{layer}.weight"])
        x = x + _mix(cast(Mixer, mixer), own, y, fresh)
    return _rms(x, w["norm.weight"])


def _mix(mixer: Mixer, w: Weights, x: Tensor, fresh: list[bool]) -> Tensor:
    if isinstance(mixer, Mamba2Mixer):
        return _mamba2(mixer, w, x, fresh)
    assert isinstance(mixer, Mamba3Mixer)
    return _mamba3(mixer, w, x, fresh)


def _mamba2(mixer: Mamba2Mixer, w: Weights, x: Tensor, fresh: list[bool]) -> Tensor:
    s, taps = mixer.sizes, mixer.taps
    gate, inputs, dt = (x @ w["project.weight"].T).split([s.inner, mixer.channels, s.heads], dim=-1)
    rate = w["log_rate"].exp()
    outputs: list[Tensor] = []
    seen: list[Tensor] = []
    memory = new = [x.new_zeros(s.values, s.keys)] * s.heads
    for t, begins in enumerate(fresh):
        if begins:
            seen, memory = [], new
        seen = [*seen, inputs[t]][-taps:]
        mixed = w["filter_bias"] + sum(w["filter"][-1 - back] * past for back, past in enumerate(reversed(seen)))
        value, key, query = functional.silu(mixed).split([s.inner, s.keys, s.keys])
        reads, now = [], []
        for head, v in enumerate(value.split(s.values)):
            step = functional.softplus(dt[t, head] + w["step_bias"][head])
            now.append(torch.exp(-step * rate[head]) * memory[head] + step * torch.outer(v, key))
            reads.append(now[-1] @ query + w["skip"][head] * v)
        memory = now
        y = _rms(torch.cat(reads) * functional.silu(gate[t]), w["norm.weight"])
        outputs.append(w["out.weight"] @ y)
    return torch.stack(outputs)


def _mamba3(mixer: Mamba3Mixer, w: Weights, x: Tensor, fresh: list[bool]) -> Tensor:
    s, angles = mixer.sizes, mixer.angles
    gate, values, keys, queries, dt, rate, share, theta = (x @ w["project.weight"].T).split(mixer.parts, dim=-1)
    keys, queries = _rms(keys, w["key_norm.weight"]), _rms(queries, w["query_norm.weight"])
    outputs = []
    before: list[tuple[Tensor, Tensor]] = []  # of each head: its state, and the last value by the last key
    for t, begins in enumerate(fresh):
        reads, now = [], []
        for head, v in enumerate(values[t].split(s.values)):
            key = _complex(keys[t] + w["key_bias"][head], angles)
            query = _complex(queries[t] + w["query_bias"][head], angles)
            step = functional.softplus(dt[t, head] + w["step_bias"][head])
            alpha = torch.exp(-step * functional.softplus(rate[t, head]).clamp_min(SLOWEST))
            gamma = torch.sigmoid(share[t, head]) * step
            beta = (1.0 - torch.sigmoid(share[t, head])) * step * alpha
            radians = torch.cat([step * math.pi * torch.tanh(theta[t]), theta.new_zeros(len(key) - angles)])
            turn = torch.polar(torch.ones_like(radians), -radians)
            write = torch.outer(v.to(key.dtype), key)
            state = gamma * write
            if t and not begins:
                memory, last = before[head]
                state = state + (alpha * memory + beta * last) * turn
            now.append((state, write))
            reads.append((state @ query.conj()).real + w["skip"][head] * v)
        before = now
        outputs.append(w["out.weight"] @ (torch.cat(reads) * functional.silu(gate[t])))
    return torch.stack(outputs)


def _complex(x: Tensor, angles: int) -> Tensor:
    """Numbers [S] as complex ones: the pairs (i, i + angles), then the rest, which does not turn."""
    rest = x[2 * angles :]
    return torch.complex(torch.cat([x[:angles], rest]), torch.cat([x[angles : 2 * angles], torch.zeros_like(rest)]))


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5) * weight
