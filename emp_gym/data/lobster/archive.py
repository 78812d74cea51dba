"""Zips of LOBSTER days, read as if a stranger had made them: within bounds, and whatever is wrong is a `DataError`.

Nothing is unpacked to the disk. The list of members is read up to `MOST_DIRECTORY` bytes, a member in pieces and up to
the size that the list tells, and only if that size is within `MOST_BYTES` and `MOST_RATIO`.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from emp_gym.data.lobster.parser import Bytes
from emp_gym.data.lobster.plain import REGULAR, kind_of, opened
from emp_gym.types import DataError

MOST_DIRECTORY = 1 << 24  # bytes of the list of members: some 200,000 of them
MOST_MEMBERS = 50_000
MOST_BYTES = 1 << 32  # of one file unpacked; a file beside may be larger
MOST_RATIO = 200  # bytes unpacked per byte packed; order books of ten levels have some 30
FREE = 1 << 26  # bytes up to which the ratio does not matter
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1 | 0x40  # bits of a member's flags
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, OSError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip
"""What zipfile raises at damaged archives, the causes in the standard library included."""


class _Stream(io.FileIO):
    """A file of which no more than `most` bytes are read at once: zipfile reads the list of members as a whole."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most:
            raise zipfile.BadZipFile(f"its list of members has {size:,} bytes, {self.most:,} at most are read")
        return super().read(-1 if size is None else size) or b""


def is_archive(path: Path) -> bool:
    """Whether `path` is a regular file that ends as a zip does, damaged or not. A file that cannot be opened is none."""
    if kind_of(path) != REGULAR or not os.access(path, os.R_OK):
        return False
    with opened(path) as stream:
        try:
            return zipfile.is_zipfile(stream)
        except _BROKEN:
            return True


def members(path: Path) -> list[str]:
    """The names of the files in a zip, in order. `DataError` if there is one that no archive of data has."""
    with _archive(path) as archive:
        infos = archive.infolist()
        if len(infos) > MOST_MEMBERS:
            raise DataError(
                f"{path}: the archive has {len(infos):,} members, expected {MOST_MEMBERS:,} at most; unpack it yourself and "
                "give the folder"
            )
        names = [info.filename for info in infos if not info.filename.endswith(("/", "\\"))]
    for name in names:
        _stop_if_outside(path, name)
    for name, times in Counter(names).items():
        if times > 1:
            raise DataError(
                f"{path}: the archive has {times} members called {name!r}, expected one; which one is meant cannot be known: "
                "pack it again with the right one"
            )
    return sorted(names)


def unpacked(path: Path, name: str) -> Bytes:
    """The bytes of the member `name`."""
    with _archive(path) as archive:
        info = archive.getinfo(name)
        _stop_if_unreadable(path, info)
        with archive.open(info) as stream:
            pieces = list(iter(lambda: stream.read(FREE), b""))
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(content) != info.file_size:
        raise DataError(
            f"{path}!{name}: the archive holds {len(content):,} bytes of it, expected {info.file_size:,}; get it again"
        )
    return np.frombuffer(content, np.uint8)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with opened(path, "a zip of LOBSTER days") as plain:
        try:
            with _Stream(os.dup(plain.fileno())) as stream:
                stream.most = MOST_DIRECTORY
                with zipfile.ZipFile(stream) as archive:
                    stream.most = FREE
                    yield archive
        except DataError:
            raise
        except _BROKEN as error:
            told = str(error) or type(error).__name__
            raise DataError(f"{path}: a damaged zip ({told[:200]}); expected a whole one; get it again") from error


def _stop_if_outside(path: Path, name: str) -> None:
    """Refuses names that would leave the folder into which an archive is unpacked."""
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or (len(name) > 1 and name[1] == ":"):
        raise DataError(
            f"{path}: a member is called {name[:200]!r}, expected names below the archive's own folder (no '..', not "
            "absolute); do not unpack it: take the archive from where LOBSTER offers it, or pack the files anew"
        )


def _stop_if_unreadable(path: Path, info: zipfile.ZipInfo) -> None:
    where = f"{path}!{info.filename}"
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{where}: the member is encrypted, expected one without a password; unpack it yourself and give the files")
    if info.compress_type not in _METHODS:
        raise DataError(
            f"{where}: packed by method {info.compress_type}, expected stored or deflated (0 or 8); unpack it yourself and give "
            "the files"
        )
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise DataError(f"{where}: the member is a link or a device, expected a regular file; pack the file itself")
    if info.file_size > MOST_BYTES:
        raise DataError(
            f"{where}: {info.file_size:,} bytes unpacked, expected {MOST_BYTES:,} at most in an archive; unpack it yourself and "
            "give the files, which are not copied into memory"
        )
    if info.file_size > FREE and info.file_size > MOST_RATIO * info.compress_size:
        raise DataError(
            f"{where}: {info.compress_size:,} bytes become {info.file_size:,}, expected at most {MOST_RATIO} times as many; a day "
            "of orders does not pack so well: take the archive from where LOBSTER offers it"
        )
