"""Limits as the checks read them: integers in lots, nanoseconds and amounts (price units x lots), OFF where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from emp_gym.risk.reasons import LOTS_MAX, MAX_INSTRUMENTS
from emp_gym.types import CASH_UNITS, ConfigError

if TYPE_CHECKING:
    from emp_gym.risk.limits import Limits, LossLimit

OFF = -1
PRICE_MAX = 1 << 44  # price units; a larger price is malformed
AMOUNT_MAX = 1 << 56  # price units x lots; a larger amount counts as not known
TIME_MAX = 1 << 60  # ns
MAX_SLOTS = 64  # open orders, and entries of one decision, a lane
SHARE = 8, 10  # of the tokens that orders which do not reduce may use

RULES = np.dtype(
    [
        (name, "i8")
        for name in (
            "price_to_cash", "min_quantity", "max_quantity", "max_notional", "collar_bps", "self_trade",
            "capital2", "credit", "max_gross", "max_net", "leverage_pct", "max_open", "max_open_amount",
            "loss_soft2", "loss_hard2", "fall_soft2", "fall_hard2", "scaled",
            "submit_cost", "submit_full", "submit_share", "message_cost", "message_full", "message_share",
            "execution_cost", "execution_full", "execution_latch",
            "window_bps", "window_ns", "same", "same_ns", "ratio", "free",
        )
    ],
    align=True,
)  # fmt: skip
"""Of the order, the portfolio and time windows."""

INSTRUMENT_RULES = np.dtype(
    [
        (name, "i8")
        for name in (
            "lot", "restricted", "open_ns", "close_ns", "max_age_ns", "largest", "top_multiple", "max_position", "sector",
        )
    ],
    align=True,
)  # fmt: skip
"""Of one instrument; `largest` is the fat-finger bound from the average daily volume, in lots."""


@dataclass(frozen=True)
class Rules:
    """Limits bound to M instruments and a price unit."""

    portfolio: np.ndarray  # RULES [1]
    instruments: np.ndarray  # INSTRUMENT_RULES [M]
    sectors: np.ndarray  # i8 [S] largest gross amount, OFF where there is none


def bind(limits: Limits, instruments: int, price_to_cash: int) -> Rules:
    """`limits` for `instruments` instruments whose price unit is worth `price_to_cash` cash units a lot."""
    if not 1 <= instruments <= MAX_INSTRUMENTS:
        raise ConfigError(f"the risk layer takes 1 to {MAX_INSTRUMENTS} instruments, the view has {instruments}")
    unknown = [number for number in limits.instruments if number >= instruments]
    if unknown:
        raise ConfigError(f"limits.instruments: {unknown} are not in this market, which has 0 to {instruments - 1}")
    own = [limits.instruments.get(m, limits.instrument) for m in range(instruments)]
    sectors = np.full(1 + max([*limits.sectors, *(rule.sector for rule in own)]), OFF, np.int64)
    for number, sector in limits.sectors.items():
        sectors[number] = _amount(sector.max_gross, price_to_cash)
    table = np.zeros(instruments, INSTRUMENT_RULES)
    for row, rule in zip(table, own):
        row["lot"], row["restricted"], row["sector"] = rule.lot, rule.restricted, rule.sector
        row["open_ns"], row["close_ns"] = rule.session_ns or (OFF, OFF)
        row["max_age_ns"] = OFF if rule.max_quote_age_ms is None else rule.max_quote_age_ms * 1_000_000
        row["largest"] = OFF if rule.adv_lots is None else rule.adv_lots * rule.max_adv_bps // 10_000
        row["top_multiple"] = _or_off(rule.max_top_multiple)
        row["max_position"] = _or_off(rule.max_position)
    return Rules(_portfolio(limits, price_to_cash), table, sectors)


def _portfolio(limits: Limits, price_to_cash: int) -> np.ndarray:
    order, portfolio, window = limits.order, limits.portfolio, limits.window
    rules = np.zeros(1, RULES)
    values = {
        "price_to_cash": price_to_cash,
        "min_quantity": order.min_quantity,
        "max_quantity": LOTS_MAX if order.max_quantity is None else order.max_quantity,
        "max_notional": _amount(order.max_notional, price_to_cash),
        "collar_bps": _or_off(order.collar_bps),
        "self_trade": int(order.self_trade == "cancel-new"),
        "capital2": 0 if portfolio.capital is None else 2 * _amount(portfolio.capital, price_to_cash),
        "credit": _amount(portfolio.credit, price_to_cash),
        "max_gross": _amount(portfolio.max_gross, price_to_cash),
        "max_net": _amount(portfolio.max_net, price_to_cash),
        "leverage_pct": _or_off(portfolio.max_leverage_pct),
        "max_open": _or_off(portfolio.max_open_orders),
        "max_open_amount": _amount(portfolio.max_open_notional, price_to_cash),
        "scaled": int(portfolio.drawdown is not None and portfolio.drawdown.scaled),
    }
    values |= _losses("loss", portfolio.daily_loss, price_to_cash) | _losses("fall", portfolio.drawdown, price_to_cash)
    for name, rate in (("submit", window.submit), ("message", window.messages), ("execution", window.executions)):
        cost = OFF if rate is None else -(-rate.window_ms * 1_000_000 // rate.count)
        values |= {f"{name}_cost": cost, f"{name}_full": 0 if rate is None else cost * rate.count}
        if name != "execution":
            values[f"{name}_share"] = 0 if rate is None else cost * (rate.count * SHARE[0] // SHARE[1])
    values["execution_latch"] = 2 if window.executions is not None and window.executions.then == "halted" else 1
    values["window_bps"] = OFF if window.collar is None else window.collar.bps
    values["window_ns"] = 0 if window.collar is None else window.collar.window_ms * 1_000_000
    values["same"] = OFF if window.duplicates is None else window.duplicates.count
    values["same_ns"] = 0 if window.duplicates is None else window.duplicates.window_ms * 1_000_000
    values["ratio"] = OFF if window.order_to_trade is None else window.order_to_trade.messages_per_execution
    values["free"] = 0 if window.order_to_trade is None else window.order_to_trade.free_messages
    for name in RULES.names or ():
        rules[name] = values[name]
    return rules


def _or_off(value: int | None) -> int:
    return OFF if value is None else value


def _amount(money: Decimal | None, price_to_cash: int) -> int:
    """Currency as an amount, rounded down."""
    if money is None:
        return OFF
    amount = int(money * CASH_UNITS) // price_to_cash
    if amount > AMOUNT_MAX:
        most = Decimal(AMOUNT_MAX * price_to_cash) / CASH_UNITS
        raise ConfigError(f"a money limit must be at most {most:,.0f} in this price unit, got {money}; leave it out")
    return amount


def _losses(name: str, limit: LossLimit | None, price_to_cash: int) -> dict[str, int]:
    soft = OFF if limit is None or limit.soft is None else 2 * _amount(limit.soft, price_to_cash)
    hard = OFF if limit is None or limit.hard is None else 2 * _amount(limit.hard, price_to_cash)
    return {f"{name}_soft2": soft, f"{name}_hard2": hard}
