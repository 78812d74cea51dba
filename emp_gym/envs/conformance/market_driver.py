"""A market under check, driven by random requests at the edges of what is allowed.

What a lane asks for is a function of its number, its decision and what it is shown: it is the same however many lanes there are, and in
every market that shows the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from emp_gym.envs.conformance.subject import flat
from emp_gym.market.base import MARKETS, Market, MarketSpec
from emp_gym.market.public import CANCEL, ENDLESS, FREE, LIMIT, MARKET, NONE, REPLACE
from emp_gym.market.starts import mixed
from emp_gym.settings import whole
from emp_gym.types import I8, I64, Bool, ConfigError, Fills, Orders, Reports

LANES, EPISODE, LOOKS = 16, 32, (20, 100)
DECISIONS, LONG = 600, 256  # of the walk that all judge, and of the longest of its episodes
EVENTS = 20  # a decision
ASKED = 6  # requests a decision
KINDS = np.array([LIMIT] * 8 + [MARKET] * 3 + [CANCEL] * 4 + [REPLACE] * 3 + [NONE] * 2, np.int8)
SIZES = np.array([1, 1, 2, 10, 40, 1, 2, 10, 200, 1000])  # tens of lots
MOST_CASH = 10**15  # that one request may come to, so that no sum of them exceeds 64 bits
SEED, MOST_SEED = 0, (1 << 32) - 1


@dataclass(frozen=True)
class MarketSubject:
    """A market that can be made again and again."""

    name: str
    kind: type[Market]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    seed: int = SEED  # of starts and requests
    decisions: int = DECISIONS  # of the long walk

    @classmethod
    def of(cls, market: str | type[Market], **keywords: Any) -> MarketSubject:
        """The subject of a class, or of a name that an environment takes."""
        part = MARKETS.part(market)
        return cls(part.name, part.cls, keywords)

    def on(self, seed: int, decisions: int) -> MarketSubject:
        """The same on another, or a longer course."""
        return replace(self, seed=whole("seed", seed, 0, MOST_SEED), decisions=whole("decisions", decisions, 2 * EPISODE))

    def make(self, lanes: int = LANES, *, keywords: Mapping[str, Any] | None = None, **spec: Any) -> Market:
        """A fresh market; `keywords` are set on top of the subject's."""
        known = {"episode": EPISODE, "every": f"{EVENTS} {self.kind.units[-1]}", "looks": LOOKS, **spec}
        return self.kind(MarketSpec(lanes, **known), self.config(**(keywords or {})))

    def config(self, **more: Any) -> Any:
        try:
            return self.kind.Config(**{**self.keywords, **more})
        except TypeError as error:
            raise ConfigError(f"{self.name}: {error}; it takes {sorted(self.takes)}") from error

    @cached_property
    def walked(self) -> tuple[Moment, ...]:
        """A long walk in a market of its own, for all who judge what they see there."""
        market = self.make(episode=min(LONG, max(self.decisions // 2, EPISODE)))
        return tuple(MarketDriver(market, seed=self.seed).walk(self.decisions))

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the market's keywords."""
        return tuple(entry.name for entry in fields(self.kind.Config))


class PublicCopies(NamedTuple):
    """Copies of a market's public arrays at one moment."""

    lane: np.ndarray
    quote: np.ndarray
    book: np.ndarray
    open: np.ndarray


@dataclass(frozen=True)
class Moment:
    """One call is over: how the lanes stood before it and stand now, what was asked, what came of it."""

    market: Market
    asked: Orders
    moved: Bool  # [N] lanes that were active
    outcome: I8  # [N, Q]
    fills: Fills  # of this decision, those of `close` included once `closed` is set
    reports: Reports
    before: PublicCopies  # the decision
    now: PublicCopies
    closed: I64 | None = None  # lanes that have just been closed; None: the decision itself

    @cached_property
    def entries(self) -> list[tuple[int, int, int, np.void]]:
        """(lane, place, kind, request) of everything that the active lanes asked for."""
        there = np.argwhere((self.asked.kind != NONE) & self.moved[:, None]).tolist()
        return [(lane, k, int(self.asked.kind[lane, k]), self.asked.records[lane, k]) for lane, k in there]

    @cached_property
    def ids_before(self) -> list[set[int]]:
        """Numbers of each lane's open orders before the decision."""
        return _ids(self.before.open)

    @cached_property
    def ids_now(self) -> list[set[int]]:
        return _ids(self.now.open)


def _ids(own: np.ndarray) -> list[set[int]]:
    return [set(ids[there].tolist()) for ids, there in zip(own["id"], own["state"] != FREE)]


class MarketDriver:
    """Drives one market; lanes whose episode is over are closed flat and begin anew."""

    def __init__(self, market: Market, starts: tuple[I64, I64, I64] | None = None, seed: int = SEED) -> None:
        self.market, self.everyone, self.seed, episode = market, np.arange(market.lanes), np.uint64(seed), market.spec.episode
        self.random = mixed(self.everyone.astype(np.uint64) + (self.seed << np.uint64(32)))  # of each lane's starts
        self.length = episode - mixed(self.random).astype(np.int64) % (episode // 2)
        self.begin(self.everyone, starts)

    def begin(self, lanes: I64, starts: tuple[I64, I64, I64] | None = None) -> None:
        """New episodes, from drawn starts if none are given."""
        self.market.reset(lanes, *(self.market.starts.draw(lanes, self.random) if starts is None else starts))

    def walk(self, decisions: int) -> Iterator[Moment]:
        """A `Moment` after each decision, and one after each time that lanes were closed."""
        for _ in range(decisions):
            yield (moment := self.step(self.ask()))
            over = self.market.active & ((self.market.public.lane["decision"] >= self.length) | (self.market.progress >= ENDLESS))
            if over.any():
                lanes = np.flatnonzero(over)
                self.market.close(lanes, np.zeros((len(lanes), self.market.public.quote.shape[1]), np.int64))
                yield replace(moment, fills=self.market.last_fills(), now=self._standing(), closed=lanes)
                self.begin(lanes)

    def step(self, asked: Orders | None = None) -> Moment:
        """One decision."""
        market, before = self.market, self._standing()
        asked = Orders.empty(market.lanes, market.requests) if asked is None else asked
        market.advance(asked)
        return Moment(
            market, asked, market.active.copy(), market.outcome.copy(), market.last_fills(), market.last_reports(), before, self._standing()
        )  # fmt: skip

    def _standing(self) -> PublicCopies:
        return PublicCopies(*(getattr(self.market.public, name).copy() for name in PublicCopies._fields))

    def ask(self) -> Orders:
        """Random requests of every lane."""
        public, market, lanes = self.market.public, self.market, self.everyone
        orders = Orders.empty(market.lanes, market.requests)
        key = mixed(mixed(lanes.astype(np.uint64) + self.seed) + public.lane["decision"].astype(np.uint64))
        counter = np.arange(1, ASKED * 8 + 1, dtype=np.uint64).reshape(ASKED, 8)
        drawn = mixed(key[:, None, None] + counter * np.uint64(0x9E3779B97F4A7C15))
        rules = public.rules[public.quote["rules"][:, 0]]
        lot, tick = rules["lot"], public.quote["tick"][:, 0]
        most = MOST_CASH // np.maximum(public.quote["mid2"][:, 0] // 2 * public.quote["price_to_cash"][:, 0], 1)
        ids = np.where(public.open["state"] != FREE, public.open["id"], 0)
        for k in range(ASKED):
            u = [drawn[:, k, j] for j in range(8)]
            kind = KINDS[u[0] % len(KINDS)]
            side = np.where(u[1] & 1, 1, -1)
            touch = np.where(side > 0, public.book[:, 0, 0, 0], public.book[:, 0, 2, 0])
            there = np.where(side > 0, public.book[:, 0, 1, 0], public.book[:, 0, 3, 0]) > 0
            price = np.where(there, touch, public.quote["mid2"][:, 0] // (2 * tick) * tick) + side * (u[2] % 10 - 6).astype(np.int64) * tick
            lots = np.minimum(SIZES[u[3] % len(SIZES)] * 10, np.maximum(most // lot, 10)) * lot
            chosen = (u[4] % np.maximum(public.lane["orders"], 1).astype(np.uint64)).astype(np.int64)
            own = ids[lanes, chosen]
            known = np.where(u[5] % 6 > 0, own, 9_999_999)
            record = orders.records[:, k]
            record["price"], record["quantity"], record["side"] = price, lots, side
            record["id"], record["target"] = public.lane["decision"] * 16 + k + 1, np.where(kind == REPLACE, known, 0)
            record["id"] = np.where(kind == CANCEL, known, record["id"])
            self._spoil(record, u[6] % 40, own if k == 0 and market.immediate else 0, lot, kind != CANCEL)
            orders.kind[:, k] = kind
        return orders

    @staticmethod
    def _spoil(record: np.ndarray, how: np.ndarray, own: Any, lot: I64, new: Bool) -> None:
        """Makes some requests of new orders impossible, each in one way; `own` [n]: an id that is in use (0: none that is sure to be)."""
        for number, (name, value) in enumerate((
            ("price", record["price"] + 1), ("price", 0), ("price", -record["price"]), ("quantity", 0), ("quantity", -lot),
            ("quantity", np.where(lot > 1, lot + 1, -1)), ("side", 0), ("side", 2), ("instrument", 99), ("id", 0), ("id", own),
        )):  # fmt: skip
            record[name] = np.where(new & (how == number), value, record[name])


Found = Iterator[str]
"""What does not hold, one sentence each."""


def first(found: Iterator[str], most: int = 3) -> Found:
    """The first few findings: one fault shows itself at every step."""
    for _, what in zip(range(most), found):
        yield what


def shown(market: Market, lanes: int) -> bytes:
    """Everything that the first `lanes` lanes are shown and were told, as bytes, field by field."""
    told: dict[str, Any] = {"fills": market.last_fills(), "reports": market.last_reports()}
    found = [array[one.lane < lanes].tobytes() for one in told.values() for _, array in flat("", vars(one))]
    public = {name: array for name, array in market.public._asdict().items() if name != "rules"}
    more = {"named": market.named, "outcome": market.outcome, "progress": market.progress}
    return b"".join(found + [np.ascontiguousarray(array[:lanes]).tobytes() for _, array in flat("", public | more)])
