"""Standard output and error as they are found: any encoding, closed, full, or a pipe that nobody reads any more.

What would act on a terminal is spelled out on its way (`emp_gym.printable`): text comes from files, folders and ledgers of others.
Colours of our own tables are written with `paint`.

What a command has worked out does not depend on whether somebody listens: a stream that fails is dropped, the command goes on to
its end (report, ledger), and its exit status says so.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from emp_gym.printable import printable

PLAIN = "emp_gym.plain"
"""Name of the error handler that writes what an encoding lacks with letters that it has."""

_PLAINER = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "·": ".", "×": "x", "…": "...", "→": "->", "←": "<-", "✓": "v", "✗": "x", "≥": ">=", "≤": "<=",
        "±": "+-", "≈": "~", "µ": "u", "“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "█": "#",
        **dict.fromkeys("│┃╷╵", "|"), **dict.fromkeys("─━═╌", "-"), **dict.fromkeys("┏┓┗┛┡┩┌┐└┘├┤┬┴┼╇╈╋┳┻╪╞╡", "+"),
    }
)  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAINER)
    return "".join(letter if ord(letter) < 128 else "?" for letter in text), error.end


codecs.register_error(PLAIN, _plain)


_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def _shown(text: str) -> str:
    """`text` as it may be written; colours, which warnings of other packages have, are left out."""
    return text if text.isprintable() else printable(_COLOUR.sub("", text), lines=True)


class Output(io.TextIOWrapper):
    """A text stream whose writes never fail: the first error is kept, and what comes after it is dropped."""

    failed: OSError | None = None

    def write(self, text: str, /) -> int:
        self.paint(_shown(text))
        return len(text)

    def paint(self, text: str) -> int:
        """Writes what is ours as it is, control codes too."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """From here on the file descriptor leads nowhere, so that nobody stumbles over what is left in a buffer."""
        self.failed = self.failed or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class SpelledStream:
    """A stream of somebody else (a notebook's, a test's) on which what acts is spelled out."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str, /) -> int:
        self.stream.write(_shown(text))
        return len(text)

    def paint(self, text: str) -> int:
        return int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Painted:
    """Where our own tables are written, colours and all: their text is spelled out before."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str, /) -> int:
        return int(getattr(self.stream, "paint", self.stream.write)(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Inside, standard output and error take any text and never fail; `lost` says whether something was lost."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _settle(before[0], 1), _settle(before[1], 2)
    try:
        yield
    finally:
        for stream, old in zip((sys.stdout, sys.stderr), before, strict=True):
            if isinstance(stream, Output) and stream is not old:
                stream.flush()
                stream.detach()
        sys.stdout, sys.stderr = before


def lost() -> OSError | None:
    """Why standard output could not be written, after all that was printed has been sent; None where it could."""
    sys.stdout.flush()
    return sys.stdout.failed if isinstance(sys.stdout, Output) else None


def broken_pipe(error: OSError) -> bool:
    """Whether the reader has gone: that is no mistake of anybody."""
    return error.errno == errno.EPIPE


BROKEN_PIPE = 128 + 13  # SIGPIPE, which not every system has
"""Exit status of a command whose reader has gone, as shells count it."""


def _settle(stream: Any, number: int) -> Any:
    if isinstance(stream, Output | SpelledStream):
        return stream
    if stream is None:  # closed before this process began
        return _nowhere(number)
    if not isinstance(stream, io.TextIOWrapper):  # a notebook's, or a test's
        return SpelledStream(stream)
    try:
        stream.fileno()
        stream.flush()
    except (OSError, ValueError):
        return SpelledStream(stream)
    return Output(stream.buffer, encoding=stream.encoding, errors=PLAIN, line_buffering=stream.line_buffering or number == 2)


def _nowhere(number: int) -> Output:
    """A stream that drops everything, on the descriptor of the closed one, so that no file of ours gets that number."""
    handle = os.open(os.devnull, os.O_WRONLY)
    if handle != number:
        try:
            os.fstat(number)
        except OSError:
            os.dup2(handle, number)
            os.close(handle)
            handle = number
    return Output(io.FileIO(handle, "w", closefd=False), encoding="utf-8", errors=PLAIN)


class ToStderr(logging.Handler):
    """Log lines to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
