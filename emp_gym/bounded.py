"""Folders that somebody else may have made: files are read within bounds (regular ones of a stated size, JSON that cannot blow up),
and written in the place of links, never through them.

A named pipe, a device or a circle of links is refused without waiting for it. What is refused is a `DataError` with the path.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from emp_gym.types import DataError

WRITTEN, SMALL, LARGE, HUGE = 1 << 20, 16 << 20, 64 << 20, 8 << 30
"""Bytes at most: of settings that people write (YAML), of settings that programs write, of results, of weights or a run's state."""
DEPTH, VALUES, BITS = 100, 200_000, 4096
"""How deep settings may be nested, how many values they may hold (each alias of a YAML file counted), and bits of a whole number."""
_LEADS_NOWHERE = (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)


def read_bytes(path: Path, most: int = LARGE) -> bytes:
    """What stands in the regular file `path`, at most `most` bytes; `FileNotFoundError` where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if isinstance(error, OSError) and error.errno not in (*_LEADS_NOWHERE, errno.ENXIO):
            raise
        raise DataError(f"{path}: no regular file ({error}); expected a file that can be read; look where its links lead") from error
    try:
        _regular(path, os.fstat(handle), most)
    except DataError:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        try:
            data = file.read(most + 1)
        except OSError as error:  # a file of the system's own, a disk that fails
            raise DataError(f"{path}: it cannot be read ({error.strerror or error})") from error
    if len(data) > most:
        raise DataError(f"{path}: it grows while it is read; expected at most {most:,} bytes")
    return data


def must_be_regular(path: Path, most: int | None = None) -> None:
    """`DataError` where `path` is a pipe, a device, a folder or a circle of links, or has more than `most` bytes."""
    try:
        _regular(path, path.stat(), most)
    except OSError as error:
        if error.errno not in _LEADS_NOWHERE:
            raise
        raise DataError(f"{path}: no regular file ({error.strerror}); look where its links lead") from error


def _regular(path: Path, found: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for name, is_kind in _KINDS.items() if is_kind(found.st_mode)), "something else")
        raise DataError(f"{path}: expected a regular file, got {kind}; remove it")
    if most is not None and found.st_size > most:
        raise DataError(f"{path}: it has {found.st_size:,} bytes, expected at most {most:,}; no file of this kind is that large")


_KINDS = {
    "a folder": stat.S_ISDIR, "a named pipe": stat.S_ISFIFO, "a device": stat.S_ISCHR, "a disk": stat.S_ISBLK,
    "a socket": stat.S_ISSOCK,
}  # fmt: skip


def write(path: Path, data: str | bytes) -> None:
    """Writes `data` (text as UTF-8) aside, then in the place of whatever stands at `path`: what a link leads to is left alone."""
    aside = path.with_name(path.name + ".tmp")
    aside.unlink(missing_ok=True)
    with aside.open("xb") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
    aside.replace(path)


def unlinked(path: Path) -> Path:
    """`path`, where no link and no pipe stands any more: what is written there next is a file of its own."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    return path


def text(path: Path, most: int = LARGE) -> str:
    """The same as UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start:,}: {error.reason})") from error


def loads(source: str, where: object, *, numbers: bool = False) -> Any:
    """The value of a JSON text; `DataError` for what is none, names a key twice or is nested too deep. With `numbers`, NaN is
    refused, too."""

    def constant(name: str) -> float:
        if numbers and name == "NaN":
            raise ValueError("NaN is no setting")
        return float(name)

    try:
        return json.loads(source, object_pairs_hook=_once, parse_constant=constant)
    except RecursionError as error:
        raise DataError(f"{where}: not JSON of ours: it is nested too deep") from error
    except ValueError as error:  # numbers of more than 4,300 digits, too
        raise DataError(f"{where}: not JSON ({' '.join(str(error).split())[:200]})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} stands there twice")
    return found


def read_object(path: Path, most: int = LARGE, *, numbers: bool = False) -> dict[str, Any]:
    """The one JSON object in `path`; `FileNotFoundError` where there is no such file, `DataError` for anything else."""
    value = loads(text(path, most), path, numbers=numbers)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_yaml(path: Path) -> Any:
    """The value of a YAML file within the bounds of settings; `FileNotFoundError` where there is none, `DataError` for anything else."""
    import yaml

    try:
        value = yaml.safe_load(text(path, WRITTEN))
    except RecursionError as error:
        raise DataError(f"{path}: not YAML of ours: it is nested too deep") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from error
    deque(walk(value, path), maxlen=0)
    return value


def walk(tree: Any, where: object) -> Iterator[tuple[str, str, Any]]:
    """(place, key, value) of every value below `tree`, mappings and lists themselves among them; `DataError` where there is no end
    to them. The key of what stands in a list is that of the list."""
    left: list[tuple[int, str, str, Any]] = [(0, "", "", tree)]
    count = 0
    while left:
        depth, place, key, value = left.pop()
        count += 1
        if depth > DEPTH or count > VALUES:
            raise DataError(f"{where}: nested deeper than {DEPTH}, or more than {VALUES:,} values; no settings are like that")
        if type(value) is int and value.bit_length() > BITS:
            raise DataError(f"{where}: {place[:200]} is a number of {value.bit_length():,} bits; expected at most {BITS:,}")
        yield place, key, value
        if isinstance(value, Mapping):
            below = [(f"{place}.{name}" if place else str(name), str(name), each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            below = [(f"{place}[{number}]", key, each) for number, each in enumerate(value)]
        else:
            continue
        left += [(depth + 1, *entry) for entry in reversed(below)]
