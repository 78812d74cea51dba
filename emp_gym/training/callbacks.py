"""What happens while an agent learns: scalars, progress, checkpoints, and what a run under governance does beside it."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gymnasium.vector import VectorEnv

from emp_gym import bounded
from emp_gym.agents.base import Resumable
from emp_gym.envs import snapshot
from emp_gym.envs.about import FOREIGN, about
from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import LANES, RunFolder
from emp_gym.runs.run_metadata import SECONDS, curve_rows, seconds_at
from emp_gym.training.episode_statistics import EpisodeStatistics, MeteredVectorEnv
from emp_gym.training.tensorboard import ScalarWriter
from emp_gym.types import ConfigError

LOGGER = logging.getLogger("emp_gym.training.callbacks")


RETURNS = "returns.npy"
"""Sums of rewards so far of the episodes under way, beside the state of the lanes in a checkpoint."""


class Progress(Protocol):
    """Shows how far training is."""

    def update(self, steps: int, scalars: Mapping[str, float]) -> None: ...


class RunHooks(Protocol):
    """Keeps a record of a run, or a hand on it."""

    @property
    def flags(self) -> str:
        """Of the command line with which a run goes on."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What stands in the run's folder: where it began."""
        ...

    def wrap(self, env: VectorEnv) -> VectorEnv:
        """What is put around every environment that an agent learns in."""
        ...

    def learned(self, agent: Any) -> None:
        """`agent` decides from here on: called before it learns, and whenever it has learned something."""
        ...

    def seal(self, folder: Path, steps: int) -> None:
        """Marks a checkpoint as one of this run."""
        ...

    def lanes(self, path: Path) -> Path:
        """Where the state of lanes in file `path` is kept for good, since lanes go on from it."""
        ...

    def produced(self, run: RunFolder) -> bool:
        """Whether the model in the folder of `run` is one that the run gave."""
        ...

    def interrupted(self, run: RunFolder, steps: int) -> None:
        """`run` was asked to stop and has, with a checkpoint after `steps` steps."""
        ...


class Checkpointer:
    """The checkpoints of a run: the agent, where its lanes stand, and the seal of a run under governance."""

    def __init__(self, run: RunFolder, agent: Any, hooks: RunHooks | None) -> None:
        self._run, self._agent, self._hooks = run, agent, hooks
        self.envs: list[VectorEnv] = []  # that the agent learns in
        self.saved = -1  # steps at the last checkpoint

    def keep(self, steps: int, *, lanes: bool = True) -> None:
        """A checkpoint after `steps` steps; `lanes`: they stand between two episodes' steps, and may go on from there."""

        def fill(folder: Path) -> None:
            (self._agent.checkpoint if isinstance(self._agent, Resumable) else self._agent.save)(folder)
            learning = [env for env in self.envs if not env.unwrapped.closed]  # one to calibrate a baseline is closed by now
            if lanes and len(learning) == 1 and about(learning[0]).kind != FOREIGN:
                self._keep_lanes(learning[0], folder / LANES)
            if self._hooks is not None:
                self._hooks.seal(folder, steps)

        self._run.checkpoint(steps, fill)
        self.saved = steps

    def _keep_lanes(self, env: VectorEnv, path: Path) -> None:
        try:
            snapshot.save(env, path)
            if isinstance(env, MeteredVectorEnv):
                env.save_returns(path.with_name(RETURNS))
        except ConfigError as error:
            LOGGER.warning("a run that goes on from this checkpoint begins new episodes: %s", error)


class TrainingCallback:
    """The callback of `learn`: writes scalars, moves the progress bar, saves checkpoints when they are due, and the last one
    when it is asked to stop."""

    def __init__(
        self, run: RunFolder, agent: Any, config: RunConfig, meter: EpisodeStatistics, progress: Progress, start: int, shelf: Checkpointer,
        hooks: RunHooks | None = None, stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._agent, self._total, self._meter, self._progress = agent, config.total_timesteps, meter, progress
        self._writer = ScalarWriter(run.path, start)
        self._curves = Curves(run.path / "curves.csv", start)
        self._before = self._curves.seconds
        self._due = _checkpoint_steps(config, start)
        self._first, self._since = start, time.monotonic()
        self._hooks, self._shelf, self._stop = hooks, shelf, stop
        self.stopped = False
        if hooks is not None:
            hooks.learned(agent)

    def __call__(self, steps: int, scalars: Mapping[str, float]) -> bool:
        seconds = max(time.monotonic() - self._since, 1e-9)
        merged = {"time/fps": (steps - self._first) / seconds, **scalars, **self._meter.drain()}
        merged[SECONDS] = self._before + seconds
        self._writer.write(steps, merged)
        self._curves.add(steps, merged)
        self._progress.update(steps, merged)
        if self._hooks is not None:
            self._hooks.learned(self._agent)
        stopping = not self.stopped and steps < self._total and self._stop()
        if stopping or (self._due and steps >= self._due[0]):
            self._due = [due for due in self._due if due > steps]
            self._curves.save()
            self._shelf.keep(steps)
        self.stopped |= stopping
        return not self.stopped

    def close(self) -> None:
        self._writer.close()
        self._curves.save()


def _checkpoint_steps(config: RunConfig, start: int) -> list[int]:
    count = max(config.checkpoints, 1)
    due = [config.total_timesteps * (i + 1) // count for i in range(count)]
    return [step for step in due if step > start]


class Curves:
    """``curves.csv``: one row an iteration, a column for every scalar that was ever written. Kept whole and written
    anew, since columns appear as the first episodes end. After a resume, rows from the checkpoint on are replaced."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        if path.exists():
            self._rows = [row for row in curve_rows(path) if int(row["steps"]) <= start]

    @property
    def seconds(self) -> float:
        """That training took up to the last row."""
        return seconds_at(self._rows[-1]) if self._rows else 0.0

    def add(self, steps: int, scalars: Mapping[str, float]) -> None:
        self._rows.append({"steps": str(steps), **{tag: f"{value:.10g}" for tag, value in scalars.items()}})

    def save(self) -> None:
        tags = sorted({tag for row in self._rows for tag in row} - {"steps"})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["steps", *tags], restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        bounded.write(self._path, text.getvalue())


__all__ = ["RETURNS", "Checkpointer", "Curves", "Progress", "RunHooks", "TrainingCallback", "_checkpoint_steps"]
