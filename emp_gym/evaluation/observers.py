"""What an order-book environment tells those who watch it: where its lanes begin, what is decided, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emp_gym.plugins import guard
from emp_gym.types import F32, F64, I8, I64, Bool, Fills, Orders, Reports, Verdicts, View

if TYPE_CHECKING:
    from emp_gym.market.public import Public


class Began(NamedTuple):
    """New episodes have begun."""

    view: View  # of their first moment
    public: Public  # what the market shows, of the same moment
    lanes: I64  # [n] in which


class Decision(NamedTuple):
    """What was decided and has passed the gates; the market does not have it yet."""

    view: View  # on which it was decided
    public: Public
    moved: Bool  # [N] lanes that decide; the others wait for a reset or have ended
    actions: np.ndarray  # [N] of a menu, or f4 [N, levers], as the environment took them
    masked: Bool  # [N] the action was not allowed and is executed as "keep"
    orders: Orders  # that the task asks for
    sent: Orders  # what the gates left of them: the same object where they touched nothing
    verdicts: Sequence[Verdicts]  # of each gate
    latch: I64  # [N] the tightest `Latch` of all gates


class Settled(NamedTuple):
    """What came of it."""

    view: View  # after the step, and before any lane that it ended begins anew
    public: Public
    moved: Bool  # [N]
    reward: F64  # [N] of the environment, before any wrapper
    terminated: Bool  # [N]
    truncated: Bool  # [N]
    fills: Fills
    outcome: I8  # `Outcome` at the market's door of each order that was sent
    reports: Reports  # what was said of orders of earlier steps whose `Outcome` was PENDING


class Observer:
    """Is told what the lanes of one environment do, and changes nothing. A subclass defines what it wants to hear.

    All arrays are the environment's own, read-only for a class of somebody else: whoever needs one beyond the call copies it. What
    `decided` raises stops the step before an order is sent.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        guard(cls)

    copied = False
    """Whether a copy of the environment takes a copy of this observer along; else nobody observes it."""

    def began(self, now: Began) -> None: ...
    def observed(self, observation: F32, lanes: I64 | None) -> None:
        """Observations f4 [N, D] on which `lanes` [n] (None: all) will decide next."""

    def decided(self, now: Decision) -> None: ...
    def settled(self, now: Settled) -> None: ...
