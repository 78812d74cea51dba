"""How gates are found, in which order they stand, and which of them want to be told of what."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from emp_gym.risk.gates import AllowAll, CapQuantity
from emp_gym.types import I8, ConfigError, Gate, Instrument, View


def _risk(**parameters: Any) -> Gate:
    from emp_gym.risk.gate import RiskGate  # its limits need pydantic

    return RiskGate(**parameters)


def _kill_switch(**parameters: Any) -> Gate:
    from emp_gym.governance.kill_gate import KillGate

    return KillGate(**parameters)


def _stage(**parameters: Any) -> Gate:
    from emp_gym.governance.stages import StageGate

    return StageGate(**parameters)


GATES: dict[str, Callable[..., Gate]] = {
    "allow-all": AllowAll,
    "cap-quantity": CapQuantity,
    "risk": _risk,
    "kill-switch": _kill_switch,
    "stage": _stage,
}


def resolve(gates: Any) -> tuple[Gate, ...]:
    """Gates from an environment's ``gates=`` argument.

    Each entry is a name ("allow-all"), "module:Class", a mapping {"gate": name, **parameters}, or a callable.
    """
    if gates is None:
        return ()
    entries = [gates] if isinstance(gates, (str, Mapping)) or callable(gates) else list(gates)
    return tuple(_one(entry) for entry in entries)


def _one(entry: Any) -> Gate:
    if callable(entry):
        return entry
    parameters = dict(entry) if isinstance(entry, Mapping) else {"gate": entry}
    name = parameters.pop("gate", None)
    if name in GATES:
        return GATES[name](**parameters)
    if isinstance(name, str) and ":" in name:
        module, _, attribute = name.partition(":")
        return _of_module(name, module, attribute)(**parameters)
    near = get_close_matches(str(name), GATES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown gate {name!r}: expected one of {sorted(GATES)} or module:Class{hint}")


def _of_module(name: str, module: str, attribute: str) -> Any:
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"gate {name!r}: {module!r} is no module; expected module:Class, e.g. my_gates:Cap for a my_gates.py")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"gate {name!r}: there is no module {error.name!r} on the path; say where it is: PYTHONPATH=FOLDER"
        ) from error
    if not hasattr(found, attribute):
        raise ConfigError(f"gate {name!r}: {module} has no {attribute!r}")
    return getattr(found, attribute)


PRICE_UNIT = "currency and price unit"


def stop_if_money_differs(gates: Sequence[Gate], instruments: Sequence[Instrument]) -> None:
    """`ConfigError` where a gate's limits are money of one kind (`counts_money`) and the instruments' are not."""
    for gate in gates:
        counts = getattr(gate, "counts_money", "")
        kinds = {(own.currency, own.price_unit if counts == PRICE_UNIT else 0): own for own in instruments}
        if counts and len(kinds) > 1:
            said = ", ".join(f"{own.symbol} {own.currency} (price unit {own.price_unit:g})" for own in kinds.values())
            raise ConfigError(
                f"the limits of {type(gate).__name__} are money of one {counts}, but the days are of {said}; make an environment, "
                "with limits of its own, for the days of each"
            )


class GateRow:
    """The gates of one environment in their order (those that are `last` at the end), and who has which extra; see
    `emp_gym.types.Gate`."""

    def __init__(self, gates: tuple[Gate, ...], venue: str, threads: int = 1) -> None:
        self.gates = tuple(sorted(gates, key=lambda gate: bool(getattr(gate, "last", False))))
        self._beginners, self._followers, self._stoppers = (
            tuple(gate for gate in self.gates if hasattr(gate, name))
            for name in ("before_episode", "after_market", "stopped")
        )
        for gate in self.gates:
            if hasattr(gate, "admit"):
                gate.admit(venue, self.gates)
            if hasattr(gate, "use_threads"):
                gate.use_threads(threads)

    def before_episode(self, view: View, lanes: np.ndarray) -> None:
        for gate in self._beginners:
            gate.before_episode(view, lanes)  # type: ignore[attr-defined]

    def after_market(self, view: View) -> None:
        for gate in self._followers:
            gate.after_market(view)  # type: ignore[attr-defined]

    @property
    def stops(self) -> bool:
        """Whether any gate may stop a lane."""
        return bool(self._stoppers)

    def stopped(self) -> I8 | None:
        """`Stop` [N] of the first gate that stops each lane; None where none stops any."""
        told: I8 | None = None
        for gate in self._stoppers:
            own = gate.stopped  # type: ignore[attr-defined]
            if own is not None:
                told = own if told is None else np.where(told, told, own)
        return told
