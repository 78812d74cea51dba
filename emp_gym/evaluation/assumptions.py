"""What a setting assumes of our own orders: fills, hidden prints, latency, impact, fees. Read from the keywords of an environment.

A keyword that is left out has the environment's default: exact fills, hidden prints that fill nobody, no latency, no impact, the
instrument's own fees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from emp_gym.data.clock import half_life_of

HONEST: Mapping[str, Any] = {
    "fills": "exact",
    "hidden_prints": "ignore",  # whose passive side nobody is told of since 2014
    "latency_ns": 200_000,  # order and feed, each: software in the exchange's building
    "impact": "resilient",  # depth that was taken comes back with a half-life of 1 s
    "maker_fee_bps": 0.0,  # no rebate is counted on
    "taker_fee_bps": 0.3,  # 30 mils a share of 100
}
"""The recommended setting, also as ``configs/honest.yaml``."""
FILE = "configs/honest.yaml"
_SLACK = 1e-9  # bp: what a fee per lot loses on its way through a price
FEES = ("maker_fee_bps", "taker_fee_bps", "maker_fee_per_lot", "taker_fee_per_lot")
"""Keywords by which a setting takes other fees than the instrument's."""


@dataclass(frozen=True)
class Fees:
    """What a venue takes; negative is a rebate."""

    maker_bps: float = 0.0  # of notional
    taker_bps: float = 0.0
    maker_per_lot: float = 0.0  # currency
    taker_per_lot: float = 0.0
    price: float = 0.0  # currency a lot, at which fees per lot are weighed; 0: not known

    @classmethod
    def of(cls, instrument: Any, price: float = 0.0) -> Fees:
        """Those of an `Instrument` whose lots cost `price`."""
        return cls(
            instrument.maker_fee_bps, instrument.taker_fee_bps, instrument.maker_fee_per_lot, instrument.taker_fee_per_lot, price
        )  # fmt: skip

    @property
    def in_bps(self) -> tuple[float, float]:
        """Maker's and taker's fee, all in all, in bp of notional. Without a price a fee per lot counts as nothing, and a rebate
        per lot as more than anybody knows."""
        return self._weighed(self.maker_bps, self.maker_per_lot), self._weighed(self.taker_bps, self.taker_per_lot)

    def _weighed(self, bps: float, lot: float) -> float:
        if self.price > 0:
            return bps + 1e4 * lot / self.price
        return bps if lot >= 0 else float("-inf")

    def least(self, maker_bps: float, taker_bps: float) -> bool:
        """Whether both are at least so high."""
        maker, taker = self.in_bps
        return maker >= maker_bps - _SLACK and taker >= taker_bps - _SLACK

    @property
    def weighed(self) -> str:
        """In words; fees per lot with what they come to in bp."""
        if not (self.maker_per_lot or self.taker_per_lot):
            return str(self)
        at = "of a price that is not on record" if self.price <= 0 else "together maker {:.4g} bp, taker {:.4g} bp".format(*self.in_bps)
        return f"{self}, {at}"

    def __str__(self) -> str:
        parts = [f"maker {self.maker_bps:g} bp, taker {self.taker_bps:g} bp"] if self.maker_bps or self.taker_bps else []
        if self.maker_per_lot or self.taker_per_lot:
            parts.append(f"maker {self.maker_per_lot:g}, taker {self.taker_per_lot:g} a lot")
        return " and ".join(parts) or "none"


@dataclass(frozen=True)
class Assumptions:
    """Of one setting. A latency is None where the keyword is none that an environment takes."""

    fills: str
    hidden_prints: str
    order_latency_ns: int | None
    feed_latency_ns: int | None
    impact: str
    maker_fee_bps: float | None  # None: the instrument's
    taker_fee_bps: float | None
    maker_fee_per_lot: float | None = None
    taker_fee_per_lot: float | None = None

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Assumptions:
        """Those of an environment that was made with `keywords`, some of them perhaps in a mapping of its market."""
        keywords = {**_of_market(keywords), **keywords}
        order, feed = _latencies(keywords.get("latency_ns", 0))
        return cls(
            str(keywords.get("fills", "exact")), str(keywords.get("hidden_prints", "ignore")), order, feed,
            str(keywords.get("impact", "none")),
            *(_number(keywords.get(name)) for name in FEES),
        )  # fmt: skip

    def fees(self, own: Fees | None) -> Fees | None:
        """What is charged on a day whose instrument has the fees `own`; None where neither says it."""
        told = (self.maker_fee_bps, self.taker_fee_bps, self.maker_fee_per_lot, self.taker_fee_per_lot)
        if own is None and None in told[:2]:
            return None
        names = ("maker_bps", "taker_bps", "maker_per_lot", "taker_per_lot")
        return replace(own or Fees(), **{name: mine for name, mine in zip(names, told) if mine is not None})

    @property
    def half_life_ns(self) -> int | None:
        """Of depth that was taken; see `half_life_of`."""
        return half_life_of(self.impact)

    def stays(self, half_life_ns: int) -> bool:
        """Whether depth that was taken stays away at least so long."""
        return self.half_life_ns is not None and (self.half_life_ns < 0 or self.half_life_ns >= half_life_ns)

    @property
    def latency(self) -> str:
        """In words."""
        if self.order_latency_ns == self.feed_latency_ns:
            return milliseconds(self.order_latency_ns)
        return f"orders {milliseconds(self.order_latency_ns)}, feed {milliseconds(self.feed_latency_ns)}"


def below_honest(assumed: Assumptions, own: Iterable[Fees | None] = ()) -> list[str]:
    """What is cheaper than `HONEST`, in words, each with both numbers ("no ..." where there is nothing at all). `own`: fees of the
    instruments; None, or none at all: not known, and nothing is said of fees that the setting does not name."""
    honest = Assumptions.of(HONEST)
    found = [] if assumed.fills == honest.fills else [f"{assumed.fills} fills"]
    if assumed.hidden_prints != honest.hidden_prints:
        found.append(f"fills by hidden prints where {FILE} ignores them")
    found += _latency_below(assumed, HONEST["latency_ns"])
    if not assumed.half_life_ns:
        found.append("no impact" if assumed.impact == "none" else f"an impact that nobody can read ({assumed.impact!r})")
    elif not assumed.stays(honest.half_life_ns or 0):
        wanted = f"{(honest.half_life_ns or 0) / 1e9:g} s"
        found.append(f"impact with a half-life of {assumed.half_life_ns / 1e9:g} s where {FILE} has {wanted}")
    charged = [fees for fees in map(assumed.fees, list(own) or [None]) if fees is not None]
    return found + (_fees_below(charged) if charged else [])


def _latency_below(assumed: Assumptions, least: int) -> list[str]:
    got = {"order": assumed.order_latency_ns, "feed": assumed.feed_latency_ns}
    if not got["order"] and not got["feed"]:
        return ["no order latency"]
    return [
        f"{name} latency {milliseconds(ns)} where {FILE} has {milliseconds(least)}" if ns else f"no {name} latency"
        for name, ns in got.items() if ns is None or ns < least
    ]  # fmt: skip


def _fees_below(charged: list[Fees]) -> list[str]:
    if all(fees.in_bps == (0.0, 0.0) for fees in charged):
        return ["no fees"]
    maker, taker = (min(side) for side in zip(*(fees.in_bps for fees in charged)))
    found = []
    if maker < HONEST["maker_fee_bps"] - _SLACK:
        found.append(f"a maker's rebate of {_size(-maker)} where {FILE} counts on none")
    if taker < 0:
        found.append(f"a taker's rebate of {_size(-taker)} where {FILE} charges {HONEST['taker_fee_bps']:g}")
    elif taker < HONEST["taker_fee_bps"] - _SLACK:
        found.append(f"taker fee {_size(taker)} where {FILE} charges {HONEST['taker_fee_bps']:g}")
    return found


def _size(bps: float) -> str:
    return f"{bps:.4g} bp" if bps < float("inf") else "so much a lot, of a price that is not on record,"


def milliseconds(ns: int | None) -> str:
    """``0.2 ms``; ``unknown`` for None."""
    return "unknown" if ns is None else f"{ns / 1e6:g} ms" if ns else "none"


def _latencies(value: Any) -> tuple[int | None, int | None]:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(type(ns) is int and ns >= 0 for ns in pair):
        return None, None
    return pair[0], pair[1]


def _of_market(keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    market = keywords.get("market")
    return market if isinstance(market, Mapping) else {"market": market}


def foreign_market(keywords: Mapping[str, Any]) -> str:
    """The market of an environment that was made with `keywords`; "" for the replay of this package, the only one whose assumptions
    are read from keywords."""
    name = _of_market(keywords).get("market")
    return "" if name in (None, "replay", "emp_gym.market.replay:ReplayMarket") else str(name)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
