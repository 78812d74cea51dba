"""Arrays in files of numpy's own formats, read for what they must be: type, shape and size are known before memory is asked for.

A header is never trusted: it is compared with the type expected, and the shape that it claims with the bytes that are there.
"""

from __future__ import annotations

import ast
import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from emp_gym.types import DataError

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 14  # bytes; those of our records are below 1 KiB
MOST_MEMBERS = 1024  # of an .npz
NOT_READABLE = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError, RuntimeError)
"""What the zip reader raises for damaged archives, foreign compressions and encrypted members."""


class Header(NamedTuple):
    """What an .npy file says of its array."""

    descr: Any  # of its type, as `numpy.lib.format.dtype_to_descr` writes it
    shape: tuple[int, ...]
    size: int  # bytes before the array


def header(stream: IO[bytes], where: str) -> Header:
    """The header at the beginning of `stream`. `DataError` for another form."""
    start = stream.read(len(MAGIC) + 2)
    if start[: len(MAGIC)] != MAGIC or start[len(MAGIC) :] not in (b"\x01\x00", b"\x02\x00"):
        raise DataError(f"{where}: damaged: begins with {start!r}, expected {MAGIC!r} and version 1.0 or 2.0 of the .npy format")
    width = 2 * start[len(MAGIC)]
    length = int.from_bytes(stream.read(width), "little")
    if not 0 < length <= LONGEST_HEADER:
        raise DataError(f"{where}: damaged: a header of {length} bytes, expected 1 to {LONGEST_HEADER}")
    text = stream.read(length)
    try:
        said = ast.literal_eval(text.decode("ascii").strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: damaged: no readable header ({type(error).__name__}), got {text[:60]!r}") from error
    if len(text) != length or not isinstance(said, dict) or set(said) != {"descr", "fortran_order", "shape"}:
        raise DataError(f"{where}: damaged: expected a header of descr, fortran_order and shape, got {text[:60]!r}")
    shape = said["shape"]
    if said["fortran_order"] is not False or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise DataError(f"{where}: damaged: expected a shape, in C order, got {shape!r:.60}, fortran_order {said['fortran_order']!r:.20}")
    return Header(said["descr"], shape, len(start) + width + length)


def checked(told: Header, dtype: np.dtype, shape: tuple[int | None, ...], size: int, where: str) -> None:
    """`DataError` unless `told` is of `dtype`, of `shape` (None: any number) and its file of `size` bytes."""
    expected = np.lib.format.dtype_to_descr(dtype)
    if told.descr != expected:
        raise DataError(f"{where}: damaged: expected the type {expected}, got {told.descr!r:.200}")
    if len(told.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, told.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise DataError(f"{where}: damaged: expected the shape ({wanted}), got {told.shape}")
    whole = told.size + math.prod(told.shape) * dtype.itemsize
    if whole != size:
        raise DataError(f"{where}: damaged: {size} bytes, expected {whole} for shape {told.shape}")


def mapped(path: Path, dtype: np.dtype, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array of an .npy file, memory-mapped and read-only. `DataError` for anything but `dtype` and `shape` (None: any)."""
    if not path.is_file():  # a pipe would wait for ever
        raise DataError(f"{path}: missing, or not a file")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            told = header(stream, str(path))
            checked(told, dtype, shape, size, str(path))
            return np.memmap(stream, dtype, "r", told.size, told.shape).view(np.ndarray)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def loaded(path: Path, dtype: np.dtype, shape: tuple[int | None, ...]) -> np.ndarray:
    """A copy of the array of a small .npy file; `DataError` as `mapped`."""
    return mapped(path, dtype, shape).copy()


def archived(path: Path, largest: Callable[[str], int], total: int) -> dict[str, np.ndarray]:
    """The arrays of bytes (u1, one axis) of an .npz file by name.

    `largest` says of each name how many bytes it may have, -1 for one that is not expected; all together may have `total`. Sizes
    are compared before anything is unpacked. `DataError` for another form.
    """
    found: dict[str, np.ndarray] = {}
    if not path.is_file():
        raise DataError(f"{path}: missing, or not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_MEMBERS:
                raise DataError(f"{path}: {len(members)} members, expected at most {MOST_MEMBERS}")
            if sum(member.file_size for member in members) > total + len(members) * LONGEST_HEADER:
                raise DataError(f"{path}: {sum(member.file_size for member in members)} bytes unpacked, expected at most {total}")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in found or name == member.filename:
                    raise DataError(f"{path}: the member {member.filename!r:.80} is no .npy, or there twice")
                found[name] = _unpacked(archive, member, largest(name), f"{path}: {name}")
    except NOT_READABLE as error:
        raise DataError(f"{path}: no readable archive ({type(error).__name__}: {error})") from error
    return found


def member(path: Path, name: str, most: int) -> np.ndarray:
    """One array of bytes of an .npz file, of at most `most`; the others are not looked at. `DataError` as `archived`."""
    if not path.is_file():
        raise DataError(f"{path}: missing, or not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpacked(archive, archive.getinfo(f"{name}.npy"), most, f"{path}: {name}")
    except KeyError as error:
        raise DataError(f"{path}: expected an array {name!r}, got none") from error
    except NOT_READABLE as error:
        raise DataError(f"{path}: no readable archive ({type(error).__name__}: {error})") from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, where: str) -> np.ndarray:
    if most < 0:
        raise DataError(f"{where[:200]}: an array that is not expected")
    room = most + len(MAGIC) + 2 + 4 + LONGEST_HEADER
    if member.file_size > room:
        raise DataError(f"{where}: {member.file_size} bytes, expected at most {most}")
    with archive.open(member) as stream:
        data = stream.read(room + 1)  # a member may lie about its size
    told = header(io.BytesIO(data), where)
    checked(told, np.dtype(np.uint8), (None,), len(data), where)
    if told.shape[0] > most:
        raise DataError(f"{where}: {told.shape[0]} bytes, expected at most {most}")
    return np.frombuffer(data, np.uint8, told.shape[0], told.size).copy()


def sync(path: Path) -> None:
    """Puts a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
