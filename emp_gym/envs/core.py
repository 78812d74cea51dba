"""The step that every face of an environment shares, batched over N lanes: decide orders, gates, market, observe."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from emp_gym.envs import task_kernels
from emp_gym.envs.faces import NOBODY, Seed, seeded
from emp_gym.envs.gates import GateRow, answered, resolve
from emp_gym.envs.narrowing import narrow
from emp_gym.envs.task_kernels import EPISODE, SETUP
from emp_gym.envs.tasks import REWARDS, Task, make_task
from emp_gym.market.base import MARKETS, Market, MarketSpec
from emp_gym.market.clock import parse_episode
from emp_gym.market.lots import stop_if_money_ran_out
from emp_gym.risk.gates import Gate
from emp_gym.sensory import lob
from emp_gym.settings import whole
from emp_gym.threads import run
from emp_gym.types import I8, Bool, ConfigError, Feature, Orders, Verdicts


class Lanes:
    """N lanes of one market under one task. The faces in `trading` add Gymnasium's conventions.

    Keyword arguments are those of the environments: see `emp_gym.envs.trading`.
    """

    def __init__(
        self,
        task: str,
        lanes: int,
        *,
        market: Any = "replay",
        split: str = "train",
        every: str = "100 messages",
        episode: str = "256 decisions",
        levels: int | None = None,
        gates: Any = None,
        threads: int | None = None,
        **keywords: Any,
    ) -> None:
        part = MARKETS.part(market)
        if part.made is not None:
            raise ConfigError(f"a market ({part.name}) is made for its lanes: give its class or name, and its parameters in a mapping")
        own = {name: keywords.pop(name) for name in part.takes if name in keywords and name not in part.given}
        part.given |= own
        config = part.make()
        self.task: Task = make_task(task, keywords, part.takes)
        self.lanes, self.episode = lanes, parse_episode(episode)
        self.market: Market = part.cls(MarketSpec(lanes, split, self.episode, every, levels, threads, lob.LOOKS), config)
        _ = self.market.starts  # where none is long enough, that is said now
        deepest = self.market.public.book.shape[3]
        self.levels = min(5, deepest) if levels is None else whole("levels", levels, 1, deepest, ", the depth of the book")
        self.features: tuple[Feature, ...] = lob.features(self.levels) + self.task.features
        self._transform = lob.transforms(self.features)
        self._raw = np.zeros(
            (self.market.threads, self._transform.shape[1] + 64), np.float32
        )  # rows share no cache line
        self.gates = resolve(gates)
        self.setup = self._setup()
        self.orders = Orders.empty(lanes, self.market.requests)
        self.sent = self.orders  # what the market got: `orders` after the gates
        self.verdicts: list[Verdicts] = []
        self.truncated_by: I8 | None = None  # `Stop` [N] of the last step; None where no gate stopped a lane
        self.episodes = np.zeros(lanes, EPISODE)
        self._length = np.zeros(lanes, np.int64)  # decisions of each lane's episode, close together
        self.ended = NOBODY  # lanes that the last step ended
        self._closed_halted = np.zeros(lanes, np.int64)  # 1: that step closed a position while trading was halted
        self.random: np.ndarray = np.zeros(lanes, np.uint64)
        self.mask = np.zeros((lanes, max(len(self.task.menu), 1)), np.bool_)

    def _setup(self) -> np.ndarray:
        task, market = self.task, self.market
        for number, instrument in enumerate(market.instruments):
            lot = instrument.lot
            used = [name for name in ("order_quantity", "parent") if name not in task.unused]
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
        setup["task"], setup["reward"], setup["clip"] = task.code, REWARDS[task.reward], task.order_quantity
        setup["max_position"], setup["episode"], setup["parent"] = task.max_position, self.episode, task.parent
        setup["max_offset"], setup["levels"], setup["latency"] = task.max_offset, self.levels, not market.immediate
        setup["inventory_penalty"], setup["damping"] = task.inventory_penalty, task.damping
        return setup

    # -------------------------------------------------------------------------------------------------------------- gates

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What stands between task and market, in the order in which it is asked."""
        return self.row.gates

    @gates.setter
    def gates(self, gates: tuple[Gate, ...]) -> None:
        self.row = GateRow(gates, self.market.venue, self.market.threads, list(self.market.instruments))

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
        """As `emp_gym.envs.faces.seeded` says."""
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
        task_kernels.begin(lanes, self.market.public.quote, self.episodes, self.random, stagger, self.setup)
        self._length[lanes] = self.episodes["length"][lanes]

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
        self._request(actions)
        self._send()
        self._until_look -= 1
        if self._until_look == 0:
            stop_if_money_ran_out(self.market.view.cash, self.task.largest[0])
            self._until_look = self._between_looks
        truncated = (self.market.progress >= self._length) & self.market.active
        terminated = np.zeros(self.lanes, np.bool_)
        ended = truncated.copy()  # the flags are given away
        if self.task.code == task_kernels.EXECUTE_PARENT:
            view = self.market.view
            done = view.position[:, 0] * self.episodes["parent_side"] >= self.task.parent
            terminated = (done | (view.decision >= self._length)) & self.market.active
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
        return ended, terminated, truncated

    def _send(self) -> None:
        """Lets the gates look at `orders`, and sends what they leave."""
        orders, self.verdicts, view = self.orders, [], self.market.view
        try:
            for gate in self.gates:
                orders, verdicts = answered(gate, gate(view, orders))
                self.verdicts.append(verdicts)
            self.sent = orders
            self.market.advance(orders)
        finally:
            self.row.after_market(view)

    def _finish(self, lanes: np.ndarray) -> None:
        """Ends the episodes of `lanes`: positions are closed, what remains of a parent order is taken (not by lanes that a
        gate has stopped)."""
        target = np.zeros(len(lanes), np.int64)
        if self.task.code == task_kernels.EXECUTE_PARENT:
            target = self.episodes["parent_side"][lanes] * self.task.parent
            if self.truncated_by is not None:
                target = np.where(self.truncated_by[lanes] > 0, self.market.view.position[lanes, 0], target)
        self._closed_halted[lanes] = self.market.close(lanes, target)

    def _request(self, actions: np.ndarray) -> None:
        market = self.market
        choices, levers = (actions, _NO_LEVERS) if self.task.menu else (_NO_CHOICES, actions)
        arrays = (
            choices, levers, self.orders.kind, self.orders.records, *market.public, self.episodes, self.mask, market.active,
            self.setup,
        )  # fmt: skip
        run(market.threads, task_kernels.request_lanes, self.lanes, *arrays)

    def settle_and_observe(self) -> tuple[np.ndarray, np.ndarray]:
        """Fresh (observation f4 [N, D], reward f8 [N]) of the step that just ended; the mask is kept in `mask`."""
        out, rewards = np.empty((self.lanes, len(self.features)), np.float32), np.empty(self.lanes, np.float64)
        market = self.market
        arrays = (
            *market.public, self.episodes, market.active, rewards, out, self.mask, self._raw, self._transform, self.setup,
        )  # fmt: skip
        run(market.threads, task_kernels.settle_and_observe_lanes, self.lanes, *arrays)
        narrow(self)
        return out, rewards

    def observe(self, lanes: np.ndarray, out: np.ndarray) -> None:
        """Writes the observations of `lanes` into out [N, D] and their masks into `mask`."""
        arrays = (*self.market.public, self.episodes, out, self.mask, self._raw[0], self._transform, self.setup)
        task_kernels.observe(lanes, *arrays)
        narrow(self)

    # ------------------------------------------------------------------------------------------------------------- to be kept

    def arrays(self) -> dict[str, np.ndarray]:
        """All that one step leaves to the next, market and gates apart: the arrays themselves, not copies."""
        return {
            "kind": self.orders.kind, "records": self.orders.records, "episodes": self.episodes, "length": self._length,
            "random": self.random,
        }  # fmt: skip

    @property
    def layout(self) -> str:
        """Task and market: where they are the same, their `arrays` mean the same."""
        return f"{self.setup.tobytes().hex()} {self.market.layout}"

    # ------------------------------------------------------------------------------------------------------------- reports

    def summary(self, lanes: np.ndarray) -> dict[str, np.ndarray]:
        """Numbers of the episodes of `lanes` so far, arrays over all lanes [N] that hold 0 elsewhere; see
        `emp_gym.envs.trading` for their meaning."""
        amounts = np.zeros((len(task_kernels.AMOUNTS), self.lanes), np.float64)
        counts = np.zeros((len(task_kernels.COUNTS), self.lanes), np.int64)
        lane, quote = self.market.public[:2]
        task_kernels.summarise(lanes, lane, quote, self.episodes, amounts, counts, self.setup)
        halted = np.zeros(self.lanes, np.int64)
        ended = np.intersect1d(lanes, self.ended)  # of an episode that goes on nothing was closed
        halted[ended] = self._closed_halted[ended]
        told = zip(task_kernels.AMOUNTS + task_kernels.COUNTS, (*amounts, *counts), strict=True)
        return dict(told) | {"closed_halted": halted}

    def __deepcopy__(self, memo: dict[int, Any]) -> Lanes:
        twin = object.__new__(type(self))
        for name, value in self.__dict__.items():
            shared = name in ("_transform", "setup", "features", "task")
            twin.__dict__[name] = value if shared else copy.deepcopy(value, memo)
        return twin


_NO_LEVERS = np.zeros((1, 3), np.float32)
_NO_CHOICES = np.zeros(1, np.int64)
