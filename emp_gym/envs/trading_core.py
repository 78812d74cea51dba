"""The step that every face of an environment shares, batched over N lanes: decide orders, gates, market, observe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from emp_gym import trust
from emp_gym.envs.action_mask import narrow
from emp_gym.envs.base_env import NOBODY, Seed, seeded
from emp_gym.envs.gates import GateRow, resolve
from emp_gym.envs.making import described, put_together
from emp_gym.envs.observers import ObserverList
from emp_gym.envs.tasks.base import OF_PARENT, Task
from emp_gym.envs.tasks.episode import AMOUNTS, COUNTS, EPISODE, SETUP, begin, summarise
from emp_gym.envs.tasks.settle import OUTSIDE
from emp_gym.envs.tasks.step import observe, settle_and_observe_lanes
from emp_gym.evaluation.intervals import OWN
from emp_gym.market.base import Market, MarketSpec
from emp_gym.market.clock import parse_episode
from emp_gym.market.lots import stop_if_money_ran_out
from emp_gym.plugins import Plugin, World, Written, moved, read_only, unkept
from emp_gym.risk.gates import Gate
from emp_gym.sensory import lob
from emp_gym.sensory.sets import Others, Sets, named_once
from emp_gym.settings import whole
from emp_gym.threads import BoundRegion
from emp_gym.types import I8, Bool, ConfigError, Feature, Orders, Verdicts

MADE = ("_others", "_moved", "_beginners")  # attributes that a copy makes anew


class Lanes:
    """N lanes of one market under one task. The faces in `trading` add Gymnasium's conventions.

    Keyword arguments are those of the environments: see `emp_gym.envs.trading`.
    """

    def __init__(
        self,
        task: Any,
        lanes: int,
        *,
        reward: Any = None,
        features: Any = None,
        market: Any = "replay",
        split: str = "train",
        every: str = "100 messages",
        episode: str = "256 decisions",
        levels: int | None = None,
        gates: Any = None,
        threads: int | None = None,
        **keywords: Any,
    ) -> None:
        made = put_together(market, task, reward, features, keywords)
        self.task, self.reward, self.reward_name, self.own_sets = made.task, made.reward, made.reward_name, made.sets
        self.sets = sets = Sets(self.own_sets)
        self.lanes, self.episode = lanes, parse_episode(episode)
        spec = MarketSpec(lanes, split, self.episode, every, levels, threads, sets.looks, sets.needs, sets.sums)
        self.market: Market = made.market(spec, made.config)
        _ = self.market.starts  # where none is long enough, that is said now
        deepest = self.market.public.book.shape[3]
        self.levels = min(5, deepest) if levels is None else whole("levels", levels, 1, deepest, ", the depth of the book")
        ours = lob.features(self.levels, self.sets.bits) + (OF_PARENT if self.task.relative else ())
        self._transform = lob.transforms(ours)
        self._raw = np.zeros(
            (self.market.threads, self._transform.shape[1] + 64), np.float32
        )  # rows share no cache line
        self.gates = resolve(gates)
        self.setup = self._setup(len(ours))
        self.orders = Orders.empty(lanes, self.market.requests)
        self.sent = self.orders  # what the market got: `orders` after the gates
        self.verdicts: list[Verdicts] = []
        self.watch = ObserverList(lanes)
        self.truncated_by: I8 | None = None  # `Stop` [N] of the last step; None where no gate stopped a lane
        self.episodes = np.zeros(lanes, EPISODE)
        self._length = np.zeros(lanes, np.int64)  # decisions of each lane's episode, close together
        self.ended = NOBODY  # lanes that the last step ended
        self._closed_halted = np.zeros(lanes, np.int64)  # 1: that step closed a position while trading was halted
        self.random: np.ndarray = np.zeros(lanes, np.uint64)
        self.mask = np.zeros((lanes, max(len(self.task.actions), 1)), np.bool_)
        for plugin in self.plugins().values():
            plugin.bind(self._world())
        self._at_first = self._unkept()
        self._write_others()
        self.features: tuple[Feature, ...] = named_once(ours + self._others.features)

    def _setup(self, columns: int) -> np.ndarray:
        task, market = self.task, self.market
        for number, instrument in enumerate(market.instruments):
            lot, used = instrument.lot, task.lots
            if any(getattr(task, name) % lot for name in used):
                what = "multiples" if len(used) > 1 else "a multiple"
                whose = instrument.symbol if market.data is None else str(market.data.info[number])
                raise ConfigError(
                    f"{' and '.join(used)} must be {what} of every day's lot: that of {whose} is {lot}, got "
                    f"{' and '.join(str(getattr(task, name)) for name in used)}"
                )
        name, most = task.largest
        self._between_looks, self._until_look = market.check_quantity(most, name), 1  # decisions
        setup = np.zeros(1, SETUP)
        setup["episode"], setup["levels"], setup["sets"], setup["columns"] = self.episode, self.levels, self.sets.bits, columns
        setup["immediate"] = market.immediate
        self.task.set_up(setup)
        self.reward.set_up(setup)
        return setup

    # ----------------------------------------------------------------------------------------------------------- plug-ins

    def plugins(self) -> dict[str, Plugin]:
        """What is ours or somebody else's, by the name under which its arrays are kept."""
        return {"task": self.task, "reward": self.reward} | {f"set.{n}": one for n, one in enumerate(self.own_sets)}

    def _world(self) -> World:
        market = self.market
        written = Written(market.public, self.episodes, market.active, self.setup)
        shown = written.shown()
        return World(
            self.lanes, market.instruments, market.view, shown.public, self.sets.looks, market.clock, self.episode,
            self.task.order_quantity, self.task.limit, market.immediate, market.threads, *shown[1:], written,
        )  # fmt: skip

    def _unkept(self) -> dict[str, dict[str, bytes]]:
        """What plug-ins and market of somebody else have besides the arrays that are kept of them; see `plugins.unkept`. Who says
        itself what is kept (`arrays`) is believed."""
        market, owners = self.market, {name: one for name, one in self.plugins().items() if not trust.is_ours(type(one).__module__)}
        found = {name: unkept(one, one.arrays().values()) for name, one in owners.items() if type(one).arrays is Plugin.arrays}
        return found | ({"market": unkept(market, market.arrays().values(), market.momentary)} if market.foreign else {})

    def _unkept_of_gates(self) -> dict[str, dict[str, bytes]]:
        theirs = {f"gate.{n}": gate for n, gate in enumerate(self.gates)
                  if type(gate).arrays is Gate.arrays and not trust.is_ours(type(gate).__module__)}  # fmt: skip
        return {of: unkept(gate, [value for value in vars(gate).values() if isinstance(value, np.ndarray)]) for of, gate in theirs.items()}

    def unkept(self) -> str:
        """What somebody's plug-in remembers in this moment, and a file of lanes would not bring back; "" where there is nothing."""
        now, first = self._unkept() | self._unkept_of_gates(), self._at_first | self._gates_at_first
        owners: dict[str, Any] = self.plugins() | {"market": self.market} | {f"gate.{n}": gate for n, gate in enumerate(self.gates)}
        lost = [f"{type(owners[of]).__module__}:{type(owners[of]).__qualname__}.{name}"
                for of, told in now.items() for name, hashed in told.items() if first[of].get(name) != hashed]  # fmt: skip
        return " and ".join(lost)

    def _write_others(self) -> None:
        """Collects who writes columns that the kernel does not."""
        task = self.task
        writers = [(f"the task {type(task).__name__}", task.own_features, task.observe)] if task.own_features else []
        writers += [(f"the feature set {type(one).__name__}", one.columns, one.write) for one in self.sets.others]
        self._others = Others(writers, self.lanes)
        self._table, self._outside = task.table, self.reward.kernel == OUTSIDE
        self._moved = read_only(self.market.active)
        self._beginners = tuple(each for each in self.plugins().values() if type(each).begin is not Plugin.begin)
        self._may_end, self._masks = type(task).ends is not Task.ends, type(task).mask is not Task.mask
        market, table = self.market, self._table
        self._settle = BoundRegion(
            market.threads, settle_and_observe_lanes, self.lanes, *market.public, self.episodes, market.active, self.mask, self._raw,
            self._transform, table.conditions, table.needs, self.setup,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------------------------- gates

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What stands between task and market, in the order in which it is asked."""
        return self.row.gates

    @gates.setter
    def gates(self, gates: tuple[Gate, ...]) -> None:
        self.row = GateRow(gates, self.market.traded_on, self.market.threads, list(self.market.instruments))
        self._gates_at_first = self._unkept_of_gates()

    @property
    def tape(self) -> Any:
        """The days, where the market has some."""
        return self.market.data

    @property
    def active(self) -> Bool:
        """[N]: lanes that a step moves; writable."""
        return self.market.active

    # ------------------------------------------------------------------------------------------------------------ seeding

    def seed(self, seed: Seed) -> None:
        """As `emp_gym.envs.base_env.seeded` says."""
        self.random, _ = seeded(seed, self.random)

    # -------------------------------------------------------------------------------------------------------- the four calls

    def reset(self, lanes: np.ndarray, options: Mapping[str, Any] | None = None) -> None:
        """Starts new episodes in `lanes` [n]: drawn starts, or those that `options` pin (day, start)."""
        self.row.before_episode(self.market.view, lanes)
        day, row, end_row = self.market.starts.draw(lanes, self.random)
        stagger = False
        if options:
            stagger = bool(options.get("stagger", False))
            self._pin(lanes, options, day, row, end_row)
        self.market.reset(lanes, day, row, end_row)
        self.market.active[lanes] = True
        begin(lanes, self.market.public.quote, self.episodes, self.random, stagger, self.setup)
        self._length[lanes] = self.episodes["length"][lanes]
        for plugin in self._beginners:
            plugin.begin(lanes)
        if self.watch.observers:
            self.watch.began(self, lanes)

    def forget(self) -> None:
        """Forgets what gates did in the last step: a reset from outside comes after no step."""
        self.verdicts, self.truncated_by = [], None

    def _pin(
        self, lanes: np.ndarray, options: Mapping[str, Any], day: np.ndarray, row: np.ndarray, end_row: np.ndarray
    ) -> None:
        unknown = set(options) - {"day", "start", "stagger", "reset_mask"}
        if unknown:
            raise ConfigError(f"unknown reset option {sorted(unknown)}; known: day, start, stagger, reset_mask")
        days, starts = options.get("day"), options.get("start")
        if days is None and starts is None:
            return
        for j, lane in enumerate(lanes):
            asked = [each[lane] if isinstance(each, (list, tuple, np.ndarray)) else each for each in (days, starts)]
            day[j], row[j], end_row[j] = self.market.starts.pin(int(day[j]) if days is None else asked[0], asked[1])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Advances the active lanes by one decision. Returns (ended, terminated, truncated) flags [N], closed flat."""
        self.task.request(actions, self.mask, self.orders)
        self._send(actions)
        self._until_look -= 1
        if self._until_look == 0:
            stop_if_money_ran_out(self.market.view.cash, self.task.largest[0])
            self._until_look = self._between_looks
        truncated = (self.market.progress >= self._length) & self.market.active
        terminated = np.zeros(self.lanes, np.bool_)
        ended = truncated.copy()  # the flags are given away
        if self._may_end:
            told = self.task.ends(self.market.view.decision >= self._length)
            terminated = terminated if told is None else told & self.market.active
            truncated = truncated & ~terminated
            ended = truncated | terminated
        self.truncated_by = self.row.stopped()
        if self.truncated_by is not None:
            self.truncated_by = np.where(self.market.active & ~terminated, self.truncated_by, np.int8(0))
            truncated |= self.truncated_by > 0
            ended |= truncated
        self.ended = ended.nonzero()[0] if np.count_nonzero(ended) else NOBODY
        if len(self.ended):
            self._finish(self.ended)
        self.watch.flags = terminated, truncated
        return ended, terminated, truncated

    def _send(self, actions: np.ndarray) -> None:
        """Lets the gates look at `orders`, and sends what they leave, unless an observer fails."""
        orders, self.verdicts, view = self.orders, [], self.market.view
        try:
            for ask in self.row.asked:
                orders, verdicts = ask(view, orders)
                self.verdicts.append(verdicts)
            if self.watch.observers:
                self.watch.decided(self, actions, orders)
            self.sent = orders
            self.market.advance(orders)
        finally:
            self.row.after_market(view)

    def _finish(self, lanes: np.ndarray) -> None:
        """Ends the episodes of `lanes`: the task says which positions are left, and the market trades to them."""
        stopped = np.zeros(len(lanes), np.bool_) if self.truncated_by is None else self.truncated_by[lanes] > 0
        self._closed_halted[lanes] = self.market.close(lanes, self.task.target(lanes, stopped))

    def settle_and_observe(self) -> tuple[np.ndarray, np.ndarray]:
        """Fresh (observation f4 [N, D], reward f8 [N]) of the step that just ended; the mask is kept in `mask`."""
        out, rewards = np.empty((self.lanes, len(self.features)), np.float32), np.empty(self.lanes, np.float64)
        self._settle(rewards, out)
        if self._outside:
            self._reward(rewards)
        for one in self.sets.others:
            one.step(self._moved)
        self._show(np.arange(self.lanes) if self._others.features else NOBODY, out)
        if self.watch.observers:
            self.watch.settled(self, rewards, out)
        return out, rewards

    def _reward(self, rewards: np.ndarray) -> None:
        """Asks a reward of somebody else."""
        moved = self._moved
        gained = np.asarray(self.reward(moved), np.float64)
        if gained.shape != rewards.shape or not np.isfinite(gained[moved]).all():
            raise ConfigError(
                f"the reward {type(self.reward).__name__} must be finite numbers of shape {rewards.shape}, got {gained.shape}: {gained}"
            )
        rewards[moved] = gained[moved]
        self.episodes["return_"] += rewards

    def _show(self, lanes: np.ndarray, out: np.ndarray) -> None:
        """What is not the kernel's of observation and mask."""
        if self._others.features:
            self._others.write(lanes, out, self.episodes["clipped"])
        if self._masks:
            self.task.mask(self.mask)
        narrow(self.mask, self.task, self.market.view, self.orders.kind.shape[1], self.row)

    def observe(self, lanes: np.ndarray, out: np.ndarray) -> None:
        """Writes the observations of `lanes` into out [N, D] and their masks into `mask`."""
        of_task = (self._table.conditions, self._table.needs, self.setup)
        observe(lanes, *self.market.public, self.episodes, out, self.mask, self._raw[0], self._transform, *of_task)
        self._show(lanes, out)
        if self.watch.observers:
            self.watch.observed(out, lanes)

    # ------------------------------------------------------------------------------------------------------------- to be kept

    def arrays(self) -> dict[str, np.ndarray]:
        """All that one step leaves to the next, market and gates apart: the arrays themselves, not copies."""
        return {
            "kind": self.orders.kind, "records": self.orders.records, "episodes": self.episodes, "length": self._length,
            "random": self.random,
        } | {f"{of}.{name}": array for of, plugin in self.plugins().items() for name, array in plugin.arrays().items()}  # fmt: skip

    @property
    def layout(self) -> str:
        """Task, reward, feature sets and market: where they are the same, their `arrays` mean the same."""
        own = (self.setup, self._table.rows)
        plugins = [described(plugin) for plugin in self.plugins().values()]
        return " ".join([*(array.tobytes().hex() for array in own), *plugins, self.market.layout])

    # ------------------------------------------------------------------------------------------------------------- reports

    def summary(self, lanes: np.ndarray) -> dict[str, np.ndarray]:
        """Numbers of the episodes of `lanes` so far, arrays over all lanes [N] that hold 0 elsewhere; see
        `emp_gym.envs.trading` for their meaning."""
        amounts = np.zeros((len(AMOUNTS), self.lanes), np.float64)
        counts = np.zeros((len(COUNTS), self.lanes), np.int64)
        lane, quote = self.market.public[:2]
        summarise(lanes, lane, quote, self.episodes, amounts, counts, self.setup)
        halted = np.zeros(self.lanes, np.int64)
        ended = np.intersect1d(lanes, self.ended)  # of an episode that goes on nothing was closed
        halted[ended] = self._closed_halted[ended]
        told = dict(zip((*AMOUNTS, *COUNTS, "closed_halted"), (*amounts, *counts, halted), strict=True))
        more = self.task.summary(lanes)
        if taken := sorted(more.keys() & (told.keys() | OWN)):
            raise ConfigError(f"summary of the task {type(self.task).__name__} may not have {taken}: these mean something in a report")
        return told | more

    def __deepcopy__(self, memo: dict[int, Any]) -> Lanes:
        twin = object.__new__(type(self))
        for name, value in self.__dict__.items():
            shared = name in ("_transform", "setup", "features", "_table")
            twin.__dict__[name] = None if name in MADE else value if shared else copy.deepcopy(value, memo)
        twin.rebind()
        return twin

    def rebind(self) -> None:
        """Plug-ins that came out of a copy or pickle see this environment."""
        for plugin in self.plugins().values():
            moved(plugin, self._world())
        self._write_others()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict.fromkeys(MADE)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.rebind()
