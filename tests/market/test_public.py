"""The arrays that every market shows: one memory under two types, a view that copies nothing, one compiled kernel for all."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data import store
from emp_gym.jit import njit
from emp_gym.market.day_rules import MARKET_DAY
from emp_gym.market.public import LANE, OPEN, QUOTE, RULES, SEEN, Public, allocate, room, tick_at, view_of, within
from emp_gym.market.records import CURSOR, SLOT
from emp_gym.market.replay import SLOTS, ReplayMarket
from tests.market.on_tape import replaying

PAIRS = [(LANE, CURSOR), (OPEN, SLOT), (RULES, MARKET_DAY)]
LOOKS = (3, 50)


def replay(lanes: int = 3) -> ReplayMarket:
    market = replaying(store.tapes("synthetic:rows=2000"), lanes, every_rows=20, looks=LOOKS)
    rows = np.full(lanes, 100)
    market.reset(np.arange(lanes), np.zeros(lanes, np.int64), rows, rows + 1_000)
    return market


@pytest.mark.parametrize(("public", "own"), PAIRS, ids=["lane", "open", "rules"])
def test_a_markets_own_record_has_the_public_fields_at_their_places(public: np.dtype, own: np.dtype) -> None:
    assert own.itemsize == public.itemsize and own.isalignedstruct and public.isalignedstruct
    assert {name: own.fields[name] for name in public.names} == dict(public.fields)
    assert set(own.names) > set(public.names)


def test_entries_are_whole_cache_lines_where_lanes_are_walked() -> None:
    assert [record.itemsize for record in (LANE, SEEN, OPEN)] == [256, 64, 128]


def test_a_record_that_does_not_fit_its_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="itemsize"):
        room(8, 16, [("a", "i8"), ("b", "i1")])
    with pytest.raises(ValueError, match="must fit 64 bytes, got 72"):
        within(LANE, [("mine", "i8", (9,))])


def test_public_arrays_and_view_are_the_markets_memory_read_only() -> None:
    market = replay()
    assert np.shares_memory(market.public.lane, market.state) and np.shares_memory(market.public.open, market.slots)
    for field in fields(market.view):
        value = getattr(market.view, field.name)
        if isinstance(value, np.ndarray):
            assert not value.flags.writeable and any(np.shares_memory(value, array) for array in market.public), field.name
    market.state["cash"][1], market.slots["leaving"][2, 0] = 77, True
    assert market.view.cash[1] == 77 and market.view.order_leaving[2, 0]


@pytest.mark.parametrize("how", [copy.deepcopy, lambda market: pickle.loads(pickle.dumps(market))], ids=["deepcopy", "pickle"])
def test_a_copy_shows_its_own_memory(how) -> None:
    market = replay()
    twin = how(market)
    twin.state["cash"][0], twin.quote["mid2"][0] = 5, 7
    assert (twin.view.cash[0], twin.view.mid2[0, 0], twin.public.lane["cash"][0]) == (5, 7, 5)
    assert market.view.cash[0] == 0 and market.view.mid2[0, 0] != 7


def test_nothing_of_a_markets_own_has_a_public_name() -> None:
    own = {name for _, private in PAIRS for name in private.names} - {name for public, _ in PAIRS for name in public.names}
    assert {"next_row", "consumed", "exhausted", "cancel_row", "touch_row", "behind", "row0"} <= own
    with pytest.raises(ValueError, match="no field"):
        replay().public.lane["next_row"]


def private_reads(text: str) -> set[str]:
    """Names of a market's own fields that a source reads by subscript."""
    public = {name for record in (LANE, QUOTE, SEEN, OPEN, RULES) for name in record.names}
    own = {name for record in (CURSOR, SLOT, MARKET_DAY) for name in record.names} - public
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Subscript))
    return {node.slice.value for node in nodes if isinstance(node.slice, ast.Constant)} & own


def test_kernels_of_tasks_and_features_read_public_fields_only(root: Path) -> None:
    for name in (*(f"envs/tasks/{kernel}.py" for kernel in ("actions", "levers", "episode", "settle", "step")), "sensory/lob.py"):
        assert private_reads((root / "emp_gym" / name).read_text()) == set(), name
    planted = 'def f(lane, slot):\n    return lane["next_row"] + slot["cancel_row"] + lane["cash"]\n'
    assert private_reads(planted) == {"next_row", "cancel_row"}


SHARED = "public|base|clock|lots|starts"  # what all markets have in common


def test_environments_and_features_open_no_other_room_of_a_market(root: Path) -> None:
    package = root / "emp_gym"
    other = re.compile(rf"^ *from (emp_gym\.market\.(?!(?:{SHARED}) )\w+)", re.MULTILINE)
    found = {
        path.relative_to(package).as_posix(): other.findall(path.read_text())
        for room_ in ("envs", "sensory")
        for path in (package / room_).rglob("*.py")
    }
    assert {name for name, modules in found.items() if modules} == set()


@njit
def total(lane, quote, seen, book, own, rules):
    """Something of every array."""
    public = Public(lane, quote, seen, book, own, rules)
    sum_ = 0
    for i in range(len(public.lane)):
        sum_ += public.lane[i]["cash"] + public.quote[i, 0]["mid2"] + public.seen[i, 0, 1]["messages"] + public.book[i, 0, 1, 0]
        sum_ += public.open[i, 0]["quantity"] + public.rules[public.quote[i, 0]["rules"]]["lot"]
    return sum_


def test_a_kernel_over_the_public_arrays_is_compiled_once_for_all_markets() -> None:
    market = replay()
    other = allocate(5, 2, 4, 1, 2, np.zeros(3, RULES))
    other.lane["cash"], other.rules["lot"] = 10, 1
    shown = sum(int(x) for x in market.view.mid2[:, 0]) + sum(int(x) for x in market.view.bid_size[:, 0, 0])
    looked = int(market.public.seen["messages"][:, 0, 1].sum())
    assert total(*market.public) == shown + looked + 3 * int(market.public.rules["lot"][0])
    assert total(*other) == 5 * 10 + 5
    if hasattr(total, "signatures"):
        assert len(total.signatures) == 1


@njit
def both(rules, days, price):
    return tick_at(rules[0], price) + tick_at(days[0], price)


def test_numba_does_not_take_a_markets_own_record_for_a_public_one() -> None:
    days = replay().days
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert both(days.view(RULES), days, 1_000_000) == 2 * days[0]["first_tick"]


def test_a_view_of_several_instruments_says_of_which_each_order_is() -> None:
    public = allocate(2, 3, SLOTS, 5, 0, np.zeros(3, RULES))
    public.open["instrument"][1, 0], public.quote["status"][0, 2] = 2, 1
    view = view_of(public, {"ohlcv": np.zeros((2, 3, 4, 5))})
    assert view.bid_price.shape == (2, 3, 5) and view.position.shape == (2, 3)
    assert view.order_instrument[1, 0] == 2 and view.status[0].tolist() == [0, 0, 1]
    assert view.named["ohlcv"].shape == (2, 3, 4, 5) and not view.named["ohlcv"].flags.writeable


def test_sums_are_those_of_the_shown_row_and_of_each_look_back_at_most_to_the_first_row() -> None:
    market = replay()
    rows = market.data.rows
    for row in (int(market.state["row"][0]), 10):
        market.reset(np.arange(3), np.zeros(3, np.int64), np.full(3, row), np.full(3, 1_999))
        now = int(market.state["seen_row"][0])
        for w, look in enumerate((0, *LOOKS)):
            seen, then = market.public.seen[0, 0, w], max(now - look, 0)
            assert seen["messages"] == then
            assert all(seen[name] == rows[then][name] for name in SEEN.names[:-1])


def test_a_cancel_under_way_is_leaving_until_it_took_effect() -> None:
    from emp_gym.market.replay import REQUESTS
    from emp_gym.types import Orders, RequestType

    market = replaying(store.tapes("synthetic:rows=2000"), 1, every_rows=2, order_latency_ns=5 * 10**9)
    market.reset(np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, 100), np.full(1, 1_900))
    orders, view = Orders.empty(1, REQUESTS), market.view
    orders.put(0, 0, RequestType.LIMIT, side=1, price=int(view.bid_price[0, 0, 4]), quantity=100, id=1)
    market.advance(orders)
    assert view.order_id[0, 0] == 1 and not view.order_live[0, 0] and not view.order_leaving[0, 0]
    orders.put(0, 0, RequestType.CANCEL, id=1)
    market.advance(orders)
    orders.kind[:] = 0
    assert view.order_leaving[0, 0] and market.state["orders"][0] == 1
    while view.order_id[0, 0]:
        assert view.order_leaving[0, 0] == (market.slots["cancel_row"][0, 0] < 1 << 30)
        market.advance(orders)
    assert not view.order_leaving.any() and not market.public.open["leaving"].any()
