"""Which message belongs to which order book row, and which rows are damaged, by the cheapest explanation.

Message i applied to book row i - 1 must give book row i. Where it does not, a search by rising cost finds the first
chain of edits (lobster_edits) behind which `ENOUGH` messages that moved the book agree with it again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from emp_gym.data.lobster.check import UNCHECKED, UNEXPLAINED, walk
from emp_gym.data.lobster.edits import CHEAP, REACH, Edit, EditRow, Edits
from emp_gym.data.lobster.parser import Books, Messages
from emp_gym.types import I8, I64, DataError

ENOUGH = 12  # messages that moved the book and agree again: a wrong hypothesis does not get that far
RECONSIDERED = 3  # edits that are thought over again when the next failure comes within REACH rows
WORK, WORK_A_ROW, MOST_WORK = 50_000, 25, 5_000_000
"""What may be looked at (`Edits.work`) to find edits: at first, more for each row gone by, and in all. One damaged row in 350 takes 0.3 for
each row of the file, 8 where rows stand still for a while; one in ten takes 15."""
EXPANSIONS = 200  # nodes of one search before it gives up and calls the row lost
BRIDGED = 3  # rows that a bridged stretch counts for at the most when the files may not belong together
_NOTHING = np.empty(0, np.int8)


def _accused(edit: Edit) -> int:
    """How much an edit speaks against the two files: a stretch of book rows that the messages bridge is one fault."""
    books = sum(row.blame == "book" for row in edit.rows)
    return sum(row.verdict == UNEXPLAINED for row in edit.rows) - books + min(books, BRIDGED)


@dataclass
class Pairing:
    """P aligned rows of a day, each a message with the book row after it."""

    message: I64  # [P] row of the message file, -1: missing there
    book: I64  # [P] row of the order book file, -1: missing there
    verdict: I8  # [P] UNCHECKED, EQUAL, EXPLAINED, UNEXPLAINED
    blame: dict[int, str] = field(default_factory=dict)  # aligned row -> what is wrong with it
    base: dict[int, tuple[int, int]] = field(default_factory=dict)  # aligned row -> the trusted (message, book) before


def pair(messages: Messages, books: Books) -> Pairing:
    """Align the rows of the two files and check every book row; raises DataError when they do not belong together."""
    return _Aligner(messages, books).run()


class _Aligner:
    def __init__(self, messages: Messages, books: Books) -> None:
        self.messages, self.books = messages, books
        self.verdicts = np.zeros(len(messages), np.int8)
        self.segments: list[tuple[int, int, int]] = []  # (first message, first book, rows) that agree
        self.edits: list[tuple[int, Edit]] = []  # (number of segments before it, edit)
        self.options = Edits(messages, books)
        self.place = (0, 0)  # the last trusted (message, book)
        self.accused = 0

    # ---- the main walk -----------------------------------------------------------------------------------------------

    def run(self) -> Pairing:
        m, b = self._begin()
        end = (len(self.messages) - 1, len(self.books) - 1)
        while True:
            m, b = self._go_on(m, b)
            if (m, b) == end:
                return self._pairing()
            for number, edit in enumerate(self._explain(m, b)):
                if number:
                    self._go_on(*self.place)
                self._commit(edit)
                self._stop_if_hopeless(edit)
            m, b = self.place

    def _go_on(self, m: int, b: int) -> tuple[int, int]:
        """Follow the rows that agree behind the trusted pair (m, b); the last of them."""
        last_m, last_b, _ = self._walk(m, b, 0, self.verdicts)
        if last_m > m:
            self.segments.append((m + 1, b + 1, last_m - m))
        self.place = (last_m, last_b)
        return self.place

    def _explain(self, m: int, b: int) -> list[Edit]:
        """The cheapest edits that lead behind the failing pair (m, b), which may be other ones than those made just
        before.

        An edit made shortly before was the cheapest for what was known then: it is reconsidered together with this
        failure.
        """
        first = self._recent(m)
        if first < len(self.edits):
            edits, kept = self.edits[first:], max(self.edits[first][0] - 1, 0)  # segments before it stay as they are
            segments, place, accused = self.segments[kept:], self.place, self.accused
            start = edits[0][1].start
            self.accused -= sum(_accused(edit) for _, edit in edits)
            del self.edits[first:]
            self._cut_back(start)
            path = self._cheapest(*self._go_on(*start), beyond=m)
            if path:
                return path
            self.edits[first:], self.segments[kept:] = edits, segments
            self.place, self.accused = place, accused
        return self._cheapest(m, b, beyond=m) or [next(self.options.lost(m, b))]

    def _recent(self, m: int) -> int:
        """Index of the first of the last few edits that began at most REACH rows before m; how many edits there are
        if none.
        """
        first = len(self.edits)
        while first > max(1, len(self.edits) - RECONSIDERED):
            edit = self.edits[first - 1][1]
            if edit.cost == 0 or edit.start[0] < max(0, m - REACH):
                break
            first -= 1
        return first

    def _commit(self, edit: Edit) -> None:
        self.accused += _accused(edit)
        if edit.start == (-1, -1):
            self.edits.clear()  # an edit of the very first row takes the place of the beginning
        self._cut_back(edit.start)
        self.edits.append((len(self.segments), edit))
        self.place = (edit.message, edit.book)

    def _begin(self) -> tuple[int, int]:
        """The first row whose book can be trusted; the rows before it were refused."""
        sound = np.flatnonzero(self.books.ok)
        if not len(sound) or sound[0] >= len(self.messages):
            raise DataError(
                "order book file: no row of it can be read, expected at least one; check that it is a LOBSTER file"
            )
        first = int(sound[0])
        rows = tuple(EditRow(i, i, UNCHECKED) for i in range(first + 1))
        self.edits.append((0, Edit(0.0, (-1, -1), first, first, rows)))
        return first, first

    def _walk(self, m: int, b: int, enough: int, verdicts: I8) -> tuple[int, int, int]:
        x, y = self.messages, self.books
        return walk(x.kind, x.side, x.price, x.size, x.ok, y.price, y.size, y.ok, m, b, enough, verdicts)

    def _cut_back(self, start: tuple[int, int]) -> None:
        """Take back the rows behind `start` that agreed by themselves but belong to an edit now."""
        while self.segments and self.segments[-1][0] + self.segments[-1][2] - 1 > start[0]:
            first_m, first_b, _ = self.segments.pop()
            if first_m <= start[0]:
                self.segments.append((first_m, first_b, start[0] - first_m + 1))

    def _stop_if_hopeless(self, edit: Edit) -> None:
        surplus = sum(row.blame in ("no message", "no book") for row in edit.rows)
        most = max(len(self.messages), len(self.books))
        if surplus > max(100, most // 100) or self.accused > max(50, max(self.place) // 4):
            self._stop("")

    def _stop_if_endless(self, row: int) -> None:
        most = min(WORK + WORK_A_ROW * row, MOST_WORK)
        if self.options.work > most:
            self._stop(f"up to row {row + 1:,} the search took {self.options.work:,} comparisons, expected at most {most:,};")

    def _stop(self, why: str) -> NoReturn:
        raise DataError(
            f"message file has {len(self.messages):,} rows, order book file {len(self.books):,}: they disagree "
            f"first at {self._first_accused()} and no way to pair the rest was found; {f'{why} ' if why else ''}expected two files "
            "of the same day with one book row per message; take both files from the same download, unedited"
        )

    def _first_accused(self) -> str:
        """The first row that an edit accuses; if none does, the first that no edit was found for."""
        accused = (max(row.message, row.book) for _, edit in self.edits for row in edit.rows if row.verdict == UNEXPLAINED)
        return f"row {next(accused, max(self.place) + 1) + 1:,}"

    def _pairing(self) -> Pairing:
        parts: list[tuple[I64, I64, I8]] = []
        result = Pairing(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
        edits, at = [*self.edits, (len(self.segments), None)], 0
        count = 0
        for segments, edit in edits:
            for first_m, first_b, rows in self.segments[at:segments]:
                span = np.arange(rows)
                parts.append((first_m + span, first_b + span, self.verdicts[first_m : first_m + rows]))
                count += rows
            at = segments
            for row in edit.rows if edit else ():
                parts.append((np.array([row.message]), np.array([row.book]), np.array([row.verdict], np.int8)))
                if edit and row.blame:
                    result.blame[count], result.base[count] = row.blame, edit.start
                count += 1
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        result.message, result.book, result.verdict = columns[0], columns[1], columns[2]
        return result

    # ---- the search --------------------------------------------------------------------------------------------------

    def _agreed(self, m: int, b: int) -> int:
        """How many rows up to (m, b) agreed one after the other since the last edit."""
        first_m, first_b, rows = self.segments[-1] if self.segments else (0, 0, 0)
        return rows if (first_m + rows - 1, first_b + rows - 1) == (m, b) else 0

    def _cheapest(self, m: int, b: int, beyond: int) -> list[Edit]:
        """The cheapest edits from the failing pair (m, b) on that let the files agree behind message row `beyond`; []
        if none.
        """
        end = (len(self.messages) - 1, len(self.books) - 1)
        heap: list[tuple[float, int, tuple[int, int], tuple[Edit, ...], bool]] = [(0.0, 0, (m, b), (), False)]
        seen: dict[tuple[int, int], float] = {}
        number = 0
        for _ in range(EXPANSIONS):
            if not heap:
                break
            cost, _, place, path, done = heapq.heappop(heap)
            if done:
                return list(path)
            if seen.get(place, np.inf) <= cost:
                continue
            self._stop_if_endless(max(m, b))
            seen[place] = cost
            for edit in self.options.at(*place, agreed=0 if path else self._agreed(m, b)):
                enough = ENOUGH + max(0, beyond - edit.message)
                at_m, at_b, moved = self._walk(edit.message, edit.book, enough, _NOTHING)
                number += 1
                self.options.work += 1 + (at_m - edit.message) // CHEAP
                over = moved >= enough or (at_m, at_b) == end
                heapq.heappush(heap, (cost + edit.cost, number, (at_m, at_b), (*path, edit), over))
        return []
