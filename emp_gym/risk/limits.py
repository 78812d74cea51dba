"""The one limits schema: per order, per instrument, per sector, per portfolio, per time window.

Quantities are lots, money is in units of the currency, distances are basis points, durations are milliseconds. What is left
out is off. Every value is checked here, and what contradicts another value is a `ConfigError`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emp_gym import bounded
from emp_gym.risk.reasons import LOTS_MAX, MAX_INSTRUMENTS
from emp_gym.risk.state import RING
from emp_gym.types import NS, ConfigError, DataError

Lots = Annotated[int, Field(strict=True, ge=1, le=LOTS_MAX)]
Money = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Bps = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Millis = Annotated[int, Field(strict=True, ge=1, le=86_400_000)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Flag = Annotated[bool, Field(strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrderLimits(_Part):
    """Of each order."""

    min_quantity: Lots = 1
    max_quantity: Lots | None = None
    max_notional: Money | None = None
    collar_bps: Bps | None = None  # largest distance of a price from the mid
    self_trade: Literal["cancel-new", "allow"] = "cancel-new"

    @model_validator(mode="after")
    def _agree(self) -> OrderLimits:
        if self.max_quantity is not None and self.min_quantity > self.max_quantity:
            raise ValueError(f"min_quantity ({self.min_quantity}) is above max_quantity ({self.max_quantity})")
        return self


class InstrumentLimits(_Part):
    """Of one instrument."""

    lot: Lots = 1  # quantities are multiples of it
    restricted: Flag = False
    session: tuple[str, str] | None = (
        None  # "09:30:00", "16:00:00": orders are allowed from the first to before the second
    )
    max_quote_age_ms: Millis | None = None  # since a two-sided top of the book last changed
    adv_lots: Lots | None = None  # average daily volume
    max_adv_bps: Bps = 100  # of it, the largest order
    max_top_multiple: Count | None = None  # largest order, in sizes of the larger side of the top of the book
    max_position: Lots | None = None
    sector: Annotated[int, Field(strict=True, ge=0, le=255)] = 0

    @property
    def session_ns(self) -> tuple[int, int] | None:
        """Start and end after local midnight."""
        return None if self.session is None else (_clock_ns(self.session[0]), _clock_ns(self.session[1]))

    @model_validator(mode="after")
    def _agree(self) -> InstrumentLimits:
        session = self.session_ns
        if session is not None and session[0] >= session[1]:
            raise ValueError(f"session starts ({session[0]} ns) at or after its end ({session[1]} ns)")
        if self.max_position is not None and self.max_position < self.lot:
            raise ValueError(f"max_position ({self.max_position}) is below one lot ({self.lot})")
        if self.adv_lots is not None and self.adv_lots * self.max_adv_bps // 10_000 < self.lot:
            raise ValueError(f"max_adv_bps ({self.max_adv_bps}) of adv_lots ({self.adv_lots}) is below one lot")
        return self


class SectorLimits(_Part):
    """Of one sector."""

    max_gross: Money


class LossLimit(_Part):
    """A loss at which a lane may only reduce (soft), and one at which it may only cancel (hard)."""

    soft: Money | None = None
    hard: Money | None = None

    @model_validator(mode="after")
    def _agree(self) -> LossLimit:
        if self.soft is not None and self.hard is not None and self.soft > self.hard:
            raise ValueError(f"soft ({self.soft}) is above hard ({self.hard})")
        return self


class DrawdownLimit(LossLimit):
    """A fall from the highest equity; `scaled`: position limits shrink in proportion to what is left until hard."""

    scaled: Flag = False

    @model_validator(mode="after")
    def _has_scale(self) -> DrawdownLimit:
        if self.scaled and self.hard is None:
            raise ValueError("scaled needs a hard drawdown to scale by")
        return self


class PortfolioLimits(_Part):
    """Of all instruments of a lane together."""

    capital: Money | None = None  # what the account starts with
    credit: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None  # spendable beyond capital and cash
    max_gross: Money | None = None
    max_net: Money | None = None
    max_leverage_pct: Count | None = None  # gross exposure in percent of equity
    max_open_orders: Annotated[int, Field(strict=True, ge=1, le=64)] | None = None
    max_open_notional: Money | None = None
    daily_loss: LossLimit | None = None
    drawdown: DrawdownLimit | None = None

    @model_validator(mode="after")
    def _agree(self) -> PortfolioLimits:
        if self.max_net is not None and self.max_gross is not None and self.max_net > self.max_gross:
            raise ValueError(f"max_net ({self.max_net}) is above max_gross ({self.max_gross})")
        if self.capital is None and (self.credit is not None or self.max_leverage_pct is not None):
            raise ValueError("credit and max_leverage_pct need capital")
        return self


class Rate(_Part):
    """A bucket of `count` tokens that fills up over `window_ms`; 20 % are kept for orders that reduce."""

    count: Annotated[int, Field(strict=True, ge=2, le=1_000_000)]
    window_ms: Millis


class Executions(_Part):
    """How often positions may change before the lane is latched."""

    count: Count
    window_ms: Millis
    then: Literal["reducing", "halted"] = "reducing"


class WindowCollar(_Part):
    """Largest distance from every mid of the window."""

    bps: Bps
    window_ms: Millis


class Duplicates(_Part):
    """How many orders of the same content may be sent within the window."""

    count: Annotated[int, Field(strict=True, ge=1, le=RING)]
    window_ms: Millis


class OrderToTrade(_Part):
    """Messages allowed: free_messages + messages_per_execution x executions."""

    messages_per_execution: Count
    free_messages: Count = 1000


class WindowLimits(_Part):
    """Of a time window."""

    submit: Rate | None = None  # new orders
    messages: Rate | None = None  # new orders and cancels
    executions: Executions | None = None
    collar: WindowCollar | None = None
    duplicates: Duplicates | None = None
    order_to_trade: OrderToTrade | None = None

    @model_validator(mode="after")
    def _agree(self) -> WindowLimits:
        if self.submit is not None and self.messages is not None:
            if self.messages.count * self.submit.window_ms < self.submit.count * self.messages.window_ms:
                raise ValueError("messages allow a lower rate than submit, but every order is a message")
        return self


class Limits(_Part):
    """All limits. `instrument` holds for every instrument that has no entry of its own in `instruments`."""

    order: OrderLimits = OrderLimits()
    instrument: InstrumentLimits = InstrumentLimits()
    instruments: dict[Annotated[int, Field(ge=0, lt=MAX_INSTRUMENTS)], InstrumentLimits] = {}
    sectors: dict[Annotated[int, Field(ge=0, le=255)], SectorLimits] = {}
    portfolio: PortfolioLimits = PortfolioLimits()
    window: WindowLimits = WindowLimits()

    @model_validator(mode="after")
    def _agree(self) -> Limits:
        gross, notional, most = self.portfolio.max_gross, self.order.max_notional, self.order.max_quantity
        if gross is not None and notional is not None and notional > gross:
            raise ValueError(f"order.max_notional ({notional}) is above portfolio.max_gross ({gross})")
        for number, sector in self.sectors.items():
            if gross is not None and sector.max_gross > gross:
                raise ValueError(
                    f"sectors.{number}.max_gross ({sector.max_gross}) is above portfolio.max_gross ({gross})"
                )
        for rule in (self.instrument, *self.instruments.values()):
            least = -(-self.order.min_quantity // rule.lot) * rule.lot
            if most is not None and least > most:
                raise ValueError(
                    f"no multiple of lot {rule.lot} lies within order.min_quantity and max_quantity ({most})"
                )
            if rule.max_position is not None and self.order.min_quantity > rule.max_position:
                raise ValueError(f"order.min_quantity is above max_position ({rule.max_position})")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the limits as canonical JSON: what a record of a decision names."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load(source: str | Path | Mapping[str, Any] | Limits) -> Limits:
    """Limits from a YAML file, a mapping, or limits; anything wrong is a `ConfigError` that says where."""
    if isinstance(source, Limits):
        return source
    where = "limits"
    if isinstance(source, (str, Path)):
        where, source = str(source), _read(Path(source))
    if not isinstance(source, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got a {type(source).__name__}")
    try:
        return Limits.model_validate(dict(source))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(where, item) for item in error.errors())) from error


def _read(path: Path) -> Any:
    try:
        return bounded.read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file of limits") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"{path}: cannot be read as a file of limits ({error.strerror})") from error
    except DataError as error:
        raise ConfigError(str(error)) from error


def _sentence(where: str, item: Any) -> str:
    """One pydantic finding as: where, what, expected or nearest, got."""
    place = [str(part) for part in item["loc"]]
    name = f"{where}: {'.'.join(place)}" if place else where
    if item["type"] == "extra_forbidden":
        near = get_close_matches(place[-1], _keys(item["loc"][:-1]), 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(_keys(item['loc'][:-1]))}"
        return f"{name} is unknown; {hint}"
    said = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}: {said}" if item["type"] == "value_error" else f"{name}: {said}, got {item['input']!r}"


def _keys(place: tuple[Any, ...]) -> list[str]:
    """Known keys of the part of the schema at `place`."""
    part: Any = Limits
    for name in place:
        if isinstance(part, type) and issubclass(part, BaseModel) and name in part.model_fields:
            part = part.model_fields[name].annotation
        while not (isinstance(part, type) and issubclass(part, BaseModel)) and get_args(part):
            models = [entry for entry in get_args(part) if isinstance(entry, type) and issubclass(entry, BaseModel)]
            if not models:
                break
            part = models[-1]
    return list(part.model_fields) if isinstance(part, type) and issubclass(part, BaseModel) else []


def _clock_ns(text: str) -> int:
    """ "09:30:00" as nanoseconds after midnight."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"a session time is HH:MM:SS, got {text!r}")
    hours, minutes, seconds = (int(part) for part in parts)
    total = hours * 3600 + minutes * 60 + seconds
    if total > 86_400 or minutes > 59 or seconds > 59:
        raise ValueError(f"a session time is between 00:00:00 and 24:00:00, got {text!r}")
    return total * NS
