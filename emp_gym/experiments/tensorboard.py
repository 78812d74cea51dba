"""Scalars for TensorBoard, without importing torch's writer (which takes two seconds)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ScalarWriter:
    """Appends scalars to an ``events.out.tfevents`` file in `folder`."""

    def __init__(self, folder: Path, start: int = 0) -> None:
        """`start`: steps done so far. What an earlier file of `folder` tells of later ones was lost and is done again, so
        TensorBoard is told to forget it."""
        import time

        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder), flush_secs=5)
        begins = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=start + 1, session_log=begins))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One value per tag at `step`."""
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._writer.close()
