"""What the operating system refuses, as a sentence with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room: a disk, a quota or a limit on files."""

NO_ROOM = "No space left on device, or files may not be so large (ulimit -f)"
_SHORT = "make room there, or name a folder on another disk"
_CLOSED = "name a folder that you can write, or change its permissions"
_SHAPE = "a file stands where a folder is needed, or the other way round; move it, or name another place"
REMEDIES = {
    **dict.fromkeys(FULL, _SHORT),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _CLOSED),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY), _SHAPE),
    errno.ENOENT: "look at the spelling; a link may lead nowhere",
    errno.ELOOP: "links lead in a circle; name the folder itself",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "allow this process more open files: ulimit -n",
    errno.ENFILE: "the machine has too many open files; close some",
    errno.ENOMEM: "free some memory, or take fewer lanes or less data at once",
    errno.EIO: "the disk or its connection fails; name a folder on another one",
    errno.ESTALE: "the network disk was mounted anew; try again",
}
"""By error number: what helps."""


def told(error: OSError) -> str:
    """``PATH: what it is; what helps``."""
    where = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    if error.errno is None and full(error):
        return ": ".join(part for part in (where, NO_ROOM) if part) + f"; {_SHORT}"
    if error.errno is None:  # numpy and others tell no number
        return f"{where}: {error}" if where else str(error)
    what = error.strerror or os.strerror(error.errno)
    if error.errno == errno.EEXIST and error.filename is not None and Path(str(error.filename)).is_symlink():
        what, remedy = "a link that leads nowhere", "remove it, or name another place"
    else:
        remedy = REMEDIES.get(error.errno, "")
    return ": ".join(part for part in (where, what) if part) + (f"; {remedy}" if remedy else "")


def full(error: OSError) -> bool:
    """Whether there was no room. numpy tells of it without a number, with what it could not write."""
    return error.errno in FULL or (error.errno is None and "written" in str(error))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, files at or below `path` are written: an error that names no file names `path`, and a full disk says that it is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None and full(error):
            raise OSError(errno.ENOSPC, NO_ROOM, str(path)) from error
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextlib.contextmanager
def unwritten_is_told_later() -> Iterator[Callable[[], None]]:
    """Inside, an `OSError` ends what is done, and is raised by calling what this gives: after what does not depend on it."""
    met: list[OSError] = []

    def later() -> None:
        if met:
            raise met[0]

    try:
        yield later
    except OSError as error:
        met.append(error)
