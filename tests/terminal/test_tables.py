"""Tables on terminals of any width: no number is broken, nothing is lost unsaid."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from emp_gym.evaluation.intervals import Estimate
from emp_gym.reports.formatting import interval, number
from emp_gym.terminal import tables as columns

amounts = st.floats(-1e7, 1e7).map(lambda x: round(x, 2))
cells = st.one_of(
    st.just(""), amounts.map(number), st.tuples(amounts, amounts, amounts).map(lambda e: interval(Estimate(*e)))
)
names = st.text("abcdefghij", min_size=1, max_size=9)
titles = st.lists(names, min_size=1, max_size=3).map(" ".join)


def printed(width: int, *words: Any, **more: Any) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(columns.table(*words, width, **more))
    return console.export_text()


@st.composite
def tables(draw: Any) -> tuple[list[str], list[list[str]], list[str]]:
    heads = draw(st.lists(titles, min_size=2, max_size=7, unique=True))
    rows = [[draw(titles), *(draw(cells) for _ in heads[1:])] for _ in range(draw(st.integers(1, 5)))]
    return heads, rows, draw(st.permutations(heads[2:]))


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(34, 160))
def test_numbers_are_whole_lines_fit_and_what_is_missing_is_named(table: Any, width: int) -> None:
    heads, rows, spare = table
    text = printed(width, "a table", heads, rows, spare=spare, elsewhere="--json")
    flat = " ".join(text.split())
    _, _, left = flat.partition("No room for ")
    missing = [name for name in spare if name in left.removesuffix("; see --json.").split(", ")]
    assert max(map(len, text.splitlines())) <= width
    shown = {word for line in text.splitlines() for word in line.replace("│", " ").split()}
    for row in rows:
        for name, cell in zip(heads, row):
            assert name in missing or set(cell.split()) <= shown, (name, cell)
    assert spare[: len(missing)] == sorted(missing, key=spare.index), "the least important are the first to go"


WIDE = interval(Estimate(-12345.67, -23456.78, -1234.56))
HEADS = ["agent", "P&L per episode", "beyond the honest one (paired)", "Sharpe", "lots"]
ROWS = [["symmetric", WIDE, WIDE, "0.12", "2,761"], ["hold", "0.00 [0.00, 0.00]", "", "", "0"]]


def test_columns_go_in_the_order_of_their_worth_then_intervals_go_below_their_means_then_rows_are_lists() -> None:
    assert all(name in printed(130, "", HEADS, ROWS, spare=["lots", "Sharpe"]) for name in ("Sharpe", "lots"))
    some = printed(96, "", HEADS, ROWS, spare=["lots", "Sharpe"], elsewhere="--json")
    assert "No room for lots; see --json." in some and WIDE in some and "Sharpe" in some
    folded = printed(80, "", HEADS, ROWS, spare=["lots", "Sharpe"])
    assert "No room for Sharpe, lots." in folded and WIDE not in folded and "[−23,456.78, −1,234.56]" in folded
    listed = printed(46, "", HEADS, ROWS, spare=["lots", "Sharpe"])
    assert "  lots: 2,761" in listed and "No room" not in listed
    assert f"  P&L per episode: {WIDE} beyond" in f"  {' '.join(listed.split()[1:])}"


def test_text_is_wrapped_at_spaces_and_shown_as_it_is() -> None:
    rows = [["peer hftbacktest on one thread of this machine, embedded days", "1,234,567.8", "pip install 'emp-gym[peers]'"]]
    text = printed(60, "", ["figure", "median", "unit"], rows, texts=["unit"])
    assert "'emp-gym[peers]'" in text and "1,234,567.8" in text and max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("width", [80, 120])
def test_the_certificates_table_names_what_it_leaves_out(width: int) -> None:
    from types import SimpleNamespace

    from emp_gym.cli import certify

    one = SimpleNamespace(
        env_id="emp-ladder-mean-reversion-v0", score=Estimate(0.97, -12.96, 0.98), abstention=False, passed=False,
        optimum=6.0862, base=("fixed 1.2347", 5.49866), env_steps=4_000_000, seconds=123.4, runs=[None] * 5,
    )  # fmt: skip
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(certify._table("ppo", [one], width))
    text = console.export_text()
    assert "[-12.960, 0.980]" in text and max(map(len, text.splitlines())) <= width
    assert ("4,000,000" in text) == (width == 120) == ("No room" not in text)
