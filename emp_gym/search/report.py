"""A study as table, picture and page: the front, every trial, the champion on test time, and what is left once trials are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.overfitting import (
    SharpeSample,
    backtest_overfitting,
    deflated_sharpe,
    effective_trials,
    one_strategy,
    probabilistic_sharpe,
    sharpe_sample,
)
from emp_gym.reports import plot_style
from emp_gym.reports.blocks import Block, FactList, Heading, Picture, Table, Text, markdown
from emp_gym.reports.formatting import bare, number, short
from emp_gym.reports.html_page import html
from emp_gym.reports.report import told_columns
from emp_gym.runs import hardware
from emp_gym.search import champion
from emp_gym.search.champion import Judged
from emp_gym.search.driver import Record, Search
from emp_gym.search.store import JOURNAL
from emp_gym.terminal.shell_commands import command
from emp_gym.types import F64, DataError

FRONT = "front.png"
BLOCKS = 16
"""Of the cross-validation behind the probability of overfitting, or fewer where there are fewer episodes."""


def write(search: Search, judged: Sequence[Judged]) -> Path:
    """Leaves ``report.md``, ``report.html``, ``front.png`` and ``search.json`` in the study's folder; the path of the page."""
    folder, records = search.folder, search.records()
    if search.complete():
        draw(search, records, folder / FRONT)
    blocks = document(search, records, judged)
    bounded.write(folder / "report.md", markdown(blocks))
    bounded.write(folder / "report.html", html(blocks, folder, _title(search)))
    told = {
        "plan": asdict(search.plan), "commit": search.study.user_attrs["commit"], "trials": [asdict(one) for one in records],
        "front": [one.number for one in search.front()], "final": champion.as_json(judged),
        "looks_at_test": [one._asdict() for one in champion.looks(folder)],
    }  # fmt: skip
    bounded.write(folder / "search.json", json.dumps(told, indent=1) + "\n")
    return folder / "report.html"


def _title(search: Search) -> str:
    return f"Search: {search.plan.agent_name} on {search.plan.env_id}"


def document(search: Search, records: Sequence[Record], judged: Sequence[Judged]) -> list[Block]:
    """All of it as blocks."""
    blocks: list[Block] = [Heading(_title(search), 1), Text(summary(search, records, judged))]
    if search.complete():
        blocks += [Heading("Front"), Picture(_caption(search), FRONT), front_table(search)]
        blocks += [Heading("Finalists"), Text(FINALISTS), finalist_table(search)] if search.plan.finalists else []
    if judged:
        blocks += [Heading("On test time"), _final_table(search, judged), Text(_final_text(search, judged))]
    blocks += [Heading("Once the search is counted"), FactList(tuple(deflated(search, records, judged)))]
    blocks += [Heading("Every trial"), trial_table(search, records), Heading("How it was made"), FactList(_how(search, records))]
    return blocks


def summary(search: Search, records: Sequence[Record], judged: Sequence[Judged]) -> str:
    count = {state: sum(one.state == state for one in records) for state in ("complete", "pruned", "failed", "running")}
    states = ", ".join(f"{n} {state}" for state, n in count.items() if n)
    told = f"**{len(records)} trials** ({states}) in {_steps(search, records)}. {_looked(search)}"
    if not search.complete():
        return told + " None is complete, so there is no front; the reasons stand below."
    best, name = search.champion(), search.objectives.value
    chosen = f", the best of {sum(bool(one.genome) for one in records)}" if len(records) > 1 else ""
    told += f" Champion: **trial {best.number}**, {name} {short(best.objectives[0])} on validation{chosen}"
    if judged and judged[0].sound:
        told += f", **{_figure(judged[0].estimate(0))} on test**"
        if judged[1].sound:
            told += f" (the starting point: {_figure(judged[1].estimate(0))})"
    return told + "."


def _steps(search: Search, records: Sequence[Record]) -> str:
    """Environment steps of everything, and of the trials."""
    total, tried = search.cells.env_steps, sum(one.env_steps for one in records)
    return f"{total:,} environment steps" + (f", {total - tried:,} of them for finalists and the test" if total > tried else "")


def _looked(search: Search) -> str:
    """How often the test was looked at: what was chosen after a look is not fresh there."""
    seen = champion.looks(search.folder)
    if len(seen) < 2:
        return "The test was looked at once." if seen else "The test was not looked at."
    return f"The test was looked at **{len(seen)} times**, for {', '.join(map(str, seen))}: only the first look was fresh."


def _caption(search: Search) -> str:
    return f"Left: {search.objectives.value} against drawdown, the front as a line. Right: the best so far against environment steps."


# ---- tables


def trial_cells(search: Search, one: Record) -> tuple[str, ...]:
    """A trial as a row: of `HEAD`."""
    figures = [short(value) for value in one.objectives] or [""] * 3
    spread = " ".join(short(value) for value in one.values) if len(one.values) > 1 else ""
    return (str(one.number), one.state, *figures, spread, number(one.env_steps, 0), one.reason)


def head(search: Search) -> tuple[str, ...]:
    return ("trial", "state", *search.objectives.names, "each seed", "env steps", "why")


def trial_table(search: Search, records: Sequence[Record]) -> Table:
    best = search.champion().number if search.complete() else None
    titles, rows = told_columns(head(search), [trial_cells(search, one) for one in records])
    texts = tuple(place for place, title in enumerate(titles) if title in ("state", "why"))
    return Table(titles, tuple(rows), best, texts)


def front_table(search: Search) -> Table:
    """The front, best value first, with its genomes."""
    front = search.front()
    keys = [key for key, _ in search.space.describe() if any(key in one.genome for one in front)]
    rows = tuple(
        (str(one.number), *(short(value) for value in one.objectives), *(_value(one.genome.get(key)) for key in keys))
        for one in front
    )
    strong = next((place for place, one in enumerate(front) if one.number == search.champion().number), None)
    return Table(("trial", *search.objectives.names, *(key.removeprefix("agent.") for key in keys)), rows, strong)


FINALISTS = (
    "The trials with the highest values, trained again with more seeds, still on `fit` and judged on `validation`: the best of many "
    "was lucky in the seeds that it was chosen by. The champion is the best of them over all seeds."
)


def finalist_table(search: Search) -> Table:
    """Finalists, with their value as trials and over all of their training runs."""
    found = sorted(search.finalists(), key=search.final_value, reverse=True)
    rows = tuple((str(one.number), short(one.objectives[0]), short(search.final_value(one))) for one in found)
    name, seeds = search.objectives.value, search.plan.seeds
    return Table(("trial", f"{name}, {seeds} seeds", f"{name}, {seeds + search.plan.more_seeds} seeds"), rows, strong=0)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return Path(value).stem if isinstance(value, str) and value.endswith(".yaml") else str(value)


def _final_table(search: Search, judged: Sequence[Judged]) -> Table:
    rows = []
    for one in judged:
        if one.sound:
            rows.append((one.name, *(_figure(one.estimate(which)) for which in range(3)), str(len(one.outcomes)), ""))
        else:
            why = next(outcome.failed for outcome in one.outcomes if outcome.failed)
            rows.append((one.name, "", "", "", str(len(one.outcomes)), why))
    titles, cells = told_columns(("", *search.objectives.names, "fresh seeds", "why not"), rows)
    return Table(titles, tuple(cells), strong=0, texts=(5,) if "why not" in titles else ())


def _figure(estimate: Estimate) -> str:
    """With three digits after the point for scores, none for large sums."""
    return bare(estimate, 3 if abs(estimate.mean) < 10 else 1 if abs(estimate.mean) < 1000 else 0)


def _final_text(search: Search, judged: Sequence[Judged]) -> str:
    begun = "trial 0" if search.plan.start else "the agent with the parameters that all trials have in common"
    return (
        f"Trained on all training time for {search.plan.budget:,} steps with seeds that no trial had, judged on the test split, which no "
        f"trial saw; interquartile means over seeds with their bootstrap interval. {_looked(search)} The starting point is "
        f"{begun}."
    )


# ---- what is left


def series(search: Search) -> tuple[F64, list[int]]:
    """P&L of each episode of the validation split [T, N], means over seeds, and the numbers of the N complete trials."""
    rung = search.plan.rungs[-1]
    numbers = [one.number for one in search.complete()]
    columns = [np.mean([done.pnl for done in search.outcomes(search.trial(n), rung)], axis=0) for n in numbers]
    return np.array(columns).T, numbers


def deflated(search: Search, records: Sequence[Record], judged: Sequence[Judged]) -> list[str]:
    """Statements: how many were tried, Sharpe ratio of the champion once they are counted, probability of overfitting."""
    tried = len([one for one in records if one.genome])
    told = [f"N = {tried} trials were begun; all of them count, failed and pruned ones too"]
    if not search.complete():
        return told
    table, numbers = series(search)
    best = table[:, numbers.index(search.champion().number)]
    if best.mean() <= 0:
        return [*told, "the champion's mean P&L is not above 0 (a cost to be kept small, or a loss): there is no Sharpe ratio to deflate"]
    try:
        sample = sharpe_sample(best)
    except DataError as error:
        return [*told, f"no Sharpe ratio: {error}"]
    ratios = table.mean(axis=0) / np.where(table.std(axis=0, ddof=1) > 0, table.std(axis=0, ddof=1), np.inf)
    luck = 1 / (len(table) - 1)
    variance = max(float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0, luck)
    told.append(
        f"validation, {len(table)} episodes: Sharpe {sample.ratio:.3f} an episode; P(true ratio > 0) {probabilistic_sharpe(sample):.3f} "
        f"if nobody had searched, **{deflated_sharpe(sample, trials=tried, variance=variance):.3f} deflated** by N (about "
        f"{effective_trials(table):.1f} independent ones among the complete)"
    )
    told += _overfitting(table)
    told += _test(judged, len(champion.looks(search.folder)))
    return [*told, "episodes of one day depend on each other, so these figures are kinder than sessions would be"]


def _overfitting(table: F64) -> list[str]:
    blocks = min(BLOCKS, len(table) // 2 * 2)
    if table.shape[1] < 2 or blocks < 4:
        return []
    if one_strategy(table):
        return [
            f"no probability of backtest overfitting: the {table.shape[1]} complete trials are as different as "
            f"{effective_trials(table):.1f}, one strategy tried again, and ranks among them say nothing"
        ]
    found = backtest_overfitting(table, blocks=blocks).probability
    return [f"probability of backtest overfitting among the complete trials: {found:.2f} (0.5 is a coin toss; {blocks} blocks)"]


def _test(judged: Sequence[Judged], looked: int) -> list[str]:
    if not judged or not judged[0].sound:
        return []
    sample: SharpeSample | None = None
    try:
        sample = sharpe_sample(np.mean([one.pnl for one in judged[0].outcomes], axis=0))
    except DataError as error:
        return [f"test: no Sharpe ratio ({error})"]
    again = f"; but this is look {looked}, and what was tried since the first may have been chosen by what it showed"
    return [
        f"test, {sample.observations} episodes: Sharpe {sample.ratio:.3f} an episode; P(true ratio > 0) "
        f"{probabilistic_sharpe(sample):.3f}, not deflated, since nothing was chosen on it{again if looked > 1 else ''}"
    ]


def _how(search: Search, records: Sequence[Record]) -> tuple[str, ...]:
    plan = search.plan
    rungs = ", then ".join(f"{rung.steps:,} steps with {rung.seeds} seed{'s' if rung.seeds > 1 else ''}" for rung in plan.rungs)
    halving = f"; one in {plan.halving} goes on" if plan.halving > 1 else ""
    return (
        f"sampler {plan.sampler}, population {plan.population}, seed {plan.seed}",
        f"a trial learns {rungs}{halving}; learning on the split `fit`, chosen on `validation`, both inside of the training part",
        f"drawdown and turnover in: {search.objectives.unit}",
        *(f"`{key}`: {told}" for key, told in search.space.describe()),
        f"{hardware.described()}; commit {search.study.user_attrs['commit']}",
        f"the whole study: `{command('optuna-dashboard', search.folder / JOURNAL)}` (of the extra `dashboard`)",
    )


# ---- the picture


def draw(search: Search, records: Sequence[Record], path: Path) -> None:
    """Value against drawdown, and the best value so far against environment steps."""
    title = f"{_title(search)}, {len(records)} trials"
    with plot_style.figure(path, title, ncols=2, figsize=(plot_style.WIDTH, 4.4), width_ratios=(1.25, 1)) as (figure, axes):
        _draw_front(axes[0], search, records)
        _draw_course(axes[1], search, records)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=4)


def _draw_front(axis: Any, search: Search, records: Sequence[Record]) -> None:
    complete = [one for one in records if one.state == "complete"]
    pruned = [one for one in records if one.state == "pruned" and one.objectives]
    if pruned:
        axis.scatter(*_at(pruned), s=16, color=plot_style.MUTED, alpha=0.6, lw=0, label="pruned, as they were then")
    axis.scatter(*_at(complete), s=26, color=plot_style.SKY, lw=0, label="complete")
    front = search.front()
    axis.plot(*_at(_stairs(front)), color=plot_style.BLUE, lw=1.2, drawstyle="steps-post")
    axis.scatter(*_at(front), s=34, color=plot_style.BLUE, lw=0, zorder=3, label="front of all three objectives")
    best = search.champion()
    axis.scatter(*_at([best]), s=150, marker="*", color=plot_style.ORANGE, edgecolor=plot_style.INK, lw=0.7, zorder=4,
                 label=f"champion, trial {best.number}")  # fmt: skip
    axis.set(xlabel=f"drawdown [{search.objectives.unit}]", ylabel=f"{search.objectives.value} on validation")
    axis.set_title("Front")
    inside = _inside(complete)
    for limit, which in ((axis.set_xlim, 1), (axis.set_ylim, 0)):
        values = [one.objectives[which] for one in (*inside, *front)]
        room = 0.06 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
        limit(min(values) - room, max(values) + room)
    axis.locator_params(nbins=6)


def _at(some: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Drawdowns and values."""
    return [one.objectives[1] for one in some], [one.objectives[0] for one in some]


def _stairs(front: Sequence[Record]) -> list[Record]:
    """Of the front, those that stand out by value and drawdown alone, in order of drawdown."""
    found: list[Record] = []
    for one in sorted(front, key=lambda one: (one.objectives[1], -one.objectives[0])):
        if not found or one.objectives[0] > found[-1].objectives[0]:
            found.append(one)
    return found


def _inside(complete: Sequence[Record]) -> list[Record]:
    """Without far losers, so that the front can be read: not more than three ranges of the better half below its lower end."""
    values = np.array([one.objectives[0] for one in complete])
    middle, high = float(np.median(values)), float(values.max())
    floor = middle - 3 * (high - middle)
    return [one for one in complete if one.objectives[0] >= floor]


def _draw_course(axis: Any, search: Search, records: Sequence[Record]) -> None:
    complete = [one for one in records if one.state == "complete"]
    used = dict(zip((one.number for one in records), np.cumsum([one.env_steps for one in records])))
    x = np.array([used[one.number] for one in complete], float)
    top = np.maximum.accumulate([one.objectives[0] for one in complete])
    inside = {one.number for one in _inside(complete)}
    each = [(place, one.objectives[0]) for place, one in zip(x, complete) if one.number in inside]
    axis.scatter(*np.array(each).T, s=16, color=plot_style.SKY, lw=0)
    axis.plot([*x, used[records[-1].number]], [*top, top[-1]], color=plot_style.BLUE, drawstyle="steps-post")
    axis.set(xlabel="environment steps", ylabel=f"best {search.objectives.value} so far")
    axis.set_title("Course")
    low = min(value for _, value in each)
    room = 0.06 * (top[-1] - low) or 1.0
    axis.set_ylim(low - room, top[-1] + room)
    axis.locator_params(axis="x", nbins=4)
    plot_style.money_axis(axis, "x")
