"""Whether judged episodes were held out from training: proved from the run's own record, or not said.

"Held-out" is a claim about rows: none of them was trained on, and nothing that was trained on came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from emp_gym.data.duplicates import shares
from emp_gym.data.lobster.name import UNKNOWN_DATE
from emp_gym.runs.spans import Span


class Standing(StrEnum):
    """How judged episodes stand to what was trained on."""

    HELD_OUT = "held-out"  # proved: other rows, and later ones
    TRAINED_ON = "trained on"  # all of them
    OVERLAPS = "overlaps"  # some of them, or their moments in another symbol
    EARLIER = "earlier"  # other rows, but something that was trained on came later
    UNKNOWN = "unknown"  # nobody can say
    RULE = "rule"  # nothing was trained
    DRAWN = "drawn"  # of a certificate: every episode is drawn anew
    UNSEEN = "unseen seeds"  # of a simulated market: proved, but one generator made both


@dataclass(frozen=True)
class Proof:
    """The answer, and what may be said in a text."""

    standing: Standing
    split: str  # that was judged
    reason: str = ""  # why it is not held-out; empty where it is

    @property
    def held_out(self) -> bool:
        return self.standing is Standing.HELD_OUT

    @property
    def adjective(self) -> str:
        """``held-out `` (with a space behind it), or nothing."""
        return "held-out " if self.held_out else ""

    @property
    def episode(self) -> str:
        """One of the judged episodes, after "per"."""
        if self.standing is Standing.TRAINED_ON:
            return "episode that was trained on"
        return f"{self.adjective}episode"

    def windows(self, count: int, noun: str = "window") -> str:
        """``8 held-out windows``, ``3 windows of the training split``."""
        several = f"{count} {self.adjective}{noun}{'' if count == 1 else 's'}"
        match self.standing:
            case Standing.HELD_OUT | Standing.DRAWN:
                return several
            case Standing.UNSEEN:
                return f"{several} of unseen seeds"
            case Standing.TRAINED_ON if self.split != "train":
                return f"{several} that {'was' if count == 1 else 'were'} trained on"
            case _:
                return f"{several} of the {spoken(self.split)}"

    @property
    def caution(self) -> str:
        """A sentence for the first lines; empty where nothing is to be said."""
        match self.standing:
            case Standing.HELD_OUT | Standing.DRAWN | Standing.UNSEEN | Standing.RULE:
                return ""
            case Standing.TRAINED_ON:
                return f"NOT HELD OUT: {self.reason}"
            case Standing.UNKNOWN:
                return f"NOT SHOWN TO BE HELD OUT: {self.reason}"
            case _:
                return f"NOT HELD OUT: {self.reason}"


def spoken(split: str) -> str:
    """A split in words."""
    words = {"train": "training split", "all": "whole data (split all)", "fit": "training split's earlier part (fit)"}
    return words.get(split, f"{split} split")


def not_recorded(split: str, reason: str) -> Proof:
    """Of a model whose training nobody can look up."""
    return Proof(Standing.UNKNOWN, split, reason)


def prove(judged: Sequence[Span], trained: Sequence[Span], split: str) -> Proof:
    """How the windows `judged` stand to the stretches `trained`, of an agent that learned.

    Rows are known by their content, so a day under another name is the same day. Of a day that was trained on in another
    version (symbol and date are the same, the rows are not) nothing is said. A day that shares runs of rows with one that was
    trained on, but for name, order ids or a constant added to times and prices, is an overlap as a whole. Another symbol at
    moments that were trained on is an overlap: one market moved both. Synthetic days are at no time that recorded ones know. Starts of
    a simulated market are never called held-out, since what was trained on came out of the same generator.
    """
    if not trained:
        return not_recorded(split, "the run's record names no rows that it was trained on")
    if (simulated := [window for window in judged if window.simulated]):
        return _unseen(simulated, trained, split)
    if (maker := next((span.simulated for span in trained if span.simulated), "")):
        return not_recorded(split, f"it was trained in the simulated market {maker}, and nobody knows which days that was made from")
    on = [window for window in judged if any(_rows_shared(window, span) for span in trained)]
    if on:
        every = len(on) == len(judged)
        what = "every window shares" if every else f"{len(on)} of {len(judged)} windows share{'s' if len(on) == 1 else ''}"
        return Proof(Standing.TRAINED_ON if every else Standing.OVERLAPS, split, f"{what} rows with training")
    undated = next((span for span in [*judged, *trained] if span.date == UNKNOWN_DATE), None)
    if undated is not None and len({span.content for span in [*judged, *trained]}) > 1:
        return not_recorded(split, f"rows of {undated.symbol} have no date in their name, so nobody knows which came first")
    changed = next((w for w in judged for span in trained if _other_version(w, span)), None)
    if changed is not None:
        return not_recorded(
            split,
            f"the rows of {changed.symbol} {changed.date} are not those that it was trained on (changed since, another depth or session)",
        )
    disguised = _disguised(judged, trained)
    if disguised:
        _, origin = disguised[0]
        return Proof(
            Standing.OVERLAPS, split,
            f"{_lie(disguised, judged)} in a day that shares rows with {origin.symbol} {origin.date} that was trained on, "
            "under another name or shifted",
        )  # fmt: skip
    moments = [window for window in judged if any(_moments_shared(window, span) for span in trained)]
    if moments:
        first = next(span for span in trained if _moments_shared(moments[0], span))
        return Proof(
            Standing.OVERLAPS, split,
            f"{_lie(moments, judged)} at moments that were trained on in {first.symbol} ({first.date})",
        )  # fmt: skip
    last = {made: max(spans, key=_end) for made in (False, True) if (spans := [s for s in trained if s.synthetic is made])}
    early = [window for window in judged if window.synthetic in last and _end(window) < _end(last[window.synthetic])]
    if early:
        latest = last[early[0].synthetic]
        return Proof(
            Standing.EARLIER, split,
            f"{_lie(early, judged)} before the last training data ({latest.symbol} {latest.date})",
        )  # fmt: skip
    return Proof(Standing.HELD_OUT, split)


def _unseen(judged: Sequence[Span], trained: Sequence[Span], split: str) -> Proof:
    """How episodes in a simulated market stand to those that were trained on."""
    what = "a seed" if judged[0].seeds else "a start"
    if (on := [one for one in judged if any(_rows_shared(one, span) for span in trained)]):
        every = len(on) == len(judged)
        some = "every episode has" if every else f"{len(on)} of {len(judged)} episodes {'has' if len(on) == 1 else 'have'}"
        return Proof(Standing.TRAINED_ON if every else Standing.OVERLAPS, split, f"{some} {what} that was trained on")
    if not all(one.seeds for one in judged):
        return not_recorded(split, f"what starts of {judged[0].simulated} have in common is known to it alone")
    return Proof(Standing.UNSEEN, split)


def _end(span: Span) -> tuple[str, int]:
    return span.date, span.last_ns


def _lie(some: Sequence[object], judged: Sequence[Span]) -> str:
    return f"{len(some)} of {len(judged)} windows {'lies' if len(some) == 1 else 'lie'}"


def _rows_shared(one: Span, other: Span) -> bool:
    return one.content == other.content and one.first_row <= other.last_row and other.first_row <= one.last_row


def _other_version(one: Span, other: Span) -> bool:
    return (one.symbol, one.date) == (other.symbol, other.date) and one.content != other.content


def _disguised(judged: Sequence[Span], trained: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Windows of days that share rows with a day that was trained on, each with that day."""
    learned = {span.shape: span for span in trained if span.shape}
    origins: dict[tuple[int, ...], Span | None] = {}
    for window in judged:
        if window.shape not in origins:
            found = (span for span in learned.values() if span.content != window.content and shares(span.shape, window.shape))
            origins[window.shape] = next(found, None)
    return [(window, origin) for window in judged if (origin := origins[window.shape]) is not None]


def _moments_shared(one: Span, other: Span) -> bool:
    at_once = one.date == other.date and one.first_ns <= other.last_ns and other.first_ns <= one.last_ns
    return at_once and one.content != other.content and one.synthetic is other.synthetic
