"""What an action means and what is paid for it: orders, masks and rewards against plain Python and closed forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.envs.trading_core import Lanes
from emp_gym.types import NS, RequestType, TradingStatus
from tests.market.duel import synthetic_day

CLIP, LIMIT, CASH = 100, 500, 10_000
LIM, MKT, CXL, REP = RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL, RequestType.REPLACE
DAYS = (
    DayConfig(seed=21, rows=4_000, halts=2, thin=True, stressed=0.5),
    DayConfig(seed=22, rows=4_000, tick_regime="wide", date="2030-01-08"),
)
SLOW = [30 * NS, 10 * NS]  # order and feed latency: a few messages of these days


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("days") / "two.tape"
    return str(TapeSet.concatenate([build(synthetic_day(day)) for day in DAYS]).save(folder))


class Game:
    """Lanes that play random actions; episodes start again by themselves."""

    def __init__(self, task: str, data: str, lanes: int = 8, seed: int = 0, **arguments: Any) -> None:
        defaults = {"every": "10 messages", "episode": "40 decisions", "split": "all", "threads": 1}
        self.lanes = Lanes(task, lanes, data=data, **(defaults | arguments))
        self.random = np.random.default_rng(seed)
        self.lanes.seed(seed)
        self.all = np.arange(lanes)
        self.begin(self.all)

    def begin(self, lanes: np.ndarray) -> None:
        self.lanes.reset(lanes)
        self.lanes.observe(lanes, np.empty((self.lanes.lanes, len(self.lanes.features)), np.float32))

    def actions(self) -> np.ndarray:
        n = self.lanes.lanes
        if self.lanes.task.menu:
            return self.random.integers(0, len(self.lanes.task.menu), n)
        return self.random.uniform(-1, 1, (n, 3)).astype(np.float32)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ended, _, _ = self.lanes.step(actions)
        _, rewards = self.lanes.settle_and_observe()
        return ended, rewards

    def play(self, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(actions, ended, rewards) of each step."""
        for _ in range(steps):
            actions = self.actions()
            ended, rewards = self.step(actions)
            yield actions, ended, rewards
            if ended.any():
                self.begin(np.flatnonzero(ended))


# ---- rewards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["trade", "make"])
@pytest.mark.parametrize("latency_ns", [0, SLOW])
def test_rewards_are_changes_of_equity_and_sum_to_the_cash_at_the_end(data: str, task: str, latency_ns: Any) -> None:
    game = Game(task, data, latency_ns=latency_ns, taker_fee_bps=0.3, maker_fee_bps=-0.2)
    view, unit = game.lanes.market.view, 2 * CASH * 100 * CLIP  # twice a tick (100 price units) and clip, in cash units
    before, total, ends = view.equity2.copy(), np.zeros(8), 0
    for _, ended, rewards in game.play(200):
        np.testing.assert_allclose(rewards * unit, view.equity2 - before, rtol=1e-12, atol=1e-3)
        total += rewards
        if ended.any():
            assert (view.position[ended, 0] == 0).all() and (view.order_id[ended] == 0).all()
            np.testing.assert_allclose(total[ended] * unit, 2.0 * view.cash[ended], rtol=1e-9, atol=1)
            np.testing.assert_allclose(game.lanes.episodes["return_"][ended], total[ended])
            ends += int(ended.sum())
        before, total = np.where(ended, 0, view.equity2), np.where(ended, 0.0, total)
    assert ends >= 30


@pytest.mark.parametrize("reward", ["inventory", "damped"])
def test_shaped_rewards_are_pnl_less_their_stated_penalty(data: str, reward: str) -> None:
    plain = Game("trade", data, seed=3)
    shaped = Game("trade", data, seed=3, reward=reward, inventory_penalty=0.02, damping=0.75)
    view = plain.lanes.market.view
    position, mid2, penalties = np.zeros(8), view.mid2[:, 0].copy(), 0.0
    for (_, ended, pnl), (_, _, found) in zip(plain.play(39), shaped.play(39)):
        drift = position * (view.mid2[:, 0] - mid2) / (2 * 100 * CLIP)  # ticks per clip that the inventory gained
        penalty = 0.75 * np.maximum(drift, 0) if reward == "damped" else 0.02 * np.abs(view.position[:, 0]) / CLIP
        np.testing.assert_allclose(found, pnl - penalty, rtol=1e-12, atol=1e-12)
        assert not ended.any()
        penalties += penalty.sum()
        position, mid2 = view.position[:, 0].astype(float), view.mid2[:, 0].copy()
    assert penalties > 1


@pytest.mark.parametrize("latency_ns", [0, SLOW])
def test_shortfall_rewards_sum_to_the_closed_form_and_the_parent_is_done_exactly(data: str, latency_ns: Any) -> None:
    game = Game("execute", data, parent=1_000, taker_fee_bps=0.3, latency_ns=latency_ns)
    state, episodes, total, ends = game.lanes.market.public.lane, game.lanes.episodes, np.zeros(8), 0
    for _, ended, rewards in game.play(400):
        total += rewards
        for i in np.flatnonzero(ended):
            side, arrival = int(episodes[i]["parent_side"]), int(episodes[i]["arrival2"]) / 2
            assert game.lanes.market.view.position[i, 0] == side * 1_000
            paid = -int(state[i]["cash"]) / CASH  # price units times lots, fees included; negative when we sold
            shortfall_bps = 1e4 * (paid - side * 1_000 * arrival) / (1_000 * arrival)
            assert total[i] == pytest.approx(-shortfall_bps, rel=1e-9, abs=1e-9)
            ends += 1
        total[ended] = 0
        assert (state["max_position"] <= 1_000).all()  # never more than the parent, not even under latency
    assert ends >= 30


# ---- the menu -------------------------------------------------------------------------------------------------------


class Seen:
    """What one lane's agent may know, in plain Python."""

    def __init__(self, lanes: Lanes, i: int) -> None:
        view, slots = lanes.market.view, lanes.market.public.open[i]
        self.best = {1: int(view.bid_price[i, 0, 0]), -1: int(view.ask_price[i, 0, 0])}
        self.there = {1: view.bid_size[i, 0, 0] > 0, -1: view.ask_size[i, 0, 0] > 0}
        self.trading = view.status[i, 0] == TradingStatus.TRADING
        self.position, self.tick = int(view.position[i, 0]), int(view.tick[i, 0])
        self.own = [slot for slot in slots if slot["id"] > 0]
        self.late = not lanes.setup["immediate"][0]

    def quotes(self, side: int) -> list[np.void]:
        """Own limit orders that nobody has cancelled yet."""
        return [own for own in self.own if own["kind"] == LIM and own["side"] == side and not own["leaving"]]

    def exposure(self, side: int) -> int:
        """Lots that may still fill on a side whatever we send now."""
        return sum(int(own["quantity"]) for own in self.own if own["side"] == side) if self.late else 0


WANTED = {1: (0, 0), 2: (1, 1), 3: (0, None), 4: (None, 0), 5: (0, 1), 6: (1, 0)}  # ticks behind the touch: (bid, ask)


def allowed(seen: Seen, action: int) -> bool:
    if action in (0, 9):
        return True
    if not seen.trading:
        return False
    if action in (7, 8):
        side = 1 if action == 7 else -1
        open_ = sum(int(own["quantity"]) for own in seen.own if own["side"] == side)
        return bool(seen.there[-side] and side * seen.position + open_ + CLIP <= LIMIT and len(seen.own) < 8)
    if action == 10:
        needed = seen.there[1] if seen.position > 0 else seen.there[-1]
        return bool(len(seen.own) < 8 and (seen.position == 0 or needed))
    for side, depth in zip((1, -1), WANTED[action]):
        if depth is None:
            continue
        price = seen.best[side] - side * depth * seen.tick
        stands = any(own["price"] == price for own in seen.quotes(side))
        room = side * seen.position + seen.exposure(side) + CLIP <= LIMIT
        if not seen.there[side] or price <= 0 or len(seen.own) > 6 or not (stands or room):
            return False
    return True


def expected(seen: Seen, action: int) -> list[tuple]:
    """(kind, side, price, quantity, id to cancel or replace) that an allowed action must send, in any order."""
    live = [own for own in seen.own if not own["leaving"]]
    cancels = [(CXL, int(own["id"])) for own in live]
    if action in (7, 8):
        return [(MKT, 1 if action == 7 else -1, CLIP)]
    if action == 9:
        return cancels
    if action == 10:
        coming = sum(int(own["side"]) * int(own["quantity"]) for own in seen.own if own["kind"] == MKT)
        side = -1 if seen.position + coming > 0 else 1
        quantity = min(abs(seen.position + coming), LIMIT - side * seen.position - seen.exposure(side))
        return [*cancels, (MKT, side, quantity)] if quantity > 0 else cancels
    sent: list[tuple] = []
    for side, depth in zip((1, -1), WANTED.get(action, ())):
        quotes = seen.quotes(side)
        price = seen.best[side] - side * depth * seen.tick if depth is not None else None
        stands = [own for own in quotes if own["price"] == price]
        moved = [own for own in quotes if not stands or own["id"] != stands[0]["id"]]
        if depth is not None and not stands:
            sent.append((REP, side, price, CLIP, int(moved.pop(0)["id"])) if moved else (LIM, side, price, CLIP))
        sent += [(CXL, int(own["id"])) for own in moved]
    return sent


def told(record: np.void) -> tuple:
    kind, side, price, quantity = (int(record[name]) for name in ("kind", "side", "price", "quantity"))
    if kind == CXL:
        return CXL, int(record["id"])
    if kind == MKT:
        return MKT, side, quantity
    return (kind, side, price, quantity, int(record["target"])) if kind == REP else (kind, side, price, quantity)


@pytest.mark.parametrize("latency_ns", [0, SLOW])
def test_menu_masks_and_orders_are_those_of_plain_python(data: str, latency_ns: Any) -> None:
    game = Game("trade", data, latency_ns=latency_ns, seed=5, every="4 messages")
    lanes, masked, kept = game.lanes, np.zeros(8, np.int64), 0
    for _ in range(250):
        actions = game.actions()
        seen = [Seen(lanes, i) for i in range(8)]
        masks = [[allowed(one, action) for action in range(11)] for one in seen]
        assert lanes.mask.tolist() == masks
        wanted = [sorted(expected(one, a)) if ok[a] else [] for one, a, ok in zip(seen, actions.tolist(), masks)]
        masked += [not ok[a] for a, ok in zip(actions.tolist(), masks)]
        own = [{int(order["id"]) for order in one.own} for one in seen]
        ended, _ = game.step(actions)
        for i in range(8):
            sent = lanes.sent.asked(i)
            assert sorted(told(record) for record in sent) == wanted[i], (i, actions[i])
            new = [int(record["id"]) for record in sent if record["kind"] != CXL]
            assert len(set(new)) == len(new) and not own[i] & set(new)
            kept += actions[i] == 1 and not sent and masks[i][1]
        assert (lanes.episodes["masked"] == masked).all()
        masked[ended] = 0
        if ended.any():
            game.begin(np.flatnonzero(ended))
    assert kept > 5  # orders that stood where they were wanted


def test_an_order_that_need_not_move_keeps_its_id_and_its_place(data: str) -> None:
    game = Game("trade", data, lanes=32, seed=6, every="2 messages")
    view, stayed = game.lanes.market.view, 0
    own = (view.order_id, view.order_price, view.order_ahead)
    game.step(np.full(32, 1))
    for _ in range(30):
        before = [
            {int(view.order_side[i, k]): tuple(int(a[i, k]) for a in own)
             for k in range(8) if view.order_live[i, k]} for i in range(32)
        ]  # fmt: skip
        touch = [{1: int(view.bid_price[i, 0, 0]), -1: int(view.ask_price[i, 0, 0])} for i in range(32)]
        may = game.lanes.mask[:, 1].copy()
        ended, _ = game.step(np.full(32, 1))
        for i in np.flatnonzero(may & ~ended):
            for side, (order, price, ahead) in before[i].items():
                after = {
                    int(view.order_id[i, k]): int(view.order_ahead[i, k]) for k in range(8) if view.order_live[i, k]
                }
                if price == touch[i][side] and order in after:
                    assert after[order] <= ahead
                    stayed += 1
                elif price != touch[i][side]:
                    assert order not in after
        if ended.any():
            game.begin(np.flatnonzero(ended))
    assert stayed > 200


@pytest.mark.parametrize("task", ["trade", "make"])
@pytest.mark.parametrize("latency_ns", [0, SLOW, 200 * NS])
def test_the_position_limit_holds_under_random_actions(data: str, task: str, latency_ns: Any) -> None:
    game = Game(task, data, lanes=256, latency_ns=latency_ns, seed=7, max_position=200, episode="100 decisions")
    state, largest = game.lanes.market.public.lane, 0
    for _ in game.play(100_000 // 256 // 3 + 1):
        largest = max(largest, int(state["max_position"].max()))
    assert 100 <= largest <= 200


# ---- market making --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levers", "bid", "ask", "quantity"),
    [
        ((-1.0, 0.0, 1.0), 0, 0, 100), ((1.0, 0.0, 1.0), 10, 10, 100), ((0.0, 0.2, 1.0), 3, 7, 100),
        ((0.0, -0.2, 0.0), 7, 3, 50), ((-0.8, 0.0, -0.9), 1, 1, 5),
    ],
)  # fmt: skip
def test_levers_are_ticks_behind_the_touch_and_lots(
    data: str, levers: tuple, bid: int, ask: int, quantity: int
) -> None:
    game = Game("make", data, lanes=4)
    view = game.lanes.market.view
    best_bid, best_ask = view.bid_price[:, 0, 0].copy(), view.ask_price[:, 0, 0].copy()
    game.step(np.tile(np.array(levers, np.float32), (4, 1)))
    for i in range(4):
        sent = sorted(told(record) for record in game.lanes.sent.asked(i))
        wanted = [(LIM, 1, best_bid[i] - 100 * bid, quantity), (LIM, -1, best_ask[i] + 100 * ask, quantity)]
        assert sent == sorted(wanted)


def test_quotes_never_cross_the_book_or_each_other(data: str) -> None:
    game = Game("make", data, lanes=16, seed=9)
    view = game.lanes.market.view
    for _ in range(100):
        best = view.bid_price[:, 0, 0].copy(), view.ask_price[:, 0, 0].copy()
        ended, _ = game.step(np.sign(game.actions()))
        for i in range(16):
            prices = {int(r["side"]): int(r["price"]) for r in game.lanes.sent.asked(i) if r["kind"] in (LIM, REP)}
            assert prices.get(1, -1) < best[1][i] and prices.get(-1, 1 << 60) > best[0][i]
            assert prices.get(1, -1) < prices.get(-1, 1 << 60)
        if ended.any():
            game.begin(np.flatnonzero(ended))
