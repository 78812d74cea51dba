"""The environments as Gymnasium sees them: a native `VectorEnv` and its scalar face, over the same `Lanes`.

Keyword arguments (JSON values; the same for ``gym.make`` and ``gym.make_vec``):

=================  =====================  =======================================================================================
argument           default                meaning
=================  =====================  =======================================================================================
data               None                   path, list of paths (LOBSTER files, folders, zips, .tape folders) or None: embedded days;
                                          in order of date, start of session and symbol, whatever the order given
split              "train"                "train", "test", "all"; "fit", "validation": the training part, cut once more; the rule
                                          is that of `emp_gym.market.day_starts.halves`
market             "replay"               how the rest of the world answers: a name, "module:Class", {"market": name, ...}; what
                                          stands below from `fills` to `impact`, the fees, `data` and `instrument` are replay's
fills              "exact"                "exact" queue place, "touch" (the price trades), "optimistic" (the price is touched)
hidden_prints      "ignore"               hidden executions fill nobody; "fill": those inside the spread fill orders at their price
                                          or better (`emp_gym.market.hidden`)
latency_ns         0                      order and feed latency, one number or [order, feed]
impact             "none"                 depth that we consumed: "none", "resilient", "resilient 250 ms", "permanent"
every              "100 messages"         a decision every n messages or "1 s"
episode            "256 decisions"        length of an episode
levels             5 (or the data's)      book levels in the observation
task               the id's               what actions mean: "trade", "make", "execute"; here and in the next two also
                                          "module:Class", a mapping {"task": name, parameters}, a class or an object; their
                                          parameters are keywords, too
reward             the task's             what a step is worth: "pnl", "inventory", "damped" ("shortfall" in execution), or your own
features           the task's             what is observed: names of feature sets (`emp_gym.sensory.sets`), or your own
order_quantity     100                    lots of one clip; quantities and latencies are whole numbers (200000, not 2e5)
max_position       500                    lots
gates              None                   rules between agent and market: names, "module:Class", {"gate": name, ...}
info               "lean"                 "lean" or "full" (fills, outcomes, verdicts of each step)
threads            None                   None: all cores from 256 lanes on (and days of up to 1 GiB are then held in memory)
maker_fee_bps      the instrument's       of notional, negative = rebate; taker_fee_bps likewise
maker_fee_per_lot  the instrument's       currency a lot, on top, negative = rebate; taker_fee_per_lot likewise
instrument         None                   other rules for the days: fields of `Instrument`, {symbol: fields}, or a YAML or JSON file
autoreset_mode     "NextStep"             "NextStep", "SameStep" or "Disabled" (vector only)
max_episode_steps  None                   Gymnasium's: cuts an episode from outside, as ``TimeLimit``: no closing, no `summary`
render_mode        None                   "ansi" or "rgb_array"; a vector environment gives a tuple of one frame a lane
=================  =====================  =======================================================================================

``info`` (lean): `action_mask` (discrete tasks), `cost` (orders that a gate changed), `reason` (reason bits of the gates),
`truncated_by` (`emp_gym.types.TruncationReason`, 0 = nobody; only with a gate that may end episodes: kill switch, stage); these three are
0 in the info of a reset, and where a lane resets in the same step, whose last ones stand in `final_info`. The
step that ends an episode adds `summary`: return, length, pnl, fees, spread_captured (currency of its day), filled, maker_filled,
beyond_depth (lots), orders, orders_filled, orders_refused, unknown_place, masked, clipped (counts), max_inventory,
mean_abs_inventory (lots), day, start, closed_halted (1: what was left was closed at the prices of a halted book, or during a cross,
when nobody can trade).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from emp_gym.envs.about import MARKET, EnvInfo
from emp_gym.envs.base_env import BaseEnv, BaseVectorEnv, Published, at_least_one, autoreset, drawable
from emp_gym.envs.trading_core import Lanes
from emp_gym.evaluation.assumptions import Assumptions
from emp_gym.evaluation.observers import Observer
from emp_gym.market.base import checked_threads
from emp_gym.market.public import Public
from emp_gym.plugins import parameters
from emp_gym.risk.gates import Gate
from emp_gym.sensory.lob import CLIP
from emp_gym.settings import word
from emp_gym.types import I64, Bool, Fills, Verdicts, View

G = TypeVar("G", bound=Gate)
Heard = TypeVar("Heard", bound=Observer)
INFO = ("lean", "full")
NO_MASKS = "no action masks: the actions of this environment are numbers"


class _TradingFace(Published):
    """What both faces publish besides their features."""

    lanes: Lanes
    kind = MARKET

    @property
    def constant_features(self) -> tuple[str, ...]:
        """Columns that may stay constant for long: those of the feature sets, orders in flight without latency, the market's own."""
        market = self.lanes.market
        return tuple(dict.fromkeys((*self.lanes.sets.constant, *(("in_flight",) if market.immediate else ()), *market.constant_features)))

    @property
    def about(self) -> EnvInfo:
        lanes, market = self.lanes, self.lanes.market
        said = market.declared("assumes")
        assumes = None if said is None else Assumptions.of(said)
        told_of_reward = {name: getattr(lanes.reward, name) for name in parameters(type(lanes.reward))}
        return EnvInfo(
            self.kind, "" if self.spec is None else self.spec.id, self.features, lanes.task, market.data, market.starts, market.clock,
            lanes.episode, assumes, windows=self.windows, menu=lanes.task.menu, actions=lanes.task.actions,
            relative=lanes.task.relative, levers=lanes.task.levers, reward=lanes.reward_name, reward_unit=lanes.reward.unit,
            reward_parameters=told_of_reward, constant_features=self.constant_features,
            requests=lanes.orders.kind.shape[1], threads=lanes.market.threads, market=market.foreign,
            market_setting=market.describe().get("config", {}) if market.foreign else {}, instruments=tuple(market.instruments),
        )  # fmt: skip

    @property
    def task(self) -> Any:
        return self.lanes.task

    @property
    def view(self) -> View:
        """What may be known now, batched (N = 1 for the scalar face); read-only, valid until the next step."""
        return self.lanes.market.view

    @property
    def public(self) -> Public:
        """The arrays of which `view` shows parts, and more; read-only, valid until the next step."""
        return self.lanes.market.public

    @property
    def mask(self) -> Bool:
        """Actions allowed now [N, A], the environment's own: who knows better may forbid more before the next step."""
        return self.lanes.mask

    @property
    def parent_side(self) -> I64:
        """Sides [N] of the parent orders under way, of meaning where the task has one."""
        return self.lanes.episodes["parent_side"]

    @property
    def tape_set(self) -> Any:
        """The days behind this environment; None where its market has none."""
        return self.lanes.market.data

    @property
    def last_fills(self) -> Fills:
        """Own executions of the last step."""
        return self.lanes.market.last_fills()

    @property
    def last_verdicts(self) -> list[Verdicts]:
        """What each gate did with the last orders."""
        return self.lanes.verdicts

    def install(self, gate: G) -> G:
        """`gate`, put between task and market, behind the gates that are there."""
        self.lanes.gates = (*self.lanes.gates, gate)
        return gate

    def attach(self, observer: Heard) -> Heard:
        """`observer`, told from now on of all that happens here."""
        self.lanes.watch = self.lanes.watch.joined(observer)
        return observer

    def detach(self, observer: Observer) -> None:
        """`observer` is told no more."""
        self.lanes.watch = self.lanes.watch.left(observer)

    def verdicts_of(self, gate: Gate) -> Verdicts | None:
        """What `gate`, one of `gates`, did with the last orders; None where there were none since the reset."""
        return self.lanes.verdicts[self.gates.index(gate)] if self.lanes.verdicts else None

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Planted (signal, regime) of synthetic days at the current rows: for oracles only."""
        return self.lanes.market.truth()

    def windows(self, n: int | None = None) -> list[tuple[int, int]]:
        """Disjoint evaluation windows (day, start row) of the split, in order; `n` picks that many evenly."""
        windows = self.lanes.market.starts.disjoint()
        if n is None or n >= len(windows):
            return windows
        return [windows[i * len(windows) // n] for i in range(n)]

    def _cost(self) -> tuple[np.ndarray, np.ndarray]:
        """(orders changed by gates f4 [N], reason bits i8 [N]) of the last step. Signed, since torch and others index no
        unsigned array; the numbers are the same below bit 63, which no gate of ours uses."""
        n = self.lanes.lanes
        cost, reason = np.zeros(n, np.float32), np.zeros(n, np.uint64)
        for verdicts in self.lanes.verdicts:
            if verdicts.touched and verdicts.reason.any():
                cost += (verdicts.reason != 0).sum(axis=1)
                reason |= np.bitwise_or.reduce(verdicts.reason, axis=1)
        return cost, reason.view(np.int64)

    def _stopped(self) -> np.ndarray:
        """`Stop` i8 [N]: which gate ended the lane's episode in the last step, and why."""
        told = self.lanes.truncated_by
        return np.zeros(self.lanes.lanes, np.int8) if told is None else told.copy()

    def _sent(self) -> dict[str, np.ndarray]:
        """What `info="full"` adds besides fills: the orders that reached the market, and their outcomes."""
        sent = self.lanes.sent
        return {
            "kind": sent.kind.copy(),
            "orders": sent.records.copy(),
            "outcome": self.lanes.market.outcome.copy(),
        }


class TradingVectorEnv(_TradingFace, BaseVectorEnv):
    """N lanes natively; made by ``gym.make_vec(id, num_envs=N)``."""

    metadata: dict[str, Any] = {
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    lanes: Lanes

    def __init__(
        self,
        num_envs: int = 1,
        *,
        task: Any = "trade",
        info: str = "lean",
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        self.render_mode, self._info = drawable(render_mode, self.metadata["render_modes"]), _info_mode(info)
        lanes = Lanes(task, at_least_one(num_envs), **arguments)
        super().__init__(lanes, _observation_space(lanes), lanes.task.action_space, autoreset_mode, max_episode_steps)

    def _infos(self) -> dict[str, Any]:
        cost, reason = self._cost()
        infos: dict[str, Any] = {"cost": cost, "reason": reason}
        if self.lanes.row.stops:
            infos |= {"truncated_by": self._stopped(), "_truncated_by": self._everyone.copy()}
        if self.lanes.task.actions:
            infos |= {"action_mask": self.lanes.mask.copy(), "_action_mask": self._everyone.copy()}
        infos |= {"_cost": self._everyone.copy(), "_reason": self._everyone.copy()}
        if self._info == "full":
            full = self._sent() | fills_by_lane(self.last_fills, self.num_envs)
            infos |= full | {f"_{name}": self._everyone.copy() for name in full}
        return infos

    @property
    def action_masks(self) -> Callable[[], Bool]:
        """``action_masks()`` gives the actions [N, A] that are allowed now; not there where actions are numbers."""
        if not self.lanes.task.actions:
            raise AttributeError(NO_MASKS)
        return lambda: self.lanes.mask.copy() if self._started else np.ones_like(self.lanes.mask)

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each lane, text ("ansi") or picture ("rgb_array", about 0.1 s each); None without a render mode."""
        from emp_gym.envs import render

        if self.render_mode is None:
            return None
        return tuple(render.show(self.lanes, lane, self.render_mode) for lane in range(self.num_envs))


class TradingEnv(_TradingFace, BaseEnv):
    """One lane; made by ``gym.make(id)``. Bit-identical to a lane of `TradingVectorEnv` with the same seed."""

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}
    lanes: Lanes

    def __init__(
        self,
        *,
        task: Any = "trade",
        info: str = "lean",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode | None = None,
        threads: int | None = None,
        **arguments: Any,
    ) -> None:
        self.render_mode, self._info = drawable(render_mode, self.metadata["render_modes"]), _info_mode(info)
        autoreset(AutoresetMode.NEXT_STEP if autoreset_mode is None else autoreset_mode)
        if threads is not None:
            checked_threads(threads)
        lanes = Lanes(task, 1, threads=1, **arguments)
        super().__init__(lanes, _observation_space(lanes), lanes.task.action_space)
        self._trail: Any = None
        if render_mode is not None:
            from emp_gym.envs.render import Trail

            self._trail = self.attach(Trail(lanes.market.instruments))

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = {"cost": 0.0, "reason": 0}
        if self.lanes.verdicts:
            cost, reason = self._cost()
            infos["cost"], infos["reason"] = float(cost[0]), int(reason[0])
        if self.lanes.row.stops:
            infos["truncated_by"] = int(self._stopped()[0])
        if self.lanes.task.actions:
            infos["action_mask"] = self.lanes.mask[0].copy()
        if self._info == "full":
            fills = {name: own[0] for name, own in fills_by_lane(self.last_fills, 1).items()}
            infos |= {name: array[0] for name, array in self._sent().items()} | fills
        return infos

    @property
    def action_masks(self) -> Callable[[], Bool]:
        """``action_masks()`` gives the actions [A] that are allowed now, as sb3-contrib asks for them; not there where
        actions are numbers."""
        if not self.lanes.task.actions:
            raise AttributeError(NO_MASKS)
        return lambda: self.lanes.mask[0].copy() if self._started else np.ones_like(self.lanes.mask[0])

    def render(self) -> Any:
        """The ladder with own orders as text ("ansi") or the episode so far as a picture ("rgb_array")."""
        from emp_gym.envs import render

        return render.show(self.lanes, 0, self.render_mode, self._trail)


def fills_by_lane(fills: Fills, lanes: int) -> dict[str, np.ndarray]:
    """Columns of `fills`, each as an array of objects [N]: the array [F] of each lane's own, in order of time."""
    order = np.argsort(fills.lane, kind="stable")
    ends = np.searchsorted(fills.lane[order], np.arange(lanes + 1))
    filled = np.flatnonzero(np.diff(ends))
    columns = {}
    for name, values in vars(fills).items():
        if name == "lane":
            continue
        sorted_values, column = np.asarray(values)[order], np.empty(lanes, object)
        column.fill(np.zeros(0, sorted_values.dtype))
        for lane in filled:
            column[lane] = sorted_values[ends[lane] : ends[lane + 1]]
        columns[f"fill_{name}"] = column
    return columns


def _info_mode(info: str) -> str:
    return word("info", info, INFO)


def _observation_space(lanes: Lanes) -> spaces.Box:
    return spaces.Box(-CLIP, CLIP, (len(lanes.features),), np.float32)
