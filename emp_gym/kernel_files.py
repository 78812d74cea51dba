"""The files in which compiled kernels are kept: numba's, each behind a checksum.

A file that was cut or damaged (a full disk, a killed process, a copy) is then no file at all: its kernel is compiled again. One
that cannot be written costs the next process some seconds, and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

LOGGER = logging.getLogger(__name__)
KEPT = 3
"""Kernels of so many other versions are kept."""
_DIGEST = hashlib.sha256().digest_size
_VERSION = re.compile("[0-9a-f]{16}")


def usable(folder: Path) -> bool:
    """Whether kernels can be kept in `folder`, which is made if it is not there; says so where they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        LOGGER.warning("NUMBA_CACHE_DIR: nothing can be written to %s (%s); kernels go elsewhere", folder, error.strerror)
        return False
    return True


def begin(folder: Path) -> Path:
    """`folder`, marked as used now; where it is a new one, those of older versions beside it go, but for the last few."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for old in outdated(folder) if new else ():
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        LOGGER.info("%s: %s", folder, error.strerror)
    return folder


def outdated(folder: Path, kept: int = KEPT) -> list[Path]:
    """Folders of other versions beside `folder`, but for the `kept` that were used last: several checkouts may take turns."""
    others = [path for path in folder.parent.iterdir() if _VERSION.fullmatch(path.name) and path != folder]
    return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]


def keep(compiled: Any, function: Callable[..., Any], folder: Path | None) -> None:
    """Lets the dispatcher `compiled` of `function` keep its code below `folder`; where that is impossible, in memory only."""
    if folder is None:
        return
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        compiled._cache = KernelCache(function)
    except RuntimeError as error:  # numba finds no place
        _unkept(folder.parent, error)
    finally:
        numba.config.CACHE_DIR = before


class _Files(caching.IndexDataCacheFile):
    """Index and data of one kernel."""

    def _load_index(self) -> dict[Any, str]:
        try:
            found = _whole(Path(self._index_path))
        except OSError:  # not there yet
            return {}
        if found is None or found[:2] != (self._version, self._source_stamp):
            return {}
        return found[2]

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return _whole(Path(self._data_path(name)))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _write(self, path: str, value: Any) -> None:
        body = self._dump(value)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(body).digest() + body)


def _whole(path: Path) -> Any:
    """What a file holds; None for one that is not as it was written."""
    data = path.read_bytes()
    body = data[_DIGEST:]
    if hashlib.sha256(body).digest() != data[:_DIGEST]:
        LOGGER.warning("%s is damaged: its kernel is compiled again", path)
        return None
    return pickle.loads(body)


class _Place(caching.CompileResultCacheImpl):
    _locator_classes = [caching.UserProvidedCacheLocator]  # `folder` of `keep`, and nowhere else: only its name has the hash


class KernelCache(caching.FunctionCache):
    """numba's cache of one function in files with checksums."""

    _impl_class = _Place

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        place = self._impl.locator
        self._cache_file: Any = _Files(place.get_cache_path(), self._impl.filename_base, place.get_source_stamp())

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _unkept(Path(self.cache_path).parent, error)


_told: set[str] = set()


def said(warning: str) -> None:
    """Warns, once."""
    if warning not in _told:
        _told.add(warning)
        LOGGER.warning("%s", warning)


def _unkept(folder: Path, error: Exception) -> None:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    said(f"compiled kernels cannot be kept in {folder} ({why}) and are compiled anew by the next process; "
         "set EMP_GYM_HOME to a folder that can be written")  # fmt: skip
