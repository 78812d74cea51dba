"""What can go wrong with the log, by what the caller should do about it."""

from __future__ import annotations

from emp_gym.types import ConfigError, EmpGymError


class LogError(EmpGymError):
    """The log could not do what was asked. From an append: not acknowledged; reopen and look before a retry."""


class LogUnfinished(LogError):
    """A writer crashed in a commit: only `Log.open` may finish or undo it; a reader looks at a copy (`reader.reading`)."""


class LogLocked(LogError):
    """Another writer has this log open."""


class LogTampered(LogError):
    """What is stored is not what was written: run ``scripts/verify.py``, which says where."""


class LogValueError(LogError, ConfigError):
    """A field of an entry is not something that the log can hold exactly. Nothing was written."""


class LedgerError(EmpGymError):
    """An entry that the rules of the ledger do not allow; nothing was written. The message says which rule."""


class ClockJumped(LedgerError):
    """The clock is too far after the last entry to be believed; nothing was written. The message says how to accept it."""


class UnregisteredPolicy(LedgerError):
    """A policy without a row in the registry, or whose files are not those of its row."""
