"""What the cache folder holds, how large it is, and which of it this version no longer uses. All of it can be made again.

===============  ======================================================================================================
folder           what
===============  ======================================================================================================
``kernels``      compiled kernels, a folder for each version of their sources, numba and processor
``tapes``        recorded days that were read, a folder for each content of their files
``sets``         the embedded synthetic days, and days of several files joined for one ``--data``
``benchmark``    days that benchmarks are measured on
===============  ======================================================================================================
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from emp_gym import bounded
from emp_gym.types import DataError

KINDS = ("kernels", "tapes", "sets", "benchmark")


@dataclass(frozen=True)
class CachedFolder:
    """One folder that was made in one go."""

    kind: str
    path: Path
    size: int  # bytes on disk
    used: bool  # by this version

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.name}"


def entries(home: Path) -> list[CachedFolder]:
    """Everything below `home` that is of a known kind, and belongs to nobody else: links are not followed."""
    from emp_gym.jit import cache_folder

    now = cache_folder()
    found = []
    for kind in KINDS:
        folder = home / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            used = path.name == now.name if kind == "kernels" and now else _current(path)
            found.append(CachedFolder(kind, path, size(path), used))
    return found


def remove(entry: CachedFolder) -> None:
    """Takes the folder away; `OSError` where that is refused."""
    if entry.path.is_dir() and not entry.path.is_symlink():
        shutil.rmtree(entry.path)
    else:
        entry.path.unlink()


def size(path: Path) -> int:
    """Bytes on disk of a file or of all files below a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _current(path: Path) -> bool:
    """Whether `path` is a tape of the format that this version reads. What a process is making has a name that begins with a dot;
    after a day that process has died."""
    from emp_gym.data.tape.format import FORMAT

    if path.name.startswith("."):
        return path.lstat().st_mtime > time.time() - 86_400  # perhaps somebody is at it
    try:
        return bool(bounded.read_object(path / "meta.json")["format"] == FORMAT)
    except (OSError, DataError, KeyError):
        return False
