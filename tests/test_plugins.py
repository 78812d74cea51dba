"""Names, classes, mappings and objects become parts; keywords go to whoever takes them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp_gym import plugins
from emp_gym.plugins import Plugin, PluginKind, World, deal, moved
from emp_gym.types import ConfigError, DataError, UnknownKeyword


class Base(Plugin):
    """What fits here."""


@dataclass
class Plain(Base):
    pass


@dataclass
class Growth(Base):
    capital: float = 1.0
    power: int = 1


@dataclass
class Needy(Base):
    capital: float


class Written(Base):
    """Takes its parameters as an ``__init__`` does."""

    def __init__(self, window: int = 3, *, capital: float = 2.0) -> None:
        self.window, self.capital = window, capital


class Stranger:
    pass


HERE = __name__
OURS = {"plain": f"{HERE}:Plain", "growth": f"{HERE}:Growth"}
KIND = PluginKind("reward", "emp_gym.rewards", OURS, lambda cls: issubclass(cls, Base), "a Base")
SET = PluginKind("features", "emp_gym.features", {"written": f"{HERE}:Written"}, lambda cls: issubclass(cls, Base), "a Base")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers a reward."""
    points = {"emp_gym.rewards": [EntryPoint("theirs", f"{HERE}:Written", "emp_gym.rewards")]}
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.get(group, []))


@pytest.mark.parametrize(
    ("entry", "cls", "values"),
    [
        ("growth", Growth, {"capital": 1.0}),
        (f"{HERE}:Growth", Growth, {"capital": 1.0}),
        ({"reward": "growth", "capital": 5.0}, Growth, {"capital": 5.0}),
        ({"reward": Growth, "capital": 5.0}, Growth, {"capital": 5.0}),
        (Written, Written, {"window": 3}),
        (Growth(7.0), Growth, {"capital": 7.0}),
        ("theirs", Written, {"capital": 2.0}),
    ],
    ids=str,
)
def test_every_way_to_say_what_is_wanted(installed: None, entry: Any, cls: type, values: dict[str, Any]) -> None:
    made = KIND.part(entry).make()
    assert type(made) is cls and values.items() <= vars(made).items()


def test_what_is_not_there_is_told_with_the_nearest(installed: None) -> None:
    assert KIND.names() == ["growth", "plain", "theirs"]
    with pytest.raises(ConfigError, match=r"unknown reward 'grwoth': expected one of .*theirs.* or module:Class; did you mean 'growth'"):
        KIND.part("grwoth")
    with pytest.raises(ConfigError, match="did you mean 'theirs'"):
        KIND.find("thiers")
    with pytest.raises(ConfigError, match=r"reward 'plugins_nowhere:Growth': there is no module"):
        KIND.find("plugins_nowhere:Growth")
    with pytest.raises(ConfigError, match=rf"{HERE}:Stranger is not a Base"):
        KIND.find(f"{HERE}:Stranger")
    for nothing in (None, 3, Stranger, Stranger(), {"reward": None, "capital": 3.0}):
        with pytest.raises(ConfigError, match="unknown reward"):
            KIND.part(nothing)
    with pytest.raises(ConfigError, match=r"expected \{reward: NAME, parameter: value\}, got \{'capital': 3.0\} without the key 'reward'"):
        KIND.part({"capital": 3.0})
    with pytest.raises(UnknownKeyword, match=r"'captial'.*did you mean 'capital'.*reward 'growth'"):
        KIND.part({"reward": "growth", "captial": 3})
    with pytest.raises(ConfigError, match=r"reward .*Needy.*capital.*its parameters: \['capital'\]"):
        KIND.part(f"{HERE}:Needy").make()


def test_keywords_go_to_whoever_takes_them() -> None:
    reward, features = KIND.part("growth"), SET.part("written")
    deal({"power": 2, "window": 9}, [reward, features])
    assert (reward.make().power, features.make().window) == (2, 9)


def test_a_keyword_that_two_take_is_refused_until_a_mapping_says_whose_it_is() -> None:
    parts = [KIND.part("growth"), SET.part("written")]
    with pytest.raises(ConfigError, match=r"capital is a parameter of reward 'growth' and features 'written': say whose, reward=\{"):
        deal({"capital": 3.0}, parts)
    parts = [KIND.part({"reward": "growth", "capital": 3.0}), SET.part({"features": "written", "capital": 4.0})]
    deal({}, parts)
    assert [part.make().capital for part in parts] == [3.0, 4.0]


def test_a_keyword_that_nobody_takes_names_the_nearest_of_all() -> None:
    parts = [KIND.part("growth"), SET.part("written")]
    with pytest.raises(UnknownKeyword, match=r"'windwo'; did you mean 'window'\? \(reward 'growth': .*features 'written'"):
        deal({"windwo": 1}, parts)
    with pytest.raises(UnknownKeyword, match="did you mean 'latency_ns'"):
        deal({"latency": 1}, parts, ["latency_ns"])
    with pytest.raises(UnknownKeyword, match="'capital'"):
        deal({"capital": 1.0}, [KIND.part(Growth(2.0))])  # an object has its parameters


@dataclass
class Memory(Base):
    """Keeps an array and an alias of what it reads."""

    start: int = 0
    told: list[int] = field(default_factory=list)

    def bind(self, world: World) -> None:
        super().bind(world)
        self.sums = np.full(world.lanes, self.start)
        self.mid2 = world.view.mid2


def world(lanes: int) -> Any:
    shown = np.arange(lanes)
    shown.flags.writeable = False
    return SimpleNamespace(lanes=lanes, view=SimpleNamespace(mid2=shown))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"])
def test_a_copy_remembers_and_sees_its_own_world(copied: Any) -> None:
    one = Memory(4)
    one.bind(world(3))
    one.sums += 5
    there = world(3)
    other = moved(copied(one), there)
    assert other.sums.tolist() == [9, 9, 9] and other.sums is not one.sums
    assert other.world is there and other.mid2 is there.view.mid2 and list(other.arrays()) == ["sums"]
    other.sums += 1
    assert one.sums.tolist() == [9, 9, 9]


def test_what_is_restored_must_fit() -> None:
    one = Memory()
    one.bind(world(3))
    one.restore({"sums": np.array([1, 2, 3])})
    assert one.sums.tolist() == [1, 2, 3]
    for wrong in ({}, {"sums": np.zeros(4, np.int64)}, {"sums": np.zeros(3)}, {"sums": np.zeros(3, np.int64), "more": np.zeros(1)}):
        with pytest.raises(DataError, match=r"Memory: (sums|more): expected"):
            one.restore(wrong)
