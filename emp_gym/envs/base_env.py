"""The two faces that Gymnasium sees of anything that runs N lanes natively: a `VectorEnv` and its scalar twin.

What is behind them is `NativeLanes`: trading environments (`emp_gym.envs.trading_core`) and certificates. The faces add
Gymnasium's conventions: spaces, the three autoreset modes, infos, and the promise that returned arrays are the caller's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from emp_gym.envs.about import Described
from emp_gym.risk.gates import Gate
from emp_gym.settings import is_whole, shown, whole
from emp_gym.types import F32, F64, I64, Bool, ConfigError, EmpGymError, Feature, Verdicts

NOBODY: I64 = np.zeros(0, np.int64)
Seed = int | Sequence[int | None] | None
"""Of a reset: one for all lanes, or one a lane; None goes on with what there is."""


OF_THE_STEP = {"cost", "reason", "truncated_by"}
"""Numbers in an info that tell what a step did: 0 in that of a reset, also where a lane resets in the same step."""
MOST_SEED = (1 << 128) - 1  # as much as numpy draws where no seed is given
MOST_LANES = 1 << 24


class ResetNeeded(EmpGymError):
    """`step` was called before `reset`, or after the episode had ended."""


class NativeLanes(Protocol):
    """N lanes of something that runs in steps. Lane i knows nothing of the others."""

    lanes: int
    features: tuple[Feature, ...]
    mask: Bool  # [N, A]: actions allowed now; of no meaning where there is no menu
    ended: I64  # lanes that the last step ended
    market: Any  # None: there is none
    gates: tuple[Gate, ...]  # what stands between actions and market, in the order in which it is asked

    @property
    def active(self) -> Bool:
        """[N]: lanes that a step moves; writable."""
        ...

    def seed(self, seed: Seed) -> None: ...
    def reset(self, lanes: I64, options: Mapping[str, Any] | None = None) -> None: ...
    def forget(self) -> None: ...
    def step(self, actions: np.ndarray) -> tuple[Bool, Bool, Bool]:
        """Moves the active lanes; fresh flags (ended, terminated, truncated) [N]."""
        ...

    def settle_and_observe(self) -> tuple[F32, F64]:
        """Fresh observations [N, D] and rewards [N] of the step that just ended."""
        ...

    def observe(self, lanes: I64, out: F32) -> None: ...
    def arrays(self) -> dict[str, np.ndarray]:
        """All that one step leaves to the next, gates apart: the arrays themselves, not copies."""
        ...

    @property
    def layout(self) -> str:
        """What must be the same for such arrays to mean the same, besides their types and shapes."""
        ...

    def summary(self, lanes: I64) -> dict[str, np.ndarray]:
        """Numbers of the episodes of `lanes`, arrays [N] that hold 0 elsewhere."""
        ...


class Published(Described):
    """What every face of ours publishes besides Gymnasium's own: mixed in before `BaseVectorEnv` or `BaseEnv`."""

    lanes: Any
    _spec: Any = None

    @property
    def features(self) -> tuple[Feature, ...]:
        """Name, unit, scale and transform of each observation column."""
        return self.lanes.features

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What stands between actions and market, in the order in which it is asked; none without a market."""
        return self.lanes.gates

    @property
    def last_verdicts(self) -> list[Verdicts]:
        """What each gate did with the last orders."""
        return []

    @property
    def spec(self) -> Any:
        """Gymnasium's spec; its `features` are this environment's, its `about` says more of it (`EnvInfo.for_agents`)."""
        return self._spec

    @spec.setter
    def spec(self, spec: Any) -> None:
        self._spec = spec
        if spec is not None:
            spec.features, spec.about = self.lanes.features, self.about.for_agents()


class BaseVectorEnv(VectorEnv):
    """N lanes as one `VectorEnv`. A subclass says what its infos hold, and draws.

    `max_episode_steps` is Gymnasium's: an episode of so many steps is cut as ``TimeLimit`` cuts a scalar one, from outside, so
    that no position is closed and no `summary` is told.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        lanes: NativeLanes,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        num_envs = lanes.lanes
        self.num_envs, self.lanes = num_envs, lanes
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._menu = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
        self._everyone = np.ones(num_envs, np.bool_)
        self._ended = self._everyone.copy()  # lanes that wait for a reset
        self.again = NOBODY  # those of them that the next step resets
        self._flags = (np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.bool_))
        self._observation = np.zeros((num_envs, len(lanes.features)), np.float32)  # never given away
        self._limit = _limit(max_episode_steps)
        self._elapsed: I64 = np.zeros(num_envs if self._limit else 0, np.int64)  # steps of each lane's episode
        self._started = False

    def reset(
        self, *, seed: Seed = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts new episodes; options: day, start, stagger, as the environment says, and reset_mask (bool [N]).

        `seed` is one for all lanes or a list of one a lane, where None leaves a lane's randomness as it is. With the option
        state (a file of `snapshot.save`, and nothing else) no episode begins: lanes go on where they stood then, and
        ``info["continued"]`` is True.
        """
        lanes = np.arange(self.num_envs)
        options = dict(options or {})
        if "state" in options:
            return self._go_on(options)
        reset_mask = options.pop("reset_mask", None)
        if reset_mask is not None:
            lanes = np.flatnonzero(np.asarray(reset_mask, np.bool_))
        self.lanes.seed(seed)
        if is_whole(seed):
            super().reset(seed=int(seed))  # type: ignore[arg-type]
        elif seed is not None:
            self._np_random, self._np_random_seed = None, -1  # Gymnasium's word for a seed that is no number
        self._begin(lanes, options)
        self._ended[lanes] = False
        self._flags[0][lanes] = self._flags[1][lanes] = False
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.again = np.flatnonzero(self._ended)
            self.lanes.active[self.again] = False
        self.lanes.forget()
        self._started = True
        self.lanes.observe(lanes, self._observation)
        return self._observation.copy(), self._infos()

    def kept(self) -> dict[str, np.ndarray]:
        """Every array that one step leaves to the next, those of market and gates apart: the environment's own, not copies."""
        return self.lanes.arrays() | {
            "mask": self.lanes.mask, "ended": self._ended, "terminated": self._flags[0], "truncated": self._flags[1],
            "observation": self._observation, **({"elapsed": self._elapsed} if len(self._elapsed) else {}),
        }  # fmt: skip

    def _go_on(self, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        from emp_gym.envs import snapshot

        if len(options) > 1:
            raise ConfigError(f"the reset option state says it all; leave out {sorted(set(options) - {'state'})}")
        snapshot.restore(self, options["state"])
        self.lanes.forget()
        self._started = True
        continued = {"continued": self._everyone.copy(), "_continued": self._everyone.copy()}
        return self._observation.copy(), self._infos() | continued

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every lane. Lanes that ended are treated as `autoreset_mode` says."""
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        actions = self._checked(actions)
        again = self.again
        ended, terminated, truncated = self.lanes.step(actions)
        if len(again):
            self._begin(again)
            self.lanes.active[again] = False  # settled as "did not move"
        over = self.lanes.ended if self._limit == 0 else self._cut(ended, truncated)
        observation, rewards = self.lanes.settle_and_observe()
        if len(again):
            self.lanes.active[again] = True
        infos = self._infos()
        if self.autoreset_mode is AutoresetMode.DISABLED:
            terminated |= self._flags[0] & self._ended
            truncated |= self._flags[1] & self._ended
            self._flags = (terminated.copy(), truncated.copy())
        self._ended = (ended | self._ended) if self.autoreset_mode is AutoresetMode.DISABLED else ended
        if len(over):
            self._end(over, ended, observation, infos)
        self.again = over if self.autoreset_mode is AutoresetMode.NEXT_STEP else NOBODY
        self._observation[...] = observation  # which is the caller's from here on
        return observation, rewards, terminated, truncated, infos

    def _begin(self, lanes: I64, options: Mapping[str, Any] | None = None) -> None:
        """New episodes in `lanes` [n]."""
        self.lanes.reset(lanes, options)
        if self._limit:
            self._elapsed[lanes] = 0

    def _cut(self, ended: Bool, truncated: Bool) -> I64:
        """Marks the episodes that `max_episode_steps` cuts now as ended and truncated; all lanes that the step ended."""
        moved = self.lanes.active
        self._elapsed += moved
        late = (self._elapsed >= self._limit) & moved
        truncated |= late
        ended |= late
        return ended.nonzero()[0]

    def _end(self, lanes: np.ndarray, ended: np.ndarray, observation: np.ndarray, infos: dict[str, Any]) -> None:
        summary, told = self.lanes.summary(self.lanes.ended), ended
        if self._limit:  # an episode that was cut from outside is not summed up
            told = np.zeros_like(ended)
            told[self.lanes.ended] = True
        self.lanes.active[lanes] = False
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            infos["summary"], infos["_summary"] = summary, told.copy()
            return
        final = np.full(self.num_envs, None, object)
        for lane in lanes:
            final[lane] = observation[lane].copy()
        last = {name: array for name, array in infos.items() if not name.startswith("_")}
        infos["final_obs"], infos["_final_obs"] = final, ended.copy()
        infos["final_info"] = {name: copy.deepcopy(array) for name, array in last.items()} | {
            "summary": summary,
            "_summary": told.copy(),
        }
        infos["_final_info"] = ended.copy()
        self._begin(lanes)
        self.lanes.observe(lanes, observation)
        if "action_mask" in infos:
            infos["action_mask"][lanes] = self.lanes.mask[lanes]
        for name in OF_THE_STEP & infos.keys():
            infos[name][lanes] = 0

    def _infos(self) -> dict[str, Any]:
        """Fresh arrays for the info of this step."""
        return {}

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        if self._menu:
            actions, count = np.asarray(actions), self._menu
            if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
                raise ConfigError(
                    f"actions must be integers of shape ({self.num_envs},), got {actions.dtype} of shape {actions.shape}"
                )
            choices = actions.astype(np.int64, copy=False)
            if np.maximum.reduce(choices.view(np.uint64)) >= count:  # a negative number is a large one there
                raise ConfigError(f"actions must be in [0, {count}), got {choices.min()} to {choices.max()}")
            return choices
        actions = _levers(actions, self.action_space.shape or (), "actions")
        if not np.isfinite(actions).all():
            lane = int(np.argwhere(~np.isfinite(actions))[0][0])
            raise ConfigError(f"actions must be finite numbers, got {_numbers(actions[lane])} for lane {lane}; {NOT_FINITE}")
        return np.clip(actions, -1.0, 1.0)


class NativeWrapper(VectorWrapper):
    """A wrapper of a vector environment that shows its `autoreset_mode`, which Gymnasium's own environments have and its
    wrappers do not pass on."""

    @property
    def autoreset_mode(self) -> AutoresetMode | None:
        return self.env.metadata.get("autoreset_mode")


class BaseEnv(gym.Env):
    """One lane as an `Env`: bit-identical to a lane of the `BaseVectorEnv` with the same seed."""

    def __init__(self, lanes: NativeLanes, observation_space: spaces.Box, action_space: spaces.Space) -> None:
        self.lanes = lanes
        self.observation_space: spaces.Space = observation_space
        self.action_space: spaces.Space = action_space
        self._menu = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
        self._running = self._started = False
        self._choice, self._levers = np.zeros(1, np.int64), np.zeros((1, *(action_space.shape or ())), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode; options: day, start, stagger, as the environment says."""
        own = None if seed is None else whole("seed", seed, 0, MOST_SEED)
        super().reset(seed=own)
        self.lanes.seed(own)
        self.lanes.reset(LANE_0, options)
        self.lanes.forget()
        self._running = self._started = True
        out = np.empty((1, len(self.lanes.features)), np.float32)
        self.lanes.observe(LANE_0, out)
        return out[0], self._infos()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One decision."""
        if not self._running:
            raise ResetNeeded("call reset() before step(): no episode is running")
        ended, terminated, truncated = self.lanes.step(self._checked(action))
        observation, rewards = self.lanes.settle_and_observe()
        infos = self._infos()
        if ended[0]:
            self._running = False
            infos["summary"] = {name: array[0].item() for name, array in self.lanes.summary(LANE_0).items()}
        return observation[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos

    def _infos(self) -> dict[str, Any]:
        """The info of this step."""
        return {}

    def _checked(self, action: Any) -> np.ndarray:
        if self._menu:
            choice = int(action)
            if not 0 <= choice < self._menu or choice != action:
                raise ConfigError(f"action must be an integer in [0, {self._menu}), got {action!r}")
            self._choice[0] = choice
            return self._choice
        levers = _levers(action, self.action_space.shape or (), "action")
        if not np.isfinite(levers).all():
            raise ConfigError(f"action must be finite numbers, got {_numbers(levers)} for lane 0; {NOT_FINITE}")
        np.clip(levers, -1.0, 1.0, out=self._levers[0])
        return self._levers


LANE_0: I64 = np.zeros(1, np.int64)
NOT_FINITE = "a policy whose weights are NaN or infinite gives such numbers: look at its loss"


def _levers(given: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """`given` as f4 of `shape`."""
    try:
        levers = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be numbers of shape {shape}, got {given!r:.200}") from error
    if levers.shape != shape:
        raise ConfigError(f"{name} must be numbers of shape {shape}, got shape {levers.shape}")
    return levers


def _numbers(levers: np.ndarray) -> str:
    """The numbers of one lane, and which of them is none: ``[nan, 0.5, -1] (number 0)``."""
    wrong = [str(at) for at in np.flatnonzero(~np.isfinite(levers.ravel()))]
    return f"[{', '.join(f'{value:g}' for value in levers.ravel())}] (number {', '.join(wrong)})"


def seeded(seed: Seed, random: np.ndarray) -> tuple[np.ndarray, Bool]:
    """(state u8 [N] of each lane's randomness after a reset with `seed`, lanes [N] whose randomness begins anew).

    Lane i's is SeedSequence([seed, i]); a list of seeds gives each lane its own, as lane 0 of it. Seed + i would make nearby
    seeds share almost all their lanes. A lane without a seed keeps its state in `random` [N]; 0 means that it has none, and
    draws fresh entropy.
    """
    lanes = len(random)
    if is_whole(seed):
        first = whole("seed", seed, 0, MOST_SEED)
        pairs = [(first, lane) for lane in range(lanes)]
        return np.array([_stream(pair) for pair in pairs], np.uint64), np.ones(lanes, np.bool_)
    if seed is None and random.all():
        return random, np.zeros(lanes, np.bool_)
    if isinstance(seed, (str, Mapping)) or not (seed is None or isinstance(seed, Iterable)):
        raise ConfigError(f"seed must be a whole number of at least 0, or a list of one a lane, got {shown(seed)}")
    given = [None] * lanes if seed is None else [own if own is None else whole("seed", own, 0, MOST_SEED) for own in seed]
    if len(given) != lanes:
        raise ConfigError(f"one seed a lane: expected {lanes}, got {len(given)}")
    new = np.array([own is not None for own in given], np.bool_)
    state = random.copy()
    for lane in np.flatnonzero(new):
        state[lane] = _stream((given[lane], 0))  # type: ignore[arg-type]
    bare = ~new & (random == 0)
    if bare.any():
        state[bare] = np.random.SeedSequence().generate_state(lanes, np.uint64)[bare]
    return state, new | bare


def _stream(pair: tuple[int, int]) -> np.uint64:
    return np.random.SeedSequence(pair).generate_state(1, np.uint64)[0]


def at_least_one(num_envs: int) -> int:
    """`num_envs`, or `ConfigError`."""
    return whole("num_envs", num_envs, 1, MOST_LANES)


def _limit(max_episode_steps: int | None) -> int:
    """0 without a limit."""
    if max_episode_steps is None:
        return 0
    return whole("max_episode_steps", max_episode_steps, 1, more="; None for no limit")


def drawable(render_mode: str | None, modes: Sequence[str]) -> str | None:
    """`render_mode`, or `ConfigError` where it is none of `modes`."""
    if render_mode is None or render_mode in modes:
        return render_mode
    expected = f"one of {[*modes]} or None" if modes else "None, since there is nothing to draw"
    window = "; for a window, put gymnasium.wrappers.vector.HumanRendering around one with render_mode='rgb_array'"
    raise ConfigError(
        f"render_mode must be {expected}, got {shown(render_mode)}{window if render_mode == 'human' and modes else ''}"
    )


def autoreset(mode: str | AutoresetMode) -> AutoresetMode:
    """`mode`, or `ConfigError`."""
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise ConfigError(f"autoreset_mode must be one of {[m.value for m in AutoresetMode]}, got {shown(mode)}") from error
