"""Bounds of a state of lanes that comes from a file, its market's arrays apart (`emp_gym.market.base.Market.checked`): nothing is a
number or an enum that the lanes could not have reached. `DataError` names array, lane, field, expected and got.
"""

from __future__ import annotations

import numpy as np

from emp_gym.data.array_bounds import MOST, Arrays, Bounds
from emp_gym.types import RequestType

LOTS = 1 << 40  # of one order, and of a queue


def check(saved: Arrays, of_market: Arrays | None, states: int, where: str) -> None:
    """`DataError` where `saved`, arrays as `VectorFace.kept` gives, cannot be a state of lanes. `of_market`: what their market has
    checked; None: they are those of a certificate, with so many `states` where it is finite."""
    bounds = Bounds(where)
    for name, array in saved.items():
        bounds.plain(name, array)
    if "elapsed" in saved:
        bounds.within("elapsed", saved["elapsed"], 0, MOST)
    if of_market is None:
        _certificate(bounds, states, saved["state"])
        return
    _episodes(bounds, saved, of_market["public.quote"]["tick"][:, 0] != 0)  # a lane that no reset has begun holds zeros
    requests, asked = saved["records"], saved["kind"] != RequestType.NONE
    bounds.within("kind", saved["kind"], 0, max(RequestType))
    bounds.within("records.side", requests["side"], -1, 1, asked)
    bounds.within("records.instrument", requests["instrument"], 0, 0, asked)


def _episodes(bounds: Bounds, saved: Arrays, begun: np.ndarray) -> None:
    episodes = saved["episodes"]
    bounds.within("episodes.length", episodes["length"], 1, LOTS, begun)
    bounds.equal("length", saved["length"], episodes["length"])
    bounds.within("episodes.parent_side", np.abs(episodes["parent_side"]), 1, 1, begun)
    bounds.within("episodes.tick", episodes["tick"], 1, MOST, begun)
    for name in ("masked", "clipped", "steps"):
        bounds.within(f"episodes.{name}", episodes[name], 0, MOST)
    for name in ("equity2", "mid2", "position", "arrival2"):
        bounds.within(f"episodes.{name}", episodes[name], -MOST, MOST)
    bounds.within("episodes.return_", episodes["return_"], -np.finfo(np.float64).max, np.finfo(np.float64).max)


def _certificate(bounds: Bounds, states: int, state: np.ndarray) -> None:
    """Of lanes without a market: numbers, and the number of a finite problem's state."""
    for name in state.dtype.names or ():
        if state.dtype[name].kind == "f":
            bounds.within(f"state.{name}", state[name], -np.finfo(np.float64).max, np.finfo(np.float64).max)
        elif name != "key":
            bounds.within(f"state.{name}", state[name], 0, MOST)
    if states:
        whole = np.where(state["x"] == np.floor(state["x"]), state["x"], -1.0)
        bounds.within("state.x", whole, 0, states - 1)
