"""An agent that is trained in no time, whose best parameters are known, and engines that go wrong on purpose.

`Dial` sells a constant share of what is left in every decision on ``emp-almgren-chriss-v0``: near `share` -0.8 it does well. Learning adds
a noise to it that depends on its seed and shrinks with the steps; `wild` ones cannot be trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from emp_gym.agents.base import Arrays, BaseAgent
from emp_gym.search.jobs import JobResult
from emp_gym.types import ConfigError

TABLE = {
    "agent.share": {"low": -1.0, "high": 1.0}, "agent.noise": {"low": 0.01, "high": 1.0, "log": True},
    "agent.layers": [[8], [8, 8]], "agent.wild": [False, False, False, True],
}  # fmt: skip
DIAL = "searchable:Dial"


@dataclass(frozen=True)
class DialConfig:
    share: float = 0.0
    noise: float = 0.1
    layers: tuple[int, ...] = (8,)
    wild: bool = False


class Dial(BaseAgent):
    """See the module."""

    Config = DialConfig
    search_space = {key: TABLE[key] for key in ("agent.share", "agent.noise")}

    def __init__(self, *arguments: Any, **config: Any) -> None:
        super().__init__(*arguments, **config)
        self.num_timesteps, self.turned = 0, self.config.share

    def learn(self, make_env: Callable[..., Any], total_timesteps: int, callback: Any = None) -> None:
        self.num_timesteps = total_timesteps
        if self.config.wild:
            raise ConfigError("this dial cannot be turned")
        luck = np.random.default_rng([self.seed, total_timesteps]).normal()
        self.turned = float(np.clip(self.config.share + self.config.noise * luck / total_timesteps**0.5, -1, 1))

    def act(self, observation: np.ndarray, state: Any, mask: Any = None) -> tuple[np.ndarray, Any]:
        return np.full((len(observation), *self.action_space.shape), self.turned, np.float32), state

    def arrays(self) -> Arrays:
        return {"turned": np.array([self.turned])}

    def restore(self, arrays: Arrays) -> None:
        self.turned = float(arrays["turned"][0])


class Fumbling:
    """An engine in this process that gives results in an order of its own, counts them, and is killed after `lives` of them.

    What was worked out before, in whatever test, is remembered: that the same task gives the same result is tested elsewhere.
    """

    workers = 3
    _known: ClassVar[dict[Any, Any]] = {}

    def __init__(self, seed: int = 0, lives: int | None = None) -> None:
        self._rng, self.lives, self.done = np.random.default_rng(seed), lives, list[Any]()

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any], *, stop: Any = None) -> Iterator[tuple[int, Any]]:
        for index in self._rng.permutation(len(tasks)).tolist():
            if self.lives is not None and len(self.done) >= self.lives:
                raise KeyboardInterrupt
            self.done.append(tasks[index])
            key = function.__qualname__, tasks[index]
            if key not in self._known:
                self._known[key] = function(tasks[index])
            yield index, self._known[key]

    def close(self) -> None:
        """Nothing to let go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Formula(Fumbling):
    """An engine that does no work: figures follow from the parameters `a`, `b`, ... of the agent in closed form. The value is best where
    all are 0.7, drawdown where the first is 0."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any], *, stop: Any = None) -> Iterator[tuple[int, Any]]:
        for index, unit in enumerate(tasks):
            config = json.loads(unit.config)
            x = np.array([config["agent"][name] for name in "abcdef"])
            value = 1 - float(((x - 0.7) ** 2).sum())
            yield index, JobResult((value, float(x[0]), 1.0), (value,), config["total_timesteps"], 0.0)


@dataclass(frozen=True)
class SixConfig:
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0


class Six(BaseAgent):
    """Six parameters and nothing else."""

    Config = SixConfig

    def act(self, observation: np.ndarray, state: Any, mask: Any = None) -> tuple[np.ndarray, Any]:
        return np.zeros((len(observation), *self.action_space.shape), np.float32), state
