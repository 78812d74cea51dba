"""From what a user names (files, folders, zips, tapes, nothing) to a `TapeSet`, through a cache keyed by content.

Days are in order of date, whatever the order in which they were named, and each is there once (`emp_gym.data.duplicates`).
Whatever is made is written aside and renamed, so processes that race for one tape both end with a whole one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from emp_gym import bounded
from emp_gym.data.duplicates import Given, without_repeats
from emp_gym.data.lobster import files as lobster_files
from emp_gym.data.lobster.files import Found, Half
from emp_gym.data.lobster.plain import expanded, opened
from emp_gym.data.tape.format import FORMAT, hash_of
from emp_gym.data.tape.tape_set import LARGEST_IN_MEMORY, TapeSet, build
from emp_gym.paths import home
from emp_gym.types import ConfigError, DataError

Data = str | PathLike[str] | Sequence[str | PathLike[str]] | None
SYNTHETIC = "synthetic"
MOST_JOINED = 2 << 30  # bytes of joined sets that are kept besides the last; those not used for longest go first
SHOWN = 5  # files that are not read, or are read for the first time, by name

log = logging.getLogger(__name__)


class NoSuchData(DataError):
    """`name` leads nowhere."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: no such file or folder; give a LOBSTER day (message file, folder, zip), a .tape folder, or nothing"
        )
        self.name = name


def tapes(data: Data = None, *, in_memory: bool = False) -> TapeSet:
    """The days that `data` names; with `in_memory` copied from the map into large pages if they are not too big.

    None or "synthetic" are the embedded synthetic days ("synthetic:signal=0,rows=20000" overrides fields of their
    configuration). A path is a LOBSTER message file, a zip of LOBSTER days, a `.tape` folder, or a folder of all of these
    and of folders. A list joins several. Days are in order of (date, start of the session, symbol), whatever the order
    given. `DataError` if a path is not there or holds no day, and for the same rows twice.
    """
    names = names_of(data)
    found = _tapes if not in_memory else _tapes_in_memory
    return found(names, tuple(_stamp(name) for name in names), str(home()))


def names_of(data: Data) -> tuple[str, ...]:
    """What `data` names, as text. `ConfigError` for what names nothing."""
    if data is None:
        return (SYNTHETIC,)
    several = (data,) if isinstance(data, (str, PathLike)) else data
    paths = several if isinstance(several, Sequence) else ()
    names = tuple(str(name) for name in paths if isinstance(name, (str, PathLike)) and name)
    if not names or len(names) != len(paths):
        raise ConfigError(f"data must be None, a path or a list of paths, got {data!r}")
    return names


@lru_cache(maxsize=2)
def _tapes_in_memory(names: tuple[str, ...], stamps: tuple[tuple, ...], cache: str) -> TapeSet:
    return _tapes(names, stamps, cache).in_memory(LARGEST_IN_MEMORY)


@lru_cache(maxsize=16)
def _tapes(names: tuple[str, ...], stamps: tuple[tuple, ...], cache: str) -> TapeSet:
    sources = [None if _is_synthetic(name) else _found(name) for name in names]
    _say_what_is_read([pair for found in sources if found is not None for pair in found.pairs])
    given = [
        Given(where, number, tape, day)
        for number, (name, found) in enumerate(zip(names, sources))
        for where, tape, day in _one(name, found)
    ]
    days = sorted(without_repeats(given), key=_in_order)
    whole = days[0].tape
    if len(days) == len(whole.info) and all(day.tape is whole and day.day == i for i, day in enumerate(days)):
        return whole
    return _joined(days)


def _in_order(given: Given) -> tuple[Any, ...]:
    info = given.info
    return info.date, info.instrument.session_start_ns, info.instrument.symbol, given.times, info.identity


def _found(name: str) -> Found:
    """The files that a path stands for; what lies there and is not read is told."""
    path = expanded(name)
    if not path.exists():
        raise NoSuchData(name)
    found = lobster_files.find(path)
    if found.unread:
        more = f" and {len(found.unread) - SHOWN} more" if len(found.unread) > SHOWN else ""
        log.warning("%s: not read: %s%s", name, ", ".join(found.unread[:SHOWN]), more)
    return found


def _one(name: str, found: Found | None) -> list[tuple[str, TapeSet, int]]:
    """(where, set, day in it) of every day that one name stands for."""
    if found is None:
        return _days_of(name, _synthetic(name.partition(":")[2]))
    days = [day for folder in found.tapes for day in _days_of(str(folder), TapeSet.open(folder))]
    return days + [(message.where, _recorded(message, book), 0) for message, book in found.pairs]


def _days_of(where: str, tape: TapeSet) -> list[tuple[str, TapeSet, int]]:
    several = len(tape.info) > 1
    return [(f"{where}, day {day}" if several else where, tape, day) for day in range(len(tape.info))]


def _is_synthetic(name: str) -> bool:
    return name == SYNTHETIC or name.startswith(SYNTHETIC + ":")


# ---- what changes when a file changes


def _stamp(name: str) -> tuple:
    """What changes when the files of `name` change: names, sizes, times, places on the disk."""
    if _is_synthetic(name):
        return ()
    path = expanded(name)
    files: list[Path] = []
    for file in lobster_files.files_below(path) if path.is_dir() else (path, lobster_files.partner(path)):
        files += sorted(file.parent.iterdir()) if file.name == lobster_files.TAPE else [file]
    return tuple(_file_stamp(file) for file in files if file.exists())


def _file_stamp(file: Path) -> tuple[str, int, int, int, int]:
    status = file.stat()
    return str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=4096)
def _hash_of(stamp: tuple[str, int, int, int, int]) -> str:
    """SHA-256 of the file that has this stamp."""
    with opened(stamp[0]) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _reader() -> str:
    """Hash of what makes tapes of files: a tape that another reader made is made again."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for pattern in ("lobster*.py", "tape*.py", "repeats.py"):
        for file in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


# ---- what is kept


def _say_what_is_read(pairs: Sequence[tuple[Half, Half]]) -> None:
    """Which days are not in the cache yet; of many only how many."""
    new = [(message, place) for message, book in pairs if not ((place := _place(message, book)) / "meta.json").exists()]
    if len(new) > SHOWN:
        log.info("reading %d days (once; kept in %s)", len(new), new[0][1].parent)
        return
    for message, place in new:
        log.info("reading %s (once; kept in %s)", message.where, place)


def _place(message: Half, book: Half) -> Path:
    """Where the tape of two files is kept: its name says what it is, and the hash of what it is made of."""
    known: list[Any] = [_reader()]
    for half in (message, book):
        file = Path(half.container) if half.zipped else Path(half.container) / half.name
        known += [half.name, *half[3:], _hash_of(_file_stamp(file))]
    key = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]
    return home() / "tapes" / f"{_plain(message.symbol)}_{message.date}_{message.levels or 'L'}-{key}.tape"


def _recorded(message: Half, book: Half) -> TapeSet:
    """The day of two files, from the cache if their bytes are known."""
    tape = _kept(_place(message, book), lambda: _read(message, book))
    told = tape.info[0].source
    if told["rows_quarantined"]:
        log.warning(
            "%s: %d of %d rows quarantined; scripts/ingest.py names them", message.where, told["rows_quarantined"], told["rows_in"]
        )
    return tape


def _read(message: Half, book: Half) -> TapeSet:
    from emp_gym.data.lobster import reader

    return build(reader.read_pair(message, book).day)


def _plain(symbol: str) -> str:
    """For a file name."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in symbol)[:40]


def _kept(folder: Path, make: Callable[[], TapeSet]) -> TapeSet:
    """The tape at `folder`, which is made where there is none, again where it cannot be opened, and without a word where an earlier
    version wrote it without hashes."""
    old = _can_be_made_better(folder)
    if (folder / "meta.json").exists() and not old:
        try:
            return TapeSet.open(folder)
        except DataError:  # cut off by a full disk, or just being removed
            log.warning("%s cannot be opened any more and is made again", folder)
    tape = make()
    if old:
        shutil.rmtree(folder, ignore_errors=True)  # whoever has it open keeps it
    try:
        tape.save(folder, replace=True)
    except OSError as error:  # numpy's names neither file nor reason
        if error.filename is not None:
            raise
        what = error.strerror or "No space left on device, or files may not be so large (ulimit -f)"
        raise OSError(error.errno or errno.ENOSPC, f"{what}; EMP_GYM_HOME=DIR keeps the cache elsewhere", str(folder)) from error
    return TapeSet.open(folder)


def _can_be_made_better(folder: Path) -> bool:
    """Whether the tape at `folder` has no hashes, and the cache may be written."""
    try:
        meta = bounded.read_object(folder / "meta.json")
    except (DataError, OSError):  # whoever opens the tape says so
        return False
    return "columns" not in meta and "seal" not in meta and os.access(folder.parent, os.W_OK)


def _joined(days: Sequence[Given[TapeSet]]) -> TapeSet:
    """One memory-mapped set of several days."""
    depths: dict[int, Given[TapeSet]] = {}
    for day in days:
        depths.setdefault(day.info.levels, day)
    if len(depths) > 1:
        raise ConfigError(
            "days of one set need the same number of book levels, got "
            + ", ".join(f"{levels} in {day}" for levels, day in sorted(depths.items()))
            + "; give days of one depth, or take them apart into runs of their own"
        )
    folder = home() / "sets" / f"joined-{hash_of([day.info for day in days])[:24]}.tape"
    made = not (folder / "meta.json").exists()

    def make() -> TapeSet:
        for tape in {id(day.tape): day.tape for day in days}.values():
            tape.verify()  # what is joined gets new hashes
        return TapeSet.concatenate([day.tape.one(day.day) for day in days])

    found = _kept(folder, make)
    if made:
        _make_room(folder)
    else:
        with contextlib.suppress(OSError):  # a cache that may only be read, or of somebody else
            os.utime(folder)
    return dataclasses.replace(found, info=tuple(day.info for day in days))  # whichever version joined them


def _make_room(last: Path) -> None:
    """Removes joined sets beyond `MOST_JOINED` bytes, those not used for longest; whoever has one open keeps it."""
    sets = sorted((path for path in last.parent.glob("joined-*.tape") if path != last), key=_used, reverse=True)
    room = MOST_JOINED
    for path in sets:
        room -= sum(file.stat().st_size for file in path.glob("*") if file.exists())
        if room < 0:
            log.info("removing %s: joined days that were not used for longest; they are joined again when needed", path)
            shutil.rmtree(path, ignore_errors=True)


def _used(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _synthetic(overrides: str) -> TapeSet:
    """The embedded synthetic days: written as LOBSTER files, read back through the reader, kept as one set."""
    from emp_gym.data.synthetic import day as synthetic

    configs = synthetic.EMBEDDED
    if overrides:
        configs = tuple(dataclasses.replace(config, **synthetic.parse_overrides(overrides)) for config in configs)
    described = json.dumps(
        [FORMAT, synthetic.VERSION, [dataclasses.asdict(config) for config in configs]], sort_keys=True, default=str
    )
    folder = home() / "sets" / f"synthetic-{hashlib.sha256(described.encode()).hexdigest()[:24]}.tape"

    def make() -> TapeSet:
        log.info("making %d synthetic days (once; kept in %s)", len(configs), folder)
        return TapeSet.concatenate([_synthetic_day(config) for config in configs])

    return _kept(folder, make)


def _synthetic_day(config: object) -> TapeSet:
    from emp_gym.data.lobster import reader
    from emp_gym.data.synthetic import day as synthetic

    scratch = Path(tempfile.mkdtemp(prefix="emp_gym-"))
    try:
        written = synthetic.write_day(scratch, config)  # type: ignore[arg-type]
        (reading,) = reader.read((written.message, written.orderbook))
        if reading.rows_quarantined:
            raise DataError(f"synthetic day {config}: {reading.rows_quarantined} rows quarantined, expected none")
        held_out = config in synthetic.EMBEDDED[16:] or getattr(config, "held_out", False)
        reading.day.source["held_out"] = bool(held_out)
        reading.day.signal, reading.day.regime = written.signal, written.regime
        return build(reading.day)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
