"""What a market is: it moves the world on by one decision in N lanes, and shows it in the arrays of `emp_gym.market.public`.

`Market` is the protocol and its defaults: what raises `NotImplementedError` must be written, the rest may be. A small market derives
from `emp_gym.market.simple.BaseMarket`, which does everything but the price. ``check.py --market`` says what a market must show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from emp_gym.data.clock import UNITS
from emp_gym.data.tape import TapeSet
from emp_gym.market.public import FREE, IN_FLIGHT, LIMIT, LIVE, MARKET, Public, view_of
from emp_gym.market.starts import Starts
from emp_gym.settings import shown
from emp_gym.threads import default_threads
from emp_gym.types import F32, I8, I64, Bool, ConfigError, DataError, Fills, Instrument, Orders, Reports, View

ENDLESS = 1 << 62  # `Market.progress` of a lane whose source has come to its end
CLOSING_ID = -1  # id of the fills that close a position at the end of an episode
MONEY_ROOM = 4  # an equity is kept doubled, and no lot beyond the book costs more than twice the price at which the book ends
USUAL_PRICE = 2_000_000_000  # price units, 200,000 dollars in LOBSTER's


class Named(NamedTuple):
    """An array that a market publishes besides the public ones, [N, M, ...]."""

    dtype: str
    shape: str  # letters or numbers, e.g. "N M 5"; a letter that is none of `emp_gym.types` stands for any number
    unit: str
    says: str


class Recorded(NamedTuple):
    """One recorded day, as a running sum reads it."""

    messages: np.ndarray  # MESSAGE [R]
    rows: np.ndarray  # ROW [R]
    book: np.ndarray  # LEVEL [R, 2, L]


RunningSum = Callable[[Recorded], I64]
"""Increments [R] of one day; those up to a row may depend on nothing that comes after it."""


@dataclass(frozen=True)
class Clock:
    """How far a decision goes: so many events of the market, or nanoseconds (one of both is 0)."""

    count: int
    ns: int
    unit: str

    @classmethod
    def parse(cls, text: Any, units: Sequence[str]) -> Clock:
        """'100 messages', '250 ms', '1 bar'; `units` are the market's words for its events."""
        match = re.fullmatch(r"\s*(\d{1,18})\s*([a-z]+)\s*", text) if isinstance(text, str) else None
        if match and int(match[1]) > 0:
            count, unit = int(match[1]), match[2]
            if unit in units:
                return cls(count, 0, unit)
            if unit in UNITS:
                return cls(0, count * UNITS[unit], unit)
        like = " or ".join([f"'100 {units[-1]}'", "'250 ms'", "'1 s'"])
        raise ConfigError(f"every must be like {like}, got {shown(text)}")

    def __str__(self) -> str:
        """As `parse` reads it, times in the largest unit that is exact."""
        if self.count:
            return f"{self.count} {self.unit}"
        unit = next(unit for unit in reversed(UNITS) if self.ns % UNITS[unit] == 0)
        return f"{self.ns // UNITS[unit]} {unit}"


@dataclass(frozen=True)
class MarketSpec:
    """What every market is given, from environment, task and feature sets."""

    lanes: int
    split: str = "train"
    episode: int = 256  # decisions
    every: str = "100 messages"
    levels: int | None = None  # of the book; None: as many as the market likes
    threads: int | None = None
    looks: tuple[int, ...] = ()  # own events back, ascending: `SEEN` [..., 1 + w]
    needs: frozenset[str] = frozenset()  # named arrays that somebody reads
    sums: Mapping[str, RunningSum] = field(default_factory=dict)


class Market:
    """Integrates the world, batched over N lanes, of which `active` says who moves.

    `advance` promises only that requests were handed over. `outcome` may be `Outcome.PENDING`: then exactly one of `last_reports`
    answers it in a later call, or the episode ends. Until then the order stands in ``public.open`` as IN_FLIGHT, a cancel as
    `leaving`, and both count as exposure. Fills may come before the answer, and after a cancel was asked for. An id is never used
    twice in an episode. Nobody but records reads `outcome`: tasks, masks and gates read the view.
    """

    Config: ClassVar[type]  # dataclass of the market's keywords, JSON values
    venue: ClassVar[str] = "simulated"  # one of `governance.stages.VENUES`
    units: ClassVar[tuple[str, ...]] = ("event", "events")  # what `every` may count, singular and plural
    published: ClassVar[Mapping[str, Named]] = {}
    slots: ClassVar[int] = 8  # K: own orders a lane, in flight included
    requests: ClassVar[int] = 10  # Q: orders a lane may send in one decision
    immediate: bool = True  # a cancel that is sent now wins against all that comes; False with latency or late answers
    closes: bool = True  # `close` is final at once
    constant_features: tuple[str, ...] = ()  # columns of our feature sets that stay constant here
    assumes: Mapping[str, Any] | None = None  # keywords of `evaluation.assumptions`; None: fills are no assumption here
    data: TapeSet | None = None  # the days, where there are some

    instruments: tuple[Instrument, ...]
    starts: Starts
    public: Public
    active: Bool  # [N] lanes that `advance` moves; the environment writes it
    progress: I64  # [N] decisions taken in the episode, ENDLESS once the source has come to its end
    outcome: I8  # [N, Q] `Outcome` of the last requests
    named: MutableMapping[str, np.ndarray]  # `published`, valid until the next call, written in place

    def __init__(self, spec: MarketSpec, config: Any) -> None:
        self.spec, self.config, self.lanes = spec, config, spec.lanes
        self.threads = default_threads(spec.lanes) if spec.threads is None else spec.threads
        self.clock = Clock.parse(spec.every, self.units)
        self.active = np.ones(spec.lanes, np.bool_)
        self.progress = np.zeros(spec.lanes, np.int64)
        self.outcome = np.zeros((spec.lanes, self.requests), np.int8)
        self.named = {}
        self._stop_if_unpublished(spec.needs)

    def _stop_if_unpublished(self, needs: frozenset[str]) -> None:
        for name in sorted(needs - set(self.published)):
            raise ConfigError(f"{type(self).__name__} publishes no array {name!r}; it has {sorted(self.published) or 'none'}")

    # ------------------------------------------------------------------------------------------------- what must be written

    def reset(self, lanes: I64, day: I64, row: I64, end_row: I64) -> None:
        """New episodes in `lanes` [n], flat and without orders, at a start that `starts` has drawn."""
        raise NotImplementedError

    def advance(self, orders: Orders) -> None:
        """One decision of the active lanes; fills and reports are those of this call."""
        raise NotImplementedError

    def close(self, lanes: I64, target: I64) -> Bool:
        """Cancels what is open in `lanes` [n] and trades to `target` [n, M] lots. [n]: who was closed while nobody could trade."""
        raise NotImplementedError

    def last_fills(self) -> Fills:
        """Own executions of the last step, by lane and then by time."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------ what may be

    @cached_property
    def view(self) -> View:
        """What may be known now; read-only."""
        return view_of(self.public, self.named)

    def last_reports(self) -> Reports:
        """What was said in the last step of requests of earlier ones."""
        return Reports.none()

    def truth(self) -> tuple[F32, I8]:
        """(signal, regime) [N] planted where the lanes stand."""
        raise DataError(f"{type(self).__name__} has no planted signal; an oracle needs synthetic days (data=None)")

    def branch(self, at: int, salt: int) -> None:
        """Of simulators: from decision `at` of every episode on, other noise; what is shown before does not change."""
        raise NotImplementedError

    def check_quantity(self, lots: int, name: str) -> None:
        """`ConfigError` where `lots`, which are called `name`, could come to more than 64 bits of money hold."""
        for rules, instrument in zip(self.public.rules, self.instruments, strict=True):
            most = most_lots(rules, USUAL_PRICE)
            if lots > most:
                raise ConfigError(
                    f"{name} must be at most {most:,} of {instrument.symbol}, got {lots:,}: its value would not fit the 64 bits of "
                    f"cash in 1e-8 {instrument.currency}; use a smaller {name}"
                )

    def describe(self) -> dict[str, Any]:
        """JSON: what this market is and under which settings."""
        kind = type(self)
        return {"market": f"{kind.__module__}:{kind.__qualname__}", "config": asdict(self.config), "every": str(self.clock)}

    # ------------------------------------------------------------------------------------------------- copies and snapshots

    @property
    def layout(self) -> str:
        """Where it is equal, `arrays` mean the same."""
        shape = [self.spec.levels, list(self.spec.looks), sorted(self.spec.needs), sorted(self.spec.sums)]
        return " ".join([json.dumps([self.describe(), shape], sort_keys=True), np.ascontiguousarray(self.public.rules).tobytes().hex()])

    def arrays(self) -> dict[str, np.ndarray]:
        """All that one call leaves to the next: every array among the attributes, rules apart; not copies."""
        return dict(_arrays(vars(self)))

    def restore(self, saved: Mapping[str, np.ndarray], where: str) -> None:
        """Takes over `arrays` of a market with the same `layout`; `DataError` for what cannot be them."""
        own = self.arrays()
        if own.keys() != saved.keys():
            raise DataError(f"{where}: arrays {sorted(own.keys() ^ saved.keys())} are there or expected, not both")
        for name, array in own.items():
            if saved[name].dtype != array.dtype or saved[name].shape != array.shape:
                raise DataError(
                    f"{where}: {name}: expected {array.dtype}{list(array.shape)}, got {saved[name].dtype}{list(saved[name].shape)}"
                )
        _stop_if_no_orders(saved["public.open"], saved["public.lane"]["orders"], where)
        for name, array in own.items():
            array[...] = saved[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Market:
        return _remade(type(self), self.spec, self.config, self.arrays())

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.spec, self.config, self.arrays())


def _arrays(owner: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in owner.items():
        if isinstance(value, np.ndarray):
            yield before + name, value
        elif isinstance(value, Public):
            yield from ((f"{name}.{part}", array) for part, array in value._asdict().items() if part != "rules")
        elif name == "named":
            yield from _arrays(value, "named.")


def _remade(kind: type[Market], spec: MarketSpec, config: Any, arrays: Mapping[str, np.ndarray]) -> Market:
    twin = kind(spec, config)
    twin.restore(arrays, f"a copy of {kind.__name__}")
    return twin


def _stop_if_no_orders(own: np.ndarray, used: np.ndarray, where: str) -> None:
    """`DataError` where entries [N, K] are not those of `used` [N] orders, the first ones."""
    if (used < 0).any() or (used > own.shape[1]).any():
        raise DataError(f"{where}: orders: expected 0 to {own.shape[1]}, got {int(used.min())} to {int(used.max())}")
    first = np.arange(own.shape[1]) < used[:, None]
    known = np.isin(own["state"], (IN_FLIGHT, LIVE)) & np.isin(own["side"], (-1, 1)) & np.isin(own["kind"], (LIMIT, MARKET))
    right = np.where(first, known & (own["id"] > 0) & (own["quantity"] >= 0), own["state"] == FREE)
    if not right.all():
        lane, slot = np.argwhere(~right)[0]
        raise DataError(f"{where}: open[{lane}, {slot}] is no order, or one where there should be none: {own[lane, slot]}")


def most_lots(rules: np.void, price: int) -> int:
    """Lots whose value and fees at `price` (price units) fit 64 bits."""
    lot = max(int(rules["price_to_cash"]), abs(int(rules["maker_numerator"])), abs(int(rules["taker_numerator"]))) * max(price, 1)
    lot += max(abs(int(rules["maker_per_lot"])), abs(int(rules["taker_per_lot"])))
    return int(np.iinfo(np.int64).max) // (MONEY_ROOM * lot)
