"""The machine on which something was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_model() -> str:
    """As its maker calls it; the architecture where the system does not say."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def described() -> str:
    """``AMD EPYC 7B13, 2 cores``."""
    count = cores()
    return f"{cpu_model()}, {count} core{'s' if count > 1 else ''}"
