"""Reason bits of the 24 checks, in their fixed order, the states of a lane's latch, and how much the risk layer takes."""

from __future__ import annotations

from enum import IntEnum

LOTS_MAX = 1 << 44  # a larger quantity is malformed
MAX_INSTRUMENTS = 16


class Check(IntEnum):
    """Number of a check = its bit in `Verdicts.reason`."""

    KILL = 0
    MALFORMED = 1
    RESTRICTED = 2
    HALT = 3
    STALE = 4
    TICK_LOT = 5
    QUANTITY = 6
    NOTIONAL = 7
    COLLAR = 8
    WINDOW_COLLAR = 9
    FAT_FINGER = 10
    DUPLICATE_ID = 11
    DUPLICATE_CONTENT = 12
    SELF_TRADE = 13
    SUBMIT_RATE = 14
    MESSAGE_RATE = 15
    REPEATED_EXECUTION = 16
    OPEN_ORDERS = 17
    POSITION = 18
    GROSS_NET = 19
    SECTOR = 20
    LEVERAGE_CREDIT = 21
    DAILY_LOSS = 22
    DRAWDOWN = 23


class Latch(IntEnum):
    """What a lane may still send. A latch only tightens until `begin` or `rearm`."""

    NORMAL = 0
    REDUCING = 1  # cancels, and orders that reduce a position, up to flat
    HALTED = 2  # cancels only


class Mode(IntEnum):
    """What becomes of an order that a check objects to."""

    OBSERVE = 0  # it passes; the reason is reported
    PROJECT = 1  # it is cut to what is allowed, 0 lots = dropped
    REJECT = 2  # it is dropped whole


def names(bits: int) -> list[str]:
    """Names of the set reason bits, in their order."""
    return [check.name.lower().replace("_", "-") for check in Check if bits >> check & 1]
