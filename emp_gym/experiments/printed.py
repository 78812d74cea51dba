"""Commands that are printed to be pasted: quoted for a shell, and called as this process was."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def command(name: str, *words: object) -> str:
    """``python scripts/train.py --resume 'runs/a b'``, or ``emp-train ...`` where an installed ``emp-...`` command is running."""
    installed = Path(sys.argv[0]).name.startswith("emp-")
    program = [f"emp-{name}"] if installed else ["python", f"scripts/{name}.py"]
    return shlex.join([*program, *map(str, words)])
