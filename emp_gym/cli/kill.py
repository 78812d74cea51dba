"""``kill.py``: closes the kill switch of a governance folder, shows it, names who may open it, or opens it with a signed order."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from emp_gym.printable import printable
from emp_gym.terminal.console import guarded, say, user
from emp_gym.terminal.flags import Parser
from emp_gym.types import NS, ConfigError, EmpGymError

if TYPE_CHECKING:
    from emp_gym.governance.kill_switch.state import Kill

CLOSED = REFUSED = 1
"""Exit status of ``--status`` while the switch is closed, and of ``--rearm`` where it stays closed."""


def parser() -> Parser:
    p = Parser(
        prog="kill.py",
        description="Close the kill switch of a governance folder: every run under it cancels all, sends nothing more and "
        "ends at its next step. Writing anything into FOLDER/kill does the same. Closed already, it stays so, and the reason "
        "is noted beside the first. Exit status: 0 done; 1 --rearm is refused, or --status finds it closed; 2 the command "
        "was wrong or could not be carried out.",
    )
    p.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of train.py --govern")
    what = p.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="only show it, with every reason")
    what.add_argument(
        "--allow", type=Path, metavar="KEY", help="name a private Ed25519 key file whose holder may open it again"
    )
    what.add_argument("--rearm", action="store_true", help="open it again: needs --key and --reason")
    p.add_argument("--reason", metavar="TEXT", help="why; stands in the ledger")
    p.add_argument("--who", metavar="NAME", default=None, help="who (default: the user that runs this)")
    p.add_argument("--key", type=Path, metavar="FILE", help="private Ed25519 key whose public half may re-arm")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 done, 1 closed or refused, 2 with one line on stderr for what cannot be done as asked."""
    return guarded(lambda: _run(parser().parse_args(argv)), "kill.py")


GOVERNED = "the folder that was given to train.py as --govern LOGDIR"


def _run(a: argparse.Namespace) -> int:
    nothing = "" if a.status else ", so NOTHING was stopped"
    if not a.folder.is_dir():
        other = f"{a.folder.parent}, which it lies in" if a.folder.exists() else GOVERNED
        raise ConfigError(f"{a.folder}: no such folder{nothing}; name {other}")
    if not (a.folder / "ledger.log").exists() and not (a.folder / "kill").exists():
        raise ConfigError(
            f"{a.folder}: neither a ledger nor a kill switch is here{nothing}; name {GOVERNED}"
        )
    if a.status:
        return _status(a.folder)
    if a.allow is not None:
        return _allow(a)
    if a.rearm:
        return _rearm(a)
    return _close(a)


def _close(a: argparse.Namespace) -> int:
    """The file first, which needs nothing else to work; the ledger if it is free."""
    from emp_gym.governance.kill_switch.switch import KillSwitch

    who, reason, now = a.who or user(), a.reason or "no reason was given", time.time_ns()
    try:
        kill = KillSwitch.request(a.folder, who, reason, now)
    except OSError as error:
        stands = KillSwitch.seen(a.folder)
        if stands is not None:
            raise EmpGymError(f"closed already: {stands}; but your reason could not be noted ({error})") from error
        raise EmpGymError(
            f"{a.folder}/kill could not be written ({error}): NOTHING was stopped; mend the disk, or send SIGUSR1"
        ) from error
    if kill.ts_ns == now:
        print(f"closed: {kill}")
    else:
        print(f"closed already: {_when(kill)}")
        noted = printable(f"{who}: {reason}")
        print(f"  noted beside it: {noted} (the first stands; whoever opens the switch is shown both)")
    print("runs under this folder cancel all and end at their next step")
    _tell_ledger(a.folder)
    return 0


def _tell_ledger(folder: Path) -> None:
    """Lets the ledger know, unless the run that was stopped holds it: that run, or the next writer, tells it then."""
    from emp_gym.governance.errors import LogError, LogLocked
    from emp_gym.governance.kill_switch.switch import LEDGER_NAME, KillSwitch

    if not (folder / LEDGER_NAME).exists():
        return
    try:
        with _told_here(), _ledger(folder) as log:
            KillSwitch.at(folder, log=log).finish()
        print(printable(f"entered in {folder / LEDGER_NAME}"))
    except LogLocked:
        print(f"not in {LEDGER_NAME} yet: the run that holds it, or its next writer, enters it")
    except (LogError, ConfigError) as error:
        print(printable(f"not in {LEDGER_NAME} yet ({' '.join(str(error).split())}); its next writer enters it"))


def _status(folder: Path) -> int:
    from emp_gym.governance.kill_switch.switch import KillSwitch

    kill = KillSwitch.seen(folder)
    if kill is None:
        print("open")
        return 0
    print(f"closed: {_when(kill)}")
    _say_noted(folder, kill)
    return CLOSED


def _when(kill: Kill) -> str:
    """A kill and its time."""
    if not kill.ts_ns:
        return str(kill)
    return f"{kill} ({datetime.fromtimestamp(kill.ts_ns // NS, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def _say_noted(folder: Path, kill: Kill) -> None:
    from emp_gym.governance.kill_switch.switch import KillSwitch

    for one in KillSwitch.noted_in(folder, kill):
        print(f"  noted while closed: {_when(one)}")


def _allow(a: argparse.Namespace) -> int:
    from emp_gym.governance.kill_switch import state
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    key = KeyFile(a.allow).public_key
    path = a.folder / "keys" / "rearm.pub"
    if key not in state.rearm_keys(a.folder):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        cut = bool(before) and not before.endswith("\n")  # written by hand
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" if cut else "")
            file.write(f"{key.hex()} {' '.join((a.who or user()).split())}\n")
    owner = _owner(a.folder, key, a.who)
    print(printable(f"{owner} may open the switch of {a.folder} ({path}); runs learn it at their start"))
    return 0


def _rearm(a: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from emp_gym.governance.kill_switch.switch import LEDGER_NAME, KillSwitch, Rearm, RearmRefused
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    if a.key is None or not a.reason:
        raise ConfigError("--rearm needs --key FILE and --reason TEXT: opening the switch is signed for")
    with _told_here(), _ledger(a.folder) if (a.folder / LEDGER_NAME).exists() else nullcontext() as log:
        switch = KillSwitch.at(a.folder, log=log)
        if switch.kill is None:
            print("open; there is nothing to re-arm")
            return 0
        key = KeyFile(a.key)
        who = _owner(a.folder, key.public_key, a.who)
        print(f"closed: {_when(switch.kill)}")
        _say_noted(a.folder, switch.kill)
        order = Rearm.sign(key, switch.kill.kill_id, who=who, reason=a.reason, ts_ns=time.time_ns())
        try:
            switch.rearm(order)
        except RearmRefused as refused:
            say(f"kill.py: {' '.join(str(refused).split())}")
            return REFUSED
    print(printable(f"open again: {who}: {a.reason}"))
    return 0


@contextmanager
def _told_here() -> Iterator[None]:
    """The switch does not log what the command prints itself; errors it does."""
    from emp_gym.governance.kill_switch.switch import LOGGER

    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def _owner(folder: Path, key: bytes, who: str | None) -> str:
    """Whose key it is by ``keys/rearm.pub``; who says to be somebody else is refused."""
    path = folder / "keys" / "rearm.pub"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = next((" ".join(line.split()[1:]) for line in lines if line.split()[:1] == [key.hex()]), "")
    if named and who and who != named:
        raise ConfigError(
            f"this key is {named}'s by {path}, got --who {who}; leave --who out, or sign with your own key"
        )
    return named or who or user()


def _ledger(folder: Path):  # type: ignore[no-untyped-def]  # imported where it is used: closing must not wait for it
    """The folder's ledger, to append to; `LogLocked` while a run has it."""
    from emp_gym.governance.errors import LogLocked
    from emp_gym.governance.folder import in_use
    from emp_gym.governance.kill_switch.switch import LEDGER_NAME
    from emp_gym.governance.log.signed_tree_heads import KeyFile
    from emp_gym.governance.log.writer import Log

    witness = folder / "witness"
    try:
        return Log.open(
            folder / LEDGER_NAME, signer=KeyFile(folder / "keys" / "system.key"), clock=time.time_ns,
            witness=witness if witness.is_dir() else None,
        )  # fmt: skip
    except LogLocked as error:
        raise LogLocked(in_use(folder, LEDGER_NAME)) from error
