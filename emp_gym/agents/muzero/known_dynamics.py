"""What follows exactly: the columns of an observation that accounting alone moves, and the outcomes that chance decides.

An agent hardly moves the market, but it moves its own inventory, orders and clock by plain identities. An `KnownDynamics` says
for one kind of environment

- which columns of the observation these are;
- how a step is named: one of `codes` outcomes, read off two consecutive observations and the action between them;
- what the columns are after an action and an outcome.

The planner learns how likely each code is and what it pays; the account moves the columns. The observation is all that is
read. An environment of ours without a rule gets `ClockDynamics`, any other a plain `KnownDynamics`; their codes are learned.

====================  =============================================  ===================================================
account               exact                                          code
====================  =============================================  ===================================================
`KnownDynamics`                                                            learned
`ClockDynamics`               elapsed                                        learned
`QuoteDynamics`              elapsed, closing, inventory                    net fill: -1, 0, +1 (both sides filled counts as 0)
`BookDynamics`                elapsed, inventory and own orders, see there   mid down/same/up x bid gone x ask gone
====================  =============================================  ===================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emp_gym.envs.about import CERTIFICATE, FOREIGN, EnvInfo, told_by
from emp_gym.types import F32, I64, LEAVE, WITHDRAW, Action


class KnownDynamics(nn.Module):
    """Keeps no column and names no outcome: the interface, and what suits an unknown environment."""

    names: tuple[str, ...] = ()  # features that it keeps, in order
    codes: int = 0  # 0: outcomes are learned

    tick: Tensor  # share of the episode that a decision takes; 0 until a step was seen

    def __init__(self, features: dict[str, int] | None = None) -> None:
        super().__init__()
        self.features = features or {}
        self.columns = [self.features[name] for name in self.names]
        self.register_buffer("tick", torch.zeros((), dtype=torch.float64))

    def watch(self, before: F32, after: F32) -> None:
        """Learns the length of a decision from observations [N, D] of one step."""
        if "elapsed" in self.names and not self.tick:
            column = self.features["elapsed"]
            self.tick.fill_(float(np.median(after[:, column].astype(np.float64) - before[:, column])))

    def code(self, before: F32, action: F32, after: F32) -> I64:
        """The outcome [N] of a step between two observations [N, D] with actions [N, A] as the planner encodes them."""
        return np.zeros(len(before), np.int64)

    def advance(self, private: Tensor, action: Tensor, code: Tensor) -> Tensor:
        """The kept columns [M, P] after actions [M, A] and codes [M]."""
        return private

    def _later(self, elapsed: Tensor) -> Tensor:
        """The clock one decision on, without adding up rounding errors."""
        tick = self.tick.clamp(min=1e-9)
        return (((elapsed.double() / tick).round() + 1) * tick).clamp(max=1.0).float()


class ClockDynamics(KnownDynamics):
    """Keeps the clock."""

    names = ("elapsed",)

    def advance(self, private: Tensor, action: Tensor, code: Tensor) -> Tensor:
        return self._later(private)


class QuoteDynamics(KnownDynamics):
    """The quoting certificates: inventory moves by one lot when one side is filled. Exact always."""

    names = ("elapsed", "inventory", "closing")
    codes = 3

    def __init__(self, features: dict[str, int], lot: float) -> None:
        super().__init__(features)
        self.lot = lot  # one lot in units of the column

    def code(self, before: F32, action: F32, after: F32) -> I64:
        column = self.features["inventory"]
        return np.sign(np.rint((after[:, column] - before[:, column]) / self.lot)).astype(np.int64) + 1

    def advance(self, private: Tensor, action: Tensor, code: Tensor) -> Tensor:
        elapsed = self._later(private[..., 0])
        inventory = ((private[..., 1] / self.lot).round() + code - 1) * self.lot
        return torch.stack((elapsed, inventory, 1 / (1 + 10 * (1 - elapsed))), -1)


class BookDynamics(KnownDynamics):
    """A table of actions on an order book without latency, such as that of ``emp-lob-v0``: clock, inventory, and for each side
    whether an order rests and how much of it is left.

    Exact whenever an order is filled whole or not at all. What chance may still do and the code does not say: fill an order in
    part, or find less in the book than a market order wants. The planner then believes in the whole.
    """

    names = ("elapsed", "inventory", "bid_live", "ask_live", "bid_quantity", "ask_quantity")
    codes = 12

    read = (*names, "return_step")

    def __init__(self, features: dict[str, int], clip: float, actions: Sequence[Action]) -> None:
        super().__init__(features)
        self.clip = clip  # one clip in units of the inventory column
        tables = {
            "wanted": [[_rests(side, action.cancel) for side in (action.bid, action.ask)] for action in actions],
            "taken": [action.take for action in actions],
            "target": [np.nan if action.to is None else action.to for action in actions],
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32), persistent=False)

    wanted: Tensor  # [A, 2] clips of bid and ask that shall rest afterwards; -1: as it is
    taken: Tensor  # [A] clips taken from the book at once
    target: Tensor  # [A] clips to which the position is traded; NaN: it is not

    def code(self, before: F32, action: F32, after: F32) -> I64:
        at = self.features
        wanted = self.wanted.numpy(force=True)[action.argmax(1)]
        move = np.sign(after[:, at["return_step"]]).astype(np.int64) + 1
        code = move
        for side, name in enumerate(("bid_live", "ask_live")):
            resting = np.where(wanted[:, side] < 0, before[:, at[name]], wanted[:, side]) > 0
            code = code * 2 + (resting & (after[:, at[name]] == 0))
        return code

    def advance(self, private: Tensor, action: Tensor, code: Tensor) -> Tensor:
        elapsed, inventory = self._later(private[..., 0]), private[..., 1]
        choice = action.argmax(-1)
        wanted = self.wanted[choice]
        kept = wanted < 0
        live = torch.where(kept, private[..., 2:4], (wanted > 0).float())
        quantity = torch.where(kept, private[..., 4:6], wanted)
        gone = torch.stack((code // 2 % 2, code % 2), -1).float()
        bought, sold = (gone * live * quantity).unbind(-1)
        after = inventory + self.clip * (self.taken[choice] + bought - sold)
        target = self.target[choice]
        after = torch.where(target.isnan(), after, self.clip * target)
        left = 1 - gone
        return torch.cat((elapsed[..., None], after[..., None], live * left, quantity * left), -1)


def _rests(side: int, cancelled: bool) -> float:
    """Clips that rest on a side afterwards; -1: as it is."""
    if side == LEAVE:
        return 0.0 if cancelled else -1.0
    return 0.0 if side == WITHDRAW else 1.0


def account_of(spec: Any) -> KnownDynamics:
    """The account of the environment that `spec` describes."""
    about = told_by(spec)
    features = {feature.name: column for column, feature in enumerate(about.features)}
    if about.kind == FOREIGN or "elapsed" not in features:
        return KnownDynamics()
    if about.kind == CERTIFICATE:
        quotes = set(features) == set(QuoteDynamics.names)
        return QuoteDynamics(features, 1 / about.features[features["inventory"]].scale) if quotes else ClockDynamics(features)
    told = sum(action.keeps for action in about.actions) == 1  # of a task that sends what it likes actions are but names
    if told and not about.relative and not _late(about) and set(BookDynamics.read) <= set(features):
        return BookDynamics(features, about.parameters["order_quantity"] / about.parameters["max_position"], about.actions)
    return ClockDynamics(features)


def _late(about: EnvInfo) -> bool:
    """Whether orders are in flight, or the book is shown later than it is."""
    if (assumes := about.assumes) is None:
        return "in_flight" not in about.constant_features  # a market of somebody else says no more than that
    return bool(assumes.order_latency_ns or assumes.feed_latency_ns)


__all__ = ["BookDynamics", "ClockDynamics", "KnownDynamics", "QuoteDynamics", "account_of"]
