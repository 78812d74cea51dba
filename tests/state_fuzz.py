"""Damages state on disk, opens it, and lets the kernels run on whatever was not refused.

    python -m tests.state_fuzz --tapes 1000 --lanes 200 --seed 0

prints one JSON object of counts. It is a process of its own: a crash is its exit code, and the last line of stderr names the damage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import emp_gym  # noqa: F401
from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape import check
from emp_gym.data.tape.files import META
from emp_gym.data.tape.format import COLUMNS
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.envs import snapshot
from emp_gym.market import queue_validation
from emp_gym.market.replay import REQUESTS
from emp_gym.types import ConfigError, DataError, Orders, RequestType
from tests.inside import kept_of
from tests.market.duel import damaged, synthetic_day
from tests.market.on_tape import replaying

Rng = np.random.Generator
EXTREMES = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 1 << 20, (1 << 31) - 1, (1 << 62), (1 << 63) - 1)
CONFIGS = (DayConfig(seed=21, rows=1_500, halts=1, thin=True), DayConfig(seed=22, rows=1_500))


def tapes() -> tuple[TapeSet, TapeSet]:
    """A set of two days, and another one of the same lengths: its columns can take the place of the first one's."""
    days = [build(damaged(synthetic_day(CONFIGS[0]), 1)), build(synthetic_day(CONFIGS[1]))]
    return TapeSet.concatenate(days), TapeSet.concatenate([days[0], build(synthetic_day(DayConfig(seed=23, rows=1_500)))])


# ---- damages of a tape's folder


def flip_data(folder: Path, rng: Rng, _other: Path) -> str:
    name = rng.choice(list(COLUMNS))
    data = bytearray((folder / f"{name}.npy").read_bytes())
    head = 10 + int.from_bytes(data[8:10], "little")
    if head >= len(data):
        return ""
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(head, len(data)))] ^= 1 << int(rng.integers(8))
    _put(folder / f"{name}.npy", bytes(data))
    return name


def flip_header(folder: Path, rng: Rng, _other: Path) -> str:
    name = rng.choice(list(COLUMNS))
    data = bytearray((folder / f"{name}.npy").read_bytes())
    data[int(rng.integers(10 + int.from_bytes(data[8:10], "little")))] ^= int(rng.integers(1, 256))
    _put(folder / f"{name}.npy", bytes(data))
    return name


def cut_or_lengthen(folder: Path, rng: Rng, _other: Path) -> str:
    name = rng.choice(list(COLUMNS))
    data = (folder / f"{name}.npy").read_bytes()
    more = bool(rng.integers(2))
    _put(folder / f"{name}.npy", data + bytes(rng.bytes(int(rng.integers(1, 200)))) if more else data[: int(rng.integers(len(data)))])
    return name


def swap_files(folder: Path, rng: Rng, _other: Path) -> str:
    one, two = rng.choice(list(COLUMNS), 2, replace=False)
    a, b = (folder / f"{name}.npy" for name in (one, two))
    _put(folder / "aside", a.read_bytes())
    _put(a, b.read_bytes())
    (folder / "aside").replace(b)
    return f"{one} {two}"


def swap_columns(folder: Path, rng: Rng, other: Path) -> str:
    name = rng.choice(list(COLUMNS))
    _put(folder / f"{name}.npy", (other / f"{name}.npy").read_bytes())
    return name


def swap_entries(folder: Path, rng: Rng, _other: Path) -> str:
    name, array = _column(folder, rng)
    if len(array) > 1:
        a, b = rng.choice(len(array), 2, replace=False)
        array[[a, b]] = array[[b, a]]
    return _save(folder, name, array)


def lose_a_page(folder: Path, rng: Rng, _other: Path) -> str:
    name = rng.choice(list(COLUMNS))
    data = bytearray((folder / f"{name}.npy").read_bytes())
    at = int(rng.integers(max(len(data) // 4096, 1))) * 4096
    came = bytes(4096) if rng.integers(2) else bytes(data[max(at - 4096, 0) :][:4096])
    data[at : at + 4096] = came[: len(data[at : at + 4096])]
    _put(folder / f"{name}.npy", bytes(data))
    return name


def forge_fields(folder: Path, rng: Rng, other: Path) -> str:
    """One to three numbers, anywhere."""
    return ", ".join(forge_field(folder, rng, other) for _ in range(int(rng.integers(1, 4))))


def forge_field(folder: Path, rng: Rng, _other: Path) -> str:
    name, array = _column(folder, rng)
    if not array.size:
        return ""
    field = rng.choice(array.dtype.names) if array.dtype.names else ""
    flat = (array[field] if field else array).reshape(-1)
    at = int(rng.integers(len(flat)))
    limits = np.iinfo(flat.dtype)
    new = int(rng.choice(EXTREMES)) if rng.integers(2) else int(flat[at]) + int(rng.integers(-3, 4))
    values = array[field] if field else array
    values[np.unravel_index(at, values.shape)] = min(max(new, limits.min), limits.max)
    return f"{_save(folder, name, array)}.{field}"


def edit_meta(folder: Path, rng: Rng, _other: Path) -> str:
    meta = json.loads((folder / META).read_text())
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(inner, (dict, list)):
                walk(inner)
            places.append((value, key))

    walk(meta)
    holder, key = places[int(rng.integers(len(places)))]
    news: list[Any] = [0, -1, 1 << 40, 1.5, "", None, True, [], {}, "x" * 10]
    old = holder[key]
    holder[key] = old + int(rng.integers(1, 5)) if isinstance(old, int) and rng.integers(2) else news[int(rng.integers(len(news)))]
    _put(folder / META, json.dumps(meta).encode())
    return f"{META} {key}"


def edit_meta_and_seal(folder: Path, rng: Rng, other: Path) -> str:
    """By somebody who knows of the seal: no damage, a forgery."""
    what = edit_meta(folder, rng, other)
    meta = json.loads((folder / META).read_text())
    if isinstance(meta, dict) and "seal" in meta:
        _put(folder / META, json.dumps(meta | {"seal": check.seal(meta)}).encode())
    return what


DAMAGES: tuple[Callable[[Path, Rng, Path], str], ...] = (
    flip_data, flip_header, cut_or_lengthen, swap_files, swap_columns, swap_entries, lose_a_page, forge_field, forge_fields, edit_meta,
    edit_meta_and_seal,
)  # fmt: skip


def _column(folder: Path, rng: Rng) -> tuple[str, np.ndarray]:
    name = str(rng.choice(["days", *COLUMNS]))
    return name, np.load(folder / f"{name}.npy", allow_pickle=False).view(COLUMNS[name][0])


def _save(folder: Path, name: str, array: np.ndarray) -> str:
    aside = folder / "aside.npy"
    np.save(aside, array, allow_pickle=False)
    aside.replace(folder / f"{name}.npy")
    return name


def _put(path: Path, data: bytes) -> None:
    """A new file: whoever has the old one mapped keeps it."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_bytes(data)
    aside.replace(path)


# ---- what is then done with it


def trade(tape: TapeSet, seed: int) -> None:
    """Orders of all kinds on every part of the tape, and the ghosts of its orders."""
    rng = np.random.default_rng(seed)
    lanes = 8
    rules: dict[str, int] = {"order_latency_ns": 1000, "feed_latency_ns": 1000, "half_life_ns": -1} if seed % 2 else {}
    market = replaying(tape, lanes, every_rows=20, **rules)
    day = rng.integers(0, len(tape.info), lanes)
    rows = np.array([tape.info[each].rows for each in day])
    market.reset(np.arange(lanes), day, (rng.random(lanes) * (rows - 1)).astype(np.int64), rows - 1)
    for _ in range(30):
        orders = Orders.empty(lanes, REQUESTS)
        for lane in range(lanes):
            for slot in range(3):
                side = int(rng.choice([1, -1]))
                best = int((market.view.bid_price if side > 0 else market.view.ask_price)[lane, 0, 0])
                tick = int(market.view.tick[lane, 0])
                kind = int(rng.choice([RequestType.LIMIT, RequestType.MARKET, RequestType.CANCEL]))
                orders.put(
                    lane, slot, kind, side=side, quantity=int(rng.integers(1, 300)),
                    price=best - best % tick + tick * int(rng.integers(-4, 5)), id=int(rng.integers(1, 1 << 40)),
                )  # fmt: skip
        market.advance(orders)
        market.last_fills()
    market.close(np.arange(lanes), np.zeros(lanes, np.int64))
    for number in range(len(tape.info)):
        queue_validation.judge(tape, number)


def same(one: TapeSet, other: TapeSet) -> bool:
    """Fields equal, whatever lies between them."""
    def equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
        if a is None or b is None:
            return a is b
        return a.shape == b.shape and a.tobytes() == b.tobytes()

    return one.info == other.info and all(equal(getattr(one, name), getattr(other, name)) for name in (*COLUMNS, "signal", "regime"))


def fuzz_tapes(n: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Counts of `n` damages, every other one of a tape without hashes, as earlier versions wrote it; and what opening missed."""
    counts: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as room:
        first, second = tapes()
        whole, other = first.save(Path(room) / "whole.tape"), second.save(Path(room) / "other.tape")
        old = Path(room) / "old.tape"
        shutil.copytree(whole, old)
        meta = json.loads((old / META).read_text())
        (old / META).write_text(json.dumps({name: meta[name] for name in ("format", "hash", "days")}))
        intact = TapeSet.open(whole)
        trade(intact, 0), trade(intact, 1)
        assert intact.verify() and not TapeSet.open(old).verify(), "an undamaged tape passes, with hashes and without"
        for i in range(n):
            rng = np.random.default_rng([seed, i])
            source, kind = (whole, old)[i % 2], DAMAGES[int(rng.integers(len(DAMAGES)))]
            work = Path(room) / "work.tape"
            shutil.copytree(source, work, copy_function=os.link)
            what = kind(work, rng, other)
            _note(f"tape seed {seed} damage {i}: {kind.__name__} {what}")
            version = ("", "old: ")[i % 2]
            counts[f"{version}damages"] += 1
            try:
                tape = TapeSet.open(work)
            except DataError:
                counts[f"{version}refused when opened"] += 1
            else:
                _missed(tape, intact, version, f"{kind.__name__} {what}", counts, missed, i)
            shutil.rmtree(work)
    return counts, missed


def _missed(
    tape: TapeSet, intact: TapeSet, version: str, what: str, counts: Counter[str], missed: Counter[str], seed: int
) -> None:
    """Of a damage that opening has not seen: the full check, and the kernels."""
    differs = not same(tape, intact)
    counts[f"{version}opened, nothing differs"] += not differs
    counts[f"{version}opened, something differs"] += differs
    if differs:
        missed[f"{version}{what.split(META)[0].split(',')[0].strip()}"] += 1
    try:
        whole = tape.verify()
    except DataError:
        counts[f"{version}refused by the full check"] += 1
    else:
        sealed = what.startswith(edit_meta_and_seal.__name__)
        counts[f"{version}forged with its own seal"] += differs and whole and sealed
        counts[f"{version}differs after the full check"] += differs and whole and not sealed
    try:
        trade(tape, seed)
        counts[f"{version}kernels ran"] += 1
    except (DataError, ConfigError):  # rules of an instrument that are impossible, found by the market
        counts[f"{version}refused by the market"] += 1


# ---- states of lanes


def world() -> Any:
    return gym.make_vec(
        "emp-lob-v0", num_envs=6, data="synthetic:rows=6000", episode="30 decisions", latency_ns=200_000, impact="permanent",
        every="40 messages", gates=[{"gate": "risk", "limits": "configs/limits/strict.yaml"}],
    )  # fmt: skip


def forge_lanes(arrays: dict[str, np.ndarray], own: dict[str, np.ndarray], rng: Rng) -> str:
    """One number of one field of one array, anything."""
    name = str(rng.choice([*own, "again", *(2 * ["market.slots", "market.state"])]))
    if name not in own:
        arrays[name] = rng.integers(-9, 9, int(rng.integers(1, 4))).astype(np.int64).view(np.uint8)
        return name
    shape = (len(own[name]), -1) if name == "market.taken" else own[name].shape  # it grows
    array = arrays[name].copy().view(own[name].dtype).reshape(shape)
    field = str(rng.choice(array.dtype.names)) if array.dtype.names else ""
    values = array[field] if field else array
    if values.dtype.names:
        field = str(rng.choice(values.dtype.names))
        values = values[field]
    at = np.unravel_index(int(rng.integers(values.size)), values.shape)
    if values.dtype.kind == "f":
        values[at] = rng.choice([np.nan, np.inf, -np.inf, 1e300, values[at] + 1.0])
    elif values.dtype.kind == "b":
        values.view(np.uint8)[at] = rng.integers(256)
    else:
        limits = np.iinfo(values.dtype)
        new = int(rng.choice(EXTREMES)) if rng.integers(2) else int(values[at]) + int(rng.integers(-3, 4))
        values[at] = min(max(new, int(limits.min)), int(limits.max))
    arrays[name] = array.reshape(-1).view(np.uint8)
    return f"{name}.{field}"


def fuzz_lanes(n: int, seed: int) -> Counter[str]:
    """`n` damages: three of four forged (the archive is whole), one in the bytes of the file."""
    counts: Counter[str] = Counter()
    env = world()
    env.action_space.seed(0)
    env.reset(seed=0)
    with np.errstate(all="ignore"), tempfile.TemporaryDirectory() as room:
        whole, work = Path(room) / "whole.npz", Path(room) / "work.npz"
        for i in range(n):
            rng = np.random.default_rng([seed, i, 1])
            if i % 50 == 0:  # another moment
                env.reset(seed=i)
                for _ in range(int(rng.integers(5, 50))):
                    env.step(env.action_space.sample())
                snapshot.save(env, whole)
                env.reset(options={"state": str(whole)})
            with np.load(whole) as stored:
                arrays = dict(stored)
            if i % 4:
                own = kept_of(env)
                what = ", ".join(forge_lanes(arrays, own, rng) for _ in range(int(rng.integers(1, 4))))
                np.savez(work, **arrays)
            else:
                data, what = bytearray(whole.read_bytes()), "bytes"
                for _ in range(int(rng.integers(1, 4))):
                    data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
                work.write_bytes(data[: int(rng.integers(len(data)))] if rng.integers(4) == 0 else data)
            _note(f"lanes seed {seed} damage {i}: {what}")
            counts["damages"] += 1
            try:
                env.reset(options={"state": str(work)})
            except DataError:
                counts["refused when opened"] += 1
                env.reset(options={"state": str(whole)})
                continue
            counts["gone on with, in bounds"] += 1
            for _ in range(10):
                env.step(env.action_space.sample())
    return counts


def _note(what: str) -> None:
    """What is under way, for whoever looks after a crash."""
    if "EMP_FUZZ_NOTE" in os.environ:
        Path(os.environ["EMP_FUZZ_NOTE"]).write_text(what)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tapes", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    counts, missed = fuzz_tapes(a.tapes, a.seed)
    found = {"tapes": counts, "missed when opened": missed, "lanes": fuzz_lanes(a.lanes, a.seed)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
