"""What all adapters share: generators of one's own under libraries that draw from global ones, classes by name, and
weights out of files that somebody else made."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emp_gym import bounded, trust
from emp_gym.agents.base import Arrays
from emp_gym.types import ConfigError, DataError

WARNING = (
    "it was made by another program, and such files may hold pickles, which can run anything when they are opened; only the "
    "weights are read here, by torch's restricted reader, but open none that you did not make or get from one you trust: "
    "then say trusted=true"
)


class Generators:
    """Python's, numpy's and torch's global generators, of one agent's own: inside ``with`` they stand in the place of the
    global ones, which are left as they were."""

    def __init__(self, seed: int) -> None:
        numbers = np.random.SeedSequence([seed, 23]).generate_state(3).tolist()
        self._own: tuple[Any, Any, Any] = (
            random.Random(numbers[0]).getstate(),
            np.random.RandomState(numbers[1]).get_state(),
            torch.Generator().manual_seed(numbers[2]).get_state(),
        )
        self._theirs: Any = None

    def __enter__(self) -> None:
        self._theirs = self._swap(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = self._swap(self._theirs)

    @staticmethod
    def _swap(states: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        return before


class Threads:
    """Inside ``with``, torch uses `threads` threads: small networks are faster on one, and give the same on any machine."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._threads)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


def named(name: str, kind: type | tuple[type, ...], what: str) -> Any:
    """The class ``module:Class``; raises `ConfigError` where there is none or it is no `kind`, `MissingPackage` with pip line."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = "a class of " + " or ".join(each.__name__ for each in kinds)
    return trust.resolve(name, f"{what} {name!r}", lambda cls: issubclass(cls, kinds), expected)


def spelled(value: Any) -> Any:
    """`value` with classes and functions as ``module:name``, so that it can be written as JSON; raises `ConfigError` where it
    cannot."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Mapping):
        return {str(key): spelled(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(each) for each in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ConfigError(f"{value!r} cannot be written as JSON; make it part of a class of your own (see docs/own_agent.md)")


def weights_of(module: nn.Module) -> Arrays:
    """The module's parameters and buffers, copied."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: nn.Module, arrays: Mapping[str, Any], where: str) -> None:
    """Puts `arrays` into `module`; raises `DataError` where names or shapes differ."""
    try:
        module.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})
    except RuntimeError as error:
        raise DataError(f"{where}: the weights are not those of this network ({' '.join(str(error).split())[:300]})") from error


def foreign_weights(path: Path | str, trusted: bool, member: str | None = None) -> Arrays:
    """Weights of a torch file that another program made (`member` of a zip), read without running what may be in it.

    Raises `ConfigError` with a warning unless `trusted`, `DataError` where there are no plain weights.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if not trusted:
        raise ConfigError(f"{path}: {WARNING}")
    try:
        if member is None:
            content = bounded.read_bytes(path, bounded.HUGE)
        else:
            with zipfile.ZipFile(path) as archive:
                content = archive.read(member)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, KeyError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: no plain weights in it ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, Mapping) or not all(torch.is_tensor(value) for value in found.values()):
        raise DataError(f"{path}: expected names and tensors (a state_dict), got {type(found).__name__}")
    return {name: tensor.numpy() for name, tensor in found.items()}
