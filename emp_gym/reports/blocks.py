"""A report before it is text or page: a list of blocks, and how they look as Markdown.

Text may hold **bold** and `code`, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emp_gym.printable import printable


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    body: str


@dataclass(frozen=True)
class FactList:
    """A list of short statements."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first column is text, the others are numbers."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: int | None = None  # number of the row that stands out
    texts: tuple[int, ...] = ()  # further columns that are text


@dataclass(frozen=True)
class Picture:
    title: str
    file: str  # beside the report


Block = Heading | Text | FactList | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """The whole text. Every line of a table begins with "|", and no other line does."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {printable(text)}"
        case Text(body):
            return printable(body, lines=True)
        case FactList(lines):
            return "\n".join(f"- {printable(line, lines=True)}" for line in lines)
        case Table(titles, rows):
            return markdown_table(titles, rows, block.texts)
        case Picture(title, file):
            return f"![{printable(title)}]({file})"


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = ()) -> str:
    """A table of which every line begins with "|"."""
    rule = ["---" if at == 0 or at in texts else "---:" for at in range(len(titles))]
    cells = [[printable(cell).replace("|", "\\|") for cell in line] for line in (titles, rule, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
