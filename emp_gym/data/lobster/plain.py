"""Paths as the operating system has them: only regular files are opened, nothing is waited for."""

from __future__ import annotations

import errno
import io
import os
import stat
from os import PathLike
from pathlib import Path

from emp_gym.types import DataError

StrPath = str | PathLike[str]
_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
REGULAR, FOLDER = _KINDS[0][1], _KINDS[1][1]
NOTHING, BROKEN_LINK, CIRCLE = "nothing", "a link to nothing", "a link to itself"


def expanded(path: StrPath) -> Path:
    """The path with ``~`` in it resolved."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: {error}; expected a path; write it out without '~'") from error


def kind_of(path: StrPath) -> str:
    """What is at `path`, links followed: "a regular file", "a folder", "a named pipe", ..., "nothing"."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return BROKEN_LINK if os.path.islink(path) else NOTHING
    except (OSError, ValueError) as error:
        if getattr(error, "errno", 0) == errno.ELOOP:
            return CIRCLE
        raise DataError(
            f"{path}: {_refusal(error)}; expected the path of a file or folder; check it, and that you may read the folders above it"
        ) from error
    return next((words for test, words in _KINDS if test(mode)), "of a kind that is not known")


def stop_unless_regular(path: StrPath, expected: str) -> None:
    """Raises DataError unless `path` leads to a regular file. expected: what it should be, for the message."""
    _stop_at(kind_of(path), path, expected)


def opened(path: StrPath, expected: str = "a file that can be read") -> io.FileIO:
    """The regular file at `path`, open for reading. What comes to its place in the same moment is not waited for either."""
    stop_unless_regular(path, expected)
    try:
        stream = open(path, "rb", buffering=0, opener=_at_once)  # noqa: SIM115  the caller closes it
    except OSError as error:
        raise DataError(f"{path}: {_refusal(error)}; expected {expected}; check its permissions (chmod u+r)") from error
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        _stop_at("no regular file any more", path, expected)
    return stream


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def refuse_folder(error: OSError) -> None:
    """For `os.walk`: a folder that cannot be listed is not passed over."""
    raise DataError(
        f"{error.filename}: {_refusal(error)}; expected a folder that can be listed; check its permissions (chmod u+rx)"
    ) from error


def _stop_at(found: str, path: StrPath, expected: str) -> None:
    if found == REGULAR:
        return
    if found in (NOTHING, BROKEN_LINK):
        raise DataError(f"{path}: no such file ({found}); expected {expected}; check the path")
    raise DataError(f"{path}: this is {found}; expected {expected}; save its content as a regular file first")


def _refusal(error: OSError | ValueError) -> str:
    words = getattr(error, "strerror", None) or str(error)
    return f"the operating system refuses ({words})"
