"""An advisory lock of an open file, which ends with its process, however that ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def exclusive(handle: int) -> None:
        """Locks the file behind `handle`; `BlockingIOError` where another process has it."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error

else:
    import fcntl

    def exclusive(handle: int) -> None:
        """Locks the file behind `handle`; `BlockingIOError` where another process has it."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
