"""Any agent that learns, with a memory of patterns beside it: ``memory=faiss`` (or ``memory=numpy``) among its parameters.

``remembering(PPO)`` is the agent class. Its observations are those of the inner agent's environment and, behind them, what came
of situations like this one (`emp_gym.memory`):

====================  ==========================================================================================
``recall_action_i``   a menu: c_i (mean return after action i - mean return) / deviation, c_i the confidence
``recall_slope_i``    continuous actions: c x correlation of component i with the return
``recall_value``      (mean return - mean of all returns) / deviation of returns
``recall_trust``      c = n / (n + n0), n the evidence: likeness x outcomes, halved every half-life
====================  ==========================================================================================

A situation is the observation and traces of those before in the episode (`emp_gym.memory.encoder`), so an agent without memory
of its own acts on what it saw before. With ``memory_correct`` and an inner agent that has `correct_values`, the values in its
advantages become (1 - c) V + c V_memory: sooner good in one market, later in others, so it is off unless asked for.

While it learns, `memory_lanes` lanes write: n-step returns, which go on with what the memory itself expects after n steps.
Time is simulated: one tick a decision of all lanes. **Outside of learn() the memory is frozen**, so an evaluation gives the
same bytes again and episodes do not know of each other; `online` is there for those who want it to go on.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import numpy as np
from gymnasium import spaces

from emp_gym.agents import base
from emp_gym.agents.base import (
    Arrays,
    BaseAgent,
    Callback,
    Learner,
    Restored,
    parameters,
    read_arrays,
    traits,
    write_arrays,
)
from emp_gym.agents.memory_wrapper import RememberingLanes
from emp_gym.memory import encoder as situations
from emp_gym.memory.encoder import Projection
from emp_gym.memory.episodic import EpisodicMemory, MemoryRules, Recollection, combine, confidence
from emp_gym.types import F32, F64, Bool, ConfigError, DataError, Feature, MakeEnv

BOUND = 10.0
"""Of every column that the memory adds."""
FIRST_FIT = 512
"""Outcomes after which the encoder is fitted for the first time; then whenever they have doubled."""
LANES = "lanes.safetensors"
INNER = "inner-"


@dataclass(frozen=True)
class MemoryConfig:
    """Parameters that ``memory`` brings to an agent."""

    memory: str = "faiss"  # or "numpy": the same answers, slower
    memory_capacity: int = 4_096  # rows
    memory_neighbours: int = 32  # rows of one recall
    memory_half_life: int = 20_000  # ticks: decisions of all lanes together
    memory_steps: int = 4  # rewards in a return, before it goes on with what the memory expects
    memory_gamma: float | None = None  # discount of a decision; None = the inner agent's, or 0.97
    memory_lanes: int = 64  # lanes that write
    memory_dimension: int = 16  # of a key, where a window has more columns
    memory_prior: float = 4.0  # outcomes for a confidence of one half
    memory_correct: bool = False  # values in the advantages too, where the inner agent lets them be corrected
    memory_evict: str = "weakest"  # or "oldest"
    memory_values: str = "kept"  # or "permuted", the control that must gain nothing, or "coded", see `MemoryRules`

    def __post_init__(self) -> None:
        self.rules()
        for name in ("memory_steps", "memory_lanes", "memory_dimension"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def rules(self) -> MemoryRules:
        """Of the memory itself."""
        return MemoryRules(
            backend=self.memory, capacity=self.memory_capacity, neighbours=self.memory_neighbours,
            half_life=self.memory_half_life, prior=self.memory_prior, evict=self.memory_evict, values=self.memory_values,
        )  # fmt: skip


OWN = tuple(each.name for each in fields(MemoryConfig))


class Remembering(BaseAgent):
    """An agent with a memory beside it; classes are made by `remembering`. State: traces of the episode, and the inner agent's."""

    inner_class: ClassVar[type]

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, spec: Any = None, seed: int = 0, **config: Any
    ) -> None:
        super().__init__(observation_space, action_space, spec, seed, **config)
        self.settings = MemoryConfig(**{name: value for name, value in config.items() if name in OWN})
        own = {name: value for name, value in config.items() if name not in OWN}
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise ConfigError(f"a memory takes flat Box observations, got {observation_space}; flatten them with a wrapper")
        if not isinstance(action_space, spaces.Discrete) and not (
            isinstance(action_space, spaces.Box) and len(action_space.shape) == 1
        ):
            raise ConfigError(f"a memory takes Discrete or flat Box actions, got {action_space}")
        self.width, self.columns = observation_space.shape[0], _columns(action_space)
        self.inner = self.inner_class(
            _wider(observation_space, len(self.columns)), action_space, self._told_spec(spec), seed=seed, **own
        )
        if not isinstance(self.inner, Restored):
            raise ConfigError(f"memory: {self.inner_class.__name__} has no arrays() and restore(): derive it from BaseAgent")
        own_traits = traits(self.inner)
        self.stochastic, self.learns_first = own_traits.stochastic, own_traits.learns_first
        discount = getattr(getattr(self.inner, "config", None), "gamma", 0.97)
        self.gamma = float(discount if self.settings.memory_gamma is None else self.settings.memory_gamma)
        first = Projection.plain(self.width, self.settings.memory_dimension, seed)
        self.memory = self._empty(first)
        self._fit_at = FIRST_FIT
        self.extremes = Extremes()
        self._lanes: RememberingLanes | None = None  # that learning goes on in
        self._before: Arrays = {}  # of the lanes of a checkpoint
        if self.settings.memory_correct and hasattr(self.inner, "correct_values"):
            self.inner.correct_values = self._corrected

    @property
    def rollout_steps(self) -> int:
        """As the inner agent's."""
        return traits(self.inner).rollout_steps

    # ---- acting

    def initial_state(self, lanes: int) -> Any:
        return {"traces": situations.begin(lanes, self.width), "inner": self.inner.initial_state(lanes)}

    def reset_state(self, state: Any, done: Bool) -> Any:
        traces = state["traces"].copy()
        traces[done] = 0.0
        return {"traces": traces, "inner": self.inner.reset_state(state["inner"], done)}

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        traces = situations.follow(state["traces"], observation)
        told = self.told(self.memory.recall(situations.windows(traces)))
        action, inner = self.inner.act(np.concatenate((observation, told), axis=1), state["inner"], mask)
        return action, {"traces": traces, "inner": inner}

    def told(self, recalled: Recollection) -> F32:
        """The columns [N, M] that the memory adds to an observation."""
        prior, scale = self.memory.rules.prior, max(self.memory.deviation, 1e-9)
        value, evidence = recalled.value()
        trust = confidence(evidence, prior)[:, None]
        if isinstance(self.action_space, spaces.Discrete):
            returns, for_each = recalled.by_action(int(self.action_space.n))
            worth = confidence(for_each, prior) * (returns - value[:, None]) / scale
        else:
            worth = trust * recalled.slopes()
        columns = np.concatenate((worth, (value - recalled.prior)[:, None] / scale, trust), axis=1)
        return np.clip(columns, -BOUND, BOUND).astype(np.float32)

    def expected(self, recalled: Recollection) -> F64:
        """Return [N] that the memory expects, the mean of all returns where it knows nothing."""
        value, evidence = recalled.value()
        return combine(recalled.prior, value, confidence(evidence, self.memory.rules.prior))

    # ---- learning

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """The inner agent learns in lanes that show what the memory recalls, and write to it."""
        before, self._before = self._before, {}

        def make(num_envs: int | None = None, **keywords: Any) -> RememberingLanes:
            nonlocal before
            self._lanes = RememberingLanes(make_env(num_envs=num_envs, **keywords), self, before=before)
            before = {}
            return self._lanes

        self.inner.learn(make, total_timesteps, callback)

    def online(self, env: Any) -> RememberingLanes:
        """`env` as it is, but what happens in it is written to the memory: ``backtest.evaluate(..., wrap=agent.online)``.

        What an episode gives then depends on those before it and on the lanes beside it.
        """
        return RememberingLanes(env, self, show=False)

    def refit(self) -> None:
        """Fits the encoder and embeds all rows anew, when outcomes have doubled since the last time."""
        memory = self.memory
        if memory.outcomes < self._fit_at or len(memory) < 2 * memory.rules.neighbours:
            return
        while self._fit_at <= memory.outcomes:
            self._fit_at *= 2
        encoder = memory.encoder
        assert isinstance(encoder, Projection)
        window, action, mean = (memory.column(name) for name in ("window", "action", "mean"))
        memory.reembed(encoder.fitted(window, action, mean, memory.rules.neighbours))

    def _corrected(self, observations: F32, values: F32, scale: float) -> F32:
        """`values` [N], of rewards divided by `scale`, with those of the memory where it knows the situation."""
        centred, trust = observations[:, -2].astype(np.float64), observations[:, -1].astype(np.float64)
        remembered = (centred * self.memory.deviation + self.memory.mean) / scale
        return combine(values.astype(np.float64), remembered, trust).astype(np.float32)

    # ---- files

    def arrays(self) -> Arrays:
        """The inner agent's, the memory's and its encoder's."""
        encoder = self.memory.encoder
        assert isinstance(encoder, Projection)
        own = {"fit_at": np.array([self._fit_at]), "extremes": self.extremes.numbers.copy()}
        parts = (("inner", self.inner.arrays()), ("memory", self.memory.arrays()), ("encoder", encoder.arrays()))
        return own | {f"{part}.{name}": array for part, arrays in parts for name, array in arrays.items()}

    def restore(self, arrays: Arrays) -> None:
        memory = self._empty(Projection(**part(arrays, "encoder.")))
        memory.restore(part(arrays, "memory."))
        self.inner.restore(part(arrays, "inner."))
        self.memory, self._fit_at = memory, int(arrays["fit_at"][0])
        self.extremes.numbers[:] = arrays["extremes"]

    # ---- inside

    def _empty(self, encoder: Projection) -> EpisodicMemory:
        action_size = 1 if isinstance(self.action_space, spaces.Discrete) else int(np.prod(self.action_space.shape or ()))
        return EpisodicMemory(self.settings.rules(), encoder, self.width * situations.TRACES, action_size)

    def _told_spec(self, spec: Any) -> Any:
        """`spec` whose features are followed by the memory's."""
        if not self.features:
            return spec
        told = copy.copy(spec)
        told.features = (*self.features, *(Feature(name, "1", low=-BOUND, high=BOUND) for name in self.columns))
        return told


class ResumableMemory(Remembering):
    """For an inner agent with `checkpoint` and `resume`: memory and lanes go on as if never stopped."""

    @property
    def num_timesteps(self) -> int:
        """Steps that the inner agent has learned from."""
        return int(self.inner.num_timesteps)

    def checkpoint(self, folder: Path) -> None:
        """`save`, the inner agent's checkpoint (its files begin with "inner-"), and where the lanes stand."""
        self.save(folder)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            self.inner.checkpoint(Path(aside))
            for file in Path(aside).iterdir():
                file.rename(folder / (INNER + file.name))
        if self._lanes is not None:
            write_arrays(folder / LANES, self._lanes.arrays())

    def resume(self, folder: Path) -> None:
        """Reads a checkpoint; the next `learn` goes on from there."""
        self.load(folder)
        with tempfile.TemporaryDirectory() as aside:
            for file in folder.glob(INNER + "*"):
                shutil.copyfile(file, Path(aside) / file.name.removeprefix(INNER))
            self.inner.resume(Path(aside))
        self._before = read_arrays(folder / LANES) if (folder / LANES).exists() else {}


class Extremes:
    """Which episodes are extreme: a return more than three deviations from the mean of those before."""

    def __init__(self) -> None:
        self.numbers = np.zeros(3)  # episodes, mean, sum of squares about it

    def add(self, total: float) -> bool:
        """Counts an episode's return; whether it is extreme, of which there can be no word before the 32nd."""
        count, mean, squares = self.numbers
        extreme = count >= 32 and abs(total - mean) > 3.0 * np.sqrt(squares / count) > 0.0
        delta = total - mean
        mean += delta / (count + 1)
        self.numbers[:] = count + 1, mean, squares + delta * (total - mean)
        return bool(extreme)


@lru_cache(maxsize=64)
def remembering(inner: type) -> type:
    """The class of agents `inner` with a memory. Raises `ConfigError` for agents that do not learn: nothing would be written."""
    if not issubclass(inner, Learner):
        raise ConfigError(f"memory: {inner.__name__} does not learn, so a memory would stay empty; leave memory out")
    kind = ResumableMemory if issubclass(inner, base.Resumable) else Remembering
    body: dict[str, Any] = {"inner_class": inner, "__module__": __name__, "__doc__": f"`{inner.__name__}` with a memory beside it."}
    schema = traits(inner).Config
    if parameters(inner) is not None and (is_dataclass(schema) or parameters(inner) == []):
        body["Config"] = _joined(schema)
    return type(f"Remembering{inner.__name__}", (kind,), body)


def _joined(schema: Any) -> type:
    """Parameters of the inner agent and of the memory, in one dataclass."""
    rows: list[Any] = []
    for source in (*([] if schema is None else [schema]), MemoryConfig):
        hints = get_type_hints(source)
        for each in fields(source):
            made = field(default_factory=each.default_factory) if each.default_factory is not MISSING else field(default=each.default)
            rows.append((each.name, hints[each.name], made))
    return make_dataclass("Config", rows, frozen=True)


def _columns(action_space: spaces.Space) -> tuple[str, ...]:
    if isinstance(action_space, spaces.Discrete):
        each = tuple(f"recall_action_{i}" for i in range(int(action_space.n)))
    else:
        each = tuple(f"recall_slope_{i}" for i in range(int(np.prod(action_space.shape or ()))))
    return (*each, "recall_value", "recall_trust")


def _wider(space: spaces.Box, more: int) -> spaces.Box:
    bound = np.full(more, BOUND, np.float32)
    low, high = np.concatenate((space.low, -bound)), np.concatenate((space.high, bound))
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """Those whose name begins with `prefix`, without it; `DataError` where there are none."""
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
        raise DataError(f"the model has no arrays {prefix}...: it was saved by an agent without memory")
    return found


__all__ = ["MemoryConfig", "Remembering", "remembering"]
