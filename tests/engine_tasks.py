"""Tasks for tests of engines: importable in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from emp_gym.types import ConfigError


def square(x: int) -> int:
    return x * x


def threads(_: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ.get("NUMBA_NUM_THREADS", "")


def wait_and_square(x: float) -> float:
    time.sleep(x)
    return x * x


def fail_at_two(x: int) -> int:
    if x == 2:
        raise ZeroDivisionError("two")
    return x


def refuse_two(x: int) -> int:
    if x == 2:
        raise ConfigError("expected anything but 2")
    return x


def die_at_two(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def cannot_travel(_: int) -> Any:
    return lambda: None


def until_interrupted(folder: str) -> str:
    """Says that it began, and how it ended."""
    Path(folder, "began").touch()
    try:
        for _ in range(1200):
            time.sleep(0.05)
    except KeyboardInterrupt:
        Path(folder, "interrupted").touch()
        raise
    return "to the end"


def until_asked(folder: str) -> str:
    """Comes to an end of its own when it hears SIGINT."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    Path(folder, "began").touch()
    for _ in range(1200):
        if heard:
            break
        time.sleep(0.05)
    signal.signal(signal.SIGINT, before)
    return f"asked {len(heard)} times"
