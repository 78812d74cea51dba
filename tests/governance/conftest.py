"""A ledger to play with, and where results of long runs are kept."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from governance.ledgers import Desk


@pytest.fixture
def evidence(root: Path) -> Callable[..., None]:
    """Adds a result to the JSON file that ``EMP_EVIDENCE`` names; does nothing without it. Use with ``pytest -n 0``."""

    def keep(name: str, **result: Any) -> None:
        if "EMP_EVIDENCE" not in os.environ:
            return
        path = Path(os.environ["EMP_EVIDENCE"])
        kept = json.loads(path.read_text()) if path.exists() else {}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
        kept[name] = {**result, "commit": commit}
        path.write_text(json.dumps(kept, indent=1) + "\n")

    return keep


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A ledger with two people, alice and bob."""
    return Desk(tmp_path)
