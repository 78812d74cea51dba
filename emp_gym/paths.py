"""Where the package keeps what it can make again: tapes, embedded days, compiled kernels.

That is ``EMP_GYM_HOME`` if it is set, else the platform's user cache. Where that folder cannot be written (a container, cron, a
read-only disk, another user's home) a temporary one takes its place until the process ends, and one line says so. What the
unwritable folder holds already is used from there.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import threading
from functools import lru_cache
from pathlib import Path

LOGGER = logging.getLogger(__name__)
SHARED = "EMP_GYM_TEMPORARY_HOME"
"""Environment variable in which a process tells those that it starts which temporary folder it has made."""

_once = threading.Lock()


class NoPlace(OSError):
    """Neither the cache folder nor a temporary one can be written."""


def home() -> Path:
    """The cache folder, which exists and can be written; raises `NoPlace` where there is none."""
    names = ("EMP_GYM_HOME", "XDG_CACHE_HOME", "HOME")
    with _once:
        return _settled(*(os.environ.get(name) for name in names))


def wanted() -> Path | None:
    """The folder that is asked for, whether it is there or not; None where the user has no home."""
    chosen = os.environ.get("EMP_GYM_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        from platformdirs import user_cache_path

        found = user_cache_path("emp_gym", appauthor=False)
    except RuntimeError:  # nobody knows where "~" is
        return None
    return found if found.is_absolute() else None  # some versions of platformdirs leave "~" as it is then


def obstacle(folder: Path) -> str:
    """Why nothing can be kept in `folder`, which is made if it is not there; empty where it can."""
    place = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))):
            tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        return f"{place}: {error.strerror}"
    return ""


@lru_cache(maxsize=8)
def _settled(chosen: str | None, _cache: str | None, _home: str | None) -> Path:
    """`home` for one setting of the environment variables."""
    folder = wanted()
    if folder is None:
        why = "this user has no home folder"
    elif not chosen and not _own(folder):
        why = f"{folder} belongs to another user"
    else:
        why = obstacle(folder)
        if not why:
            return folder
    shared = os.environ.get(SHARED)
    if shared and Path(shared).is_dir() and _own(Path(shared)) and not obstacle(Path(shared)):
        return Path(shared)
    try:
        temporary = Path(tempfile.mkdtemp(prefix="emp_gym-home-"))
    except OSError as error:
        both = f"no cache folder ({why}) and no temporary one ({error.strerror})"
        raise NoPlace(error.errno, f"{both}: set EMP_GYM_HOME to a folder that can be written") from error
    atexit.register(_remove, temporary, os.getpid())
    os.environ[SHARED] = str(temporary)
    if folder is not None and (chosen or _own(folder)):
        _link(folder, temporary)
    LOGGER.warning(
        "no cache folder (%s): kernels and tapes are kept in %s until this process ends; set EMP_GYM_HOME to a folder that can be written",
        why, temporary,
    )  # fmt: skip
    return temporary


def _own(folder: Path) -> bool:
    """Whether `folder`, or the nearest folder above it that exists, is this user's: what others wrote there would be run."""
    for place in (folder, *folder.parents):
        try:
            return not hasattr(os, "geteuid") or place.stat().st_uid == os.geteuid()
        except OSError:  # not there, or hidden
            continue
    return False


def _link(folder: Path, temporary: Path) -> None:
    """Lets `temporary` show what `folder` holds: its files, and those of the folders of compiled kernels, one by one, so that new
    ones can be put beside them; all other folders (tapes) as they are."""
    try:
        kinds = [path for path in folder.iterdir() if path.is_dir() and os.access(path, os.R_OK | os.X_OK)]
        for kind in kinds:
            deep = kind.name == "kernels"
            found = (path for path in kind.rglob("*") if path.is_file()) if deep else kind.iterdir()
            for path in found:
                link = temporary / path.relative_to(folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    except OSError as error:
        LOGGER.info("%s is not used: %s", error.filename, error.strerror)


def _remove(folder: Path, process: int) -> None:
    """At the end of the process that made it; a forked child leaves it alone."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
