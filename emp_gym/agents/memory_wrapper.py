"""Lanes that show an agent what its memory recalls, and write to it what comes of its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from emp_gym.memory import encoder as situations
from emp_gym.memory.episodic import EpisodicMemory, Recollection
from emp_gym.memory.outcomes import Pending
from emp_gym.types import F32, F64, Bool, ConfigError


class Rememberer(Protocol):
    """What is asked of the agent: `emp_gym.agents.memory_agent.Remembering`."""

    inner: Any  # the agent that is shown what is recalled
    settings: Any  # of the memory
    gamma: float
    width: int  # of its observations without what is recalled
    memory: EpisodicMemory
    extremes: Any

    def told(self, recalled: Recollection) -> F32: ...
    def expected(self, recalled: Recollection) -> F64: ...
    def refit(self) -> None: ...


class RememberingLanes(VectorWrapper):
    """`env` whose observations end with what the memory of `agent` recalls; with `show` off they stay as they are.

    The first `memory_lanes` lanes write. With `before` (what `arrays` gave) and an environment whose first reset goes on in the
    middle of episodes, traces and waiting decisions go on too. Raises `ConfigError` for autoreset in the next step.
    """

    def __init__(self, env: VectorEnv, agent: Rememberer, *, show: bool = True, before: Mapping[str, np.ndarray] | None = None):
        super().__init__(env)
        self._mode = env.metadata.get("autoreset_mode")
        if self._mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            raise ConfigError(f'a memory needs autoreset_mode "SameStep" or "Disabled", got {self._mode}')
        self._agent, self._show, self._before = agent, show, dict(before or {})
        if show:
            self.single_observation_space = agent.inner.observation_space
            self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        settings, memory = agent.settings, agent.memory
        self._writers = min(env.num_envs, settings.memory_lanes)
        self._pending = Pending(
            self._writers, settings.memory_steps, agent.gamma, width=memory.width, action_size=memory.action_size,
            neighbours=memory.rules.neighbours,
        )  # fmt: skip
        self._traces = situations.begin(env.num_envs, agent.width)
        self._over: Bool = np.ones(env.num_envs, np.bool_)  # lanes whose episode is over, where they do not reset themselves
        self._totals: F64 = np.zeros(self._writers)  # rewards of the episode so far
        self._rows: list[list[int]] = [[] for _ in range(self._writers)]  # of the memory, that the episode has written

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        begun = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs)), np.bool_)
        observation, info = self.env.reset(seed=seed, options=options)
        before, self._before = self._before, {}
        if before and np.all(info.get("continued", False)):
            self._restore(before)
            return self._shown(observation), info
        self._begin(begun)
        self._traces[begun] = situations.follow(self._traces[begun], observation[begun])
        self._look()
        return self._shown(observation), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        windows, recalled = situations.windows(self._traces[: self._writers]), self._recalled.take(slice(self._writers))
        observation, rewards, terminated, truncated, info = self.env.step(actions)
        moved = ~self._over
        done = (terminated | truncated) & moved
        resets = done & (self._mode is AutoresetMode.SAME_STEP)
        last = self._last(resets, info)
        self._traces[resets] = 0.0
        self._traces[moved] = situations.follow(self._traces[moved], observation[moved])
        self._over |= done & ~resets
        self._look()
        tail = self._agent.expected(self._recalled)
        if last is not None:
            tail[resets] = self._agent.expected(last)
        tail[terminated] = 0.0
        if self._show and last is not None:
            self._show_last(info, resets, last)
        self._write(windows, actions, recalled, rewards, moved, done, tail)
        return self._shown(observation), rewards, terminated, truncated, info

    # ---- what is seen

    def _look(self) -> None:
        """Recalls what the traces of all lanes are like."""
        self._recalled: Recollection = self._agent.memory.recall(situations.windows(self._traces))
        self._told: F32 = self._agent.told(self._recalled)

    def _shown(self, observation: F32) -> F32:
        return np.concatenate((observation, self._told), axis=1) if self._show else observation

    def _last(self, resets: Bool, info: Mapping[str, Any]) -> Recollection | None:
        """What is recalled where episodes ended, in lanes that have gone on to the next one."""
        if not resets.any():
            return None
        final = np.stack([np.asarray(info["final_obs"][lane], np.float32) for lane in np.flatnonzero(resets)])
        traces = situations.follow(self._traces[resets], final)
        return self._agent.memory.recall(situations.windows(traces))

    def _show_last(self, info: dict[str, Any], resets: Bool, last: Recollection) -> None:
        final = np.full(self.num_envs, None, object)
        for lane, told in zip(np.flatnonzero(resets), self._agent.told(last)):
            final[lane] = np.concatenate((info["final_obs"][lane], told))
        info["final_obs"] = final

    # ---- what is written

    def _write(
        self, windows: F32, actions: Any, recalled: Recollection, rewards: F64, moved: Bool, done: Bool, tail: F64
    ) -> None:
        """Outcomes that are known now, as of the next tick."""
        own, memory = slice(self._writers), self._agent.memory
        memory.advance(memory.now + 1)
        taken = np.asarray(actions, np.float64)[own].reshape(self._writers, -1)
        if isinstance(self.single_action_space, spaces.Discrete):
            taken = taken - float(self.single_action_space.start)
        found = self._pending.step(
            windows, taken, recalled, np.asarray(rewards, np.float64)[own], moved=moved[own], ended=done[own], tail=tail[own]
        )
        if len(found.lanes):
            rows = memory.write(found.windows, found.actions, found.returns)
            memory.reinforce(found.recalled, found.actions, found.returns)
            for lane, row in zip(found.lanes.tolist(), rows.tolist()):
                self._rows[lane].append(row)
        self._totals += np.where(moved, rewards, 0.0)[own]
        for lane in np.flatnonzero(done[own]):
            if self._agent.extremes.add(float(self._totals[lane])):
                memory.protect(np.array(self._rows[lane], np.int64))
            self._totals[lane], self._rows[lane] = 0.0, []
        self._agent.refit()

    def _begin(self, lanes: Bool) -> None:
        """Nothing is known of the episodes of `lanes` [N] yet."""
        self._traces[lanes], self._over[lanes] = 0.0, False
        own = lanes[: self._writers]
        self._pending.forget(own)
        self._totals[own] = 0.0
        for lane in np.flatnonzero(own):
            self._rows[lane] = []

    # ---- state between runs

    def arrays(self) -> dict[str, np.ndarray]:
        """Where the lanes stand: traces, what is shown now, decisions whose outcome is not known yet."""
        written = [(lane, row) for lane, rows in enumerate(self._rows) for row in rows]
        own = {
            "traces": self._traces, "over": self._over, "told": self._told, "totals": self._totals,
            "written": np.array(written, np.int64).reshape(-1, 2),
        }  # fmt: skip
        recalled = {f"recalled.{name}": array for name, array in self._recalled.arrays().items()}
        pending = {f"pending.{name}": array for name, array in self._pending.arrays().items()}
        return {name: array.copy() for name, array in (own | recalled | pending).items()}

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        def part(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

        self._traces[:], self._over[:], self._totals[:] = arrays["traces"], arrays["over"], arrays["totals"]
        self._told = arrays["told"].copy()
        self._recalled = Recollection(**{name: array.copy() for name, array in part("recalled.").items()})
        self._pending.restore(part("pending."))
        self._rows = [[] for _ in range(self._writers)]
        for lane, row in arrays["written"].tolist():
            self._rows[lane].append(row)
