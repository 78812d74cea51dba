"""Kernels over lanes, by the caller and by threads of our own that never hold the GIL.

A `region` takes chunks of lanes until none is left. Called for several threads it is entered by the caller and by
helpers, all with the same arguments. Helpers sleep while there is nothing to do; who comes late finds the region closed, and
nobody waits for a thread that holds no chunk. So a thread that the system has put aside holds the others up for one chunk at
most, and beside busy processes the lanes keep their share of the machine. Which thread takes which chunk is chance; what a
lane gets is not.

Threads without work look for some before they sleep, since to wake one costs as much as many lanes. Who looks takes
processor time from others: as soon as a thread that holds a chunk is seen not to run, all look for a shorter while.

Helpers are daemon threads, made when first needed, made anew in a forked child, stopped at exit.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np

from emp_gym.atomics import acquire, add, exchange, load, pause, release, replace, sharing, store, take_part
from emp_gym.jit import hot, inner, njit, rare

MOST = 64  # threads of a region
CHUNKS = 8  # of a thread
FEWEST = 32  # lanes of a chunk: what kernels look ahead
LOOKS = 8_000  # of a thread without work, before it goes to sleep: 0.2 to 0.4 ms, longer than Python between two steps
LOOKS_BUSY = 1_000  # the same while others want the processor
BUSY_REGIONS = 2_000  # so long that holds after a region whose last chunk kept its caller waiting for all of `LOOKS`
WAKES = 2  # sleepers whom each that enters a region wakes

# Words of a crew: i8 [WORDS], those that threads fight for on cache lines of their own.
APART = 16
ROOM, NEXT, LEFT, WAITING, QUIT, CALLER, PART, GIVEN, STATUS, EXCEPTION, HELPERS, HERE, STEP, PATIENCE, BUSY = (
    APART * k for k in range(15)
)
FIRST, ASLEEP, LOCK, SEEN = 15 * APART, 0, 1, 2  # of the helpers: whether it sleeps, its lock, the last region that it entered
WORDS = FIRST + APART * MOST
ROOMS = 16  # bits of ROOM that say how many more may enter; those above count regions


@hot
def _wake(words):
    """Wakes some of the helpers that sleep and have not been in the region, as far as there is room for them."""
    open_now = load(words, ROOM)
    room = open_now & ((1 << ROOMS) - 1)
    wanted = min(room, WAKES)
    for k in range(words[HELPERS]):
        if wanted == 0:
            return
        at = FIRST + APART * k
        if load(words, at + SEEN) == open_now - room:
            continue
        if load(words, at + ASLEEP) == 1 and exchange(words, at + ASLEEP, 0) == 1:
            release(words, at + LOCK)
            wanted -= 1


def _share(words, part, given, call):
    """Opens a region to ``call - 1`` helpers, does its share of it, and waits for those that have entered."""
    if words[BUSY] > 0:
        words[BUSY] -= 1
        if words[BUSY] == 0:
            store(words, PATIENCE, LOOKS)
    store(words, NEXT, 0)
    store(words, STATUS, 0)
    store(words, PART, part)
    store(words, GIVEN, given)
    helpers, region = call - 1, ((load(words, ROOM) >> ROOMS) + 1) << ROOMS
    store(words, ROOM, region + helpers)
    _wake(words)
    take_part(words, part, given, 0)
    entered = helpers - (exchange(words, ROOM, region) - region)
    add(words, LEFT, -entered)
    looks = 0
    while load(words, LEFT) != 0:
        looks += 1
        if looks < words[PATIENCE]:
            pause()
            continue
        if words[BUSY] == 0:  # a thread that holds a chunk does not run
            words[BUSY] = BUSY_REGIONS
            store(words, PATIENCE, LOOKS_BUSY)
        store(words, WAITING, 1)
        if load(words, LEFT) != 0 or exchange(words, WAITING, 0) == 0:
            acquire(words, CALLER)
    return load(words, STATUS)


@njit(_nrt=False, error_model="numpy", nogil=True)
def _help(words, me):
    """A helper's life: enters what is open, looks around for a while, sleeps; until all are told to quit."""
    seen, looks, mine = 0, 0, FIRST + APART * me
    add(words, HERE, 1)
    while load(words, QUIT) == 0:
        room = load(words, ROOM)
        left = room & ((1 << ROOMS) - 1)
        if left > 0 and room - left != seen:
            if replace(words, ROOM, room, room - 1):
                seen, looks = room - left, 0
                store(words, mine + SEEN, seen)
                _wake(words)
                take_part(words, load(words, PART), load(words, GIVEN), left)
                if add(words, LEFT, 1) == -1 and exchange(words, WAITING, 0) == 1:
                    release(words, CALLER)
            continue
        looks += 1
        if looks < words[PATIENCE]:
            pause()
            continue
        looks = 0
        store(words, mine + ASLEEP, 1)
        woken = load(words, ROOM) != room or load(words, QUIT) != 0
        if not woken or exchange(words, mine + ASLEEP, 0) == 0:
            acquire(words, mine + LOCK)


def _alone(call: int, words: np.ndarray) -> int:
    return 0


def _in_order(call: int, words: np.ndarray, before: int, step: int) -> int:
    return before + step


def _next_chunk(call, words, before, step):
    """First lane of the next chunk of `step` lanes; `before` is that of the chunk before, ``-step`` at first."""
    return before + step if call == 1 else add(words, NEXT, step)


fan_out: Any = _alone if numba.config.DISABLE_JIT else sharing(_share, STATUS, EXCEPTION)
next_chunk: Any = _in_order if numba.config.DISABLE_JIT else hot(_next_chunk)


@hot
def chunk_size(call, words, lanes):
    """Lanes of a chunk: all of them for a thread alone."""
    return lanes if call == 1 else words[STEP]


def region(kernel: Callable[..., None]) -> Any:
    """``kernel(low, high, place, ...)``, which works on lanes [low, high) as thread number `place` (below `threads`), compiled for all
    lanes: to be called through `run` or `BoundRegion`."""
    own = kernel.__code__  # under its name, file and line it is kept
    code = _over_chunks.__code__.replace(co_filename=own.co_filename, co_firstlineno=own.co_firstlineno, co_name=own.co_name)
    over = FunctionType(code, globals() | {"__name__": kernel.__module__, "_part": inner(kernel)}, kernel.__name__)
    over.__qualname__, over.__doc__ = kernel.__qualname__, kernel.__doc__
    return rare(over)


def _over_chunks(call, words, lanes, *arrays):
    place = fan_out(call, words)
    step = chunk_size(call, words, lanes)
    first = next_chunk(call, words, -step, step)
    while first < lanes:
        _part(first, min(first + step, lanes), place, *arrays)
        first = next_chunk(call, words, first, step)


_part: Any = None  # of each region its own


def run(threads: int, kernel: Callable[..., None], lanes: int, *arguments: Any) -> None:
    """Runs a `region` over `lanes` lanes on that many threads. What one of them raises is raised here, when all have left."""
    if threads == 1:
        kernel(1, _NOBODY, lanes, *arguments)
        return
    with _crew.taken:
        kernel(threads, _crew.of(threads, lanes), lanes, *arguments)


class BoundRegion:
    """`run` with arrays that stay the same, `last`: what a call brings comes before them.

    numba asks for the type of every argument of every call, which for a dozen arrays of records takes longer than a lane. Here that is
    done once; a call that brings arrays of other types than the first goes the usual way. Copies and pickles have None instead: who
    made it makes it again.
    """

    def __init__(self, threads: int, kernel: Callable[..., None], lanes: int, *last: Any) -> None:
        self._threads, self._kernel, self._lanes, self._last = threads, kernel, lanes, last
        self._compiled: Any = None
        self._like: tuple[np.ndarray, ...] = ()  # what came first when `_compiled` was found

    def __call__(self, *first: np.ndarray) -> None:
        if self._compiled is None or not all(map(_alike, first, self._like)):
            run(self._threads, self._kernel, self._lanes, *first, *self._last)
            if self._compiled is None:
                self._compiled, self._like = _compiled(self._kernel, (*first, *self._last)), first
        elif self._threads == 1:
            self._compiled(1, _NOBODY, self._lanes, (*first, *self._last))
        else:
            with _crew.taken:
                self._compiled(self._threads, _crew.of(self._threads, self._lanes), self._lanes, (*first, *self._last))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def _alike(array: np.ndarray, like: np.ndarray) -> bool:
    """Whether they are of one type to numba."""
    return array is like or (array.dtype == like.dtype and array.ndim == like.ndim and array.flags.carray)


def _compiled(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """The function that the dispatcher `kernel` enters for `arguments` of a region; None where it has none of just these types."""
    if numba.config.DISABLE_JIT:
        return None
    found = kernel.overloads.get((numba.int64, numba.typeof(_NOBODY), numba.int64, numba.typeof(arguments)))
    return None if found is None else found.entry_point


class _Crew:
    """The helpers of this process and the words that they share with whoever calls them."""

    def __init__(self) -> None:
        self.taken = threading.RLock()  # by one region at a time
        self.helpers: list[threading.Thread] = []
        self.words = np.zeros(WORDS, np.int64)
        self.words[PATIENCE] = LOOKS
        self.may_grow = not numba.config.DISABLE_JIT

    def of(self, threads: int, lanes: int) -> np.ndarray:
        """The words for a region of `lanes` lanes, when there are ``threads - 1`` helpers."""
        if len(self.helpers) < threads - 1 and self.may_grow:
            self._grow(threads - 1)
        self.words[STEP] = max(FEWEST, -(-lanes // (CHUNKS * threads)))
        return self.words

    def _grow(self, helpers: int) -> None:
        if not self.helpers:
            self.words[CALLER] = _lock()
            nobody = np.zeros(WORDS, np.int64)
            nobody[QUIT] = 1
            _help(nobody, 0)  # is compiled here, where an error is seen
        for k in range(len(self.helpers), helpers):
            self.words[FIRST + APART * k + LOCK] = _lock()
            thread = threading.Thread(target=_help, args=(self.words, k), name=f"emp_gym {k + 1}", daemon=True)
            thread.start()
            self.helpers.append(thread)
            while self.words[HERE] <= k and thread.is_alive():  # it still needs the GIL
                time.sleep(1e-4)
            self.words[HELPERS] = k + 1

    def stop(self) -> None:
        """Ends the helpers; regions of a process that exits are run by their callers alone."""
        with self.taken:
            self.may_grow, self.words[QUIT] = False, 1
            for k in range(len(self.helpers)):
                ctypes.pythonapi.PyThread_release_lock(ctypes.c_void_p(int(self.words[FIRST + APART * k + LOCK])))
            for thread in self.helpers:
                thread.join()
            self.helpers, self.words[HELPERS] = [], 0


def _lock() -> int:
    """Address of a taken lock of CPython's own, which any thread may release without the GIL. It is never given back."""
    allocate, take_lock = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    allocate.restype, take_lock.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
    lock = allocate()
    take_lock(lock, 1)
    return int(lock)


def default_threads(lanes: int) -> int:
    """Threads for `lanes` lanes when the user did not say: all cores from 256 lanes on, else 1."""
    if lanes < 256:
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, numba.config.NUMBA_NUM_THREADS, lanes // 64, _most))


def limit(threads: int) -> None:
    """From now on `default_threads` gives no more in this process."""
    global _most
    _most = threads


_most = MOST
_NOBODY = np.zeros(1, np.int64)
_crew = _Crew()


def _begin_anew() -> None:
    """A forked child has none of its parent's threads, and perhaps a lock that nobody will give back."""
    global _crew
    _crew = _Crew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
atexit.register(lambda: _crew.stop())
