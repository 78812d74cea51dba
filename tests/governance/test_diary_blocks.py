"""The block: what goes in comes out to the bit, anyone can read it with numpy, and what is not one is refused."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.governance.diary import blocks, kernels
from emp_gym.governance.diary import rows as diary_rows
from emp_gym.governance.diary.blocks import (
    DECISION,
    TABLES,
    Block,
    DiaryDamaged,
    decode,
    encode,
    hash_rows,
)
from emp_gym.governance.log.canonical import canonical, parse
from tests.governance.diaries import same

EDGES = {kind: np.iinfo(kind) for kind in ("i1", "u1", "i4", "i8", "u8")}


def numbers(rng: np.random.Generator, kind: np.dtype, count: int, spread: int) -> np.ndarray:
    """Values near zero, far away in a narrow band, or anywhere, the ends of the type among them."""
    if kind.kind == "f":
        return rng.normal(size=count).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, count).astype(kind)
    low, high = EDGES[kind.str[1:]].min, EDGES[kind.str[1:]].max
    if spread == 0:
        return np.full(count, rng.integers(low, high, dtype=kind, endpoint=True))
    if spread == 1:
        return rng.integers(max(low, high - 200), high, count, dtype=kind, endpoint=True)
    return rng.integers(low, high, count, dtype=kind, endpoint=True)


def made(seed: int, steps: int, lanes: int, share: float, spread: int, levers: int) -> Block:
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(rng.random(steps * lanes) < share)
    count = len(places)
    decisions = np.zeros(count, DECISION)
    for name in DECISION.names:
        decisions[name] = numbers(rng, DECISION[name], count, spread)
    first = int(rng.integers(0, 1 << 40))
    decisions["step"], decisions["lane"] = first + places // lanes, places % lanes
    actions = rng.normal(size=(count, levers)).astype("f4") if levers else rng.integers(0, 11, count)
    tables = {}
    for table, kind in TABLES.items():
        entries = np.zeros(int(rng.integers(0, 2 * count + 1)) if count else 0, kind)
        for name in kind.names:
            entries[name] = numbers(rng, kind[name], len(entries), spread)
        entries["at"] = np.sort(rng.integers(0, max(count, 1), len(entries)))
        tables[table] = entries
    notes = [(int(at), "because Σ ≥ 2") for at in range(0, count, 7)]
    return Block("cd" * 32, lanes, first, steps, decisions, actions, notes=notes, **tables)


@given(
    st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 9), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 2),
    st.sampled_from([0, 3]),
)  # fmt: skip
def test_what_goes_in_comes_out(seed, steps, lanes, share, spread, levers):
    block = made(seed, steps, lanes, share, spread, levers)
    again = decode(encode(block))
    assert (again.run, again.lanes, again.first_step, again.steps) == (
        block.run,
        lanes,
        block.first_step,
        steps,
    )
    assert again.notes == block.notes and same(again.actions, block.actions)
    for name in DECISION.names:
        assert same(again.decisions[name], block.decisions[name]), name
    for name, entries in block.tables():
        assert same(getattr(again, name), entries), name
    assert encode(again) == encode(block)


def by_the_book(data: bytes, page: str) -> dict[str, np.ndarray]:
    """What the reader on the documentation's page reads."""
    code = page.split("Numpy alone reads it")[1].split("```python\n")[1].split("```")[0]
    room = {"data": data, "np": np, "json": json}
    exec(code, room)
    assert room["at"] == len(data)
    return room["arrays"]


def test_numpy_and_the_page_are_enough_to_read_a_block(root):
    block = made(5, 8, 6, 0.7, 1, 3)
    arrays = by_the_book(encode(block), (root / "docs/decision_diary.md").read_text())
    bits = np.unpackbits(arrays["decided"])[:48].reshape(8, 6)
    assert (bits.sum() == len(block.decisions)) and same(arrays["action"], block.actions)
    assert same(arrays["orders.price"], block.orders["price"])
    assert (arrays["reward"] == block.decisions["reward"]).all()
    assert (np.repeat(np.arange(len(block.decisions)), arrays["fills.count"]) == block.fills["at"]).all()


def test_what_is_the_same_everywhere_costs_nothing():
    block = made(1, 20, 10, 1.0, 0, 0)
    block.orders, block.sent, block.objections, block.fills = (np.zeros(0, kind) for kind in TABLES.values())
    block.actions[:], block.notes = 3, []
    stored = {
        e["name"]: e["stored"]
        for e in json.loads(encode(block)[12:].split(b'],"first_step"')[0].split(b'"arrays":')[1] + b"]")
    }
    assert {name for name, kind in stored.items() if kind} <= {"decided", "reward", "observation"}


@pytest.mark.parametrize("cut", [0, 7, 11, 40, -1, -8])
def test_a_block_that_is_cut_short_is_refused(cut):
    data = encode(made(2, 4, 4, 1.0, 2, 0))
    with pytest.raises(DiaryDamaged, match="cannot be read"):
        decode(data[:cut] if cut else b"")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"EMPDIARY", b"EMPDIARX"), (b'"version":2', b'"version":3'), (b'"lanes":4', b'"lanes":5'),
        (b'"type":"f8"', b'"type":"O8"'), (b'"name":"reward"', b'"name":"reworm"'),
    ],
)  # fmt: skip
def test_a_block_of_another_form_is_refused(old, new):
    data = encode(made(2, 4, 4, 1.0, 2, 0))
    assert old in data
    with pytest.raises(DiaryDamaged):
        decode(data.replace(old, new, 1))


def test_the_hash_of_an_observation_is_what_it_is_said_to_be():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 56):
        rows = rng.normal(size=(9, size)).astype(np.float32)
        out = np.zeros(9, np.uint64)
        kernels.hash_lanes(np.arange(9), rows.view(np.uint32), out)
        for row, quick, slow in zip(rows, out, hash_rows(rows), strict=True):
            h, words = size, struct.unpack(f"<{size}I", row.tobytes())
            for i in range(0, size, 2):
                word = words[i] | (words[i + 1] << 32 if i + 1 < size else 0)
                h = (h ^ word) * blocks.HASH_PRIME % 2**64
                h ^= h >> 32
            assert h == quick == slow


def test_every_bit_of_an_observation_changes_its_hash():
    row = np.random.default_rng(1).normal(size=(1, 56)).astype(np.float32)
    flipped = np.repeat(row.view(np.uint32), 56 * 32 + 1, axis=0)
    for bit in range(56 * 32):
        flipped[bit + 1, bit // 32] ^= np.uint32(1 << bit % 32)
    assert len(set(hash_rows(flipped.view(np.float32)).tolist())) == 56 * 32 + 1
    assert hash_rows(np.zeros((1, 2), "f4"))[0] != hash_rows(np.array([[0.0, -0.0]], "f4"))[0]


def test_kernels_and_blocks_mean_the_same_flags():
    for name in ("MASKED", "TERMINATED", "TRUNCATED", "SETTLED"):
        assert getattr(kernels, name) == getattr(blocks, name)
    assert int(kernels.PRIME) == blocks.HASH_PRIME


def of_one_instrument(block: Block) -> bytes:
    """The bytes of `block` as the first version wrote them: its fills do not say of which instrument they are."""
    block.fills["instrument"] = 0  # such a column has no bytes
    data = encode(block)
    start = len(blocks.MAGIC) + 4
    end = start + int.from_bytes(data[start - 4 : start], "little")
    head = parse(data[start:end])
    head["version"], head["arrays"] = 1, [entry for entry in head["arrays"] if entry["name"] != "fills.instrument"]
    header = canonical(head)
    header += b" " * (-(start + len(header)) % 8)
    return blocks.MAGIC + len(header).to_bytes(4, "little") + header + data[end:]


def test_a_block_of_the_first_version_is_read_as_of_one_instrument() -> None:
    block = made(3, 20, 5, 0.7, 2, 0)
    assert len(block.fills) > 0
    back = decode(of_one_instrument(block))
    assert same(back.decisions, block.decisions) and same(back.actions, block.actions)
    assert all(same(getattr(back, name), entries) for name, entries in block.tables())
    with pytest.raises(DiaryDamaged, match="version 3"):
        decode(encode(block).replace(b'"version":2', b'"version":3'))


def test_durable_fills_without_an_instrument_are_of_the_first() -> None:
    fill = dict.fromkeys(blocks.fields(TABLES["fills"]), 1)
    del fill["instrument"]
    row = dict.fromkeys(diary_rows.BEFORE, 0) | {"observation": "0", "masked": False, "action": 0}
    row |= {name: [] for name in ("orders", "sent", "objections")}
    end = {"of": 7, "reward": "0.0", "pnl2": 0, "terminated": False, "truncated": False, "fills": [fill]}
    entries = [
        SimpleNamespace(kind=diary_rows.DECIDED, seq=7, value=row),
        SimpleNamespace(kind=diary_rows.OUTCOME, seq=8, value=end),
    ]
    (block,) = diary_rows.blocks(entries, "cd" * 32, 1, 0)  # type: ignore[arg-type]
    assert block.fills["instrument"].tolist() == [0] and block.fills["price"].tolist() == [1]
