"""Scalars for TensorBoard, without importing torch's writer (which takes two seconds)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class ScalarWriter:
    """Appends scalars to an ``events.out.tfevents`` file in `folder`."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder), flush_secs=5)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One value per tag at `step`."""
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._writer.close()
