"""What a check looks at: an environment that can be made again and again, and ways to compare what it gives."""

from __future__ import annotations

import copy
import importlib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from emp_gym.envs.about import MARKET, about
from emp_gym.trust import near_module
from emp_gym.types import ConfigError

STANDARD = Path(traceback.__file__).parent  # library
LIBRARIES = {"emp_gym", "gymnasium", "numpy", "stable_baselines3", "torch"}


class Skip(Exception):
    """Raised by a check that does not apply; the text says why."""


@dataclass(frozen=True)
class Subject:
    """An environment under check: how to make it alone, and, where it has one, its native vector face.

    `vector` takes ``(num_envs, **kwargs)``. `kwargs` go to both. `short` are arguments for short episodes.
    """

    name: str
    scalar: Callable[..., gym.Env]
    vector: Callable[..., VectorEnv] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    short: Mapping[str, Any] = field(default_factory=dict)
    threads: tuple[int, ...] = ()  # values of the argument `threads` to compare, where there is one

    @classmethod
    def of(cls, env: str | Callable[..., gym.Env], **kwargs: Any) -> Subject:
        """The subject of a registered id, of ``"module:Name"`` (an id it registers, or a callable) or a factory.

        Raises `ConfigError` for a name that stands for nothing, naming the nearest.
        """
        if callable(env):
            return cls(getattr(env, "__qualname__", repr(env)), env, kwargs=kwargs)
        env_id, factory = resolve(env)
        if factory is not None:
            return cls(env, factory, kwargs=kwargs)
        native = gym.spec(env_id).vector_entry_point is not None
        subject = cls(
            env_id,
            lambda **kw: gym.make(env_id, disable_env_checker=True, **kw),
            (lambda num_envs, **kw: gym.make_vec(env_id, num_envs=num_envs, **kw)) if native else None,
            kwargs,
        )
        with subject.alone() as probe:
            ours = native and about(probe).kind == MARKET
        if not ours:
            return subject
        short = {} if "episode" in kwargs else {"episode": "24 decisions"}
        return cls(env_id, subject.scalar, subject.vector, kwargs, short, threads=(1, 2))

    def alone(self, **more: Any) -> gym.Env:
        """A fresh scalar environment."""
        return self.scalar(**{**self.kwargs, **more})

    def together(self, num_envs: int, **more: Any) -> VectorEnv:
        """A fresh native vector environment, or `Skip` where there is none."""
        if self.vector is None:
            raise Skip("no native vector environment (vector_entry_point)")
        return self.vector(num_envs, **{**self.kwargs, **more})


def resolve(name: str) -> tuple[str, Callable[..., gym.Env] | None]:
    """``(id, None)`` for a registered id or ``"module:id"``, ``("", callable)`` for ``"module:attribute"``.

    Raises `ConfigError` for a name that stands for nothing.
    """
    from difflib import get_close_matches

    module_name, colon, short = name.rpartition(":")
    if colon:
        try:
            module = importlib.import_module(module_name)
        except (ImportError, TypeError) as error:  # TypeError: a name that begins with a dot
            hint = near_module(str(error.name)) if isinstance(error, ModuleNotFoundError) else ""
            raise ConfigError(f"cannot import {module_name!r} of {name!r}: {error}{hint}") from error
        factory = getattr(module, short, None)
        if callable(factory):
            return "", factory
    if short in gym.registry:
        return short, None
    near = get_close_matches(short, list(gym.registry), n=1, cutoff=0.0)
    raise ConfigError(f"no environment {name!r}; the nearest is {near[0]!r}" if near else f"no environment {name!r}")


def failure(error: BaseException) -> str:
    """One line for an exception: its type and the beginning of its text."""
    return f"{type(error).__name__}: {one_line(str(error))}"


def place(error: BaseException) -> str:
    """File and line where it was raised: of the code that is under check, where any of it took part."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not LIBRARIES.intersection(parts := Path(frame.filename).parts)
              and (STANDARD not in Path(frame.filename).parents or "site-packages" in parts)]  # fmt: skip
    last = (theirs or frames)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def one_line(text: str) -> str:
    """A message without colours, line ends and Gymnasium's prefix, cut to a readable length."""
    plain = re.sub(r"\x1b\[\d*m", "", text).removeprefix("WARN: ")
    return " ".join(plain.split())[:300]


def flat(prefix: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array inside nested dicts, tuples and records, with its dotted name."""
    if isinstance(value, Mapping):
        for key in value:
            yield from flat(f"{prefix}.{key}", value[key])
    elif isinstance(value, tuple | list) and any(isinstance(v, np.ndarray | Mapping | tuple | list) for v in value):
        for i, item in enumerate(value):
            yield from flat(f"{prefix}.{i}", item)
    elif isinstance(value, np.ndarray) and value.dtype.names:
        for key in value.dtype.names:  # field by field: what lies between fields has no meaning
            yield f"{prefix}.{key}", value[key]
    else:
        yield prefix, value if isinstance(value, np.ndarray) else np.asarray(value)


def first_difference(a: Any, b: Any, prefix: str = "observation") -> str | None:
    """Where two outputs differ in type, shape or bytes, or None. Bytes: -0.0 is not 0.0, and a NaN equals itself."""
    left, right = dict(flat(prefix, a)), dict(flat(prefix, b))
    if left.keys() != right.keys():
        return f"{sorted(left.keys() ^ right.keys())} present in one only"
    for name, x in left.items():
        y = right[name]
        if x.dtype == object or y.dtype == object:
            if repr(x.tolist()) != repr(y.tolist()):
                return f"{name}: {x.tolist()!r:.80} and {y.tolist()!r:.80}"
        elif x.dtype != y.dtype or x.shape != y.shape:
            return f"{name}: {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}"
        elif x.tobytes() != y.tobytes():
            i = int(np.flatnonzero([p.tobytes() != q.tobytes() for p, q in zip(x.reshape(-1), y.reshape(-1))])[0])
            return f"{name}[{i}]: {x.reshape(-1)[i]!r} and {y.reshape(-1)[i]!r}"
    return None


def sampler(space: gym.Space, seed: int) -> gym.Space:
    """A copy of `space` with its own generator."""
    own = copy.deepcopy(space)
    own.seed(seed)
    return own


def trace(env: gym.Env, seed: int, steps: int) -> list[tuple]:
    """What a scalar environment gives for random actions: (observation, info), then each step."""
    actions = sampler(env.action_space, seed)
    seen: list[tuple] = [env.reset(seed=seed)]
    for _ in range(steps):
        step = env.step(actions.sample())
        seen.append(step)
        if step[2] or step[3]:
            seen.append(env.reset())
    return seen


def first_change(a: list[tuple], b: list[tuple]) -> str | None:
    """The first step at which two traces differ."""
    for step, (x, y) in enumerate(zip(a, b, strict=True)):
        difference = first_difference(x, y, "output")
        if difference:
            return f"step {step}: {difference}"
    return None


def feature_name(env: gym.Env, i: int) -> str:
    """Published name of column `i` of a flat observation, or its number."""
    features = about(env).features
    return str(getattr(features[i], "name", features[i])) if i < len(features) else f"column {i}"


def of_lane(batch: Any, lane: int | slice | np.ndarray) -> Any:
    """One lane, or several, of a batched observation."""
    if isinstance(batch, Mapping):
        return {key: of_lane(value, lane) for key, value in batch.items()}
    return tuple(of_lane(value, lane) for value in batch) if isinstance(batch, tuple) else batch[lane]


class closing:
    """A vector environment that closes with its block."""

    def __init__(self, env: VectorEnv):
        self.env = env

    def __enter__(self) -> VectorEnv:
        return self.env

    def __exit__(self, *_: object) -> None:
        self.env.close()
