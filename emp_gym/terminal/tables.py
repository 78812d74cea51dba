"""Tables for a terminal: as many columns as fit, and no number broken over lines.

Text is wrapped at spaces. Where there is no room for all, columns are left out in a given order, and a line says which. Then
intervals are folded: that of ``1.23 [0.10, 2.36]`` goes below its mean. Where even that is too wide, all cells of a row stand one
below the other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from emp_gym.printable import printable

MARGIN = 3  # characters between two columns
PROSE = 24  # characters that a column of text keeps

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """A title and a cell for every row; a cell may have several lines."""

    title: str
    cells: tuple[str, ...]
    text: bool = False

    @property
    def width(self) -> int:
        """Characters. A title may be broken at its spaces, a cell only where it is."""
        return max(map(len, [*self.title.split(), *(line for cell in self.cells for line in cell.split("\n"))]), default=0)

    def wrapped(self, width: int) -> Column:
        """Text in lines of at most `width`, where words allow, but not of less than `PROSE`."""
        return replace(self, cells=tuple(_lines(cell, max(width, PROSE)) for cell in self.cells)) if self.text else self

    def folded(self) -> Column:
        """With intervals below their means."""
        return self if self.text else replace(self, cells=tuple(cell.replace(" [", "\n[") for cell in self.cells))


def table(
    title: str, titles: Sequence[str], rows: Cells, width: int, *, spare: Sequence[str] = (), elsewhere: str = "",
    texts: Sequence[str] = (), strong: bool = True,
) -> Any:  # fmt: skip
    """What rich prints on a terminal of `width` characters.

    `spare`: titles that may be left out, the least important one first; `elsewhere`: what shows them. The first column and those
    in `texts` are text, the others numbers. `strong`: the first row stands out.
    """
    from rich.console import Group
    from rich.text import Text

    every = _columns(titles, rows, texts)
    kept = fitting(every, width, spare)
    parts: list[Any] = [Text(printable(title), style="italic")] if title else []
    if needed(kept) > width:
        return Group(*parts, Text(_below(every, width)))
    parts.append(_beside(kept, strong))
    left_out = [name for name in titles if name not in {column.title for column in kept}]
    if left_out:
        parts.append(Text(f"No room for {', '.join(left_out)}{f'; see {elsewhere}' if elsewhere else ''}.", style="dim"))
    return Group(*parts)


def fits(titles: Sequence[str], rows: Cells, width: int) -> bool:
    """Whether a table stands on a terminal of `width` characters as it is."""
    return needed(_columns(titles, rows)) <= width


def needed(columns: Sequence[Column]) -> int:
    """Characters that the columns take beside each other."""
    return sum(column.width for column in columns) + MARGIN * (len(columns) - 1)


def fitting(columns: Sequence[Column], width: int, spare: Sequence[str] = ()) -> list[Column]:
    """What of `columns` is shown in `width` characters, and how narrow; it may still be too wide."""
    kept = list(columns)
    narrow = [column.wrapped(0) for column in kept]
    for name in spare:
        if needed(narrow) > width:
            kept, narrow = ([column for column in some if column.title != name] for some in (kept, narrow))
    if needed(narrow) > width:
        narrow = [column.folded() for column in narrow]
    for at, column in enumerate(kept):  # what room is left is the text's
        narrow[at] = column.wrapped(narrow[at].width + width - needed(narrow)) if column.text else narrow[at]
    return narrow


def _columns(titles: Sequence[str], rows: Cells, texts: Sequence[str] = ()) -> list[Column]:
    shown = [tuple(printable(cell) for cell in row) for row in rows]
    return [Column(printable(name), tuple(row[at] for row in shown), at == 0 or name in texts) for at, name in enumerate(titles)]


def _beside(columns: Sequence[Column], strong: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_edge=False, pad_edge=False)
    for column in columns:
        shown.add_column(_lines(column.title, column.width), justify="left" if column.text else "right", no_wrap=True)
    for at, cells in enumerate(zip(*(column.cells for column in columns))):
        shown.add_row(*map(Text, cells), style="bold" if strong and at == 0 else None)
    return shown


def _below(columns: Sequence[Column], width: int) -> str:
    """Every row as lines: what it is of, and each cell that is not empty behind its title."""
    lines = []
    for first, *cells in zip(*(column.cells for column in columns)):
        lines.append(_lines(first, width))
        told = [f"  {column.title}: {cell}" for column, cell in zip(columns[1:], cells) if cell]
        lines += [_lines(line, width, subsequent_indent=" " * 4) for line in told]
    return "\n".join(lines)


def _lines(text: str, width: int, **more: Any) -> str:
    return "\n".join(textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False, **more)) or text
