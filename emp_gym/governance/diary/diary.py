"""The decision diary: what was decided, on what, what the rules said, what was sent and what came of it.

A run is an entry ``diary-run`` (what is needed to make its environment again) and what follows under its leaf hash as
`subject_hash`: ``diary-reset`` and ``diary-policy`` (each says from which step on it holds), ``diary-block`` (the decisions
of all lanes over some steps; `diary_blocks`) or, where rows are durable, ``diary-decision`` and ``diary-outcome``
(`diary_rows`), and ``diary-end``. A run without an end was cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from emp_gym.evaluation.observers import Decision, Observer, Settled
from emp_gym.governance.diary import rows as diary_rows
from emp_gym.governance.diary import schema
from emp_gym.governance.diary.blocks import Block, DiaryDamaged, decode, encode
from emp_gym.governance.log.reader import Entry, LogReader
from emp_gym.governance.log.writer import DIARY, Draft, Log
from emp_gym.types import F32, I64, ConfigError

if TYPE_CHECKING:
    from emp_gym.governance.diary.recorder import Regimes  # compiles

RUN, RESET, POLICY, BLOCK, END = "diary-run", "diary-reset", "diary-policy", "diary-block", "diary-end"
FORMAT = 2
READABLE = (1, FORMAT)  # in the first one fills had no instrument, and all days one price unit
FILE = "diary.log"  # of a governance folder
_HASH = re.compile(r"[0-9a-f]{64}")


class Diary(Observer):
    """Writes one run into `log`. Made by `emp_gym.envs.wrappers.diary`, which knows what to tell it.

    With `durable` every decision is on disk before its orders are sent; else they are written as blocks of about `rows`
    decisions, and what was not yet written is lost with the process. An error of the log goes to the caller: what cannot
    be written down is not sent.
    """

    def __init__(
        self, log: Log, about: Mapping[str, Any], *, lanes: int, slots: int, levers: int = 0, durable: bool = False,
        rows: int | None = None, actor: str = "diary", regimes: Regimes | None = None,
    ) -> None:  # fmt: skip
        """`about` is the payload of the run's entry, canonical JSON; the diary adds its own format and shape. `slots` are
        order entries a lane; `levers` 0 means actions of a menu, else so many numbers an action; `regimes` as for `DecisionRecorder`."""
        from emp_gym.governance.diary.recorder import ROWS, DecisionRecorder  # compiles

        rows = ROWS if rows is None else rows
        if rows < 1:
            raise ConfigError(f"rows must be >= 1 decisions a block, got {rows}")
        self._log, self._actor, self._durable, self._closed = log, actor, durable, False
        shape = {"format": FORMAT, "lanes": lanes, "levers": levers, "durable": durable}
        receipt = log.append(actor, RUN, payload={**about, **shape})
        self._run = receipt.leaf.hex()
        self._recorder = DecisionRecorder(lanes, slots, levers, 1 if durable else rows, self._run, regimes)
        self._entries: list[int] = []  # of the open decisions, where durable
        self._decisions, self._begun, self._gates = 0, False, len(about["gates"])

    def policy(self, name: str, digest: str) -> None:
        """From the next step on, policy `name` with these weights (SHA-256, hex) decides."""
        if not _HASH.fullmatch(digest):
            raise ConfigError(f"the policy's hash must be SHA-256 in lower-case hex (64 digits), got {digest!r}")
        self._append(POLICY, {"step": self._recorder.step, "id": name, "hash": digest}, [digest])

    def reset(self, seed: int | Sequence[int | None] | None, options: str) -> None:
        """The environment is reset before the next step, with `options` as JSON text."""
        given = [None if own is None else int(own) for own in seed] if isinstance(seed, Sequence) else None if seed is None else int(seed)
        self._begun = True
        self._append(RESET, {"step": self._recorder.step, "seed": given, "options": options})

    def note(self, lane: int, text: str) -> None:
        """What the agent says of the lane's next decision."""
        self._recorder.note(lane, text)

    # --- what a `DecisionRecorder` hears; see there

    copied = True  # it is asked, and refuses

    def observed(self, observation: F32, lanes: I64 | None = None) -> None:
        self._recorder.observed(observation, lanes)

    def decided(self, now: Decision) -> None:
        """As `DecisionRecorder.decided`. Returns when the decisions are on disk, where the diary is durable."""
        if self._closed:
            raise ConfigError("this diary is closed: its run has ended; wrap a fresh environment")
        if not self._begun:
            raise ConfigError("the diary knows of no reset, so its run could not be replayed: reset its wrapper first")
        if len(now.verdicts) != self._gates:
            raise ConfigError(
                f"the diary's run was described with {self._gates} gates, got {len(now.verdicts)}: put the diary's wrapper around "
                "those that install gates (risk, kill switch, stage)"
            )
        if self._durable or self._recorder.full:
            self.flush()
        self._recorder.decided(now)
        if self._durable:
            block = self._recorder.peek()
            rows = [diary_rows.decision(block, at) for at in range(len(block.decisions))]
            self._entries = self._append_rows(diary_rows.DECIDED, rows)

    def settled(self, now: Settled) -> None:
        """As `DecisionRecorder.settled`; durable outcomes are on disk when it returns."""
        self._recorder.settled(now)
        if self._durable:
            block = self._recorder.peek()
            self._append_rows(
                diary_rows.OUTCOME, [diary_rows.outcome(block, at, seq) for at, seq in enumerate(self._entries)]
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise ConfigError("an environment with a diary cannot be copied: two would write one run; copy what it wraps")

    def __reduce__(self) -> NoReturn:
        raise ConfigError("an environment with a diary cannot be pickled: its log has one writer; wrap it where it runs")

    # --- what reaches the log

    def flush(self) -> None:
        """Writes what has been collected as a block."""
        block = self._recorder.take()
        self._decisions += len(block.decisions)
        if block.steps and not self._durable:
            self._append(BLOCK, encode(block))

    def close(self) -> None:
        """Writes the rest and the end of the run. The log stays open."""
        if not self._closed:
            self.flush()
            self._closed = True
            self._append(END, {"steps": self._recorder.step, "decisions": self._decisions})

    def _append(self, kind: str, payload: Any, evidence: Sequence[str] = ()) -> None:
        self._log.append(self._actor, kind, subject_hash=self._run, payload=payload, evidence=evidence)

    def _append_rows(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        drafts = [Draft(self._actor, kind, self._run, row) for row in rows]
        return [receipt.seq for receipt in self._log.append_many(drafts)]


@dataclass(frozen=True)
class Run:
    """A run as its entries tell of it."""

    number: int  # 0 for the oldest run of the log, 1 for the next
    entry: int  # its entry in the log
    leaf: str  # hash of that entry, hex
    ts_ns: int
    about: Mapping[str, Any]  # what the diary was told of the environment; see `envs.wrappers.diary.describe`
    resets: tuple[tuple[int, Any, dict[str, Any]], ...]  # (before step, seed, options)
    policies: tuple[tuple[int, str, str], ...]  # (from step, name, SHA-256)
    end: Mapping[str, int] | None  # {steps, decisions}; None: cut off, or still running

    @property
    def lanes(self) -> int:
        return int(self.about["lanes"])

    def policy_at(self, step: int) -> tuple[str, str]:
        """(name, SHA-256) of the policy that decided in `step`; empty where nobody said."""
        held = [(name, digest) for begin, name, digest in self.policies if begin <= step]
        return held[-1] if held else ("", "")


class DiaryReader:
    """Reads the runs of a diary: from a log's file, or the folder that holds it as ``diary.log``."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if path.is_dir() and not (path / FILE).is_file():
            raise ConfigError(f"{path}: no such log here ({FILE}); expected the folder of train.py --govern")
        self.path = path / FILE if path.is_dir() else path
        self._log = LogReader(self.path)
        if self._log.profile != DIARY.name:
            self._log.close()
            raise ConfigError(
                f"{path}: this is the ledger (people, versions, promotions), not the diary; give the folder "
                f"{path.parent}, or {path.parent / FILE}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._log.close()

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return [self._run(number, entry) for number, entry in enumerate(self._log.entries(kind=RUN))]

    def run(self, number: int | None = None) -> Run:
        """Run `number`, counted from 0 for the oldest; None: the last."""
        found = list(self._log.entries(kind=RUN))
        if not found:
            raise ConfigError(f"{self._log.path}: no run is in this diary yet; train.py --govern writes the first")
        number = len(found) - 1 if number is None else number
        if not 0 <= number < len(found):
            there = "only run 0" if len(found) == 1 else f"runs 0 (the oldest) to {len(found) - 1}"
            raise ConfigError(f"{self._log.path}: no run {number}; there {'is' if len(found) == 1 else 'are'} {there}")
        return self._run(number, found[number])

    def _run(self, number: int, entry: Entry) -> Run:
        about, leaf = self._value(entry), entry.leaf.hex()
        if about.get("format") not in READABLE:
            raise DiaryDamaged(f"{self._log.path}: run {number} has format {about.get('format')!r}, expected {FORMAT}")
        self._stop_at_misfit(entry, about, schema.RUN)
        told = {
            kind: [self._formed(found) for found in self._log.entries(entry.seq, kind=kind, subject_hash=leaf)]
            for kind in (RESET, POLICY, END)
        }
        resets = tuple((reset["step"], reset["seed"], json.loads(reset["options"])) for reset in told[RESET])
        policies = tuple((policy["step"], policy["id"], policy["hash"]) for policy in told[POLICY])
        end = told[END][-1] if told[END] else None
        return Run(number, entry.seq, leaf, entry.ts_ns, about, resets, policies, end)

    def _value(self, entry: Entry) -> dict[str, Any]:
        try:
            value = entry.value
        except (ValueError, RecursionError) as error:
            raise DiaryDamaged(f"{self._log.path}: entry {entry.seq} ({entry.kind}) is not JSON ({error})") from error
        return value if isinstance(value, dict) else {}

    def _formed(self, entry: Entry) -> dict[str, Any]:
        """What an entry of a run says; `DiaryDamaged` where it is of another form."""
        value = self._value(entry)
        self._stop_at_misfit(entry, value, {RESET: schema.RESET, POLICY: schema.POLICY, END: schema.END}[entry.kind])
        return value

    def _stop_at_misfit(self, entry: Entry, value: Mapping[str, Any], shape: schema.Shape) -> None:
        name = schema.misfit(value, shape)
        if name:
            raise DiaryDamaged(
                f"{self._log.path}: entry {entry.seq} ({entry.kind}): {name} is missing or of another form than a diary writes: "
                f"{str(value.get(name))[:100]}"
            )

    def blocks(self, run: Run) -> Iterator[Block]:
        """The decisions of `run` in their order; `DiaryDamaged` where one cannot have been taken in it."""
        for block in self._blocks(run):
            trouble = schema.stranger(block, run.about)
            if trouble:
                raise DiaryDamaged(f"{self._log.path}: decisions from step {block.first_step} on are not of run {run.number}: {trouble}")
            yield block

    def _blocks(self, run: Run) -> Iterator[Block]:
        if run.about["durable"]:
            yield from diary_rows.blocks(self._rows(run), run.leaf, run.lanes, run.about["levers"])
            return
        for entry in self._entries(run, 8):  # a block has megabytes
            if entry.kind == BLOCK and entry.payload is not None:
                block = decode(entry.payload)
                if block.run != run.leaf:
                    raise DiaryDamaged(f"{self._log.path}: the block of entry {entry.seq} calls itself of {block.run}")
                yield block

    def _rows(self, run: Run) -> Iterator[Entry]:
        kinds = (diary_rows.DECIDED, diary_rows.OUTCOME)
        return (entry for entry in self._entries(run, 1024) if entry.kind in kinds)

    def _entries(self, run: Run, together: int) -> Iterator[Entry]:
        """The entries of `run`, so many read at once."""
        size = self._log.size
        for begin in range(run.entry, size, together):
            yield from self._log.entries(begin, min(begin + together, size), subject_hash=run.leaf)
