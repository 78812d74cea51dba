"""Gates that ship with the first environments, and how gates are found.

A gate is called between task and market as ``gate(view, orders) -> (orders, verdicts)``; it may shrink or drop orders but
must not enlarge them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from emp_gym.types import ConfigError, Gate, OrderKind, Orders, Verdicts, View

CAPPED = np.uint64(1 << 6)  # reason bit: above the largest quantity


@lru_cache(maxsize=16)
def _no_reason(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that nobody may write, so that all may share them."""
    return np.broadcast_to(np.uint64(0), shape)


def passed(orders: Orders) -> Verdicts:
    """Verdicts that say that nothing was touched."""
    quantity = orders.quantity
    return Verdicts(_no_reason(quantity.shape), quantity, quantity, touched=False)


class AllowAll:
    """Lets every order pass: the seam without a rule."""

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        return orders, passed(orders)


class CapQuantity:
    """Cuts every new order to at most `largest` lots."""

    def __init__(self, largest: int = 100) -> None:
        if largest <= 0:
            raise ConfigError(f"largest must be > 0 lots, got {largest}")
        self.largest = largest

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        too_large = (orders.kind != OrderKind.CANCEL) & (orders.quantity > self.largest)
        if not too_large.any():
            return orders, passed(orders)
        cut = orders.copy()
        cut.quantity[too_large] = self.largest
        reason = np.where(too_large, CAPPED, np.uint64(0))
        return cut, Verdicts(reason, orders.quantity.copy(), cut.quantity.copy())


def risk(**parameters: Any) -> Gate:
    """`emp_gym.risk.gate.RiskGate`, loaded when it is asked for: its limits need pydantic."""
    from emp_gym.risk.gate import RiskGate

    return RiskGate(**parameters)


GATES: dict[str, Callable[..., Gate]] = {"allow-all": AllowAll, "cap-quantity": CapQuantity, "risk": risk}


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
        return getattr(importlib.import_module(module), attribute)(**parameters)
    near = get_close_matches(str(name), GATES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown gate {name!r}: expected one of {sorted(GATES)} or module:Class{hint}")
