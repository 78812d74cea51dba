"""Signals, as a command wants them: Ctrl-C and SIGTERM ask a run to stop, SIGUSR1 closes the kill switch, however early."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from emp_gym.types import EmpGymError

ASKED = (signal.SIGINT, signal.SIGTERM)


class Stopped(EmpGymError):
    """The command was asked to stop where there is nothing to save, and has. The text says how to go on."""


class Interrupts:
    """Inside ``with``: the first SIGINT or SIGTERM is noted (call the object, or `pause`), the second ends the process at once.

    Only the main thread hears signals; in another one this does nothing.
    """

    def __init__(self, notice: str) -> None:
        """`notice` is what the first signal prints, where there is something to save."""
        self._notice, self._number, self._before = notice, 0, dict[int, Any]()
        self._nothing_to_save = False

    def __call__(self) -> bool:
        """Whether somebody has asked."""
        return self._number != 0

    @property
    def name(self) -> str:
        """Of the signal that came."""
        return signal.Signals(self._number).name if self._number else ""

    @property
    def status(self) -> int:
        """Exit status after the signal that came, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self._number

    def pause(self) -> None:
        """`Stopped` if somebody has asked: for places where there is nothing to save."""
        if self._number:
            raise Stopped(f"stopped by {self.name}")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A stretch of work that may be broken off anywhere, by `Stopped`."""
        self.pause()
        self._nothing_to_save = True
        try:
            yield
        except KeyboardInterrupt:
            self.pause()
            raise
        finally:
            self._nothing_to_save = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._number = number
        with contextlib.suppress(OSError):  # nobody may be listening any more
            os.write(2, f"\n{self.name}: {'stopping' if self._nothing_to_save else self._notice}\n".encode())
        if self._nothing_to_save:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in ASKED}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def early_kill() -> Callable[[Any], None]:
    """From here on SIGUSR1 is remembered instead of ending the process. Call what this gives with the `KillSwitch` as soon as it is
    there: the switch then listens itself, and closes if a signal has come before."""
    came: list[int] = []
    main = sys.platform != "win32" and threading.current_thread() is threading.main_thread()
    if main:
        signal.signal(signal.SIGUSR1, lambda number, _frame: came.append(number))

    def hand_over(switch: Any) -> None:
        if main:
            switch.listen()
            if came:
                signal.raise_signal(signal.SIGUSR1)

    return hand_over
