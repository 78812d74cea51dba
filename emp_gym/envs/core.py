"""The step that every face of an environment shares, batched over N lanes: decide orders, gates, market, observe."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emp_gym.data import instruments, store
from emp_gym.data.clock import UNITS
from emp_gym.envs import schedule, task_kernels
from emp_gym.envs.faces import NOBODY, Seed, seeded
from emp_gym.envs.gates import GateRow, answered, resolve
from emp_gym.envs.lots import stop_if_money_ran_out, stop_if_money_wraps
from emp_gym.envs.narrowing import narrow
from emp_gym.envs.task_kernels import EPISODE, SETUP
from emp_gym.envs.tasks import REWARDS, Task, make_task
from emp_gym.evaluation.assumptions import FEES
from emp_gym.market.replay import FILL_RULES, HIDDEN_PRINTS, MANY, REQUESTS, ReplayConfig, ReplayMarket
from emp_gym.risk.gates import Gate
from emp_gym.sensory import lob
from emp_gym.settings import shown, whole, word
from emp_gym.threads import MOST, run
from emp_gym.types import I8, Bool, ConfigError, DataError, Feature, Orders, Verdicts

MARKETS = ("replay",)
MOST_LATENCY_NS = 24 * 60 * UNITS["min"]


class Lanes:
    """N lanes of one market under one task. The faces in `trading` add Gymnasium's conventions.

    Keyword arguments are those of the environments: see `emp_gym.envs.trading`.
    """

    def __init__(
        self,
        task: str,
        lanes: int,
        *,
        data: store.Data = None,
        split: str = "train",
        market: str = "replay",
        fills: str = "exact",
        hidden_prints: str = "ignore",
        latency_ns: int | Sequence[int] = 0,
        impact: str = "none",
        every: str = "100 messages",
        episode: str = "256 decisions",
        levels: int | None = None,
        gates: Any = None,
        threads: int | None = None,
        maker_fee_bps: float | None = None,
        taker_fee_bps: float | None = None,
        maker_fee_per_lot: float | None = None,
        taker_fee_per_lot: float | None = None,
        instrument: instruments.Given = None,
        **parameters: Any,
    ) -> None:
        word("market", market, MARKETS)
        word("fills", fills, FILL_RULES)
        word("hidden_prints", hidden_prints, HIDDEN_PRINTS)
        threads = checked_threads(threads)
        order_ns, feed_ns = _latencies(latency_ns)
        given = zip(FEES, (maker_fee_bps, taker_fee_bps, maker_fee_per_lot, taker_fee_per_lot), strict=True)
        fees = {name: None if fee is None else instruments.checked_fee(name, fee) for name, fee in given}
        self.task: Task = make_task(task, parameters)
        self.lanes = lanes
        self.pace, self.episode = schedule.parse_pace(every), schedule.parse_episode(episode)
        self.tape = instruments.changed(store.tapes(data, in_memory=lanes >= MANY), instrument)
        self.windows = schedule.split_windows(self.tape, split, self.pace, self.episode)
        self.market = ReplayMarket(
            self.tape,
            lanes,
            ReplayConfig(
                fills=fills, hidden_prints=hidden_prints, order_latency_ns=order_ns, feed_latency_ns=feed_ns,
                half_life_ns=schedule.parse_impact(impact), every_rows=self.pace.rows, every_ns=self.pace.ns, **fees,
            ),
            threads,
            lob.LOOKS,
        )  # fmt: skip
        deepest = self.tape.levels
        self.levels = min(5, deepest) if levels is None else whole("levels", levels, 1, deepest, ", the depth of the data")
        self.features: tuple[Feature, ...] = lob.features(self.levels) + self.task.features
        self._transform = lob.transforms(self.features)
        self._raw = np.zeros(
            (self.market.threads, self._transform.shape[1] + 64), np.float32
        )  # rows share no cache line
        self.venue = market
        self.gates = resolve(gates)
        self.setup = self._setup(order_ns)
        self.orders = Orders.empty(lanes, REQUESTS)
        self.sent = self.orders  # what the market got: `orders` after the gates
        self.verdicts: list[Verdicts] = []
        self.truncated_by: I8 | None = None  # `Stop` [N] of the last step; None where no gate stopped a lane
        self.episodes = np.zeros(lanes, EPISODE)
        self._length = np.zeros(lanes, np.int64)  # decisions of each lane's episode, close together
        self.ended = NOBODY  # lanes that the last step ended
        self._closed_halted = np.zeros(lanes, np.int64)  # 1: that step closed a position while trading was halted
        self.random: np.ndarray = np.zeros(lanes, np.uint64)
        self.mask = np.zeros((lanes, max(len(self.task.menu), 1)), np.bool_)
        self._weight_end = self.windows.weight_end

    def _setup(self, order_ns: int) -> np.ndarray:
        task = self.task
        for day in self.tape.info:
            lot = day.instrument.lot
            used = [name for name in ("order_quantity", "parent") if name not in task.unused]
            if any(getattr(task, name) % lot for name in used):
                what = "multiples" if len(used) > 1 else "a multiple"
                raise ConfigError(
                    f"{' and '.join(used)} must be {what} of every day's lot: that of {day} is {lot}, got "
                    f"{' and '.join(str(getattr(task, name)) for name in used)}"
                )
        name, most = task.largest
        self._between_looks, self._until_look = stop_if_money_wraps(most, name, self.tape, self.market.days), 1  # decisions
        setup = np.zeros(1, SETUP)
        setup["task"], setup["reward"], setup["clip"] = task.code, REWARDS[task.reward], task.order_quantity
        setup["max_position"], setup["episode"], setup["parent"] = task.max_position, self.episode, task.parent
        setup["max_offset"], setup["levels"], setup["latency"] = task.max_offset, self.levels, order_ns > 0
        setup["inventory_penalty"], setup["damping"] = task.inventory_penalty, task.damping
        return setup

    # -------------------------------------------------------------------------------------------------------------- gates

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What stands between task and market, in the order in which it is asked."""
        return self.row.gates

    @gates.setter
    def gates(self, gates: tuple[Gate, ...]) -> None:
        self.row = GateRow(gates, self.venue, self.market.threads, [day.instrument for day in self.tape.info])

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
        n = len(lanes)
        day, row, end_row = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        task_kernels.draw_starts(lanes, self.random, self.windows.table, self._weight_end, day, row, end_row)
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
            if days is not None:
                own_day = days[lane] if isinstance(days, (list, tuple, np.ndarray)) else days
                day[j] = whole("day", own_day, 0, len(self.tape.info) - 1, "; a place in tape_set.info")
            times = self.tape.rows["time_ns"][self.tape.day_slice(int(day[j]))]
            if starts is not None:
                start = starts[lane] if isinstance(starts, (list, tuple, np.ndarray)) else starts
                row[j] = schedule.parse_start(start, times)
            else:
                own = self.windows.table[self.windows.table[:, 0] == day[j]]
                row[j] = own[0, 1] if len(own) else 0
            first = schedule.first_price(self.tape, int(day[j]))
            if row[j] < first:
                raise ConfigError(
                    f"start {int(row[j])} is before row {first} of {self.tape.info[int(day[j])]}, the first by which both sides had been "
                    "quoted: nothing has a price yet; start there or later"
                )
            ends = [int(w[3]) for w in self.windows.table if w[0] == day[j] and w[1] <= row[j] <= w[3]]
            end_row[j] = ends[0] if ends else len(times) - 1

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
        """All that one step leaves to the next, gates apart: the arrays themselves, not copies."""
        kept = ("state", "quote", "seen", "slots", "taken", "fills", "book", "outcome", "active", "progress")
        return {name: getattr(self.market, name) for name in kept} | {
            "kind": self.orders.kind, "records": self.orders.records, "episodes": self.episodes, "length": self._length,
            "random": self.random,
        }  # fmt: skip

    @property
    def layout(self) -> str:
        """Days and their rules, task and market: where they are the same, `arrays` mean the same."""
        own = (self.setup, self.market.params, self.market.looks, self.market.days)
        return " ".join([self.tape.hash, *(array.tobytes().hex() for array in own)])

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

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """(signal f4 [N], regime i1 [N]) planted at the lanes' rows. Synthetic days only, for oracles only."""
        if self.tape.signal is None or self.tape.regime is None:
            raise DataError("recorded days have no planted signal; an oracle needs synthetic days (data=None)")
        lane = self.market.public.lane
        at = self.tape.days["row0"][lane["day"]] + lane["row"]
        return self.tape.signal[at], self.tape.regime[at]

    def __deepcopy__(self, memo: dict[int, Any]) -> Lanes:
        twin = object.__new__(type(self))
        for name, value in self.__dict__.items():
            shared = name in ("tape", "windows", "_weight_end", "_transform", "setup", "features", "task")
            twin.__dict__[name] = value if shared else copy.deepcopy(value, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"tape": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.tape = self.market.tape


_NO_LEVERS = np.zeros((1, 3), np.float32)
_NO_CHOICES = np.zeros(1, np.int64)


def checked_threads(threads: Any) -> int | None:
    """`threads`, or `ConfigError`."""
    return None if threads is None else whole("threads", threads, 1, MOST, "; None takes what suits the machine")


def _latencies(latency_ns: Any) -> tuple[int, int]:
    """(order, feed) latency in ns from one number (both) or a pair."""
    several = isinstance(latency_ns, (list, tuple, np.ndarray))
    pair = list(latency_ns) if several else [latency_ns, latency_ns]
    if len(pair) != 2:
        raise ConfigError(f"latency_ns must be a whole number of nanoseconds or [order, feed], got {shown(latency_ns)}")
    more = ", nanoseconds or [order, feed]"
    order, feed = (whole("latency_ns", ns, 0, MOST_LATENCY_NS, f" in {shown(latency_ns)}{more}" if several else more) for ns in pair)
    return order, feed
