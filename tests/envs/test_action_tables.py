"""Tables of actions against plain Python that is written from the words of `Action`, over books and orders of all kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from emp_gym.envs.tasks import ExecuteParent, Task, TradeBook
from emp_gym.envs.tasks.table import compiled
from emp_gym.envs.trading_core import Lanes
from emp_gym.market.public import FREE, LIVE
from emp_gym.types import LEAVE, WITHDRAW, Action, ConfigError, Orders, RequestType, TradingStatus

N, K, CLIP, TICK = 512, 8, 100, 100
LIM, MKT, CXL, REP = (int(kind) for kind in (RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE))
KEEP = Action("keep")
LADDER = {300: 20, 500: 50, 800: 100, 1_000: 200, 1_400: 500}  # ticks by price, 10 below


def any_action(name: str, rng: np.random.Generator) -> Action:
    """An action that does one thing, at any place."""
    cancel, clips = bool(rng.integers(2)), int(rng.integers(1, 4))
    what = rng.integers(4)
    if what == 0:
        bid, ask = (int(rng.choice([LEAVE, WITHDRAW, 0, 1, 2, 5, 12, 40])) for _ in range(2))
        return Action(name, bid, ask)
    if what == 1:
        return Action(name, take=int(rng.choice([-1, 1])) * clips, cancel=cancel)
    return Action(name, to=int(rng.integers(-3, 4)), cancel=cancel) if what == 2 else Action(name, cancel=True)


def any_task(base: type[Task], seed: int) -> type[Task]:
    rng = np.random.default_rng(seed)
    table = (KEEP, *(any_action(str(n), rng) for n in range(12)))
    return type("Any", (base,), {"actions": table, "whole": bool(rng.integers(2)), "free": int(rng.integers(1, 3))})


class Case:
    """One lane's book, orders and account, as plain Python."""

    def __init__(self, lanes: Lanes, i: int) -> None:
        task, public, self.late = lanes.task, lanes.market.public, not lanes.setup["immediate"][0]
        quote, book = public.quote[i, 0], public.book[i, 0]
        self.trading, self.position = quote["status"] == TradingStatus.TRADING, int(quote["position"])
        self.best, self.size = {1: int(book[0, 0]), -1: int(book[2, 0])}, {1: int(book[1, 0]), -1: int(book[3, 0])}
        self.orders = [public.open[i, k] for k in range(public.lane["orders"][i])]
        self.free, self.whole, self.needs_free = K - len(self.orders), task.whole, task.free
        self.limit, self.lead = task.limit, int(lanes.episodes["parent_side"][i]) if task.relative else 1
        self.ladder, self.decision = LADDER if public.rules[quote["rules"]]["steps"] else {}, int(public.lane["decision"][i])

    def ticks_behind(self, side: int, depth: int) -> int:
        """A price `depth` ticks behind the touch: each tick is that of the lower of the two prices that it lies between."""
        price = self.best[side]
        for _ in range(depth):
            lower = price - 1 if side > 0 else price
            ticks = [10 if self.ladder else TICK, *(tick for first, tick in self.ladder.items() if lower >= first)]
            price -= side * ticks[-1]
        return price

    def resting(self, side: int) -> list[Any]:
        return [own for own in self.orders if own["kind"] == LIM and own["side"] == side and not own["leaving"]]

    def lots(self, side: int, may_still_fill: bool) -> int:
        """Of own orders; with `may_still_fill` those that a cancel of now does not reach."""
        counted = [own for own in self.orders if not may_still_fill or self.late or own["leaving"]]
        return sum(int(own["quantity"]) for own in counted if own["side"] == side)

    def room(self, side: int, replaced: bool = True) -> int:
        """For a new order that comes instead of those that are open, or beside them."""
        return self.limit - side * self.position - self.lots(side, replaced)

    def quotes(self, action: Action) -> list[tuple[int, int]]:
        return [(side, depth) for side, depth in ((self.lead, action.bid), (-self.lead, action.ask)) if depth != LEAVE]

    def may(self, action: Action) -> bool:
        """Whether all that an action sends could be done now."""
        if action.take == 0 and action.to is None and all(depth == WITHDRAW for _, depth in self.quotes(action)):
            return True
        if not self.trading:
            return False
        for side, depth in self.quotes(action):
            if depth == WITHDRAW:
                continue
            price = self.ticks_behind(side, depth)
            stands = any(own["price"] == price for own in self.resting(side))
            fits = price > 0 and (stands or self.room(side) >= CLIP)
            if self.free < 2 or self.size[side] == 0 or (self.whole and not fits):
                return False
        if action.take:
            side = self.lead if action.take > 0 else -self.lead
            lots = abs(action.take) * CLIP
            fits = self.limit - side * self.position - self.lots(side, False) >= lots
            return self.free >= self.needs_free and self.size[-side] > 0 and (fits or not self.whole)
        if action.to is not None:
            beyond = self.position - self.lead * action.to * CLIP
            return self.free >= 1 and (beyond == 0 or self.size[1 if beyond > 0 else -1] > 0)
        return True

    def sends(self, action: Action) -> list[tuple]:
        """(kind, side, price, quantity, target or id) in order."""
        sent: list[tuple] = []
        if action.cancel:
            sent += [(CXL, int(own["side"]), 0, 0, int(own["id"])) for own in self.orders if not own["leaving"]]
        for side, depth in self.quotes(action):
            price, there = 0 if depth == WITHDRAW else max(self.ticks_behind(side, depth), 0), self.resting(side)
            stands = [int(own["id"]) for own in there if price > 0 and own["price"] == price][:1]
            lots = CLIP if self.whole else min(CLIP, self.room(side))
            wanted = price > 0 and not stands and lots > 0
            for own in there:
                if int(own["id"]) in stands:
                    continue
                sent.append((REP, side, price, lots, int(own["id"])) if wanted else (CXL, side, 0, 0, int(own["id"])))
                wanted = False
            if wanted:
                sent.append((LIM, side, price, lots, 0))
        lots = 0
        if action.take:
            side = self.lead if action.take > 0 else -self.lead
            lots = abs(action.take) * CLIP if self.whole else min(abs(action.take) * CLIP, self.room(side, action.cancel))
        elif action.to is not None:
            coming = sum(int(own["side"]) * int(own["quantity"]) for own in self.orders if own["kind"] == MKT)
            beyond = self.position + coming - self.lead * action.to * CLIP
            side = -1 if beyond > 0 else 1
            lots = min(abs(beyond), self.room(side, action.cancel))
        if lots > 0:
            sent.append((MKT, side, 0, lots, 0))
        return sent

    def told(self, orders: Orders, i: int) -> list[tuple]:
        """What was sent, as `sends` has it; every new order has an id of its own."""
        found = []
        for n, each in enumerate(orders.asked(i)):
            kind, cancelled = each["kind"], each["kind"] == CXL
            assert cancelled or each["id"] == self.decision * 16 + n + 1
            found.append((kind, each["side"], each["price"], each["quantity"], each["id"] if cancelled else each["target"]))
        return found


def scene(task: Any, seed: int, latency_ns: int) -> Lanes:
    """Lanes whose books, orders, positions and statuses are anything."""
    lanes = Lanes(task, N, latency_ns=latency_ns, split="all", threads=1)
    lanes.seed(seed)
    lanes.reset(np.arange(N))
    rng, public = np.random.default_rng(seed), lanes.market.public
    if seed % 2:
        public.rules["steps"], public.rules["first_tick"] = len(LADDER), 10
        public.rules["step_price"][:, : len(LADDER)], public.rules["step_tick"][:, : len(LADDER)] = [*LADDER], [*LADDER.values()]
    quote, book, own = public.quote[:, 0], public.book[:, 0], public.open
    quote["status"] = rng.choice([0, 0, 0, 0, 0, 1], N)
    side = lanes.episodes["parent_side"] if lanes.task.relative else rng.choice([-1, 1], N)
    quote["position"] = side * rng.integers(0, lanes.task.limit // 50 + 1, N) * 50
    public.lane["decision"] = rng.integers(0, 200, N)
    bid = rng.integers(1, 12, N) * 100
    book[:, 0, 0], book[:, 2, 0] = bid, bid + 100 * rng.integers(1, 4, N)
    book[:, 1, 0], book[:, 3, 0] = (rng.choice([0, 300, 300, 300], N) for _ in range(2))
    public.lane["orders"] = rng.integers(0, K + 1, N)
    used = np.arange(K) < public.lane["orders"][:, None]
    for name, values in {
        "kind": rng.choice([LIM, LIM, LIM, MKT], (N, K)), "side": rng.choice([-1, 1], (N, K)),
        "quantity": rng.choice([20, 50, 100], (N, K)),
        "price": bid[:, None] + rng.choice([-200, -100, -50, -10, 0, 20, 100, 200, 300], (N, K)),
        "id": rng.integers(1, 999, (N, K)) * K + np.arange(K), "leaving": rng.random((N, K)) < 0.3, "state": np.full((N, K), LIVE),
    }.items():  # fmt: skip
        own[name] = np.where(used, values, FREE)
    return lanes


def differences(lanes: Lanes, judged: tuple[Action, ...]) -> int:
    """Masks and requests that are not what plain Python makes of `judged`."""
    cases, wrong = [Case(lanes, i) for i in range(N)], 0
    lanes.observe(np.arange(N), np.empty((N, len(lanes.features)), np.float32))
    mask, orders = lanes.mask.copy(), Orders.empty(N, lanes.orders.kind.shape[1])
    for number, action in enumerate(judged):
        allowed = np.array([case.may(action) for case in cases])
        wrong += int((mask[:, number] != allowed).sum())
        orders.begin(lanes.market.public.lane["decision"])
        lanes.task.orders(np.full(N, number), orders)
        for i in np.flatnonzero(mask[:, number] & allowed):
            wrong += cases[i].told(orders, int(i)) != cases[i].sends(action)
    return wrong


TASKS = [TradeBook, ExecuteParent, *(any_task(base, seed) for seed in range(6) for base in (TradeBook, ExecuteParent))]


@pytest.mark.parametrize("number", range(len(TASKS)))
def test_a_table_does_what_its_words_say(number: int) -> None:
    task = TASKS[number]
    lanes = scene(task, number, 1_000 * (number // 2 % 2))
    assert differences(lanes, task.actions) == 0
    assert 0.02 < lanes.mask[:, 1:].mean() < 0.98


@pytest.mark.parametrize(
    ("best", "deep", "prices"),
    [
        ((290, 300), 3, (260, 360)),  # 290 280 270 260; 300 320 340 360
        ((320, 460), 3, (280, 550)),  # 320 300 290 280; 460 480 500 550
        ((1_200, 1_400), 4, (750, 3_400)),  # 1200 1000 900 800 750
        ((1_000, 1_200), 1, (900, 1_400)),
        ((30, 290), 3, (None, 340)),  # no price is that low: only one side stands
    ],
)
def test_a_level_over_several_ticks_is_counted_one_by_one_on_both_sides(best, deep, prices) -> None:
    both = type("Both", (TradeBook,), {"actions": (KEEP, Action("both", bid=deep, ask=deep)), "whole": False})
    lanes = scene(both, 1, 0)
    public = lanes.market.public
    public.lane["orders"], public.quote["position"], public.quote["status"] = 0, 0, TradingStatus.TRADING
    public.book[:, 0, :, 0] = best[0], 300, best[1], 300
    out = Orders.empty(N, lanes.orders.kind.shape[1])
    out.begin(public.lane["decision"])
    lanes.task.orders(np.ones(N, np.int64), out)
    wanted = [(side, price) for side, price in zip((1, -1), prices, strict=True) if price is not None]
    for i in range(N):
        assert [(each["side"], each["price"]) for each in out.asked(i)] == wanted


@pytest.mark.parametrize("field", ["bid", "take", "to", "cancel"])
def test_one_wrong_number_in_a_table_is_found(field: str) -> None:
    wrong = {"bid": Action("quote both", 1, 0), "take": Action("buy", take=2), "to": Action("flatten", to=1, cancel=True),
             "cancel": Action("flatten", to=0)}[field]  # fmt: skip
    planted = type("Planted", (TradeBook,), {"actions": tuple(wrong if one.name == wrong.name else one for one in TradeBook.actions)})
    assert differences(scene(planted, 4, 0), TradeBook.actions) > 50


def test_a_masked_action_keeps_and_is_counted() -> None:
    lanes = scene(TradeBook, 2, 0)
    lanes.observe(np.arange(N), np.empty((N, len(lanes.features)), np.float32))
    masked = ~lanes.mask[:, 7]
    lanes.task.request(np.full(N, 7), lanes.mask, lanes.orders)
    assert masked.any() and (lanes.episodes["masked"] == masked).all() and ((lanes.orders.kind != 0).any(axis=1) == ~masked).all()


BAD = [
    (Action("deep", bid=-3), "bid must be a whole number from -2"), (Action("both", bid=0, take=1), "must do one of"),
    (Action("both", take=1, to=0), "must do one of"), (Action("both", bid=0, cancel=True), "must do one of"),
    (Action("half", take=0.5), "take must be a whole number"), (Action("buy", take=1), "must have different names"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("action", "said"), BAD)
def test_an_action_that_contradicts_itself_is_refused(action: Action, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compiled((KEEP, Action("buy", take=2), action), 1, True)


def test_a_table_needs_an_action_that_keeps_and_room_for_its_conditions() -> None:
    with pytest.raises(ConfigError, match="changes nothing"):
        compiled((Action("buy", take=1),), 1, True)
    with pytest.raises(ConfigError, match="at most 58 different places"):
        compiled((KEEP, *(Action(str(n), to=n) for n in range(59))), 1, True)
    assert compiled((Action("buy", take=1), Action("wait")), 1, True).keep == 1


def test_a_task_has_a_table_or_levers_with_orders() -> None:
    @dataclass
    class Nothing(Task):
        pass

    class Levers(Task):
        levers = ("size",)

    for task in (Nothing, Levers):
        with pytest.raises(ConfigError, match="either a table of actions, or levers and orders of its own"):
            Lanes(task, 1)
