"""The parser of every command: a flag that there is not is an error that names the nearest one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, with a hint at what an unknown flag may have meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        asked = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        super().error("; ".join([message, *filter(None, map(self._hint, asked))]))

    def _hint(self, asked: str) -> str:
        """Which flag the unknown `asked` may have meant: one that it is part of, as ``--steps`` of ``--total-timesteps``, else the most
        alike. Empty for one that is known, or begins one."""
        known = sorted((flag for flag in self._option_string_actions if flag.startswith("--")), key=len)
        name = asked.lstrip("-").replace("_", "-").lower()
        if not name or any(flag.startswith(asked) for flag in known):
            return ""
        likely = [flag for flag in known if len(name) > 2 and flag != "--help" and name in flag]
        near = likely or get_close_matches(f"--{name}", [flag for flag in known if flag != "--help"], 1)
        return f"for {asked}, did you mean {near[0]}?" if near else ""
