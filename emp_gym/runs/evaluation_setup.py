"""What is judged, as one object: configuration, agents, the runs they come from, windows, and what the environment is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import gymnasium as gym

from emp_gym.envs.about import EnvInfo, about
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.contract import broken
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.spans import Window
from emp_gym.types import DataError


def make_env(env_id: str, env_kwargs: Mapping[str, Any], num_envs: int, **more: Any) -> Any:
    """A native vector environment; keywords of `more` win."""
    return gym.make_vec(env_id, num_envs=num_envs, **{**env_kwargs, **more})


def windows(env_id: str, env_kwargs: Mapping[str, Any], config: EvaluationConfig) -> list[Window]:
    """The disjoint windows (day, row) that an evaluation uses; raises `DataError` where the split holds none."""
    env = make_env(env_id, env_kwargs, 1, split=config.split)
    try:
        return _windows(env, env_id, config)
    finally:
        env.close()


def _windows(env: Any, env_id: str, config: EvaluationConfig) -> list[Window]:
    known = about(env).windows
    if known is None:
        raise broken(env_id, ["has no windows(count), so there is nothing to judge it on"])
    found = known(config.episodes)
    if not found:
        raise DataError(
            f"the {config.split} split of {env_id} has no window long enough for one episode; shorten env.episode"
        )
    return [(int(day), int(row)) for day, row in found]


def dates_of(env: Any, chosen: Sequence[Window]) -> list[str]:
    """The date of each window, "day N" where the environment does not say."""
    tapes = about(env).days
    return [f"day {day}" if tapes is None else str(tapes.info[day].date) for day, _ in chosen]


@dataclass
class EvaluationSetup:
    """What is judged. One environment of one lane answers every question about it: it is made when the first is asked, and stands
    until `close`, or the end of a ``with``. `chosen`: windows to play instead of those that the configuration asks for."""

    config: RunConfig
    agents: Sequence[Any] = ()  # one a training seed
    runs: Sequence[RunFolder] = ()  # that they come from; none for a rule
    chosen: Sequence[Window] | None = None

    @cached_property
    def env(self) -> Any:
        """An environment on the split that is judged, to be asked and never stepped."""
        return make_env(self.config.env_id, self.config.env, 1, split=self.config.evaluation.split)

    @property
    def about(self) -> EnvInfo:
        """What the environment is."""
        return about(self.env)

    @cached_property
    def windows(self) -> list[Window]:
        """The windows that all play; `DataError` where there are none."""
        if self.chosen is not None:
            return list(self.chosen)
        return _windows(self.env, self.config.env_id, self.config.evaluation)

    @property
    def dates(self) -> list[str]:
        """Of each window."""
        return dates_of(self.env, self.windows)

    def close(self) -> None:
        """Lets go of the environment; the next question makes another one."""
        if (env := self.__dict__.pop("env", None)) is not None:
            env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["EvaluationSetup", "dates_of", "make_env", "windows"]
