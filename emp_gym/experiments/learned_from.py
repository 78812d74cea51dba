"""The days that a run learned from, as its own record (`trained_on` of ``provenance.json``) says it."""

from __future__ import annotations

from pathlib import Path

from emp_gym.agents.base import read_json
from emp_gym.types import DataError


def trained_on(folder: Path) -> list[tuple[str, str]]:
    """(symbol, date) of the days that the run in `folder` was trained on, as its ``provenance.json`` says it; empty where it does not."""
    path = folder / "provenance.json"
    told = read_json(path).get("trained_on") or [] if path.exists() else []
    try:
        return list(dict.fromkeys((span["symbol"], span["date"]) for span in told))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: an entry of trained_on has no symbol and date ({error}); train the run again") from error
