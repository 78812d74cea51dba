"""Speed of the search: simulations and decisions a second with a small network that knows nothing, on random latents.

The network is an MLP on latents of 128 (afterstate: two layers and a head; outcome: three and a head), as large as those
that the planner learns with. A simulation is one new node, afterstate or state; the expansion of the root counts as none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emp_gym.agents.muzero.search import Root, SearchConfig, search
from emp_gym.benchmarks.figures import Effort, Figures, core_word, cores, rates

ACTIONS, CODES, LATENT, SIMULATIONS = 9, 12, 128, 16
LANES = (1, 64, 256)


def measure(figures: Figures, effort: Effort, data: Sequence[str] | None = None) -> None:
    """Adds for each number of lanes and of cores, with chance and without, with the root expanded and not: simulations and
    decisions a second, simulations a second of processor time (which other programs disturb less), and the share of the
    time that the network takes; where the root is expanded, also simulations a second of the time after that. `data` is of no
    meaning here."""
    import torch

    before = torch.get_num_threads()
    try:
        for lanes in LANES if effort.many >= 1024 else (1, effort.many):
            for threads in sorted({1, cores()}) if lanes > 1 else [1]:
                torch.set_num_threads(threads)
                for codes, expansion in ((CODES, True), (CODES, False), (1, False)):
                    _add(figures, effort, _Planning(lanes, codes, expansion), lanes, core_word(threads))
    finally:
        torch.set_num_threads(before)


def _add(figures: Figures, effort: Effort, work: _Planning, lanes: int, on: str) -> None:
    for _ in range(3):
        work()
    asked, searches, busy, begun = work.model.seconds, work.searches, time.process_time(), time.perf_counter()
    decisions = rates(work, effort)
    took, busy = time.perf_counter() - begun, time.process_time() - busy
    simulations = SIMULATIONS * lanes * (work.searches - searches)
    root = "expanded" if work.config.root_expansion else "not expanded"
    chance = f"{work.model.codes} codes, root {root}" if work.model.codes > 1 else "no chance"
    name = f"planning, {lanes} lanes, {SIMULATIONS} simulations, {ACTIONS} actions, {chance}, {on}"
    figures.add(f"{name}: speed", [SIMULATIONS * rate for rate in decisions], "simulations/s")
    figures.add(f"{name}: decisions", decisions, "decisions/s")
    figures.add(f"{name}: speed by processor time", [simulations / busy], "simulations/s")
    figures.add(f"{name}: in the network", [100 * (work.model.seconds - asked) / took], "%")
    if work.config.root_expansion:
        figures.add(f"{name}: speed after the root", after_the_root(work, effort), "simulations/s")


def after_the_root(work: _Planning, effort: Effort) -> list[float]:
    """Simulations a second of the time that a decision takes beyond one that only expands its root, in turn."""
    found, whole, root = [], work.config, replace(work.config, simulations=0)
    for _ in range(effort.repeats):
        decisions, took, began = 0, {whole: 0.0, root: 0.0}, time.perf_counter()
        while time.perf_counter() - began < 2 * effort.seconds or decisions < 5:
            decisions += 1
            for config in took:
                begun = time.perf_counter()
                work(config)
                took[config] += time.perf_counter() - begun
        found.append(decisions * SIMULATIONS * len(work.root.value) / (took[whole] - took[root]))
    return found


class _Planning:
    """Searches over random roots."""

    def __init__(self, lanes: int, codes: int, expansion: bool) -> None:
        import torch

        random = np.random.default_rng(0)
        self.model = _Network(codes)
        self.config = SearchConfig(simulations=SIMULATIONS, q_floor=0.01, root_expansion=expansion)
        latent = torch.as_tensor(random.random((lanes, LATENT), np.float32))
        logits = random.standard_normal((lanes, ACTIONS), np.float32)
        self.root = Root(logits, random.standard_normal(lanes, np.float32), latent)
        self.gumbel = random.gumbel(size=(16, lanes, ACTIONS)).astype(np.float32)
        self.searches = 0

    def __call__(self, config: SearchConfig | None = None) -> float:
        self.searches += 1
        search(self.root, self.model, config or self.config, self.gumbel[self.searches % 16])
        return float(len(self.root.value))


class _Network:
    """Untrained weights; adds up the seconds that it is asked for."""

    def __init__(self, codes: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> Any:
            return torch.randn(shape, generator=generator) * shape[0] ** -0.5

        self.codes, self.seconds = codes, 0.0
        self.action, self.code = weights(ACTIONS, LATENT), weights(codes, LATENT)
        self.layers = [weights(LATENT, LATENT) for _ in range(5)]
        self.after_head, self.head = weights(LATENT, 1 + codes), weights(LATENT, 2 + ACTIONS)

    def afterstate(self, latent: Any, action: np.ndarray) -> tuple[Any, Any, Any]:
        import torch

        begun = time.perf_counter()
        with torch.inference_mode():
            hidden = torch.addmm(self.action[torch.from_numpy(action)], latent, self.layers[0]).relu_()
            after = torch.mm(hidden, self.layers[1]).relu_()
            value = chance = None
            if self.codes > 1:
                answer = torch.mm(after, self.after_head)
                value, chance = answer[:, 0].numpy(), answer[:, 1:].softmax(1).numpy()
        self.seconds += time.perf_counter() - begun
        return after, value, chance

    def outcome(self, after: Any, code: np.ndarray) -> tuple[Any, Any, Any, Any, Any]:
        import torch

        begun = time.perf_counter()
        with torch.inference_mode():
            hidden = torch.addmm(self.code[torch.from_numpy(code)], after, self.layers[2]).relu_()
            latent = torch.mm(hidden, self.layers[3]).relu_()
            answer = torch.mm(torch.mm(latent, self.layers[4]).relu_(), self.head).numpy()
        self.seconds += time.perf_counter() - begun
        discount = np.full(len(code), 0.997, np.float32)
        return latent, answer[:, 0], discount, answer[:, 2:], answer[:, 1]
