"""How gates are found, in which order they stand, and which of them want to be told of what. What a gate is: `emp_gym.risk.gates`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from emp_gym.envs.foreign_gates import Foreign, is_foreign
from emp_gym.plugins import PluginKind
from emp_gym.risk.gates import Called, Gate
from emp_gym.types import I8, ConfigError, Instrument, View

GATES = {
    "allow-all": "emp_gym.risk.gates:AllowAll",
    "cap-quantity": "emp_gym.risk.gates:CapQuantity",
    "risk": "emp_gym.risk.gate:RiskGate",
    "kill-switch": "emp_gym.governance.kill_switch.gate:KillGate",
    "stage": "emp_gym.governance.promotion.stages:StageGate",
}
"""Ours by name; each is loaded when it is asked for."""


def resolve(gates: Any) -> tuple[Gate, ...]:
    """Gates from an environment's ``gates=`` argument.

    Each entry is a name ("allow-all", or one of an installed package), "module:Class", a mapping {"gate": name, **parameters}, a `Gate`,
    or a plain callable.
    """
    if gates is None:
        return ()
    if not isinstance(gates, (str, Mapping, Iterable)) and not callable(gates):
        raise ConfigError(f"gates: expected names, mappings or callables, got {gates!r}")
    entries = [gates] if isinstance(gates, (str, Mapping)) or callable(gates) else list(gates)
    return tuple(_one(entry) for entry in entries)


def _one(entry: Any) -> Gate:
    if callable(entry):
        return as_gate(entry)
    gate = as_gate(KIND.part(entry).make())
    vars(gate)["made_by"] = dict(entry) if isinstance(entry, Mapping) else {"gate": entry}  # of a frozen one, too
    return gate


def as_gate(entry: Callable[..., Any]) -> Gate:
    """`entry`, if it is a `Gate`; a plain callable as one."""
    return entry if isinstance(entry, Gate) else Called(entry)


def _is_gate(cls: type) -> bool:
    """Whether the objects of `cls` can be called with view and orders (the class itself always can)."""
    call = next((vars(base)["__call__"] for base in cls.__mro__ if "__call__" in vars(base)), None)
    try:
        inspect.signature(call).bind(None, None, None)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # ValueError: of a built-in that does not say what it takes
        return False
    return True


KIND = PluginKind("gate", "emp_gym.gates", GATES, _is_gate, "a gate: a class whose objects are called with view and orders")


PRICE_UNIT = "currency and price unit"


def stop_if_money_differs(gates: Sequence[Gate], instruments: Sequence[Instrument]) -> None:
    """`ConfigError` where a gate's limits are money of one kind (`counts_money`) and the instruments' are not."""
    for gate in gates:
        counts = gate.counts_money
        kinds = {(own.currency, own.price_unit if counts == PRICE_UNIT else 0): own for own in instruments}
        if counts and len(kinds) > 1:
            said = ", ".join(f"{own.symbol} {own.currency} (price unit {own.price_unit:g})" for own in kinds.values())
            raise ConfigError(
                f"the limits of {type(gate).__name__} are money of one {counts}, but the days are of {said}; make an environment, "
                "with limits of its own, for the days of each"
            )


class GateRow:
    """The gates of one environment in their order (those that are `last` at the end), and which of them define what. `asked` is who is
    called for each: the gate, or for one of somebody else `Foreign`."""

    def __init__(
        self, gates: Iterable[Callable[..., Any]], venue: str, threads: int = 1, instruments: Sequence[Instrument] = ()
    ) -> None:
        self.gates: tuple[Gate, ...] = tuple(sorted(map(as_gate, gates), key=lambda gate: bool(gate.last)))
        stop_if_money_differs(self.gates, instruments)
        self._beginners, self._followers, self._stoppers = (
            tuple(gate for gate in self.gates if _defines(gate, name)) for name in ("before_episode", "after_market", "stopped")
        )
        for gate in self.gates:
            if gate.masks and not _defines(gate, "allowed"):
                raise ConfigError(f"gate {gate.title} has masks=True, but no allowed(view, candidates, observed=False) of its own")
            gate.admit(venue, self.gates)
            gate.use_threads(threads)
        self.asked = tuple(Foreign(gate) if is_foreign(gate) else gate for gate in self.gates)

    def before_episode(self, view: View, lanes: np.ndarray) -> None:
        for gate in self._beginners:
            gate.before_episode(view, lanes)

    def after_market(self, view: View) -> None:
        for gate in self._followers:
            gate.after_market(view)

    @property
    def stops(self) -> bool:
        """Whether any gate may stop a lane."""
        return bool(self._stoppers)

    def stopped(self) -> I8 | None:
        """`Stop` [N] of the first gate that stops each lane; None where none stops any."""
        told: I8 | None = None
        for gate in self._stoppers:
            own = gate.stopped
            if own is not None:
                told = own if told is None else np.where(told, told, own)
        return told


def _defines(gate: Gate, name: str) -> bool:
    """Whether the class of `gate` has a method or property `name` of its own."""
    return getattr(type(gate), name) is not getattr(Gate, name)
