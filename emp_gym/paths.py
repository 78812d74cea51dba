"""Where the package keeps what it can make again: tapes, embedded days, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: ``EMP_GYM_HOME`` if set, else the platform's user cache."""
    chosen = os.environ.get("EMP_GYM_HOME")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("emp_gym", appauthor=False)
