"""Runs the notebooks of `docs/notebooks/`, each in an empty folder, and leaves them with what they showed in `build/notebooks/`, where the
documentation's build finds it: ``python docs/run_notebooks.py [NAME ...]``. Exit status 1: a cell failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "docs" / "notebooks"
EXECUTED = ROOT / "build" / "notebooks"


def execute(path: Path, out: Path) -> float:
    """Processor seconds that the notebook at `path` took. It is written below `out` with its outputs, also when a cell fails, which
    raises `CellExecutionError`."""
    notebook = nbformat.read(path, as_version=4)
    out.mkdir(parents=True, exist_ok=True)
    before = os.times()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute(env={**os.environ, "COLUMNS": "110"})
        finally:
            nbformat.write(notebook, out / path.name)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks and keep what they show for the documentation.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="e.g. first_run (default: all)")
    parser.add_argument(
        "--out", type=Path, default=EXECUTED, metavar="DIR", help="where they go (default: build/notebooks)"
    )
    a = parser.parse_args()
    for path in [STORED / f"{name}.ipynb" for name in a.names] or sorted(STORED.glob("*.ipynb")):
        began = time.perf_counter()
        try:
            spent = execute(path, a.out)
        except CellExecutionError as error:
            print(f"{path.stem}: a cell failed\n{error}", file=sys.stderr)
            return 1
        print(f"{path.stem}: {spent:.0f} s of processor time, {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
