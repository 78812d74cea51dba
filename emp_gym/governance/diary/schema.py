"""What the entries of a diary must say before they are taken for a run: whoever has a key can sign others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from emp_gym import bounded
from emp_gym.governance.diary.blocks import UNKNOWN_REGIME, Block
from emp_gym.types import DataError, Regime

Shape = Mapping[str, Callable[[Any], bool]]
LANES, LEVERS = 1 << 20, 1 << 10  # at most
LATCHES = 3  # of `diary_words.LATCHES`
_UNIT = re.compile(r"\d{1,12}(\.\d{1,18})?([eE][-+]?\d\d?)?")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _up_to(most: int, least: int = 0) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _units(value: Any) -> bool:
    return _texts(value) and all(_UNIT.fullmatch(unit) for unit in value)


def _gates(value: Any) -> bool:
    return isinstance(value, list) and all(_has(gate, GATE) for gate in value)


def _data(value: Any) -> bool:
    return _has(value, DATA) and len(value.get("price_units", value["days"])) == len(value["days"])


def _object(value: Any) -> bool:
    """Whether a text is that of one JSON object."""
    try:
        return isinstance(value, str) and isinstance(bounded.loads(value, ""), dict)
    except DataError:
        return False


GATE: Shape = {"name": _text, "made_by": _text, "reasons": _texts}
DATA: Shape = {"hash": _text, "days": _texts, "given": lambda value: value is None or _text(value), "price_units?": _units}
_COUNT = _up_to((1 << 63) - 1)
RUN: Shape = {
    "env": _text, "face": _text, "kwargs": _object, "gates": _gates, "task": _text, "menu": _texts, "data": _data,
    "price_unit?": lambda value: _units([str(value)]), "lanes": _up_to(LANES, 1), "levers": _up_to(LEVERS),
    "lever_names?": _texts, "durable": lambda value: isinstance(value, bool),
}  # fmt: skip
RESET: Shape = {"step": _COUNT, "seed": lambda value: True, "options": _object}
POLICY: Shape = {"step": _COUNT, "id": _text, "hash": _text}
END: Shape = {"steps": _COUNT, "decisions": _COUNT}


def misfit(value: Any, shape: Shape) -> str:
    """The first name of `shape` that `value` does not have as it should be; empty where it is whole. "name?" may be absent."""
    if not isinstance(value, Mapping):
        return "a mapping"
    for name, fits in shape.items():
        own = name.removesuffix("?")
        if (own in value or own == name) and not (own in value and fits(value[own])):
            return own
    return ""


def stranger(block: Block, about: Mapping[str, Any]) -> str:
    """What of a block's decisions the run that `about` describes cannot hold; empty where they are its own."""
    days, gates, menu, levers = len(about["data"]["days"]), len(about["gates"]), len(about["menu"]), about["levers"]
    columns = {
        "lane": (block.decisions["lane"], 0, block.lanes), "day": (block.decisions["day"], 0, days),
        "regime": (block.decisions["regime"], UNKNOWN_REGIME, len(Regime)), "latch": (block.decisions["latch"], 0, LATCHES),
        "gate": (block.objections["gate"], 0, gates),
    }  # fmt: skip
    if block.lanes != about["lanes"]:
        return f"{block.lanes} lanes, expected {about['lanes']}"
    if levers:
        if block.actions.shape != (len(block.decisions), levers) or block.actions.dtype.kind != "f":
            return f"actions of type {block.actions.dtype} and shape {block.actions.shape}, expected {levers} levers"
    elif block.actions.ndim != 1 or block.actions.dtype.kind not in "iu":
        return f"actions of type {block.actions.dtype} and shape {block.actions.shape}, expected numbers of a menu"
    else:
        columns["action"] = (block.actions, 0, menu)
    for name, (values, low, end) in columns.items():
        if len(values) and not low <= int(values.min()) <= int(values.max()) < end:
            return f"{name} {int(values.min())} to {int(values.max())}, expected {low} to {end - 1}"
    return ""


def _has(value: Any, shape: Shape) -> bool:
    return not misfit(value, shape)
