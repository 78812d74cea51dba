"""Where N lanes stand, in one file: what lets them go on in the middle of their episodes, in another process, to the bit.

    snapshot.save(env, path)                     # between two steps
    env.reset(options={"state": str(path)})      # of an environment made with the same arguments, on the same days

The file is numpy's ``.npz``, read without pickles: every array of market, task, generators and gates (`emp_gym.risk.gates.Gate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emp_gym.data.array_bounds import typed
from emp_gym.data.array_files import archived, member
from emp_gym.envs import snapshot_check
from emp_gym.types import I64, ConfigError, DataError

Arrays = dict[str, np.ndarray]

MOST_OF_GATES, MOST_OF_A_LANE = 1 << 26, 1 << 16  # bytes that all gates together may have in a file, for each lane more
MARKET = "market."  # before the names of its arrays


class SnapshotSource(Protocol):
    """What is asked of a vector environment: `emp_gym.envs.base_env.BaseVectorEnv`."""

    num_envs: int
    lanes: Any
    again: I64

    def kept(self) -> Arrays: ...


def save(env: Any, path: Path) -> None:
    """Writes where the lanes of a native vector environment stand. `ConfigError` if a plug-in remembers something that the file would
    not bring back, or where the market holds more than a file may."""
    face = env.unwrapped
    arrays = face.kept() | {"layout": _layout(face), "again": face.again}
    if (market := face.lanes.market) is not None:
        if lost := face.lanes.unkept():
            raise ConfigError(
                f"{path}: {lost} changes and is no array, so lanes that go on would not have it; keep what one step leaves to the next "
                "in numpy arrays, or define arrays() and restore()"
            )
        arrays |= {MARKET + name: array for name, array in market.kept(str(path)).items()}
    for number, gate in enumerate(face.lanes.gates):
        arrays |= {f"gate.{number}.{name}": array for name, array in gate.arrays().items()}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ConfigError(f"{path}: {' and '.join(objects)} of Python objects cannot be kept in a file; use arrays of numbers")
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{name: _bytes(array) for name, array in arrays.items()})


def fits(face: SnapshotSource, path: Path) -> bool:
    """Whether `path` was saved of lanes like those of `face`, laid out alike. `DataError` for what is no such file."""
    return np.array_equal(member(path, "layout", 32), _layout(face))


def restore(face: SnapshotSource, path: str | Path) -> None:
    """Puts the lanes of `face` where those of the file stood; `DataError` where it was saved of other lanes, days or by another
    layout of their memory. Gates that are there are restored, those of the file that are not (a replay has fewer) are left out."""
    own, market, where = face.kept(), face.lanes.market, str(path)
    known = {name: array.nbytes for name, array in own.items()} | {"layout": 32, "again": 8 * face.num_envs}
    if market is not None:
        known |= {MARKET + name: most for name, most in market.room().items()}
    room = MOST_OF_GATES + MOST_OF_A_LANE * face.num_envs
    try:
        saved = archived(Path(path), lambda name: known.get(name, room if name.startswith("gate.") else -1), room + sum(known.values()))
    except DataError as error:
        raise DataError(f"{error}; not a state of lanes: give a file that a checkpoint of this run holds") from error
    if not np.array_equal(saved.get("layout", np.zeros(0)), _layout(face)):
        raise DataError(
            f"{path}: saved of another environment: number of lanes, arguments, days or the version of this package differ; make it "
            "as it was made then, or begin new episodes"
        )
    of_market = None if market is None else market.checked(_below(MARKET, saved), where)
    snapshot_check.check(typed(own, saved, where), of_market, face.lanes.states if market is None else 0, where)
    again = _lanes_again(saved, face.num_envs, where)
    view: Any = None if market is None else market.view  # without one there are no gates
    of_gates = []
    for number, gate in enumerate(face.lanes.gates):
        if stored := _below(f"gate.{number}.", saved):
            of_gates.append((gate, gate.checked(stored, view, where)))
    if market is not None and of_market is not None:
        market.restore(of_market)
    _fill(own, saved)
    for gate, found in of_gates:
        gate.restore(found, view)
    face.lanes.observe(np.arange(face.num_envs), own["observation"])  # whoever listens hears what the lanes see
    _fill(own, saved)  # looking counts clipped features a second time
    face.again = again


def _below(prefix: str, saved: Mapping[str, np.ndarray]) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in saved.items() if name.startswith(prefix)}


def _layout(face: SnapshotSource) -> np.ndarray:
    """32 bytes that are the same where the arrays have the same meaning: names, types and shapes, and what the lanes say."""
    shapes: dict[str, Any] = {name: (array.dtype.descr, array.shape) for name, array in face.kept().items()}
    if (market := face.lanes.market) is not None:
        own, room = market.arrays(), market.room()
        shapes |= {MARKET + name: (own[name].dtype.descr, room[name]) for name in own}
    return np.frombuffer(hashlib.sha256(f"{shapes} {face.lanes.layout}".encode()).digest(), np.uint8)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of an array, as bytes."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _lanes_again(saved: Mapping[str, np.ndarray], lanes: int, where: str) -> np.ndarray:
    """The lanes that the next step resets, ascending."""
    stored = saved.get("again", np.zeros(1, np.uint8))
    again = stored.view(np.int64) if len(stored) % 8 == 0 else np.array([-1])
    if len(again) and (again[0] < 0 or again[-1] >= lanes or (np.diff(again) <= 0).any()):
        raise DataError(f"{where}: again: expected lanes 0 to {lanes - 1}, ascending, got {again[:4]}; the file is damaged")
    return again


def _fill(own: Arrays, saved: Mapping[str, np.ndarray]) -> None:
    """Writes into the arrays where they are: kernels and views hold on to them."""
    for name, array in own.items():
        array[...] = saved[name].view(array.dtype).reshape(array.shape)
