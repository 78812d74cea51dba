"""The durable rows of a diary: one entry a decision before its orders are sent, one for its outcome. Canonical JSON.

A decision holds the fields of `DECISION` that are known before the market has the orders, `action` (a number of the menu,
or the levers as text that gives the same float back), `orders`, `sent`, `objections` as in the tables of a block, and
`note`. An outcome names its decision's entry (`of`) and holds `reward` (text), `pnl2`, `terminated`, `truncated`, `fills`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from emp_gym.governance.diary.blocks import (
    DECISION,
    MASKED,
    SETTLED,
    TABLES,
    TERMINATED,
    TRUNCATED,
    Block,
    DiaryDamaged,
    fields,
)
from emp_gym.governance.log.reader import Entry

DECIDED, OUTCOME = "diary-decision", "diary-outcome"  # kinds of entries
BEFORE = (
    "step",
    "time_ns",
    "decision",
    "row",
    "lane",
    "day",
    "regime",
    "latch",
)  # known before the market has the orders
TOGETHER = 4096  # decisions that a reader gives as one block


def decision(block: Block, at: int) -> dict[str, Any]:
    """What is written of the decision at place `at` before its orders are sent."""
    row = block.decisions[at]
    payload: dict[str, Any] = {name: int(row[name]) for name in BEFORE}
    payload["observation"] = f"{int(row['observation']):016x}"
    payload["masked"] = bool(row["flags"] & MASKED)
    action = block.actions[at]
    payload["action"] = [repr(float(lever)) for lever in action] if action.ndim else int(action)
    for name in ("orders", "sent", "objections"):
        payload[name] = [_plain(entry) for entry in block.of(name, at)]
    if note := block.note(at):
        payload["note"] = note
    return payload


def outcome(block: Block, at: int, decided: int) -> dict[str, Any]:
    """What is written of it after the step; `decided` is the number of the decision's entry."""
    row = block.decisions[at]
    return {
        "of": decided,
        "reward": repr(float(row["reward"])),
        "pnl2": int(row["pnl2"]),
        "terminated": bool(row["flags"] & TERMINATED),
        "truncated": bool(row["flags"] & TRUNCATED),
        "fills": [_plain(entry) for entry in block.of("fills", at)],
    }


def _plain(entry: np.void) -> dict[str, Any]:
    return {name: entry[name].item() for name in fields(entry.dtype)}


def blocks(entries: Iterable[Entry], run: str, lanes: int, levers: int) -> Iterator[Block]:
    """The decisions of `entries` (of one run, in order) as blocks. One without an outcome lacks the flag SETTLED."""
    rows: list[dict[str, Any]] = []
    known: dict[int, dict[str, Any]] = {}
    for entry in entries:
        payload = _payload(entry)
        if entry.kind == OUTCOME:
            if payload["of"] not in known:
                raise DiaryDamaged(
                    f"entry {entry.seq} is the outcome of entry {payload['of']}, which is no open decision"
                )
            known.pop(payload["of"])["outcome"] = payload
            continue
        if len(rows) >= TOGETHER and not known and payload["step"] > rows[-1]["step"]:
            yield _block(rows, run, lanes, levers)
            rows = []
        rows.append(payload)
        known[entry.seq] = payload
    if rows:
        yield _block(rows, run, lanes, levers)


def _payload(entry: Entry) -> dict[str, Any]:
    try:
        payload = entry.value
    except (ValueError, RecursionError) as error:
        raise DiaryDamaged(f"entry {entry.seq} is not JSON ({error})") from error
    if not isinstance(payload, dict) or type(payload.get("of" if entry.kind == OUTCOME else "step")) is not int:
        raise DiaryDamaged(f"entry {entry.seq} ({entry.kind}) is no row of a diary: {str(payload)[:100]}")
    return payload


def _block(rows: list[dict[str, Any]], run: str, lanes: int, levers: int) -> Block:
    decisions = np.zeros(len(rows), DECISION)
    actions = np.zeros((len(rows), levers), np.float32) if levers else np.zeros(len(rows), np.int64)
    tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}
    notes = []
    try:
        for at, row in enumerate(rows):
            _read(at, row, decisions, actions)
            for name in TABLES:
                listed = row.get("outcome", {}).get("fills", []) if name == "fills" else row[name]
                tables[name] += [(at, *(_field(entry, n) for n in fields(TABLES[name]))) for entry in listed]
            if "note" in row:
                notes.append((at, str(row["note"])))
        read = {name: np.array(entries, TABLES[name]) for name, entries in tables.items()}
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DiaryDamaged(f"a row of the diary cannot be read ({type(error).__name__}: {error})") from error
    first, last = int(decisions["step"][0]), int(decisions["step"][-1])
    return Block(run, lanes, first, last - first + 1, decisions, actions, notes=notes, **read)


def _field(entry: dict[str, Any], name: str) -> Any:
    """0 is the instrument of fills that were written before markets numbered theirs."""
    return entry.get(name, 0) if name == "instrument" else entry[name]


def _read(at: int, row: dict[str, Any], decisions: np.ndarray, actions: np.ndarray) -> None:
    for name in BEFORE:
        decisions[at][name] = row[name]
    decisions[at]["observation"] = int(row["observation"], 16)
    actions[at] = [float(lever) for lever in row["action"]] if actions.ndim > 1 else row["action"]
    flags, end = MASKED * row["masked"], row.get("outcome")
    if end is not None:
        flags |= SETTLED | TERMINATED * end["terminated"] | TRUNCATED * end["truncated"]
        decisions[at]["reward"], decisions[at]["pnl2"] = float(end["reward"]), end["pnl2"]
    decisions[at]["flags"] = flags
