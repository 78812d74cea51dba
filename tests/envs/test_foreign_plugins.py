"""What somebody has put into an environment writes into nothing but its own, and a snapshot loses nothing of it without a word."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401  registers the ids
from emp_gym.envs import snapshot
from emp_gym.envs.about import about
from emp_gym.envs.conformance.plugins import plugins_write_nothing_else, snapshots_continue_alike
from emp_gym.envs.conformance.subject import Subject
from emp_gym.envs.conformance.suite import run_check
from emp_gym.envs.tasks import Reward, TradeBook
from emp_gym.evaluation.observers import Observer
from emp_gym.market.base import MarketSpec
from emp_gym.market.replay import ReplayConfig, ReplayMarket
from emp_gym.risk.gates import Gate, passed
from emp_gym.sensory.sets import FeatureSet
from emp_gym.types import ConfigError, Feature
from tests.third_party.emp_example_market.emp_example_market.market import Walk

BUY = 7


def made(**keywords: Any) -> Any:
    return gym.make_vec("emp-lob-v0", **{"num_envs": 2, "market": Walk, "threads": 1} | keywords).unwrapped


def played(env: Any, steps: int = 3) -> None:
    env.reset(seed=1)
    for _ in range(steps):
        env.step(np.full(2, BUY))


# ------------------------------------------------------------------------------------------------------------ what is written


class Gift(Reward):
    def __call__(self, moved):
        self.world.public.lane["cash"][moved] += 10**8
        return np.zeros(self.world.lanes)


class ByAnotherName(Reward):
    def __call__(self, moved):
        tick = self.world.episodes["tick"]
        tick[moved] = 1
        return np.zeros(self.world.lanes)


class Wakes(Reward):
    def __call__(self, moved):
        moved[:] = True
        return np.zeros(self.world.lanes)


class Shows(FeatureSet):
    columns = (Feature("bid", "price units"),)

    def write(self, lanes, out):
        out[:, 0] = 1
        self.world.public.book[lanes, 0, 0] += 100


class Shortens(TradeBook):
    def ends(self, late):
        self.world.setup["episode"] = 1


class Sets(FeatureSet):
    columns = (Feature("x", "1"),)

    def bind(self, world):
        super().bind(world)
        np.add(world.public.quote["position"], 1, out=world.public.quote["position"])


WRITERS = [
    ({"reward": Gift}, "Gift writes in __call__", 'self.world.public.lane["cash"][moved] += 10**8 ('),
    ({"reward": ByAnotherName}, "ByAnotherName writes in __call__", 'tick[moved] = 1, where tick is world.episodes["tick"] ('),
    ({"reward": Wakes}, "Wakes writes in __call__", "moved[:] = True, where moved is world.active ("),
    ({"features": ["own", Shows]}, "Shows writes in write", "self.world.public.book[lanes, 0, 0] += 100 ("),
    ({"task": Shortens}, "Shortens writes in ends", 'self.world.setup["episode"] = 1 ('),
    ({"features": ["own", Sets]}, "Sets writes in bind", 'np.add(world.public.quote["position"], 1, out=world.public.quote["position"]) ('),
]  # fmt: skip


@pytest.mark.parametrize(("given", "who", "line"), WRITERS, ids=[who.split()[0] for _, who, _ in WRITERS])
def test_who_writes_into_what_it_may_only_read_is_named_with_the_array(given, who, line):
    with pytest.raises(ConfigError, match=re.escape(who)) as told:
        played(made(**given))
    assert line in str(told.value) and "test_foreign_plugins.py, line " in str(told.value)


class Opens(Reward):
    """Knows numpy."""

    def __call__(self, moved):
        cash = self.world.public.lane.base["cash"]
        cash[moved] += 1
        return self.world.view.cash[:] * 1e-12


def found(check: Any, **keywords: Any) -> tuple[list[str], str]:
    outcome = run_check(check, Subject.of("emp-lob-v0", **{"market": Walk} | keywords))
    return [finding.what for finding in outcome.findings], outcome.skipped


def test_the_check_names_also_who_gets_round_that():
    (what,), _ = found(plugins_write_nothing_else, reward=Opens)
    assert what == f'{__name__}:Opens.__call__ writes into world.public.lane["cash"], which is not its own (step 0)'
    (what,), _ = found(plugins_write_nothing_else, reward=Gift)
    assert "Gift writes in __call__" in what
    assert found(plugins_write_nothing_else) == ([], "task, reward and feature sets are ours")


class Meddles(Observer):
    def __init__(self, what: str) -> None:
        self.what = what

    def decided(self, now):
        assert now.sent is now.orders
        if self.what == "orders":
            now.sent.quantity[...] = 7

    def settled(self, now):
        if self.what == "reward":
            now.reward[:] = 1e6
        if self.what == "market":
            now.public.lane["cash"][:] = 0


@pytest.mark.parametrize("what", ["orders", "reward", "market"])
def test_an_observer_of_somebody_else_changes_nothing(what):
    env = made()
    env.attach(Meddles(what))
    with pytest.raises(ConfigError, match=r"Meddles writes in (decided|settled) into an array that is not its own"):
        played(env)
    env = made()
    env.attach(Meddles("nothing"))
    played(env)


# ------------------------------------------------------------------------------------------------------------- what is kept


class Counts(Reward):
    calls = 0
    table = [1, 2, 3]  # which does not change

    def __init__(self) -> None:
        self.same = [4, 5]

    def __call__(self, moved):
        self.calls += 1
        return np.full(self.world.lanes, float(self.calls))


class Lists(FeatureSet):
    columns = (Feature("x", "1", 100.0),)

    def bind(self, world):
        super().bind(world)
        self.seen = [0.0] * world.lanes

    def step(self, moved):
        self.seen[0] += 1

    def write(self, lanes, out):
        out[:, 0] = [self.seen[lane] for lane in lanes]


class Draws(Reward):
    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def __call__(self, moved):
        return self.random.normal(size=self.world.lanes)


class Drifts(Walk):
    calls = 0

    def pass_time(self, lanes):
        super().pass_time(lanes)
        self.calls += 1


class Tires(Gate):
    """Counts in a number."""

    calls = 0

    def __call__(self, view, orders):
        self.calls += 1
        return orders, passed(orders)


class Yields(Reward):
    """Remembers in a generator, which nobody can compare."""

    def __init__(self) -> None:
        self.numbers = (float(n) for n in range(1 << 20))

    def __call__(self, moved):
        return np.full(self.world.lanes, next(self.numbers))


class Objects(Reward):
    def bind(self, world):
        super().bind(world)
        self.seen = np.zeros(world.lanes, object)

    def __call__(self, moved):
        self.seen += 1
        return self.seen.astype(np.float64)


class Constant(Reward):
    def __init__(self) -> None:
        self.words, self.paid = {"a": [1]}, 0.5

    def __call__(self, moved):
        return np.full(self.world.lanes, self.paid)


class Says(Counts):
    """Keeps its number in an array for the file."""

    def arrays(self):
        return {"calls": np.array([self.calls])}


FORGETFUL = [({"reward": Counts}, "Counts.calls"), ({"features": ["own", Lists]}, "Lists.seen"), ({"reward": Draws}, "Draws.random"),
             ({"market": Drifts}, "Drifts.calls"), ({"gates": [Tires()]}, "Tires.calls"),
             ({"reward": Yields}, "Yields.numbers")]  # fmt: skip


@pytest.mark.parametrize(("given", "name"), FORGETFUL, ids=[name for _, name in FORGETFUL])
def test_a_snapshot_that_would_lose_something_is_refused_by_its_name(given, name, tmp_path):
    env = made(**given)
    played(env)
    with pytest.raises(ConfigError, match=f":{name} changes and is no array"):
        snapshot.save(env, tmp_path / "lanes.npz")
    findings, skipped = found(snapshots_continue_alike, **given)
    assert findings == [] and name in skipped


def test_an_array_of_objects_is_refused_by_its_name(tmp_path):
    env = made(reward=Objects)
    played(env)
    with pytest.raises(ConfigError, match=r"reward\.seen of Python objects cannot be kept"):
        snapshot.save(env, tmp_path / "lanes.npz")
    findings, skipped = found(snapshots_continue_alike, reward=Objects)
    assert findings == [] and "reward.seen" in skipped


def test_what_stays_as_it_was_and_who_says_itself_what_is_kept_are_let_through(tmp_path):
    for reward in (Constant, Says):
        env = made(reward=reward)
        played(env)
        snapshot.save(env, tmp_path / "lanes.npz")
    assert found(snapshots_continue_alike, reward=Constant) == ([], "")
    (what,), _ = found(snapshots_continue_alike, reward=Says)  # which says more than is true
    assert "rewards" in what or "output" in what


# ---------------------------------------------------------------------------------------------------- what a market says of itself


class Derived(ReplayMarket):
    """A recorded day, and nobody knows what is done with it."""


class OnPaper(Walk):
    venue = "paper"
    assumes = {"fills": "touch"}


class Claims(Walk):
    venue = "replay"


def test_a_derived_market_says_nothing_by_what_it_has_inherited_from_ours():
    env = made(market=Derived)
    assert about(env).assumes is None and about(env).market == f"{__name__}:Derived" and env.lanes.market.traded_on == "simulated"
    told = Derived(MarketSpec(2), ReplayConfig(fills="touch")).describe()
    assert told["market"] == f"{__name__}:Derived" and told["config"]["fills"] == "touch"
    ours = made(market="replay")
    known = about(ours).assumes
    assert known is not None and known.fills == "exact" and ours.lanes.market.traded_on == "replay"


def test_what_a_market_declares_itself_is_told_and_a_replay_is_only_ours():
    env = made(market=OnPaper)
    known = about(env).assumes
    assert env.lanes.market.traded_on == "paper" and known is not None and known.fills == "touch"
    with pytest.raises(ConfigError, match=r"Claims: venue must be one of \['simulated', 'paper', 'live'\], got 'replay'"):
        made(market=Claims)
