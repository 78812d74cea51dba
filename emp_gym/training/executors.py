"""Where independent pieces of work run: in this process, in processes beside it, or as Ray tasks on one machine or many.

``with engine("ray", workers=8) as where: for index, result in where.map(function, tasks): ...``

=============  =======================================================================================================
``local``      one after another in this process
``processes``  spawned (never forked: a child of a process whose OpenMP threads run, torch's, may hang), one task at a time each
``ray``        Ray tasks of one CPU each: on a Ray that is started here for the purpose, or on the cluster at `address`
=============  =======================================================================================================

A result may not depend on the engine: a task is a value that says all that its result depends on (its seed among it), and
`function` gives the same for it wherever it runs. Function, tasks and results travel between processes of one program: the
function must be importable (defined at the top of a module), the others picklable. A task runs with one thread of an
environment and one torch thread unless it asks for more.

What goes wrong reaches the caller under one name, `TaskFailed`, which tells the task; a worker that died (killed, out of
memory) is a `WorkerDied`, never a wait without end. Whatever ends a `map` early, Ctrl-C too, interrupts the tasks under way.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, Self, TypeVar

from emp_gym.agents.adapters import cluster
from emp_gym.agents.suggest import nearest
from emp_gym.types import ConfigError, EmpGymError

T = TypeVar("T")
R = TypeVar("R")
Stop = Callable[[], bool]

GRACE = 10.0
"""Seconds that an interrupted task is given to come to an end before its worker is killed."""
GLANCE = 0.2
"""Seconds between two looks at whether to stop."""
OPENMP = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


class TaskFailed(EmpGymError):
    """A task raised: `index` of the task, `kind` of the error, where it was raised; the whole traceback is in the notes."""

    def __init__(self, index: int, task: str, kind: str, what: str, trace: str = "") -> None:
        super().__init__(index, task, kind, what, trace)  # as it travels between processes
        self.index, self.task, self.kind, self.what = index, task, kind, what
        if trace:
            self.add_note(trace)

    def __str__(self) -> str:
        return f"task {self.index} ({self.task}): {self.what}"


class WorkerDied(TaskFailed):
    """The process that had the task is gone: killed, out of memory, or crashed."""


class Executor(Protocol):
    """Runs tasks. Closed at the end of a ``with``."""

    workers: int

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, stop: Stop | None = None
    ) -> Iterator[tuple[int, R]]:
        """(index of the task, its result) of every task, as they finish; raises `TaskFailed` for the first that fails.

        When `stop` begins to say True no further task is begun, and those under way are sent SIGINT once: they may come to
        an end of their own, whose results are given as ever.
        """
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


ENGINES = ("local", "processes", "ray")


def engine(name: str, workers: int = 1, address: str | None = None) -> Executor:
    """The engine called `name`. `address`: of a running Ray cluster (default: ``RAY_ADDRESS``, else one is started here).

    Raises `ConfigError`, and `MissingPackage` with the pip line.
    """
    if name not in ENGINES:
        raise ConfigError(f"no engine is called {name!r}; did you mean {nearest(name, ENGINES)}?")
    if workers < 1:
        raise ConfigError(f"workers: expected at least 1, got {workers}")
    if address is not None and name != "ray":
        raise ConfigError(f"an address belongs to the engine ray, not to {name}")
    if name == "ray":
        return Ray(workers, address)
    if name == "processes":
        return Processes(workers)
    if workers > 1:
        raise ConfigError(f"the engine local works alone, got {workers} workers; take processes or ray")
    return Local()


class _Closing:
    def close(self) -> None:
        """Lets go of workers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Local(_Closing):
    """In this process, in order."""

    workers = 1

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, stop: Stop | None = None
    ) -> Iterator[tuple[int, R]]:
        for index, task in enumerate(tasks):
            if stop is not None and stop():
                return
            try:
                result = function(task)
            except Exception as error:  # told under the name of the task, and raised on
                raise _failed(index, task, _told(error)) from error
            yield index, result


# ---- a task in a worker


@dataclass(frozen=True)
class _Error:
    """An error as text: not every exception survives the way between processes."""

    kind: str
    what: str
    trace: str


def _told(error: BaseException) -> _Error:
    kind = type(error).__name__
    if isinstance(error, EmpGymError):
        what = str(error)
    else:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        at = f" (at {os.path.basename(last[0].filename)}:{last[0].lineno})" if last else ""
        what = f"{kind}: {error}{at}"
    return _Error(kind, what, "".join(traceback.format_exception(error)))


def _failed(index: int, task: Any, error: _Error) -> TaskFailed:
    return TaskFailed(index, _name(task), error.kind, error.what, error.trace)


def _name(task: Any) -> str:
    text = str(task)
    return text if len(text) <= 120 else text[:117] + "..."


def _attempt(work: Callable[[], Any]) -> Any:
    """What `work` gives, or the `_Error` that it raised, whatever it was: the process goes on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return work()
    except BaseException as error:
        return _told(error)
    finally:
        signal.signal(signal.SIGINT, before)


def _frugal(openmp: Mapping[str, str | None]) -> None:
    """One thread for torch and environments, unless a task asks for more.

    `openmp` is what the caller's environment says of OpenMP: it must be the same here before torch is loaded, since torch's sums
    depend on it in their last bits (and Ray says something of its own).
    """
    if "torch" not in sys.modules:
        cluster.put(openmp)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    importlib.import_module("torch").set_num_threads(1)
    importlib.import_module("emp_gym.threads").limit(1)


def _openmp() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in OPENMP}


# ---- processes


class _Worker:
    """A process and the task that it has."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=False)
        self.process.start()
        other.close()
        self.index: int | None = None  # of its task
        self.interrupted = False

    def begin(self, index: int, message: bytes) -> None:
        self.index, self.interrupted = index, False
        self.pipe.send_bytes(message)

    def interrupt(self) -> None:
        if self.index is not None and not self.interrupted and self.process.pid is not None:
            self.interrupted = True
            os.kill(self.process.pid, signal.SIGINT)


def _serve(pipe: Connection) -> None:
    """The life of a worker: ends when the other end of its pipe does."""
    os.setsid()  # Ctrl-C in a terminal goes to the program, which tells its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while it has no task
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _frugal(_openmp())  # inherited
    while True:
        try:
            message = pipe.recv_bytes()
            pipe.send_bytes(_answer(message))
        except (EOFError, ConnectionError):  # nobody is there any more
            return


def _end_with_parent() -> None:
    """However the program ends, its workers do not outlive it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(message: bytes) -> bytes:
    """What the task of `message` gives, or the `_Error` that it raised, to be sent back."""

    def done() -> Any:
        function, task = ForkingPickler.loads(message)
        return function(task)

    answer = _attempt(done)
    sent = _attempt(lambda: ForkingPickler.dumps(answer))
    return bytes(ForkingPickler.dumps(sent) if isinstance(sent, _Error) else sent)


class Processes(_Closing):
    """Processes beside this one; they are kept from one `map` to the next."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._crew: list[_Worker] = []

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, stop: Stop | None = None
    ) -> Iterator[tuple[int, R]]:
        left = iter(range(len(tasks)))
        stopping = False
        try:
            while True:
                stopping = stopping or (stop is not None and stop())
                while not stopping and (worker := self._idle()) and (index := next(left, None)) is not None:
                    worker.begin(index, bytes(ForkingPickler.dumps((function, tasks[index]))))
                busy = [worker for worker in self._crew if worker.index is not None]
                if not busy:
                    return
                if stopping:
                    for worker in busy:
                        worker.interrupt()
                told = wait([worker.pipe for worker in busy], None if stop is None else GLANCE)
                for worker in busy:
                    if worker.pipe in told:
                        yield self._result(worker, tasks)
        finally:
            self._let_go()

    def _idle(self) -> _Worker | None:
        for worker in self._crew:
            if worker.index is None:
                return worker
        if len(self._crew) == self.workers:
            return None
        if not self._crew:
            atexit.register(self.close)
        with cluster.environment(cluster.ALONE):
            self._crew.append(_Worker())
        return self._crew[-1]

    def _result(self, worker: _Worker, tasks: Sequence[Any]) -> tuple[int, Any]:
        index = worker.index
        assert index is not None
        try:
            answer = ForkingPickler.loads(worker.pipe.recv_bytes())
        except (EOFError, ConnectionResetError) as error:
            self._crew.remove(worker)
            worker.index = None
            _end([worker])
            raise WorkerDied(
                index, _name(tasks[index]), "WorkerDied",
                f"its process is gone (exit code {worker.process.exitcode}): killed, or out of memory?",
            ) from error  # fmt: skip
        worker.index = None
        if isinstance(answer, _Error):
            raise _failed(index, tasks[index], answer)
        return index, answer

    def _let_go(self) -> None:
        """Interrupts what is under way; idle workers stay."""
        busy = [worker for worker in self._crew if worker.index is not None]
        self._crew = [worker for worker in self._crew if worker.index is None]
        _end(busy)

    def close(self) -> None:
        atexit.unregister(self.close)
        crew, self._crew = self._crew, []
        _end(crew)


def _end(crew: Sequence[_Worker]) -> None:
    """All of them gone after `GRACE` seconds, at once if a second Ctrl-C comes."""
    try:
        for worker in crew:
            worker.interrupt()
            worker.pipe.close()
        until = time.monotonic() + GRACE
        for worker in crew:
            worker.process.join(max(until - time.monotonic(), 0.0))
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()


# ---- Ray


class Ray(_Closing):
    """Ray tasks. A Ray that was running in this process before is used, and left running."""

    def __init__(self, workers: int, address: str | None = None) -> None:
        self.workers = workers
        self._ray = cluster.package()
        self._mine = cluster.start(workers, address)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, stop: Stop | None = None
    ) -> Iterator[tuple[int, R]]:
        ray, left, under_way = self._ray, iter(range(len(tasks))), dict[Any, int]()
        remote = ray.remote(_remote).options(num_cpus=1, max_retries=0)
        openmp, stopping = _openmp(), False
        try:
            while True:
                if not stopping and stop is not None and stop():
                    stopping = True
                    for reference in under_way:
                        ray.cancel(reference, force=False)
                while not stopping and len(under_way) < self.workers and (index := next(left, None)) is not None:
                    under_way[remote.remote(function, tasks[index], openmp)] = index
                if not under_way:
                    return
                ready, _ = ray.wait(list(under_way), timeout=None if stop is None else GLANCE)
                for reference in ready:
                    yield self._result(reference, under_way.pop(reference), tasks)
        finally:
            if not stopping:
                for reference in under_way:
                    ray.cancel(reference, force=False)
            if under_way and ray.is_initialized():
                _, late = ray.wait(list(under_way), num_returns=len(under_way), timeout=GRACE)
                for reference in late:
                    ray.cancel(reference, force=True)

    def _result(self, reference: Any, index: int, tasks: Sequence[Any]) -> tuple[int, Any]:
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            what = f"its Ray worker is gone ({str(error).splitlines()[0].rstrip('.')}): killed, or out of memory?"
            raise WorkerDied(index, _name(tasks[index]), type(error).__name__, what) from error
        if isinstance(answer, _Error):
            raise _failed(index, tasks[index], answer)
        return index, answer

    def close(self) -> None:
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()


def _remote(function: Callable[[Any], Any], task: Any, openmp: dict[str, str | None]) -> Any:
    _frugal(openmp)
    return _attempt(lambda: function(task))
