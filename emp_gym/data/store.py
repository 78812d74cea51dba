"""From what a user names (files, folders, zips, tapes, nothing) to a `TapeSet`, through a cache keyed by content.

Whatever is made is written aside and renamed, so processes that race for one tape both end with a whole one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from emp_gym.data.tape import FORMAT, LARGEST_IN_MEMORY, TapeSet, build
from emp_gym.paths import home
from emp_gym.types import ConfigError, DataError

Data = str | Sequence[str] | None
SYNTHETIC = "synthetic"

log = logging.getLogger(__name__)


def tapes(data: Data = None, *, in_memory: bool = False) -> TapeSet:
    """The days that `data` names, in order; with `in_memory` copied from the map into large pages if they are not too big.

    None or "synthetic" are the embedded synthetic days ("synthetic:signal=0,rows=20000" overrides fields of their
    configuration). A path is a LOBSTER message file, a folder or zip of LOBSTER days, or a `.tape` folder. A list joins
    several. `DataError` if a path is not there or holds no day.
    """
    if data is None:
        data = SYNTHETIC
    names = (data,) if isinstance(data, str) else tuple(data)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"data must be None, a path or a list of paths, got {data!r}")
    found = _tapes if not in_memory else _tapes_in_memory
    return found(names, tuple(_stamp(name) for name in names), str(home()))


@lru_cache(maxsize=2)
def _tapes_in_memory(names: tuple[str, ...], stamps: tuple[tuple, ...], cache: str) -> TapeSet:
    return _tapes(names, stamps, cache).in_memory(LARGEST_IN_MEMORY)


@lru_cache(maxsize=16)
def _tapes(names: tuple[str, ...], stamps: tuple[tuple, ...], cache: str) -> TapeSet:
    parts = [part for name in names for part in _one(name)]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _one(name: str) -> list[TapeSet]:
    if name == SYNTHETIC or name.startswith(SYNTHETIC + ":"):
        return [_synthetic(name.partition(":")[2])]
    path = Path(name).expanduser()
    if (path / "meta.json").exists():
        return [TapeSet.open(path)]
    if not path.exists():
        raise DataError(
            f"{name}: no such file or folder; give a LOBSTER day (message file, folder, zip), a .tape folder, or nothing"
        )
    return _recorded(path)


def _stamp(name: str) -> tuple:
    """What changes when the files of `name` change: names, sizes, times."""
    if name == SYNTHETIC or name.startswith(SYNTHETIC + ":"):
        return ()
    path = Path(name).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists())


def _content_hash(path: Path) -> str:
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for file in sorted(path.iterdir()) if path.is_dir() else _pair(path):
        if file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:24]


def _pair(path: Path) -> list[Path]:
    """The file and, for a message file, the order book beside it."""
    other = path.with_name(path.name.replace("_message_", "_orderbook_"))
    return [path, other] if other != path and other.exists() else [path]


def _recorded(path: Path) -> list[TapeSet]:
    """The LOBSTER days of a message file, folder or zip, from the cache if their bytes are known."""
    folder = home() / "tapes" / _content_hash(path)
    if (folder / "days.json").exists():
        return [TapeSet.open(folder / name) for name in json.loads((folder / "days.json").read_text())]
    from emp_gym.data import lobster

    log.info("reading %s (once; kept in %s)", path, folder)
    names = []
    for reading in lobster.read(path):
        if reading.rows_quarantined:
            log.warning(
                "%s: %d of %d rows quarantined; scripts/ingest.py names them",
                path,
                reading.rows_quarantined,
                reading.rows_in,
            )
        name = f"{reading.day.instrument.symbol}_{reading.day.date}.tape"
        build(reading.day).save(folder / name)
        names.append(name)
    _write_whole(folder / "days.json", json.dumps(names))
    return [TapeSet.open(folder / name) for name in names]


def _joined(parts: list[TapeSet]) -> TapeSet:
    """One memory-mapped set of several tapes."""
    key = hashlib.sha256(" ".join(part.hash for part in parts).encode()).hexdigest()[:24]
    folder = home() / "sets" / f"{key}.tape"
    if not (folder / "meta.json").exists():
        TapeSet.concatenate(parts).save(folder)
    return TapeSet.open(folder)


def _synthetic(overrides: str) -> TapeSet:
    """The embedded synthetic days: written as LOBSTER files, read back through the reader, kept as one set."""
    from emp_gym.data import synthetic

    configs = synthetic.EMBEDDED
    if overrides:
        configs = tuple(dataclasses.replace(config, **synthetic.parse_overrides(overrides)) for config in configs)
    described = json.dumps(
        [FORMAT, synthetic.VERSION, [dataclasses.asdict(config) for config in configs]], sort_keys=True, default=str
    )
    folder = home() / "sets" / f"synthetic-{hashlib.sha256(described.encode()).hexdigest()[:24]}.tape"
    if not (folder / "meta.json").exists():
        log.info("making %d synthetic days (once; kept in %s)", len(configs), folder)
        TapeSet.concatenate([_synthetic_day(config) for config in configs]).save(folder)
    return TapeSet.open(folder)


def _synthetic_day(config: object) -> TapeSet:
    from emp_gym.data import lobster, synthetic

    scratch = Path(tempfile.mkdtemp(prefix="emp_gym-"))
    try:
        written = synthetic.write_day(scratch, config)  # type: ignore[arg-type]
        (reading,) = lobster.read((written.message, written.orderbook))
        if reading.rows_quarantined:
            raise DataError(f"synthetic day {config}: {reading.rows_quarantined} rows quarantined, expected none")
        held_out = config in synthetic.EMBEDDED[16:] or getattr(config, "held_out", False)
        reading.day.source["held_out"] = bool(held_out)
        reading.day.signal, reading.day.regime = written.signal, written.regime
        return build(reading.day)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_whole(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        stream.write(text)
    Path(stream.name).rename(path)
