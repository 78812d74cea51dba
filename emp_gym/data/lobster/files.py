"""Finding LOBSTER's file pairs in folders, zips and paths, and their bytes.

``TICKER_DATE_STARTms_ENDms_message_LEVELS.csv`` and ``..._orderbook_LEVELS.csv``; files given as a pair may have any
name. A folder is searched with the folders and zips in it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from emp_gym.data.lobster.archive import is_archive, members, unpacked
from emp_gym.data.lobster.name import UNKNOWN_DATE, Name, date_in, stop_if_no_date
from emp_gym.data.lobster.parser import MESSAGE_COLUMNS, Bytes
from emp_gym.data.lobster.plain import (
    FOLDER,
    NOTHING,
    REGULAR,
    StrPath,
    expanded,
    kind_of,
    opened,
    refuse_folder,
    stop_unless_regular,
)  # fmt: skip
from emp_gym.types import DataError

Source = StrPath | Sequence[StrPath]

_HEAD = 65_536  # bytes looked at to tell what a file is
_ZIP = b"PK\x03\x04"
_MAGIC = {
    _ZIP: "a zip",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "gzip",
    b"Rar!": "a rar archive",
    b"%PDF": "a PDF",
}
TAPE = "meta.json"  # the file that makes a folder a tape
QUARANTINE = ".quarantine.csv"  # ending of what ingest leaves beside a tape
_PACKED = (".zip", ".7z", ".gz", ".rar", ".bz2", ".xz", ".zst", ".tgz", ".tar")


class Half(NamedTuple):
    """One file of a pair: where it is and what its name says."""

    container: str  # the folder, or the zip
    name: str  # file name; inside a zip the member's path
    zipped: bool
    symbol: str
    date: str
    session_ns: tuple[int, int] | None  # None: the name does not say
    kind: str  # "message" or "orderbook"; "" if the name does not say
    levels: int  # 0: the name does not say

    @property
    def where(self) -> str:
        return f"{self.container}{'!' if self.zipped else '/'}{self.name}"


@dataclass
class FileText:
    """The bytes of one file and how its lines are written."""

    name: str
    text: Bytes
    begin: int  # offset of the first row: behind a byte order mark and a header line
    delimiter: int  # byte
    notes: dict[str, str]
    kind: str  # "message" or "orderbook"
    extra: int = 0  # columns behind the last one that is used: 0 or 1


@dataclass
class DayFiles:
    message: FileText
    book: FileText
    levels: int
    hashes: tuple[dict[str, Any], dict[str, Any]]

    @property
    def notes(self) -> dict[str, Any]:
        return {**self.message.notes, **self.book.notes}


def half_of(container: str, name: str, zipped: bool) -> Half:
    """What a file's name says. `DataError` where it says a date or a session that cannot be."""
    base = PurePosixPath(name.replace("\\", "/") if zipped else name).name
    told = Name.of(base, f"{container}{'!' if zipped else '/'}{name}")
    if told:
        return Half(container, name, zipped, *told)
    return Half(container, name, zipped, base.split("_")[0].split(".")[0], date_in(base) or UNKNOWN_DATE, None, "", 0)


class Found(NamedTuple):
    """What a source holds."""

    pairs: list[tuple[Half, Half]]  # (message, order book), in order of date, symbol and levels
    tapes: list[Path]  # folders of ours, made by ingest
    unread: list[str]  # what lies beside and is not read; hidden files and readmes are not told of


def days_of(source: Source) -> list[tuple[Half, Half]]:
    """The (message, order book) pairs of a source, in order of date, symbol and levels. `DataError` where there is none."""
    found = find(source)
    return found.pairs if found.pairs else _some(found.tapes[0].parent, found).pairs


def find(source: Source) -> Found:
    """The days of a path or of a pair of paths. `DataError` where there is neither a pair nor a tape."""
    if not isinstance(source, (str, PathLike)):
        return Found([_pair_of([Path(path) for path in source])], [], [])
    path = expanded(source)
    what = kind_of(path)
    if what == FOLDER:
        found = _in_folder(path)
        return found if found.tapes else _some(path, found)
    if what == NOTHING:
        raise DataError(f"{path}: no such file or folder; expected a LOBSTER folder, zip or message file")
    stop_unless_regular(path, "a LOBSTER folder, zip or message file")
    if is_archive(path):
        return _some(path, _in_zip(path))
    _refuse_damaged_zip(path)
    return Found([_beside(path)], [], [])


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in `folder` and the folders in it, in order of name; not the hidden ones. A tape counts as one file: its
    ``meta.json``."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=refuse_folder):
        here = os.path.realpath(root)
        if here in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(here)
        if TAPE in files:
            folders.clear()
            files = [TAPE]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(root) / name for name in sorted(files) if not name.startswith("."))


def _pair_of(paths: list[Path]) -> tuple[Half, Half]:
    if len(paths) != 2:
        raise DataError(f"source has {len(paths)} paths, expected two: (message path, order book path)")
    message, book = (_given(path) for path in paths)
    return (book, message) if message.kind == "orderbook" and book.kind == "message" else (message, book)


def _in_folder(folder: Path) -> Found:
    halves: list[Half] = []
    tapes: list[Path] = []
    unread: list[str] = []
    for file in files_below(folder):
        half = half_of(str(file.parent), file.name, False)
        if file.name == TAPE:
            tapes.append(file.parent)
        elif half.kind:
            stop_unless_regular(file, f"the {half.kind} half of a LOBSTER day")
            halves.append(half)
        elif is_archive(file):
            inside = _in_zip(file)
            halves += [half for pair in inside.pairs for half in pair]
            unread += inside.unread or ([] if inside.pairs else [str(file)])
        elif file.suffix.lower() == ".zip":
            _refuse_damaged_zip(file)
            unread.append(str(file))
        elif _worth_telling(file.name):
            unread.append(str(file))
    return Found(_pairs(halves), tapes, unread)


def _refuse_damaged_zip(path: Path) -> None:
    """Raises for a file that begins as a zip and does not end as one: a download that was cut off."""
    if kind_of(path) != REGULAR:
        return
    with opened(path) as file:
        try:
            head = file.read(len(_ZIP))
        except OSError as error:  # a file of the system's own, a disk that fails
            raise DataError(f"{path}: it cannot be read ({error.strerror or error}); get it again") from error
        if head == _ZIP:
            size = os.fstat(file.fileno()).st_size
            raise DataError(
                f"{path}: a damaged zip, cut off after {size:,} bytes: expected the list of its files at its end; get it again"
            )
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path}: no zip, whatever its name says: expected its first bytes to be PK; give it its own name, or get it again")


def _in_zip(path: Path) -> Found:
    names = [name for name in members(path) if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)]
    halves = [half_of(str(path), name, True) for name in names]
    return Found(_pairs(halves), [], [half.where for half in halves if not half.kind and _worth_telling(half.name)])


def _worth_telling(name: str) -> bool:
    """Whether somebody might have meant the file `name` to be read."""
    return not name.endswith(QUARANTINE) and "readme" not in name.lower()


def _some(path: Path, found: Found) -> Found:
    """`found`, if it holds a pair."""
    if found.pairs:
        return found
    packed = [name for name in found.unread if name.lower().endswith(_PACKED)]
    hint = f"; unpack the archive in it first ({Path(packed[0]).name})" if packed else ""
    raise DataError(
        f"{path}: no LOBSTER pair in it; expected files TICKER_DATE_START_END_message_LEVELS.csv and "
        f"..._orderbook_LEVELS.csv, or zips of them{hint}"
    )


def _given(path: Path) -> Half:
    stop_unless_regular(path, "one half of a LOBSTER day")
    half = half_of(str(path.parent), path.name, False)
    stop_if_no_date(half.date, half.where)
    return half


def _halves(path: Path) -> tuple[str, str]:
    """Which half of a day `path` is by its name, and which the other one is."""
    return ("orderbook", "message") if "orderbook" in path.name.lower() else ("message", "orderbook")


def partner(path: Path) -> Path:
    """The other half of the day beside the file `path`, there or not; `path` itself if its name does not say which half it is."""
    mine, other = _halves(path)
    at = path.name.lower().rfind(mine)
    return path if at < 0 else path.with_name(path.name[:at] + other + path.name[at + len(mine) :])


def _beside(path: Path) -> tuple[Half, Half]:
    """The pair to which one file belongs."""
    mine, other = _halves(path)
    beside = partner(path)
    if beside == path:
        with opened(path) as stream:
            _refuse_other_kinds(path.name, np.frombuffer(stream.read(_HEAD), np.uint8))
        raise DataError(
            f"{path}: the name does not say which half of a day it is, expected 'message' or 'orderbook' in it; make a tape of "
            "both: scripts/ingest.py MESSAGE BOOK (in Python: lobster.read((message, order book)))"
        )
    if (there := kind_of(beside)) != REGULAR:
        got = "" if there == NOTHING else f" ({there} is in its place)"
        raise DataError(f"{path}: the {other} half {beside.name} is missing beside it{got}; expected both files in one folder")
    found = {mine: _given(path), other: _given(beside)}
    return found["message"], found["orderbook"]


def _pairs(halves: list[Half]) -> list[tuple[Half, Half]]:
    days: dict[tuple[Any, ...], dict[str, Half]] = {}
    for half in halves:
        if half.kind:
            folder = str(PurePosixPath(half.name).parent)
            key = (half.date, half.symbol, half.levels, half.session_ns, half.container, folder)
            other = days.setdefault(key, {}).setdefault(half.kind, half)
            if other is not half:
                raise DataError(
                    f"{half.where} and {other.where} are both the {half.kind} half of one day; expected one; remove the wrong one"
                )
    for found in days.values():
        for kind in {"message", "orderbook"} - set(found):
            there = next(iter(found.values()))
            raise DataError(
                f"{there.where}: its {kind} half is missing; expected both files of the day (add it or remove this one)"
            )
    return [(days[key]["message"], days[key]["orderbook"]) for key in sorted(days)]


@contextmanager
def open_day(message: Half, book: Half) -> Iterator[DayFiles]:
    """The bytes of both halves, checked to be of the right kind; files are memory-mapped, zip members read."""
    texts = [_text(message, "message"), _text(book, "orderbook")]
    _expect_columns(texts[0], len(MESSAGE_COLUMNS), "a message file has 6 columns, or 7", texts[1])
    levels = message.levels or book.levels or max(_columns(texts[1]) // 4, 1)
    _expect_columns(texts[1], 4 * levels, f"{levels} levels are {4 * levels} columns", texts[0])
    hashes = [
        {
            "name": PurePosixPath(half.name).name,
            "sha256": hashlib.sha256(text.text.data).hexdigest(),
            "bytes": len(text.text),
        }
        for half, text in zip((message, book), texts, strict=True)
    ]
    yield DayFiles(texts[0], texts[1], levels, (hashes[0], hashes[1]))


def _bytes(half: Half) -> Bytes:
    if half.zipped:
        return unpacked(Path(half.container), half.name)
    path = Path(half.container) / half.name
    with opened(path, "one half of a LOBSTER day") as stream:
        try:
            return np.memmap(stream, np.uint8, mode="r") if os.fstat(stream.fileno()).st_size else np.empty(0, np.uint8)
        except OSError as error:
            raise DataError(f"{path}: cannot be mapped into memory ({error}); copy it to a local disk first") from error


def _text(half: Half, kind: str) -> FileText:
    text = _bytes(half)
    name = PurePosixPath(half.name).name
    notes = {}
    begin = 0
    if bytes(text[:3]) == b"\xef\xbb\xbf":
        begin, notes[f"byte-order-mark {name}"] = 3, "skipped"
    _refuse_other_kinds(name, text[begin:])
    first = _lines(text[begin : begin + _HEAD], 1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    if delimiter == ";":
        notes[f"delimiter {name}"] = "';' instead of ','"
    if _is_header(first, delimiter):
        notes[f"header {name}"] = f"line 1 skipped: {first[:60]!r}"
        ends = np.flatnonzero(text[: _HEAD + begin] == 10)
        blank = len(bytes(text[begin : begin + _HEAD])) - len(bytes(text[begin : begin + _HEAD]).lstrip(b"\r\n"))
        later = ends[ends >= begin + blank]
        begin = int(later[0]) + 1 if len(later) else len(text)
    if not bytes(text[begin : begin + _HEAD]).strip():
        raise DataError(
            f"{name}: no rows behind the header line; expected the rows of a LOBSTER day; download it again"
        )
    return FileText(name, text, begin, ord(delimiter), notes, kind)


def _lines(text: Bytes, most: int) -> list[str]:
    """The first lines that are not blank."""
    lines = bytes(text[:_HEAD]).decode("utf-8", "replace").split("\n")
    return [line.removesuffix("\r") for line in lines if line.strip("\r")][:most] or [""]


def _is_header(line: str, delimiter: str) -> bool:
    """A header has a letter in every cell and no cell that is a number (NaN counts as one)."""
    cells = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
    if len(cells) > 1 and not cells[-1]:  # each line ends in a delimiter
        cells.pop()
    return (
        len(cells) > 1
        and all(any(c.isalpha() for c in cell) and cell not in ("nan", "inf", "-inf") for cell in cells)
        and not any(re.fullmatch(r"[-+]?\d*\.?\d+e[-+]?\d+", cell) for cell in cells)
    )


def _refuse_other_kinds(name: str, text: Bytes) -> None:
    head = bytes(text[:_HEAD])
    if not head.strip():
        raise DataError(f"{name}: the file is empty; expected the rows of a LOBSTER day; download it again")
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{name}: this is {kind}, expected LOBSTER's plain csv; unpack it first")
    if head.lstrip()[:1] in (b"<", b"{") or head[:4096].count(0) > len(head[:4096]) // 100:
        what = "a web page or XML" if head.lstrip()[:1] == b"<" else "not a csv of numbers"
        raise DataError(
            f"{name}: this is {what}, expected LOBSTER's csv; download it again (a login page may have been saved)"
        )


def _columns(text: FileText) -> int:
    """The most frequent number of columns of the first lines."""
    lines = _lines(text.text[text.begin : text.begin + _HEAD], 101)
    counts = [line.count(chr(text.delimiter)) + 1 for line in (lines[:-1] if len(lines) > 1 else lines)]
    return max(set(counts), key=counts.count)


def _expect_columns(text: FileText, expected: int, why: str, other: FileText) -> None:
    """Checks the number of columns. One more is allowed: any in a message file, an empty one in an order book file."""
    got = _columns(text)
    if got == expected:
        return
    rows = _lines(text.text[text.begin :], 100)
    last = [row.split(chr(text.delimiter))[-1] for row in rows if row.count(chr(text.delimiter)) == expected]
    if got == expected + 1 and (expected == len(MESSAGE_COLUMNS) or not any(last)):
        text.extra = 1
        text.notes[f"column {got} {text.name}"] = f"not used; {last[0]!r} in its first row"
        return
    raise DataError(
        f"{text.name}: its lines have {got} columns, expected {expected} ({why}); "
        f"{_columns_hint(rows[0], got, expected, _columns(other))}"
    )


def _columns_hint(line: str, got: int, expected: int, other: int) -> str:
    if other == expected:
        return "the two files may have changed places"
    for delimiter, name in (("\t", "tabs"), ("|", "'|'"), (" ", "spaces")):
        if line.count(delimiter) >= expected - 1:
            return f"its cells are separated by {name}: write them with commas"
    if got == expected + 1 and line.split(",")[0] in ("0", "1"):
        return "the first column may count rows: save the file without it (pandas: index=False)"
    return "check that it is the right file, unedited"
