"""Collects the decisions of N lanes, step by step, until somebody takes them as a `Block`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emp_gym.evaluation.observers import Decision, Observer, Settled
from emp_gym.governance.diary import kernels
from emp_gym.governance.diary.blocks import (
    DECISION,
    FILLED,
    OBJECTION,
    ORDERED,
    UNKNOWN_REGIME,
    Block,
)
from emp_gym.types import F32, I8, I64, Verdicts

ROWS = 1 << 16
"""Decisions a block: so many are lost at most if the process dies."""


Regimes = Callable[[np.ndarray], I8]
"""Gives `Regime` i1 [N] of the rows that lanes `LANE` [N] have been shown."""


class DecisionRecorder(Observer):
    """Decisions of `lanes` lanes with up to `slots` orders each; `levers` 0: actions of a menu, else so many numbers.
    `regimes` None: nobody knows.

    `observed` keeps the hashes of the observations on which the next decisions are taken.
    """

    def __init__(
        self, lanes: int, slots: int, levers: int = 0, rows: int = ROWS, run: str = "", regimes: Regimes | None = None
    ) -> None:
        self._regimes = regimes
        self.lanes, self.run, self.step = lanes, run, 0
        self._first = 0  # first step of the block at hand
        self._rows = max(rows, lanes)
        self._decisions = np.zeros(self._rows, DECISION)
        self._actions = np.zeros((self._rows, levers), np.float32) if levers else np.zeros(self._rows, np.int64)
        self._orders = np.zeros(lanes * slots, ORDERED)
        self._sent = np.zeros(lanes * slots, ORDERED)
        self._used = np.zeros(3, np.int64)  # decisions, orders, sent
        self._objections: list[np.ndarray] = []
        self._fills, self._filled = np.zeros(lanes, FILLED), np.zeros(1, np.int64)
        self._place = np.full(lanes, -1, np.int64)
        self._hashes = np.zeros(lanes, np.uint64)
        self._unknown = np.full(lanes, UNKNOWN_REGIME, np.int8)
        self._everyone = np.arange(lanes)
        self._equity2: I64 = np.zeros(lanes, np.int64)  # twice the equity after the last step
        self._notes: list[tuple[int, str]] = []
        self._said: dict[int, str] = {}

    @property
    def full(self) -> bool:
        """Whether a block of `rows` decisions may be exceeded in the next step: time to `take` it."""
        return int(self._used[0]) + self.lanes > self._rows

    def note(self, lane: int, text: str) -> None:
        """What the agent says of the lane's next decision."""
        self._said[lane] = text

    def observed(self, observation: F32, lanes: I64 | None = None) -> None:
        """The observation f4 [N, D] on which `lanes` (None: all) will decide next."""
        words = np.ascontiguousarray(observation, np.float32).view(np.uint32)
        kernels.hash_lanes(self._everyone if lanes is None else lanes, words, self._hashes)

    def decided(self, now: Decision) -> None:
        """Notes the decisions of one step: the orders proposed, what gates said, the orders about to be sent."""
        orders, sent, lane = now.orders, now.sent, now.public.lane
        self._orders = _with_room(self._orders, int(self._used[1]) + orders.kind.size)
        self._sent = _with_room(self._sent, int(self._used[2]) + orders.kind.size)
        begin = int(self._used[0])
        self._decisions = _with_room(self._decisions, begin + self.lanes)
        self._actions = _with_room(self._actions, begin + self.lanes)
        kernels.decide(
            self._used, self.step, now.moved, now.masked, self._hashes, now.latch, now.view.time_ns,
            now.view.decision, lane["day"], lane["row"], self._unknown if self._regimes is None else self._regimes(lane),
            orders.kind, orders.records, sent.kind, sent.records, sent is not orders,
            self._decisions, self._orders, self._sent, self._place,
        )  # fmt: skip
        end = int(self._used[0])
        self._actions[begin:end] = now.actions[now.moved] if end - begin < self.lanes else now.actions
        for number, verdict in enumerate(now.verdicts):
            if verdict.touched:
                self._object(number, verdict)
        self._notes += [(int(self._place[at]), text) for at, text in sorted(self._said.items()) if self._place[at] >= 0]
        self._said.clear()
        self.step += 1

    def _object(self, gate: int, verdict: Verdicts) -> None:
        lane, slot = np.nonzero(verdict.reason)
        kept = self._place[lane] >= 0
        lane, slot = lane[kept], slot[kept]
        entries = np.zeros(len(lane), OBJECTION)
        entries["at"], entries["gate"], entries["slot"] = self._place[lane], gate, slot
        entries["reason"] = verdict.reason[lane, slot]
        entries["before"], entries["after"] = verdict.quantity_before[lane, slot], verdict.quantity_after[lane, slot]
        self._objections.append(entries)

    def settled(self, now: Settled) -> None:
        """Notes what became of the decisions of the step, and its fills."""
        equity2, fills = now.view.equity2, now.fills
        kernels.settle(
            self._place, now.reward, now.terminated, now.truncated, equity2, self._equity2, self._decisions
        )
        self._fills = _with_room(self._fills, int(self._filled[0]) + len(fills.lane))
        kernels.fill(
            self._filled, self._place, fills.lane, fills.row, fills.time_ns, fills.id, fills.side, fills.price,
            fills.quantity, fills.fee, fills.maker, fills.beyond_depth, fills.instrument, self._fills,
        )  # fmt: skip

    def peek(self) -> Block:
        """What has been collected since the last `take`; valid until the next step."""
        decisions, orders, sent = (int(count) for count in self._used)
        objections = np.concatenate([np.zeros(0, OBJECTION), *self._objections])
        objections = objections[np.argsort(objections["at"], kind="stable")]
        return Block(
            self.run, self.lanes, self._first, self.step - self._first, self._decisions[:decisions],
            self._actions[:decisions], self._orders[:orders], self._sent[:sent], objections,
            self._fills[: int(self._filled[0])], list(self._notes),
        )  # fmt: skip

    def take(self) -> Block:
        """As `peek`, and begins anew."""
        block = self.peek()
        self._used[:] = self._filled[:] = 0
        self._first = self.step
        self._place[:] = -1
        self._objections, self._notes = [], []
        return block


def _with_room(table: np.ndarray, needed: int) -> np.ndarray:
    if needed <= len(table):
        return table
    larger = np.zeros((max(needed, 2 * len(table)), *table.shape[1:]), table.dtype)
    larger[: len(table)] = table
    return larger
