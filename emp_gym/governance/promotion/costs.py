"""What evidence must assume of our own orders before it may lead into a stage: latency, fees and impact, each a finding.

The minima are those of `evaluation.assumptions.HONEST` (``configs/honest.yaml``). A venue that is nearer, that charges less or nothing,
or that pays a rebate which is counted on, needs an explicit word in the rules of the stage (``configs/stages/STAGE.yaml``); the promotion
then carries it, under its signatures. Fees per lot are weighed at the price of their day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from emp_gym.evaluation.assumptions import HONEST, Assumptions, Fees, foreign_market, milliseconds
from emp_gym.governance.promotion.guard import RuleFinding
from emp_gym.types import ConfigError

STATED = "stated"
WORDS = {"fees": (STATED, "zero"), "impact": (STATED, "none")}
BPS = ("maker_fee_bps", "taker_fee_bps")  # in the rules; from -100 to 10,000
RETRAIN = "train and evaluate it under honest costs: train.py --config configs/honest.yaml --govern LOGDIR"


@dataclass(frozen=True)
class Costs:
    """The least that evidence assumes."""

    order_latency_ns: int = HONEST["latency_ns"]  # from decision to market
    feed_latency_ns: int = HONEST["latency_ns"]  # from market to decision
    fees: str = STATED  # "zero": may also be nothing
    impact: str = STATED  # "none": may also be nothing
    half_life_ns: int = Assumptions.of(HONEST).half_life_ns or 0  # of depth that was taken
    maker_fee_bps_e4: int = round(HONEST["maker_fee_bps"] * 1e4)  # 1e-4 bp; negative: so much of a rebate may be counted on
    taker_fee_bps_e4: int = round(HONEST["taker_fee_bps"] * 1e4)

    def __post_init__(self) -> None:
        for field in fields(self):
            value, signed = getattr(self, field.name), field.name.endswith("_e4")
            if field.name not in WORDS and (type(value) is not int or (value < 0 and not signed)):
                raise ConfigError(f"{field.name} must be an integer{'' if signed else ' of at least 0'}, got {value!r}")
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise ConfigError(f"{name} must be one of {list(words)}, got {getattr(self, name)!r}")

    @classmethod
    def read(cls, told: Any, where: str) -> Costs:
        """From the key ``evidence`` of a stage's rules: latencies and half-life in milliseconds, fees in bp, the two words."""
        known = ("order_latency_ms", "feed_latency_ms", "half_life_ms", *BPS, *WORDS)
        if not isinstance(told, Mapping):
            raise ConfigError(f"{where}: evidence must be keys and values, of {list(known)}, got {told!r}")
        changes: dict[str, Any] = {}
        for key, value in told.items():
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"{where}: evidence.{key} is unknown{hint}; known: {list(known)}")
            at = f"{where}: evidence.{key}"
            if key in BPS:
                changes[f"{key}_e4"] = round(_within(value, at, "basis points", -100, 10_000) * 1e4)
            elif key.endswith("_ms"):
                changes[key.replace("_ms", "_ns")] = round(_within(value, at, "milliseconds", 0, 1_000_000) * 1e6)
            else:
                changes[key] = value
        try:
            return cls(**changes)
        except ConfigError as error:
            raise ConfigError(f"{where}: evidence: {error}") from error

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Costs:
        """As a promotion carries them (one of an earlier version not all of them); `ConfigError` for others."""
        return cls(**{field.name: payload[field.name] for field in fields(cls) if field.name in payload})

    def as_payload(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def fees_bps(self) -> tuple[float, float]:
        """The least that a maker and a taker pay."""
        maker, taker = self.maker_fee_bps_e4 / 1e4, self.taker_fee_bps_e4 / 1e4
        return (maker, taker) if self.fees == STATED else (min(maker, 0.0), min(taker, 0.0))


ASKED = Costs()
"""What every stage asks, unless its rules say otherwise."""


def _within(value: Any, where: str, unit: str, low: int, high: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{where}: expected {unit} from {low:,} to {high:,}, got {value!r}")
    return value


def findings(keywords: Mapping[str, Any], own: Iterable[Fees | None], least: Costs) -> list[RuleFinding]:
    """Fill model, latency, fees and impact of a setting with `keywords`; `own`: fees of the instruments of the days that
    the evidence is on, with the price at which those per lot are weighed (None: not on record)."""
    if market := foreign_market(keywords):
        remedy = "what it assumes of own orders is its author's word; evidence is judged in the replay (leave env.market out)"
        return [RuleFinding("fill model", False, "the replay of this package", f"market={market}", remedy)]
    assumed = Assumptions.of(keywords)
    fills = f"fills={assumed.fills}" + ("" if assumed.hidden_prints == "ignore" else f", hidden_prints={assumed.hidden_prints}")
    return [
        RuleFinding("fill model", fills == "fills=exact", "fills=exact", fills,
                "train and evaluate with exact queue places, and hidden prints ignored"),
        _latency(assumed, least),
        _fees(assumed, list(dict.fromkeys(own)), least),
        _impact(assumed, least),
    ]  # fmt: skip


def _impact(assumed: Assumptions, least: Costs) -> RuleFinding:
    got, half_life = f"impact={assumed.impact}", milliseconds(least.half_life_ns)
    if least.impact == "none":
        return RuleFinding("impact", True, "any", got, "")
    expected = f"depth that was taken stays away (impact resilient with a half-life of at least {half_life}, or permanent)"
    remedy = f"the same depth is taken again and again; {RETRAIN}; a deeper market is said in the rules (evidence: half_life_ms)"
    return RuleFinding("impact", assumed.stays(least.half_life_ns) and bool(assumed.half_life_ns), expected, got, remedy)


def _latency(assumed: Assumptions, least: Costs) -> RuleFinding:
    got = (assumed.order_latency_ns, assumed.feed_latency_ns)
    wanted = (least.order_latency_ns, least.feed_latency_ns)
    passed = all(mine is not None and mine >= floor for mine, floor in zip(got, wanted))
    expected = f"orders at least {milliseconds(wanted[0])}, feed at least {milliseconds(wanted[1])}"
    remedy = f"{RETRAIN}; a connection that is faster is said in the rules of the stage (evidence: order_latency_ms)"
    return RuleFinding("latency", passed, expected, f"orders {milliseconds(got[0])}, feed {milliseconds(got[1])}", remedy)


def _fees(assumed: Assumptions, own: list[Fees | None], least: Costs) -> RuleFinding:
    charged = [assumed.fees(fees) for fees in own or [None]]
    got = "; ".join(dict.fromkeys("not on record" if fees is None else fees.weighed for fees in charged))
    maker, taker = least.fees_bps
    passed = all(fees is not None and fees.least(maker, taker) for fees in charged)
    expected = f"maker at least {maker:g} bp{'' if maker < 0 else ' (a rebate is not counted on)'}, taker at least {taker:g} bp"
    remedy = (
        f"{RETRAIN}; a venue that charges less, or pays a rebate, is said in the rules of the stage (evidence: taker_fee_bps, "
        "maker_fee_bps, fees: zero)"
    )
    return RuleFinding("fees", passed, expected, got, remedy)
