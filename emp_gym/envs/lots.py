"""The largest quantity that the money of a day can hold: cash is an integer of 64 bits, in 1e-8 currency."""

from __future__ import annotations

import numpy as np

from emp_gym.data.tape import TapeSet
from emp_gym.types import ConfigError

ROOM = 4
"""An equity is kept doubled, and no lot beyond the visible book costs more than twice the price at which that book ends."""
USUAL_PRICE = 2_000_000_000
"""Price units, 200,000 dollars in LOBSTER's: quantities that are right at this price are right without a look at the day."""


def stop_if_money_wraps(quantity: int, name: str, tape: TapeSet, days: np.ndarray) -> None:
    """`ConfigError` where `quantity` lots, which are called `name`, could come to more than a day's money holds. `days`: MARKET_DAY."""
    for number, (day, info) in enumerate(zip(days, tape.info, strict=True)):
        if quantity <= most_lots(day, USUAL_PRICE):
            continue
        price = highest_price(tape, number)
        most = most_lots(day, price)
        if quantity > most:
            raise ConfigError(
                f"{name} must be at most {most:,} on {info} (highest ask {price * info.instrument.price_unit:,.2f} "
                f"{info.instrument.currency}), got {quantity:,}: its value would not fit the 64 bits of cash in 1e-8 "
                f"{info.instrument.currency}; use a smaller {name.removeprefix('twice the ')}"
            )


def most_lots(day: np.void, price: int) -> int:
    """Lots whose value and fees at `price` (price units) fit 64 bits with `ROOM`."""
    lot = max(int(day["price_to_cash"]), abs(int(day["maker_numerator"])), abs(int(day["taker_numerator"]))) * max(price, 1)
    lot += max(abs(int(day["maker_per_lot"])), abs(int(day["taker_per_lot"])))
    return int(np.iinfo(np.int64).max) // (ROOM * lot)


def highest_price(tape: TapeSet, number: int) -> int:
    """The highest ask that is visible in a day, or its highest mid price where that is higher; price units."""
    own = tape.day_slice(number)
    asks, mid2 = tape.book[own, 1], tape.rows["mid2"][own]
    ask = int(np.max(asks["price"], where=asks["size"] > 0, initial=np.iinfo(asks["price"].dtype).min))
    return max(int(tape.days[number]["base"]) + ask, (int(mid2.max(initial=0)) + 1) // 2, 0)
