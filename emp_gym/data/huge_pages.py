"""Arrays in large pages of memory, for whoever visits all of them at random."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGE_PAGE = 1 << 21  # bytes


def zeros_in_large_pages(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """`np.zeros` that begins at a large page: whoever visits all of it at random looks less at the page table."""
    room = _large_pages(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    room[:] = 0
    return room.view(dtype).reshape(shape)


def in_large_pages(array: np.ndarray) -> np.ndarray:
    """A read-only copy."""
    room = _large_pages(array.nbytes)
    room[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    copy = room.view(array.dtype).reshape(array.shape)
    copy.setflags(write=False)
    return copy


def _large_pages(size: int) -> np.ndarray:
    """`size` bytes from a large page on; numpy asks the system for such pages from 4 MB on."""
    room = np.empty(max(size, LARGE_PAGE) + LARGE_PAGE, np.uint8)
    first = -room.ctypes.data % LARGE_PAGE
    return room[first : first + size]
