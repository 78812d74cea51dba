"""Notebooks as pages: their text, code and, where `run_notebooks.py` has run exactly these cells, what they showed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STORED, EXECUTED = HERE / "notebooks", HERE.parent / "build" / "notebooks"
MOVING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor of a terminal
NOT_RUN = "*Without outputs: this page was built without running the notebook (`python docs/run_notebooks.py`).*"


def pages(stored: Path = STORED, executed: Path = EXECUTED) -> dict[str, str | bytes]:
    """File name -> content: a page a notebook, and the pictures on it."""
    made: dict[str, str | bytes] = {}
    for path in sorted(stored.glob("*.ipynb")):
        notebook, ran = read(path), executed / path.name
        shown = read(ran) if ran.exists() and sources(read(ran)) == sources(notebook) else None
        parts: list[str] = []
        for number, cell in enumerate((shown or notebook)["cells"]):
            parts += markdown(cell, f"{path.stem}_{number}", made)
        link = f"[This notebook]({path.name})" + (", run by the build of these pages." if shown else f". {NOT_RUN}")
        made[f"{path.stem}.md"] = "\n\n".join([parts[0], link, *parts[1:]]) + "\n"
    return made


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(notebook: Mapping[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def markdown(cell: Mapping[str, Any], name: str, made: dict[str, str | bytes]) -> Iterator[str]:
    """The parts of a cell; its pictures go into `made` under names that begin with `name`."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for number, output in enumerate(joined(cell.get("outputs", []))):
        data = output.get("data", {})
        if "image/png" in data:
            file = f"{name}_{number}.png"
            made[file] = base64.b64decode(data["image/png"])
            yield f"![What the cell above shows]({file})"
        elif "text/html" in data:
            yield f'<div class="output">{"".join(data["text/html"])}</div>'
        elif text := said("".join(output.get("text", data.get("text/plain", "")))):
            yield f"```text\n{text}\n```"


def joined(outputs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Outputs, with what was printed between two others as one."""
    made: list[Mapping[str, Any]] = []
    for output in outputs:
        text = "".join(output.get("text", ""))
        if made and "text" in made[-1] and "text" in output:
            made[-1] = {"text": made[-1]["text"] + text}
        else:
            made.append({"text": text} if "text" in output else output)
    return made


def said(text: str) -> str:
    """Of what was printed: the last state of each line, without colours."""
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in MOVING.sub("", text).split("\n"))
    return "\n".join(lines).strip("\n")
