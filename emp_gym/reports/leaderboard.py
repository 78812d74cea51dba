"""Judged runs side by side: a table for each group of runs that may be compared, agents and baselines as rows.

What was judged alike (environment, setting, data, split, windows, currency) stands in one table; everything else in a table of its own,
with the words by which it differs. Within a table runs with a caveat (`reports.caveats`) come after all others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.evaluation import comparison as pairs
from emp_gym.evaluation import intervals
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.reliability import FEWEST_RUNS, iqm, stratified_interval
from emp_gym.reports import caveats
from emp_gym.reports.judged_run import JudgedRun, Shelf, shelf
from emp_gym.reports.report_data import KNOWING, clipped
from emp_gym.types import F64, I64


@dataclass(frozen=True)
class BoardEntry:
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
    parameters: Mapping[str, Any] | None = None  # of the agent, and its budget: what was set; None for a baseline
    caveats: tuple[str, ...] = ()  # why it does not rank beside others
    trained: frozenset[int] = frozenset()  # seeds of this agent that were trained, in this entry or not


@dataclass(frozen=True)
class Board:
    """What was judged alike."""

    env: str
    settings: Mapping[str, Any]
    data_hash: str | None
    split: str
    windows: tuple[tuple[int, int], ...]
    level: float  # of every interval, whatever the runs were judged with
    entries: tuple[BoardEntry, ...]
    baselines: tuple[BoardEntry, ...]
    notes: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()  # of each window
    currency: str = ""
    differs: tuple[str, ...] = ()  # from the first table of the same environment
    judged: str = "pnl"  # or "value": J of a problem with a known optimum, in the problem's own unit

    @property
    def what(self) -> str:
        """What is judged, in the words of a table."""
        return "P&L" if self.judged == "pnl" else self.judged


@dataclass(frozen=True)
class BoardRow:
    """A line of a board; estimates are of what the board judges, per episode, or None where they mean nothing."""

    agent: str
    baseline: bool
    seeds: int
    pnl: Estimate  # mean, blocks are dates
    iqm: Estimate | None  # interquartile mean over seeds, its interval over them alone
    sharpe: float | None  # per episode, mean over seeds; of money only
    drawdown: float | None
    turnover: float | None
    improvement: Estimate | None  # probability, over the best baseline
    score: Estimate | None
    env_steps: int | None
    seconds: float | None
    trials: int | None
    path: str
    caveats: tuple[str, ...] = ()


# ---- reading


def boards(paths: Sequence[Path]) -> list[Board]:
    """The tables of what `paths` (run folders, or folders of them) hold; `DataError` where nothing in them was judged."""
    return grouped(shelf(paths))


def grouped(found: Shelf) -> list[Board]:
    """A board for each group of runs that may be compared, the largest first; of equal ones that of which less must be said."""
    groups: dict[str, list[JudgedRun]] = {}
    for one in found.judged:
        groups.setdefault(caveats.likeness(one), []).append(one)
    ordered = sorted(groups.values(), key=lambda group: (-len(group), caveats.flaws(group[0]), -len(group[0].told["windows"])))
    first = {group[0].told["env"]: group[0] for group in reversed(ordered)}
    return [_board(group, caveats.differences(group[0], first[group[0].told["env"]])) for group in ordered]


def _board(group: Sequence[JudgedRun], differs: Sequence[str]) -> Board:
    first = group[0].told
    agents, notes = _once([_agent(one) for one in group])
    baselines: dict[str, BoardEntry] = {}
    for one in group:
        for name in one.told["results"]:
            if name == one.told["agent"]:
                continue
            entry = _baseline(one, name)
            known = baselines.setdefault(name, entry)
            if not np.array_equal(known.pnl, entry.pnl):
                notes.append(f"{name} differs between {known.path} and {one.folder} (other code?): the first is shown")
    run, entries = first["run"], _merged(agents)
    own = {entry.agent for entry in entries}
    others = tuple(entry for name, entry in baselines.items() if name not in own)
    return Board(
        first["env"], run["settings"], run["data_hash"], run["split"],
        tuple((int(day), int(row)) for day, row in first["windows"]), intervals.LEVEL, tuple(entries), others,
        (*caveats.of_table(group, [*own, *baselines]), *notes), tuple(map(str, first["days"])), group[0].currency, tuple(differs),
        first["judged"],
    )  # fmt: skip


def _once(entries: Sequence[BoardEntry]) -> tuple[list[BoardEntry], list[str]]:
    """Without runs that stand here twice, as when a second report of one lies among the runs; and what was left out."""
    found: list[BoardEntry] = []
    notes = []
    for entry in entries:
        twin = next((e for e in found if (e.identity, e.seeds) == (entry.identity, entry.seeds) and np.array_equal(e.pnl, entry.pnl)), None)
        if twin is None:
            found.append(entry)
        else:
            notes.append(f"{entry.path} has the agent, seeds and results of {twin.path}: it stands here once")
    return found, notes


def _agent(one: JudgedRun) -> BoardEntry:
    run, name = one.run, one.told["agent"]
    identity = json.dumps([name, run["agent_config"], run["total_timesteps"]], sort_keys=True, default=str)
    optimum = (one.told.get("findings") or {}).get("optimum")
    return replace(
        _baseline(one, name),
        identity=identity,
        seeds=tuple(run["training_seeds"]),
        env_steps=run["total_timesteps"],
        seconds=run["train_seconds"],
        trials=run["trials"],
        score=tuple(optimum["scores"]) if optimum else (),
        machine=run["machine"],
        parameters={**run["agent_config"], "steps": run["total_timesteps"]},
        caveats=tuple(caveats.of_run(one)),
        trained=one.seeds | set(run["training_seeds"]),
    )


def _baseline(one: JudgedRun, name: str) -> BoardEntry:
    figures = ((one.told.get("findings") or {}).get("measures") or {}).get(name, {})

    def mean(measure: str) -> float | None:
        return figures[measure]["estimate"]["mean"] if measure in figures else None

    pnl = np.atleast_2d(np.array(one.told["results"][name]["pnl_by_window"], np.float64))
    return BoardEntry(
        str(one.folder), name, name, pnl, (), mean("max_drawdown_currency"), mean("turnover_currency_per_episode"), None, None, None
    )  # fmt: skip


def _merged(entries: Sequence[BoardEntry]) -> list[BoardEntry]:
    """Runs of one agent, parameters and budget that differ in their seeds become one entry of several seeds."""
    found: list[BoardEntry] = []
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
    return [replace(one, caveats=(*one.caveats, *caveats.of_seeds(one.seeds, one.trained))) for one in found]


def _joined(first: BoardEntry, second: BoardEntry) -> BoardEntry:
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
        caveats=tuple(dict.fromkeys([*first.caveats, *second.caveats])),
        trained=first.trained | second.trained,
    )


# ---- the table


def rows(board: Board, seed: int = 0, resamples: int = 2000) -> list[BoardRow]:
    """Lines of a board: agents and baselines by mean P&L (by score, where there is one), those with a caveat below them, the
    oracle last."""
    blocks = np.unique(board.dates, return_inverse=True)[1].astype(np.int64)
    rivals = [entry for entry in board.baselines if entry.agent not in KNOWING]
    best = max(rivals, key=lambda entry: entry.pnl.mean(), default=None)
    names = labels(board.entries)
    found = [_row(board, entry, name, False, best, blocks, seed, resamples) for entry, name in zip(board.entries, names)]
    found += [_row(board, entry, entry.agent, True, best, blocks, seed, resamples) for entry in board.baselines]
    return sorted(found, key=_place)


def _place(row: BoardRow) -> tuple[bool, bool, float, float]:
    return row.agent in KNOWING, bool(row.caveats), -(row.score.mean if row.score else -np.inf), -row.pnl.mean


def labels(entries: Sequence[BoardEntry]) -> list[str]:
    """What each is called: where several have one agent's name, with what was set in one and not alike in the others, then the folder."""
    return [_label(entry, [other for other in entries if other.agent == entry.agent]) for entry in entries]


def _label(entry: BoardEntry, namesakes: Sequence[BoardEntry]) -> str:
    if len(namesakes) == 1:
        return entry.agent
    said = _set_apart(entry, namesakes)
    alike = [other for other in namesakes if _set_apart(other, namesakes) == said]
    told = [*said, *([Path(entry.path).name] if len(alike) > 1 or not said else [])]
    return f"{entry.agent} ({', '.join(told)})"


def _set_apart(entry: BoardEntry, namesakes: Sequence[BoardEntry]) -> list[str]:
    """What was set for `entry` and differs among its namesakes, in words."""
    mine, known = entry.parameters or {}, [other.parameters or {} for other in namesakes]
    keys = [key for key in dict.fromkeys(key for one in known for key in one) if len({str(one.get(key)) for one in known}) > 1]
    return [_said(key, mine[key]) for key in keys if mine.get(key) is not None]


def _said(key: str, value: Any) -> str:
    return f"{value:,} steps" if key == "steps" else f"{key}={caveats.setting_text(value)}"


def _row(
    board: Board, entry: BoardEntry, name: str, baseline: bool, best: BoardEntry | None, days: I64, seed: int, resamples: int
) -> BoardRow:  # fmt: skip
    def rng() -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([seed, 17]))

    options: dict[str, Any] = {"level": board.level, "resamples": resamples}
    improvement = None
    pnl = intervals.bootstrap(entry.pnl, days, rng(), **options)
    enough = pnl.blocks >= intervals.FEWEST  # of one window a Sharpe ratio or a probability would read like a proof
    if best is not None and entry is not best and enough:
        pair = pairs.compare(entry.pnl.mean(axis=0), best.pnl.mean(axis=0), days, rng(), **options)
        improvement = clipped(pair.improvement)
    one = np.ones((1, len(days)))
    ratios = [float(intervals.sharpe(values)(one)[0]) for values in entry.pnl]
    return BoardRow(
        name,
        baseline,
        len(entry.pnl),
        pnl,
        _over_seeds(entry.pnl.mean(axis=1), pnl, rng(), options) if entry.seeds else None,
        float(np.mean(ratios)) if board.judged == "pnl" and enough and np.isfinite(ratios).all() else None,
        entry.drawdown,
        entry.turnover,
        improvement,
        stratified_interval(np.array(entry.score), rng(), **options) if entry.score else None,
        entry.env_steps,
        entry.seconds,
        entry.trials,
        entry.path,
        entry.caveats,
    )


def _over_seeds(means: F64, pnl: Estimate, rng: np.random.Generator, options: Mapping[str, Any]) -> Estimate:
    """Interquartile mean of what each seed made. Its interval knows nothing of other dates, so there is none where they are too few;
    nor is there one of few seeds, whose ends would be the lowest seed and the highest."""
    if pnl.blocks < intervals.FEWEST:
        return Estimate(iqm(means), blocks=len(means), block="run", note=pnl.note)
    if len(means) < FEWEST_RUNS:
        return Estimate(iqm(means), blocks=len(means), block="run", note=intervals.few(len(means), "seed"))
    return stratified_interval(means, rng, **options)
