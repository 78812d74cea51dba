"""What people set, checked at the door: whole numbers, numbers and words. What is none is a `ConfigError` of one line, which says the
name, what is expected and what was got; nothing behind the door meets NaN, a truth value, a fraction or more than 64 bits."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from emp_gym.types import ConfigError

LARGEST = (1 << 63) - 1
SHOWN = 80  # characters of a value


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST, more: str = "") -> int:
    """`value` as a whole number from `least` to `most`. A float is none, even if it is whole: what a run has on record must read the
    same everywhere. `more` ends the sentence of the error."""
    if is_whole(value):
        if least <= value <= most:
            return int(value)
        if value > most:
            raise ConfigError(f"{name} must be at most {most:,}, got {shown(value)}{more or '; use a smaller one'}")
    if isinstance(value, float) and value.is_integer() and least <= value <= most:
        more = f"; write {int(value)}{more}"
    raise ConfigError(f"{name} must be a whole number from {least:,} to {most:,}, got {shown(value)}{more}")


def number(name: str, value: Any, least: float, most: float, more: str = "") -> float:
    """`value` as a number from `least` to `most`, both finite."""
    given: Any = value
    if isinstance(value, Real) and not isinstance(given, bool) and least <= given <= most:
        return float(given)
    raise ConfigError(f"{name} must be a number from {least:,g} to {most:,g}, got {shown(value)}{more}")


def word(name: str, value: Any, known: Iterable[str]) -> str:
    """`value`, one of `known`."""
    if isinstance(value, str) and value in (words := list(known)):
        return words[words.index(value)]
    raise ConfigError(f"{name} must be one of {list(known)}, got {shown(value)}")


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer, numpy's among them, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """`value` in one short line."""
    if is_whole(value):
        bits = int(value).bit_length()
        return f"{int(value):,}" if bits <= 256 else f"a number of {bits:,} bits"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write numbers of more than 4,300 digits
        text = f"{type(value).__name__} with a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
