"""The reader's edges: what is no file, archives that a stranger made, numbers and lines without end, impossible names."""

from __future__ import annotations

import os
import resource
import socket
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data import store
from emp_gym.data.lobster import archive as lobster_archive
from emp_gym.data.lobster.check import expected_book
from emp_gym.data.lobster.parser import find_rows
from emp_gym.data.lobster.reader import read
from emp_gym.types import DataError
from tests.data.reference_lobster import day
from tests.data.test_lobster_damage import write

STEM = "XYZ_2012-06-21_34200000_57600000_{}_2.csv"
MESSAGES, BOOKS = day(3, 200, 2)
BODIES = {kind: ("\n".join(lines) + "\n").encode() for kind, lines in (("message", MESSAGES), ("orderbook", BOOKS))}


def refused(source: object, words: str) -> str:
    """The error that reading `source` raises; it says what was expected and what to do."""
    with pytest.raises(DataError, match=words) as error:
        read(source)  # type: ignore[arg-type]
    assert "expected" in str(error.value) or "missing" in str(error.value), error.value
    return str(error.value)


# ---- what is no file -------------------------------------------------------------------------------------------------


def put(kind: str, path: Path) -> None:
    """Something that is no regular file at `path`."""
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as stream:
            here = os.open(path.parent, os.O_RDONLY)
            stream.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for a socket
            os.close(here)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to nothing":
        path.symlink_to(path.parent / "gone")
    else:
        path.symlink_to(path)


KINDS = ("a named pipe", "a socket", "a device", "a link to nothing", "a link to itself")


@pytest.mark.parametrize("half", ["message", "orderbook"])
@pytest.mark.parametrize("kind", [*KINDS, "a folder"])
def test_a_half_that_is_no_file_is_refused_at_once(kind, half, tmp_path):
    paths = dict(zip(("message", "orderbook"), write(tmp_path, MESSAGES, BOOKS)))
    paths[half].unlink()
    put(kind, paths[half])
    words = "no such file|missing" if kind == "a link to nothing" else kind
    refused((paths["message"], paths["orderbook"]), words)
    for source in (tmp_path, paths["message"], paths["orderbook"]):
        if kind == "a folder" and source in (tmp_path, paths[half]):
            refused(source, "missing|no LOBSTER pair")
        else:
            refused(source, words)
    with pytest.raises(DataError):
        store.tapes(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_beside_a_day_is_left_alone(kind, tmp_path):
    write(tmp_path, MESSAGES, BOOKS)
    put(kind, tmp_path / "other.zip")
    assert len(read(tmp_path)) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="Linux only")
def test_what_the_system_will_not_read_is_refused_with_its_path(tmp_path):
    (tmp_path / "other.zip").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"other\.zip: it cannot be read"):
        read(tmp_path / "other.zip")


def test_what_may_not_be_read_is_refused_with_its_path(tmp_path, monkeypatch):
    message, book = write(tmp_path, MESSAGES, BOOKS)
    real = os.open

    def closed(path, *rest, **named):
        if str(path) == str(book):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", closed)
    told = refused((message, book), "Permission denied")
    assert str(book) in told and "chmod u+r" in told


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    write(tmp_path, MESSAGES, BOOKS)
    (tmp_path / "deeper").mkdir()
    real = os.scandir

    def closed(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert "deeper" in refused(tmp_path, "Permission denied")


def test_names_that_the_system_does_not_take_are_refused(tmp_path):
    refused(tmp_path / ("x" * 5_000), "refuses|no such file")
    refused("\0", "refuses|no such file")
    refused("~nobody-of-this-name/day", "no such file|home")


# ---- names -----------------------------------------------------------------------------------------------------------

DATES = ("2012-13-45", "2012-02-30", "2011-02-29", "2012-00-10", "0000-01-01", "1492-10-12", "9999-12-31")
SESSIONS = ("57600000_34200000", "34200000_34200000", "34200000_86400001", "0_999999999999999999999", f"{'9' * 120}_1")


@pytest.mark.parametrize("name", [f"{date}_34200000_57600000" for date in DATES] + [f"2012-06-21_{s}" for s in SESSIONS])
@pytest.mark.parametrize("zipped", [False, True])
def test_impossible_dates_and_sessions_in_names_are_refused(name, zipped, tmp_path):
    names = [f"XYZ_{name}_{kind}_2.csv" for kind in BODIES]
    if zipped:
        with zipfile.ZipFile(tmp_path / "days.zip", "w") as archive:
            for name, body in zip(names, BODIES.values()):
                archive.writestr(name, body)
        assert "days.zip!" in refused(tmp_path / "days.zip", "its name says")
        return
    paths = [tmp_path / name for name in names]
    for path, body in zip(paths, BODIES.values()):
        path.write_bytes(body)
    for source in (tmp_path, paths[0], (paths[0], paths[1])):
        assert "rename both files" in refused(source, "its name says")


@pytest.mark.parametrize("name", ["2012-02-29_34200000_57600000", "2012-06-21_0_86400000", "2012-06-21_00034200000_57600000"])
def test_possible_dates_and_sessions_are_read(name, tmp_path):
    for kind, body in BODIES.items():
        (tmp_path / f"XYZ_{name}_{kind}_2.csv").write_bytes(body)
    (reading,) = read(tmp_path)
    assert reading.rows_kept == 200 and reading.day.date == name[:10]


def test_the_names_of_a_pair_of_any_name_are_checked_and_other_names_are_not(tmp_path):
    message, book = write(tmp_path, MESSAGES, BOOKS)
    (tmp_path / "notes 2012-13-45.txt").write_text("not a day")
    assert len(read(tmp_path)) == 1
    odd = message.rename(tmp_path / "ABC 2012-13-45.txt")
    refused((odd, book), "date 2012-13-45")


def test_two_files_for_one_half_are_refused(tmp_path):
    message, _ = write(tmp_path, MESSAGES, BOOKS)
    message.with_name(message.name.replace("message", "MESSAGE")).write_bytes(message.read_bytes()[:500])
    refused(tmp_path, "both the message half")


def test_a_level_of_five_thousand_digits_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "days.zip", "w") as archive:
        for kind, body in BODIES.items():
            archive.writestr(STEM.format(kind).replace("_2.csv", f"_{'2' * 5_000}.csv"), body)
    refused(tmp_path / "days.zip", "columns, expected")


# ---- archives --------------------------------------------------------------------------------------------------------


def pack(path: Path, method: int = zipfile.ZIP_DEFLATED, folder: str = "", **bodies: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for kind, body in {**BODIES, **bodies}.items():
            archive.writestr(folder + STEM.format(kind), body)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("folder", ["", "a/b/", "a\\b\\"])
def test_an_intact_archive_is_read(method, folder, tmp_path):
    (reading,) = read(pack(tmp_path / "days.zip", method, folder))
    assert reading.rows_kept == 200 and reading.day.instrument.symbol == "XYZ"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused_before_anything_is_unpacked(method, tmp_path):
    refused(pack(tmp_path / "days.zip", method), f"packed by method {method}, expected stored or deflated")


@pytest.mark.parametrize("folder", ["../", "/tmp/", "a/../../", "..\\", "C:\\days\\", "\\\\host\\days\\"])
def test_names_that_leave_the_archives_folder_are_refused(folder, tmp_path):
    refused(pack(tmp_path / "days.zip", folder=folder), "a member is called")


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = pack(tmp_path / "days.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(STEM.format("message"), BODIES["message"][:900])
    refused(path, "2 members called")


def test_an_archive_in_an_archive_is_named(tmp_path):
    pack(tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "inner.zip")
    refused(tmp_path / "outer.zip", r"unpack the archive in it first \(outer.zip!inner.zip\)")


def test_an_encrypted_member_is_refused(tmp_path):
    path = pack(tmp_path / "days.zip")
    body = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = body.find(mark)
        while place >= 0:
            body[place + at] |= 1
            place = body.find(mark, place + 4)
    path.write_bytes(body)
    refused(path, "encrypted")


def test_a_member_that_is_a_link_is_refused(tmp_path):
    path = tmp_path / "days.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for kind in BODIES:
            info = zipfile.ZipInfo(STEM.format(kind))
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    refused(path, "a link or a device")


def test_an_archive_that_was_cut_off_or_damaged_is_refused_wherever_it_is(tmp_path):
    path = pack(tmp_path / "days.zip")
    body = path.read_bytes()
    for end in (0, 3, 10, 60, len(body) // 2, len(body) - 30, len(body) - 1):
        path.write_bytes(body[:end])
        with pytest.raises(DataError):
            read(path)
    for at in range(0, len(body), 97):  # a bit anywhere: found, or in a place that says nothing of the content
        path.write_bytes(body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :])
        try:
            (reading,) = read(path)
        except DataError:
            continue
        assert reading.rows_kept == 200


def bomb(path: Path, size: int) -> Path:
    """A day whose message file becomes `size` bytes of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(STEM.format("message"), "w", force_zip64=True) as stream:
            for _ in range(size >> 20):
                stream.write(b"0" * (1 << 20))
        archive.writestr(STEM.format("orderbook"), BODIES["orderbook"])
    return path


def test_a_bomb_is_refused_by_its_ratio_and_a_large_file_by_its_size(tmp_path, monkeypatch):
    path = bomb(tmp_path / "days.zip", 80 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "200 times" in refused(path, r"bytes become 83,886,080")
    monkeypatch.setattr(lobster_archive, "MOST_BYTES", 1 << 20)
    refused(path, r"83,886,080 bytes unpacked, expected 1,048,576 at most")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_a_bomb_that_lies_about_its_size_is_read_no_further_than_it_says(tmp_path):
    path = bomb(tmp_path / "days.zip", 8 << 20)
    body = bytearray(path.read_bytes())
    place = body.find(b"PK\x01\x02")
    assert struct.unpack_from("<I", body, place + 24)[0] == 8 << 20
    struct.pack_into("<I", body, place + 24, 1000)
    path.write_bytes(body)
    refused(path, "damaged|holds")
    struct.pack_into("<I", body, place + 24, 60 << 20)
    path.write_bytes(body)
    refused(path, "damaged|holds")


def test_too_many_members_and_a_list_of_them_without_end_are_refused(tmp_path, monkeypatch):
    path = pack(tmp_path / "days.zip")
    monkeypatch.setattr(lobster_archive, "MOST_MEMBERS", 1)
    refused(path, "2 members, expected 1 at most")
    monkeypatch.setattr(lobster_archive, "MOST_DIRECTORY", 1 << 7)
    refused(path, "list of members has")


def test_a_bomb_in_a_folder_of_good_days_does_not_hide_them_nor_pass(tmp_path):
    write(tmp_path, MESSAGES, BOOKS)
    bomb(tmp_path / "more.zip", 80 << 20)
    refused(tmp_path, "200 times|both|bytes become")


# ---- numbers and lines without end -----------------------------------------------------------------------------------

LONG = "9" * 5_000
ZEROS = "0" * 5_000


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("value", [LONG, f"-{LONG}", str(2**63), str(-(2**63)), str(2**64 + 5), "\0", "1\0", "٣", "1" * 70_000])
def test_a_message_with_a_wild_number_is_quarantined(column, value, tmp_path):
    cells = MESSAGES[50].split(",")
    cells[column] = value
    (reading,) = read(write(tmp_path, [*MESSAGES[:50], ",".join(cells), *MESSAGES[51:]], BOOKS))
    (entry,) = reading.quarantine.rows
    assert entry.row == 51 and reading.rows_kept == 199
    expected = "line" if len(value) > 65_536 else ("time", "type", "order id", "size", "price", "direction")[column]
    assert entry.column == expected and len(entry.got) < 200


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("value", [LONG, f"-{LONG}", str(2**63), str(2**32 + 1), "\0", "٣"])
def test_a_book_row_with_a_wild_number_is_quarantined(column, value, tmp_path):
    cells = BOOKS[50].split(",")
    cells[column] = value
    (reading,) = read(write(tmp_path, MESSAGES, [*BOOKS[:50], ",".join(cells), *BOOKS[51:]]))
    assert [entry.row for entry in reading.quarantine.rows] == [51] and reading.rows_kept == 199


def test_thousands_of_leading_zeros_are_the_same_number(tmp_path):
    messages = [",".join([cells[0], *(ZEROS + cell if cell[0] != "-" else cell for cell in cells[1:])])
                if n % 40 == 7 else ",".join(cells) for n, cells in enumerate(line.split(",") for line in MESSAGES)]  # fmt: skip
    messages[100] = ZEROS + messages[100] + "0" if "." in messages[100].split(",")[0] else ZEROS + messages[100]
    (reading,) = read(write(tmp_path, messages, BOOKS))
    assert reading.rows_in == 200 and all(entry.rule in ("direction",) for entry in reading.quarantine.rows)


def test_a_price_off_its_tick_behind_thousands_of_zeros_is_quarantined(tmp_path):
    at = next(n for n in range(50, 200) if MESSAGES[n].split(",")[1] in ("1", "2", "3", "4"))
    cells = MESSAGES[at].split(",")
    cells[4] = f"{ZEROS}{int(cells[4]) + 1}"
    (reading,) = read(write(tmp_path, [*MESSAGES[:at], ",".join(cells), *MESSAGES[at + 1 :]], BOOKS))
    (entry,) = reading.quarantine.rows
    assert (entry.row, entry.rule, entry.got) == (at + 1, "off-tick", cells[4].lstrip("0"))


def test_files_whose_every_field_is_too_long_are_refused(tmp_path):
    wild = [",".join([LONG] * 6) for _ in MESSAGES]
    refused(write(tmp_path, wild, BOOKS), "columns, expected 6|break a rule")
    refused(write(tmp_path, MESSAGES, [",".join([LONG] * 8) for _ in BOOKS]), "columns, expected 8|break a rule")


@pytest.mark.parametrize("piece", [b"7", b",", b"7,", b"\xff"])
def test_a_line_of_many_megabytes_is_one_bad_line(piece, tmp_path):
    paths = write(tmp_path, MESSAGES, BOOKS)
    long = piece * (8_000_000 // len(piece))
    for path, lines in zip(paths, (MESSAGES, BOOKS)):
        body = "\n".join(lines[:100]).encode() + b"\n" + long + b"\n" + "\n".join(lines[101:]).encode() + b"\n"
        path.write_bytes(body)
        (reading,) = read(paths)
        (entry,) = reading.quarantine.rows
        assert (entry.row, entry.rule) == (101, "line-length") and len(entry.got) < 400
        path.write_bytes(("\n".join(lines) + "\n").encode())


def test_a_file_that_goes_on_as_one_endless_line_is_refused_or_cut(tmp_path):
    message, book = write(tmp_path, MESSAGES, BOOKS)
    message.write_bytes(b"1" * 8_000_000)
    refused((message, book), "columns, expected 6")
    message.write_bytes(BODIES["message"] + b"1" * 8_000_000)
    (reading,) = read((message, book))
    assert [entry.rule for entry in reading.quarantine.rows] == ["line-length"]


def test_millions_of_lines_too_short_for_a_row_make_no_room(tmp_path):
    message, book = write(tmp_path, MESSAGES, BOOKS)
    book.write_bytes(BODIES["orderbook"] + b"x\n" * 2_000_000)
    refused((message, book), "too|lines in .* bytes, expected")
    book.write_bytes(BODIES["orderbook"] + b"\n" * 2_000_000)
    assert read((message, book))[0].rows_kept == 200


LAYOUTS = [b"", b"\n", b"a", b"a\n", b"\r\n\r\na\n\n\nb", b"\n\r\na\r\n\r\n\nb\r\n", b"a\n\rb\n", b"\xef\xbb\xbfa\nb\n"]


@pytest.mark.parametrize("body", LAYOUTS)
def test_the_lines_of_rows_are_those_that_plain_reading_finds(body):
    begin = 3 if body.startswith(b"\xef") else 0
    lines = body.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
    expected = [(max(start, begin), n + 1) for n, (start, line) in enumerate(zip(starts, lines)) if line.removesuffix(b"\r")]
    found, numbers = np.zeros(9, np.int64), np.zeros(9, np.int64)
    rows = find_rows(np.frombuffer(body, np.uint8), begin, found, numbers)
    assert list(zip(found.tolist(), numbers.tolist()))[:rows] == expected


def test_the_line_of_a_bad_row_behind_a_byte_order_mark_is_right(tmp_path):
    message, book = write(tmp_path, [*MESSAGES[:5], MESSAGES[5].replace(",", ",x", 1), *MESSAGES[6:]], BOOKS)
    message.write_bytes(b"\xef\xbb\xbf" + message.read_bytes())
    (entry,) = read((message, book))[0].quarantine.rows
    assert (entry.row, entry.column) == (6, "type")


def test_lots_beyond_int32_at_one_level_do_not_wrap():
    """10 lots, twice 2^31 - 1 and 2: no book can show them, and their sum modulo 2^32 must not pass for 10."""
    lots = np.array([2**31 - 1, 2**31 - 1, 2], np.int32)
    kind, side, units = np.ones(3, np.int8), np.ones(3, np.int8), np.full(3, 999_900, np.int64)
    price, size = np.array([[999_900], [1_000_100]], np.int64), np.array([[10], [5]], np.int32)
    *_, whole = expected_book(kind, side, units, lots, np.ones(3, np.bool_), price, size, 0, 3)
    assert not whole
    _, now, _, whole = expected_book(kind, side, units, lots, np.ones(3, np.bool_), price, size, 2, 3)
    assert whole and now.tolist() == [[12], [5]]


def test_buffers_of_archives_are_read_only_like_mapped_files(tmp_path):
    content = lobster_archive.unpacked(pack(tmp_path / "days.zip"), STEM.format("message"))
    assert bytes(content) == BODIES["message"] and not content.flags.writeable
