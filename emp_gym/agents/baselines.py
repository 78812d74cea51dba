"""Rules to be measured against: each is short, named after its source, and free of learning.

They know an environment through its spaces, features and spec alone. `Oracle` is the exception that its name
announces: it reads the planted truth of synthetic days through `bind`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import BaseAgent
from emp_gym.types import F32, Bool, ConfigError

KEEP, QUOTE_BOTH, BUY, SELL, FLATTEN = 0, 1, 7, 8, 10
"""Entries of the menu of ``emp-lob-v0`` that the rules use."""
NO_SIZE = np.array([-1.0, 0.0, -1.0], np.float32)
AT_TOUCH = np.array([-1.0, 0.0, 1.0], np.float32)
"""Actions (half-spread, skew, size) of ``emp-lob-market-making-v0``: nothing quoted; both sides at the touch, full
size."""


def parameter(spec: Any, name: str, default: float) -> float:
    """What the environment was made with, else its documented default."""
    return float(getattr(spec, "kwargs", {}).get(name, default))


class Fixed(BaseAgent):
    """Always the same action, where the mask allows it; else action 0."""

    menu_entry: ClassVar[int] = KEEP
    levers: ClassVar[np.ndarray] = NO_SIZE

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        lanes = len(observation)
        if isinstance(self.action_space, spaces.Discrete):
            wanted = np.full(lanes, self.action_space.start + self.menu_entry, np.int64)
            return allowed(wanted, mask), state
        assert isinstance(self.action_space, spaces.Box)
        if self.action_space.shape == self.levers.shape:
            return np.tile(self.levers, (lanes, 1)), state
        neutral = np.clip(0.0, self.action_space.low, self.action_space.high).astype(self.action_space.dtype)
        return np.tile(neutral, (lanes, *([1] * neutral.ndim))), state


class Hold(Fixed):
    """Does nothing: the benchmark that every strategy with costs must beat. In execution it waits for the deadline."""


class Symmetric(Fixed):
    """Quotes both sides at the touch, whatever the position: the naive market maker, as in Ho and Stoll (1981) without
    their inventory term."""

    menu_entry = QUOTE_BOTH
    levers = AT_TOUCH

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.action_space, spaces.Discrete) and self.action_space.n <= QUOTE_BOTH:
            raise ConfigError(f"symmetric needs a menu with 'quote both' (entry {QUOTE_BOTH}), got {self.action_space}")


def allowed(wanted: np.ndarray, mask: Bool | None) -> np.ndarray:
    """`wanted` [N] where `mask` [N, A] allows it, else KEEP."""
    if mask is None:
        return wanted
    return np.where(mask[np.arange(len(wanted)), wanted], wanted, KEEP)


class Random(BaseAgent):
    """Uniform over the actions that the mask allows (over the box otherwise).

    Lane i draws from a counter-based stream of (seed, i, episode, step), so it is the same for any number of lanes.
    State: episode and step of each lane, int64 [N] each.
    """

    stochastic = True

    def initial_state(self, lanes: int) -> dict[str, np.ndarray]:
        return {"episode": np.zeros(lanes, np.int64), "step": np.zeros(lanes, np.int64)}

    def reset_state(self, state: Any, done: Bool) -> Any:
        return {"episode": state["episode"] + done, "step": np.where(done, 0, state["step"])}

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        lanes = len(observation)
        width = 1 if isinstance(self.action_space, spaces.Discrete) else int(np.prod(self.action_space.shape or (1,)))
        uniform = self._uniform(state, lanes, width)
        following = {"episode": state["episode"], "step": state["step"] + 1}
        if isinstance(self.action_space, spaces.Discrete):
            if mask is None:
                mask = np.ones((lanes, int(self.action_space.n)), bool)
            place = np.floor(uniform[:, 0] * mask.sum(axis=1))
            return (mask.cumsum(axis=1) > place[:, None]).argmax(axis=1) + int(self.action_space.start), following
        assert isinstance(self.action_space, spaces.Box)
        low, high = self.action_space.low.ravel(), self.action_space.high.ravel()
        drawn = (low + uniform * (high - low)).astype(self.action_space.dtype)
        return drawn.reshape(lanes, *self.action_space.shape), following

    def _uniform(self, state: Any, lanes: int, width: int) -> np.ndarray:
        """Uniform in [0, 1), [N, width]."""
        key = np.full(lanes, np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])
        for part in (np.arange(lanes), state["episode"], state["step"]):
            key = _mix(key + np.asarray(part).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        columns = [_mix(key + np.uint64(column + 1)) for column in range(width)]
        return np.stack(columns, axis=1) / 2.0**64 * (1 - 2.0**-53)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class OrderFlowConfig:
    """Parameters of `OrderFlowTaker`. Order-flow imbalance is read as published: scaled, in [-10, 10]."""

    feature: str = "ofi_long"
    enter: float = 2.0  # trades when the imbalance is beyond this
    hold: int = 24  # decisions after which the position is closed, unless the flow still points the same way


class OrderFlowTaker(BaseAgent):
    """Takes one clip in the direction of the order-flow imbalance, holds it for a while, flattens.

    Cont, Kukanov and Stoikov, "The Price Impact of Order Book Events" (J. Financial Econometrics 2014), eq. 3: price
    changes are linear in order-flow imbalance; this rule bets that a large one goes on. State: decisions since entry,
    int64 [N].
    """

    Config: ClassVar[type | None] = OrderFlowConfig
    config: OrderFlowConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flow, self._inventory = self.column(self.config.feature), self.column("inventory")

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.zeros(lanes, np.int64)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        flow, inventory = observation[:, self._flow], observation[:, self._inventory]
        says = np.where(flow > self.config.enter, 1, np.where(flow < -self.config.enter, -1, 0))
        has = np.sign(inventory).astype(np.int64)
        age = np.where((has == 0) | (says == has), 0, state + 1)
        leave = (has != 0) & ((age >= self.config.hold) | (says == -has))
        wanted = np.where(
            leave, FLATTEN, np.where((has == 0) & (says > 0), BUY, np.where((has == 0) & (says < 0), SELL, KEEP))
        )
        return allowed(wanted, mask), np.where(leave, 0, age)


@dataclass(frozen=True)
class OracleConfig:
    """Parameters of `Oracle`. The planted signal is in [-1, 1]."""

    enter: float = 0.3  # goes to the full position when the signal is beyond this
    leave: float = 0.0  # and out when it has come back to this


class Oracle(BaseAgent):
    """Knows the planted drift of synthetic days and takes to hold its sign: a bar for what the signal is worth to a
    taker, not something to trade. Needs `bind`; raises the environment's own error on recorded days, which have no
    truth."""

    Config: ClassVar[type | None] = OracleConfig
    config: OracleConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inventory = self.column("inventory")
        self._env: Any = None

    def bind(self, env: Any) -> None:
        """Reads the truth of `env`, lane by lane, from now on."""
        env.unwrapped.truth()
        self._env = env

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        if self._env is None:
            raise ConfigError("an oracle must be bound to its environment first: agent.bind(env)")
        signal = self._env.unwrapped.truth()[0]
        has = np.sign(observation[:, self._inventory])
        sign = np.sign(signal)
        strong = np.abs(signal) > self.config.enter
        wrong = (has * signal < 0) & (np.abs(signal) >= self.config.leave)
        wanted = np.where(strong & (sign > 0), BUY, np.where(strong & (sign < 0), SELL, KEEP))
        return allowed(np.where(wrong, FLATTEN, wanted), mask), state


@dataclass(frozen=True)
class AvellanedaStoikovConfig:
    """Parameters of `AvellanedaStoikov`. Prices in ticks, inventory as a share of the limit, time as a share of the
    episode."""

    risk_aversion: float = 0.1  # gamma, per tick
    decay: float = 1.5  # k: fill intensity falls as exp(-k * ticks from mid)
    horizon: float = 1.0  # T, in units in which `volatility` is measured
    volatility: str = "volatility_long"


class AvellanedaStoikov(BaseAgent):
    """The closed-form market maker of Avellaneda and Stoikov, "High-frequency trading in a limit order book"
    (Quantitative Finance 2008).

    Reservation price (eq. 17) r = s - q gamma sigma^2 (T - t); spread (eq. 18) gamma sigma^2 (T - t) + 2 / gamma ln(1
    + gamma / k). Mapped onto the action box: half-spread beyond the touch and skew, in units of `max_offset` ticks.
    """

    Config: ClassVar[type | None] = AvellanedaStoikovConfig
    config: AvellanedaStoikovConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.action_space, spaces.Box) or self.action_space.shape != AT_TOUCH.shape:
            raise ConfigError(
                f"avellaneda-stoikov quotes through Box actions (half-spread, skew, size), got {self.action_space}; "
                "use it on emp-lob-market-making-v0"
            )
        for name in ("inventory", "elapsed", "spread", self.config.volatility):
            self.column(name)
        self._max_offset = parameter(self.spec, "max_offset", MAX_OFFSET)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        gamma, decay = self.config.risk_aversion, self.config.decay
        left = (1.0 - self.value(observation, "elapsed")) * self.config.horizon
        variance = (self.ticks(observation, self.config.volatility)) ** 2
        risk = gamma * variance * left  # gamma sigma^2 (T - t), ticks
        reservation = -self.value(observation, "inventory") * risk  # from mid
        half = 0.5 * risk + np.log1p(gamma / decay) / gamma
        beyond_touch = half - 0.5 * self.ticks(observation, "spread")
        action = np.empty((len(observation), 3), np.float32)
        action[:, 0] = np.clip(2.0 * beyond_touch / self._max_offset - 1.0, -1.0, 1.0)
        action[:, 1] = np.clip(reservation / self._max_offset, -1.0, 1.0)
        action[:, 2] = 1.0
        return action, state

    def ticks(self, observation: F32, name: str) -> np.ndarray:
        """A feature [N] in ticks, from whichever unit it is published in."""
        unit = self.features[self.column(name)].unit
        return self.value(observation, name) * (0.5 if unit.startswith("half tick") else 1.0)


MAX_OFFSET = 10
"""Ticks; the default of ``emp-lob-market-making-v0`` (a test holds it equal)."""
