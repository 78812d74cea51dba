"""What every test may ask for: the project's root, and recorded days when the machine has some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Test modules load torch before the package does, which would ask for the same (agents/registry.py): idle OpenMP threads
# sleep. Spinning ones, beside another worker of the tests, have made a test of seconds last minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent.parent

# Found cases repeat: the same examples every time, and no deadline (the first call of a kernel compiles it).
settings.register_profile("emp", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("emp")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def lobster_dir() -> Path:
    """Folder of recorded LOBSTER days (``EMP_LOBSTER_DIR``); the test is skipped where there is none."""
    folder = Path(os.environ.get("EMP_LOBSTER_DIR", ROOT.parent / "shared" / "data" / "lobster"))
    if not folder.is_dir():
        pytest.skip(f"no recorded days: {folder} does not exist (set EMP_LOBSTER_DIR)")
    return folder
