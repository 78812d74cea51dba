"""A small market written by hand: what its account, book, look-backs, noise and starts are, computed by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from emp_gym.market.base import MarketSpec
from emp_gym.market.clock import Clock
from emp_gym.market.public import LIVE
from emp_gym.market.simple import BaseMarket
from emp_gym.market.starts import SPLITS, Numbers, Starts
from emp_gym.types import EMPTY_BID, ConfigError, DataError, Instrument, OrderAck, Orders, RequestType, TradingStatus

SPEC = MarketSpec(2, every="10 events", looks=(15, 40))


@dataclass(frozen=True)
class ScriptConfig:
    taker_fee_bps: float = 0.0
    taker_fee_per_lot: float = 0.0


class Script(BaseMarket):
    """Two levels a side; the mid rises one tick with each decision. `then` is called in each, before the book is shown."""

    Config = ScriptConfig
    levels = 2

    def __init__(self, spec: MarketSpec = SPEC, config: Any = ScriptConfig()) -> None:
        fees = {"taker_fee_bps": config.taker_fee_bps, "taker_fee_per_lot": config.taker_fee_per_lot}
        super().__init__(spec, config, Instrument("HAND", tick=100, lot=10, ticks=((20_000, 200),), **fees))
        self.then: Any = lambda lanes: None
        self.empty = -1  # lane that has no bids
        every = np.arange(spec.lanes)
        self.reset(every, every * 0, every, every)

    def begin(self, lanes: Any) -> None:
        self.book(lanes)

    def pass_time(self, lanes: Any) -> None:
        self.then(lanes)
        self.book(lanes)

    def book(self, lanes: Any, **more: Any) -> None:
        bid = 10_000 + 100 * self.public.lane["decision"][lanes]
        bids = np.where(lanes == self.empty, 0, 50)
        self.show(lanes, np.stack([bid, bid - 100], 1), np.stack([bids, bids], 1), np.stack([bid + 100, bid + 200], 1),
                  np.full((len(lanes), 2), 30), bought=7, sold=self.public.lane["decision"][lanes], **more)  # fmt: skip


def asked(lanes: int = 2, **fields: Any) -> Orders:
    """One request of lane 0."""
    orders = Orders.empty(lanes, 10)
    orders.put(0, 0, **fields)
    return orders


def buy(quantity: int, price: int = 0, id: int = 1, kind: int = RequestType.LIMIT) -> Orders:
    return asked(kind=kind, side=1, price=price, quantity=quantity, id=id)


def test_a_market_order_takes_level_by_level_and_the_rest_one_tick_beyond():
    market = Script()
    market.advance(buy(100, kind=RequestType.MARKET))
    fills = market.last_fills()
    assert fills.price.tolist() == [10_100, 10_200, 10_300] and fills.quantity.tolist() == [30, 30, 40]
    assert fills.beyond_depth.tolist() == [False, False, True] and fills.mid2_lots.tolist() == [20_100 * 30, 20_100 * 30, 20_100 * 40]
    paid = 30 * 10_100 + 30 * 10_200 + 40 * 10_300
    lane = market.public.lane[0]
    assert lane["cash"] == -paid * 10_000 and market.public.quote["position"][:, 0].tolist() == [100, 0]
    assert (lane["sent"], lane["hit"], lane["filled"], lane["beyond"], lane["orders"]) == (1, 1, 100, 40, 0)
    assert lane["captured2"] == 100 * 20_100 - 2 * paid and lane["max_position"] == lane["position_sum"] == 100


def test_a_limit_order_takes_up_to_its_limit_and_rests_with_what_is_left():
    market = Script()
    market.advance(buy(50, 10_100))
    own = market.public.open[0, 0]
    assert (own["id"], own["quantity"], own["filled"], own["state"], own["price"]) == (1, 20, 30, LIVE, 10_100)
    assert market.view.order_live[0].tolist() == [True] + [False] * 7


def test_two_orders_of_one_decision_do_not_take_the_same_lots():
    market, orders = Script(), buy(30, 10_100)
    orders.put(0, 1, RequestType.LIMIT, side=1, price=10_200, quantity=40, id=2)
    market.advance(orders)
    assert [(f, p) for f, p in zip(market.last_fills().quantity, market.last_fills().price)] == [(30, 10_100), (30, 10_200)]


def test_fees_are_rounded_against_us_and_come_per_lot_on_top():
    market = Script(config=ScriptConfig(taker_fee_bps=0.3333, taker_fee_per_lot=0.001))
    market.advance(buy(30, 10_100))
    exact = 30 * 10_100 * 10_000 * 3333e-8  # cash units: price units x lots x cash of one x rate
    assert market.last_fills().fee.tolist() == [int(np.ceil(exact)) + 30 * 100_000]


def test_a_tick_that_depends_on_the_price_is_the_door_s():
    market = Script()
    for price, told in ((20_100, OrderAck.MALFORMED), (20_200, OrderAck.ACCEPTED), (9_950, OrderAck.MALFORMED), (9_900, OrderAck.ACCEPTED)):
        market.advance(asked(kind=RequestType.LIMIT, side=-1 if price > 20_000 else 1, price=price, quantity=10, id=price))
        assert market.outcome[0, 0] == told, price


def test_look_backs_are_whole_decisions_and_begin_at_the_start():
    market = Script()
    for _ in range(6):
        market.advance(Orders.empty(2, 10))
    now, near, far = market.public.seen[0, 0]
    assert (now["messages"], near["messages"], far["messages"]) == (60, 40, 20)  # 15 events are two decisions of 10
    assert (now["sold"], near["sold"], far["sold"]) == (1 + 2 + 3 + 4 + 5 + 6, 1 + 2 + 3 + 4, 1 + 2)
    assert now["moves2"] - near["moves2"] == 2 * 200**2 and now["mid2"] - far["mid2"] == 4 * 200
    quote = market.public.quote[0, 0]
    assert (quote["mid2"], quote["mid2_before"], quote["bought"], quote["sold"]) == (21_300, 21_100, 7, 6)
    market.reset(np.array([0]), *np.zeros((3, 1), np.int64))
    assert market.public.seen[0, 0]["messages"].tolist() == [0, 0, 0] and market.public.seen[1, 0, 0]["messages"] == 60
    assert market.public.quote[0, 0]["mid2_before"] == market.public.quote[0, 0]["mid2"] == 20_100


def test_an_empty_side_keeps_the_last_mid_and_its_price_says_empty():
    market = Script()
    market.empty = 0
    market.advance(Orders.empty(2, 10))
    assert market.view.bid_price[:, 0, 0].tolist() == [EMPTY_BID, 10_100] and market.view.mid2[:, 0].tolist() == [20_100, 20_300]
    market.advance(asked(kind=RequestType.MARKET, side=-1, quantity=10, id=1))
    assert market.last_fills().price.tolist() == [10_000 - 100] and market.last_fills().beyond_depth.tolist() == [True]
    market.reset(np.array([0]), *np.zeros((3, 1), np.int64))
    assert market.view.mid2[0, 0] == 2 * 10_100  # all that is known is the ask


def test_closing_trades_to_the_target_even_in_a_halt_and_says_so():
    market = Script()
    market.advance(buy(20, kind=RequestType.MARKET))
    market.book(np.array([0, 1]), status=TradingStatus.HALTED)
    assert market.close(np.array([1, 0]), np.zeros((2, 1), np.int64)).tolist() == [False, True]
    assert market.public.quote["position"][:, 0].tolist() == [0, 0] and market.last_fills().id.tolist() == [1, -1]
    market.advance(buy(20, 9_000, id=2))
    assert market.outcome[0, 0] == OrderAck.HALTED and market.public.lane["refused"][0] == 1


def test_fill_refuses_a_lane_twice():
    market = Script()
    market.then = lambda lanes: market.fill(np.array([0, 0]), np.array([0, 1]), np.array([1, 1]), np.array([1, 1]), True)
    with pytest.raises(ConfigError, match="each lane once"):
        market.advance(Orders.empty(2, 10))


def test_noise_is_of_start_and_decision_and_branch_changes_it_from_its_decision_on():
    market, other = Script(), Script()
    other.branch(2, 9)
    seen = []
    for one in (market, other):
        own = [one.noise(np.array([0, 1]), 3)]
        for _ in range(3):
            one.advance(Orders.empty(2, 10))
            own.append(one.noise(np.array([0, 1]), 3))
        seen.append(np.array(own))
    assert len(np.unique(seen[0])) == seen[0].size
    assert (seen[0][:2] == seen[1][:2]).all() and (seen[0][2:] != seen[1][2:]).all()
    assert (market.noise(np.array([1]), 3) == seen[0][-1][1:]).all()


def test_restore_refuses_what_cannot_be_the_arrays():
    market = Script()
    market.advance(buy(50, 10_100))
    saved = {name: array.copy() for name, array in market.arrays().items()}
    for change, said in (
        (lambda s: s.pop("progress"), "progress"),
        (lambda s: s.update(progress=s["progress"].astype(np.int32)), "progress: expected 16 bytes, got 8"),
        (lambda s: s["public.lane"]["orders"].__setitem__(0, 9), "expected 0 to 8"),
        (lambda s: s["public.open"]["side"].__setitem__((0, 0), 3), r"public.open.side, lane 0, entry 0: expected 1 to 1, got 3"),
        (lambda s: s["public.open"]["state"].__setitem__((1, 4), LIVE), r"public.open.state, lane 1, entry 4"),
        (lambda s: s["public.quote"]["rules"].__setitem__((1, 0), 1), r"public.quote.rules, lane 1"),
        (lambda s: s["active"].view(np.uint8).__setitem__(1, 2), "active, lane 1"),
    ):  # fmt: skip
        broken = copy.deepcopy(saved)
        change(broken)
        with pytest.raises(DataError, match=said):
            Script().checked(broken, "here")
    twin = Script()
    twin.restore(twin.checked(saved, "here"))
    assert twin.public.open.tobytes() == market.public.open.tobytes() and twin.layout == market.layout


def test_what_it_cannot_do_is_refused_by_name():
    for spec, said in (
        (replace(SPEC, every="10 bars"), "100 messages"), (replace(SPEC, every="1500 us"), "multiple of 1000000 ns"),
        (replace(SPEC, levels=3), "at most 2, got 3, the depth of this market"),
        (replace(SPEC, needs=frozenset({"ohlcv"})), "publishes no array 'ohlcv'"),
        (replace(SPEC, sums={"large": lambda day: np.zeros(1)}), "no messages"), (replace(SPEC, split="tset"), "split"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Script(spec)
    with pytest.raises(ConfigError, match="would not fit"):
        Script().check_quantity(1 << 40, "max_position")
    with pytest.raises(DataError, match="no planted signal"):
        Script().truth()


def test_a_clock_is_read_as_it_is_written():
    for text, count, ns in (("100 messages", 100, 0), ("1 message", 1, 0), ("250 ms", 0, 250_000_000), ("1 min", 0, 60_000_000_000)):
        clock = Clock.parse(text, ("message", "messages"))
        assert (clock.count, clock.ns, str(clock)) == (count, ns, text)
    for text in ("", "0 messages", "1 fortnight", "messages", 5, None, "1.5 s"):
        with pytest.raises(ConfigError, match="every must be like"):
            Clock.parse(text, ("message", "messages"))


def test_starts_are_drawn_by_the_generator_of_each_lane_uniformly_over_all_windows():
    table, mask = np.array([[0, 5, 9, 30], [3, 100, 100, 120], [4, 0, 3, 8]], np.int64), (1 << 64) - 1
    starts, random, state = Starts(table), np.arange(1, 5, dtype=np.uint64), {0: 1, 2: 3}
    places = [(day, row, end) for day, first, last, end in table.tolist() for row in range(first, last + 1)]
    seen = set()
    for _ in range(200):
        wanted = []
        for lane in (2, 0):  # SplitMix64, in Python's integers
            state[lane] = x = (state[lane] + 0x9E3779B97F4A7C15) & mask
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
            x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
            wanted.append(places[(x ^ (x >> 31)) % len(places)])
        assert list(zip(*(column.tolist() for column in starts.draw(np.array([2, 0]), random)))) == wanted
        seen |= set(wanted)
    assert seen == set(places) and random.tolist() == [state[0], 2, state[2], 4]


def test_starts_of_a_simulator_are_numbers_apart():
    tables = {split: Numbers(split).table[0, 1:3] for split in SPLITS}
    assert tables["fit"][1] + 1 == tables["validation"][0] and tables["validation"][1] == tables["train"][1] == tables["test"][0] - 1
    assert tables["all"].tolist() == [0, tables["test"][1]] and tables["all"][1] < 1 << 31
    test = Numbers("test")
    assert test.disjoint()[:2] == [(0, tables["test"][0]), (0, tables["test"][0] + 1)]
    assert test.pin(0, None) == (0, tables["test"][0], tables["test"][0]) and test.pin(0, 77) == (0, 77, 77)
    for day, start in ((1, None), (0, "10:15:00"), (0, -1), ("x", 0)):
        with pytest.raises(ConfigError):
            test.pin(day, start)
