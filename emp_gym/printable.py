"""Text of others before it is shown: names, reasons, paths and symbols may hold what acts on a terminal instead of standing on it."""

from __future__ import annotations

import unicodedata

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories: control codes (escape, bell, carriage return), marks without a width (of direction, joiners, tags), halves of
surrogate pairs, ends of lines and paragraphs."""


def printable(text: object, *, lines: bool = False) -> str:
    r"""`text` with what acts instead of standing spelled out, as in Python's source: ``\x1b[2J``, ``\u202e``, ``\n``.

    `lines`: line ends and tabs stay, for text of several lines. What is printable already comes back as it is.
    """
    text = str(text)
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in ACTING else ascii(letter)[1:-1] for letter in text
    )
