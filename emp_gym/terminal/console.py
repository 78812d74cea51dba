"""What the commands share: errors as one line, progress on stderr, results on stdout."""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emp_gym import trust
from emp_gym.extras import told
from emp_gym.printable import printable
from emp_gym.terminal import obstacles, streams
from emp_gym.terminal.shell_commands import command, program
from emp_gym.types import EmpGymError

USAGE = 2
"""Exit status of a request that cannot be fulfilled as asked."""


def guarded(story: Callable[[], int], name: str, argv: Sequence[str] | None = None) -> int:
    """Runs `story`; an error of ours, and what the operating system refuses, becomes one line on stderr and status 2.
    Who is asked for ``--trust`` is given the command, which was `argv`, with it.

    Ctrl-C ends it in silence with status 130, where `story` does not hear it itself; a reader of stdout that has gone is no error
    of the command: what it does it does to the end, and the status is 141.
    """
    with streams.settled():
        _begin()
        try:
            status = story()
        except trust.Untrusted as error:
            words = sys.argv[1:] if argv is None else argv
            status = _refuse(name, f"{error}: {command(*program(name.removesuffix('.py')), *words, '--trust')}")
        except EmpGymError as error:
            status = _refuse(name, str(error))
        except ModuleNotFoundError as error:
            missing = told(error)
            if missing is None:
                raise
            status = _refuse(name, str(missing))
        except OSError as error:
            status = _refuse(name, obstacles.told(error))
        except MemoryError as error:
            status = _refuse(name, f"not enough memory: {str(error) or 'the system gives no more'}; ask for less, or for fewer lanes")
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        why = streams.lost()
        if why is None or status:
            return status
        if streams.broken_pipe(why):
            return streams.BROKEN_PIPE
        return _refuse(name, f"standard output: {why.strerror}; what was to be written into files is there")


def trust_argument(parser: argparse.ArgumentParser) -> None:
    """``--trust``, for every command that runs what a file names."""
    parser.add_argument(
        "--trust", action="store_true",
        help="run code that the folder or file names and that is not of emp_gym, and open its pickles: say it only of what you know the "
        "maker of; asked once for what stands there now",
    )  # fmt: skip


def vouched(arguments: argparse.Namespace, story: Callable[[argparse.Namespace], int]) -> int:
    """`story`, with the word of the person who typed `arguments`."""
    with trust.word(arguments.trust):
        return story(arguments)


def _begin() -> None:
    """Log lines are shown, modules of the working folder are found, Ctrl-C is heard."""
    if not logging.root.handlers:
        handler = streams.ToStderr()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logging.root.addHandler(handler)
    logging.getLogger("emp_gym").setLevel(logging.INFO)  # what is made at first use says so
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as `scripts` leave it while modules are imported
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _refuse(name: str, why: str) -> int:
    print(f"{name}: {printable(' '.join(why.split()))}", file=sys.stderr)
    return USAGE


def say(text: str) -> None:
    """A line of progress."""
    print(printable(text, lines=True), file=sys.stderr, flush=True)


def user() -> str:
    """Who runs this; a number where the machine has no name for it, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user; which of the two depends on Python's version
        return "user" if sys.platform == "win32" else f"user {os.getuid()}"


def whole_number(text: str) -> int:
    """For argparse: a number from 1 up, 1e6 as well."""
    value = float(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text}")
    return int(value)


def data_argument(paths: Sequence[str] | None) -> dict[str, Any]:
    """``--data`` as an environment keyword: absolute, so that a run folder can be used from anywhere."""
    if not paths:
        return {}
    found = [str(Path(path).resolve()) if Path(path).exists() else path for path in paths]
    return {"data": found[0] if len(found) == 1 else found}


class ProgressBar:
    """Progress with speed and time left: a bar on a terminal, a line every tenth otherwise.

    `lines`: always lines, where several share a terminal."""

    def __init__(self, total: int, label: str, *, lines: bool = False) -> None:
        self._total, self._label, self._lines = total, label, lines
        self._narrow = False  # too narrow for everything
        self.moved = False  # whether there was anything to show
        self._next = 0.0
        self._seen: list[tuple[float, int]] = []  # seconds and steps of updates
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        if sys.stderr.isatty() and not self._lines:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            console = _careful(sys.stderr)
            self._narrow = console.width < 100
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(),
                TextColumn("{task.fields[note]}"), TimeRemainingColumn(compact=True), console=console, expand=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, note="first rollout")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, steps: int, scalars: Mapping[str, float]) -> None:
        """`scalars` may hold time/fps, rollout/ep_rew_mean and market/pnl."""
        self.moved = True
        self._seen.append((time.monotonic(), steps))
        note = f"{scalars.get('time/fps', 0.0):,.0f} steps/s"
        shown = {"rollout/ep_rew_mean": "return", "market/pnl": "P&L"}
        told = [(name, f"{scalars[tag]:,.1f}") for tag, name in shown.items() if tag in scalars]
        if len(told) == 2 and told[0][1] == told[1][1]:  # one number: the reward is money
            told = [("return = P&L", told[0][1])]
        for name, value in told[:1] if self._narrow else told:
            note += f" · {name} {value}"
        if self._bar is not None:
            self._bar.update(self._task, completed=min(steps, self._total), note=note)
            return
        if steps < self._next * self._total and steps < self._total:
            return
        self._next = steps / self._total + 0.1
        rate = self._lately() or scalars.get("time/fps", 0.0)
        left = max(self._total - steps, 0) / rate if rate else 0.0
        say(f"{self._label} {min(steps / self._total, 1):4.0%}  {steps:>11,} steps  {note}  {duration(left):>6} left")

    def _lately(self) -> float:
        """Steps a second over the later half of the updates: some agents fill a memory at first, many times as fast as they learn."""
        (begun, before), (now, steps) = self._seen[len(self._seen) // 2 - 1], self._seen[-1]
        return (steps - before) / (now - begun) if len(self._seen) > 1 and now > begun else 0.0


def duration(seconds: float) -> str:
    """A time to wait, in the unit that a person would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def console(**options: Any) -> Any:
    """Where results are printed: wide enough for a table when stdout is not a terminal, unless COLUMNS says otherwise."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return _careful(sys.stdout, **options) if known else _careful(sys.stdout, width=160, **options)


def _careful(stream: Any, **options: Any) -> Any:
    """A rich console in which what would act on a terminal is spelled out, whatever text it is given; its colours are its own."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Careful(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else printable(segment.text, lines=True)
                yield segment if text == segment.text else Segment(text, segment.style)

    painted: Any = streams.Painted(stream)
    return Careful(file=painted, force_jupyter=False, **options)  # a notebook shows what a terminal would
