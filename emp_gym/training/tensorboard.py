"""Scalars for TensorBoard, without importing torch's writer (which takes two seconds)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emp_gym.extras import need

FLUSH_SECONDS = 5.0


class ScalarWriter:
    """Appends scalars to an ``events.out.tfevents`` file in `folder`.

    In this thread, not in one of its own as tensorboard's writer does it: what the disk refuses is an `OSError` here.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        """`start`: steps done so far. What an earlier file of `folder` tells of later ones was lost and is done again, so
        TensorBoard is told to forget it."""
        need("tensorboard")
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        stem, number = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}", 0
        while (path := folder / f"{stem}.{number}").exists():
            number += 1
        self._records: Any = RecordWriter(path.open("xb"))
        self._flushed = time.monotonic()
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        begins = SessionLog(status=SessionLog.START)
        self._add(Event(wall_time=time.time(), step=start + 1, session_log=begins))
        self._records.flush()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One value per tag at `step`."""
        need("tensorboard")
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._records.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._records.close()

    def _add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
