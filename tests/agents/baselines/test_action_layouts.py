"""Actions are found by what they do, and quotes become the actions that the tasks' own documentation says they are."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import emp_gym  # noqa: F401  (registers the ids)
from emp_gym.agents.baselines import TABLE, suited
from emp_gym.agents.baselines.action_layouts import LEVERS, Menu, quotes_in_box
from emp_gym.envs.tasks import ExecuteParent, MakeMarket, TradeBook
from emp_gym.types import WITHDRAW, Action

TICKS = st.floats(-6, 25, allow_nan=False)
TRADE = Menu(TradeBook.actions)
EXECUTE = Menu(ExecuteParent.actions, relative=True)


def test_entries_are_found_by_what_they_do() -> None:
    found = [TRADE.keep, *TRADE.both.values(), TRADE.one(1), TRADE.one(-1), TRADE.flatten]
    named = ["keep", "quote both", "quote both deeper", "buy", "sell", "flatten"]
    assert [TradeBook.actions[entry].name for entry in found] == named
    assert (TRADE.more(1), TRADE.more(-1)) == (TRADE.one(1), TRADE.one(-1)), "a clip again and again"
    parent = [EXECUTE.keep, EXECUTE.find(bid=0), EXECUTE.find(take=1), EXECUTE.find(take=2)]
    assert [ExecuteParent.actions[entry].name for entry in parent] == ["keep", "post", "take one", "take two"]
    assert TRADE.find(take=2) == -1 == TRADE.find(bid=5, ask=5)


def test_targets_buy_and_sell_as_well() -> None:
    targets = Menu((Action("keep"), *(Action(f"hold {n:+d}", to=n, cancel=True) for n in range(-2, 3))))
    assert (targets.one(-1), targets.flatten, targets.one(1)) == (2, 3, 4)
    assert (targets.more(-1), targets.more(1)) == (1, 5)
    assert suited(targets) == ("hold", "long", "short", "random", "ofi-taker", "momentum", "mean-reversion", "oracle")


def test_what_is_suited_follows_from_the_actions_alone() -> None:
    every = {row.name for row in TABLE}
    executes = {"immediate", "passive", "twap", "vwap", "pov", "almgren-chriss"}
    takes = {"ofi-taker", "momentum", "mean-reversion", "oracle"}
    assert set(suited(TRADE)) == every - executes
    assert set(suited(EXECUTE)) == executes | {"hold", "random"}
    assert set(suited(Menu(levers=MakeMarket.levers))) == every - executes - takes
    assert set(suited(Menu(levers=("size", "skew", "half-spread")))) == every - executes - takes
    assert suited(Menu()) == suited(Menu(levers=("weight",))) == ("hold", "random")
    assert "long" not in suited(Menu(TradeBook.actions[:7])), "nothing there buys"


@given(st.permutations(TradeBook.actions), TICKS, TICKS, st.lists(st.booleans(), min_size=11, max_size=11))
def test_a_table_with_its_rows_permuted_quotes_the_same(actions: list[Action], bid: float, ask: float, mask: list[bool]) -> None:
    other, sides = Menu(tuple(actions)), (np.array([bid]), np.array([ask]))
    permuted = np.array([[mask[TradeBook.actions.index(action)] for action in actions]])
    got, plain = other.nearest_quotes(*sides, permuted), TRADE.nearest_quotes(*sides, np.array([mask]))
    assert actions[int(got[0])] == TradeBook.actions[int(plain[0])]


def seen(env_id: str, episode: int = 12) -> tuple[Any, np.ndarray, np.ndarray]:
    """(environment, observations, masks) of a lane's first random steps, on the embedded days."""
    env = gym.make_vec(env_id, num_envs=16, episode=f"{episode} decisions", every="400 messages")
    observation, info = env.reset(seed=3)
    random, rows, masks = np.random.default_rng(0), [observation], [info["action_mask"]]
    for _ in range(3 * episode):
        action = (random.random(masks[-1].shape) * masks[-1]).argmax(1)
        observation, *_, info = env.step(action)
        rows.append(observation.copy())
        masks.append(info["action_mask"].copy())
    return env, np.array(rows), np.array(masks)


GIVEN: dict[str, dict[str, Any]] = {
    name: {"volatility": 2.0, "intensity": 0.5, "decay": 0.8} for name in ("avellaneda-stoikov", "glft", "cartea-jaimungal")
} | {"pov": {"rate": 0.3}, "almgren-chriss": {"volatility": 2.0, "impact": 0.1}, "vwap": {}}
GIVEN["cartea-jaimungal"] = GIVEN["cartea-jaimungal"] | {"half_spread": 1.0}


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-lob-execution-v0"])
def test_a_permuted_table_gives_the_same_trades(env_id: str) -> None:
    """Every baseline that needs no training, on the same observations with the actions in another order."""
    env, rows, masks = seen(env_id)
    about, order = env.spec.about, np.random.default_rng(1).permutation(len(env.spec.about.actions))
    shuffled = SimpleNamespace(
        id=env.spec.id, features=env.spec.features, about=replace(about, actions=tuple(about.actions[k] for k in order))
    )
    names = suited(Menu(about.actions, about.relative))
    assert len(names) >= 8
    for row in TABLE:
        if row.name not in names or row.name in ("random", "oracle", "vwap"):
            continue
        spaces = env.single_observation_space, env.single_action_space
        plain, other = (row.agent(*spaces, spec, **GIVEN.get(row.name, {})) for spec in (env.spec, shuffled))
        memory, memory_of_other = plain.initial_state(16), other.initial_state(16)
        took = set()
        for observation, mask in zip(rows, masks, strict=True):
            told, memory = plain.act(observation, memory, mask)
            asked, memory_of_other = other.act(observation, memory_of_other, mask[:, order])
            assert np.array_equal(order[asked], told), row.name
            took |= set(told.tolist())
        assert took <= set(range(len(order)))
        assert row.name == "hold" or took != {0}, f"{row.name} did nothing here"


@given(TICKS, TICKS, st.integers(1, 30))
def test_the_box_quotes_what_was_asked_wherever_it_can(bid: float, ask: float, most: int) -> None:
    half, skew, size = quotes_in_box(np.array([bid]), np.array([ask]), most)[0]
    half, skew = (half + 1) / 2 * most, skew * most  # as MakeMarket's documentation says
    assert size == 1
    if 0 <= bid + ask <= 2 * most and abs(ask - bid) <= 2 * most:
        assert (half - skew, half + skew) == pytest.approx((bid, ask), abs=1e-4)
    else:
        assert 0 <= half <= most + 1e-9 and abs(skew) <= most + 1e-9


def test_levers_are_pulled_in_the_order_of_the_environment() -> None:
    menu = Menu(levers=("size", "half-spread", "skew"))
    assert menu.pulled(np.array([[0.1, 0.2, 0.3]])).tolist() == [pytest.approx([0.3, 0.1, 0.2])]
    assert Menu(levers=LEVERS).pulled(np.array([[0.1, 0.2, 0.3]])).dtype == np.float32


def nearest(bid: float, ask: float, mask: list[bool], actions: tuple[Action, ...] = TradeBook.actions) -> set[int]:
    """Every allowed entry of a table at the smallest distance, straight from its rows: no quote is one tick behind the deepest."""
    quoting = {n: (a.bid, a.ask) for n, a in enumerate(actions) if min(a.bid, a.ask) >= WITHDRAW}
    quoting |= {n: (WITHDRAW, WITHDRAW) for n, a in enumerate(actions) if a.cancel and a.take == 0 and a.to is None}
    none = Fraction(1 + max(max(sides) for sides in quoting.values()))
    wanted = [min(max(Fraction(side), Fraction(0)), none) for side in (bid, ask)]
    apart = {
        entry: sum(abs((none if depth == WITHDRAW else depth) - side) for depth, side in zip(sides, wanted, strict=True))
        for entry, sides in quoting.items()
        if mask[entry]
    }
    if not apart:
        return {0}
    return {entry for entry, distance in apart.items() if distance <= min(apart.values()) + Fraction(1, 10**9)}


@given(TICKS, TICKS, st.lists(st.booleans(), min_size=11, max_size=11))
def test_the_menu_takes_the_nearest_entry_that_is_allowed(bid: float, ask: float, mask: list[bool]) -> None:
    got = TRADE.nearest_quotes(np.array([bid]), np.array([ask]), np.array([mask]))
    assert int(got[0]) in nearest(bid, ask, mask)


WIDE = (Action("keep"), *(Action(f"{b} {a}", b, a) for b in (WITHDRAW, 0, 1, 3) for a in (0, 2, WITHDRAW)))


@given(TICKS, TICKS, st.lists(st.booleans(), min_size=len(WIDE), max_size=len(WIDE)))
def test_a_wider_table_is_used_to_its_depths(bid: float, ask: float, mask: list[bool]) -> None:
    got = Menu(WIDE).nearest_quotes(np.array([bid]), np.array([ask]), np.array([mask]))
    assert int(got[0]) in nearest(bid, ask, mask, WIDE)


def test_a_tie_goes_to_the_side_that_changes_the_inventory() -> None:
    bid, ask = np.array([1.0, 5.0]), np.array([5.0, 1.0])
    assert TRADE.nearest_quotes(bid, ask, None).tolist() == [3, 4], "one deeper and none: that side alone, at the touch"
