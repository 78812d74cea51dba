"""What came of a run, for people: a table on the terminal, ``report.md`` and ``report.html`` with the same figures, and
``evaluation.json``.

Lines of ``report.md`` that begin with "|" hold nothing but results: the same seed, data and code give the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.evaluation.intervals import FEWEST, Estimate
from emp_gym.reports import episode_plot, html_page
from emp_gym.reports.blocks import Block, Heading, Picture, Table, Text, markdown, markdown_table
from emp_gym.reports.blocks import FactList as Statements
from emp_gym.reports.formatting import NO_P, bare, estimated, interval, left_out, number, p_value, percent
from emp_gym.reports.plot_style import TERM_NAMES, TERMS
from emp_gym.reports.report_data import RISK, Findings, InRegime, Optimum
from emp_gym.reports.verdict import verdict
from emp_gym.runs import run_metadata as told
from emp_gym.runs.backtest import AgentResult, Comparison
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.run_metadata import RunMetadata
from emp_gym.terminal import tables

SCHEMA = 2


# ---- the comparison on one line, and on the terminal

MONEY = ("agent", "P&L per episode", "ahead by (paired)", "return", "oracle share")
ELSEWHERE = "--json or --report DIR"
TRADE = ("agent", "lots", "maker", "orders", "cut", "fill rate", "mean inventory", "max inventory", "spread", "fees", "masked")
MEANINGS = {
    "fill rate": "orders that got any fill / orders sent",
    "maker": "lots filled while resting / lots",
    "spread": "side x (mid - price) x lots",
    "cut": "orders that risk limits changed or refused",
    "masked": "decisions whose action was not allowed and was executed as `keep`",
}
"""Of columns of `TRADE`."""
SYMBOLS = ("symbol", "windows", "dates", "market, bp", "P&L per episode", "hold", "long", "short")


def money_titles(comparison: Comparison) -> tuple[str, ...]:
    """`MONEY`, in the words of problems that are judged by their value."""
    if comparison.judged == "pnl":
        return MONEY
    return ("agent", f"{comparison.judged} per episode", *MONEY[2:4], "score, sampled")


def money_cells(row: AgentResult) -> list[str]:
    """Why there is no interval stands with the judged agent, who is ahead of nobody."""
    share = "" if row.share is None else percent(row.share)
    return [row.name, interval(row.pnl) if row.ahead is None else bare(row.pnl), bare(row.ahead), number(row.reward.mean), share]


def trade_cells(row: AgentResult) -> list[str]:
    """Empty where the environment's summary does not say."""
    r = row.rates
    formats: dict[str, Callable[[float], str]] = {
        "filled": lambda x: number(x, 0),
        "maker_share": percent,
        "orders": lambda x: number(x, 1),
        "cut": lambda x: number(x, 1),
        "fill_rate": percent,
        "mean_abs_inventory": lambda x: number(x, 1),
        "max_inventory": lambda x: number(x, 1),
        "spread_captured": number,
        "fees": number,
        "masked_rate": lambda x: percent(x, 1),
    }
    return [row.name, *(show(r[name]) if name in r else "" for name, show in formats.items())]


def symbol_cells(comparison: Comparison) -> list[list[str]]:
    """The agent in each symbol; empty where there is one."""
    return [
        [one.symbol, str(one.windows), str(one.dates), number(one.move_bps, 1), bare(one.pnl),
         *(number(one.others[name]) if name in one.others else "" for name in SYMBOLS[5:])]
        for one in comparison.by_symbol
    ]  # fmt: skip


def told_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Without the columns in which nothing stands."""
    keep = [at for at in range(len(titles)) if at == 0 or any(row[at] for row in rows)]
    return tuple(titles[at] for at in keep), [tuple(row[at] for at in keep) for row in rows]


def terminal_table(comparison: Comparison, width: int, elsewhere: str = ELSEWHERE) -> Any:
    """The results for a terminal of `width` characters: money, and how it was made, in one table or one below the other."""
    from rich.console import Group

    if comparison.by_currency:
        return Group(*(part for each in comparison.by_currency.items() for part in _in_currency(*each, width, elsewhere)))
    title = f"{comparison.env_id}: {comparison.agent.name} on {summary_line(comparison)}"
    money = [money_cells(row) for row in comparison.rows]
    trade = [[cells[at] for at in (1, 2, 3, 4, 5, 6, -1)] for cells in map(trade_cells, comparison.rows)]
    titles = (*money_titles(comparison), *TRADE[1:7], TRADE[-1])
    whole = told_columns(titles, [[*m, *t] for m, t in zip(money, trade)])
    symbols = _symbols(comparison, width, elsewhere)
    if tables.fits(*whole, width):
        return Group(tables.table(title, *whole, width), *symbols)
    first = told_columns((*money_titles(comparison)[:3], "oracle"), [[*m[:3], m[4]] for m in money])
    names = ("agent", "return", "lots", "maker", "orders", "cut", "fills", "inventory", "masked")
    below = told_columns(names, [[m[0], m[3], *t] for m, t in zip(money, trade)])
    return Group(
        tables.table(title, *first, width, spare=("oracle",), elsewhere=elsewhere), "",
        tables.table("", *below, width, spare=("masked", "return", "inventory", "orders", "maker"), elsewhere=elsewhere),
        *symbols,
    )  # fmt: skip


def _in_currency(currency: str, comparison: Comparison, width: int, elsewhere: str) -> list[Any]:
    return [f"In {currency}:", terminal_table(comparison, width, elsewhere), ""]


def _symbols(comparison: Comparison, width: int, elsewhere: str) -> list[Any]:
    """The table of symbols, below the others."""
    if not comparison.by_symbol:
        return []
    shown = told_columns(SYMBOLS, symbol_cells(comparison))
    title = f"{comparison.agent.name} by symbol"
    return ["", tables.table(title, *shown, width, spare=("hold", "short", "long", "dates"), elsewhere=elsewhere, strong=False)]


def summary_line(comparison: Comparison) -> str:
    """``20 held-out windows of 2 symbols on 1 date, 3 seeds``; "held-out" where that is proved."""
    count, dates = len(comparison.windows), len(set(comparison.days))
    seeds = f", {comparison.seeds} seeds" if comparison.seeds > 1 else ""
    if comparison.days and comparison.days[0].startswith("day "):  # an environment without dates
        return f"{comparison.proof.windows(count, 'episode')}{seeds}"
    symbols = sorted({one.span.symbol for one in comparison.played})
    what = "" if not symbols else f" of {symbols[0]}" if len(symbols) == 1 else f" of {len(symbols)} symbols"
    what = f":{what.removeprefix(' of')}" if what and not comparison.proof.held_out else what
    return f"{comparison.proof.windows(count)}{what} on {dates} date{'' if dates == 1 else 's'}{seeds}"


# ---- the document


def document(comparison: Comparison, findings: Findings, facts: RunMetadata, pictures: Mapping[str, str]) -> list[Block]:
    """The report. `pictures`: what there is of comparison, equity, attribution, learning, episode -> file name."""

    def picture(key: str, title: str) -> list[Block]:
        return [Picture(title, pictures[key])] if key in pictures else []

    name, each = comparison.agent.name, comparison.proof.adjective
    what = "P&L" if comparison.judged == "pnl" else comparison.judged.capitalize()
    first: list[Block] = [
        Heading(f"{name} on {comparison.env_id}", 1),
        *([Statements(lines)] if (lines := _first_lines(comparison)) else []),
        Text(f"**{verdict(comparison, findings.optimum)}** Judged on {summary_line(comparison)}."),
    ]
    if comparison.by_currency:
        return [*first, *_currencies(comparison), Heading("What was run"), Statements(told.lines(facts))]
    blocks: list[Block] = [
        *first,
        _table(money_titles(comparison), [money_cells(row) for row in comparison.rows]),
        *(Text(f"Left out: {told}.") for told in left_out(comparison.skipped)),
        *picture("comparison", f"{what} of every {each}episode ({_drawn(comparison)})"),
        *_by_symbol(comparison),
        *_optimum(findings.optimum),
        *_pairs(comparison, findings),
        *picture("equity", f"Equity over {_all(each, comparison)}, and its drawdown"),
        *_attribution(findings, picture("attribution", "Where the P&L came from")),
        *_regimes(findings),
        Heading("How it traded"),
        _table(TRADE, [trade_cells(row) for row in comparison.rows]),
        *picture("episode", f"T{episode_plot.called(comparison)[1:]}"),
        *_measures(name, findings),
        *(
            [Heading("How it learned"), *picture("learning", "Training")]
            if "learning" in pictures
            else []
        ),
        Heading("How to read this"),
        Statements(_reading(comparison, facts, findings)),
        Heading("What was run"),
        Statements(told.lines(facts)),
    ]
    return blocks


def _drawn(comparison: Comparison) -> str:
    """What stands for what in the picture of the comparison."""
    dots = f"dots, means over {comparison.seeds} seeds" if comparison.seeds > 1 else "dots"
    return f"{dots}), mean (disc" + (") and interval (bar" if any(row.pnl.low is not None for row in comparison.rows) else "")


def _all(each: str, comparison: Comparison) -> str:
    """The judged episodes."""
    count = len(comparison.windows)
    return f"the one {each}episode" if count == 1 else f"all {count} {each}episodes, one after the other"


def _first_lines(comparison: Comparison) -> tuple[str, ...]:
    """What the figures are of, before the first figure."""
    told = () if comparison.preface is None else comparison.preface.lines
    return tuple(f"**{label}**: {text}" for label, text in told)


def _by_symbol(comparison: Comparison) -> list[Block]:
    if not comparison.by_symbol:
        return []
    titles, rows = told_columns(SYMBOLS, symbol_cells(comparison))
    return [Heading("By symbol"), Table(titles, tuple(rows))]


def _currencies(comparison: Comparison) -> list[Block]:
    """A table for each currency; nothing is added over them."""
    blocks: list[Block] = []
    for currency, part in comparison.by_currency.items():
        blocks += [
            Heading(f"In {currency}"), Text(f"Judged on {summary_line(part)}."),
            _table(money_titles(part), [money_cells(row) for row in part.rows]), *_by_symbol(part),
        ]  # fmt: skip
    note = "Money of several currencies is never added; for attribution, measures and pictures judge the days of one currency at a time."
    return [*blocks, Text(note)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The judged agent's row first; columns without content are left out."""
    names, cells = told_columns(titles, rows)
    return Table(names, tuple(cells), strong=0)


def _optimum(optimum: Optimum | None) -> list[Block]:
    if optimum is None:
        return []
    base, value = optimum.base
    rows = [
        ("score, interquartile mean over seeds", interval(optimum.score, 3)),
        ("score of each seed", ", ".join(number(score, 3) for score in optimum.scores)),
        ("value of the optimum", number(optimum.optimum, 4)),
        (f"value of the best naive policy, {base}", number(value, 4)),
        ("value of the agent by", "exact evaluation" if optimum.exact else "common random numbers"),
    ]
    return [Heading("Against the known optimum"), Table(("", "value"), tuple(rows))]


def _pairs(comparison: Comparison, findings: Findings) -> list[Block]:
    """Against each baseline, episode by episode."""
    shown, cells = _pairs_table(comparison, findings)
    return [Heading("Against each baseline"), Table(shown, tuple(cells))] if cells else []


def _pairs_table(comparison: Comparison, findings: Findings) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Titles and rows, without the columns that say nothing."""
    blocks = comparison.agent.pnl.blocks
    titles = (
        "against",
        "difference (paired)",
        "Wilcoxon p",
        "p adjusted",
        "probability of improvement",
        "episodes won",
    )
    rows = [
        (name, bare(pair.difference), p_value(pair.p_value, blocks), p_value(findings.adjusted.get(name, float("nan")), blocks),
         estimated(pair.improvement), estimated(pair.wins))
        for name, pair in findings.pairs.items()
    ]  # fmt: skip
    if all(row[2] == row[3] == NO_P for row in rows):
        rows = [(*row[:2], "", "", *row[4:]) for row in rows]
    return told_columns(titles, rows)


def _attribution(findings: Findings, picture: list[Block]) -> list[Block]:
    if not findings.attribution:
        return []
    titles = ("agent", *(TERM_NAMES[term] for term in TERMS), "P&L")
    rows = [
        (name, *(bare(terms[term]) for term in TERMS), bare(terms["pnl"]))
        for name, terms in findings.attribution.items()
    ]
    return [Heading("Where the P&L came from"), *picture, Table(titles, tuple(rows), strong=0)]


def _regimes(findings: Findings) -> list[Block]:
    def row(part: InRegime, first: Sequence[str]) -> tuple[str, ...]:
        return (part.name, *first, *(number(part.terms[term]) for term in TERMS), interval(part.pnl))

    terms = tuple(TERM_NAMES[term] for term in TERMS)
    blocks: list[Block] = []
    if findings.regimes:
        rows = [row(part, [percent(part.share, 1)]) for part in findings.regimes]
        blocks += [Heading("By market regime"), Table(("regime", "decisions", *terms, "P&L"), tuple(rows))]
    if findings.ticks:
        rows = [row(part, [percent(part.share), number(part.spread_ticks or 0.0)]) for part in findings.ticks]
        titles = ("tick regime", "episodes", "spread, ticks", *terms, "P&L")
        blocks += [Heading("By tick regime"), Table(titles, tuple(rows))]
    return blocks


def _measures(name: str, findings: Findings) -> list[Block]:
    if name not in findings.measures:
        return []
    rows = [
        (measure.replace("_", " "), _figure(figure.estimate), figure.unit, figure.meaning)
        for measure, figure in findings.measures[name].items()
        if np.isfinite(figure.estimate.mean) and (measure not in RISK or figure.estimate.low is not None)
    ]
    return [Heading("All measures"), Table(("measure", name, "unit", "meaning"), tuple(rows), texts=(2, 3))]


def _within(comparison: Comparison) -> str:
    return ": the interval is within-day and says nothing of other dates" if comparison.recorded else ""


def _figure(estimate: Estimate) -> str:
    """An estimate with digits that fit its size."""
    size = abs(estimate.mean)
    return bare(estimate, 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3)


def _reading(comparison: Comparison, facts: RunMetadata, findings: Findings) -> tuple[str, ...]:
    """What the numbers mean; only of those that are there."""
    name, block = comparison.agent.name, comparison.agent.pnl.block
    unit = facts.reward_unit or ("its own" if facts.market else "the problem's")
    money = "currency" if facts.market else "the problem's unit"
    blocks = comparison.agent.pnl.blocks
    drawn = (
        f"Intervals are {100 * comparison.level:g}% block bootstraps over {blocks} {block}s, which are drawn with replacement"
        + (", because windows of one date share its market" if block == "date" else _within(comparison))
        + f"; below {FEWEST} none is given"
        + (" (and seeds, where P&L is told)." if comparison.seeds > 1 else ".")
    )
    few = f"There are no intervals: {blocks} {block}{'' if blocks == 1 else 's'}, and below {FEWEST} none is given."
    told = [
        f"P&L is in {money} per episode, `return` the sum of rewards (unit: {unit}).",
        drawn if blocks >= FEWEST else few,
        f"`ahead by` and `difference` are paired: {name} minus that baseline on the same windows.",
    ]
    if facts.market:
        columns_there = told_columns(TRADE, [trade_cells(row) for row in comparison.rows])[0]
        told += [
            "A position is closed at the book's prices at the end of its episode.",
            "; ".join(f"`{column}`: {means}" for column, means in MEANINGS.items() if column in columns_there) + ".",
            "Own fills are an assumption: see `costs and fills` above.",
        ]
    if comparison.objections:
        said = ", ".join(f"`{reason}` {count:,}" for reason, count in sorted(comparison.objections.items()))
        told.append(f"Objections of gates to orders of {name}, in all of its episodes: {said}.")
    if comparison.agent.share is not None:
        told.append(
            "`oracle share`: how far from `hold` to the oracle, which takes with knowledge of the planted signal."
        )
    pairs = _pairs_table(comparison, findings)[0] if findings.pairs else ()
    if "p adjusted" in pairs:
        told.append(
            f"The Wilcoxon test takes {'the mean difference of each date' if block == 'date' else 'each window'} as one "
            "observation; `p adjusted` is after Benjamini and Hochberg over all baselines but the oracle."
        )
    if "probability of improvement" in pairs:
        told.append(
            f"`probability of improvement`: that an episode of {name} beats one of the baseline, both drawn at random; "
            "`episodes won`: the same episode, ties half."
        )
    if pairs:
        told.append("The best baseline is chosen after the fact, which is to the agent's disadvantage.")
    if findings.attribution:
        told += [
            "Terms of the P&L add up to it exactly, as integers; rows of the regimes add up to the whole. A regime is known "
            "from earlier rows only. What the terms do not mean: `docs/evaluation.md`.",
        ]
    return tuple(told)


# ---- files


def as_json(comparison: Comparison, findings: Findings | None = None, facts: RunMetadata | None = None) -> dict[str, Any]:
    """Everything as plain numbers."""

    def plain(row: AgentResult) -> dict[str, Any]:
        told = {
            "pnl": asdict(row.pnl),
            "return": asdict(row.reward),
            "ahead": None if row.ahead is None else asdict(row.ahead),
            "oracle_share": row.share,
            "pnl_by_window": row.episodes[comparison.judged].tolist(),
        }
        return told | {name: value for name, value in row.rates.items() if name not in told}

    return {
        "schema": SCHEMA,
        "env": comparison.env_id,
        "agent": comparison.agent.name,
        "judged": comparison.judged,
        "seeds": comparison.seeds,
        "level": comparison.level,
        "windows": [list(window) for window in comparison.windows],
        "days": comparison.days,
        "symbols": [one.span.symbol for one in comparison.played],
        "currencies": [one.currency for one in comparison.played],
        "market_moves": [one.move if np.isfinite(one.move) else None for one in comparison.played],
        "synthetic": any(one.span.synthetic for one in comparison.played),
        "proof": asdict(comparison.proof),
        "preface": None if comparison.preface is None else comparison.preface.as_json(),
        "skipped": comparison.skipped,
        **({} if comparison.drift is None else {"drift": asdict(comparison.drift)}),
        "results": {row.name: plain(row) for row in comparison.rows},
        "by_symbol": [asdict(one) for one in comparison.by_symbol],
        "by_currency": {name: as_json(part)["results"] for name, part in comparison.by_currency.items()},
        "findings": None if findings is None else findings.as_json(),
        "run": None if facts is None else facts.as_json(),
        "verdict": verdict(comparison, None if findings is None else findings.optimum),
    }


def write(
    run: RunFolder, comparison: Comparison, findings: Findings, facts: RunMetadata, pictures: Mapping[str, str]
) -> Path:  # fmt: skip
    """Leaves ``report.md``, ``report.html`` and ``evaluation.json`` in the run's folder, where its pictures are already;
    returns the text's path."""
    blocks = document(comparison, findings, facts, pictures)
    path = run.path / "report.md"
    bounded.write(path, markdown(blocks))
    title = f"{comparison.agent.name} on {comparison.env_id}"
    bounded.write(run.path / "report.html", html_page.html(blocks, run.path, title))
    run.write_json("evaluation.json", as_json(comparison, findings, facts))
    return path


STALE = "careful: this report is of an earlier model than the one that lies here; judge again"


def disown(folder: Path, again: str) -> None:
    """Says first in the report in `folder` that its model is not there any more; `again`: the command that judges."""
    text_of = {"report.md": ("", f"**{STALE}**: `{again}`\n\n"), "report.html": ("<main>\n", f"<p><strong>{STALE}</strong></p>\n")}
    for name, (begin, line) in text_of.items():
        path = folder / name
        text = bounded.text(path) if path.exists() else STALE
        if STALE not in text:
            bounded.write(path, text.replace(begin, begin + line, 1))


__all__ = [
    "as_json", "disown", "document", "interval", "markdown_table", "number", "terminal_table", "verdict", "write",
]  # fmt: skip
