"""What evidence must assume of our own orders before it may lead into a stage: latency, fees and impact, each a finding.

The minima are those of `evaluation.assumptions.HONEST` (``configs/honest.yaml``). A venue that is nearer, or that charges nothing, needs
an explicit word in the rules of the stage (``configs/stages/STAGE.yaml``); the promotion then carries it, under its signatures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from emp_gym.evaluation.assumptions import HONEST, Assumptions, Fees, milliseconds
from emp_gym.governance.promotion import Finding
from emp_gym.types import ConfigError

STATED = "stated"
WORDS = {"fees": (STATED, "zero"), "impact": (STATED, "none")}
RETRAIN = "train and evaluate it under honest costs: train.py --config configs/honest.yaml --govern LOGDIR"


@dataclass(frozen=True)
class Costs:
    """The least that evidence assumes."""

    order_latency_ns: int = HONEST["latency_ns"]  # from decision to market
    feed_latency_ns: int = HONEST["latency_ns"]  # from market to decision
    fees: str = STATED  # "zero": may also be nothing
    impact: str = STATED  # "none": may also be nothing

    def __post_init__(self) -> None:
        for name in ("order_latency_ns", "feed_latency_ns"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} must be an integer of at least 0, got {value!r}")
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise ConfigError(f"{name} must be one of {list(words)}, got {getattr(self, name)!r}")

    @classmethod
    def read(cls, told: Any, where: str) -> Costs:
        """From the key ``evidence`` of a stage's rules: latencies in milliseconds, the two words."""
        known = ("order_latency_ms", "feed_latency_ms", *WORDS)
        if not isinstance(told, Mapping):
            raise ConfigError(f"{where}: evidence must be keys and values, of {list(known)}, got {told!r}")
        changes: dict[str, Any] = {}
        for key, value in told.items():
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"{where}: evidence.{key} is unknown{hint}; known: {list(known)}")
            changes[key.replace("_ms", "_ns")] = _ns(value, f"{where}: evidence.{key}") if key.endswith("_ms") else value
        try:
            return cls(**changes)
        except ConfigError as error:
            raise ConfigError(f"{where}: evidence: {error}") from error

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Costs:
        """As a promotion carries them; `ConfigError` for others."""
        return cls(**{field.name: payload[field.name] for field in fields(cls)})

    def as_payload(self) -> dict[str, Any]:
        return asdict(self)


ASKED = Costs()
"""What every stage asks, unless its rules say otherwise."""


def _ns(milliseconds_: Any, where: str) -> int:
    if isinstance(milliseconds_, bool) or not isinstance(milliseconds_, int | float) or not 0 <= milliseconds_ <= 1e6:
        raise ConfigError(f"{where}: expected milliseconds from 0 to 1,000,000, got {milliseconds_!r}")
    return round(milliseconds_ * 1e6)


def findings(keywords: Mapping[str, Any], own: Iterable[Fees | None], least: Costs) -> list[Finding]:
    """Fill model, latency, fees and impact of a setting with `keywords`; `own`: fees of the instruments of the days that
    the evidence is on (None: not on record)."""
    assumed = Assumptions.of(keywords)
    return [
        Finding("fill model", assumed.fills == "exact", "fills=exact", f"fills={assumed.fills}",
                "train and evaluate with exact queue places"),
        _latency(assumed, least),
        _fees(assumed, list(dict.fromkeys(own)), least),
        Finding("impact", least.impact == "none" or assumed.impact != "none",
                "any" if least.impact == "none" else "depth that was taken stays away for a while (impact resilient or permanent)",
                f"impact={assumed.impact}", f"without impact the same depth is taken again and again; {RETRAIN}"),
    ]  # fmt: skip


def _latency(assumed: Assumptions, least: Costs) -> Finding:
    got = (assumed.order_latency_ns, assumed.feed_latency_ns)
    wanted = (least.order_latency_ns, least.feed_latency_ns)
    passed = all(mine is not None and mine >= floor for mine, floor in zip(got, wanted))
    expected = f"orders at least {milliseconds(wanted[0])}, feed at least {milliseconds(wanted[1])}"
    remedy = f"{RETRAIN}; a connection that is faster is said in the rules of the stage (evidence: order_latency_ms)"
    return Finding("latency", passed, expected, f"orders {milliseconds(got[0])}, feed {milliseconds(got[1])}", remedy)


def _fees(assumed: Assumptions, own: list[Fees | None], least: Costs) -> Finding:
    charged = [assumed.fees(fees) for fees in own or [None]]
    got = "; ".join(dict.fromkeys("not on record" if fees is None else str(fees) for fees in charged))
    if least.fees == "zero":
        return Finding("fees", None not in charged, "known, zero allowed", got, "evaluate it again: the evidence does not say its fees")
    passed = all(fees is not None and fees.cost for fees in charged)
    remedy = f"{RETRAIN}; a venue that charges nothing is said in the rules of the stage (evidence: fees: zero)"
    return Finding("fees", passed, "a venue that keeps something: maker's and taker's fee together above 0", got, remedy)
