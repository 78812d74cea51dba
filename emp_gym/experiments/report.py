"""What came of a run, for people: a table on the terminal, ``report.md`` with the same figures, ``evaluation.json``.

Lines of ``report.md`` that begin with "|" hold nothing but results: the same seed, data and code give the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emp_gym.evaluation.metrics import Estimate
from emp_gym.experiments.backtest import Comparison, Row
from emp_gym.experiments.runs import RunFolder

READING = """\
P&L is in currency per episode, with the position closed at the book's prices at the end; `return` is the sum of
rewards ({unit}). Intervals are {level:.0%} block bootstraps: {blocks} are drawn with replacement, because windows of
one day share its regime (with several seeds, seeds are drawn too). `ahead by` is paired: {agent} minus that baseline
on the same windows. `fill rate` = orders that got any fill / orders sent; `maker` = share of lots that were filled
while resting; `spread` = side x (mid - price) x lots, summed; `masked` = share of decisions whose action was not
allowed and was executed as "keep"; `oracle share` = how far from `hold` to the oracle, which takes with knowledge of
the planted signal. Own fills are an assumption: see `fills`, `latency_ns` and `impact` in the configuration."""

REWARD_UNITS = {"shortfall": "basis points of the arrival price, paid is negative"}
DEFAULT_UNIT = "ticks per clip for the environments of this package"


def number(value: float, digits: int = 2) -> str:
    """`value` with thousands separators, a true minus and no negative zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else f"{0:.{digits}f}"


def interval(estimate: Estimate) -> str:
    """``1.23 [0.10, 2.36]``, or the mean and why there is no interval."""
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.mean)} ({estimate.note})"
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def bare(estimate: Estimate | None) -> str:
    """As `interval`, without the reason where there is none: the column beside it has said it."""
    return "" if estimate is None else number(estimate.mean) if estimate.low is None else interval(estimate)


MONEY = ("agent", "P&L per episode", "ahead by (paired)", "return", "oracle share")
TRADE = ("agent", "lots", "maker", "orders", "fill rate", "mean inventory", "max inventory", "spread", "fees", "masked")


def money_cells(row: Row) -> list[str]:
    share = "" if row.share is None else f"{row.share:.0%}".replace("-", "−")
    return [row.name, interval(row.pnl), bare(row.ahead), number(row.reward.mean), share]


def trade_cells(row: Row) -> list[str]:
    r = row.rates
    return [
        row.name,
        number(r.get("filled", 0.0), 0),
        f"{r.get('maker_share', 0.0):.0%}",
        number(r.get("orders", 0.0), 1),
        f"{r.get('fill_rate', 0.0):.0%}",
        number(r.get("mean_abs_inventory", 0.0), 1),
        number(r.get("max_inventory", 0.0), 1),
        number(r.get("spread_captured", 0.0)),
        number(r.get("fees", 0.0)),
        f"{r.get('masked_rate', 0.0):.1%}",
    ]


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of which every line begins with "|"."""
    lines = [" | ".join(titles), " | ".join(["---"] + ["---:"] * (len(titles) - 1)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


WIDE = 150  # columns that one table of everything needs


def terminal_table(comparison: Comparison, width: int = WIDE) -> Any:
    """The results for a terminal of `width` columns: money, and how it was made, in one table or one below the other."""
    from rich.console import Group

    title = f"{comparison.env_id}: {comparison.agent.name} on {summary_line(comparison)}"
    trade = (*TRADE[1:6], "masked")
    money_rows = [money_cells(row) for row in comparison.rows]
    trade_rows = [[cells[i] for i in (1, 2, 3, 4, 5, -1)] for cells in map(trade_cells, comparison.rows)]
    if width >= WIDE:
        whole = [[*money, *made] for money, made in zip(money_rows, trade_rows, strict=True)]
        return _terminal_table(title, (*MONEY, *trade), whole)
    first = [[name, pnl, ahead, share] for name, pnl, ahead, _, share in money_rows]
    below = [[money[0], money[3], *made] for money, made in zip(money_rows, trade_rows, strict=True)]
    return Group(
        _terminal_table(title, ("agent", "P&L per episode", "ahead by (paired)", "oracle"), first),
        "",
        _terminal_table("", ("agent", "return", "lots", "maker", "orders", "fills", "inventory", "masked"), below),
    )


def _terminal_table(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A rich table; the first row, the judged agent's, stands out."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", show_edge=False)
    for name in titles:
        table.add_column(
            name, justify="left" if name == "agent" else "right", no_wrap=name == "agent", overflow="fold"
        )
    for at, row in enumerate(rows):
        table.add_row(*row, style=None if at else "bold")
    return table


def summary_line(comparison: Comparison) -> str:
    """How many windows of how many days, and of how many seeds."""
    days = len(set(comparison.days))
    seeds = f", {comparison.seeds} seeds" if comparison.seeds > 1 else ""
    return f"{len(comparison.windows)} held-out windows of {days} day{'s' if days > 1 else ''}{seeds}"


def verdict(comparison: Comparison) -> str:
    """One sentence: what the agent won, and which baselines it is ahead of by more than the interval."""
    agent = comparison.agent
    rivals = [row for row in comparison.rows[1:] if row.name != "oracle" and row.ahead is not None]
    clear = [row.name for row in rivals if row.ahead is not None and row.ahead.clear and row.ahead.mean > 0]
    mean = [row.name for row in rivals if row.ahead is not None and row.ahead.mean > 0 and row.name not in clear]
    behind = [row.name for row in rivals if row.ahead is not None and row.ahead.mean <= 0]
    parts = [f"{agent.name} made {interval(agent.pnl)} per episode"]
    if clear:
        parts.append(f"ahead of {', '.join(clear)} by more than the interval")
    if mean:
        why = "there are too few windows to say more" if agent.pnl.low is None else "not by more than the interval"
        parts.append(f"ahead of {', '.join(mean)} in the mean, but {why}")
    if behind:
        parts.append(f"not ahead of {', '.join(behind)}")
    if agent.share is not None:
        parts.append(f"{agent.share:.0%} of the way from hold to the oracle".replace("-", "−"))
    return "; ".join(parts) + "."


def report_text(
    comparison: Comparison, config: Any, provenance: dict[str, Any], pictures: dict[str, str], reward: str | None
) -> str:
    """The whole of ``report.md``."""
    agent = comparison.agent
    block = agent.pnl.block
    reading = READING.format(
        unit=REWARD_UNITS.get(reward or "", DEFAULT_UNIT),
        level=comparison.level,
        blocks=f"{block}s",
        agent=agent.name,
    )
    parts = [
        f"# {agent.name} on {comparison.env_id}",
        f"{verdict(comparison)} Judged on {summary_line(comparison)}.",
        markdown_table(MONEY, [money_cells(row) for row in comparison.rows]),
        markdown_table(TRADE, [trade_cells(row) for row in comparison.rows]),
    ]
    parts += [f"Left out: {name} ({why})." for name, why in comparison.skipped.items()]
    parts += [f"![{title}]({file})" for title, file in pictures.items()]
    parts += ["## How to read this", reading, "## What was run", _facts(config, provenance)]
    return "\n\n".join(parts) + "\n"


def _facts(config: Any, provenance: dict[str, Any]) -> str:
    data = provenance.get("data") or []
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    lines = [
        f"- agent `{config.agent_name}` {config.agent or '(its defaults)'}, "
        f"{config.total_timesteps:,} steps, seed {config.seed}",
        f"- environment `{config.env_id}` {config.env or '(its defaults)'}",
        f"- data: {len(data)} days"
        + (f", {data[0]['date']} to {data[-1]['date']}" if data and "date" in data[0] else ""),
        f"- commit {provenance.get('commit') or 'unknown'}; {versions}",
        "- everything else: `config.json`, `provenance.json`, `evaluation.json`, `curves.csv` beside this file",
    ]
    return "\n".join(lines)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain numbers."""

    def plain(row: Row) -> dict[str, Any]:
        return {
            "pnl": asdict(row.pnl),
            "return": asdict(row.reward),
            "ahead": None if row.ahead is None else asdict(row.ahead),
            "oracle_share": row.share,
            **{name: value for name, value in row.rates.items() if name not in ("pnl", "return")},
            "pnl_by_window": row.episodes["pnl"].tolist(),
        }

    return {
        "env": comparison.env_id,
        "agent": comparison.agent.name,
        "seeds": comparison.seeds,
        "level": comparison.level,
        "windows": [list(window) for window in comparison.windows],
        "days": comparison.days,
        "skipped": comparison.skipped,
        "results": {row.name: plain(row) for row in comparison.rows},
    }


def write(run: RunFolder, comparison: Comparison, text: str) -> Path:
    """Leaves ``report.md`` and ``evaluation.json`` in the run's folder; returns the report's path."""
    path = run.path / "report.md"
    path.write_text(text, encoding="utf-8")
    run.write_json("evaluation.json", as_json(comparison))
    return path
