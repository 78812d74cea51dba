"""Judged runs side by side: one table for each environment, setting and data, agents and baselines as rows.

Only what was judged on the same windows is compared; anything else is refused, not averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.agents.base import read_json
from emp_gym.evaluation import comparison as pairs
from emp_gym.evaluation import metrics
from emp_gym.evaluation.metrics import Estimate
from emp_gym.evaluation.reliability import stratified_interval
from emp_gym.experiments.document import Block, Heading, Table, Text
from emp_gym.experiments.findings import KNOWING, clipped
from emp_gym.experiments.report import SCHEMA, told_columns
from emp_gym.experiments.wording import bare, interval, number
from emp_gym.types import F64, I64, ConfigError, DataError

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Entry:
    """One agent as one evaluation has it. None: not known, or not told by the environment."""

    path: str
    agent: str
    identity: str  # same agent, parameters and budget: its runs are seeds of one another
    pnl: F64  # [S, W] currency per episode, or what else the board judges
    seeds: tuple[int, ...]  # of training; empty for what was not trained
    drawdown: float | None
    turnover: float | None
    env_steps: int | None
    seconds: float | None
    trials: int | None
    score: tuple[float, ...] = ()  # of each seed, against a known optimum
    machine: str = ""


@dataclass(frozen=True)
class Board:
    """What was judged alike."""

    env: str
    settings: Mapping[str, Any]
    data_hash: str | None
    split: str
    windows: tuple[tuple[int, int], ...]
    level: float
    entries: tuple[Entry, ...]
    baselines: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    judged: str = "pnl"  # or "value": J of a problem with a known optimum, in the problem's own unit

    @property
    def what(self) -> str:
        """What is judged, in the words of a table."""
        return "P&L" if self.judged == "pnl" else self.judged


@dataclass(frozen=True)
class Row:
    """A line of a board; estimates are of what the board judges, per episode, or None where they mean nothing."""

    agent: str
    baseline: bool
    seeds: int
    pnl: Estimate  # mean, blocks are days
    iqm: Estimate | None  # interquartile mean over seeds
    sharpe: float | None  # per episode, mean over seeds; of money only
    drawdown: float | None
    turnover: float | None
    improvement: Estimate | None  # probability, over the best baseline
    score: Estimate | None
    env_steps: int | None
    seconds: float | None
    trials: int | None
    path: str


# ---- reading


def boards(paths: Sequence[Path]) -> list[Board]:
    """A board for each environment, setting and data hash that `paths` (run folders, or folders of them) hold.

    `ConfigError` where runs of one board were judged on different windows; `DataError` for what was not judged.
    """
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in judged_folders(paths):
        told = _read(folder)
        run = told["run"]
        key = json.dumps([told["env"], run["settings"], run["data_hash"], run["split"]], sort_keys=True, default=str)
        groups.setdefault(key, []).append((folder, told))
    return [_board(group) for group in groups.values()]


def judged_folders(paths: Iterable[Path]) -> list[Path]:
    """Folders with an evaluation: the given ones, or the outermost below them."""
    found: list[Path] = []
    for path in paths:
        below = [path] if (path / EVALUATION).exists() else sorted(file.parent for file in path.rglob(EVALUATION))
        outermost = [folder for folder in below if not any(other in folder.parents for other in below)]
        if not outermost:
            raise DataError(
                f"{path}: nothing was judged here (no {EVALUATION}); judge the run: scripts/evaluate.py --run {path} "
                f"--report {path}"
            )
        found += [folder for folder in outermost if folder not in found]
    return found


def _read(folder: Path) -> dict[str, Any]:
    told = read_json(folder / EVALUATION)
    if told.get("schema") != SCHEMA or not told.get("run"):
        raise DataError(
            f"{folder / EVALUATION}: of another version (schema {told.get('schema')}, expected {SCHEMA}); judge the run "
            f"again: scripts/evaluate.py --run {folder} --report {folder}"
        )
    return told


def _board(group: Sequence[tuple[Path, dict[str, Any]]]) -> Board:
    first_path, first = group[0]
    for path, told in group[1:]:
        if told["windows"] != first["windows"]:
            raise ConfigError(
                f"{first_path} and {path} were judged on different windows of {told['env']} ({len(first['windows'])} and "
                f"{len(told['windows'])}): their numbers cannot be compared; judge both on the same ones with "
                "scripts/evaluate.py --run DIR --report DIR [--episodes N]"
            )
    agents, notes = _once([_agent(path, told) for path, told in group])
    entries = _merged(agents)
    baselines: dict[str, Entry] = {}
    for path, told in group:
        for name in told["results"]:
            if name == told["agent"]:
                continue
            entry = _baseline(path, told, name)
            known = baselines.setdefault(name, entry)
            if not np.array_equal(known.pnl, entry.pnl):
                notes.append(f"{name} differs between {known.path} and {path} (other code?): the first is shown")
    windows = tuple((int(day), int(row)) for day, row in first["windows"])
    run = first["run"]
    own = {entry.agent for entry in entries}
    others = tuple(entry for name, entry in baselines.items() if name not in own)
    return Board(
        first["env"], run["settings"], run["data_hash"], run["split"], windows, first["level"], tuple(entries), others,
        tuple(notes), first["judged"],
    )  # fmt: skip


def _once(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Without runs that stand here twice, as when a second report of one lies among the runs; and what was left out."""
    found: list[Entry] = []
    notes = []
    for entry in entries:
        twin = next((e for e in found if (e.identity, e.seeds) == (entry.identity, entry.seeds) and np.array_equal(e.pnl, entry.pnl)), None)
        if twin is None:
            found.append(entry)
        else:
            notes.append(f"{entry.path} has the agent, seeds and results of {twin.path}: it stands here once")
    return found, notes


def _agent(path: Path, told: Mapping[str, Any]) -> Entry:
    run, name = told["run"], told["agent"]
    identity = json.dumps([name, run["agent_config"], run["total_timesteps"]], sort_keys=True, default=str)
    optimum = (told.get("findings") or {}).get("optimum")
    return replace(
        _baseline(path, told, name),
        identity=identity,
        seeds=tuple(run["training_seeds"]),
        env_steps=run["total_timesteps"],
        seconds=run["train_seconds"],
        trials=run["trials"],
        score=tuple(optimum["scores"]) if optimum else (),
        machine=run["machine"],
    )


def _baseline(path: Path, told: Mapping[str, Any], name: str) -> Entry:
    figures = ((told.get("findings") or {}).get("measures") or {}).get(name, {})

    def mean(measure: str) -> float | None:
        return figures[measure]["estimate"]["mean"] if measure in figures else None

    pnl = np.atleast_2d(np.array(told["results"][name]["pnl_by_window"], np.float64))
    return Entry(
        str(path), name, name, pnl, (), mean("max_drawdown_currency"), mean("turnover_currency_per_episode"), None, None, None
    )  # fmt: skip


def _merged(entries: Sequence[Entry]) -> list[Entry]:
    """Runs of one agent, parameters and budget that differ in their seeds become one entry of several seeds."""
    found: list[Entry] = []
    for entry in entries:
        at = next(
            (i for i, e in enumerate(found)
             if e.identity == entry.identity and e.seeds and entry.seeds and not set(e.seeds) & set(entry.seeds)),
            None,
        )  # fmt: skip
        if at is None:
            found.append(entry)
        else:
            found[at] = _joined(found[at], entry)
    return found


def _joined(first: Entry, second: Entry) -> Entry:
    a, b = len(first.pnl), len(second.pnl)

    def mean(x: float | None, y: float | None) -> float | None:
        return None if x is None or y is None else (x * a + y * b) / (a + b)

    counted = [count for count in (first.trials, second.trials) if count is not None]
    return replace(
        first,
        path=f"{first.path} and {second.path}" if " and " not in first.path else first.path + " and more",
        pnl=np.concatenate([first.pnl, second.pnl]),
        seeds=first.seeds + second.seeds,
        drawdown=mean(first.drawdown, second.drawdown),
        turnover=mean(first.turnover, second.turnover),
        seconds=mean(first.seconds, second.seconds),
        trials=max(counted, default=None),
        score=first.score + second.score,
    )


# ---- the table


def rows(board: Board, seed: int = 0, resamples: int = 2000) -> list[Row]:
    """Lines of a board: agents and baselines by mean P&L (by score, where there is one), the oracle last."""
    days = np.array([day for day, _ in board.windows], np.int64)
    rivals = [entry for entry in board.baselines if entry.agent not in KNOWING]
    best = max(rivals, key=lambda entry: entry.pnl.mean(), default=None)
    names = [entry.agent for entry in board.entries]
    found = []
    for entry in (*board.entries, *board.baselines):
        own = entry in board.entries
        name = f"{entry.agent} ({Path(entry.path).name})" if own and names.count(entry.agent) > 1 else entry.agent
        found.append(_row(board, entry, name, not own, best, days, seed, resamples))
    return sorted(found, key=_place)


def _place(row: Row) -> tuple[bool, float, float]:
    return row.agent in KNOWING, -(row.score.mean if row.score else -np.inf), -row.pnl.mean


def _row(
    board: Board, entry: Entry, name: str, baseline: bool, best: Entry | None, days: I64, seed: int, resamples: int
) -> Row:  # fmt: skip
    def rng() -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([seed, 17]))

    options: dict[str, Any] = {"level": board.level, "resamples": resamples}
    improvement = None
    if best is not None and entry is not best:
        pair = pairs.compare(entry.pnl.mean(axis=0), best.pnl.mean(axis=0), days, rng(), **options)
        improvement = clipped(pair.improvement)
    one = np.ones((1, len(days)))
    ratios = [float(metrics.sharpe(values)(one)[0]) for values in entry.pnl]
    return Row(
        name,
        baseline,
        len(entry.pnl),
        metrics.bootstrap(entry.pnl, days, rng(), **options),
        stratified_interval(entry.pnl.mean(axis=1), rng(), **options) if entry.seeds else None,
        float(np.mean(ratios)) if board.judged == "pnl" and np.isfinite(ratios).all() else None,
        entry.drawdown,
        entry.turnover,
        improvement,
        stratified_interval(np.array(entry.score), rng(), **options) if entry.score else None,
        entry.env_steps,
        entry.seconds,
        entry.trials,
        entry.path,
    )


TITLES = (
    "agent", "score", "{} per episode", "IQM over seeds", "seeds", "Sharpe", "drawdown", "turnover",
    "P(beats best baseline)", "env steps", "seconds", "trials",
)  # fmt: skip
SPARE = (
    "trials", "seconds", "turnover", "env steps", "drawdown", "Sharpe", "seeds", "P(beats best baseline)", "IQM over seeds",
)  # fmt: skip
"""Columns that a narrow terminal may do without, the least important one first."""


def cells(row: Row) -> tuple[str, ...]:
    def maybe(value: float | None, digits: int = 0) -> str:
        return "" if value is None else number(value, digits)

    return (
        row.agent if not row.baseline else f"{row.agent} *",
        bare(row.score, 3),
        interval(row.pnl) if row.pnl.low is not None else bare(row.pnl),
        bare(row.iqm),
        str(row.seeds) if row.iqm else "",
        maybe(row.sharpe, 2),
        maybe(row.drawdown, 1),
        maybe(row.turnover),
        bare(row.improvement),
        maybe(row.env_steps),
        maybe(row.seconds),
        maybe(row.trials),
    )


def title(board: Board) -> str:
    """``emp-lob-v0: 16 test windows of 8 days, data 80ac2296``."""
    days = len({day for day, _ in board.windows})
    data = f", data {board.data_hash[:8]}" if board.data_hash else ""
    given = ", ".join(_setting(key, value) for key, value in board.settings.items())
    count, plural = f"{len(board.windows)} {board.split}", "s" if len(board.windows) > 1 else ""
    where = f"{count} window{plural} of {days} day{'s' if days > 1 else ''}" if data else f"{count} episode{plural}"
    return f"{board.env}{f' ({given})' if given else ''}: {where}{data}"



def _setting(key: str, value: Any) -> str:
    """``latency_ns=200000``; of what is too long for a title the first bits of its hash, of gates their names besides."""
    text = str(value)
    if len(text) <= 40:
        return f"{key}={text}"
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
    gates = [str(gate.get("gate")) for gate in value if isinstance(gate, Mapping)] if isinstance(value, list | tuple) else []
    return f"{key}={'+'.join(gates)}#{digest}"


def table(board: Board) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and cells, without columns in which nothing stands."""
    return told_columns([title.format(board.what) for title in TITLES], [cells(row) for row in rows(board)])


def reading(found: Sequence[Board]) -> str:
    """What the numbers of these boards mean."""
    judged = {board.judged for board in found}
    text = "`*` is a baseline. "
    if "pnl" in judged:
        text += "P&L, drawdown and turnover are in currency, means over episodes; Sharpe is per episode, not annualised. "
    if judged - {"pnl"}:
        text += (
            "`value` is J of an episode without the noise of its steps, in the problem's own unit, which is not currency; "
            "`score` is 1 at the optimum and 0 at the best naive policy. "
        )
    return text + (
        "Intervals are block bootstraps over days (episodes, where there are no days); `IQM` is the interquartile mean over training "
        "seeds with its stratified bootstrap interval. `P(beats best baseline)`: the probability that an episode of the agent beats "
        f"one of the baseline with the highest mean ({' and '.join(KNOWING)} aside). Seconds of training are wall clock, a seed. "
    ) + _counted(found)


def _counted(found: Sequence[Board]) -> str:
    if all(entry.trials is None for board in found for entry in board.entries):
        return "How many trials led here nobody counted (runs under `--govern` do)."
    return "`trials` that count against the run stand in its ledger; empty: nobody counted. No number is deflated by them."


def document(found: Sequence[Board]) -> list[Block]:
    """All boards, as blocks."""
    blocks: list[Block] = []
    for board in found:
        titles, body = table(board)
        blocks += [Heading(title(board)), Table(titles, tuple(body)), *(Text(note) for note in board.notes)]
    machines = sorted({entry.machine for board in found for entry in board.entries if entry.machine})
    return [*blocks, Text(reading(found)), *([Text(f"Trained or judged on: {'; '.join(machines)}.")] if machines else [])]


def as_json(found: Sequence[Board]) -> list[dict[str, Any]]:
    """All boards as plain numbers."""
    return [
        {
            "env": board.env,
            "settings": dict(board.settings),
            "data_hash": board.data_hash,
            "split": board.split,
            "windows": [list(window) for window in board.windows],
            "level": board.level,
            "notes": list(board.notes),
            "judged": board.judged,
            "unit": UNITS.get(board.judged, "the problem's own"),
            "rows": [_plain(row, board.judged) for row in rows(board)],
        }
        for board in found
    ]


UNITS = {"pnl": "currency"}


def _plain(row: Row, judged: str) -> dict[str, Any]:
    """With what was judged under its own name."""
    return {judged if key == "pnl" else key: value for key, value in asdict(row).items()}
