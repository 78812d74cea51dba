"""The look-ahead check: does anything after time t change what an environment gives at t?

It asks the only question that can be asked from outside, and asks it of bytes. One run on the data as they are; then,
for many cuts t and several other futures, the same seed, start and actions on data that are the same up to t and
different afterwards. Observation, reward, ends, mask, cost, every array in the info and every probe of all steps up to
t must be the same bytes.

    from emp_gym.envs.lookahead import lookahead
    report = lookahead(make, prices, clock=lambda env: env.unwrapped.row)   # make(data) -> env, wrapped or not
    assert report.clean, report

What it cannot see is said in docs/lookahead.md; above all, `clock` is the environment's own claim of what it may know.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from emp_gym.data.lobster import reader
from emp_gym.data.lobster.rewrites import LobsterDay
from emp_gym.data.rewrites import Source, source
from emp_gym.data.tape.tape_set import build
from emp_gym.envs.about import CERTIFICATE, MARKET, about, kind_of
from emp_gym.envs.conformance.subject import failure, feature_name, flat, resolve, sampler
from emp_gym.types import ConfigError, DataError, EmpGymError

Clock = Callable[[gym.Env], int]
Probe = Callable[[gym.Env], Mapping[str, Any]]
PLUGGED = {"task", "reward", "features", "gates", "market"}  # keywords that bring code which may remember
APART = """
import pickle, sys
from emp_gym.envs.lookahead import walked
with open(sys.argv[1], "rb") as file:
    told = pickle.load(file)
moments = walked(*told)
with open(sys.argv[1], "wb") as file:
    pickle.dump(moments, file)
"""
BEYOND = 24  # steps after the cut in which another future must show, or the check has seen nothing


class NoData(ConfigError):
    """An environment that is not on this package's days was to be checked without data."""


@dataclass(frozen=True)
class Leak:
    """The first output of one run that changed although the future alone had changed."""

    rewrite: str
    cut: int  # last row that both runs share
    step: int  # 0 is the reset
    row: int  # last row that the environment may know at that step, by its clock
    output: str  # "observation[3] (spread)", "reward", "info.action_mask[2]"
    original: str
    rewritten: str

    check = "the_future_changes_nothing"

    @property
    def what(self) -> str:
        """One sentence."""
        return (
            f"{self.output} at step {self.step} (row {self.row}) is {self.original}, but {self.rewritten} "
            f"when rows after {self.cut} are {self.rewrite}"
        )

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


@dataclass(frozen=True)
class LookaheadReport:
    """What was found, and how much was looked at: a clean report of few comparisons says little."""

    leaks: tuple[Leak, ...]
    problems: tuple[str, ...]  # why the check could not see, where it could not
    futures: int  # other futures tried
    reached: int  # of them, those that changed something after the cut
    compared: int  # steps compared, over all futures
    outputs: tuple[str, ...]  # names of what was compared
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """True when nothing leaked and the check could see."""
        return not self.leaks and not self.problems

    @property
    def worst(self) -> dict[str, Leak]:
        """One leak for each output, the one that shows it first."""
        first: dict[str, Leak] = {}
        for leak in self.leaks:
            if leak.output not in first or leak.step < first[leak.output].step:
                first[leak.output] = leak
        return first

    def __str__(self) -> str:
        lines = [*self.problems, *(leak.what for leak in self.worst.values()), *self.notes]
        seen = f"{self.futures} futures ({self.reached} of them showed after the cut), {self.compared} steps compared"
        return "\n".join([f"look-ahead: {'clean' if self.clean else 'NOT clean'}: {seen}", *(f"  {x}" for x in lines)])


@dataclass(frozen=True)
class StepRecord:
    """All that an environment gave at one step, and its clock."""

    outputs: dict[str, np.ndarray]
    clock: int


Walk = Callable[[Any, "dict[str, Any] | None", int], list[StepRecord]]
"""(data, reset options, steps) -> one episode's moments."""


class Unwalked(EmpGymError):
    """No process of its own could walk."""


def lookahead(
    make: Callable[[Any], gym.Env],
    data: Any,
    *,
    clock: Clock | None = None,
    starts: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    cuts: int = 8,
    steps: int = 96,
    rewrites: Sequence[str] | None = None,
    keep: Sequence[Any] = (),
    ignore: Sequence[str] = (),
    probe: Probe | None = None,
    read: Callable[[Any, Path], Any] | None = None,
    apart: Walk | None = None,
) -> LookaheadReport:
    """Rewrites the future of `data` at `cuts` places and compares what ``make(data)`` gives before them.

    `data` is an array, a frame, a dict of columns, a path, or any `emp_gym.data.rewrites.Source`; `keep` names columns
    that stay in place. `clock(env)` says the last row (for a LOBSTER day: the ns after midnight) that may be known now;
    without it the environment's `known_row` or `view.time_ns` is asked. `starts` are reset options that pin a start; a
    start drawn from the seed is checked too, with the futures that keep number and times of the rows. `ignore` names
    outputs to leave out (``"info.seconds"``), `probe(env)` adds outputs, `read(data, folder)` turns data into what
    `make` takes. `apart(data, options, steps)` is one episode's moments out of a process that has seen no other data: so what
    somebody has kept of an earlier run, outside of the environment, is found, too.

    Raises `ConfigError` when the environment does not say what it may know.
    """
    origin = data if hasattr(data, "future") else source(data, keep)
    read = read or (lambda given, folder: given)
    hunt = _Hunt(make, origin, clock or known, seed, cuts, steps, tuple(ignore), probe or public_view, read, apart)
    with tempfile.TemporaryDirectory(prefix="emp_gym-") as folder:
        for options in starts:
            hunt.run(dict(options), rewrites or origin.rewrites, Path(folder))
        if rewrites is None and not hunt.fixed_start(Path(folder)):
            rewrites = origin.steady
            left = [how for how in origin.rewrites if how not in origin.steady]
            if left and not starts:
                hunt.notes.append(f"starts are drawn from the seed, so not tried: {', '.join(left)}; pin a start")
        hunt.run(None, rewrites or origin.rewrites, Path(folder))
    return hunt.report()


def known(env: gym.Env) -> int:
    """What an environment says it may know: its `known_row`, or the time of its `view`. Raises `ConfigError`."""
    inner = env.unwrapped
    row = getattr(inner, "known_row", None)
    if row is not None:
        return int(row() if callable(row) else row)
    view = getattr(inner, "view", None)
    if view is not None and hasattr(view, "time_ns"):
        return int(np.asarray(view.time_ns).reshape(-1)[0])
    raise ConfigError(
        f"{type(inner).__name__} does not say which row it may know now; "
        "give clock=lambda env: ..., or the environment a `known_row`"
    )


def public_view(env: gym.Env) -> dict[str, Any]:
    """Every field of the environment's public `view`, where it has one."""
    view = getattr(env.unwrapped, "view", None)
    return {f"view.{f.name}": getattr(view, f.name) for f in fields(view)} if is_dataclass(view) else {}


class _Hunt:
    """One look-ahead check: the settings, and what has been found so far."""

    def __init__(
        self,
        make: Callable[[Any], gym.Env],
        origin: Source,
        clock: Clock,
        seed: int,
        cuts: int,
        steps: int,
        ignore: tuple[str, ...],
        probe: Probe,
        read: Callable[[Any, Path], Any],
        apart: Walk | None = None,
    ):
        self.make, self.origin, self.clock, self.probe, self.read, self.apart = make, origin, clock, probe, read, apart
        self.seed, self.cuts, self.steps, self.ignore = seed, cuts, steps, ignore
        self.leaks: list[Leak] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.futures = self.reached = self.compared = 0
        self.outputs: dict[str, None] = {}
        self.names: Callable[[int], str] = str
        self._plain: Any = None

    def report(self) -> LookaheadReport:
        """What was found."""
        if self.futures and not self.reached:
            self.problems.append(
                f"none of {self.futures} other futures changed anything, even after the cut: is the data used at all?"
            )
        elif not self.futures and not self.problems:
            self.problems.append("no cut could be tried: the episode ends before there are rows to change")
        outputs = tuple(self.outputs)
        counts = (self.futures, self.reached, self.compared)
        return LookaheadReport(tuple(self.leaks), tuple(self.problems), *counts, outputs, tuple(self.notes))

    def plain(self, folder: Path) -> Any:
        """The data as they are, read once."""
        if self._plain is None:
            own = folder / "original"
            own.mkdir()
            self._plain = self.read(self.origin.original(), own)
        return self._plain

    def fixed_start(self, folder: Path) -> bool:
        """True when seeds do not move the start."""
        with self.make(self.plain(folder)) as env:
            rows = set()
            for seed in range(self.seed, self.seed + 4):
                env.reset(seed=seed)
                rows.add(self.clock(env))
        return len(rows) == 1

    def run(self, options: dict[str, Any] | None, rewrites: Sequence[str], folder: Path) -> None:
        """All cuts and futures for one start."""
        original = self.walk(self.plain(folder), options, self.steps)
        again = self.walk(self.plain(folder), options, self.steps)
        for step, (x, y) in enumerate(zip(original, again)):
            for name, *_ in self.differences(x, y):
                self.problems.append(f"step {step}: {name} differs in a second run on the same data: not deterministic")
                return
        random = np.random.default_rng([self.seed, len(original)])
        for step in self.cut_steps(original):
            cut = self.origin.row_of(original[step].clock)
            for how in rewrites:
                own = Path(tempfile.mkdtemp(dir=folder))
                self.compare(original, how, cut, self.origin.future(how, cut, random, own), options, own, self.walk)
        steps = self.cut_steps(original)
        if self.apart is not None and options is not None and steps:
            walk, self.apart = self.apart, None
            cut, own = self.origin.row_of(original[steps[len(steps) // 2]].clock), Path(tempfile.mkdtemp(dir=folder))
            try:
                self.compare(original, rewrites[0], cut, self.origin.future(rewrites[0], cut, random, own), options, own, walk)
            except Unwalked as error:
                self.notes.append(f"what is kept of data seen before, outside of the environment, was not looked for: {error}")

    def cut_steps(self, original: list[StepRecord]) -> list[int]:
        """Steps at whose row the data are cut: the reset, the end, and evenly between, as far as rows follow."""
        last = len(original) - 1
        wanted = np.unique(np.linspace(0, last, self.cuts).round().astype(int))
        return [int(k) for k in wanted if self.origin.row_of(original[k].clock) < self.origin.rows - 3]

    def walk(self, data: Any, options: dict[str, Any] | None, steps: int) -> list[StepRecord]:
        """One episode's moments, with actions that the seed alone decides."""
        with self.make(data) as env:
            self.names = lambda i: feature_name(env, i)
            actions = sampler(env.action_space, self.seed)
            observation, info = env.reset(seed=self.seed, options=options)
            moments = [self.moment(env, {"observation": observation, "info": info})]
            for _ in range(steps):
                observation, reward, terminated, truncated, info = env.step(actions.sample())
                given = {"observation": observation, "reward": reward, "terminated": terminated, "truncated": truncated}
                moments.append(self.moment(env, given | {"info": info}))
                if terminated or truncated:
                    break
        return moments

    def moment(self, env: gym.Env, given: Mapping[str, Any]) -> StepRecord:
        """A copy of all that was given."""
        clock = self.clock(env)
        everything = dict(given) | dict(self.probe(env)) | {"clock": clock}
        named = {name: np.array(x) for top, value in everything.items() for name, x in flat(top, value)}
        kept = {name: x for name, x in named.items() if not any(name.startswith(i) for i in self.ignore)}
        self.outputs.update(dict.fromkeys(kept))
        return StepRecord(kept, clock)

    def compare(self, original: list[StepRecord], how: str, cut: int, data: Any, options: Any, own: Path, walk: Walk) -> None:
        """One other future: the steps up to the cut must be the same, a step after it should differ."""
        shared = sum(self.origin.row_of(moment.clock) <= cut for moment in original)
        self.futures += 1
        try:
            moments = walk(self.read(data, own), options, min(self.steps, shared + BEYOND))
        except Unwalked:
            self.futures -= 1
            raise
        except Exception as error:  # foreign code on data that it has never seen: whatever it raises is worth knowing
            self.problems.append(f"rows after {cut} {how}: the environment failed: {failure(error)}")
            return
        for step in range(min(shared, len(moments))):
            self.compared += 1
            found = list(self.differences(original[step], moments[step]))
            if found:
                row = self.origin.row_of(original[step].clock)
                self.leaks += [Leak(how, cut, step, row, *values) for values in found]
                self.reached += 1
                return
        later = zip(original[shared:], moments[shared:])
        self.reached += any(any(self.differences(x, y)) for x, y in later)

    def differences(self, x: StepRecord, y: StepRecord) -> Iterator[tuple[str, str, str]]:
        """Every output that differs, by name, with both values; columns of a flat observation one by one."""
        for name in dict.fromkeys((*x.outputs, *y.outputs)):
            a, b = x.outputs.get(name), y.outputs.get(name)
            if a is None or b is None:
                yield name, "absent" if a is None else "present", "absent" if b is None else "present"
            elif a.shape != b.shape or a.dtype != b.dtype:
                yield name, f"{a.dtype}{list(a.shape)}", f"{b.dtype}{list(b.shape)}"
            elif a.dtype == object:
                if repr(a.tolist()) != repr(b.tolist()):
                    yield name, f"{a.tolist()!r:.60}", f"{b.tolist()!r:.60}"
            elif a.tobytes() != b.tobytes():
                p, q = a.reshape(-1), b.reshape(-1)
                different = [i for i in range(p.size) if p[i].tobytes() != q[i].tobytes()]
                for i in different if name == "observation" else different[:1]:
                    label = f" ({self.names(i)})" if name == "observation" else ""
                    yield f"{name}[{i}]{label}" if a.ndim else name, str(p[i]), str(q[i])


def lookahead_id(name: str, data: str | None = None, **kwargs: Any) -> LookaheadReport:
    """The look-ahead check of a registered id, ``"module:id"`` or ``"module:factory"`` that takes `data`.

    For this package's ids `data` is a LOBSTER day (folder, zip, message file; its first day), without one a synthetic
    day with a halt. For others it is a path that they take as ``data=``. `kwargs` go to the environment. Raises
    `ConfigError` for an unknown name, `NoData` when `data` is needed.
    """
    env_id, factory = resolve(name)
    if factory is not None:
        return lookahead(lambda given: factory(given, **kwargs), _needed(name, data))
    if (kind := kind_of(env_id)) == CERTIFICATE:
        raise NoData("a certificate draws its noise as it goes: there are no data whose future could be rewritten")
    if kind != MARKET:
        return lookahead(lambda given: gym.make(env_id, data=str(given), **kwargs), _needed(name, data))
    if "market" in kwargs:
        with gym.make(env_id, disable_env_checker=True, **kwargs) as env:
            if about(env).days is None:
                raise NoData("its market has no recorded days whose future could be rewritten: check.py --market shows what it shows")
    make = _maker(name, kwargs)
    apart = _walker(name, kwargs) if kwargs.keys() & PLUGGED else None

    with tempfile.TemporaryDirectory(prefix="emp_gym-") as folder:
        day = LobsterDay.of(Path(data).expanduser() if data else _synthetic_day(Path(folder)))
        with make(tape_of(day.original(), Path(folder))) as env:
            windows: Any = env.unwrapped
            starts = [{"day": d, "start": row} for d, row in windows.windows(3)]
        return lookahead(make, day, starts=starts[1:] or starts, cuts=5, read=tape_of, apart=apart)


def _maker(name: str, keywords: Mapping[str, Any]) -> Callable[[Any], gym.Env]:
    """What makes one of our ids on a tape."""
    settings = {"split": "all", "info": "full", "episode": "64 decisions"} | dict(keywords)
    return lambda given: gym.make(resolve(name)[0], data=str(given), disable_env_checker=True, **settings)


def walked(name: str, keywords: Mapping[str, Any], data: str, options: dict[str, Any] | None, steps: int) -> list[StepRecord]:
    """One episode's moments of one of our ids."""
    hunt = _Hunt(_maker(name, keywords), None, known, 0, 0, 0, (), public_view, tape_of)  # type: ignore[arg-type]  # a walk asks no source
    return hunt.walk(data, options, steps)


def _walker(name: str, keywords: Mapping[str, Any]) -> Walk:
    """`walked` in a new process."""

    def walk(data: Any, options: dict[str, Any] | None, steps: int) -> list[StepRecord]:
        with tempfile.TemporaryDirectory(prefix="emp_gym-") as folder:
            path = Path(folder) / "walk"
            try:
                path.write_bytes(pickle.dumps((name, dict(keywords), str(data), options, steps)))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise Unwalked(f"{error}") from error
            places = os.pathsep.join(place or os.curdir for place in sys.path)
            done = subprocess.run([sys.executable, "-c", APART, str(path)], capture_output=True, env=os.environ | {"PYTHONPATH": places})
            if done.returncode:
                raise Unwalked((done.stderr.decode("utf-8", "replace").strip() or "it failed").splitlines()[-1])
            return pickle.loads(path.read_bytes())  # ours, written just now

    return walk


def _needed(name: str, data: str | None) -> str:
    if data is None:
        raise NoData("no data to rewrite were given (--data PATH goes to the environment): look-ahead was NOT checked")
    return data


def _synthetic_day(folder: Path) -> Path:
    from emp_gym.data.synthetic import day as synthetic

    return synthetic.write_day(folder / "day", synthetic.DayConfig(seed=20_300, rows=24_000, halts=1)).message


def tape_of(message: Path, folder: Path) -> Path:
    """The tape of a LOBSTER day, in `folder` not in the user's cache. `DataError` if the day does not verify."""
    (reading,) = reader.read(message)
    if reading.check.unexplained:
        raise DataError(f"{message}: {reading.check.unexplained} book rows do not follow from their messages")
    tape = folder / f"{message.stem}.tape"
    build(reading.day).save(tape)
    return tape
