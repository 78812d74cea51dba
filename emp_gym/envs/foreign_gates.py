"""Gates of somebody else: what they give back is looked at, their reasons have names and are counted.

A gate may cut an order to fewer lots or drop it, and lets cancels pass. Ours are not looked at here: tests hold them to what they promise,
and a kill switch sends more than it was asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from emp_gym import trust
from emp_gym.risk.gates import FIRST_BIT, LAST_BIT, OBJECTED, Called, Gate
from emp_gym.types import Bool, ConfigError, Orders, RequestType, Verdicts, View

BITS = np.uint64((1 << LAST_BIT + 1) - (1 << FIRST_BIT))  # reason bits that are theirs
MOST_NAMES = LAST_BIT + 1 - FIRST_BIT
KEPT = ("side", "price", "id", "target", "instrument")  # of an order, whatever becomes of its quantity
ARRAYS = ("reason", "quantity_before", "quantity_after")
KINDS = {"V": "requests", "u": "unsigned whole numbers", "i": "whole numbers"}
PAGE = "docs/own_gate.md"


def is_foreign(gate: Gate) -> bool:
    """Whether what `gate` answers is somebody else's code: a class derived from one of ours that leaves its ``__call__`` alone is ours."""
    return isinstance(gate, Called) or not trust.is_ours(type(gate).__call__.__module__)


def reason_names(gate: Gate) -> list[str]:
    """Names of the reason bits of `gate`, from bit 0 on; "" for those that are not its own."""
    return [*("",) * (FIRST_BIT if is_foreign(gate) else 0), *gate.reason_names]


class Foreign:
    """Asks a gate of somebody else: `ConfigError` that names it where it answers what no gate may."""

    def __init__(self, gate: Gate) -> None:
        self.gate, names = gate, gate.reason_names
        if not isinstance(names, tuple) or len(names) > MOST_NAMES or not all(map(_is_name, names)):
            raise ConfigError(
                f"gate {gate.title}: reason_names must be a tuple of at most {MOST_NAMES} words, those of its reason bits from {FIRST_BIT} "
                f"on, got {names!r}; {PAGE}"
            )
        if names:
            vars(gate).setdefault(OBJECTED, np.zeros(len(names), np.int64))  # of a frozen one, too

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        asked = orders.copy()
        sent, verdicts = _pair(self.gate, self.gate(view, orders), asked.kind.shape)
        for what, where in _faults(asked, orders, sent, verdicts):
            if where.any():
                lane, entry = (int(at) for at in np.argwhere(where)[0])
                had, has, bits = _words(asked, lane, entry), _words(sent, lane, entry), int(verdicts.reason[lane, entry])
                raise ConfigError(
                    f"gate {self.gate.title} {what}: lane {lane}, entry {entry}: given {had}, sent {has}, reason {bits:#x}. A gate cuts an "
                    f"order to fewer lots or drops it, says why by a bit from {FIRST_BIT} to {LAST_BIT}, and lets cancels pass; {PAGE}"
                )
        if verdicts.touched:
            for bit in range(len(self.gate.reason_names)):
                vars(self.gate)[OBJECTED][bit] += np.count_nonzero(verdicts.reason >> np.uint64(FIRST_BIT + bit) & np.uint64(1))
        return sent, verdicts


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.split() == [name]


def _pair(gate: Gate, answer: Any, shape: tuple[int, ...]) -> tuple[Orders, Verdicts]:
    """What `gate` gave back, or `ConfigError` where that is no pair of orders and verdicts of this shape."""
    if type(answer) is tuple and len(answer) == 2 and isinstance(answer[0], Orders) and isinstance(answer[1], Verdicts):
        sent, told = answer
        got = {"orders": sent.kind, "records": sent.records, **{name: getattr(told, name) for name in ARRAYS}}
        for name, array in got.items():
            kinds = {"records": "V", "reason": "u"}.get(name, "i")
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind != kinds:
                found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ConfigError(f"gate {gate.title}: {name}: expected {KINDS[kinds]} of shape {shape}, got {found}; {PAGE}")
        return sent, told
    parts = f"({', '.join(type(part).__name__ for part in answer)})" if isinstance(answer, tuple) else type(answer).__name__
    raise ConfigError(f"gate {gate.title}: expected (orders, verdicts), an Orders and a Verdicts, got {parts}; {PAGE}")


def _faults(asked: Orders, given: Orders, sent: Orders, told: Verdicts) -> Iterator[tuple[str, Bool]]:
    """What no gate may do with the orders that it was `asked` about, as a predicate, and where [N, K] it was done."""
    there, reason = asked.kind != RequestType.NONE, told.reason
    dropped, cancel = there & (sent.kind == RequestType.NONE), asked.kind == RequestType.CANCEL
    kept = there & ~dropped
    differs = {name: there & (asked.records[name] != given.records[name]) for name in (*KEPT, "quantity")}
    yield "writes into the orders that it was given (it must change a copy)", np.any([given.kind != asked.kind, *differs.values()], axis=0)
    yield "adds an order", ~there & (sent.kind != RequestType.NONE)
    yield "drops a cancel", dropped & cancel
    yield "makes an order of another kind of one", kept & (sent.kind != asked.kind)
    for name in KEPT:
        yield f"changes the {name} of an order", kept & (asked.records[name] != sent.records[name])
    yield "enlarges an order", kept & (sent.quantity > asked.quantity)
    yield "leaves an order of no lots (the kind of what is dropped is NONE)", kept & ~cancel & (sent.quantity < 1)
    cut = dropped | (kept & ~cancel & (sent.quantity != asked.quantity))
    yield "gives no reason for an order that it changed", cut & (reason == 0)
    yield "gives a reason that is not its own", reason & ~BITS != 0
    yield "gives a reason where there is no order", ~there & (reason != 0)
    yield "says that nothing was touched (touched=False), and gives a reason", (reason != 0) & (not told.touched)
    after = np.where(dropped, 0, sent.quantity)
    wrong = (told.quantity_before != asked.quantity) | (told.quantity_after != after)
    yield "tells other lots, before and after, than those of the order", there & ~cancel & (reason != 0) & wrong


def _words(orders: Orders, lane: int, entry: int) -> str:
    """One entry of `orders`."""
    kind, order = RequestType(orders.kind[lane, entry]).name, orders.records[lane, entry]
    return kind if kind == "NONE" else f"{kind} {' '.join(f'{name} {order[name]}' for name in ('quantity', *KEPT))}"
