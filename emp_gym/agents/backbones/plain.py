"""The two usual encoders: a perceptron without memory and a gated recurrent unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emp_gym.agents.backbones.base import Encoder, State, at_least_one
from emp_gym.types import Feature


class MLP(Encoder):
    """`layers` layers of `size` rectified units. No memory."""

    def __init__(self, width: int, columns: Sequence[Feature] | None = None, *, size: int = 64, layers: int = 2) -> None:
        super().__init__()
        at_least_one(width=width, size=size, layers=layers)
        self.size = size
        parts: list[nn.Module] = []
        for layer in range(layers):
            linear = nn.Linear(width if layer == 0 else size, size)
            nn.init.orthogonal_(linear.weight, math.sqrt(2.0))
            nn.init.zeros_(linear.bias)
            parts += [linear, nn.ReLU()]
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        return self.net(x), state


class GRU(Encoder):
    """torch's gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), `layers` of `size` units.

    With `keeps` above 1 its units begin as memories of up to so many decisions: biases of the update gates are
    log U(1, keeps) (Tallec and Ollivier 2018, arXiv 1804.11188, section 2); else torch's own, which forget in a few.

    A sequence is read in stretches between the decisions at which any lane begins an episode, so many lanes that end at
    different times cost more calls. State: ``hidden`` [N, layers, size].
    """

    recurrent = True

    def __init__(
        self, width: int, columns: Sequence[Feature] | None = None, *, size: int = 64, layers: int = 1, keeps: int = 1
    ) -> None:
        super().__init__()
        at_least_one(width=width, size=size, layers=layers, keeps=keeps)
        self.size = size
        self.gru = nn.GRU(width, size, layers)
        for layer in range(layers if keeps > 1 else 0):
            bias = getattr(self.gru, f"bias_hh_l{layer}")  # of reset, update, new
            with torch.no_grad():
                bias[size : 2 * size] = torch.empty(size).uniform_(1.0, float(keeps)).log()

    def initial_state(self, lanes: int) -> State:
        weight = next(self.gru.parameters())
        return {"hidden": weight.new_zeros((lanes, self.gru.num_layers, self.size))}

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        hidden = state["hidden"].transpose(0, 1).contiguous()
        cuts = sorted({0, *fresh.any(dim=1).nonzero().flatten().tolist()})
        outputs = []
        for begin, end in zip(cuts, [*cuts[1:], len(x)], strict=True):
            hidden = hidden.masked_fill(fresh[begin].reshape(1, -1, 1), 0.0)
            y, hidden = self.gru(x[begin:end], hidden)
            outputs.append(y)
        return torch.cat(outputs), {"hidden": hidden.transpose(0, 1)}
