"""Markets for tests of `emp_gym.envs.conformance.market`: right ones that halt, answer late or have latency, and for each check
a market with one
fault that it, and no other check, must find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emp_gym.market.base import MarketSpec
from emp_gym.market.public import CANCEL, IN_FLIGHT, LIMIT, LIVE, MARKET, NONE, REPLACE
from emp_gym.market.starts import Numbers
from emp_gym.types import I64, ORDER, Bool, OrderAck, Orders, Reports, TradingStatus
from tests.third_party.emp_example_market.emp_example_market.market import Walk, WalkConfig

# ---------------------------------------------------------------------------------------------------------- right ones


class Halts(Walk):
    """Does not trade in five decisions of fifteen."""

    def _show(self, lanes: I64, **flows: Any) -> None:
        shut = self.public.lane["decision"][lanes] % 15 >= 10
        super()._show(lanes, status=np.where(shut, TradingStatus.HALTED, TradingStatus.TRADING), **flows)


@dataclass(frozen=True)
class LateConfig(WalkConfig):
    latency_ns: int = 0  # taken up to whole decisions, at least one


class Late(Walk):
    """Hears of requests a decision or more later, and answers then."""

    Config = LateConfig
    immediate = False
    momentary = (*Walk.momentary, "said")

    def __init__(self, spec: MarketSpec, config: LateConfig) -> None:
        super().__init__(spec, config)
        self.late = max(1, -(-config.latency_ns // (self.events * self.event_ns)))  # decisions
        self.kind = np.zeros((spec.lanes, self.late, self.requests), np.int8)  # what is on its way, the next to arrive first
        self.asked = np.zeros((spec.lanes, self.late, self.requests), ORDER)
        self.said: list[tuple[int, int, int, int]] = []

    def reset(self, lanes: I64, day: I64, row: I64, end_row: I64) -> None:
        self.kind[lanes], self.asked[lanes] = NONE, np.zeros((), ORDER)
        super().reset(lanes, day, row, end_row)

    def close(self, lanes: I64, target: I64) -> Bool:
        self.kind[lanes] = NONE
        return super().close(lanes, target)

    def _door(self, orders: Orders, lanes: I64) -> None:
        depth, wide, self.said = self.public.book[:, 0, 1::2].copy(), orders.kind.shape[1], []
        for k in range(self.requests):
            lane = lanes[self.kind[lanes, 0, k] != NONE]
            self._arrive(lane, self.kind[lane, 0, k], self.asked[lane, 0, k], depth)
        self.kind[lanes], self.asked[lanes] = np.roll(self.kind[lanes], -1, axis=1), np.roll(self.asked[lanes], -1, axis=1)
        self.kind[lanes, -1], self.outcome[lanes] = NONE, OrderAck.NONE
        for k in range(wide):
            lane = lanes[orders.kind[lanes, k] != NONE]
            self.outcome[lane, k] = self._send(lane, k, orders.kind[lane, k], orders.records[lane, k])

    def _send(self, lane: I64, k: int, kind: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """What the own door refuses is told at once; the rest is on its way."""
        told, new = self._told(lane, kind, asked), kind != CANCEL
        taken = told == OrderAck.ACCEPTED
        self._count(lane, new, taken)
        self.public.open["leaving"][lane[taken & ~new], self._find(lane, asked["id"])[1][taken & ~new]] = True
        self.kind[lane[taken], -1, k], self.asked[lane[taken], -1, k] = kind[taken], asked[taken]
        own = self._order(lane, kind, asked)[taken & new]
        own["state"], own["live"] = IN_FLIGHT, False
        self._put(lane[taken & new], own)
        return np.where(taken, OrderAck.PENDING, told)

    def _arrive(self, lane: I64, kind: np.ndarray, asked: np.ndarray, depth: np.ndarray) -> None:
        new, aim = kind != CANCEL, np.where(kind == REPLACE, asked["target"], asked["id"])
        there, _ = self._find(lane, aim)
        ends = there & ((kind == CANCEL) | (kind == REPLACE))
        self._drop(lane[ends], aim[ends])
        orphan = new & ~there & self._find(lane, asked["id"])[0]  # what it was to replace has gone
        self._drop(lane[orphan], asked["id"][orphan])
        mine = new & there & self._find(lane, asked["id"])[0]
        slot = self._find(lane, asked["id"])[1]
        self.public.open["state"][lane[mine], slot[mine]], self.public.open["live"][lane[mine], slot[mine]] = LIVE, True
        self._take(lane[mine], slot[mine], depth)
        self._sweep(lane)
        told = np.where(there, OrderAck.ACCEPTED, OrderAck.UNKNOWN)
        self.said += zip(lane.tolist(), self.public.lane["time_ns"][lane].tolist(), asked["id"].tolist(), told.tolist())

    def last_reports(self) -> Reports:
        lane, when, order, outcome = np.array(self.said, np.int64).reshape(-1, 4).T
        return Reports(lane.astype(np.int32), when, order, outcome.astype(np.int8), np.zeros(len(lane), np.int64))


RIGHT = (Walk, Halts, Late)

# --------------------------------------------------------------------------------------------------------- one fault each


class FreeKeepsId(Walk):
    found = "arrays_are_as_promised"

    def _sweep(self, lanes: I64) -> None:
        before = self.public.open["id"][lanes].max(axis=1, initial=0)
        super()._sweep(lanes)
        if len(lanes):
            last, room = self.public.open["id"][lanes, -1], self.public.lane["orders"][lanes] < self.most_orders
            self.public.open["id"][lanes, -1] = np.where(room, before, last)


class FeeTwice(Walk):
    found = "money_is_conserved"

    def fill(self, lane: I64, slot: I64, price: Any, quantity: Any, maker: bool, beyond: bool = False) -> None:
        partial = quantity < self.public.open["quantity"][lane, slot]
        super().fill(lane, slot, price, quantity, maker, beyond)
        self.public.lane["cash"][lane] -= partial * self.fee(price * quantity, quantity, maker)


class FloatFee(Walk):
    found = "fees_are_the_rules"

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config)
        self.public.rules["taker_numerator"], self.public.rules["taker_denominator"] = 31, 1_000_003

    def fee(self, amount: I64, quantity: I64, maker: bool) -> I64:
        rate = 0.0 if maker else 31 / 1_000_003
        return np.rint(amount * rate).astype(np.int64) + quantity * self.public.rules[0]["maker_per_lot" if maker else "taker_per_lot"]


class OffTick(Walk):
    found = "the_door_refuses"

    def _malformed(self, kind: np.ndarray, asked: np.ndarray) -> Bool:
        rounded = asked.copy()
        rounded["price"] = np.where(asked["price"] > 0, asked["price"] // 100 * 100, asked["price"])
        return super()._malformed(kind, rounded)


class ShyDoor(Walk):
    found = "what_a_mask_allows_is_accepted"

    def _told(self, lane: I64, kind: np.ndarray, asked: np.ndarray) -> np.ndarray:
        told = super()._told(lane, kind, asked)
        shy = (self.public.lane["decision"][lane] % 7 == 6) & (kind == MARKET) & (self.public.quote["position"][lane, 0] > 900)
        return np.where(shy & (told == OrderAck.ACCEPTED), OrderAck.HALTED, told)


class FilledKeepsSlot(Walk):
    found = "slots_end"

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config)
        self.kept = np.zeros(spec.lanes, np.int64)

    def begin(self, lanes: I64) -> None:
        self.kept[lanes] = 0
        super().begin(lanes)

    def _take(self, lane: I64, slot: I64, depth: np.ndarray) -> None:
        super()._take(lane, slot, depth)
        self.kept[lane] += self.public.open["quantity"][lane, slot] == 0

    def _told(self, lane: I64, kind: np.ndarray, asked: np.ndarray) -> np.ndarray:
        told = super()._told(lane, kind, asked)
        full = self.public.lane["orders"][lane] + self.kept[lane] >= self.most_orders
        return np.where((told == OrderAck.ACCEPTED) & (kind != CANCEL) & full, OrderAck.NO_SLOT, told)


class CancelledFills(Walk):
    found = "cancel_in_every_state"

    def _drop(self, lane: I64, order: I64) -> None:
        slot = self._find(lane, order)[1]
        due = (order % 5 == 0) & (self.public.open["target"][lane, slot] == 0)
        for one, at in zip(lane[due], slot[due]):
            own = self.public.open[one, at]
            self.fill(np.array([one]), np.array([at]), own["price"][None], own["quantity"][None], maker=True)
        super()._drop(lane, order)


class BothRest(Walk):
    found = "replace_is_new"

    def _enter(self, lane: I64, kind: np.ndarray, asked: np.ndarray, depth: np.ndarray) -> np.ndarray:
        swap, (there, _) = kind == REPLACE, self._find(lane, asked["target"])
        return super()._enter(lane, np.where(swap & there, np.int8(LIMIT), kind), asked, depth)


class BeatsLimit(Walk):
    found = "fills_fit_their_orders"

    def fill(self, lane: I64, slot: I64, price: Any, quantity: Any, maker: bool, beyond: bool = False) -> None:
        worse = 0 if maker else self.public.open["side"][lane, slot].astype(np.int64) * self.config.tick
        super().fill(lane, slot, price + worse, quantity, maker, beyond)


class NoLatency(Walk):
    """Takes a latency and forgets it."""

    Config = LateConfig
    found = "latency_is_kept"

    @property
    def immediate(self) -> bool:  # type: ignore[override]
        return self.config.latency_ns == 0


class FillsInHalt(Halts):
    found = "nothing_trades_in_a_halt"

    def resting(self, lanes: I64, side: int) -> Any:
        status = self.public.quote["status"].copy()
        self.public.quote["status"] = TradingStatus.TRADING
        found = list(super().resting(lanes, side))
        self.public.quote["status"] = status
        return iter(found)


class SaysTwice(Late):
    found = "answers_come_once"

    def last_reports(self) -> Reports:
        told = super().last_reports()
        return Reports(*(np.repeat(column, 2) for column in vars(told).values()))


class ClockRunsOn(Walk):
    found = "time_goes_on"

    def pass_time(self, lanes: I64) -> None:
        super().pass_time(lanes)
        self.public.lane["time_ns"][~self.active] += 1


class OneGenerator(Walk):
    found = "lanes_do_not_know_each_other"

    def noise(self, lanes: I64, count: int) -> np.ndarray:
        lane, own = self.public.lane, super().noise(lanes, count)
        return own + np.uint64((lane["row"] * (lane["decision"] > 0)).sum() % 1_000)


class ThreadsDraw(Walk):
    found = "threads_change_nothing"

    def noise(self, lanes: I64, count: int) -> np.ndarray:
        return super().noise(lanes, count) + np.uint64(self.threads > 1)


class GoesOn(Walk):
    """Begins where the episode before has ended."""

    found = "same_start_same_bytes"

    def begin(self, lanes: I64) -> None:
        last = self.mid[lanes].copy()
        super().begin(lanes)
        self.mid[lanes] = np.where(last > 0, last, self.config.price)
        self._show(lanes)


class Hidden(Walk):
    """Keeps in a list what one decision leaves to the next."""

    found = "copies_continue"

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config)
        self.seen = [0] * spec.lanes

    def begin(self, lanes: I64) -> None:
        for lane in lanes:
            self.seen[lane] = 0
        super().begin(lanes)

    def pass_time(self, lanes: I64) -> None:
        for lane in lanes:
            self.seen[lane] += 1
        super().pass_time(lanes)

    def _show(self, lanes: I64, **flows: Any) -> None:
        super()._show(lanes, hidden=np.array([self.seen[lane] for lane in lanes]), **flows)


class OneTable(Walk):
    found = "starts_keep_apart"

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config)
        if spec.split == "test":
            self.starts = Numbers("all")


class Float32(Walk):
    found = "named_are_announced"

    def __init__(self, spec: MarketSpec, config: WalkConfig) -> None:
        super().__init__(spec, config)
        self.named["path"] = np.zeros((spec.lanes, 1, self.events), np.float32)


class Ahead(Walk):
    found = "nothing_after_t"

    def _show(self, lanes: I64, **flows: Any) -> None:
        super()._show(lanes, **flows)
        self.public.lane["decision"][lanes] += 1
        self.public.quote["hidden"][lanes, 0] = (self.noise(lanes, 1)[:, 0] & 1).astype(np.int64)
        self.public.lane["decision"][lanes] -= 1


FAULTY = (
    FreeKeepsId, FeeTwice, FloatFee, OffTick, ShyDoor, FilledKeepsSlot, CancelledFills, BothRest, BeatsLimit, NoLatency, FillsInHalt,
    SaysTwice, ClockRunsOn, OneGenerator, ThreadsDraw, GoesOn, Hidden, OneTable, Float32, Ahead,
)  # fmt: skip
