"""The columnar block of a diary: the decisions of all lanes over some steps as plain bytes, readable with numpy alone.

====================  ==================================================================================================
bytes                 meaning
====================  ==================================================================================================
8                     ``b"EMPDIARY"``
4                     length of the header, little-endian
...                   header: canonical JSON, filled up with spaces to a multiple of 8 from the beginning
...                   one array after the other, in the header's order, each filled up with zeros to a multiple of 8
====================  ==================================================================================================

The header holds ``version, run, lanes, first_step, steps, notes`` and ``arrays``: a list of
``{name, type, stored, base, shape}``. An array is little-endian of `stored`; its values are ``base + stored`` as `type`,
and all equal to `base` where `stored` is "" (then it has no bytes). Floats are stored as they are.

``decided`` is a row of bits [steps, lanes], first bit highest: which lane decided in which step. All other columns of
decisions have one value for each set bit, in that order. Tables that hang on decisions (orders, sent, objections, fills)
have a column ``TABLE.count`` with the number of their entries a decision, and the entries in the order of the decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emp_gym.governance.errors import LogError
from emp_gym.governance.log.canonical import LARGEST, canonical, parse
from emp_gym.types import ORDER

MAGIC, VERSION = b"EMPDIARY", 2
ONE_INSTRUMENT = 1  # version of blocks whose fills do not say of which instrument they are: all of number 0
MASKED, TERMINATED, TRUNCATED, SETTLED = 1, 2, 4, 8  # flags of a decision
UNKNOWN_REGIME = -1

DECISION = np.dtype(
    [
        ("step", "i8"),  # step of the run, all lanes together
        ("time_ns", "i8"),  # of the decision
        ("decision", "i8"),  # decisions taken before in the episode
        ("observation", "u8"),  # `hash_rows` of the observation that it was taken on
        ("reward", "f8"),  # of the environment, before any wrapper
        ("pnl2", "i8"),  # twice the change of equity until the next decision, 1e-8 currency
        ("row", "i4"),  # row of the day's tape
        ("lane", "i4"),
        ("day", "i4"),  # number of the day in the set
        ("regime", "i1"),  # Regime, UNKNOWN_REGIME where nobody said
        ("latch", "i1"),  # Latch under which the orders were judged, the tightest of all gates
        ("flags", "u1"),  # MASKED, TERMINATED, TRUNCATED, SETTLED (the outcome is known)
    ],
    align=True,
)
ORDERED = np.dtype(
    [("at", "i8"), ("slot", "i4"), ("kind", "i1"), *((name, ORDER[name]) for name in ORDER.names or ())], align=True
)
"""One request of a decision; `at` is the decision's place in its block."""
OBJECTION = np.dtype(
    [("at", "i8"), ("reason", "u8"), ("before", "i8"), ("after", "i8"), ("gate", "i4"), ("slot", "i4")], align=True
)
"""One order that a gate objected to: reason bits, quantity before and after in lots."""
FILLED = np.dtype(
    [
        ("at", "i8"), ("time_ns", "i8"), ("id", "i8"), ("price", "i8"), ("quantity", "i8"), ("fee", "i8"), ("row", "i4"),
        ("instrument", "i4"), ("side", "i1"), ("maker", "?"), ("beyond_depth", "?"),
    ],
    align=True,
)  # fmt: skip
"""One own execution after a decision; fields as in `Fills`."""

TABLES = {"orders": ORDERED, "sent": ORDERED, "objections": OBJECTION, "fills": FILLED}
COLUMNS = tuple(name for name in DECISION.names or () if name not in ("step", "lane"))  # these two are in `decided`


def fields(table: np.dtype) -> tuple[str, ...]:
    """Names of the fields of a table's entry, `at` aside."""
    return (table.names or ())[1:]


class DiaryDamaged(LogError):
    """Bytes that were signed as a diary's are not of the form of one: another version wrote them, or a faulty writer."""


@dataclass
class Block:
    """Decisions of all lanes over `steps` steps from `first_step` on, in the order of steps and lanes."""

    run: str  # leaf hash of the run's entry, hex
    lanes: int
    first_step: int
    steps: int
    decisions: np.ndarray  # DECISION [D]
    actions: np.ndarray  # i8 [D] of a menu, or f4 [D, levers], as the environment took them
    orders: np.ndarray  # ORDERED: what the task proposed
    sent: np.ndarray  # ORDERED: entries that reached the market as another than proposed; kind NONE: dropped
    objections: np.ndarray  # OBJECTION
    fills: np.ndarray  # FILLED
    notes: list[tuple[int, str]] = field(default_factory=list)  # (place of the decision, what the agent said)

    def tables(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, entries) of what hangs on decisions; entries stand in the order of `at`."""
        for name in TABLES:
            yield name, getattr(self, name)

    def of(self, name: str, at: int) -> np.ndarray:
        """Entries of table `name` that belong to the decision at place `at`."""
        table = getattr(self, name)
        low, high = np.searchsorted(table["at"], [at, at + 1])
        return table[low:high]

    def note(self, at: int) -> str:
        """What the agent said of the decision at place `at`, "" if nothing."""
        return " ".join(text for place, text in self.notes if place == at)


def encode(block: Block) -> bytes:
    """The bytes of `block`."""
    headers, bodies = [], []
    for name, values in _columns(block):
        head, body = _packed(name, values)
        headers.append(head)
        bodies.append(body)
    header = canonical(
        {
            "version": VERSION, "run": block.run, "lanes": block.lanes, "first_step": block.first_step,
            "steps": block.steps, "notes": [list(note) for note in block.notes], "arrays": headers,
        }
    )  # fmt: skip
    header += b" " * (-(len(MAGIC) + 4 + len(header)) % 8)
    return b"".join((MAGIC, len(header).to_bytes(4, "little"), header, *bodies))


def _columns(block: Block) -> Iterator[tuple[str, np.ndarray]]:
    decisions = block.decisions
    decided = np.zeros(block.steps * block.lanes, np.bool_)
    decided[(decisions["step"] - block.first_step) * block.lanes + decisions["lane"]] = True
    yield "decided", np.packbits(decided)
    yield "action", block.actions
    for name in COLUMNS:
        yield name, decisions[name]
    for table, entries in block.tables():
        yield f"{table}.count", np.bincount(entries["at"], minlength=len(decisions))
        for name in fields(entries.dtype):
            yield f"{table}.{name}", entries[name]


def _packed(name: str, values: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Header entry and bytes of one array: the least width that holds its values less their smallest."""
    kind, values = values.dtype.str[1:], np.ascontiguousarray(values)  # fields of records lie apart
    head = {"name": name, "type": kind, "stored": kind, "base": 0, "shape": list(values.shape)}
    if not values.size:
        return head | {"stored": ""}, b""
    if values.dtype.kind == "f" or name == "decided":
        return head, _filled(values.astype(values.dtype.newbyteorder("<")))
    low, high = int(values.min()), int(values.max())
    for stored, largest in (("", 0), ("u1", 0xFF), ("u2", 0xFFFF), ("u4", 0xFFFF_FFFF)):
        if high - low <= largest and abs(low) <= LARGEST:
            wide = np.uint64 if values.dtype.kind == "u" else np.int64
            less = (values.astype(wide) - wide(low)).astype(f"<{stored}") if stored else np.zeros(0, "u1")
            return head | {"stored": stored, "base": low}, _filled(less)
    return head, _filled(values.astype(values.dtype.newbyteorder("<")))


def _filled(values: np.ndarray) -> bytes:
    data = values.tobytes()
    return data + b"\0" * (-len(data) % 8)


def decode(data: bytes) -> Block:
    """The block of `data`; `DiaryDamaged` where it has another form."""
    try:
        head, at = _header(data)
        arrays: dict[str, np.ndarray] = {}
        for entry in head["arrays"]:
            arrays[entry["name"]], at = _unpacked(entry, data, at, _most(entry["name"], arrays))
        if at != len(data):
            raise ValueError(f"{len(data) - at} bytes after the last array")
        return _block(head, arrays)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise DiaryDamaged(
            f"a diary block of {len(data)} bytes cannot be read ({type(error).__name__}: {error}); expected version "
            f"{VERSION} of the format in emp_gym/governance/diary/blocks.py; read it with the version that wrote it"
        ) from error


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    start = len(MAGIC) + 4
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"begins with {data[: len(MAGIC)]!r}, not {MAGIC!r}")
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    head = parse(data[start:end])
    if head["version"] not in (ONE_INSTRUMENT, VERSION):
        raise ValueError(f"version {head['version']}")
    return head, end


MOST_ENTRIES = 1 << 24  # of a table of one block


def _most(name: str, arrays: dict[str, np.ndarray]) -> int:
    """How many values the array `name` may have if they are all alike: it takes no bytes then, and could claim any number."""
    if name == "decided":
        return 0
    table, _, column = name.partition(".")
    return int(arrays[f"{table}.count"].sum()) if column not in ("", "count") else 8 * len(arrays["decided"])


def _unpacked(entry: dict[str, Any], data: bytes, at: int, most: int) -> tuple[np.ndarray, int]:
    shape, kind = tuple(entry["shape"]), np.dtype(entry["type"])
    if kind.kind not in "biuf" or not 1 <= len(shape) <= 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"array {entry['name']} of type {kind} and shape {shape}")
    count = math.prod(shape)
    if not entry["stored"] and count > most:
        raise ValueError(f"array {entry['name']} of shape {shape}, expected at most {most} values")
    if not entry["stored"]:
        return np.full(shape, entry["base"], kind), at
    stored = np.dtype("<" + entry["stored"])
    values = np.frombuffer(data, stored, count, at).reshape(shape)
    wide = np.uint64 if kind.kind == "u" else np.int64
    if entry["base"]:
        values = values.astype(wide) + wide(entry["base"])
    return values.astype(kind), at + -(-count * stored.itemsize // 8) * 8


def _block(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Block:
    lanes, steps = head["lanes"], head["steps"]
    if len(arrays["decided"]) != -(-lanes * steps // 8):
        raise ValueError(f"{len(arrays['decided'])} bytes say who decided in {steps} steps of {lanes} lanes")
    places = np.flatnonzero(np.unpackbits(arrays["decided"], count=lanes * steps))
    decisions = np.zeros(len(places), DECISION)
    decisions["step"], decisions["lane"] = head["first_step"] + places // lanes, places % lanes
    for name in COLUMNS:
        decisions[name] = arrays[name]
    if len(arrays["action"]) != len(places):
        raise ValueError(f"{len(arrays['action'])} actions of {len(places)} decisions")
    tables = {}
    for table, dtype in TABLES.items():
        counts = arrays[f"{table}.count"]
        if len(counts) != len(places) or counts.min(initial=0) < 0 or counts.max(initial=0) > MOST_ENTRIES or counts.sum() > MOST_ENTRIES:
            raise ValueError(f"{table}.count: expected {len(places)} numbers from 0, {MOST_ENTRIES} together")
        at = np.repeat(np.arange(len(places)), arrays[f"{table}.count"])
        tables[table] = np.zeros(len(at), dtype)
        tables[table]["at"] = at
        for name in fields(dtype):
            if head["version"] != ONE_INSTRUMENT or (table, name) != ("fills", "instrument"):
                tables[table][name] = arrays[f"{table}.{name}"]
    notes = [(int(place), str(text)) for place, text in head["notes"]]
    return Block(head["run"], lanes, head["first_step"], steps, decisions, arrays["action"], notes=notes, **tables)


def hash_rows(observation: np.ndarray) -> np.ndarray:
    """64-bit hash u8 [N] of each row of f4 [N, D], over the raw bits (-0.0 is not 0.0).

    Not cryptographic: it tells observations apart that were not made to collide. Words of 64 bits (two floats, the first
    one low; a last single one alone) go in one after the other: ``h = (h ^ word) * P; h ^= h >> 32``, from h = D on.
    """
    words = np.ascontiguousarray(observation, np.float32).view(np.uint32)
    lanes, size = words.shape
    h = np.full(lanes, size, np.uint64)
    for i in range(0, size, 2):
        word = words[:, i].astype(np.uint64)
        if i + 1 < size:
            word |= words[:, i + 1].astype(np.uint64) << np.uint64(32)
        h = (h ^ word) * np.uint64(HASH_PRIME)
        h ^= h >> np.uint64(32)
    return h


HASH_PRIME = 0x9E3779B185EBCA87  # xxHash's first prime of 64 bits
