"""Looking through a diary: which decisions, as records for a table or a file, and what they sum up to."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym.extras import need
from emp_gym.governance.diary.blocks import MASKED, SETTLED, TERMINATED, TRUNCATED, Block
from emp_gym.governance.diary.diary import DiaryReader, Run
from emp_gym.governance.diary.words import MASK, UNKNOWN, Words, pnl, regime_name
from emp_gym.types import CASH_UNITS, I64, NS, Bool, ConfigError, Regime

NO_REASON = "(none)"
EXPORTS = (".csv", ".parquet")
FIELDS = {
    "run": int, "step": int, "lane": int, "decision": int, "day": str, "time": str, "time_ns": int, "row": int,
    "regime": str, "policy": str, "policy_hash": str, "observation": str, "action": str, "masked": bool, "latch": int,
    "proposed": str, "reasons": str, "reason_bits": str, "sent": str, "fills": str, "lots": int, "fees": float,
    "reward": float, "pnl": float, "terminated": bool, "truncated": bool, "settled": bool, "note": str,
    "explanation": str,
}  # fmt: skip
"""Columns of an export. `lots` filled, `fees` and `pnl` in currency, `reward` as the task defines it."""


@dataclass(frozen=True)
class Query:
    """Which decisions are wanted; None: all. Steps are those of the run, all lanes together."""

    lanes: Sequence[int] | None = None
    reason: str | None = None  # a name, MASK, or NO_REASON
    regime: str | None = None
    since: int | None = None  # first step
    until: int | None = None  # last step
    fills_only: bool = False


def regime_number(name: str) -> int:
    """The regime called `name`, -1 for "unknown"; `ConfigError` names the nearest."""
    known = {regime_name(int(regime)): int(regime) for regime in Regime} | {UNKNOWN: -1}
    if name not in known:
        near = get_close_matches(name, known, 1, cutoff=0.0)
        raise ConfigError(f"no regime {name!r}; expected one of {', '.join(known)}; did you mean {near[0]!r}?")
    return known[name]


class Pages:
    """The decisions of one run that a query wants, block by block."""

    def __init__(self, reader: DiaryReader, run: Run, query: Query) -> None:
        """`ConfigError` for a lane, step, reason or regime that the run cannot have, with those that it has."""
        self.reader, self.run, self.query, self.words = reader, run, query, Words(run)
        self._refuse_out_of_range()
        self._regime = None if query.regime is None else regime_number(query.regime)
        self._bits = self._wanted_bits()

    def _refuse_out_of_range(self) -> None:
        """Lanes, and steps as far as the run has an end, are known without a look at its decisions."""
        q, run = self.query, self.run
        for lane in q.lanes or ():
            if not 0 <= lane < run.lanes:
                raise ConfigError(f"no lane {lane} in run {run.number}; it has lanes {_span(run.lanes)}")
        steps = None if run.end is None else run.end["steps"]
        for step in (q.since, q.until):
            if step is not None and (step < 0 or (steps is not None and step == q.since and step >= steps)):
                there = "from 0 on" if steps is None else _span(steps)
                raise ConfigError(f"no step {step} in run {run.number}; it has steps {there}")
        if q.since is not None and q.until is not None and q.since > q.until:
            raise ConfigError(
                f"no step is from {q.since} on and up to {q.until}; --since is the first, --until the last"
            )

    def _wanted_bits(self) -> list[tuple[int, int]]:
        """(gate, bit) of every reason with the wanted name."""
        name = self.query.reason
        if name is None or name in (MASK, NO_REASON):
            return []
        names = {
            (gate, bit): self.words.reason(gate, bit) for gate in range(len(self.words.gates)) for bit in range(64)
        }
        found = [place for place, known in names.items() if known == name]
        if not found:
            known = [*dict.fromkeys(names.values()), MASK]
            near = get_close_matches(name, known, 3, cutoff=0.3)
            raise ConfigError(
                f"no gate of run {self.run.number} has a reason {name!r}; near: {', '.join(near) or MASK}"
            )
        return found

    def __iter__(self) -> Iterator[tuple[Block, np.ndarray]]:
        """(block, places of the wanted decisions), blocks without any left out."""
        for block in self.reader.blocks(self.run):
            places = np.flatnonzero(self._wanted(block))
            if len(places):
                yield block, places

    def _wanted(self, block: Block) -> Bool:
        rows, q = block.decisions, self.query
        wanted = np.ones(len(rows), np.bool_)
        if q.lanes is not None:
            wanted &= np.isin(rows["lane"], list(q.lanes))
        if q.since is not None:
            wanted &= rows["step"] >= q.since
        if q.until is not None:
            wanted &= rows["step"] <= q.until
        if self._regime is not None:
            wanted &= rows["regime"] == self._regime
        if q.fills_only:
            wanted &= _marked(len(rows), block.fills["at"])
        if q.reason == MASK:
            wanted &= (rows["flags"] & MASKED) != 0
        elif q.reason == NO_REASON:
            wanted &= ((rows["flags"] & MASKED) == 0) & ~_marked(len(rows), block.objections["at"])
        elif q.reason is not None:
            entries = block.objections
            named = np.zeros(len(entries), np.bool_)
            for gate, bit in self._bits:
                named |= (entries["gate"] == gate) & (entries["reason"] >> np.uint64(bit) & np.uint64(1) == 1)
            wanted &= _marked(len(rows), entries["at"][named])
        return wanted

    def records(self) -> Iterator[dict[str, Any]]:
        """Each wanted decision as a flat record with the keys of `FIELDS`."""
        for block, places in self:
            money = pnl(block)
            for at in places:
                yield self._record(block, int(at), float(money[at]))

    def _record(self, block: Block, at: int, gained: float) -> dict[str, Any]:
        row, words = block.decisions[at], self.words
        day = int(row["day"])
        fills, objections = block.of("fills", at), block.of("objections", at)
        flags, policy = int(row["flags"]), self.run.policy_at(int(row["step"]))
        changed = {int(entry["slot"]): entry for entry in block.of("sent", at)}
        sent = [changed.get(int(entry["slot"]), entry) for entry in block.of("orders", at)]
        return {
            "run": self.run.number, "step": int(row["step"]), "lane": int(row["lane"]), "decision": int(row["decision"]),
            "day": self.run.about["data"]["days"][row["day"]], "time": clock(int(row["time_ns"])),
            "time_ns": int(row["time_ns"]), "row": int(row["row"]), "regime": regime_name(int(row["regime"])),
            "policy": policy[0], "policy_hash": policy[1], "observation": f"{int(row['observation']):016x}",
            "action": words.action(block, at), "masked": bool(flags & MASKED), "latch": int(row["latch"]),
            "proposed": "; ".join(words.order(entry, day) for entry in block.of("orders", at)),
            "reasons": " ".join(words.reasons(block, at)),
            "reason_bits": " ".join(f"{words.gates[e['gate']]}/{e['slot']}:{int(e['reason']):#x}" for e in objections),
            "sent": "; ".join(words.order(entry, day) for entry in sent if entry["kind"]),
            "fills": "; ".join(words.fill(entry, day) for entry in fills), "lots": int(fills["quantity"].sum()),
            "fees": int(fills["fee"].sum()) / CASH_UNITS, "reward": float(row["reward"]), "pnl": gained,
            "terminated": bool(flags & TERMINATED), "truncated": bool(flags & TRUNCATED),
            "settled": bool(flags & SETTLED), "note": block.note(at), "explanation": words.explain(block, at),
        }  # fmt: skip


def _span(count: int) -> str:
    return "0 only" if count == 1 else f"0 to {count - 1}"


def clock(time_ns: int) -> str:
    """Time of day with nanoseconds: "09:30:00.000000000"."""
    seconds, ns = divmod(time_ns, NS)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ns:09d}"


def _marked(count: int, at: np.ndarray) -> Bool:
    marks = np.zeros(count, np.bool_)
    marks[at] = True
    return marks


# ------------------------------------------------------------------------------------------------------------ summary


@dataclass
class Sums:
    """What some decisions come to."""

    decisions: int = 0
    orders: int = 0  # proposed
    objections: int = 0  # orders that gates objected to (masked actions are no orders)
    lots: int = 0  # filled
    pnl: float = 0.0  # currency

    def add(self, block: Block, places: Bool) -> None:
        """Adds the decisions marked in `places` [D]."""
        self.decisions += int(places.sum())
        self.orders += int(places[block.orders["at"]].sum())
        self.objections += int(places[block.objections["at"]].sum())
        self.lots += int(block.fills["quantity"][places[block.fills["at"]]].sum())
        self.pnl += float(pnl(block)[places].sum())


@dataclass
class Summary:
    """Sums of all wanted decisions, by reason (one with several reasons counts for each) and by regime.

    Of episodes that were not over when the run ended, or was cut off, P&L is what the position was worth at the mid price
    then: `unfinished` says how much of `total` that is.
    """

    total: Sums = field(default_factory=Sums)
    unfinished: Sums = field(default_factory=Sums)
    unfinished_episodes: int = 0  # with a wanted decision
    by_reason: dict[str, Sums] = field(default_factory=dict)
    by_regime: dict[str, Sums] = field(default_factory=dict)


def summarise(pages: Pages) -> Summary:
    """What the decisions of `pages` sum up to."""
    found, last, lanes = Summary(), last_ends(pages), set[int]()
    for block, places in pages:
        wanted = _marked(len(block.decisions), places)
        open_ = wanted & (block.decisions["step"] > last[block.decisions["lane"]])
        found.total.add(block, wanted)
        found.unfinished.add(block, open_)
        lanes.update(block.decisions["lane"][open_].tolist())
        for number in np.unique(block.decisions["regime"][places]):
            by_regime = found.by_regime.setdefault(regime_name(int(number)), Sums())
            by_regime.add(block, wanted & (block.decisions["regime"] == number))
        for name, marks in _reason_marks(block, pages.words).items():
            if (wanted & marks).any():
                found.by_reason.setdefault(name, Sums()).add(block, wanted & marks)
    found.unfinished_episodes = len(lanes)  # a lane has one at most, its last
    for table in ("by_reason", "by_regime"):
        rows = getattr(found, table).items()
        setattr(found, table, dict(sorted(rows, key=lambda item: -item[1].decisions)))
    return found


def last_ends(pages: Pages) -> I64:
    """The last step [N] at which an episode of each lane ended; -1 where none did."""
    last = np.full(pages.run.lanes, -1, np.int64)
    for block in pages.reader.blocks(pages.run):
        ended = block.decisions[(block.decisions["flags"] & (TERMINATED | TRUNCATED)) != 0]
        np.maximum.at(last, ended["lane"], ended["step"])
    return last


def nothing_like(pages: Pages) -> str:
    """Why no decision is as wanted: what the run has of each kind that the query names."""
    q, there = pages.query, summarise(Pages(pages.reader, pages.run, Query()))
    kinds = {
        "reasons": q.reason is not None and there.by_reason,
        "regimes": q.regime is not None and there.by_regime,
    }
    said = [f"its {kind}: {_counted(sums)}" for kind, sums in kinds.items() if sums]
    if q.fills_only:
        said.append(f"{there.total.lots:,} lots were filled in it")
    told = f"{there.total.decisions:,} decisions in lanes {_span(pages.run.lanes)}"
    return f"no decision of run {pages.run.number} is like that; it has {'; '.join((told, *said))}"


def _counted(sums: dict[str, Sums]) -> str:
    return ", ".join(f"{name} {own.decisions:,}" for name, own in sums.items())


def _reason_marks(block: Block, words: Words) -> dict[str, Bool]:
    """Which decisions [D] each reason stands at; `NO_REASON`: none does."""
    count, entries = len(block.decisions), block.objections
    masked = (block.decisions["flags"] & MASKED) != 0
    marks = {NO_REASON: ~masked & ~_marked(count, entries["at"]), MASK: masked}
    for gate in np.unique(entries["gate"]):
        own = entries[entries["gate"] == gate]
        for bit in range(int(own["reason"].max()).bit_length()):
            at = own["at"][own["reason"] >> np.uint64(bit) & np.uint64(1) == 1]
            if len(at):
                name = words.reason(int(gate), bit)
                marks[name] = marks.get(name, np.zeros(count, np.bool_)) | _marked(count, at)
    return marks


# ------------------------------------------------------------------------------------------------------------- export


def export(pages: Pages, path: Path) -> int:
    """Writes the records of `pages` as CSV or Parquet, by the ending of `path`; returns how many. Of none no file is made."""
    if path.suffix not in EXPORTS:
        raise ConfigError(f"--export: expected a file that ends in {' or '.join(EXPORTS)}, got {path}")
    aside = path.with_name(path.name + ".tmp")
    try:
        count = _csv(pages, aside) if path.suffix == ".csv" else _parquet(pages, aside)
        if count:
            aside.replace(path)
    except OSError as error:
        raise ConfigError(f"--export: {path} cannot be written ({error.strerror or error})") from error
    finally:
        aside.unlink(missing_ok=True)
    return count


def _csv(pages: Pages, path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(FIELDS))
        writer.writeheader()
        for record in pages.records():
            writer.writerow(record)
            count += 1
    return count


def _parquet(pages: Pages, path: Path) -> int:
    need("pyarrow")
    import pyarrow
    import pyarrow.parquet

    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_(), str: pyarrow.string()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in FIELDS.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for some in _batches(pages.records(), 1 << 16):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))
            count += len(some)
    return count


def _batches(records: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    some: list[dict[str, Any]] = []
    for record in records:
        some.append(record)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
