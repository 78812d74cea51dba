"""Where N lanes stand, in one file: what lets them go on in the middle of their episodes, in another process, to the bit.

    snapshot.save(env, path)                     # between two steps
    env.reset(options={"state": str(path)})      # of an environment made with the same arguments, on the same days

The file is numpy's ``.npz``, read without pickles: every array of market, task, generators and gates. Gates are known by
type; one of another type must have ``arrays() -> dict`` and ``restore(arrays)``, or nothing can be saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from emp_gym.governance.kill_gate import KillGate
from emp_gym.governance.monitors import Monitors
from emp_gym.governance.stages import StageGate
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.gates import AllowAll, CapQuantity
from emp_gym.risk.state import RiskState
from emp_gym.types import ConfigError, DataError, View

if TYPE_CHECKING:
    from emp_gym.envs.faces import VectorFace

Arrays = dict[str, np.ndarray]

STATELESS: tuple[type, ...] = (AllowAll, CapQuantity)


def save(env: Any, path: Path) -> None:
    """Writes where the lanes of a native vector environment stand. `ConfigError` if one of its gates cannot tell."""
    face = env.unwrapped
    arrays = _own(face) | {"layout": _layout(face), "again": face._again}
    for number, gate in enumerate(_gates(face)):
        arrays |= {f"gate.{number}.{name}": array for name, array in _of_gate(gate).items()}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{name: _bytes(array) for name, array in arrays.items()})


def restore(face: VectorFace, path: str | Path) -> None:
    """Puts the lanes of `face` where those of the file stood; `DataError` where it was saved of other lanes, days or by another
    layout of their memory. Gates that are there are restored, those of the file that are not (a replay has fewer) are left out."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            saved = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(f"{path}: not a state of lanes ({error}); give a file that a checkpoint holds") from error
    if not np.array_equal(saved.get("layout", np.zeros(0)), _layout(face)):
        raise DataError(
            f"{path}: saved of another environment: number of lanes, arguments, days or the version of this package differ; make it "
            "as it was made then, or begin new episodes"
        )
    _fill(_own(face), saved)
    for number, gate in enumerate(_gates(face)):
        prefix = f"gate.{number}."
        own = {name.removeprefix(prefix): array for name, array in saved.items() if name.startswith(prefix)}
        if own:
            _restore_gate(gate, own, face.lanes.market.view)  # type: ignore[attr-defined]
    face.lanes.observe(np.arange(face.num_envs), face._observation)  # whoever listens hears what the lanes see
    _fill(_own(face), saved)  # looking counts clipped features a second time
    face._again = saved["again"].view(np.int64)


def _own(face: VectorFace) -> Arrays:
    """Every array that one step leaves to the next, the gates' apart. They are the environment's own, not copies."""
    return face.lanes.arrays() | {
        "mask": face.lanes.mask, "ended": face._ended, "terminated": face._flags[0], "truncated": face._flags[1],
        "observation": face._observation, **({"elapsed": face._elapsed} if len(face._elapsed) else {}),
    }  # fmt: skip


def _gates(face: VectorFace) -> tuple[Any, ...]:
    return getattr(face.lanes, "gates", ())


def _layout(face: VectorFace) -> np.ndarray:
    """32 bytes that are the same where the arrays have the same meaning: names, types and shapes, and what the lanes say."""
    shapes = {name: (array.dtype.descr, array.shape) for name, array in _own(face).items()}
    return np.frombuffer(hashlib.sha256(f"{shapes} {face.lanes.layout}".encode()).digest(), np.uint8)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The memory of an array, as bytes."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _fill(own: Arrays, saved: Mapping[str, np.ndarray]) -> None:
    """Writes into the arrays where they are: kernels and views hold on to them."""
    for name, array in own.items():
        array[...] = saved[name].view(array.dtype).reshape(array.shape)


# --------------------------------------------------------------------------------------------------------------------- gates


def _of_gate(gate: Any) -> Arrays:
    if isinstance(gate, RiskGate):
        state = gate._state
        return (
            {}
            if state is None or gate._desk is None
            else {**vars(state), "objections": gate._desk.objections.sum(axis=0)}
        )
    if isinstance(gate, StageGate):
        return _of_gate(gate.risk)
    if isinstance(gate, KillGate):
        watched = {} if gate._monitors is None else gate._monitors.arrays()
        return watched if gate._own is None else watched | {"own": gate._own}
    if hasattr(gate, "arrays") and hasattr(gate, "restore"):
        return gate.arrays()
    if isinstance(gate, STATELESS) or getattr(gate, "listens", False):
        return {}
    raise ConfigError(
        f"the gate {type(gate).__name__} cannot say where it stands, so lanes cannot go on in the middle of an episode; give it "
        "arrays() and restore(arrays)"
    )


def _restore_gate(gate: Any, saved: Arrays, view: View) -> None:
    if isinstance(gate, StageGate):
        gate = gate.risk
    if isinstance(gate, RiskGate):
        gate._state = RiskState.empty(*view.position.shape)
        gate.observe(view)  # makes its buffers
        assert gate._desk is not None
        gate._desk.objections[...] = 0  # a row a thread; this machine may have others
        _fill({**vars(gate._state), "objections": gate._desk.objections[0]}, saved)
    elif isinstance(gate, KillGate):
        if "own" in saved:
            gate._own = saved.pop("own").view(np.int8)
        if saved:
            gate._monitors = Monitors(gate.rules, view)
            gate._monitors.restore(saved)
    elif hasattr(gate, "arrays") and hasattr(gate, "restore"):
        gate.restore(saved)
