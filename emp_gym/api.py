"""EMP Gym from Python: what the commands do, as functions. ``import emp_gym`` has them all: ``emp_gym.train("emp-lob-v0")``.

Nothing is printed but progress on stderr; errors are `EmpGymError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast

import gymnasium as gym

from emp_gym.agents.base import Agent, Learner, traits
from emp_gym.agents.hyperparams import preset
from emp_gym.extras import need
from emp_gym.reports import report
from emp_gym.reports.preface import introduce
from emp_gym.runs import backtest as judging
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import RunConfig, override, remember, validate
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.run_metadata import curve_rows
from emp_gym.terminal.console import ProgressBar
from emp_gym.terminal.interrupts import Interrupts
from emp_gym.training import train as training
from emp_gym.training.certify import Certificate
from emp_gym.training.certify import certify as certified
from emp_gym.training.distributed import named
from emp_gym.types import ConfigError, RunLog

if TYPE_CHECKING:
    from pandas import DataFrame

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
"""What a parameter of an agent or an environment may be: what JSON holds."""
Callback = Callable[[int, Mapping[str, float]], bool | None]
"""Called with the steps so far and the newest scalars; False ends training there, with a checkpoint."""


@dataclass(frozen=True)
class Run:
    """A run folder with a trained agent."""

    path: Path

    @property
    def config(self) -> RunConfig:
        """How it was made."""
        return RunFolder.open(self.path).config

    @property
    def agent(self) -> Agent:
        """The agent as it left training, read anew each time."""
        run, config = RunFolder.open(self.path), self.config
        return cast(Agent, training.load(run, config.env_id, config.env, config.evaluation.split))

    @property
    def curves(self) -> list[dict[str, float]]:
        """One row an iteration: steps, and every scalar that was told."""
        path = self.path / "curves.csv"
        return [{name: float(value) for name, value in row.items() if value} for row in curve_rows(path)] if path.exists() else []

    def to_pandas(self) -> DataFrame:
        """`curves`, with the steps as index."""
        need("pandas")
        import pandas

        rows = self.curves
        return pandas.DataFrame(rows).set_index("steps") if rows else pandas.DataFrame()


@dataclass(frozen=True)
class Report:
    """An agent beside its baselines on identical windows; in a notebook it shows itself as a table."""

    comparison: Comparison
    logs: tuple[RunLog, ...]  # of the agent, one a training seed
    baselines: Mapping[str, RunLog]

    @property
    def verdict(self) -> str:
        """What may be said of it, in words."""
        return report.verdict(self.comparison)

    def to_pandas(self) -> DataFrame:
        """P&L of every window: a row each, a column for the agent and for every baseline (means over training seeds)."""
        need("pandas")
        import pandas

        one = self.comparison
        index = pandas.MultiIndex.from_arrays([one.days, [row for _, row in one.windows]], names=["date", "start"])
        return pandas.DataFrame({row.name: row.episodes[one.judged].mean(axis=0) for row in one.rows}, index=index)

    def _repr_html_(self) -> str:
        one, parts = self.comparison, [f"<p><strong>{escape(self.verdict)}</strong></p>"]
        lines = () if one.preface is None else one.preface.lines
        parts += [f"<p>{escape(label)}: {escape(text)}</p>" for label, text in lines]
        for currency, part in one.by_currency.items() or [("", one)]:
            titles, rows = report.told_columns(report.money_titles(part), [report.money_cells(row) for row in part.rows])
            parts += [f"<p>{escape(currency)}</p>"] if currency else []
            parts.append(f"<table>{_row('th', titles)}{''.join(_row('td', row) for row in rows)}</table>")
        return "".join(parts)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def train(
    env: str, agent: str = "ppo", *, total_timesteps: int | None = None, seed: int = 0, num_envs: int | None = None,
    agent_kwargs: Mapping[str, Value] | None = None, env_kwargs: Mapping[str, Value] | None = None,
    folder: str | PathLike[str] | None = None, callback: Callback | None = None,
) -> Run:  # fmt: skip
    """Trains `agent` in `env` into `folder` (default: a new one below ``runs/``). Budget and parameters are the agent's preset for the
    environment, with those given on top, as on the command line. Ctrl-C, or a `callback` that returns False, saves a checkpoint and
    raises `emp_gym.training.train.Interrupted`."""
    asked = override(RunConfig(env, agent, seed=seed, num_envs=num_envs), {"agent": agent_kwargs or {}, "env": env_kwargs or {}})
    budget, parameters = preset(agent, env, asked.agent)
    config = replace(asked, total_timesteps=total_timesteps or budget, agent={**parameters, **asked.agent})
    config = validate(config)
    path = RunFolder.free(Path("runs"), config) if folder is None else Path(folder)
    bars = ProgressBar(config.total_timesteps, f"training {agent}")
    with Interrupts("stopping after this rollout; once more ends it at once") as stop, bars as bar:
        told = _Told(bar, callback)
        training.train(config, path, told, stop=lambda: stop() or told.ended)
    return Run(path)


class _Told:
    """A bar and a callback as one."""

    def __init__(self, bar: ProgressBar, callback: Callback | None) -> None:
        self._bar, self._callback, self.ended = bar, callback, False

    def update(self, steps: int, scalars: Mapping[str, float]) -> None:
        self._bar.update(steps, scalars)
        self.ended |= self._callback is not None and self._callback(steps, scalars) is False


def load_run(folder: str | PathLike[str]) -> Run:
    """The run in `folder`; `DataError` where there is none."""
    return Run(RunFolder.open(Path(folder)).path)


def evaluate(
    run_or_agent: Run | str, env: str | None = None, *, episodes: int | None = None, split: str = "test",
    baselines: Sequence[str] | None = None, agent_kwargs: Mapping[str, Value] | None = None,
    env_kwargs: Mapping[str, Value] | None = None, record: bool = False,
) -> Report:  # fmt: skip
    """A run, or an agent by name that needs no training, beside its baselines on windows that all of them play. With `record` the
    logs have tables: steps, orders, fills, verdicts."""
    with _setup(run_or_agent, env, episodes, split, baselines, agent_kwargs, env_kwargs) as setup:
        comparison, logs, others = judging.judge(setup, record=record)
        return Report(introduce(comparison, setup), tuple(logs), others)


def backtest(
    run_or_agent: Run | str, env: str | None = None, *, episodes: int | None = None, split: str = "test",
    agent_kwargs: Mapping[str, Value] | None = None, env_kwargs: Mapping[str, Value] | None = None,
) -> RunLog:  # fmt: skip
    """The same agent alone, with all that it did: the tables of a run log."""
    with _setup(run_or_agent, env, episodes, split, (), agent_kwargs, env_kwargs) as setup:
        return judging.played(setup, setup.agents[0], record=True)


def _setup(
    run_or_agent: Run | str, env: str | None, episodes: int | None, split: str, baselines: Sequence[str] | None,
    agent_kwargs: Mapping[str, Value] | None, env_kwargs: Mapping[str, Value] | None,
) -> EvaluationSetup:  # fmt: skip
    run = run_or_agent if isinstance(run_or_agent, Run) else None
    if run is None and env is None:
        raise ConfigError("env is missing: in which environment? e.g. evaluate('symmetric', 'emp-lob-v0')")
    if run is not None and agent_kwargs:
        raise ConfigError("agent_kwargs belong to an agent by name; the parameters of a run are those that it was trained with")
    base = RunConfig(agent_name=str(run_or_agent)) if run is None else run.config
    judged: dict[str, Value] = {"split": split, **({} if episodes is None else {"episodes": episodes})}
    judged |= {} if baselines is None else {"baselines": baselines}
    tree = {"agent": agent_kwargs or {}, "env": env_kwargs or {}, "evaluation": judged}
    config = validate(override(base if env is None else replace(base, env_id=env), tree))
    if run is not None:
        folder = RunFolder.open(run.path)
        return EvaluationSetup(config, [training.load(folder, config.env_id, config.env, split)], [folder])
    remember(config, "emp_gym.api")
    setup = EvaluationSetup(config)
    agent = named(config, setup.env)
    if isinstance(agent, Learner) and not traits(agent).learns_first:
        setup.close()
        raise ConfigError(f"{run_or_agent} has learned nothing yet; expected a run: evaluate(train({env!r}, {run_or_agent!r}))")
    setup.agents = [agent]
    return setup


def certify(
    agent: str, env: str, *, seeds: Sequence[int] = (0,), total_timesteps: int | None = None,
    agent_kwargs: Mapping[str, Value] | None = None,
) -> Certificate:  # fmt: skip
    """How near `agent` comes to the known optimum of the certificate `env`."""
    return certified(agent, env, seeds, total_timesteps=total_timesteps, config=agent_kwargs)


def make(env: str, **keywords: Value) -> gym.Env[object, object]:
    """``gym.make``."""
    return gym.make(env, **keywords)  # type: ignore[arg-type]


def make_vec(env: str, num_envs: int = 1, **keywords: Value) -> gym.vector.VectorEnv[object, object, object]:
    """``gym.make_vec``: lanes that run natively."""
    return gym.make_vec(env, num_envs=num_envs, **keywords)  # type: ignore[arg-type]


__all__ = ["Report", "Run", "backtest", "certify", "evaluate", "load_run", "make", "make_vec", "train"]
