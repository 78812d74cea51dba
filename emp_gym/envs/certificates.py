"""Certificates: small markets whose optimum is known exactly, to ask of any learner "does it learn?".

Analytic problems (`emp_gym.evaluation.optimal` has their models, closed forms and dynamic programmes):
``emp-almgren-chriss-v0``, ``emp-obizhaeva-wang-v0``, ``emp-cartea-jaimungal-v0``, ``emp-avellaneda-stoikov-v0``,
``emp-glft-v0``, ``emp-garleanu-pedersen-v0``. Tables: the rungs of the ladder, ``emp-ladder-...-v0``, one ability each.

Keyword arguments are the parameters of the problem (JSON values), and:

=================  ===========  ======================================================================================
argument           default      meaning
=================  ===========  ======================================================================================
split              "train"      "train" (or "fit"), "validation" or "test": which noise pinned episodes are from
reward             "own"        "own", or "certain" where the problem has risk aversion: see below
autoreset_mode     "NextStep"   "NextStep", "SameStep" or "Disabled" (vector only)
=================  ===========  ======================================================================================

With risk aversion a reward is an increment of utility, which shrinks by exp(-aversion x what was earned so far): little is heard of
late steps. ``reward="certain"`` gives what the step's fills earned less the certainty equivalent of the mid's next move. Its sum has nearly
the same optimum (only the risk of the fills themselves is left out). `value` stays in utility, and so does a score.

An episode ends after the problem's number of decisions (`terminated`: nothing comes after it). Reset options: `day` pins
the number of the episode, and with it all its noise, the same for every policy (common random numbers); `stagger` cuts
first episodes short at random. Rewards and `summary` are in the problem's unit; the step that ends an episode adds
`summary`: return, value (the return with mean-zero noise integrated out: same mean, less variance), pnl (what the market
paid, risk penalties aside), turnover, cost, max_inventory, mean_abs_inventory (not on the ladder), length, clipped, day, start.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from emp_gym.envs import certificate_kernels as kernels
from emp_gym.envs.about import CERTIFICATE, EnvInfo
from emp_gym.envs.base_env import (
    NOBODY,
    BaseEnv,
    BaseVectorEnv,
    Published,
    Seed,
    at_least_one,
    autoreset,
    drawable,
    seeded,
)
from emp_gym.envs.certificate_kernels import STATE
from emp_gym.evaluation import optimal
from emp_gym.evaluation.optimal.quoting_model import Quoting
from emp_gym.risk.gates import Gate
from emp_gym.settings import shown, whole, word
from emp_gym.types import F32, F64, I64, Bool, ConfigError, Feature

SALTS = {
    "train": 0x8F1BBCDC5A827999, "test": 0xCA62C1D66ED9EBA1, "fit": 0x8F1BBCDC5A827999, "validation": 0x5BE0CD19137E2179,
}  # fmt: skip
WINDOWS = 256
"""Episodes that an evaluation uses unless told."""
ARGUMENTS = ("split", "reward", "autoreset_mode", "max_episode_steps", "num_envs", "render_mode")
"""Keyword arguments besides the problem's parameters."""
BOUND = 2.0
"""Of every observation."""


class _Control:
    """An analytic problem: continuous actions in [-1, 1], a handful of state variables."""

    def __init__(self, problem: Any, certain: bool) -> None:
        self.problem, self.steps = problem, problem.decisions
        self.kind, parameters, self.limit, names = _CONTROLS[type(problem).__name__](problem)
        if self.kind == kernels.QUOTING:
            parameters = (*parameters, float(certain))
        self.parameters = np.array(parameters, np.float64)
        self.starts = 8 if self.kind == kernels.TRACKING else 1
        self.features = tuple(Feature(name, unit, scale, low=-BOUND, high=BOUND) for name, unit, scale in names)
        self.action_space: spaces.Space = spaces.Box(-1.0, 1.0, (2 if self.kind == kernels.QUOTING else 1,), np.float32)

    def truth(self, state: np.ndarray) -> F64:
        """State [N, S] in the problem's own units."""
        columns = [state["x"], state["y"]]
        return np.stack(columns[: len(type(self.problem).state)], axis=1)

    def encode(self, action: F64) -> np.ndarray:
        """The environment's action f4 [N, A] for one in the problem's own units."""
        if self.kind == kernels.TRACKING:
            return np.clip(action / self.limit, -1.0, 1.0).astype(np.float32)
        top = self.problem.max_offset if self.kind == kernels.QUOTING else 1.0
        return np.clip(2.0 * action / top - 1.0, -1.0, 1.0).astype(np.float32)

    def decode(self, actions: np.ndarray) -> F64:
        """An action [N, A] in the problem's own units for the environment's."""
        actions = np.clip(np.asarray(actions, np.float32), -1.0, 1.0).astype(np.float64)
        if self.kind == kernels.TRACKING:
            return actions * self.limit
        return 0.5 * (actions + 1.0) * (self.problem.max_offset if self.kind == kernels.QUOTING else 1.0)

    def begin(self, lanes: I64, state: np.ndarray) -> None:
        kernels.begin_control(lanes, self.kind, self.parameters, state)

    def step(self, actions: np.ndarray, active: Bool, state: np.ndarray, rewards: F64) -> None:
        kernels.step_control(self.kind, actions, active, self.parameters, state, rewards)

    def observe(self, lanes: I64, state: np.ndarray, out: F32, clipped: I64) -> None:
        kernels.observe_control(lanes, self.kind, self.parameters, self.limit, self.steps, state, out, clipped)


class _Table:
    """A finite Markov decision process: discrete actions, a table of features. Action 0 is the idle one: flat, or abstain."""

    def __init__(self, problem: optimal.Rung) -> None:
        table = problem.mdp()
        self.problem, self.steps = problem, problem.decisions
        self._start, self._running = _running(table.start), _running(table.transition)
        order = [table.idle, *(a for a in range(table.actions) if a != table.idle)]
        self._order, self._place = np.array(order), np.argsort(order)
        self._running, self._reward = self._running[order], table.reward[order]
        self._expected = table.expected_reward()[order]
        self._turnover, self._cost = table.turnover[order], table.cost[order]
        self._observation = table.observation.copy()
        self.starts = len(np.unique(table.observation[table.start > 0], axis=0))
        self.features = (Feature("elapsed", "1", low=-BOUND, high=BOUND), *map(_feature, table.features))
        self.action_space: spaces.Space = spaces.Discrete(table.actions)

    def truth(self, state: np.ndarray) -> F64:
        """Number of the state [N, 1]."""
        return state["x"][:, None].copy()

    def encode(self, action: F64) -> np.ndarray:
        """The environment's action i8 [N] for one as the problem counts them."""
        return self._place[np.asarray(action)[:, 0].astype(np.int64)]

    def decode(self, actions: np.ndarray) -> F64:
        """An action [N, 1] as the problem counts them for the environment's [N]."""
        return self._order[np.asarray(actions)][:, None].astype(np.float64)

    def begin(self, lanes: I64, state: np.ndarray) -> None:
        kernels.begin_table(lanes, self._start, state)

    def step(self, actions: np.ndarray, active: Bool, state: np.ndarray, rewards: F64) -> None:
        kernels.step_table(
            actions, active, self._running, self._reward, self._expected, self._turnover, self._cost, state, rewards,
        )  # fmt: skip

    def observe(self, lanes: I64, state: np.ndarray, out: F32, clipped: I64) -> None:
        kernels.observe_table(lanes, self._observation, self.steps, state, out)


def _feature(described: str) -> Feature:
    """ "last move [ticks]" as name and unit."""
    name, _, unit = described.rstrip("]").partition(" [")
    return Feature(name.replace(" ", "_"), unit or "1", low=-BOUND, high=BOUND)


def _running(probabilities: Any) -> F64:
    """Running sums over the last axis; the last one is infinite, so that rounding cannot pass it."""
    sums = np.cumsum(np.asarray(probabilities, np.float64), axis=-1)
    sums[..., -1] = np.inf
    return sums


def _almgren_chriss(p: Any) -> tuple:
    tau, bp = p.horizon / p.steps, 1e4 / (p.shares * p.price)
    parameters = (
        p.steps, p.shares, p.half_spread, p.permanent, p.temporary / tau,
        p.risk_aversion * tau * p.volatility**2, p.volatility * tau**0.5, bp,
    )  # fmt: skip
    names = (("elapsed", "1", 1.0), ("parent_left", "1", 1.0), ("last_move", "deviation", 4.0))
    return kernels.ALMGREN_CHRISS, parameters, 1.0, names


def _obizhaeva_wang(p: Any) -> tuple:
    dt, bp = p.horizon / p.intervals, 1e4 / (p.shares * p.price)
    parameters = (p.steps, p.shares, p.depth, np.exp(-p.resilience * dt), p.volatility * dt**0.5, bp)
    limit = p.shares / p.depth
    names = (
        ("elapsed", "1", 1.0), ("parent_left", "1", 1.0), ("displacement", "currency", limit),
        ("last_move", "deviation", 4.0),
    )  # fmt: skip
    return kernels.OBIZHAEVA_WANG, parameters, limit, names


def _quoting(p: Any) -> tuple:
    dt = p.horizon / p.steps
    fills = ("arrival", "poisson", "linear").index(p.fills)
    cara = p.aversion
    running, terminal = (p.running_penalty * dt, p.terminal_penalty) if cara == 0.0 else (0.0, 0.0)
    parameters = (
        p.steps, dt, p.arrival, p.decay, fills, p.max_offset, p.max_inventory, running, terminal, cara,
        p.volatility * dt**0.5, float(p.noise == "binomial"),
    )  # fmt: skip
    names = (
        ("elapsed", "1", 1.0),
        ("inventory", "lots", float(p.max_inventory)),
        ("closing", "1", 1.0),
    )  # the end, magnified
    return kernels.QUOTING, parameters, float(p.max_inventory), names


def _tracking(p: Any) -> tuple:
    deviation = p.factor_volatility / (1.0 - (1.0 - p.reversion) ** 2) ** 0.5
    parameters = (
        p.steps, p.position_limit, 0.5 * p.risk_aversion * p.variance, 0.5 * p.cost * p.variance, 1.0 - p.discount,
        deviation, p.loading, 1.0 - p.reversion, p.factor_volatility, p.variance**0.5,
    )  # fmt: skip
    names = (("elapsed", "1", 1.0), ("position", "lots", p.position_limit), ("factor", "return", 4.0 * deviation))
    return kernels.TRACKING, parameters, float(p.position_limit), names


_CONTROLS = {
    "AlmgrenChriss": _almgren_chriss,
    "ObizhaevaWang": _obizhaeva_wang,
    "CarteaJaimungal": _quoting,
    "AvellanedaStoikov": _quoting,
    "Glft": _quoting,
    "GarleanuPedersen": _tracking,
}


class CertificateLanes:
    """N lanes of one problem: see `emp_gym.envs.base_env.NativeLanes`."""

    market: None = None
    gates: tuple[Gate, ...] = ()

    def __init__(self, problem: str, lanes: int, split: str = "train", reward: str = "own", **parameters: Any) -> None:
        word("split", split, SALTS)
        optimal.check_parameters(problem, parameters, ARGUMENTS)
        self.problem = optimal.problem(problem, **parameters)
        self._reward = _known_reward(reward, self.problem)
        self.rules = (
            _Table(self.problem) if isinstance(self.problem, optimal.Rung) else _Control(self.problem, reward == "certain")
        )
        self.features, self.steps = self.rules.features, self.rules.steps
        self.lanes, self._salt = lanes, np.uint64(SALTS[split])
        self.state = np.zeros(lanes, STATE)
        self.state["episode"] = -1
        self.active: Bool = np.ones(lanes, np.bool_)
        self.random: np.ndarray = np.zeros(lanes, np.uint64)
        self.mask: Bool = np.ones((lanes, 1), np.bool_)
        self.ended: I64 = NOBODY
        self._clipped = np.zeros(lanes, np.int64)
        self._rewards: F64 = np.zeros(lanes)
        self._everyone = np.arange(lanes)

    def seed(self, seed: Seed) -> None:
        """As `emp_gym.envs.base_env.seeded` says."""
        self.random, new = seeded(seed, self.random)
        self.state["episode"][new] = -1

    def reset(self, lanes: I64, options: Mapping[str, Any] | None = None) -> None:
        """New episodes in `lanes` [n]; options: day (number of the episode, one or one a lane), stagger."""
        options = {name: value for name, value in (options or {}).items() if value is not None}
        unknown = set(options) - {"day", "start", "stagger", "reset_mask"}
        if unknown:
            raise ConfigError(f"unknown reset option {sorted(unknown)}; known: day, stagger, reset_mask")
        if np.any(np.asarray(options.get("start", 0)) != 0):
            raise ConfigError(f"start: episodes of a certificate begin at 0, got {shown(options['start'])}")
        given = options.get("day")
        days = [-1] if given is None else [whole("day", own) for own in (given if isinstance(given, Iterable) else [given])]
        day = np.broadcast_to(np.array(days, np.int64), self.lanes)[lanes]
        stagger = bool(options.get("stagger", False))
        kernels.begin(lanes, self.random, day, self._salt, stagger, self.steps, self.state)
        self.rules.begin(lanes, self.state)
        self.active[lanes] = True
        self._clipped[lanes] = 0

    def forget(self) -> None:
        """Nothing is kept of the last step."""

    def step(self, actions: np.ndarray) -> tuple[Bool, Bool, Bool]:
        """Moves the active lanes."""
        self._rewards = np.empty(self.lanes)
        self.rules.step(actions, self.active, self.state, self._rewards)
        step = self.state["step"]
        terminated = (step >= self.steps) & self.active
        ended = (step >= self.state["length"]) & self.active
        self.ended = ended.nonzero()[0] if np.count_nonzero(ended) else NOBODY
        return ended, terminated, ended & ~terminated

    def settle_and_observe(self) -> tuple[F32, F64]:
        """Fresh observations and the rewards of the step that just ended."""
        out = np.empty((self.lanes, len(self.features)), np.float32)
        self.observe(self._everyone, out)
        return out, self._rewards

    def observe(self, lanes: I64, out: F32) -> None:
        """Writes the observations of `lanes` into out [N, D]."""
        self.rules.observe(lanes, self.state, out, self._clipped)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that one step leaves to the next: the arrays themselves, not copies."""
        return {"state": self.state, "active": self.active, "random": self.random, "clipped": self._clipped}

    @property
    def states(self) -> int:
        """How many states a finite problem has, 0 for others."""
        return len(self.rules._observation) if isinstance(self.rules, _Table) else 0

    @property
    def layout(self) -> str:
        """The problem: where it is the same, `arrays` mean the same."""
        return f"{self.problem!r} {self.steps} {self._salt}" + ("" if self._reward == "own" else f" {self._reward}")

    def summary(self, lanes: I64) -> dict[str, np.ndarray]:
        """Numbers of the episodes of `lanes`; 0 elsewhere."""
        chosen = self.state[lanes]
        numbers = {
            "return": chosen["total"], "value": chosen["value"], "pnl": chosen["wealth"], "turnover": chosen["turnover"],
            "cost": chosen["cost"], "max_inventory": chosen["largest"],
            "mean_abs_inventory": chosen["held"] / np.maximum(chosen["step"], 1),
            "length": chosen["step"], "clipped": self._clipped[lanes], "day": chosen["episode"],
            "start": np.zeros(len(lanes), np.int64),
        }  # fmt: skip
        if isinstance(self.rules, _Table):  # a table's states have numbers, not holdings
            del numbers["max_inventory"], numbers["mean_abs_inventory"]
        whole = {name: np.zeros(self.lanes, values.dtype) for name, values in numbers.items()}
        for name, values in numbers.items():
            whole[name][lanes] = values
        return whole

    def __deepcopy__(self, memo: dict[int, Any]) -> CertificateLanes:
        twin = object.__new__(type(self))
        shared = ("problem", "rules", "features", "_everyone")
        twin.__dict__ |= {k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__dict__.items()}
        return twin


def _known_reward(reward: str, problem: Any) -> str:
    word("reward", reward, ("own", "certain"))
    if reward == "certain" and not (isinstance(problem, Quoting) and problem.aversion > 0.0):
        raise ConfigError(f"reward='certain' is for problems with risk aversion, which {type(problem).__name__} has not; leave it out")
    return reward


class _CertificateFace(Published):
    """What both faces publish besides their features."""

    lanes: CertificateLanes
    kind = CERTIFICATE

    @property
    def about(self) -> EnvInfo:
        name = "" if self.spec is None else self.spec.id
        return EnvInfo(
            self.kind, name, self.features, episode=self.lanes.steps, problem=self.problem, windows=self.windows,
            first_observations=self.starts,
        )  # fmt: skip

    @property
    def starts(self) -> int:
        """How many different first observations there are (8 stands for any number)."""
        return self.lanes.rules.starts

    @property
    def problem(self) -> Any:
        """The problem with its closed form and its dynamic programme."""
        return self.lanes.problem

    @property
    def wealth(self) -> F64:
        """What the market has paid so far [N], risk aside, in the problem's unit; valid until the next step."""
        return self.lanes.state["wealth"]

    def truth(self) -> tuple[I64, F64]:
        """(decisions taken [N], state [N, S] in the problem's own units): for the optimal policy and its rivals only."""
        return self.lanes.state["step"].copy(), self.lanes.rules.truth(self.lanes.state)

    def chances(self) -> F64:
        """A number in [0, 1) [N] for the next decision of a policy that mixes actions, the same in a pinned episode."""
        out = np.empty(len(self.lanes.state))
        kernels.chances(self.lanes.state, out)
        return out

    def encode(self, action: F64) -> np.ndarray:
        """The environment's actions [N, ...] for those in the problem's own units [N, A]."""
        return self.lanes.rules.encode(action)

    def decode(self, actions: np.ndarray) -> F64:
        """Actions [N, A] in the problem's own units for the environment's [N, ...]."""
        return self.lanes.rules.decode(actions)

    def observation_of(self, step: I64, state: F64) -> F32:
        """What is seen [n, D] after `step` [n] decisions in `state` [n, S], the last move of the price being 0."""
        lanes = self.lanes.rules
        records = np.zeros(len(step), STATE)
        records["step"] = step
        for name, column in zip(("x", "y"), np.asarray(state, np.float64).T):
            records[name] = column
        out = np.empty((len(step), len(lanes.features)), np.float32)
        lanes.observe(np.arange(len(step)), records, out, np.zeros(len(step), np.int64))
        return out

    def windows(self, n: int | None = None) -> list[tuple[int, int]]:
        """Episodes of the split by number, `n` of them; they share no noise."""
        return [(number, 0) for number in range(n or WINDOWS)]


class CertificateVectorEnv(_CertificateFace, BaseVectorEnv):
    """N lanes natively; made by ``gym.make_vec(id, num_envs=N)``."""

    lanes: CertificateLanes

    def __init__(
        self,
        num_envs: int = 1,
        *,
        problem: str,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        drawable(render_mode, ())
        lanes = CertificateLanes(problem, at_least_one(num_envs), **arguments)
        super().__init__(lanes, _observation_space(lanes), lanes.rules.action_space, autoreset_mode, max_episode_steps)


class CertificateEnv(_CertificateFace, BaseEnv):
    """One lane; made by ``gym.make(id)``."""

    metadata: dict[str, Any] = {"render_modes": []}
    lanes: CertificateLanes

    def __init__(
        self,
        *,
        problem: str,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode | None = None,
        **arguments: Any,
    ) -> None:
        drawable(render_mode, ())
        autoreset(AutoresetMode.NEXT_STEP if autoreset_mode is None else autoreset_mode)
        lanes = CertificateLanes(problem, 1, **arguments)
        super().__init__(lanes, _observation_space(lanes), lanes.rules.action_space)


def _observation_space(lanes: CertificateLanes) -> spaces.Box:
    return spaces.Box(-BOUND, BOUND, (len(lanes.features),), np.float32)
