"""Acting around a baseline: the policy learns what to add to a closed form, and before it has learned anything it is that form.

Box actions: clip(base + scale u), u the policy's action, 0 at the beginning. Menus: the baseline's entry is given `prior` logits more
than the others, which are equal at the beginning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.agents.base import Arrays, Bound, configured, traits
from emp_gym.agents.ppo.closed_forms import ClosedForm
from emp_gym.envs import problem_of
from emp_gym.types import F32, Bool, ConfigError, MakeEnv

CALIBRATION = 1 << 20
"""Decisions that a baseline may watch before the policy learns; its own parameter `steps` sets fewer."""
PREFIX = "base."


class Residual:
    """The baseline called `name` and what is made of its actions. `agent` is any agent that follows from what it sees.

    Raises `ConfigError` for a name that is no baseline, for oracles and for rules that draw at random.
    """

    def __init__(
        self, name: str, observation_space: spaces.Box, action_space: spaces.Space, spec: Any, seed: int,
        options: dict[str, Any], scale: float,
    ) -> None:  # fmt: skip
        self.space, self.scale = action_space, np.float32(scale)
        cls = _class(name, spec)
        given = {"rule": name, **options} if cls is ClosedForm else options
        configured(cls, given)  # an unknown option is told by its name
        self.agent: Any = cls(observation_space, action_space, spec, seed=seed, **given)
        if traits(self.agent).stochastic or isinstance(self.agent, Bound):
            why = "draws at random" if traits(self.agent).stochastic else "reads what nobody may see"
            raise ConfigError(f"residual={name}: this baseline {why}; take one that follows from the observation")

    # ---- calibration

    @property
    def waits(self) -> bool:
        """Whether the baseline lacks numbers that it measures on training days."""
        from emp_gym.agents.baselines.calibration import Calibrated

        return isinstance(self.agent, Calibrated) and bool(self.agent.missing())

    def calibrate(self, make_env: MakeEnv) -> None:
        """Lets a baseline that waits watch the training days first; `DataError` where they do not tell."""
        if self.waits:
            self.agent.learn(make_env, CALIBRATION)

    def arrays(self) -> Arrays:
        """What the baseline measured, under names that begin with ``base.``."""
        return {PREFIX + name: array for name, array in self.agent.arrays().items()}

    def restore(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave, among others."""
        mine = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        if mine:
            self.agent.restore(mine)

    # ---- acting

    def initial_state(self, lanes: int) -> Any:
        return self.agent.initial_state(lanes)

    def reset_state(self, state: Any, done: Bool) -> Any:
        return self.agent.reset_state(state, done)

    def propose(self, observation: F32, state: Any, mask: Bool | None) -> tuple[np.ndarray, Any]:
        """The baseline's actions: entries i8 [N] of a menu counted from 0, or Box actions f4 [N, A]; and its next state."""
        base, state = self.agent.act(observation, state, mask)
        if isinstance(self.space, spaces.Discrete):
            return np.asarray(base, np.int64) - int(self.space.start), state
        return np.asarray(base, np.float32).reshape(len(observation), *(self.space.shape or ())), state

    def perform(self, base: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Box actions [N, A]: `base` and what the policy adds to it, inside the box."""
        assert isinstance(self.space, spaces.Box)
        return np.clip(base + self.scale * offset, self.space.low, self.space.high)


def _class(name: str, spec: Any) -> type:
    from emp_gym.agents.baselines import TABLE
    from emp_gym.agents.suggest import nearest

    if problem_of(str(getattr(spec, "id", ""))) is not None:
        return ClosedForm
    known = {row.name: row.agent for row in TABLE}
    if name not in known:
        raise ConfigError(f"residual: no baseline is called {name!r}; did you mean {nearest(name, known)}?")
    return known[name]


__all__ = ["PREFIX", "Residual"]
