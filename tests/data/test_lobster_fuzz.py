"""Whatever is done to the bytes of a day: it is read, or refused as `DataError`; nothing else is raised.

The long run keeps its figures: ``pytest -n 0 -m long tests/data/test_lobster_fuzz.py``.
"""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emp_gym.data.lobster.reader import read
from emp_gym.types import DataError
from tests.data.reference_lobster import day

ROOT = Path(__file__).resolve().parents[2]
SEED, TEXTS, ARCHIVES = 16, 300, 300
LONG_TEXTS, LONG_ARCHIVES = 20_000, 5_000
ROWS, LEVELS = 120, 2
STEM = "XYZ_2012-06-21_34200000_57600000_{}_2.csv"
CELLS = [
    b"", b"-", b"9" * 5_000, b"0" * 5_000 + b"1", b"-" + b"7" * 4_301, str(2**63).encode(), str(-(2**63)).encode(),
    str(2**31).encode(), str(2**31 - 1).encode(), b"9999999999", b"-9999999999", b"1e400", b"NaN", b"\0", b"\r", b"\r\n", b'"1"',
    "٣".encode(), b"\xff\xfe", b"1.5", b"34200." + b"3" * 5_000, b" 1", b"+1", b"0", b"1", b"3", b"5", b"7", b"x" * 70_000,
]  # fmt: skip
Mutation = Callable[[bytearray, random.Random], None]


def flip(body: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        body[rng.randrange(len(body))] = rng.randrange(256)


def drop(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    del body[at : at + rng.choice((1, 3, 30, 300))]


def double(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    body[at:at] = body[at : at + rng.choice((1, 3, 30, 300))]


def cut(body: bytearray, rng: random.Random) -> None:
    del body[rng.randrange(len(body)) :]


def insert(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    body[at:at] = rng.choice((b"\n", b"\n" * 500, b"\r\n", b"\0", b",", b";", b"\xef\xbb\xbf", b"PK\x05\x06", rng.randbytes(20)))


def cell(body: bytearray, rng: random.Random) -> None:
    lines = bytes(body).split(b"\n")
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.randrange(len(lines))
        cells = lines[row].split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(CELLS)
        lines[row] = b",".join(cells)
    body[:] = b"\n".join(lines)


def shuffle(body: bytearray, rng: random.Random) -> None:
    lines = bytes(body).split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    body[:] = b"\n".join(lines)


def head(body: bytearray, rng: random.Random) -> None:
    body[:0] = rng.choice((b"a,b\n", b"\xef\xbb\xbf", b"\n\n", b"a;b\n", b"<x>", b"h" * 70_000 + b"\n", b"\r"))


TEXT_MUTATIONS: tuple[Mutation, ...] = (flip, drop, double, cut, insert, cell, cell, cell, shuffle, head)


def header(body: bytearray, rng: random.Random) -> None:
    """A field of one of the archive's records takes a wild value."""
    marks = [(b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22)]
    mark, size = rng.choice(marks)
    places = [at for at in range(len(body)) if body.startswith(mark, at)]
    if places:
        at = rng.choice(places) + rng.randrange(4, size - 3)
        body[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 12, 99, 0xFFFF, 1 << 31, 0xFFFFFFFF, rng.getrandbits(32))))


ARCHIVE_MUTATIONS: tuple[Mutation, ...] = (flip, drop, double, cut, insert, header, header, header)


def mutated(body: bytes, mutations: tuple[Mutation, ...], rng: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if changed:
            rng.choice(mutations)(changed, rng)
    return bytes(changed)


def packed(message: bytes, book: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for kind, body in (("message", message), ("orderbook", book)):
            archive.writestr(STEM.format(kind), body)
    return stream.getvalue()


def outcome(source: Any) -> str:
    """What comes of reading `source`; the traceback of an error that is not ours."""
    try:
        (reading,) = read(source)
    except DataError as error:
        assert "expected" in str(error) or "cannot" in str(error), str(error)
        return "refused"
    except Exception:
        return traceback.format_exc()
    assert reading.rows_in == reading.rows_kept + reading.rows_quarantined
    assert reading.rows_kept == len(reading.day.kind) == len(reading.day.book_price)
    checked = reading.orders
    assert checked.checked == checked.equal + checked.explained + checked.unexplained
    return "read, rows quarantined" if reading.rows_quarantined else "read whole"


def bodies() -> list[bytes]:
    """Message and order book file."""
    return ["\n".join(lines).encode() + b"\n" for lines in day(3, ROWS, LEVELS, orders=30)]


def play(folder: Path, seed: int, count: int, of: str) -> tuple[Counter[str], list[str]]:
    """What comes of `count` damaged "texts" or "archives", and the tracebacks."""
    rng = random.Random(seed)
    whole = bodies()
    paths = [folder / STEM.format(kind) for kind in ("message", "orderbook")]
    zips = [packed(*whole, method) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)]
    archive = folder / "days.zip"
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for _ in range(count):
        if of == "texts":
            which = rng.choice(((0,), (1,), (0, 1)))
            for at in range(2):
                paths[at].write_bytes(mutated(whole[at], TEXT_MUTATIONS, rng) if at in which else whole[at])
            found = outcome((paths[0], paths[1]))
        else:
            archive.write_bytes(mutated(rng.choice(zips), ARCHIVE_MUTATIONS, rng))
            found = outcome(archive)
        wrong += [found] if found.startswith("Trace") else []
        counts[found.split("\n")[0]] += 1
    return counts, wrong


def test_damaged_bytes_are_read_or_refused_and_nothing_else(tmp_path):
    of_texts, wrong = play(tmp_path, SEED, TEXTS, "texts")
    of_archives, more = play(tmp_path, SEED, ARCHIVES, "archives")
    assert not wrong + more, (wrong + more)[0]
    assert min(of_texts["refused"], of_texts["read, rows quarantined"], of_texts["read whole"]) > 0, of_texts
    assert of_archives["refused"] > ARCHIVES / 4 and of_archives["read whole"] > 0, of_archives


@pytest.mark.long
@pytest.mark.timeout(0)
def test_thousands_of_damaged_texts_and_archives_are_read_or_refused(tmp_path):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    started = time.process_time()
    of_texts, wrong = play(tmp_path, SEED + 1, LONG_TEXTS, "texts")
    of_archives, more = play(tmp_path, SEED + 1, LONG_ARCHIVES, "archives")
    wrong += more
    told = {
        "what": "damaged bytes of a day's two files, and of archives of them, that the reader takes or refuses as DataError",
        "tier": "long", "command": "pytest -n 0 -m long tests/data/test_lobster_fuzz.py", "commit": commit, "seed": SEED + 1,
        "texts": {"n": LONG_TEXTS, **dict(sorted(of_texts.items()))},
        "archives": {"n": LONG_ARCHIVES, **dict(sorted(of_archives.items()))},
        "other_errors": len(wrong), "cpu_seconds": round(time.process_time() - started),
    }  # fmt: skip
    (ROOT / "docs/evidence/reader_fuzz.json").write_text(json.dumps(told, indent=1) + "\n")
    assert not wrong, wrong[0]
