"""Small problems that show what an encoder can keep in mind, and a plain training loop for them.

A problem gives ``tokens`` [T, B], ``labels`` [T, B] and ``scored`` bool [T, B]: where an answer is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from emp_gym.agents.backbones import Encoder, encoder

Batch = tuple[Tensor, Tensor, Tensor]
Problem = Callable[[int, int, torch.Generator], Batch]  # (length, lanes, generator)
Watch = Callable[[int, float, int], bool]


def parity(length: int, lanes: int, generator: torch.Generator) -> Batch:
    """Is the number of ones so far odd? Asked at every position."""
    tokens = torch.randint(0, 2, (length, lanes), generator=generator)
    return tokens, tokens.cumsum(dim=0) % 2, torch.ones_like(tokens, dtype=torch.bool)


MEMORISED, BLANK, ASK, SYMBOLS = 16, 16, 17, 16


def selective_copying(length: int, lanes: int, generator: torch.Generator) -> Batch:
    """`MEMORISED` of `SYMBOLS` symbols stand at random places among `length` blanks; then they are asked for, in order.
    (Gu & Dao 2023, arXiv 2312.00752, section 4.1.1.)"""
    symbols = torch.randint(0, SYMBOLS, (MEMORISED, lanes), generator=generator)
    places = torch.rand((length, lanes), generator=generator).argsort(dim=0)[:MEMORISED].sort(dim=0).values
    tokens = torch.full((length + MEMORISED, lanes), BLANK)
    tokens.scatter_(0, places, symbols)
    tokens[length:] = ASK
    labels, scored = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    labels[length:], scored[length:] = symbols, True
    return tokens, labels, scored


TRIGGER = 16


def induction(length: int, lanes: int, generator: torch.Generator) -> Batch:
    """A trigger stands once among random symbols and once at the end: which symbol followed it? (Same paper, 4.1.2.)"""
    tokens = torch.randint(0, SYMBOLS, (length, lanes), generator=generator)
    place = torch.randint(0, length - 2, (1, lanes), generator=generator)
    tokens.scatter_(0, place, TRIGGER)
    labels, scored = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    tokens[-1], labels[-1], scored[-1] = TRIGGER, tokens.gather(0, place + 1)[0], True
    return tokens, labels, scored


class Reader(nn.Module):
    """An encoder of one-hot tokens with a linear head."""

    def __init__(self, encoder: Encoder, tokens: int, answers: int) -> None:
        super().__init__()
        self.encoder, self.tokens = encoder, tokens
        self.head = nn.Linear(encoder.size, answers)

    def forward(self, tokens: Tensor) -> Tensor:
        lanes = tokens.shape[1]
        x = nn.functional.one_hot(tokens, self.tokens).float()
        y, _ = self.encoder(x, self.encoder.initial_state(lanes), torch.zeros(tokens.shape, dtype=torch.bool))
        return y

    @torch.no_grad()
    def right(self, batch: Batch) -> Tensor:
        """Share of right answers at each position, [T]; NaN where none is due."""
        tokens, labels, scored = batch
        right = (self.head(self(tokens)).argmax(dim=-1) == labels) & scored
        return right.sum(dim=1) / scored.sum(dim=1)


@dataclass(frozen=True)
class Plan:
    """How to train: lengths are drawn up to a longest one, which grows from `first` to `last` while `learned` of the
    answers are right. `smoothing` of the labels keeps a loss on answers that are right but fade with the distance."""

    steps: int
    lanes: int
    first: int
    last: int
    learned: float = 0.98
    growth: float = 1.25
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    memory: float = 0.999  # of the squared gradients
    smoothing: float = 0.0
    cool: float = 0.5  # of the steps, at the end, over which the learning rate falls to 1 %


@dataclass(frozen=True)
class Task:
    """A problem, how it is learned, and where it is asked: answers from position `first` on of sequences of `length`."""

    problem: Problem
    tokens: int
    answers: int
    plan: Plan
    length: int
    first: int
    options: Mapping[str, object]  # of the encoder
    own: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # options of one encoder, by its name
    norm: bool = True  # without the encoder's last norm a fading answer shows in the loss


TASKS = {
    "parity": Task(
        parity, 2, 2, Plan(6000, 32, 3, 256, learned=0.95, smoothing=0.1, cool=0.7), 256, 100,
        {"layers": 1, "shortest": 0.5, "longest": 2.0}, norm=False,
    ),
    "selective copying": Task(
        selective_copying, 18, SYMBOLS, Plan(2400, 32, 24, 256, learned=0.9, learning_rate=4e-3, memory=0.98, cool=0.6),
        256, 256, {"layers": 2, "shortest": 0.03, "longest": 1.0},
    ),
    "induction": Task(
        induction, 17, SYMBOLS, Plan(2000, 32, 6, 256, learned=0.9, memory=0.98), 1024, 1023, {"layers": 2},
        own={"mamba3": {"rotated": 0.5}},  # what turns a little at each step has turned too far after four times as many
    ),
}  # fmt: skip


def build(name: str, task: Task, seed: int) -> Reader:
    """An untrained reader for `task` around the encoder called `name`."""
    torch.manual_seed(seed)
    reader = Reader(encoder(name, task.tokens, **task.options, **task.own.get(name, {})), task.tokens, task.answers)
    if not task.norm:
        reader.encoder.norm = nn.Identity()  # type: ignore[assignment]
    return reader


def without_selection(reader: Reader) -> Reader:
    """A control: the steps, keys and queries of Mamba-2 no longer depend on what is read (a linear time-invariant system)."""
    for mixer in reader.encoder.mixers:  # type: ignore[union-attr]
        inner, weight = mixer.sizes.inner, mixer.project.weight
        mask = torch.ones_like(weight)
        mask[2 * inner :] = 0.0
        weight.data.mul_(mask)
        weight.register_hook(lambda grad, mask=mask: grad * mask)
        nn.init.normal_(mixer.filter_bias.data[inner:])
    return reader


def score(reader: Reader, task: Task, sequences: int, batch: int = 64) -> float:
    """Share of right answers over new sequences, which training never sees."""
    generator = torch.Generator().manual_seed(10**6)
    parts = [reader.right(task.problem(task.length, batch, generator)) for _ in range(sequences // batch)]
    return torch.stack(parts)[:, task.first :].mean().item()


def train(reader: Reader, problem: Problem, plan: Plan, seed: int, watch: Watch = lambda *_: False) -> int:
    """Trains with AdamW; `watch(step, loss, longest)` stops it by answering True. Gives the steps taken."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        reader.parameters(), lr=plan.learning_rate, betas=(0.9, plan.memory), weight_decay=plan.weight_decay, fused=True
    )
    longest, right = float(plan.first), 0.0
    for step in range(plan.steps):
        left = min(1.0, (plan.steps - step) / (plan.steps * plan.cool))
        optimiser.param_groups[0]["lr"] = plan.learning_rate * min(max(left, 0.01), (step + 1) / 50)
        length = int(torch.randint(int(longest * 0.7), int(longest) + 1, (), generator=generator))
        tokens, labels, scored = problem(length, plan.lanes, generator)
        answers, labels = reader.head(reader(tokens)[scored]), labels[scored]
        loss = nn.functional.cross_entropy(answers, labels, label_smoothing=plan.smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        right += 0.1 * ((answers.argmax(dim=-1) == labels).float().mean().item() - right)
        if right > plan.learned and longest < plan.last:
            longest, right = min(longest * plan.growth, plan.last), right - 0.05
        if watch(step, loss.item(), int(longest)):
            return step + 1
    return plan.steps
