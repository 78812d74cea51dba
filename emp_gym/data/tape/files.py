"""Tapes as folders: one .npy file a column, and meta.json with what is known of the days, a hash of each column and a seal.

`meta.json` has ``format``, ``hash`` (of sources and instruments), ``days``, ``columns`` (SHA-256 of each column, see
`column_hash`) and ``seal`` (SHA-256 of all the rest). Tapes of earlier versions have neither columns nor seal.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.data.array_files import mapped, sync
from emp_gym.data.tape import check
from emp_gym.data.tape.check import AGAIN
from emp_gym.data.tape.format import COLUMNS, FORMAT, OPTIONAL, Columns, DayInfo, Tape, column_hash, hash_of, of_planted
from emp_gym.types import DataError, Instrument

META = "meta.json"
LOGGER = logging.getLogger(__name__)

FILES = {META, *(f"{name}.npy" for name in (*COLUMNS, *OPTIONAL))}


def write(tape: Columns, folder: str | os.PathLike[str], replace: bool) -> Path:
    """As `TapeSet.save` says. All of it is on the disk before the folder gets its name."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        hashes = {}
        for name in (*COLUMNS, *OPTIONAL):
            array = getattr(tape, name)
            if array is not None:
                array = np.ascontiguousarray(array)
                np.save(aside / f"{name}.npy", array, allow_pickle=False)
                sync(aside / f"{name}.npy")
                hashes[name] = column_hash(array)
        write_meta(aside, tape.info, hashes)
        try:
            aside.rename(target)
        except OSError:  # somebody else was first, or something else stands there
            if not target.exists():
                raise
            if _may_replace(tape, target, replace):
                shutil.rmtree(target)
                aside.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def write_meta(folder: Path, info: Sequence[DayInfo], hashes: Mapping[str, str]) -> None:
    """`META` of the columns in `folder`, which are of these days and have these hashes."""
    told = {"format": FORMAT, "hash": hash_of(info), "days": [asdict(day) for day in info], "columns": dict(hashes)}
    text, most = json.dumps(told | {"seal": check.seal(told)}, indent=1), _largest_meta(folder)
    if len(text) > most:
        raise DataError(f"{folder / META}: {len(text):,} bytes of {len(info):,} days, expected at most {most:,}; save fewer days in a tape")
    (folder / META).write_text(text, encoding="utf-8")
    sync(folder / META)
    sync(folder)


def _may_replace(tape: Columns, target: Path, replace: bool) -> bool:
    """Whether what stands at `target` gives way to `tape`: False if it is the same one. `DataError` if it must stay."""
    foreign = [] if not target.is_dir() else [file.name for file in target.iterdir() if file.name not in FILES]
    if foreign or not target.is_dir():
        raise DataError(f"{target} is no tape{f' (it holds {foreign[0]})' if foreign else ''}; take another name for the tape")
    try:
        there = read(target, Columns)
    except DataError:  # damaged, or of another format
        return True
    if there.hash != tape.hash and not replace:
        raise DataError(
            f"{target} holds {there.described}, and a tape of {tape.described} would replace it; take another folder, or "
            "remove the old tape first"
        )
    return there.hash != tape.hash or not _whole(there)


def _whole(tape: Columns) -> bool:
    """Whether `tape` has hashes and they hold."""
    try:
        return tape.verify()
    except DataError:
        return False


def read(folder: str | os.PathLike[str], kind: type[Tape]) -> Tape:
    """As `TapeSet.open` says, of the columns as `kind`."""
    path = Path(folder)
    meta = _meta(path)
    if meta.get("format") != FORMAT:
        raise DataError(f"{path}: tape format {meta.get('format')!r:.40}, expected {FORMAT}; {AGAIN}")
    hashes = meta.get("columns", {})
    if not isinstance(hashes, dict) or ((hashes or "seal" in meta) and meta.get("seal") != check.seal(meta)):
        raise DataError(f"{path / META}: damaged: expected the seal {check.seal(meta)}, got {meta.get('seal')!r:.80}; {AGAIN}")
    check.check_meta(meta.get("days"), str(path / META))
    arrays: dict[str, Any] = {}
    try:
        for name, (dtype, shape) in {**COLUMNS, **OPTIONAL}.items():
            file = path / f"{name}.npy"
            if name in COLUMNS or name in hashes or file.exists():
                arrays[name] = mapped(file, dtype, shape)
    except DataError as error:
        raise DataError(f"{error}; {AGAIN}") from error
    if hashes and set(hashes) != set(arrays):
        raise DataError(f"{path}: the columns {sorted(arrays)}, expected {sorted(hashes)} as {META} says; {AGAIN}")
    info = tuple(DayInfo(**{**day, "instrument": _instrument(day["instrument"])}) for day in meta["days"])
    info = of_planted(info, arrays.get("signal"))  # earlier versions did not write it
    tape = kind(info=info, path=path, hashes=hashes, **arrays)
    check.check(tape, str(path))
    if meta.get("hash") != tape.hash:
        raise DataError(f"{path / META}: damaged: its days have the hash {tape.hash}, got {meta.get('hash')!r:.80}; {AGAIN}")
    if not hashes:
        LOGGER.info("%s: a tape of an earlier version, without hashes: only its bounds were checked", path)
    elif column_hash(tape.days) != hashes["days"]:
        raise DataError(f"{path}: days: other bytes than were written; {AGAIN}")
    return tape


def _meta(path: Path) -> dict[str, Any]:
    file = path / META
    try:
        if not file.is_file():
            raise OSError("missing, or not a file")
        most = _largest_meta(path)
        if file.stat().st_size > most:
            raise ValueError(f"{file.stat().st_size:,} bytes, expected at most {most:,} beside columns of this size")
        text = file.read_text(encoding="utf-8")
        check.stop_if_hollow(text)
        meta = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a tape: no readable {META} ({error}); make one with scripts/ingest.py") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path}: not a tape: {META} holds {meta!r:.40}, expected an object; make one with scripts/ingest.py")
    return meta


def _largest_meta(folder: Path) -> int:
    return check.largest_meta(sum(column.stat().st_size for column in folder.glob("*.npy")))


def _instrument(fields: dict[str, Any]) -> Instrument:
    """From JSON, which knows no tuples."""
    ticks = tuple((int(price), int(tick)) for price, tick in fields.get("ticks", ()))
    return Instrument(**{**fields, "ticks": ticks})
