"""The days that a run learned from, as its own record (`trained_on` of ``provenance.json``) says it."""

from __future__ import annotations

from pathlib import Path

from emp_gym.runs.run_folder import RunFolder


def trained_on(folder: Path) -> list[tuple[str, str]]:
    """(symbol, date) of the days that the run in `folder` was trained on, as its ``provenance.json`` says it; empty where it does not."""
    return list(dict.fromkeys((span["symbol"], span["date"]) for span in RunFolder(folder).record.get("trained_on", ())))
