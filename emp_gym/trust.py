"""What a file names is code only where a person has said so.

A run folder, a study, a diary or a ledger is data, and may come from anybody. Names in it that Python would import from outside of
this package (``module:Name``), and files that would be unpickled (``trusted``), are not touched before the person at the command
line says ``--trust`` (in Python: ``with trust.word():``). That is asked once for what stands there: the answer is kept by content
below the cache folder, never in the folder that is asked about. What is typed, and what is built in or installed under a name of
its own, is not asked about; runs of one's own are noted when they begin.

`resolve` is the one way from ``module:Class`` to a class: never to a function or an instance, and only to a class that keeps what
it is needed for.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from emp_gym import bounded, renamed
from emp_gym.extras import MissingPackage, pip_line
from emp_gym.paths import home
from emp_gym.types import ConfigError, DataError

OURS = "emp_gym"
LONGEST = 1000
"""Letters of a name, or of a folder, that is asked about."""
LOGGER = logging.getLogger(__name__)
FOLDER = "trust"
"""Below the cache folder: a file for each content that was trusted."""
HERE = "one in the working folder is found when the command line names it; else say where it lies: PYTHONPATH=FOLDER before the command"
MOST, FILES, BYTES = 100, 10_000, 16 << 30
"""Claims that one question names, and files and bytes of a folder that is unpickled, at most."""

_START, _ON = r"A-Za-z_\x80-\U0010ffff", r"A-Za-z0-9_.\x80-\U0010ffff"
_NAME = re.compile(f"(?<![{_ON}])([{_START}][{_ON}]*):[{_START}][{_ON}]*")
"""Whatever `resolve` could take for a name stands inside of such a match, in whatever text; so does more."""
ENVIRONMENTS = ("env_id", "env")
"""Keys of environment ids, whose module is imported whatever stands behind the colon."""
SYNTHETIC = "synthetic:"
"""Begins the name of days that are made here (`emp_gym.data.store`), which are no code where the environment's days stand."""
_DAYS = re.compile(r"env\.data(\[\d+\])?")
WRITTEN_TO = "folder"
"""Key of folders that something writes into: a kill switch, which would be somebody's else."""
_CLAIM = re.compile(r"\btrusted\s*=")  # inside of a text such as "sb3[trusted=true]"
_PATH = re.compile(r"\bpath\s*=\s*([^,\]]+)")
_word: ContextVar[bool] = ContextVar("word", default=False)
_noted: set[str] = set()
"""Digests that this process has noted: they hold where nothing can be written."""


_folders: list[str] = []
"""Where modules lie that the person has named, beside Python's own path."""


class Untrusted(ConfigError):
    """A file names code, or pickles, that nobody has vouched for; the message names them and the remedy."""


# ---- from a name to a class


def resolve(name: str, what: str, fits: Callable[[type], bool], expected: str, *, unknown: type[ConfigError] = ConfigError) -> Any:
    """The class that ``module:Class`` names, for which `fits` holds.

    `what` says for whom ("gate 'my_gates:Cap'"), `expected` what it must be. Raises `unknown` for anything else that the name means,
    `MissingPackage` with the pip line where its module needs what is not installed.
    """
    module, _, attribute = renamed.class_now(name).partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise unknown(f"{what}: {module[:200]!r} is no module; expected module:Class, e.g. my_module:Name for a my_module.py here")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing == module or module.startswith(missing + "."):
            raise unknown(f"{what}: there is no module {missing!r} on the path{near_module(missing)} ({HERE})") from error
        raise MissingPackage(f"{what} needs the package {missing!r}: {pip_line(missing.partition('.')[0])}") from error
    if not hasattr(found, attribute):
        classes = [key for key, value in vars(found).items() if isinstance(value, type)]
        near = get_close_matches(attribute, classes, 1, cutoff=0.5)
        hint = f"did you mean {near[0] if near else ' | '.join(classes)}?" if classes else "it has no class"
        raise unknown(f"{what}: {module} has no {attribute!r}; {hint}")
    cls = getattr(found, attribute)
    if not isinstance(cls, type):
        raise unknown(f"{what}: {name} is not {expected}: it is {_kind(cls)}, and only a class is taken")
    if is_ours(module) and not is_ours(cls.__module__):
        raise unknown(f"{what}: {name} is {cls.__module__}:{cls.__qualname__}, which is not of {OURS}; name it there")
    if not fits(cls):
        raise unknown(f"{what}: {name} is not {expected}")
    return cls


def near_module(missing: str) -> str:
    """``; did you mean 'my_task'?`` where a module of the working folder, of a folder that was named or of the package above is called
    nearly so; else nothing."""
    above, dot, name = missing.rpartition(".")
    folders = list(getattr(sys.modules.get(above), "__path__", ())) if dot else [os.curdir, *_folders]
    near = get_close_matches(name, [each.name for each in pkgutil.iter_modules(folders) if each.name != name], 1)
    return f"; did you mean {above + dot + near[0]!r}?" if near else ""


def _kind(value: Any) -> str:
    return "a function" if callable(value) else f"a {type(value).__name__}"


def is_ours(module: str) -> bool:
    """Whether a dotted name lies in this package."""
    return module == OURS or module.startswith(OURS + ".")


# ---- what a tree of settings would have run


@dataclass(frozen=True)
class Claim:
    """A value in somebody's settings that would run something, or write elsewhere."""

    place: str  # e.g. "env.gates[0]"
    text: str  # what stands there
    pickle: bool = False  # whether it says that a file may be unpickled
    folder: bool = False  # whether it is a folder to write into; else, if no pickle either, it names code

    def __str__(self) -> str:
        if self.pickle:
            return f"{self.place} vouches for a file that may hold pickles"
        return f"{self.place} {'writes into' if self.folder else 'names'} {self.text[:LONGEST]!r}"


def claims(tree: Any, where: object) -> list[Claim]:
    """Everything in `tree` (of JSON or YAML) that names code outside of this package, vouches for a file with ``trusted``, or names a
    folder to write into."""
    found = []
    for place, key, value in bounded.walk(tree, where):
        texts = [str(name) for name in value] if isinstance(value, Mapping) else [value] if isinstance(value, str) else []
        for text in texts:
            days = text.startswith(SYNTHETIC) and _DAYS.fullmatch(place) is not None
            names = [] if days else [name[0] for name in _NAME.finditer(text) if not is_ours(name[1])]
            if not names and key in ENVIRONMENTS and ":" in text and not is_ours(text.rpartition(":")[0]):
                names = [text]
            found += [Claim(place, name) for name in names]
            found += [Claim(place, text, pickle=True)] if _CLAIM.search(text) else []
        if key.rpartition(".")[2] == "trusted" and value and not isinstance(value, list):  # of a list, its values
            found.append(Claim(place, str(value), pickle=True))
        if key.rpartition(".")[2] == WRITTEN_TO and isinstance(value, str):
            found.append(Claim(place, value, folder=True))
    return found


def _files(tree: Any, where: object) -> Iterator[Path]:
    """What stands under keys called ``path``."""
    for _, key, value in bounded.walk(tree, where):
        if isinstance(value, str):
            if key.rpartition(".")[2] == "path":
                yield Path(value)
            yield from (Path(_spoken(match[1])) for match in _PATH.finditer(value))


def _spoken(text: str) -> str:
    """A value inside of a label, as `variant` of the configuration reads it: as YAML."""
    import yaml

    try:
        return str(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text.strip()


def _pickles(tree: Any, told: Sequence[Claim], where: object) -> dict[str, str]:
    """SHA-256 of the files that would be unpickled; `DataError` where one is not there."""
    paths = _files(tree, where) if any(claim.pickle for claim in told) else ()
    return {str(file): _file_hash(file) for path in paths for file in _inside(path, where)}


def _inside(path: Path, where: object) -> list[Path]:
    """Files at or below `path`; `DataError` where there are none, or more of them, or more bytes, than a model has."""
    found = [path]
    try:
        if path.is_dir():
            found, seen = [], 0
            for folder, folders, names in os.walk(path, followlinks=True):
                found += [each for name in names if (each := Path(folder) / name).is_file()]
                seen += len(folders) + len(names)
                if seen > FILES:
                    raise DataError(f"{where}: {str(path)[:200]!r} has more than {FILES:,} files; no model is that large")
        size = sum(each.stat().st_size for each in found if each.is_file())
        if not path.exists():
            raise DataError(f"{where}: there is no {str(path)[:200]!r}, looked for from {Path.cwd()}; put it there, or correct the path")
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {str(path)[:200]!r} cannot be looked at ({error})") from error
    if size > BYTES:
        raise DataError(f"{where}: {str(path)[:200]!r} has {size:,} bytes, expected at most {BYTES:,}")
    return sorted(found)


def _file_hash(path: Path) -> str:
    """SHA-256, or that there is no such file."""
    try:
        if not path.is_file():
            return "none"
        left, digest = path.stat().st_size, hashlib.sha256()
        with path.open("rb") as stream:
            while left > 0 and (block := stream.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:200]!r} cannot be read ({error})") from error


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists, keys are texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


# ---- the word of a person


@contextmanager
def word(given: bool = True) -> Iterator[None]:
    """Inside, what is asked about is trusted, and noted: the person says so."""
    before = _word.set(given)
    try:
        yield
    finally:
        _word.reset(before)


@dataclass(frozen=True)
class Question:
    """Settings of a `kind` that were found at `where`; `code` False: names of classes count as typed, only pickles are asked about."""

    kind: str
    tree: Any
    where: object
    code: bool = True

    @cached_property
    def told(self) -> list[Claim]:
        """What is claimed, each once; `DataError` where that is more than anybody would read."""
        found = list(dict.fromkeys(claim for claim in claims(self.tree, self.where) if self.code or claim.pickle))
        long = next((claim.text for claim in found if len(claim.text) > LONGEST), None)
        if len(found) > MOST or long is not None:
            what = f"{len(found):,} names of code, folders or pickles" if long is None else f"a name of {len(long):,} letters"
            raise DataError(f"{self.where}: {what}, expected at most {MOST if long is None else LONGEST}; no settings of ours have that")
        return found

    @cached_property
    def pickles(self) -> dict[str, str]:
        """SHA-256 of the files that would be unpickled."""
        return _pickles(self.tree, self.told, self.where)

    @property
    def place(self) -> str:
        """Where it was found, in words that say the same from every folder."""
        return os.path.abspath(self.where) if isinstance(self.where, os.PathLike) else str(self.where)

    @cached_property
    def digest(self) -> str:
        """Names the content: of the settings, and of the files that would be unpickled."""
        files = "".join(f"{file}\n{known}\n" for file, known in self.pickles.items())
        text = f"{self.kind}\n{json.dumps(_plain(self.tree), sort_keys=True)}\n{files}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def __str__(self) -> str:
        files = f" (files: {', '.join(map(repr, list(self.pickles)[:MOST]))})" if self.pickles else ""
        return f"{'; '.join(map(str, self.told))}{files}"


def ask(kind: str, tree: Any, where: object, *, code: bool = True) -> None:
    """`Untrusted` where `tree`, a `kind` of settings that was found at `where`, would run what nobody has vouched for.

    `code` False: names of classes count as typed, only pickles are asked about.
    """
    ask_all([Question(kind, tree, where, code)])


def ask_all(questions: Iterable[Question]) -> None:
    """The same of all that one command will need, in one error: a word is given for what was shown, and for all of it."""
    open_ones = {one.digest: one for one in questions if one.told}
    left = [one for digest, one in open_ones.items() if digest not in _noted and not _recalled(one)]
    if not left:
        return
    if _word.get():
        for one in left:
            LOGGER.warning("trusted from now on: %s: %s", one.where, one)
            _note(one)
        return
    shown = "; ".join(f"{one.where}: {one}" for one in left)
    if all(claim.folder for one in left for claim in one.told):
        what, why = "it would write into folders of yours", "If they are meant"
    else:
        what, why = f"it would run code that is not of {OURS}", "Code may do whatever you may do: if you know who made this"
    raise Untrusted(
        f"{what}: {shown}. {why}, give the command again with --trust (in Python: with emp_gym.trust.word()), once for what stands "
        "there now"
    )


def remember(kind: str, tree: Any, where: object) -> None:
    """Notes that `tree` was typed by the person, or made by their own program: it is not asked about when it is read again."""
    one = Question(kind, tree, where)
    if one.told:
        _note(one)


class Noted(NamedTuple):
    """What a process has noted, for another one that works for it."""

    digests: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()


NOTHING = Noted()


def noted() -> Noted:
    """What this process has noted."""
    return Noted(frozenset(_noted), tuple(_folders))


def take_over(told: Noted) -> None:
    """What the process that sent this work has noted."""
    _noted.update(told.digests)
    for folder in told.folders:
        look_in(folder)


def look_in(folder: str) -> None:
    """Puts a folder, in which a module lies that the person has named, on Python's path, behind all that is there. Notes of this
    process name it: what is read again is found there again."""
    if folder not in _folders:
        _folders.append(folder)
    if folder not in sys.path:
        sys.path.append(folder)


def _recalled(one: Question) -> bool:
    """Whether it was noted; then its modules are found where they were when that place was written, or else the last time."""
    told = _told(one.digest)
    places = told.get("places", {})
    for folder in places.get(one.place) or (list(places.values()) or [told.get("folders", [])])[-1]:
        look_in(folder)
    return bool(told)


def _told(digest: str) -> dict[str, Any]:
    """What was noted of it; nothing where it was not."""
    try:
        return bounded.read_object(home() / FOLDER / f"{digest}.json", bounded.WRITTEN)
    except (OSError, DataError):
        return {}


def _note(one: Question) -> None:
    _noted.add(one.digest)
    folder = home() / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    aside = folder / f".{one.digest}.{os.getpid()}"
    places = {name: where for name, where in _told(one.digest).get("places", {}).items() if name != one.place}
    about = {
        "kind": one.kind, "where": one.place, "claims": [str(claim) for claim in one.told], "files": one.pickles,
        "places": dict([*places.items(), (one.place, _folders)][-MOST:]),
    }  # fmt: skip
    aside.write_text(json.dumps(about) + "\n", encoding="utf-8")
    aside.replace(folder / f"{one.digest}.json")


__all__ = [
    "NOTHING", "Claim", "MissingPackage", "Noted", "Question", "Untrusted", "ask", "ask_all", "claims", "look_in", "near_module", "noted",
    "remember", "resolve", "take_over", "word",
]  # fmt: skip
