"""The environments as Gymnasium sees them: a native `VectorEnv` and its scalar face, over the same `Lanes`.

Keyword arguments (JSON values; the same for ``gym.make`` and ``gym.make_vec``):

=================  =====================  =======================================================================================
argument           default                meaning
=================  =====================  =======================================================================================
data               None                   path, list of paths (LOBSTER files, folders, zips, .tape folders) or None: embedded days
split              "train"                "train", "test" or "all"
market             "replay"               how the rest of the world answers
fills              "exact"                "exact" queue place, "touch" (the price trades), "optimistic" (the price is touched)
latency_ns         0                      order and feed latency, one number or [order, feed]
impact             "none"                 depth that we consumed: "none", "resilient", "resilient 250 ms", "permanent"
every              "100 messages"         a decision every n messages or "1 s"
episode            "256 decisions"        length of an episode
levels             5 (or the data's)      book levels in the observation
reward             the task's             see the task
order_quantity     100                    lots of one clip
max_position       500                    lots
gates              None                   rules between agent and market: names, "module:Class", {"gate": name, ...}
info               "lean"                 "lean" or "full" (fills, outcomes, verdicts of each step)
threads            None                   None: all cores from 256 lanes on (and days of up to 1 GiB are then held in memory)
maker_fee_bps      the instrument's       of notional, negative = rebate; taker_fee_bps likewise
autoreset_mode     "NextStep"             "NextStep", "SameStep" or "Disabled" (vector only)
=================  =====================  =======================================================================================

``info`` (lean): `action_mask` (discrete tasks), `cost` (orders that a gate changed), `reason` (reason bits of the gates),
`truncated_by` (`emp_gym.types.Stop`, 0 = nobody; only with a gate that may end episodes: kill switch, stage). The
step that ends an episode adds `summary`: return, length, pnl, fees, spread_captured (currency), filled, maker_filled,
beyond_depth (lots), orders, orders_filled, orders_refused, unknown_place, masked, clipped (counts), max_inventory,
mean_abs_inventory (lots), day, start.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from emp_gym.envs.core import NOBODY, Lanes
from emp_gym.sensory.lob import CLIP
from emp_gym.types import ConfigError, EmpGymError, Feature, Fills, Verdicts, View

INFO = ("lean", "full")


class ResetNeeded(EmpGymError):
    """`step` was called before `reset`, or after the episode had ended."""


class _Face:
    """What both faces publish besides Gymnasium's own."""

    lanes: Lanes
    _spec: Any = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Name, unit, scale and transform of each observation column."""
        return self.lanes.features

    @property
    def constant_features(self) -> tuple[str, ...]:
        """Columns that may stay constant for long: the status between halts, orders in flight without latency."""
        return ("status",) if self.lanes.setup[0]["latency"] else ("status", "in_flight")

    @property
    def spec(self) -> Any:
        """Gymnasium's spec; its `features` are this environment's."""
        return self._spec

    @spec.setter
    def spec(self, spec: Any) -> None:
        if spec is not None:
            spec.features = self.lanes.features
        self._spec = spec

    @property
    def task(self) -> Any:
        return self.lanes.task

    @property
    def view(self) -> View:
        """What may be known now, batched (N = 1 for the scalar face); read-only, valid until the next step."""
        return self.lanes.market.view

    @property
    def tape_set(self) -> Any:
        """The days behind this environment."""
        return self.lanes.tape

    @property
    def last_fills(self) -> Fills:
        """Own executions of the last step."""
        return self.lanes.market.last_fills()

    @property
    def last_verdicts(self) -> list[Verdicts]:
        """What each gate did with the last orders."""
        return self.lanes.verdicts

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Planted (signal, regime) of synthetic days at the current rows: for oracles only."""
        return self.lanes.truth()

    def windows(self, n: int | None = None) -> list[tuple[int, int]]:
        """Disjoint evaluation windows (day, start row) of the split, in order; `n` picks that many evenly."""
        lanes = self.lanes
        windows = lanes.windows.disjoint(lanes.tape, lanes.pace, lanes.episode)
        if n is None or n >= len(windows):
            return windows
        return [windows[i * len(windows) // n] for i in range(n)]

    def _observation_space(self) -> spaces.Box:
        return spaces.Box(-CLIP, CLIP, (len(self.lanes.features),), np.float32)

    def _cost(self) -> tuple[np.ndarray, np.ndarray]:
        """(orders changed by gates f4 [N], reason bits u8 [N]) of the last step."""
        n = self.lanes.lanes
        cost, reason = np.zeros(n, np.float32), np.zeros(n, np.uint64)
        for verdicts in self.lanes.verdicts:
            if verdicts.touched and verdicts.reason.any():
                cost += (verdicts.reason != 0).sum(axis=1)
                reason |= np.bitwise_or.reduce(verdicts.reason, axis=1)
        return cost, reason

    def _stopped(self) -> np.ndarray:
        """`Stop` i8 [N]: which gate ended the lane's episode in the last step, and why."""
        told = self.lanes.truncated_by
        return np.zeros(self.lanes.lanes, np.int8) if told is None else told.copy()

    def _full(self) -> dict[str, np.ndarray]:
        """What `info="full"` adds: the orders that reached the market, their outcomes, fills."""
        market, fills = self.lanes.market, self.last_fills
        said = {
            "kind": self.lanes.sent.kind.copy(),
            "orders": self.lanes.sent.records.copy(),
            "outcome": market.outcome.copy(),
        }
        return said | {f"fill_{name}": np.array(value) for name, value in vars(fills).items()}


class TradingVectorEnv(_Face, VectorEnv):
    """N lanes natively; made by ``gym.make_vec(id, num_envs=N)``."""

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: str = "trade",
        info: str = "lean",
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs, self.render_mode = num_envs, render_mode
        self._mode, self._info = _autoreset(autoreset_mode), _info_mode(info)
        self.metadata = self.metadata | {"autoreset_mode": self._mode}
        self.lanes = Lanes(task, num_envs, **arguments)
        self.single_observation_space = self._observation_space()
        self.single_action_space = self.lanes.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._everyone = np.ones(num_envs, np.bool_)
        self._ended = self._everyone.copy()  # lanes that wait for a reset
        self._again = NOBODY  # those of them that the next step resets
        self._flags = (np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.bool_))
        self._observation = np.zeros((num_envs, len(self.features)), np.float32)
        self._started = False

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts new episodes; options: day, start (row or "10:15:00"), stagger, reset_mask (bool [N])."""
        lanes = np.arange(self.num_envs)
        options = dict(options or {})
        reset_mask = options.pop("reset_mask", None)
        if reset_mask is not None:
            lanes = np.flatnonzero(np.asarray(reset_mask, np.bool_))
        self.lanes.seed(seed)
        self.lanes.reset(lanes, options)
        self._ended[lanes] = False
        self._flags[0][lanes] = self._flags[1][lanes] = False
        if self._mode is AutoresetMode.NEXT_STEP:
            self._again = np.flatnonzero(self._ended)
            self.lanes.market.active[self._again] = False
        self.lanes.forget()
        self._started = True
        self._observation = self._observation.copy()  # the one before was given away
        self.lanes.observe(lanes, self._observation)
        return self._observation.copy(), self._infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every lane. Lanes that ended are treated as `autoreset_mode` says."""
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        actions = self._checked(actions)
        again = self._again
        ended, terminated, truncated = self.lanes.step(actions)
        if len(again):
            self.lanes.reset(again)
            self.lanes.market.active[again] = False  # settled as "did not move"
        observation, rewards = self.lanes.settle_and_observe()
        if len(again):
            self.lanes.market.active[again] = True
        infos = self._infos()
        if self._mode is AutoresetMode.DISABLED:
            terminated |= self._flags[0] & self._ended
            truncated |= self._flags[1] & self._ended
            self._flags = (terminated.copy(), truncated.copy())
        self._ended = (ended | self._ended) if self._mode is AutoresetMode.DISABLED else ended
        if len(self.lanes.ended):
            self._end(self.lanes.ended, ended, observation, infos)
        self._again = self.lanes.ended if self._mode is AutoresetMode.NEXT_STEP else NOBODY
        self._observation = observation
        return (
            observation.copy() if self._mode is AutoresetMode.DISABLED else observation,
            rewards,
            terminated,
            truncated,
            infos,
        )

    def _end(self, lanes: np.ndarray, ended: np.ndarray, observation: np.ndarray, infos: dict[str, Any]) -> None:
        summary = self.lanes.summary(lanes)
        self.lanes.market.active[lanes] = False
        if self._mode is not AutoresetMode.SAME_STEP:
            infos["summary"], infos["_summary"] = summary, ended.copy()
            return
        final = np.full(self.num_envs, None, object)
        for lane in lanes:
            final[lane] = observation[lane].copy()
        last = {name: array for name, array in infos.items() if not name.startswith("_")}
        infos["final_obs"], infos["_final_obs"] = final, ended.copy()
        infos["final_info"] = {name: array.copy() for name, array in last.items()} | {
            "summary": summary,
            "_summary": ended.copy(),
        }
        infos["_final_info"] = ended.copy()
        self.lanes.reset(lanes)
        self.lanes.observe(lanes, observation)
        if "action_mask" in infos:
            infos["action_mask"][lanes] = self.lanes.mask[lanes]

    def _infos(self) -> dict[str, Any]:
        cost, reason = self._cost()
        infos: dict[str, Any] = {"cost": cost, "reason": reason}
        if self.lanes.row.stops:
            infos |= {"truncated_by": self._stopped(), "_truncated_by": self._everyone.copy()}
        if self.lanes.task.menu:
            infos |= {"action_mask": self.lanes.mask.copy(), "_action_mask": self._everyone.copy()}
        infos |= {"_cost": self._everyone.copy(), "_reason": self._everyone.copy()}
        if self._info == "full":
            infos |= self._full()
        return infos

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if self.lanes.task.menu:
            actions = np.asarray(actions)
            count = len(self.lanes.task.menu)
            if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
                raise ConfigError(
                    f"actions must be integers of shape ({self.num_envs},), got {actions.dtype} of shape {actions.shape}"
                )
            choices = actions.astype(np.int64, copy=False)
            if np.maximum.reduce(choices.view(np.uint64)) >= count:  # a negative number is a large one there
                raise ConfigError(f"actions must be in [0, {count}), got {choices.min()} to {choices.max()}")
            return choices
        actions = np.asarray(actions, np.float32)
        if actions.shape != self.action_space.shape or not np.isfinite(actions).all():
            raise ConfigError(
                f"actions must be finite numbers of shape {self.action_space.shape}, got shape {actions.shape}"
            )
        return np.clip(actions, -1.0, 1.0)

    def render(self) -> Any:
        """Lane 0 as text ("ansi") or picture ("rgb_array"); None without a render mode."""
        from emp_gym.envs import render

        return render.show(self.lanes, 0, self.render_mode)


class TradingEnv(_Face, gym.Env):
    """One lane; made by ``gym.make(id)``. Bit-identical to a lane of `TradingVectorEnv` with the same seed."""

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}

    def __init__(
        self,
        *,
        task: str = "trade",
        info: str = "lean",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode | None = None,
        threads: int | None = None,
        **arguments: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode, self._info = render_mode, _info_mode(info)
        self.lanes = Lanes(task, 1, threads=1, **arguments)
        self.observation_space = self._observation_space()
        self.action_space = self.lanes.task.action_space
        self._running = False
        self._choice, self._levers = np.zeros(1, np.int64), np.zeros((1, 3), np.float32)
        self._trail: Any = None
        if render_mode is not None:
            from emp_gym.envs.render import Trail

            self._trail = Trail()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode; options: day, start (row or "10:15:00"), stagger."""
        super().reset(seed=seed)
        self.lanes.seed(seed)
        self.lanes.reset(_LANE_0, options)
        self.lanes.forget()
        self._running = True
        out = np.empty((1, len(self.lanes.features)), np.float32)
        self.lanes.observe(_LANE_0, out)
        if self._trail is not None:
            self._trail.restart(self.lanes)
        return out[0], self._infos()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One decision."""
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running")
        ended, terminated, truncated = self.lanes.step(self._checked(action))
        observation, rewards = self.lanes.settle_and_observe()
        infos = self._infos()
        if self._trail is not None:
            self._trail.add(self.lanes)
        if ended[0]:
            self._running = False
            infos["summary"] = {name: array[0].item() for name, array in self.lanes.summary(_LANE_0).items()}
        return observation[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos

    def _checked(self, action: Any) -> np.ndarray:
        if self.lanes.task.menu:
            choice = int(action)
            if not 0 <= choice < len(self.lanes.task.menu) or choice != action:
                raise ConfigError(f"action must be an integer in [0, {len(self.lanes.task.menu)}), got {action!r}")
            self._choice[0] = choice
            return self._choice
        levers = np.asarray(action, np.float32)
        if levers.shape != self.action_space.shape or not np.isfinite(levers).all():
            raise ConfigError(f"action must be finite numbers of shape {self.action_space.shape}, got {action!r}")
        np.clip(levers, -1.0, 1.0, out=self._levers[0])
        return self._levers

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = {"cost": 0.0, "reason": 0}
        if self.lanes.verdicts:
            cost, reason = self._cost()
            infos["cost"], infos["reason"] = float(cost[0]), int(reason[0])
        if self.lanes.row.stops:
            infos["truncated_by"] = int(self._stopped()[0])
        if self.lanes.task.menu:
            infos["action_mask"] = self.lanes.mask[0].copy()
        return infos | self._full() if self._info == "full" else infos

    def render(self) -> Any:
        """The ladder with own orders as text ("ansi") or the episode so far as a picture ("rgb_array")."""
        from emp_gym.envs import render

        return render.show(self.lanes, 0, self.render_mode, self._trail)


_LANE_0 = np.zeros(1, np.int64)


def _info_mode(info: str) -> str:
    if info not in INFO:
        raise ConfigError(f"info must be one of {INFO}, got {info!r}")
    return info


def _autoreset(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise ConfigError(f"autoreset_mode must be one of {[m.value for m in AutoresetMode]}, got {mode!r}") from error
