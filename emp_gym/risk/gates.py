"""What a gate is, and the plainest ones. How gates are found by name: `emp_gym.envs.gates`.

A gate is called between task and market as ``gate(view, orders) -> (orders, verdicts)``; it may shrink or drop orders but
must not enlarge them, and lets cancels pass: of gates of somebody else that is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from emp_gym.data.array_bounds import Arrays, typed
from emp_gym.settings import whole
from emp_gym.types import I8, I64, Bool, ConfigError, DataError, Orders, RequestType, Verdicts, View

CAPPED = np.uint64(1 << 6)  # reason bit: above the largest quantity
FIRST_BIT, LAST_BIT = 32, 62  # reason bits of gates that are not of this package
OBJECTED = "_objected"  # i8 [bits with names]: what such a gate has objected to, kept in it by whoever asks it


class Gate:
    """A rule between task and market: sees what may be known now and the orders, gives back orders and verdicts.

    A gate writes ``__call__``. What else it defines, it is asked for:

    ==================================  ===============================================================================
    ``name``                            how reports call it; "": ``module:Class``
    ``reason_names``                    names of its reason bits, from bit `FIRST_BIT` on (of ours from bit 0 on)
    ``last``                            True: no other gate comes after it, except such ones
    ``replayable``                      False: it listens to the world, and may say something else next time
    ``counts_money``                    "currency" (or "currency and price unit") of its limits: days must have one
    ``masks``                           True: takes part in the action mask, by `observe` and `allowed`
    ``admit(venue, gates)``             raises `ConfigError` if it may not stand between this venue and these gates
    ``use_threads(threads)``            is told how many threads its environment uses
    ``before_episode(view, lanes)``     new episodes are about to begin in `lanes` [n]; `view` still shows the old ones
    ``after_market(view)``              the orders of the last call are sent, or the step has failed: called either way
    ``stopped``                         i8 [N] `Stop`, or None: lanes that only keep still, and end with this step
    ``latch``, ``latched``              i8 [N] `Latch` of each lane or None; share of lanes whose latch is closed
    ``counters()``                      what it has objected to so far, by name
    ``arrays``, ``checked``,            where it stands, kept in a file of lanes. All of its attributes that are numpy
    ``restore``                         arrays, unless it says otherwise: what changes must be in such arrays
    ``described()``                     ``{"gate": name, **parameters}`` from which it can be made again, or None
    ==================================  ===============================================================================
    """

    name: str = ""
    reason_names: tuple[str, ...] = ()
    last: bool = False
    replayable: bool = True
    counts_money: str = ""
    masks: bool = False
    made_by: Mapping[str, Any] | None = None  # written by whoever makes it of its name

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        raise NotImplementedError(f"{type(self).__qualname__} must define __call__(view, orders)")

    def admit(self, venue: str, gates: tuple[Gate, ...]) -> None: ...
    def use_threads(self, threads: int) -> None: ...
    def before_episode(self, view: View, lanes: I64) -> None: ...
    def after_market(self, view: View) -> None: ...

    @property
    def stopped(self) -> I8 | None:
        return None

    @property
    def latch(self) -> I64 | None:
        return None

    @property
    def latched(self) -> float:
        return 0.0

    def counters(self) -> dict[str, int]:
        return {name: int(count) for name, count in zip(self.reason_names, vars(self).get(OBJECTED, ()), strict=False)}

    def observe(self, view: View) -> None:
        """`view` is what `allowed` will be asked about."""

    def allowed(self, view: View, candidates: Orders, *, observed: bool = False) -> Bool:
        """[N, A] which of the candidates [N, A, K] would pass untouched."""
        return np.ones(candidates.kind.shape[:2], np.bool_)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that one step leaves to the next: the arrays themselves, not copies."""
        for name, value in vars(self).items():
            if isinstance(value, (list, dict, set)) and name != "made_by":
                raise ConfigError(
                    f"the gate {self.title} cannot say where it stands: {name} is a {type(value).__name__}; keep what changes in numpy "
                    "arrays and the rest in tuples, or define arrays() and restore(saved, view)"
                )
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def checked(self, saved: Arrays, view: View, where: str) -> dict[str, np.ndarray]:
        """The bytes that were kept of `arrays`, as such arrays; `DataError` where this gate could not have been there."""
        if not self.arrays().keys() - {OBJECTED}:
            self.before_episode(view, np.arange(len(view.time_ns)))  # where it makes them
        own = self.arrays()
        for name in saved.keys() - own.keys():
            raise DataError(f"{where}: gate {self.title}: {name}: an array that is not expected; the file is damaged, or of another gate")
        return typed(own, saved, where)

    def restore(self, saved: Arrays, view: View) -> None:
        """Goes on from where `checked` says that it stood; `view` is of that moment."""
        for name, array in self.arrays().items():
            array[...] = saved[name]

    def described(self) -> Mapping[str, Any] | None:
        return self.made_by if self.replayable else None

    @property
    def title(self) -> str:
        """Its name in reports and errors; one that its class has inherited is another's."""
        own = self.name if "name" in vars(self) or "name" in vars(type(self)) else ""
        return str(self.made_by["gate"]) if self.made_by else own or f"{type(self).__module__}:{type(self).__qualname__}"


class Called(Gate):
    """A plain callable as a gate: nobody knows what it remembers, so its lanes cannot be kept in a file."""

    def __init__(self, function: Callable[[View, Orders], tuple[Orders, Verdicts]]) -> None:
        own: Any = function if inspect.isroutine(function) or isinstance(function, type) else type(function)
        self.function, self.name = function, f"{own.__module__}:{own.__qualname__}"
        if isinstance(function, type):
            raise ConfigError(f"gate {self.name} is a class: give an object of it, {own.__name__}(...), or its name as a text")
        more = sorted(name for name in vars(Gate) if not name.startswith("_") and hasattr(function, name))
        if more:
            raise ConfigError(
                f"gate {self.name} has {', '.join(more)}, and nobody would ask it for that: derive it from emp_gym.risk.gates.Gate"
            )

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        return self.function(view, orders)

    def arrays(self) -> dict[str, np.ndarray]:
        raise ConfigError(
            f"the gate {self.name} cannot say where it stands, so lanes cannot go on in the middle of an episode; derive it from "
            "emp_gym.risk.gates.Gate"
        )


@lru_cache(maxsize=16)
def _no_reason(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that nobody may write, so that all may share them."""
    return np.broadcast_to(np.uint64(0), shape)


def passed(orders: Orders) -> Verdicts:
    """Verdicts that say that nothing was touched."""
    quantity = orders.quantity
    return Verdicts(_no_reason(quantity.shape), quantity, quantity, touched=False)


class AllowAll(Gate):
    """Lets every order pass: the seam without a rule."""

    name = "allow-all"

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        return orders, passed(orders)


class CapQuantity(Gate):
    """Cuts every new order to at most `largest` lots."""

    name = "cap-quantity"

    def __init__(self, largest: int = 100) -> None:
        self.largest = whole("gate 'cap-quantity': largest", largest, 1)

    def __call__(self, view: View, orders: Orders) -> tuple[Orders, Verdicts]:
        too_large = (orders.kind != RequestType.CANCEL) & (orders.quantity > self.largest)
        if not too_large.any():
            return orders, passed(orders)
        cut = orders.copy()
        cut.quantity[too_large] = self.largest
        reason = np.where(too_large, CAPPED, np.uint64(0))
        return cut, Verdicts(reason, orders.quantity.copy(), cut.quantity.copy())
