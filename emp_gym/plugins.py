"""What a keyword of an environment may be: a name, ``module:Class``, a mapping with parameters, a class, or an object.

Names are ours or those under which an installed package offers something (entry points of the groups ``emp_gym.markets``,
``emp_gym.tasks``, ``emp_gym.rewards``, ``emp_gym.features``, ``emp_gym.gates``, ``emp_gym.agents``). Parameters stand in a mapping such as
``{"reward": "my:Growth", "capital": 1e6}``, or among the environment's keywords: each of these goes to whoever takes one of that name.

`Plugin` is the base of tasks, rewards and feature sets, `World` what they are bound to.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from secrets import token_bytes
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from emp_gym import trust
from emp_gym.settings import shown
from emp_gym.types import I64, ConfigError, DataError, Instrument, UnknownKeyword, View

P = TypeVar("P", bound="Plugin")


# ---- from a name to an object


@dataclass(frozen=True)
class PluginKind:
    """One kind of plug-in: how it is found."""

    word: str  # what its keyword and the key of its mapping are called: "reward"
    group: str  # entry points of installed packages: "emp_gym.rewards"
    table: Mapping[str, str]  # ours by name, "module:Class"; each is loaded when it is asked for
    fits: Callable[[type], bool]
    expected: str  # what `fits` asks for, in words: "a reward: a class derived from emp_gym.envs.tasks.Reward"
    schema: Callable[[type], type] = lambda cls: cls  # the class whose parameters are its parameters
    unknown: type[ConfigError] = ConfigError  # raised for a name that means nothing

    def names(self) -> list[str]:
        """All that can be asked for by name."""
        return sorted({*self.table, *self._installed()})

    def find(self, name: Any) -> type:
        """The class that `name` means."""
        if isinstance(name, str):
            path = self.table.get(name) or self._installed().get(name, name)
            if ":" in path:
                return trust.resolve(path, f"{self.word} {name!r}", self.fits, self.expected, unknown=self.unknown)
        known = self.names()
        near = get_close_matches(str(name).lower(), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise self.unknown(f"unknown {self.word} {shown(name)}: expected one of {known} or module:Class{hint}")

    def part(self, entry: Any) -> Part:
        """What `entry` asks for, not yet made."""
        given = dict(entry) if isinstance(entry, Mapping) else {self.word: entry}
        if self.word not in given:
            raise ConfigError(
                f"{self.word}: expected {{{self.word}: NAME, parameter: value}}, got {shown(entry)} without the key {self.word!r} (in "
                "YAML a blank stands behind each colon)"
            )
        told = given.pop(self.word)
        if isinstance(told, type) and self.fits(told):
            return Part(self, told.__name__, told, given)
        if not isinstance(told, str) and self.fits(type(told)) and not given:
            return Part(self, type(told).__name__, type(told), given, told)
        return Part(self, str(told), self.find(told), given)

    def _installed(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=self.group)}


@dataclass
class Part:
    """One thing that an environment is made of: its class and parameters, or the object that was given."""

    kind: PluginKind
    name: str
    cls: type
    given: dict[str, Any]
    made: Any = None
    takes: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        schema = self.kind.schema(self.cls)
        self.takes = () if self.made is not None else parameters(schema)
        for key in self.given:
            if key not in self.takes and not _takes_any(schema):
                raise UnknownKeyword.of(key, self.takes, f" ({self.title}: {list(self.takes)})")

    @property
    def title(self) -> str:
        return f"{self.kind.word} {self.name!r}"

    def make(self) -> Any:
        """The object: that which was given, or a new one (of its schema, where it has another)."""
        if self.made is not None:
            return self.made
        schema = self.kind.schema(self.cls)
        try:
            inspect.signature(schema).bind(**self.given)
        except TypeError as error:
            raise ConfigError(f"{self.title}: {error}; its parameters: {list(self.takes)}") from error
        return schema(**self.given)


def deal(keywords: Mapping[str, Any], parts: Sequence[Part], known: Iterable[str] = ()) -> None:
    """Hands each of `keywords` to that of `parts` which takes one of its name.

    `ConfigError` where several do, `UnknownKeyword` with the nearest of all, and of the names `known` besides, where none does.
    """
    for key, value in keywords.items():
        takers = [part for part in parts if key in part.takes and key not in part.given]
        if len(takers) > 1:
            both, first = " and ".join(part.title for part in takers), takers[0]
            mapping = {first.kind.word: first.name, key: value}
            raise ConfigError(f"{key} is a parameter of {both}: say whose, {first.kind.word}={shown(mapping)}")
        if not takers:
            said = ", ".join(f"{part.title}: {list(part.takes)}" for part in parts if part.takes)
            raise UnknownKeyword.of(key, [*(name for part in parts for name in part.takes), *known], f" ({said})")
        takers[0].given[key] = value


def parameters(cls: type) -> tuple[str, ...]:
    """Names of the parameters that `cls` takes."""
    if is_dataclass(cls):
        return tuple(each.name for each in fields(cls) if each.init)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        return tuple(name for name, each in inspect.signature(cls).parameters.items() if each.kind in kinds)
    except ValueError as error:  # of a built-in
        raise ConfigError(f"{cls.__module__}:{cls.__qualname__} does not say which parameters it takes") from error


def _takes_any(cls: type) -> bool:
    """Whether it takes a parameter of any name."""
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(cls).parameters.values())


# ---- what tasks, rewards and feature sets have in common


class Written(NamedTuple):
    """Arrays of a `World` as our kernels write them."""

    public: Any
    episodes: np.ndarray
    active: np.ndarray
    setup: np.ndarray

    def shown(self) -> Written:
        """The same memory, read-only."""
        return Written(type(self.public)(*map(read_only, self.public)), *map(read_only, self[1:]))


class World(NamedTuple):
    """What a plug-in sees of its environment. Nothing here is its own: arrays are read-only, and it writes into those that it has made."""

    lanes: int
    instruments: tuple[Instrument, ...]
    view: View
    public: Any  # `emp_gym.market.public.Public`
    looks: tuple[int, ...]  # own events back, in the order of ``public.seen[..., 1:]``
    clock: Any  # from decision to decision
    episode: int  # decisions
    clip: int  # lots of one order
    limit: int  # lots that a position may have
    immediate: bool  # a cancel that is sent now wins against all that comes
    threads: int
    episodes: Any = None  # `emp_gym.envs.tasks.episode.EPISODE` [N]: what is remembered of each lane's episode
    active: Any = None  # [N]: lanes that the next decision moves
    setup: Any = None  # `emp_gym.envs.tasks.episode.SETUP` [1]: of our kernels
    kernels: Any = None  # `Written`, for kernels of ours

    @property
    def named(self) -> Mapping[str, np.ndarray]:
        """What the market publishes besides [N, M, ...], by name."""
        return self.view.named

    @property
    def slots(self) -> int:
        """Own orders that a lane may have at a time."""
        return self.view.order_id.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is shown here, field by field: ``public.lane["cash"]``."""
        whole = {f"public.{name}": array for name, array in self.public._asdict().items()}
        whole |= {"episodes": self.episodes, "active": self.active, "setup": self.setup}
        fields = {f'{name}["{key}"]': array[key] for name, array in whole.items() for key in array.dtype.names or ()}
        return fields | {name: array for name, array in whole.items() if not array.dtype.names} | {
            f'named["{name}"]': array for name, array in self.named.items()
        }  # fmt: skip


def read_only(array: np.ndarray) -> np.ndarray:
    """The same memory, which may not be written through it."""
    shown = array.view()
    shown.flags.writeable = False
    return shown


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` of somebody else's class: where it writes into what it may only read, `ConfigError` names both."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return method(self, *arguments, **keywords)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            kind, frame = type(self), _last_frame(error)
            where = f"{frame.f_code.co_filename}, line {frame.f_lineno}"
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            raise ConfigError(
                f"{kind.__module__}:{kind.__qualname__} writes in {method.__name__} into an array that is not its own: {line}"
                f"{_in_words(line, frame, self)} ({where}); change a copy, or an array that it has made itself"
            ) from error

    return call


def _last_frame(error: BaseException) -> FrameType:
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame


def _in_words(line: str, frame: FrameType, plugin: Any) -> str:
    """Which variables of `line`, those between brackets aside, are which arrays of the world of `plugin`."""
    world = getattr(plugin, "world", None)
    shown = {} if world is None else {_place(array): name for name, array in world.arrays().items()}
    own = {name: value for name, value in frame.f_locals.items() if isinstance(value, np.ndarray) and not value.flags.writeable}
    told = [f"{name} is world.{shown[_place(array)]}" for name, array in own.items()
            if _place(array) in shown and re.search(rf"(?<!\[)\b{name}\b", line)]  # fmt: skip
    return f", where {' and '.join(told)}" if told else ""


def _place(array: np.ndarray) -> tuple[Any, ...]:
    return array.ctypes.data, array.dtype.str, array.strides[:1]


def guard(cls: type) -> None:
    """Makes of each method by which `cls`, a class of somebody else, takes the place of one of ours a `guarded` one."""
    bases = [base for base in cls.__mro__[1:] if trust.is_ours(base.__module__)]
    if not trust.is_ours(cls.__module__):
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and any(name in vars(base) for base in bases):
                setattr(cls, name, guarded(method))


def unkept(owner: Any, arrays: Iterable[np.ndarray], leave_out: Iterable[str] = ()) -> dict[str, bytes]:
    """What `owner` has besides the `arrays` that are kept of it, each attribute as a hash: where one has changed, it remembers
    something that a file of lanes would not bring back. Objects of this package are left out, and so are
    ``__slots__`` and attributes of the class."""
    kept = {id(array) for array in arrays}
    return {
        name: _hash(value) for name, value in vars(owner).items()
        if id(value) not in kept and name not in leave_out and not trust.is_ours(type(value).__module__)
    }  # fmt: skip


def _hash(value: Any) -> bytes:
    try:
        return hashlib.sha256(pickle.dumps(value)).digest()
    except Exception:  # every object refuses in its own way, and then nobody can say whether it has changed: it counts as changed
        return token_bytes(16)


class Plugin:
    """Base of what is put into an environment. Its parameters are its dataclass fields, or those of its ``__init__``; what it
    remembers of a lane it keeps in arrays [N, ...] that are attributes, made in `bind`. Copies, pickles and snapshots of the
    environment bind it anew and give it their contents; a snapshot is refused where an attribute of another kind has
    changed (`unkept`; what stands on the class or in ``__slots__`` is not seen)."""

    world: World

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        guard(cls)

    def bind(self, world: World) -> None:
        """Called once, before the first episode, with what may be read; again in a copy."""
        vars(self)["world"] = world  # of a frozen one, too

    def begin(self, lanes: I64) -> None:
        """Episodes have begun in `lanes` [n]: the view shows their first moment."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What one step leaves to the next: the arrays themselves, by name."""
        kept = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return {name: value for name, value in kept.items() if value.flags.writeable}

    def restore(self, saved: Mapping[str, np.ndarray]) -> None:
        """Takes over such arrays, of one bound to as many lanes; `DataError` where they are others."""
        own = self.arrays()
        for name in sorted(own.keys() | saved.keys()):
            told, got = (f"{of[name].dtype} {of[name].shape}" if name in of else "none" for of in (own, saved))
            if told != got:
                raise DataError(f"{type(self).__name__}: {name}: expected {told}, got {got}")
        for name, array in own.items():
            array[...] = saved[name]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "world"}


def moved(plugin: P, world: World) -> P:
    """`plugin`, which came without a world out of a pickle or copy, in `world`, with what it remembers."""
    before = {name: array.copy() for name, array in plugin.arrays().items()}
    plugin.bind(world)
    plugin.restore({name: before[name] for name in plugin.arrays() if name in before})
    return plugin


__all__ = ["Part", "Plugin", "PluginKind", "World", "Written", "deal", "guard", "moved", "parameters", "read_only", "unkept"]
