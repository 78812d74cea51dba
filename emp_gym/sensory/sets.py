"""What an environment shows, as named sets of columns: ours, which kernels write (`emp_gym.sensory.lob`), and anybody's.

=========  ====================================================================================
name       columns
=========  ====================================================================================
book       prices and sizes of the visible levels, their imbalance, spread and microprice
flow       what was traded, quoted and moved since the decision before, in 200 and in 1,000 messages
clock      time of day, trading status
account    inventory, equity, share of the episode that is over, orders in flight
orders     the best own order of each side: offset, quantity, place in the queue, age
own        account and orders
=========  ====================================================================================

Ours stand first, in this order whatever the order in which they are named; then the columns of the task; then other sets, as
they were given. A set of one's own derives from `FeatureSet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from emp_gym.market.base import RunningSum
from emp_gym.plugins import Part, Plugin, PluginKind
from emp_gym.sensory import lob
from emp_gym.settings import shown, whole
from emp_gym.types import F32, I64, Bool, ConfigError, Feature

TRANSFORMS = ("linear", "signed_log")


class FeatureSet(Plugin):
    """Columns of one's own. A subclass names them in `columns`, and writes their quantities, raw, in `write`.

    ======================  =====================================================================================
    ``columns``             `Feature` (name, unit, scale, transform) of each; an attribute, or made in `bind`
    ``write(lanes, out)``   their quantities in their units, from ``self.world`` alone: what it would write twice is the same
    ``step(moved)``         once a step, before `write`, for a set that remembers something
    ``begin(lanes)``        episodes have begun: what it remembers of them is over
    ======================  =====================================================================================
    """

    columns: tuple[Feature, ...] = ()
    constant: ClassVar[tuple[str, ...]] = ()  # columns that may stay constant for long
    needs: ClassVar[tuple[str, ...]] = ()  # named arrays of the market that it reads: ``self.world.named``
    looks: ClassVar[tuple[int, ...]] = ()  # own events of the market back that it compares with, see `ago`
    sums: ClassVar[Mapping[str, RunningSum]] = {}  # running sums that it brings: named arrays i8 [N, M, 1 + W]

    def step(self, moved: Bool) -> None:
        """The lanes of `moved` [N] have taken a decision; the view shows what came of it."""

    def write(self, lanes: I64, out: F32) -> None:
        """The quantities of `lanes` [n] into `out` [n, d], which holds 0. Changes nothing else."""
        raise NotImplementedError(f"{type(self).__qualname__} must define write(lanes, out)")

    def ago(self, look: int) -> int:
        """Where `look` events back stand on the last axis of ``public.seen`` and of running sums; now is 0."""
        return 1 + self.world.looks.index(look)


class Ours(FeatureSet):
    """A set that the fused kernel writes."""

    bits: ClassVar[int]  # of `emp_gym.sensory.lob`


class BookFeatures(Ours):
    bits = lob.BOOK


class FlowFeatures(Ours):
    bits, looks = lob.FLOW, lob.LOOKS


class ClockFeatures(Ours):
    bits, constant = lob.CLOCK, ("status",)


class AccountFeatures(Ours):
    bits = lob.ACCOUNT


class OwnOrderFeatures(Ours):
    bits = lob.ORDERS


class OwnFeatures(Ours):
    bits = lob.ACCOUNT | lob.ORDERS


FEATURES = {
    "book": "emp_gym.sensory.sets:BookFeatures",
    "flow": "emp_gym.sensory.sets:FlowFeatures",
    "clock": "emp_gym.sensory.sets:ClockFeatures",
    "account": "emp_gym.sensory.sets:AccountFeatures",
    "orders": "emp_gym.sensory.sets:OwnOrderFeatures",
    "own": "emp_gym.sensory.sets:OwnFeatures",
}
KIND = PluginKind(
    "features", "emp_gym.features", FEATURES, lambda cls: issubclass(cls, FeatureSet),
    "a feature set: a class derived from emp_gym.sensory.sets.FeatureSet",
)  # fmt: skip


def parts(features: Any, default: Sequence[str]) -> list[Part]:
    """The sets that an environment's ``features=`` asks for; None: those of `default`."""
    given = default if features is None else features
    entries = [given] if isinstance(given, str | Mapping | FeatureSet | type) else given
    if not isinstance(entries, Iterable):
        raise ConfigError(f"features must be names of feature sets, module:Class or objects of them, got {shown(features)}")
    return [KIND.part(entry) for entry in entries]


class Sets:
    """The feature sets of one environment: which kernels write (`bits`), who else does, and what they ask of the market."""

    def __init__(self, made: Sequence[FeatureSet]) -> None:
        self.others = tuple(one for one in made if not isinstance(one, Ours))
        self.bits = 0
        for one in made:
            if isinstance(one, Ours):
                if self.bits & one.bits:
                    raise ConfigError("features: a set is named twice, or with one that holds it (own: account and orders)")
                self.bits |= one.bits
        own = lob.LOOKS if self.bits & lob.FLOW else ()  # where the kernel expects them
        self.looks = (*own, *sorted({whole("looks", look, 1) for one in self.others for look in one.looks} - set(own)))
        self.needs = frozenset(name for one in self.others for name in one.needs)
        self.sums: dict[str, RunningSum] = {}
        for one in self.others:
            for name, how in one.sums.items():
                if self.sums.setdefault(name, how) is not how:
                    raise ConfigError(f"features: two sets bring different running sums called {name!r}; rename one")
        self.constant = tuple(name for one in made for name in one.constant)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"sums": {}}  # the market has them by now, and a function of no name cannot be pickled


def named_once(columns: Sequence[Feature]) -> tuple[Feature, ...]:
    """`columns`; `ConfigError` where one cannot be shown, or two have the same name."""
    seen = set()
    for column in columns:
        if not isinstance(column, Feature):
            raise ConfigError(f"columns of a feature set must be Feature, got {shown(column)}")
        told = (column.transform in TRANSFORMS, 0 < column.scale < np.inf, (column.low, column.high) == (-lob.CLIP, lob.CLIP))
        if not all(told):
            raise ConfigError(
                f"feature {column.name!r}: transform must be one of {list(TRANSFORMS)}, scale a number above 0, low and high "
                f"{-lob.CLIP:g} and {lob.CLIP:g}, got {shown(column)}"
            )
        if column.name in seen:
            raise ConfigError(f"two columns of the observation are called {column.name!r}; rename that of your own")
        seen.add(column.name)
    return tuple(columns)


class Others:
    """Columns from plain numpy, finished as ours are: of a task of one's own and of `FeatureSet`."""

    def __init__(self, writers: Sequence[tuple[str, tuple[Feature, ...], Callable[[I64, F32], None]]], lanes: int) -> None:
        self.features = named_once([feature for _, columns, _ in writers for feature in columns])
        self._writers, self._transform = tuple(writers), lob.transforms(self.features)
        self._raw = np.zeros((lanes, self._transform.shape[1]), np.float32)

    def write(self, lanes: I64, out: F32, clipped: I64) -> None:
        """Writes the last columns of `lanes` [n] in `out` [N, D], and counts what was `clipped` [N]."""
        raw, at = self._raw[: len(lanes)], 0
        raw[...] = 0.0
        for title, columns, write in self._writers:
            own = raw[:, at : at + len(columns)]
            write(lanes, own)
            if not np.isfinite(own).all():
                lane, column = np.argwhere(~np.isfinite(own))[0]
                raise ConfigError(
                    f"{title} wrote {own[lane, column]} as {columns[column].name!r} of lane {lanes[lane]}; expected a finite number"
                )
            at += len(columns)
        lob.finish_others(lanes, raw, out, out.shape[1] - at, self._transform, clipped)
