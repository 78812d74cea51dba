"""What a setting assumes of our own orders: fills, latency, impact, fees. Read from the keywords of an environment.

A keyword that is left out has the environment's default: exact fills, no latency, no impact, the instrument's own fees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

HONEST: Mapping[str, Any] = {
    "fills": "exact",
    "latency_ns": 200_000,  # order and feed, each: software in the exchange's building
    "impact": "resilient",  # depth that was taken comes back with a half-life of 1 s
    "maker_fee_bps": 0.0,  # no rebate is counted on
    "taker_fee_bps": 0.3,  # 30 mils a share of 100
}
"""The recommended setting, also as ``configs/honest.yaml``."""
FEES = ("maker_fee_bps", "taker_fee_bps", "maker_fee_per_lot", "taker_fee_per_lot")
"""Keywords by which a setting takes other fees than the instrument's."""


@dataclass(frozen=True)
class Fees:
    """What a venue takes; negative is a rebate."""

    maker_bps: float = 0.0  # of notional
    taker_bps: float = 0.0
    maker_per_lot: float = 0.0  # currency
    taker_per_lot: float = 0.0

    @classmethod
    def of(cls, instrument: Any) -> Fees:
        """Those of an `Instrument`."""
        return cls(
            instrument.maker_fee_bps, instrument.taker_fee_bps, instrument.maker_fee_per_lot, instrument.taker_fee_per_lot
        )  # fmt: skip

    @property
    def cost(self) -> bool:
        """Whether the venue keeps something: of a lot that a maker and a taker trade, both fees together."""
        per_lot, bps = self.maker_per_lot + self.taker_per_lot, self.maker_bps + self.taker_bps
        return min(per_lot, bps) >= 0 and max(per_lot, bps) > 0

    def __str__(self) -> str:
        parts = [f"maker {self.maker_bps:g} bp, taker {self.taker_bps:g} bp"] if self.maker_bps or self.taker_bps else []
        if self.maker_per_lot or self.taker_per_lot:
            parts.append(f"maker {self.maker_per_lot:g}, taker {self.taker_per_lot:g} a lot")
        return " and ".join(parts) or "none"


@dataclass(frozen=True)
class Assumptions:
    """Of one setting. A latency is None where the keyword is none that an environment takes."""

    fills: str
    order_latency_ns: int | None
    feed_latency_ns: int | None
    impact: str
    maker_fee_bps: float | None  # None: the instrument's
    taker_fee_bps: float | None
    maker_fee_per_lot: float | None = None
    taker_fee_per_lot: float | None = None

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Assumptions:
        """Those of an environment that was made with `keywords`."""
        order, feed = _latencies(keywords.get("latency_ns", 0))
        return cls(
            str(keywords.get("fills", "exact")), order, feed, str(keywords.get("impact", "none")),
            *(_number(keywords.get(name)) for name in FEES),
        )  # fmt: skip

    def fees(self, own: Fees | None) -> Fees | None:
        """What is charged on a day whose instrument has the fees `own`; None where neither says it."""
        told = (self.maker_fee_bps, self.taker_fee_bps, self.maker_fee_per_lot, self.taker_fee_per_lot)
        if own is None and None in told[:2]:
            return None
        return Fees(*(theirs if mine is None else mine for mine, theirs in zip(told, astuple(own or Fees()))))

    @property
    def latency(self) -> str:
        """In words."""
        if self.order_latency_ns == self.feed_latency_ns:
            return milliseconds(self.order_latency_ns)
        return f"orders {milliseconds(self.order_latency_ns)}, feed {milliseconds(self.feed_latency_ns)}"


def milliseconds(ns: int | None) -> str:
    """``0.2 ms``; ``unknown`` for None."""
    return "unknown" if ns is None else f"{ns / 1e6:g} ms" if ns else "none"


def _latencies(value: Any) -> tuple[int | None, int | None]:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(type(ns) is int and ns >= 0 for ns in pair):
        return None, None
    return pair[0], pair[1]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
