"""The largest quantity that an account can hold: cash is an integer of 64 bits, in 1e-8 currency."""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.types import ConfigError

MOST_CASH = 1 << 60
"""Cash units that an account may owe or own when it is looked at. Before the next look it may grow by as much again, and equity is kept
doubled."""
TRADES = 20
"""Times the largest quantity at the highest visible price: what one decision trades at the most. Ten orders, and no lot beyond the visible
book costs more than twice the price at which that book ends."""
RISE, LEAST = 100, 1_000_000
"""Times the first price of a day, and price units that it is taken for at the least: quantities that are right at this price are right
without a look at the whole day."""


def stop_if_money_wraps(quantity: int, name: str, tape: TapeSet, days: np.ndarray) -> int:
    """As `emp_gym.market.base.Market.check_quantity` says, of recorded days. `days`: RULES."""
    most = MOST_CASH
    for number, (day, info) in enumerate(zip(days, tape.info, strict=True)):
        first = int(tape.rows["mid2"][tape.day_slice(number).start]) // 2
        of_day = most_lots(day, max(RISE * first, LEAST)) if first else 0
        if quantity > of_day:
            price = highest_price(tape, number)
            of_day = most_lots(day, price)
        if quantity > of_day:
            dear = f"{info} (highest ask {price * info.instrument.price_unit:,.2f} {info.instrument.currency})"
            raise too_many(quantity, name, of_day, dear, info.instrument.currency)
        most = min(most, of_day)
    return most // max(quantity, 1)


def too_many(quantity: int, name: str, most: int, where: str, currency: str) -> ConfigError:
    """What is said of a quantity of more than `most` lots."""
    return ConfigError(
        f"{name} must be at most {most:,} on {where}, got {quantity:,}: its value would not fit the 64 bits of cash in 1e-8 "
        f"{currency}; use a smaller {name.removeprefix('twice the ')}"
    )


def stop_if_money_ran_out(cash: np.ndarray, name: str) -> None:
    """`ConfigError` where an account of `cash` [N] (1e-8 currency) comes near the end of its 64 bits."""
    lane = int(np.argmax(np.abs(cash)))
    if abs(int(cash[lane])) > MOST_CASH:
        raise ConfigError(
            f"lane {lane}: 64 bits hold cash of {MOST_CASH / 1e8:,.0f} of the day's currency, got {int(cash[lane]) / 1e8:,.0f}: the "
            f"episode cannot go on; use a smaller {name.removeprefix('twice the ')}"
        )


def most_lots(rules: np.void, price: int) -> int:
    """Lots of which `TRADES` times the value and fees at `price` (price units) fit `MOST_CASH`."""
    lot = max(int(rules["price_to_cash"]), abs(int(rules["maker_numerator"])), abs(int(rules["taker_numerator"]))) * max(price, 1)
    lot += max(abs(int(rules["maker_per_lot"])), abs(int(rules["taker_per_lot"])))
    return MOST_CASH // (TRADES * lot)


def highest_price(tape: TapeSet, number: int) -> int:
    """The highest ask that is visible in a day, or its highest mid price where that is higher; price units."""
    own = tape.day_slice(number)
    asks, mid2 = tape.book[own, 1], tape.rows["mid2"][own]
    ask = int(np.max(asks["price"], where=asks["size"] > 0, initial=np.iinfo(asks["price"].dtype).min))
    return max(int(tape.days[number]["base"]) + ask, (int(mid2.max(initial=0)) + 1) // 2, 0)
