"""What an agent is: a small batched protocol, and `BaseAgent`, which gives most of it.

In words:

=====================================================  ================================================================
``Agent(observation_space, action_space, spec,         built from the spaces of *one* lane and the environment's spec;
seed=0, **config)``                                    ``spec.features`` names the columns of the observation
``initial_state(lanes)``                               memory of `lanes` fresh lanes: anything, ``None`` for no memory
``act(observation, state, mask)``                      actions [N, ...] and the next state; observation float32 [N, D],
                                                       mask bool [N, A] or None
``reset_state(state, done)``                           the state with the lanes of `done` bool [N] made fresh
``learn(make_env, total_timesteps, callback)``         optional: until `total_timesteps` steps have been seen in all
``save(folder)``, ``load(folder)``                     optional: no pickle; `BaseAgent` writes ``arrays()`` as
                                                       safetensors beside a JSON
``checkpoint(folder)``, ``resume(folder)``             optional: `save`/`load` plus what training needs to go on
``rollout_steps``                                      optional: steps that `learn` sees at a time over all lanes; it ends with
                                                       a whole one, beyond `total_timesteps`, and `train.py` says so
``bind(env)``                                          optional: only oracles have it, to read ``env.unwrapped.truth()``
=====================================================  ================================================================

``make_env(num_envs=None, **env_keywords)`` makes a native vector environment on the training split, which resets in
the same step unless asked otherwise. ``callback(steps, scalars)`` is called every iteration; ``False`` asks the
learner to stop.

An agent knows the environment through its spaces, its spec and the Gymnasium API only.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces

from emp_gym import bounded, renamed
from emp_gym.agents.suggest import nearest
from emp_gym.extras import need
from emp_gym.types import F32, Bool, ConfigError, DataError, Feature, MakeEnv

Arrays = dict[str, np.ndarray]


class MissingFeature(ConfigError):
    """An agent reads a column that its environment does not show."""


class Callback(Protocol):
    """Hears of every iteration; returns False to ask the learner to stop."""

    def __call__(self, steps: int, scalars: Mapping[str, float]) -> bool | None: ...


@runtime_checkable
class Agent(Protocol):
    """Anything that acts on observations, batched. Built as ``Agent(observation_space, action_space, spec, seed=0, **config)``."""

    def initial_state(self, lanes: int) -> Any: ...
    def reset_state(self, state: Any, done: Bool) -> Any: ...
    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]: ...


@runtime_checkable
class Learner(Protocol):
    """Learns, until `total_timesteps` steps have been seen in all."""

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> Any: ...


@runtime_checkable
class Kept(Protocol):
    """Is kept in a folder, from which `load` of another one takes it over."""

    def save(self, folder: Path) -> None: ...


@runtime_checkable
class Resumable(Protocol):
    """Keeps all that training needs to go on."""

    def checkpoint(self, folder: Path) -> None: ...
    def resume(self, folder: Path) -> None: ...


@runtime_checkable
class Shown(Protocol):
    """Shows what it has learned, as named arrays."""

    def arrays(self) -> Arrays: ...


@runtime_checkable
class Restored(Shown, Protocol):
    """Takes over such arrays, too."""

    def restore(self, arrays: Arrays) -> None: ...


@runtime_checkable
class Bound(Protocol):
    """Reads what no observation says: an oracle."""

    def bind(self, env: Any) -> None: ...


@dataclass(frozen=True)
class Traits:
    """What an agent may declare of itself, by attributes of these names."""

    stochastic: bool = False  # actions differ from episode to episode by design
    learns_first: bool = False  # it cannot act before `learn`, or `load`
    rollout_steps: int = 1  # steps that `learn` sees at a time over all lanes
    num_timesteps: int = 0  # steps that it has learned from
    own_workers: str = ""  # it learns in processes of its own: the parameter that says how many
    search_space: Mapping[str, Any] | None = None  # of its parameters
    Config: Any = None  # a dataclass of its parameters


def traits(agent: Any) -> Traits:
    """What `agent`, an object or a class, declares; of a class without what only an object knows."""
    told: dict[str, Any] = {each.name: getattr(agent, each.name, each.default) for each in fields(Traits)}
    return Traits(**{name: value for name, value in told.items() if not isinstance(value, property)})


class BaseAgent:
    """Keeps spaces, features and seed; reads columns by name; saves `arrays()` without a pickle.

    A subclass writes `act`, a dataclass ``Config`` where it has parameters (`self.config` is one), and
    `arrays`/`restore` where it learns.
    """

    Config: ClassVar[type | None] = None
    stochastic: bool = False  # actions differ from episode to episode by design

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        spec: Any = None,
        seed: int = 0,
        **config: Any,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.spec = spec
        self.seed = seed
        self.config: Any = configured(type(self), config)
        self.features: tuple[Feature, ...] = tuple(getattr(spec, "features", None) or ())
        self._columns = {feature.name: column for column, feature in enumerate(self.features)}

    # ---- the protocol

    def initial_state(self, lanes: int) -> Any:
        """Memory of `lanes` fresh lanes: None, an array [lanes, ...], or a dict of such arrays."""
        return None

    def reset_state(self, state: Any, done: Bool) -> Any:
        """`state` with the lanes of `done` replaced by fresh ones; `state` itself is left alone."""
        if state is None or not done.any():
            return state
        return _blend(state, self.initial_state(len(done)), done)

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define act(observation, state, mask)")

    # ---- files

    def arrays(self) -> Arrays:
        """What was learned, as named arrays; nothing for an agent that does not learn."""
        return {}

    def restore(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave."""
        if arrays:
            raise DataError(f"{type(self).__name__} saves arrays but does not define restore(arrays)")

    def save(self, folder: Path) -> None:
        """Writes ``model.json`` and, where there is something learned, ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = self.arrays()
        if arrays:
            write_arrays(folder / "model.safetensors", arrays)
        bounded.write(folder / "model.json", json.dumps(self.describe(), indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote; raises `DataError` where it was made for other spaces or features."""
        description = read_json(folder / "model.json")
        mine = self.describe()
        for key in ("observation_space", "action_space", "features_sha256"):
            if description.get(key) != mine[key]:
                raise DataError(
                    f"{folder / 'model.json'}: {key} is {description.get(key)}, but the environment's is {mine[key]}; "
                    "use the environment and parameters that the model was trained with"
                )
        weights = folder / "model.safetensors"
        self.restore(read_arrays(weights) if weights.exists() else {})

    def describe(self) -> dict[str, Any]:
        """What a model file is for: class, parameters, spaces, features."""
        names = [f"{f.name} [{f.unit}] {f.transform}/{f.scale:g}" for f in self.features]
        return {
            "format": 1,
            "agent": f"{type(self).__module__}:{type(self).__qualname__}",
            "config": asdict(self.config) if is_dataclass(self.config) else dict(self.config),  # type: ignore[arg-type]
            "seed": self.seed,
            "observation_space": describe_space(self.observation_space),
            "action_space": describe_space(self.action_space),
            "features": names,
            "features_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        }

    # ---- reading observations

    @property
    def env_id(self) -> str:
        """Of the environment that it is made for; empty where there is none."""
        return str(getattr(self.spec, "id", ""))

    def column(self, name: str) -> int:
        """Which column of the observation holds feature `name`; raises `MissingFeature` naming the nearest."""
        if name not in self._columns:
            where = self.env_id or "this environment"
            known = f"; did you mean {nearest(name, self._columns)}?" if self._columns else "; its spec has no features"
            raise MissingFeature(f"{type(self).__name__} needs feature {name!r}, which {where} does not publish{known}")
        return self._columns[name]

    def value(self, observation: F32, name: str) -> np.ndarray:
        """Feature `name` [N] in its own unit, float64: the published transform and scale undone."""
        column = self.column(name)
        feature = self.features[column]
        scaled = observation[:, column].astype(np.float64) * feature.scale
        if feature.transform == "signed_log":
            return np.sign(scaled) * np.expm1(np.abs(scaled))
        return scaled


def configured(cls: type, config: Mapping[str, Any]) -> Any:
    """``cls.Config`` filled from `config` and checked (a dict where the class has none); unknown keys raise
    `ConfigError`."""
    schema = traits(cls).Config
    if schema is None:
        return dict(config)
    known = [field.name for field in fields(schema)]
    config = renamed.parameters(config, known)
    for key in config:
        if key not in known:
            raise ConfigError(f"{cls.__name__} has no parameter {key!r}; did you mean {nearest(key, known)}?")
    return schema(**config)


def parameters(cls: type) -> list[str] | None:
    """Names of the parameters that agent class `cls` takes; None where it takes anything."""
    if (schema := traits(cls).Config) is not None:
        return [field.name for field in fields(schema)]
    if issubclass(cls, BaseAgent) and cls.__init__ is BaseAgent.__init__:
        return []
    signature = inspect.signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature):
        return None
    return [p.name for p in signature if p.name not in ("observation_space", "action_space", "spec", "seed")]


def _blend(state: Any, fresh: Any, done: Bool) -> Any:
    if isinstance(state, Mapping):
        return {key: _blend(value, fresh[key], done) for key, value in state.items()}
    if isinstance(state, tuple):
        return tuple(_blend(a, b, done) for a, b in zip(state, fresh, strict=True))
    mixed = np.array(state)
    mixed[done] = np.asarray(fresh)[done]
    return mixed


def describe_space(space: spaces.Space) -> dict[str, Any]:
    """A space as JSON, enough to notice that two differ."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Box):
        bounds = {}
        for name, bound in (("low", space.low), ("high", space.high)):
            same = bound.size > 0 and bool((bound == bound.flat[0]).all())
            bounds[name] = float(bound.flat[0]) if same else bound.ravel().tolist()
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    return {"type": type(space).__name__, "text": str(space)}


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Named arrays as one safetensors file, written aside and renamed."""
    need("safetensors")
    from safetensors.numpy import save

    bounded.write(path, save({name: np.array(value, order="C") for name, value in arrays.items()}))  # a full disk is an OSError


def read_arrays(path: Path) -> Arrays:
    """What `write_arrays` wrote; raises `DataError` for a file that is none."""
    need("safetensors")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        bounded.must_be_regular(path)
        with path.open("rb") as file:
            header, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
        if header + 8 > size or header > bounded.LARGE:
            raise DataError(f"{path}: not a readable safetensors file (a header of {header:,} bytes in a file of {size:,})")
        return load_file(path)
    except (FileNotFoundError, SafetensorError, KeyError, ValueError) as error:  # KeyError: a kind of number that numpy has not
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def must_fit(arrays: Arrays, expected: Arrays, what: str) -> None:
    """`DataError` unless `arrays` are those of `expected`, with their types and shapes, and finite where those are."""
    for name in sorted(expected.keys() | arrays.keys()):
        told, got = (f"{of[name].dtype} {of[name].shape}" if name in of else "none" for of in (expected, arrays))
        if told != got:
            raise DataError(f"{what}: {name}: expected {told}, got {got}; the file is damaged, or of another model")
        if arrays[name].dtype.kind == "f" and (np.isfinite(expected[name]) & ~np.isfinite(arrays[name])).any():
            raise DataError(f"{what}: {name}: expected finite numbers; the file is damaged, or training had gone astray")


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object; raises `DataError` where there is none."""
    try:
        return bounded.read_object(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; is this the folder of a finished run?") from error


__all__ = [
    "Arrays",
    "BaseAgent",
    "Callback",
    "MakeEnv",
    "MissingFeature",
    "configured",
    "describe_space",
    "parameters",
    "read_arrays",
    "read_json",
    "write_arrays",
]
