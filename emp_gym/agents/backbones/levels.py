"""A convolution over the levels of an order book: one filter sees every level with its neighbours, on all sides at once."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emp_gym.agents.backbones.base import Encoder, State, at_least_one
from emp_gym.types import ConfigError, Feature

LEVEL = re.compile(r"(bid|ask)_(\w+)_([1-9]\d*)")
"""Name of a column that belongs to a level, such as ``bid_size_3``; level 1 is the best."""


def level_columns(columns: Sequence[Feature] | None) -> tuple[list[list[int]], list[int]]:
    """Columns of the book [channels][levels], and those beside it.

    A channel is a side and a quantity that has all levels, 1 to the deepest named. Raises `ConfigError` where there is none.
    """
    found: dict[str, dict[int, int]] = {}
    for column, feature in enumerate(columns or ()):
        if match := LEVEL.fullmatch(feature.name):
            found.setdefault(f"{match[1]}_{match[2]}", {})[int(match[3])] = column
    deepest = max((max(levels) for levels in found.values()), default=0)
    book = [[levels[level] for level in sorted(levels)] for levels in found.values() if len(levels) == deepest]
    if deepest < 2 or not book:
        names = ", ".join(feature.name for feature in (columns or ())[:4]) or "none"
        raise ConfigError(
            "encoder 'cnn' reads book levels: expected features named like bid_size_1, bid_size_2, ask_size_1, ...; "
            f"got {len(columns or ())} features ({names}{', ...' if len(columns or ()) > 4 else ''}); "
            "use an environment that shows at least two levels, such as emp-lob-v0, or the encoder 'mlp'"
        )
    inside = {column for channel in book for column in channel}
    return book, [column for column in range(len(columns or ())) if column not in inside]


class LevelCNN(Encoder):
    """Two convolutions of `kernel` levels over the book, then one layer that also reads the columns beside it. No memory."""

    def __init__(
        self, width: int, columns: Sequence[Feature] | None = None, *, size: int = 64, channels: int = 16, kernel: int = 3
    ) -> None:
        super().__init__()
        at_least_one(size=size, channels=channels, kernel=kernel)
        if kernel % 2 == 0:
            raise ConfigError(f"kernel: expected an odd number of levels, got {kernel}")
        book, beside = level_columns(columns)
        self.size, self.shape = size, (len(book), len(book[0]))
        flat = [column for channel in book for column in channel]
        self.register_buffer("book", torch.tensor(flat), persistent=False)
        self.register_buffer("beside", torch.tensor(beside, dtype=torch.long), persistent=False)
        self.filters = nn.Sequential(
            nn.Conv1d(len(book), channels, kernel, padding=kernel // 2), nn.ReLU(),
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.join = nn.Sequential(nn.Linear(channels * len(book[0]) + len(beside), size), nn.ReLU())

    book: Tensor
    beside: Tensor

    def forward(self, x: Tensor, state: State, fresh: Tensor) -> tuple[Tensor, State]:
        rows = x.reshape(-1, x.shape[-1])
        levels = self.filters(rows[:, self.book].reshape(-1, *self.shape))
        y = self.join(torch.cat([levels, rows[:, self.beside]], dim=1))
        return y.reshape(*x.shape[:-1], self.size), state
