"""A state of lanes from a file that points anywhere else than into its tape is refused before a kernel sees it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym  # noqa: F401
from emp_gym.data.array_files import archived, loaded
from emp_gym.envs import snapshot
from emp_gym.training.episode_statistics import _finite
from emp_gym.types import DataError
from tests.inside import kept_of

FAR = 1 << 30


def make() -> Any:
    return gym.make_vec(
        "emp-lob-v0", num_envs=4, data="synthetic:rows=6000", episode="40 decisions", impact="permanent", every="40 messages",
        gates=[{"gate": "risk", "limits": "configs/limits/default.yaml"}, {"gate": "kill-switch", "scope": "lane", "drawdown": 1e6}],
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, dict[str, np.ndarray]]:
    """An environment, a state of it with an order resting in lane 0 and consumed depth, and the state's arrays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        env = make()
    env.action_space.seed(1)
    env.reset(seed=1)
    market = env.unwrapped.lanes.market
    for _ in range(38):
        env.step(env.action_space.sample())
        state = market.state[0]
        if state["orders"] > 0 and state["consumed"] > 0 and market.slots[0, 0]["touch_row"] < FAR:
            break
    else:
        raise AssertionError("no lane has what the faults are planted into")
    path = tmp_path_factory.mktemp("lanes") / "lanes.npz"
    snapshot.save(env, path)
    with np.load(path) as stored:
        return env, path, dict(stored)


def written(arrays: dict[str, np.ndarray], folder: Path) -> dict[str, str]:
    path = folder / "forged.npz"
    np.savez(path, **arrays)
    return {"state": str(path)}


def test_an_undamaged_state_passes(saved: Any) -> None:
    env, path, _ = saved
    _, info = env.reset(options={"state": str(path)})
    assert info["continued"].all()


STATE = [
    ("day", 99), ("day", -1), ("row", FAR), ("row", -1), ("seen_row", FAR), ("seen_row", -1), ("last_row", FAR), ("start_row", -1),
    ("end_row", FAR), ("target", FAR), ("target", -2), ("next_row", -1), ("orders", 9), ("orders", -1), ("consumed", 9_999),
    ("consumed_row", -1), ("fills", 10_000), ("fills", -1), ("exhausted", 2), ("decision", -1), ("time_ns", 5), ("midnight_utc_ns", 3),
    ("position", 7), ("cash", (1 << 63) - 1), ("filled", -1),
]  # fmt: skip
QUOTE = [
    ("status", 4), ("price_to_cash", 3), ("least_tick", 0), ("tick", -100), ("mid2", 7), ("rules", 1), ("rules", -1), ("position", 7),
    ("bought", (1 << 63) - 1),
]  # fmt: skip
SEEN = [("messages", -1), ("messages", FAR), ("time_ns", 5), ("mid2", 7), ("moves2", -1)]
SLOTS = [
    ("state", 0), ("state", 7), ("live", None), ("id", 0), ("quantity", 0), ("quantity", 1 << 60), ("kind", 0), ("kind", 4), ("side", 0),
    ("side", 3), ("price", 0), ("passed", 5), ("target", -1), ("decision", 1 << 20), ("arrive_row", FAR), ("arrive_row", -1),
    ("arrive_ns", -1), ("cancel_row", FAR), ("cancel_row", -7), ("ahead", -2), ("behind", -1), ("counted", 1), ("born_row", FAR),
    ("spell_row", FAR), ("spell_row", -2), ("cross_row", FAR), ("cross_row", 0), ("exec_row", -1), ("touch_row", FAR), ("touch_row", 0),
    ("touch", 1 << 40), ("touch", -9), ("leaving", None), ("instrument", 1),
]  # fmt: skip
TAKEN = [("row", FAR), ("row", -1), ("time_ns", 1 << 60), ("parts", -1), ("side", 0), ("side", 3)]
EPISODE = [("length", 0), ("parent_side", 0), ("tick", 0), ("steps", -1)]
FIELDS = {
    "market.state": STATE, "market.public.quote": QUOTE, "market.public.seen": SEEN, "market.slots": SLOTS, "market.taken": TAKEN,
    "episodes": EPISODE,
}  # fmt: skip
TABLES = [(table, *entry) for table, entries in FIELDS.items() for entry in entries]


@pytest.mark.parametrize(("table", "field", "value"), TABLES)
def test_a_field_out_of_bounds_is_refused_with_its_lane(table: str, field: str, value: int | None, saved: Any, tmp_path: Path) -> None:
    env, _, arrays = saved
    own = kept_of(env)[table]
    forged = arrays[table].copy()
    view = forged.view(own.dtype).reshape(len(own), -1)[0, -1 if table.endswith("seen") else 0]
    assert value is None or view[field] != value
    if value is None:
        view[field] = not view[field]
    else:
        view[field] = value
    before = own.tobytes()
    with pytest.raises(DataError, match=r"forged\.npz: (state|quote|seen|slots|taken|episodes)\.[a-z_0-9]+, lane 0.*: expected .*, got"):
        env.reset(options=written({**arrays, table: forged}, tmp_path))
    assert own.tobytes() == before, "nothing was written into the lanes"


def first_byte(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def how(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    return how


def first_number(kind: str, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def how(array: np.ndarray) -> np.ndarray:
        array.view(kind)[0] = value
        return array

    return how


ARRAYS = [
    ("mask", first_byte(2)), ("market.active", first_byte(255)), ("ended", first_byte(3)), ("market.outcome", first_byte(77)),
    ("kind", first_byte(200)), ("market.progress", first_number("i8", -1)), ("length", first_number("i8", 1)),
    ("observation", first_number("f4", np.nan)), ("observation", first_number("f4", np.inf)),
    ("market.public.book", first_number("i8", 1)), ("again", lambda a: np.array([4]).view(np.uint8)),
    ("again", lambda a: np.array([-1]).view(np.uint8)), ("again", lambda a: np.array([1, 1]).view(np.uint8)),
    ("again", lambda a: np.zeros(3, np.uint8)), ("market.slots", lambda a: a[:-1]),
    ("market.state", lambda a: np.zeros(1 << 20, np.uint8)), ("market.taken", lambda a: a[:-1]),
    ("market.taken", lambda a: np.zeros(0, np.uint8)), ("market.taken", lambda a: np.zeros(1 << 22, np.uint8)),
    ("random", lambda a: a.view(np.int64)), ("gate.0.lane", first_byte(9)), ("gate.0.lane", lambda a: a[:-8]),
    ("gate.0.objections", lambda a: a[:-8]), ("gate.1.lanes", lambda a: a[:-8]), ("gate.1.new", first_byte(4)),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(ARRAYS)))
def test_an_array_out_of_bounds_is_refused(case: int, saved: Any, tmp_path: Path) -> None:
    env, _, arrays = saved
    name, how = ARRAYS[case]
    assert name in arrays, sorted(arrays)
    with pytest.raises(DataError, match=r"forged\.npz"):
        env.reset(options=written({**arrays, name: how(arrays[name].copy())}, tmp_path))


def test_the_number_that_indexes_the_ring_of_orders_is_never_negative(saved: Any, tmp_path: Path) -> None:
    from emp_gym.risk.state import LANE_STATE

    env, _, arrays = saved
    forged = arrays["gate.0.lane"].copy()
    forged.view(LANE_STATE)["sent"][2] = -5
    with pytest.raises(DataError, match=r"gate: lane\.sent, lane 2: expected 0 to \d+, got -5"):
        env.reset(options=written({**arrays, "gate.0.lane": forged}, tmp_path))


@pytest.mark.parametrize("name", ["market.slots", "layout", "mask", "again", "gate.0.ring"])
def test_a_missing_array_is_refused(name: str, saved: Any, tmp_path: Path) -> None:
    env, _, arrays = saved
    with pytest.raises(DataError, match=r"forged\.npz"):
        env.reset(options=written({key: array for key, array in arrays.items() if key != name}, tmp_path))


def test_an_array_that_nobody_expects_is_refused(saved: Any, tmp_path: Path) -> None:
    env, _, arrays = saved
    with pytest.raises(DataError, match="extra: an array that is not expected"):
        env.reset(options=written({**arrays, "extra": np.zeros(1 << 20, np.uint8)}, tmp_path))


@pytest.mark.parametrize(("field", "value"), [("x", 1e9), ("x", -1.0), ("x", 0.5), ("x", np.nan), ("total", np.inf), ("step", -1)])
def test_the_state_of_a_finite_problem_is_one_of_its_states(field: str, value: float, tmp_path: Path) -> None:
    env = gym.make_vec("emp-ladder-memory-v0", num_envs=2)
    env.reset(seed=0)
    snapshot.save(env, tmp_path / "lanes.npz")
    env.reset(options={"state": str(tmp_path / "lanes.npz")})
    with np.load(tmp_path / "lanes.npz") as stored:
        arrays = dict(stored)
    arrays["state"].view(env.unwrapped.lanes.state.dtype)[field][1] = value
    with pytest.raises(DataError, match=rf"state\.{field}, lane 1: expected"):
        env.reset(options=written(arrays, tmp_path))


def npy(shape: str, body: bytes, descr: str = "'|u1'") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy("(1099511627776,)", b"12345678"), "bytes, expected 1099511627904"),
        (npy("(8,)", bytes(1 << 26)), "bytes unpacked, expected at most"),
        (npy("(8, 1)", b"12345678"), "expected the shape"),
        (npy("(8,)", b"12345678", "'|O'"), "expected the type"),
        (npy("(-8,)", b"12345678"), "C order"),
        (npy("(True,)", b"1"), "C order"),
        (npy("(" * 60 + ")" * 60, b""), "expected the shape"),
        (b"\x93NUMPY\x01\x00\xff\xff", "a header of 65535 bytes"),
        (b"", "begins with"),
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_memory_is_asked_for(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(DataError, match=said):
        archived(path, lambda name: 1 << 16, 1 << 16)


def test_an_archive_that_is_right_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(5, dtype=np.uint8))
    (found,) = archived(tmp_path / "a.npz", lambda name: 5, 5).values()
    assert found.tolist() == [0, 1, 2, 3, 4] and found.flags.writeable
    with pytest.raises(DataError, match="missing"):
        archived(tmp_path / "b.npz", lambda name: 5, 5)


def test_returns_of_other_lanes_or_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "returns.npy"
    np.save(path, np.array([1.0, 2.0]))
    assert _finite(path, 2).tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match=r"returns\.npy: damaged: expected the shape \(3\)"):
        _finite(path, 3)
    np.save(path, np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="lane 1: expected a finite sum"):
        _finite(path, 2)
    np.save(path, np.array([1, 2]))
    with pytest.raises(DataError, match="expected the type"):
        loaded(path, np.dtype(np.float64), (2,))
    path.write_text(json.dumps([1, 2]))
    with pytest.raises(DataError, match="begins with"):
        _finite(path, 2)
