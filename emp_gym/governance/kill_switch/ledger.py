"""What the ledger says of kills: ``kill``, what came while it stood (``kill-noted``), and the signed ``rearm`` that answers it.

The last ``kill`` without a later ``rearm`` holds, whatever the state file says. A ``kill-noted`` moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from emp_gym.governance.kill_switch import state
from emp_gym.governance.kill_switch.state import Kill, Rearm
from emp_gym.governance.log.reader import Entry, LogReader
from emp_gym.governance.log.writer import Log
from emp_gym.types import TruncationReason

NAME = "ledger.log"  # of a governance folder
KILL, NOTED, REARM = "kill", "kill-noted", "rearm"  # kinds of entries


def tell(log: Log, kill: Kill, noted: Iterable[Kill] = ()) -> None:
    """Appends the kill, and what was noted while it stood, unless they are there."""
    known = {told(entry).kill_id for kind in (KILL, NOTED) for entry in log.entries(kind=kind)}
    if kill.kill_id not in known:
        log.append(kill.who, KILL, subject_hash=kill.subject, payload=kill.record)
    for one in noted:
        if one.kill_id not in known:
            log.append(one.who, NOTED, subject_hash=one.subject, payload=one.record | {"stands": kill.kill_id})


def told(entry: Entry) -> Kill:
    """The kill that an entry tells of, however it is written."""
    try:
        return Kill.read(entry.value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return state.strange(entry.leaf, TruncationReason.STATE, f"entry {entry.seq} of the ledger, in another form")


def last_kill(log: LogReader) -> Kill | None:
    """The last kill that no order after it answers."""
    kill: Kill | None = None
    for entry in sorted((*log.entries(kind=KILL), *log.entries(kind=REARM)), key=lambda entry: entry.seq):
        if entry.kind == KILL:
            kill = told(entry)
        elif _answers(entry):
            kill = None
    return kill


def noted(log: LogReader, kill: Kill) -> list[Kill]:
    """What was noted while `kill` stood."""
    return [told(entry) for entry in log.entries(kind=NOTED) if _stands(entry) == kill.kill_id]


def _answers(entry: Entry) -> bool:
    """Whether an entry is a signed order. (Whose key it was and may be is checked when it is given.)"""
    try:
        return Rearm.read(entry.value).is_signed
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _stands(entry: Entry) -> str:
    """Id of the kill that stood when a further reason was noted; "" where the entry does not say."""
    try:
        return str(entry.value["stands"])
    except (ValueError, KeyError, TypeError):
        return ""
