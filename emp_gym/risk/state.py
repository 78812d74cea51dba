"""What the risk layer remembers of each lane; limits are elsewhere (`rules.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RING = 16  # orders sent that the duplicate check remembers, a lane
MISSING = -(1 << 62)  # a time or an amount that is not known
FULL_SCALE = 10_000  # a position limit's scale of 1, in basis points

LANE_STATE = np.dtype(
    [
        ("begun", "i8"),  # 0 until the lane was seen
        ("killed", "i8"),  # kill latch: survives episodes, released by `rearm` only
        ("latch", "i8"),  # Latch
        ("latch_bits", "u8"),  # checks that set it
        # money, in amounts (price units x lots), doubled so that mids are whole; MISSING = not known
        ("cash2", "i8"),
        ("equity2", "i8"),
        ("start2", "i8"),  # equity at the start of the day
        ("peak2", "i8"),
        ("overshoot2", "i8"),  # how far beyond the limit the loss was when the latch closed
        ("day", "i8"),
        ("budget_bps", "i8"),  # of the position limits, what the drawdown leaves
        # leaky buckets in ns: what is in them runs out with time, each message pours its cost
        ("time_ns", "i8"),  # when they were last emptied
        ("submitted_ns", "i8"),
        ("messaged_ns", "i8"),
        ("executed_ns", "i8"),
        # counters of the episode
        ("messages", "i8"),  # sent, cancels included
        ("executions", "i8"),  # decisions after which a position had changed
        ("highest_id", "i8"),  # of the orders sent
        ("sent", "i8"),  # orders let through
        ("touched", "i8"),  # orders cut or dropped
    ],
    align=True,
)

INSTRUMENT_STATE = np.dtype(
    [
        ("position", "i8"),  # when last seen
        ("quote_ns", "i8"),  # when a two-sided top of the book last changed, MISSING = never
        ("bid", "i8"),
        ("ask", "i8"),
        ("bid_size", "i8"),
        ("ask_size", "i8"),
        # lowest and highest mid2 of the window under way and of the one before
        ("window_ns", "i8"),  # start of the window under way, MISSING = none
        ("low2", "i8"),
        ("high2", "i8"),
        ("low2_before", "i8"),
        ("high2_before", "i8"),
        ("scale_bps", "i8"),  # of the position limit, from sizing; survives episodes
    ],
    align=True,
)

SENT = np.dtype([("time_ns", "i8"), ("price", "i8"), ("quantity", "i8"), ("code", "i8")], align=True)
"""One order of the duplicate ring; code = kind, side and instrument in one number, 0 = empty."""


@dataclass
class RiskState:
    """All that changes in the risk layer, for N lanes and M instruments."""

    lane: np.ndarray  # LANE_STATE [N]
    instrument: np.ndarray  # INSTRUMENT_STATE [N, M]
    ring: np.ndarray  # SENT [N, RING]

    @classmethod
    def empty(cls, lanes: int, instruments: int) -> RiskState:
        """Of lanes that nothing has been seen of yet."""
        state = cls(
            np.zeros(lanes, LANE_STATE),
            np.zeros((lanes, instruments), INSTRUMENT_STATE),
            np.zeros((lanes, RING), SENT),
        )
        state.instrument["scale_bps"] = FULL_SCALE
        return state

    def copy(self) -> RiskState:
        return RiskState(self.lane.copy(), self.instrument.copy(), self.ring.copy())
