"""What a market is: it moves the world on by one decision in N lanes, and shows it in the arrays of `emp_gym.market.public`.

`Market` is the protocol and its defaults: what raises `NotImplementedError` must be written, the rest may be. A small market derives
from `emp_gym.market.simple.BaseMarket`, which does everything but the price. ``check.py --market`` says what a market must show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from emp_gym import trust
from emp_gym.data.array_bounds import MOST, Bounds, typed
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.clock import Clock
from emp_gym.market.lots import MOST_CASH, most_lots, too_many
from emp_gym.market.public import ENDLESS, FREE, IN_FLIGHT, LIMIT, LIVE, MARKET, Public, view_of
from emp_gym.market.starts import Starts
from emp_gym.plugins import PluginKind
from emp_gym.settings import shown, whole
from emp_gym.threads import MOST as MOST_THREADS
from emp_gym.threads import default_threads
from emp_gym.types import (
    F32,
    I8,
    I64,
    Bool,
    ConfigError,
    DataError,
    Fills,
    Instrument,
    OrderAck,
    Orders,
    Reports,
    TradingStatus,
    View,
)

VENUES = ("replay", "simulated", "paper", "live")
REPLAY = VENUES[0]
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


def checked_threads(threads: Any) -> int:
    """`threads`, or `ConfigError`."""
    return whole("threads", threads, 1, MOST_THREADS, "; None takes what suits the machine")


class Market:
    """Integrates the world, batched over N lanes, of which `active` says who moves.

    `advance` promises only that requests were handed over. `outcome` may be `OrderAck.PENDING`: then exactly one of `last_reports`
    answers it in a later call, or the episode ends. Until then the order stands in ``public.open`` as IN_FLIGHT, a cancel as
    `leaving`, and both count as exposure. Fills may come before the answer, and after a cancel was asked for. An id is never used
    twice in an episode. Nobody but records reads `outcome`: tasks, masks and gates read the view.
    """

    Config: ClassVar[type]  # dataclass of the market's keywords, JSON values
    venue: ClassVar[str] = "simulated"  # one of `VENUES`; "replay" is only ours
    momentary: ClassVar[tuple[str, ...]] = ("named",)  # attributes that no later call reads, or that are in `arrays` by other names
    units: ClassVar[tuple[str, ...]] = ("event", "events")  # what `every` may count, singular and plural
    published: ClassVar[Mapping[str, Named]] = {}
    most_orders: ClassVar[int] = 8  # K: own orders a lane, in flight included
    requests: ClassVar[int] = 10  # Q: orders a lane may send in one decision
    immediate: bool = True  # a cancel that is sent now wins against all that comes; False with latency or late answers
    closes: bool = True  # `close` is final at once
    constant_features: tuple[str, ...] = ()  # columns of our feature sets that stay constant here
    assumes: Mapping[str, Any] | None = None  # keywords of `evaluation.assumptions`; None: fills are no assumption here
    data: TapeSet | None = None  # the days, where there are some

    instruments: tuple[Instrument, ...]  # [I], one for each row of `public.rules`
    starts: Starts
    public: Public
    active: Bool  # [N] lanes that `advance` moves; the environment writes it
    progress: I64  # [N] decisions taken in the episode, ENDLESS once the source has come to its end
    outcome: I8  # [N, Q] `OrderAck` of the last requests
    named: MutableMapping[str, np.ndarray]  # `published`, valid until the next call, written in place

    def __init__(self, spec: MarketSpec, config: Any) -> None:
        self.spec, self.config, self.lanes = spec, config, spec.lanes
        self.threads = default_threads(spec.lanes) if spec.threads is None else checked_threads(spec.threads)
        self.clock = Clock.parse(spec.every, self.units)
        self.active = np.ones(spec.lanes, np.bool_)
        self.progress = np.zeros(spec.lanes, np.int64)
        self.outcome = np.zeros((spec.lanes, self.requests), np.int8)
        self.named = {}
        self._stop_if_unpublished()

    def _stop_if_unpublished(self) -> None:
        known = sorted({*self.published, *self.spec.sums})
        for name in sorted(self.spec.needs - set(known)):
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{type(self).__name__} publishes no array {name!r}; it has {known or 'none'}{hint}")

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

    @property
    def foreign(self) -> str:
        """``module:Class`` where it is none of this package."""
        kind = type(self)
        return "" if trust.is_ours(kind.__module__) else f"{kind.__module__}:{kind.__qualname__}"

    def declared(self, name: str) -> Any:
        """What a market says of itself by the attribute `name`: one of somebody else says nothing by what it has inherited from ours."""
        who = next(kind for kind in type(self).__mro__ if name in vars(kind))
        inherited = self.foreign and name not in vars(self) and trust.is_ours(who.__module__)
        return getattr(Market, name) if inherited else getattr(self, name)

    @property
    def traded_on(self) -> str:
        """The venue that gates and stages see: what it declares, and a replay is only ours."""
        venue = self.declared("venue")
        if self.foreign and (venue == REPLAY or venue not in VENUES):
            raise ConfigError(f"{self.foreign}: venue must be one of {[each for each in VENUES if each != REPLAY]}, got {shown(venue)}")
        return str(venue)

    def last_reports(self) -> Reports:
        """What was said in the last step of requests of earlier ones."""
        return Reports.none()

    def truth(self) -> tuple[F32, I8]:
        """(signal, regime) [N] planted where the lanes stand."""
        raise DataError(f"{type(self).__name__} has no planted signal; an oracle needs synthetic days (data=None)")

    def branch(self, at: int, salt: int) -> None:
        """Of simulators: from decision `at` of every episode on, other noise; what is shown before does not change."""
        raise NotImplementedError

    def check_quantity(self, lots: int, name: str) -> int:
        """`ConfigError` where `lots`, which are called `name`, could in one decision come to more than 64 bits of money hold. Returns
        the number of decisions after which accounts have to be looked at (`emp_gym.market.lots`)."""
        most = MOST_CASH
        for rules, instrument in zip(self.public.rules, self.instruments, strict=True):
            of_it = most_lots(rules, USUAL_PRICE)
            if lots > of_it:
                raise too_many(lots, name, of_it, instrument.symbol, instrument.currency)
            most = min(most, of_it)
        return most // max(lots, 1)

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

    def kept(self, where: str) -> dict[str, np.ndarray]:
        """`arrays` as a file holds them: of one that grows only what is in use. `ConfigError` where that is more than `room`."""
        return self.arrays()

    def room(self) -> dict[str, int]:
        """Bytes that each of `kept` may have at the most."""
        return {name: array.nbytes for name, array in self.arrays().items()}

    def checked(self, saved: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """`kept` of a market with the same `layout`, as it is or as bytes, to arrays that `restore` takes; `DataError` for what cannot be
        them. Nothing changes."""
        found, bounds = typed(self.arrays(), saved, where), Bounds(where)
        for name, array in found.items():
            if array.dtype.kind == "b" or name.startswith(("public.", "named.")):
                bounds.plain(name, array)
        bounds.within("outcome", found["outcome"], 0, max(OrderAck))
        bounds.within("progress", found["progress"], 0, ENDLESS)
        quote = found["public.quote"]
        bounds.within("public.quote.rules", quote["rules"], 0, len(self.public.rules) - 1)
        bounds.within("public.quote.status", quote["status"], 0, max(TradingStatus))
        _check_orders(bounds, found["public.open"], found["public.lane"]["orders"])
        return found

    def restore(self, found: Mapping[str, np.ndarray]) -> None:
        """Takes over what `checked` gave, in place: kernels and views hold on to the arrays."""
        for name, array in self.arrays().items():
            array[...] = found[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Market:
        twin = object.__new__(type(self))
        twin.__setstate__(self.__getstate__())
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "config": self.config, "arrays": self.arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, state["spec"], state["config"])
        self.restore(self.checked(state["arrays"], f"a copy of {type(self).__name__}"))


def _arrays(owner: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in owner.items():
        if isinstance(value, np.ndarray):
            yield before + name, value
        elif isinstance(value, Public):
            yield from ((f"{name}.{part}", array) for part, array in value._asdict().items() if part != "rules")
        elif name == "named":
            yield from _arrays(value, "named.")


def _check_orders(bounds: Bounds, own: np.ndarray, used: np.ndarray) -> None:
    """`DataError` where entries [N, K] are not those of `used` [N] orders, the first ones."""
    bounds.within("public.lane.orders", used, 0, own.shape[1])
    first = np.arange(own.shape[1]) < used[:, None]
    bounds.within("public.open.state", own["state"], FREE, FREE, ~first)
    bounds.within("public.open.state", own["state"], IN_FLIGHT, LIVE, first)
    bounds.within("public.open.kind", own["kind"], LIMIT, MARKET, first)
    bounds.within("public.open.side", np.abs(own["side"].astype(np.int64)), 1, 1, first)
    bounds.within("public.open.id", own["id"], 1, MOST, first)
    bounds.within("public.open.quantity", own["quantity"], 0, MOST, first)


MARKETS = PluginKind(
    "market",
    "emp_gym.markets",
    {"replay": "emp_gym.market.replay:ReplayMarket"},
    lambda cls: issubclass(cls, Market),
    "a class that derives from emp_gym.market.base:Market",
    schema=lambda cls: cls.Config,  # type: ignore[attr-defined]
)
"""What `market` may be."""
