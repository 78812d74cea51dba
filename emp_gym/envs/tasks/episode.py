"""Kernels of an episode: what is the same in all of them, what is remembered of one, how it begins and what it came to."""

from __future__ import annotations

import numpy as np

from emp_gym.jit import hot
from emp_gym.market.starts import draw
from emp_gym.types import CASH_UNITS

SETUP = np.dtype(
    [
        ("reward", "i8"),  # `settle.PNL` ...
        ("clip", "i8"),  # lots of one order
        ("max_position", "i8"),  # lots that features count the position in
        ("limit", "i8"),  # lots that the position may have towards a side; of a parent order: its lots
        ("episode", "i8"),  # decisions
        ("parent", "i8"),  # lots of the parent order
        ("max_offset", "i8"),  # ticks
        ("levels", "i8"),  # levels in the observation
        ("sets", "i8"),  # bits of our feature sets in it (`emp_gym.sensory.lob`)
        ("columns", "i8"),  # of the observation that the kernel writes
        ("immediate", "i8"),  # 1 if a cancel that is sent now wins against all that comes
        ("whole", "i8"),  # 1 if an action is masked unless all of its lots fit the limit; else it is cut to what fits
        ("relative", "i8"),  # 1 if actions speak of the parent order's side instead of bid and ask
        ("arrival", "i8"),  # 1 if what is held at the end is valued at the arrival mid
        ("inventory_penalty", "f8"),  # ticks per clip of inventory and decision
        ("damping", "f8"),  # share of inventory gains taken away
    ],
    align=True,
)
"""What is the same in every episode, whatever its day."""

EPISODE = np.dtype(
    [
        ("equity2", "i8"),  # after the last decision
        ("mid2", "i8"),
        ("position", "i8"),
        ("length", "i8"),  # decisions of this episode
        ("arrival2", "i8"),  # twice the mid at the start
        ("parent_side", "i8"),
        ("tick", "i8"),  # at the start: rewards are counted in it, price units
        ("masked", "i8"),  # masked actions executed as "keep"
        ("clipped", "i8"),  # features clipped
        ("steps", "i8"),
        ("return_", "f8"),
    ],
    align=True,
)
"""What is remembered of a lane's episode."""


@hot
def begin(lanes, quotes, episodes, random, stagger, setup):
    """Starts the episodes of `lanes`. Draws the same numbers for every task, so that starts do not depend on it."""
    for i in lanes:
        episode = episodes[i]
        side, length = draw(random, i), draw(random, i)
        episode["parent_side"] = 1 if side & np.uint64(1) else -1
        episode["length"] = setup[0]["episode"]
        if stagger:
            episode["length"] = 1 + np.int64(length % np.uint64(setup[0]["episode"]))
        episode["equity2"], episode["position"], episode["tick"] = 0, 0, quotes[i, 0]["tick"]
        episode["mid2"] = episode["arrival2"] = quotes[i, 0]["mid2"]
        episode["masked"] = episode["clipped"] = episode["steps"] = 0
        episode["return_"] = 0.0


AMOUNTS = ("return", "pnl", "fees", "spread_captured", "mean_abs_inventory")
COUNTS = (
    "length", "filled", "maker_filled", "orders", "orders_filled", "orders_refused", "max_inventory", "beyond_depth",
    "unknown_place", "masked", "clipped", "day", "start",
)  # fmt: skip


@hot
def summarise(lanes, state, quotes, episodes, amounts, counts, setup):
    """Writes what the episodes of `lanes` came to into their columns of amounts [len(AMOUNTS), N] and counts."""
    for i in lanes:
        lane, quote, episode = state[i], quotes[i, 0], episodes[i]
        mark2 = episode["arrival2"] if setup[0]["arrival"] else quote["mid2"]
        cash2 = 2 * lane["cash"] + quote["position"] * mark2 * quote["price_to_cash"]
        amounts[0, i], amounts[1, i] = episode["return_"], cash2 / (2 * CASH_UNITS)
        amounts[2, i] = lane["fees"] / CASH_UNITS
        amounts[3, i] = lane["captured2"] * quote["price_to_cash"] / (2 * CASH_UNITS)
        amounts[4, i] = lane["position_sum"] / max(lane["decision"], 1)
        counts[0, i], counts[1, i], counts[2, i] = episode["steps"], lane["filled"], lane["maker_filled"]
        counts[3, i], counts[4, i], counts[5, i] = lane["sent"], lane["hit"], lane["refused"]
        counts[6, i], counts[7, i], counts[8, i] = lane["max_position"], lane["beyond"], lane["unknown_place"]
        counts[9, i], counts[10, i] = episode["masked"], episode["clipped"]
        counts[11, i], counts[12, i] = lane["day"], lane["start_row"]
