"""Rules that cross the spread on a signal: order-flow imbalance, momentum, mean reversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from emp_gym.agents.base import BaseAgent
from emp_gym.agents.baselines.action_layouts import TAKES, Able, require
from emp_gym.types import F32, F64, Bool


class Taker(BaseAgent):
    """Takes one clip in the direction of `signal` when it is beyond ``config.enter``; flattens when it points the other
    way beyond ``config.enter``, after ``config.hold`` decisions without a fresh signal, or when `over` says so.

    State: decisions since the last signal of the position's own sign, int64 [N].
    """

    able: ClassVar[Able] = TAKES
    config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = require(self)
        self._inventory = self.column("inventory")

    def signal(self, observation: F32) -> F64:
        """[N], positive: buy."""
        raise NotImplementedError(f"{type(self).__name__} must define signal(observation)")

    def over(self, signal: F64, has: np.ndarray) -> np.ndarray:
        """Lanes [N] whose position of sign `has` has done what it was for."""
        return np.zeros(len(has), bool)

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.zeros(lanes, np.int64)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        signal, enter = self.signal(observation), self.config.enter
        says = np.where(signal > enter, 1, np.where(signal < -enter, -1, 0))
        has = np.sign(observation[:, self._inventory]).astype(np.int64)
        age = np.where((has == 0) | (says == has), 0, state + 1)
        leave = (has != 0) & ((age >= self.config.hold) | (says == -has) | self.over(signal, has))
        menu = self._menu
        entry = np.where(says > 0, menu.one(1), np.where(says < 0, menu.one(-1), menu.keep))
        wanted = np.where(leave, menu.flatten, np.where(has == 0, entry, menu.keep))
        return menu.allowed(wanted, mask), np.where(leave, 0, age)


@dataclass(frozen=True)
class OrderFlowConfig:
    """Parameters of `OrderFlowTaker`. Order-flow imbalance is read as published: scaled, in [-10, 10]."""

    feature: str = "ofi_long"
    enter: float = 2.0  # trades when the imbalance is beyond this
    hold: int = 24  # decisions after which the position is closed, unless the flow still points the same way


class OrderFlowTaker(Taker):
    """Follows the order-flow imbalance.

    Cont, Kukanov and Stoikov, "The Price Impact of Order Book Events" (J. Financial Econometrics 2014), eq. 3: price
    changes are linear in the order-flow imbalance of the same interval; this rule bets that a large one goes on.
    """

    Config: ClassVar[type | None] = OrderFlowConfig
    config: OrderFlowConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flow = self.column(self.config.feature)

    def signal(self, observation: F32) -> F64:
        return observation[:, self._flow].astype(np.float64)


@dataclass(frozen=True)
class MoveConfig:
    """A move of the mid is measured in its own standard deviations: a return over the root of the summed squared moves
    of the same rows (for a random walk mean 0, variance 1)."""

    move: str = "return_long"  # over the last 1,000 messages
    volatility: str = "volatility_long"  # of the same messages


@dataclass(frozen=True)
class MomentumConfig(MoveConfig):
    """Parameters of `Momentum`."""

    enter: float = 1.0  # standard deviations
    hold: int = 10  # decisions: the look-back itself, at 100 messages a decision


class Momentum(Taker):
    """Follows the last move of the mid: time-series momentum.

    Moskowitz, Ooi and Pedersen, "Time series momentum" (J. Financial Economics 2012), eq. 5: the sign of the past
    return, scaled by its volatility, says the position for the holding period. Theirs is always invested; this one
    asks for a move of one standard deviation, since a round trip costs the spread.
    """

    Config: ClassVar[type | None] = MomentumConfig
    config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.column(self.config.move), self.column(self.config.volatility)

    def signal(self, observation: F32) -> F64:
        return self.deviations(observation)

    def deviations(self, observation: F32) -> F64:
        """The last move [N] in standard deviations; 0 where nothing moved."""
        move, spread_out = self.value(observation, self.config.move), self.value(observation, self.config.volatility)
        return np.divide(move, spread_out, out=np.zeros_like(move), where=spread_out > 0)


@dataclass(frozen=True)
class ReversionConfig(MoveConfig):
    """Parameters of `MeanReversionTaker`."""

    enter: float = 2.0  # standard deviations
    hold: int = 10  # decisions after which it gives up, unless the move is still as large


class MeanReversionTaker(Momentum):
    """Fades the last move of the mid and leaves when it has come back.

    A contrarian bet on short-horizon reversals (Lehmann, "Fads, martingales, and market efficiency", Quarterly J. of
    Economics 1990) with the entry and exit of Gatev, Goetzmann and Rouwenhorst, "Pairs trading" (Review of Financial
    Studies 2006), section 2: enter at two standard deviations, leave at the next crossing of zero.
    """

    Config: ClassVar[type | None] = ReversionConfig

    def signal(self, observation: F32) -> F64:
        return -self.deviations(observation)

    def over(self, signal: F64, has: np.ndarray) -> np.ndarray:
        return signal * has <= 0
