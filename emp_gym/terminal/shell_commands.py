"""Commands that are printed to be pasted: quoted for a shell, and called as this process was."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def command(*words: object) -> str:
    """A command line to be copied: words with spaces or quotes in them are quoted."""
    return " ".join(shlex.quote(str(word)) for word in words)


def program(name: str) -> tuple[str, ...]:
    """How the command called `name` is begun by somebody who began this one as he did."""
    begun = Path(sys.argv[0])
    if begun.name.startswith("emp-"):
        return (f"emp-{name}",)
    scripts = begun.parent if begun.parent.name == "scripts" and begun.suffix == ".py" else Path("scripts")
    return "python", str(scripts / f"{name}.py")
