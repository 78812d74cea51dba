"""Rules that need no numbers: nothing, chance, quotes at the touch, and the oracle, which reads the planted truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import BaseAgent
from emp_gym.agents.baselines.action_layouts import (
    ANY,
    ASK_ONLY,
    AT_TOUCH,
    BID_ONLY,
    EXECUTES,
    NO_SIZE,
    QUOTES,
    TAKES,
    TRENDS,
    Able,
    Menu,
    require,
)
from emp_gym.types import F32, Bool, ConfigError


class Fixed(BaseAgent):
    """Always the same action, where the mask allows it; else the one that keeps everything as it is."""

    able: ClassVar[Able]
    levers: ClassVar[tuple[float, ...]] = NO_SIZE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = require(self)

    def entry(self, menu: Menu) -> int:
        """Which one, of a table."""
        raise NotImplementedError(f"{type(self).__name__} must define entry(menu)")

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        lanes = len(observation)
        if isinstance(self.action_space, spaces.Discrete):
            wanted = np.full(lanes, self.action_space.start + self.entry(self._menu), np.int64)
            return self._menu.allowed(wanted, mask), state
        assert isinstance(self.action_space, spaces.Box)
        if self._menu.is_box:
            return self._menu.pulled(np.tile(self.levers, (lanes, 1))), state
        neutral = np.clip(0.0, self.action_space.low, self.action_space.high).astype(self.action_space.dtype)
        return np.tile(neutral, (lanes, *([1] * neutral.ndim))), state


class Hold(Fixed):
    """Does nothing: the benchmark that every strategy with costs must beat. In execution it waits for the deadline."""

    able = ANY

    def entry(self, menu: Menu) -> int:
        return menu.keep


class Symmetric(Fixed):
    """Quotes both sides at the touch, whatever the position: the naive market maker, as in Ho and Stoll (1981) without
    their inventory term."""

    able, levers = QUOTES, AT_TOUCH

    def entry(self, menu: Menu) -> int:
        return menu.both[0]


class Long(Fixed):
    """Buys at the market until the inventory limit and holds: what the drift of the market alone is worth. A market maker, who
    cannot take, bids at the touch and asks far away."""

    able, levers = TRENDS, BID_ONLY

    def entry(self, menu: Menu) -> int:
        return menu.more(1)


class Short(Fixed):
    """The same on the other side."""

    able, levers = TRENDS, ASK_ONLY

    def entry(self, menu: Menu) -> int:
        return menu.more(-1)


class Immediate(Fixed):
    """Takes two clips at each decision until the parent order is done: certain, and the dearest."""

    able = EXECUTES

    def entry(self, menu: Menu) -> int:
        return menu.find(take=2)


class Passive(Fixed):
    """Rests one clip at the touch all the time; what is left at the deadline is taken there."""

    able = EXECUTES

    def entry(self, menu: Menu) -> int:
        return menu.find(bid=0)


class Random(BaseAgent):
    """Uniform over the actions that the mask allows (over the box otherwise).

    Lane i draws from a counter-based stream of (seed, i, episode, step), so it is the same for any number of lanes.
    State: episode and step of each lane, int64 [N] each.
    """

    able: ClassVar[Able] = ANY
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
class OracleConfig:
    """Parameters of `Oracle`. The planted signal is in [-1, 1]."""

    enter: float = 0.3  # goes to the full position when the signal is beyond this
    leave: float = 0.0  # and out when it has come back to this


class Oracle(BaseAgent):
    """Knows the planted drift of synthetic days and takes to hold its sign: a bar for what the signal is worth to a
    taker, not something to trade. Needs `bind`; raises the environment's own error on recorded days, which have no
    truth."""

    Config: ClassVar[type | None] = OracleConfig
    able: ClassVar[Able] = TAKES
    config: OracleConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = require(self)
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
        menu = self._menu
        wanted = np.where(strong & (sign > 0), menu.more(1), np.where(strong & (sign < 0), menu.more(-1), menu.keep))
        return menu.allowed(np.where(wrong, menu.flatten, wanted), mask), state
