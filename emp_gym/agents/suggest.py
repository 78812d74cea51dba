"""Errors that name the nearest thing that exists."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The name of `known` most like `wrong`, else all of them: what an error message should suggest."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    found = get_close_matches(wrong.lower(), list(lowered), n=1, cutoff=0.5)
    return lowered[found[0]] if found else " | ".join(names) or "nothing"
