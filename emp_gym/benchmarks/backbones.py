"""Encoders: tokens per second of training (forwards and backwards) and the time of one acting step, beside GRU and attention.

One layer of width 64 each, one thread, seconds of processor time: what else runs on the machine hardly counts. Attention is a
yardstick only: it has no step, since what it keeps grows with the episode.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from emp_gym.agents.backbones import Encoder, encoder
from emp_gym.benchmarks.figures import SMALL, Effort, Figures
from emp_gym.types import ConfigError

WIDTH = 64
SHAPES = ((128, 64), (1024, 8), (4096, 2))  # decisions, lanes
LANES = 64  # of a step
Network = Callable[[Tensor], Tensor]  # [T, N, WIDTH] -> [T, N, size]


class Attention(nn.Module):
    """Causal attention with four heads, its projections, and torch's own fused product."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.into(x).unflatten(-1, (3, 4, -1)).permute(2, 1, 3, 0, 4)  # [N, heads, T, X] each
        y = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(y.permute(2, 0, 1, 3).flatten(-2))


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds every figure of the encoders."""
    if data:
        raise ConfigError(f"the encoders' benchmark reads no day, got --data {data[0]}; leave it out")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _training(figures, effort)
            _acting(figures, effort)
    finally:
        torch.set_num_threads(threads)


def _training(figures: Figures, effort: Effort) -> None:
    networks: dict[str, Network] = {
        "mamba2": _reads(encoder("mamba2", WIDTH)),
        "mamba3": _reads(encoder("mamba3", WIDTH)),
        "GRU of 64 units": _first(nn.GRU(WIDTH, 64)),
        "GRU of 128 units": _first(nn.GRU(WIDTH, 128)),
        "attention": Attention(),
    }
    for steps, lanes in SHAPES if effort is not SMALL else ((64, 2),):
        x = torch.randn(steps, lanes, WIDTH)
        for name, network in networks.items():

            def learn(network: Network = network, x: Tensor = x) -> float:
                network(x).sum().backward()
                return float(x.shape[0] * x.shape[1])

            samples = _rates(learn, effort)
            figures.add(f"{name}, {lanes} x {steps:,} decisions, forwards and backwards", samples, "decisions/s")


def _acting(figures: Figures, effort: Effort) -> None:
    x = torch.randn(LANES, WIDTH)
    for name in ("mlp", "gru", "mamba2", "mamba3"):
        net = encoder(name, WIDTH)
        _, state = net.step(x, net.initial_state(LANES))

        @torch.no_grad()
        def act(net: Encoder = net, state: dict[str, Tensor] = state) -> float:
            net.step(x, state)
            return 1.0

        took = [1e3 / rate for rate in _rates(act, effort)]
        figures.add(f"{name}, one step of {LANES} lanes", took, "ms")


def _reads(net: Encoder) -> Network:
    """Whole sequences in which no episode begins, from a new state."""
    return lambda x: net(x, net.initial_state(x.shape[1]), torch.zeros(x.shape[:2], dtype=torch.bool))[0]


def _first(gru: nn.GRU) -> Network:
    return lambda x: gru(x)[0]


def _rates(work: Callable[[], float], effort: Effort) -> list[float]:
    """Units of work per second of processor time, one sample a repeat."""
    work()
    samples = []
    for _ in range(effort.repeats):
        done, begun = 0.0, time.process_time()
        while (took := time.process_time() - begun) < effort.seconds or done == 0:
            done += work()
        samples.append(done / took)
    return samples
