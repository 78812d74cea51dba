"""The kill switch: a latch that is a physical thing. Whoever closes it, every process that looks at it sends nothing more.

    switch = KillSwitch.at("LOGDIR", log=ledger)  # one object a folder and process
    switch.trip("alice", "wrong model deployed")  # 0 new orders after this returns
    switch.rearm(Rearm.sign(key, switch.kill.kill_id, who="bob", reason="model replaced", ts_ns=time.time_ns()))

It is closed by a call, by the command ``scripts/kill.py``, by a signal, by the rules of a `KillGate`, or by anybody who
writes anything into the file ``LOGDIR/kill``. It fails closed: a state that cannot be read is a kill. The latch closes in
memory first, then on disk, then the ledger is told; the last two wait for nobody and hold up nobody.
"""

from __future__ import annotations

import logging
import secrets
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar
from weakref import WeakSet

from emp_gym.governance.errors import LogError
from emp_gym.governance.kill_switch import ledger, state
from emp_gym.governance.kill_switch.state import ARMED, Kill, Rearm, RearmRefused
from emp_gym.governance.log.reader import reading
from emp_gym.governance.log.signed_tree_heads import Witness
from emp_gym.governance.log.writer import Log
from emp_gym.types import ConfigError, TruncationReason

__all__ = ["Kill", "KillSwitch", "Rearm", "RearmRefused"]

LEDGER_NAME, STATE_NAME, WITNESS_NAME = ledger.NAME, "kill", "witness"
PATIENCE_S = 1.0  # how long whoever closes the switch waits for steps under way and for the disk
QUICK_S = 0.005  # the same for a rule inside a step: orders must be cancelled, disk or not
LOGGER = logging.getLogger("emp_gym.governance.kill_switch.switch")


class Section:
    """A stretch of work during which orders that have passed the switch are being sent."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), False

    def enter(self) -> None:
        if not self._inside:  # it is, where a step never came to its end
            self._lock.acquire()
            self._inside = True

    def leave(self) -> None:
        if self._inside:
            self._inside = False
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Waits until nothing is being sent; False if `seconds` were not enough."""
        done = self._lock.acquire(timeout=max(seconds, 0.0))
        if done:
            self._lock.release()
        return done


class KillSwitch:
    """The switch of one folder. Use `at`; a copy of the switch is the switch. Threads may share it."""

    _all: ClassVar[dict[Path, KillSwitch]] = {}  # for good: a latch must not be forgotten
    _finding: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, folder: Path, log: Log | None, keys: tuple[bytes, ...] | None, clock: Callable[[], int], *, looks_on: bool = False
    ) -> None:
        """Use `at`. `looks_on`: decides as ever, and writes nothing (`seen`)."""
        self.folder, self.path = folder, folder / STATE_NAME
        self.log, self.clock, self._looks_on = log, clock, looks_on
        self.keys = state.rearm_keys(folder) if keys is None else keys
        self.subject = ""  # hex SHA-256 of the policy version that runs here; stands in the records of kills
        self.kill: Kill | None = None  # why it is closed; None: it is open
        self.noted: tuple[Kill, ...] = ()  # reasons that came while it was closed; the first one stands
        self.trouble = ""  # why the kill is not on disk, or not in the ledger, yet
        self._asked = ""  # name of a signal that has come
        self._guard = threading.RLock()
        self._sections: WeakSet[Section] = WeakSet()
        self._recorder: threading.Thread | None = None
        self._kept = threading.Event()  # set: the last kill is on disk, or cannot be put there
        self._kept.set()
        self._stamp: tuple[int, int, int, int] | None = None
        self._start()

    @classmethod
    def at(
        cls, folder: str | Path, *, log: Log | None = None, keys: Iterable[str | bytes] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> KillSwitch:  # fmt: skip
        """The switch of `folder`, the same object for all of this process; armed where there was none.

        `log`: the folder's ledger, which is then told of kills. `keys`: Ed25519 public keys that may re-arm, instead of
        those of ``keys/rearm.pub``. `clock`: ns UTC, for the records. `LogError` if a ledger is there that cannot be read.
        """
        where = Path(folder).resolve()
        known = None if keys is None else state.parse_keys(keys, "keys")
        with cls._finding:
            switch = cls._all.get(where)
            if switch is None:
                switch = cls._all[where] = cls(where, log, known, clock)
        if known is not None:
            switch.keys = known
        if log is not None and switch.log is not log:
            switch.log = log
            switch._catch_up()
        return switch

    # ----------------------------------------------------------------------------------------------------- looking at it

    def check(self) -> bool:
        """Whether nothing may be sent. Looks at the state file each time, which costs one `stat`."""
        if self._asked:
            asked, self._asked = self._asked, ""
            self._close(self._new("signal", f"{asked} was received", TruncationReason.SIGNAL), note=True)
        if state.stamp(self.path) != self._stamp:
            self._look()
        return self.kill is not None

    def section(self) -> Section:
        """For a gate: `enter` it before `check`, `leave` it when the orders have been sent, and `trip` waits for you."""
        section = Section()
        with self._guard:
            self._sections.add(section)
        return section

    def _look(self, news: bool = True) -> None:
        """Reads the state file, since it is not what it was. `news`: a kill in it is one, and is told."""
        with self._guard:
            now = state.stamp(self.path)
            try:
                said, noted = state.read(self.path)
            except FileNotFoundError:
                if self.kill is not None:
                    self._insist()
                self._close(self._new("unknown", f"{self.path} is gone", TruncationReason.STATE))
                return
            if isinstance(said, Kill):
                self._adopt(said, noted, logging.WARNING if news else logging.DEBUG)
            elif self.kill is not None and not self._opens(said):
                self._insist()  # somebody has written "armed" over a kill without a signature
                return
            elif isinstance(said, Rearm) and not (said.signed_by_one_of(self.keys) or self._has_ledger):
                self._close(self._new(said.who, "re-armed by a key that may not", TruncationReason.STATE))
                return
            else:
                self.kill, self.noted = None, ()
            self._stamp = now

    @property
    def _has_ledger(self) -> bool:
        return self.log is not None or (self.folder / LEDGER_NAME).exists()

    def _opens(self, said: Rearm | None) -> bool:
        return (
            self.kill is not None
            and said is not None
            and said.kill_id == self.kill.kill_id
            and said.signed_by_one_of(self.keys)
        )

    def _adopt(self, kill: Kill, noted: tuple[Kill, ...], level: int = logging.WARNING) -> None:
        """Takes over a kill that is on disk: where two processes closed the switch at once, the last one names it. What
        somebody scribbles over a kill is one more reason; it stands in the file already."""
        known = {one.kill_id for one in (self.kill, *self.noted) if one is not None}
        if self.kill is not None and not kill.recorded:
            if kill.kill_id not in known and kill.reason != state.EMPTY:  # a full disk leaves it empty
                self._note(kill, write=False)
            return
        fresh = [one for one in noted if one.kill_id not in known]
        if self.kill is None or self.kill.kill_id != kill.kill_id:
            self.kill = kill
            self._tell(level, "%s: %s", self.path, kill)
        elif not fresh:
            return
        for one in fresh:
            self._tell(level, "%s: closed already; noted: %s", self.path, one)
        self.noted += tuple(fresh)
        self._record(write=False)

    def _note(self, kill: Kill, write: bool = True) -> None:
        """One more reason while the switch is closed. The first one stands, also for the order that answers it."""
        if any((one.who, one.cause, one.reason) == (kill.who, kill.cause, kill.reason) for one in self.noted):
            return
        self.noted += (kill,)
        self._warn("%s: closed already by %s; noted: %s", self.path, self.kill, kill)
        self._record(write)

    def _start(self) -> None:
        """Where the file and the ledger stand when the switch is first seen."""
        killed = self._killed_in_ledger()
        if killed is None and not self.path.exists() and not self.path.is_symlink():
            if self._looks_on:
                return
            self._found()
        if killed is not None:
            self.kill = killed  # whatever the file says: only an entry in the ledger answers one
        self._look(news=False)

    def _found(self) -> None:
        try:
            state.found(self.path)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: the kill switch has no state here and none can be made ({error.strerror}); nothing may run "
                "without one: name a folder that can be written"
            ) from error

    def _killed_in_ledger(self) -> Kill | None:
        """The last kill that the ledger holds no later re-arm order for."""
        if self.log is not None:
            return ledger.last_kill(self.log)
        if not self._has_ledger:
            return None
        with reading(self.folder / LEDGER_NAME) as reader:
            if self._looks_on:
                heads = self.folder / WITNESS_NAME
                reader.check_end(Witness(heads) if heads.is_dir() else None)
            return ledger.last_kill(reader)

    # ------------------------------------------------------------------------------------------------------ closing it

    def trip(self, who: str, reason: str, cause: TruncationReason = TruncationReason.CALL, *, patience_s: float = PATIENCE_S) -> Kill:
        """Closes the switch. When this returns no order that had passed it is still on its way in this process, and the
        state is on disk, unless `patience_s` was not enough (then `trouble` or a warning says so; it stays closed).

        Closed already it stays as it is, and the kill that stands is returned; the reason is noted beside it, in the file and
        in the ledger. Other processes obey at their next step.
        """
        with self._guard:
            kill = self._close(self._new(who, reason, cause), note=True)
            sections = list(self._sections)
        until = time.monotonic() + patience_s
        for section in sections:
            if not section.wait(until - time.monotonic()):
                LOGGER.warning("%s: a step that began before the kill has not ended after %g s", self.path, patience_s)
        if not self._kept.wait(max(until - time.monotonic(), 0.0)):
            LOGGER.warning("%s: the disk has not taken the kill after %g s; it holds in memory", self.path, patience_s)
        return kill

    def trip_within(self, reason: str, cause: TruncationReason) -> Kill:
        """`trip` for a rule inside a step: waits for no step, and for the disk at most 5 ms."""
        kill = self._close(self._new("rule", reason, cause))
        self._kept.wait(QUICK_S)
        return kill

    def _new(self, who: str, reason: str, cause: TruncationReason) -> Kill:
        return Kill(_new_id(), who, cause, reason, self.clock(), self.subject)

    def _close(self, kill: Kill, note: bool = False) -> Kill:
        """The kill that stands. A rule is asked again in each step, so what it finds in a closed switch is not noted."""
        with self._guard:
            if self.kill is None:
                self.kill = kill  # from here on nothing passes
                self._warn("%s: %s", self.path, kill)
                self._record()
            elif note:
                self._note(kill)
            return self.kill

    def _warn(self, text: str, *values: object) -> None:
        self._tell(logging.WARNING, text, *values)

    def _tell(self, level: int, text: str, *values: object) -> None:
        if not self._looks_on:
            LOGGER.log(level, text, *values)

    def _insist(self) -> None:
        """Writes the kill again, since the file does not say it; once at a time."""
        if self._recorder is None or not self._recorder.is_alive():
            self._record()

    def _record(self, write: bool = True) -> None:
        """Puts the kill on disk and then into the ledger, in a thread of its own: neither may hold up a step."""
        assert self.kill is not None
        if self._looks_on:
            return
        self._kept = threading.Event()
        if not write:
            self._kept.set()
        arguments = (self.kill, self.noted, write, self._kept, self._recorder)
        self._recorder = threading.Thread(target=self._recording, args=arguments, name="kill-switch", daemon=True)
        self._recorder.start()

    def _recording(
        self, kill: Kill, noted: tuple[Kill, ...], write: bool, kept: threading.Event, before: threading.Thread | None
    ) -> None:
        trouble = ""
        try:
            if write:
                state.keep(self.path, state.tripped(kill, noted))  # the next check reads it again
        except OSError as error:
            trouble = f"not on disk: {error}"
        finally:
            kept.set()
        if before is not None:
            before.join()  # one at a time, or the ledger would be told twice
        try:
            if self.log is not None:
                ledger.tell(self.log, kill, noted)
        except LogError as error:
            trouble = "; ".join(filter(None, (trouble, f"not in the ledger: {error}")))
        if trouble and trouble != self.trouble:
            LOGGER.error("%s: %s is %s; it holds in memory", self.path, kill, trouble)
        self.trouble = trouble

    def _catch_up(self) -> None:
        """Tells a ledger that has just been handed in; obeys it if it knows of a kill that the file does not."""
        with self._guard:
            killed = self._killed_in_ledger()
            if self.kill is None and killed is not None:
                self.kill = killed
                self._record()
            elif self.kill is not None:
                self._record(write=False)

    # ------------------------------------------------------------------------------------------------------ other doors

    def listen(self, number: signal.Signals | None = None) -> None:
        """Lets a signal (SIGUSR1) close the switch; from the main thread only. The handler sets a flag, the next `check` obeys it."""
        number = signal.SIGUSR1 if number is None else number
        name = signal.Signals(number).name

        def note(_number: int, _frame: FrameType | None) -> None:
            self._asked = name

        signal.signal(number, note)

    @staticmethod
    def request(folder: str | Path, who: str, reason: str, ts_ns: int) -> Kill:
        """Closes the switch of a folder from outside, by its file alone: no ledger is opened, nothing is waited for but
        the disk. A kill that is there already stays and is returned; the reason is noted beside it. `ConfigError` if there
        is no such folder, `OSError` of the disk."""
        path = Path(folder) / STATE_NAME
        if not path.parent.is_dir():
            raise ConfigError(f"{folder}: no such folder, so nothing was stopped; name the folder of train.py --govern")
        kill = Kill(_new_id(), who, TruncationReason.COMMAND, reason, ts_ns)
        try:
            said, noted = state.read(path)
        except FileNotFoundError:
            said, noted = None, ()
        stands, later = (said, (*noted, kill)) if isinstance(said, Kill) else (kill, ())
        state.keep(path, state.tripped(stands, later))
        return stands

    @staticmethod
    def seen(folder: str | Path) -> Kill | None:
        """Why the switch of `folder` is closed, as a run that begins now would find it; nothing is written. None: it is open.

        `LogError` where such a run would not begin: the end of the ledger is not what its heads and the witness say.
        """
        return KillSwitch(Path(folder).resolve(), None, None, time.time_ns, looks_on=True).kill

    @staticmethod
    def noted_in(folder: str | Path, kill: Kill) -> list[Kill]:
        """Reasons that came while `kill` stood, oldest first, from the folder's files alone."""
        path, found = Path(folder), {}
        if (path / LEDGER_NAME).exists():
            with reading(path / LEDGER_NAME) as reader:
                found = {one.kill_id: one for one in ledger.noted(reader, kill)}
        try:
            said, noted = state.read(path / STATE_NAME)
        except FileNotFoundError:
            said, noted = None, ()
        if isinstance(said, Kill) and said.kill_id == kill.kill_id:
            found = {one.kill_id: one for one in noted} | found  # the ledger has them whole
        return sorted(found.values(), key=lambda one: one.ts_ns)

    def finish(self) -> None:
        """Waits until the ledger has been told, for whoever is about to close it."""
        if self._recorder is not None:
            self._recorder.join()

    # ------------------------------------------------------------------------------------------------------ opening it

    def rearm(self, order: Rearm) -> None:
        """Opens the switch: `order` must name this kill and be signed by a key that may. It is in the ledger before the
        switch opens. `RearmRefused` says what is missing; the switch then stays closed."""
        with self._guard:
            self.check()
            kill = self.kill
            if kill is None:
                raise RearmRefused(f"{self.path}: the switch is open; there is nothing to re-arm")
            if self._recorder is not None:
                self._recorder.join(PATIENCE_S)  # the ledger must hold the kill before its answer
            self._refuse_unless_signed(order, kill)
            try:
                self._answer(order, kill)
                state.keep(self.path, ARMED | {"rearm": order.record})
            except (LogError, OSError) as error:
                raise RearmRefused(
                    f"{self.path}: the order could not be recorded ({error}); mend that and try again"
                ) from error
            self.kill, self.trouble = None, ""  # the next check reads the file: somebody may have closed it meanwhile
            self.noted = ()
            LOGGER.warning("%s: re-armed by %s: %s", self.path, order.who, order.reason)

    def _refuse_unless_signed(self, order: Rearm, kill: Kill) -> None:
        if not self.keys:
            raise RearmRefused(
                f"{self.path}: no key may re-arm yet; name one: scripts/kill.py {shlex.quote(str(self.folder))} --allow KEYFILE --who NAME"
            )
        if order.kill_id != kill.kill_id:
            raise RearmRefused(f"{self.path}: the order is for kill {order.kill_id}, closed by {kill}")
        if not order.signed_by_one_of(self.keys):
            raise RearmRefused(
                f"{self.path}: not signed by a key that may re-arm: key {order.public_key.hex()[:12]}… is none of the "
                f"{len(self.keys)} in keys/rearm.pub; scripts/kill.py {shlex.quote(str(self.folder))} --allow KEYFILE --who NAME adds one"
            )

    def _answer(self, order: Rearm, kill: Kill) -> None:
        """Appends the order to the ledger, after its kill."""
        if self._recorder is not None and self._recorder.is_alive():
            raise LogError("the ledger has not taken the kill yet")
        if self.log is None:
            if self._has_ledger:
                raise LogError(
                    f"{LEDGER_NAME} is not open: open it to append (stop the run that holds it) and hand it in"
                )
            return
        ledger.tell(self.log, kill, self.noted)
        self.log.append(order.who, ledger.REARM, payload=order.record)

    def __deepcopy__(self, memo: dict[int, Any]) -> KillSwitch:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (str(self.folder), [key.hex() for key in self.keys])


def _again(folder: str, keys: list[str]) -> KillSwitch:
    """The switch of `folder` in a process to which it was sent; its ledger stays with the process that has it."""
    return KillSwitch.at(folder, keys=keys)


def _new_id() -> str:
    return secrets.token_hex(16)
