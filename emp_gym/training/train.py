"""One training run, from configuration to report: make the environment, let the agent learn, keep curves and
checkpoints.

Whatever the agent is, its environment is metered: returns and the trade's numbers of every finished episode become
``rollout/`` and ``market/`` scalars at each iteration.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from emp_gym.agents.base import Kept, Learner, Resumable, traits
from emp_gym.governance.kill_switch.gate import Killed
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, agent_parameters
from emp_gym.runs.rules import brought
from emp_gym.runs.run_folder import LANES, PROVENANCE, RunFolder, data_differs, provenance
from emp_gym.runs.spans import merged, trained_spans
from emp_gym.terminal.shell_commands import command, program
from emp_gym.training.callbacks import (
    RETURNS,
    Checkpointer,
    Progress,
    RunHooks,
    TrainingCallback,
)
from emp_gym.training.episode_statistics import EpisodeStatistics, MeteredVectorEnv
from emp_gym.types import ConfigError, DataError, EmpGymError

LOGGER = logging.getLogger("emp_gym.training.train")


class Interrupted(EmpGymError):
    """Training was asked to stop, and has, with a checkpoint from which it goes on as if nothing had been."""

    def __init__(self, run: RunFolder, steps: int, total: int) -> None:
        super().__init__(f"interrupted at {steps:,} of {total:,} steps; saved in {run.path}")


def train(
    config: RunConfig, folder: Path, progress: Progress, resume: Path | None = None, hooks: RunHooks | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[RunFolder, Any]:  # fmt: skip
    """Trains one agent as `config` says and leaves it in `folder` (with `resume`: goes on in that run's folder from its last
    checkpoint, or from step 0). `hooks` is told of it, see there. `stop` is asked after each iteration.

    An agent without `learn` is only built and saved. Raises `ConfigError` for what does not fit, before anything is
    written, and after a checkpoint `Killed` when a kill switch closes, `Interrupted` when `stop` says so.
    """
    run = RunFolder.open(resume) if resume is not None else None
    env = backtest.make_env(config.env_id, config.env, 1, split="train")
    if run is not None and (differences := data_differs(run, env)):
        raise DataError(
            f"{run.path} was trained on other data: {'; '.join(differences)}; give it the same data, or begin a new run"
        )
    agent = backtest.build(config.agent_name, env, config.seed, _agent_config(config))
    if not isinstance(agent, Kept) and isinstance(agent, Learner):
        raise ConfigError(
            f"agent {config.agent_name!r} learns and has no save(folder): what it learns could not be kept; "
            "emp_gym.agents.base.BaseAgent has it, and load"
        )
    if not isinstance(agent, Kept):
        judged = command(*program("evaluate"), "--env", config.env_id, "--agent", config.agent_name)
        raise ConfigError(
            f"agent {config.agent_name!r} has neither learn nor save: there is nothing to train or keep; to judge it: {judged}"
        )
    if hooks is not None and traits(agent).own_workers:
        raise ConfigError(f"agent {config.agent_name!r} learns in processes of its own, where no kill switch is: not with --govern")
    start = 0 if run is None else _take_up(run, agent, config, hooks)
    last = None if run is None else run.last_checkpoint()
    fresh = run is None or start < config.total_timesteps
    if run is None or start < config.total_timesteps:
        word = None if hooks is None else hooks.metadata
        if run is None:
            run = RunFolder.create(folder, config, word)
        else:
            run.go_on(config, word)
        before = run.record if start or last is not None else {"checkpoints": {}}
        learned = run.noted() if start or last is not None else []
        learned += trained_spans(env, "train") if traits(agent).own_workers else []  # others ask for it, see `_learn`
        kept = {name: before[name] for name in ("checkpoints", "unproved") if name in before}
        run.write_json(PROVENANCE, provenance(env) | kept | {"trained_on": [span.as_json() for span in merged(learned)]})
        if unknown := brought(config):
            run.note_unproved(unknown)
        if isinstance(agent, Learner):
            _learn(run, agent, config, progress, start, hooks, stop)
    env.close()
    if fresh or (last is not None and isinstance(agent, Resumable)):  # else it was read from there, and nothing is new
        run.keep_model(agent.save)
    return run, agent


def _take_up(run: RunFolder, agent: Any, config: RunConfig, hooks: RunHooks | None) -> int:
    """Steps that the run has done; `agent` is then as it was. `DataError` for files that are not those that the run kept; what an
    earlier version kept without their hashes is taken, and the run then says that nobody knows what its model learned from."""
    last, more = run.last_checkpoint(), config.total_timesteps != run.config.total_timesteps
    trained = (run.path / "model.json").exists() and (hooks is None or hooks.produced(run))
    if last is not None and isinstance(agent, Resumable):
        if not run.check_checkpoint(last):
            run.note_unproved("it went on from a checkpoint of an earlier version, whose hashes were not kept")
        agent.resume(last)
        return traits(agent).num_timesteps
    if trained and not more:
        run.check_model()
        agent.load(run.path)
        return config.total_timesteps
    if last is None and not trained:
        return 0
    raise ConfigError(
        f"agent {config.agent_name!r} cannot be resumed: it has no resume(folder); train it again with another --run-dir"
    )


def _learn(
    run: RunFolder, agent: Any, config: RunConfig, progress: Progress, start: int, hooks: RunHooks | None,
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    meter, shelf = EpisodeStatistics(), Checkpointer(run, agent, hooks)
    plain, last = backtest.training_env(config.env_id, config.env), run.last_checkpoint()
    state = None if last is None or not (last / LANES).exists() else last / LANES
    if state is not None and hooks is not None:
        state = hooks.lanes(state)

    def make_env(num_envs: int | None = None, **keywords: Any) -> VectorEnv:
        env = plain(config.num_envs or num_envs, **keywords)
        run.note_trained(trained_spans(env, keywords.get("split", "train")))
        going_on = None if shelf.envs or last is None else last / RETURNS
        env = MeteredVectorEnv(env if hooks is None else hooks.wrap(env), meter, None if shelf.envs else state, going_on)
        shelf.envs.append(env)
        return env

    rollout = traits(agent).rollout_steps
    over = -(config.total_timesteps - start) % rollout
    if over:
        LOGGER.info(
            "%s steps asked, %s will be trained: %s ends its last rollout, and one is %s steps over all lanes",
            f"{config.total_timesteps:,}", f"{config.total_timesteps + over:,}", config.agent_name, f"{rollout:,}",
        )  # fmt: skip
    recorder = TrainingCallback(run, agent, config, meter, progress, start, shelf, hooks, stop)
    try:
        agent.learn(make_env, config.total_timesteps, recorder)
    except Killed as kill:
        if isinstance(agent, Resumable) and traits(agent).num_timesteps:
            shelf.keep(traits(agent).num_timesteps, lanes=False)  # their episodes were ended
        flags = "" if hooks is None else f" {hooks.flags}"
        raise Killed(f"{kill}; then train.py --resume {shlex.quote(str(run.path))}{flags}") from kill
    finally:
        recorder.close()
    if not shelf.envs and not traits(agent).own_workers:
        run.note_unproved(f"{config.agent_name} learned without asking for an environment (make_env)")
    if recorder.stopped and shelf.saved < config.total_timesteps:
        if hooks is not None:
            hooks.interrupted(run, shelf.saved)
        raise Interrupted(run, shelf.saved, config.total_timesteps)
    if isinstance(agent, Resumable) and traits(agent).num_timesteps != shelf.saved:
        shelf.keep(traits(agent).num_timesteps, lanes=False)


def _agent_config(config: RunConfig) -> dict[str, Any]:
    """The agent's parameters, with ``--num-envs`` where the agent has such a parameter."""
    wanted = agent_parameters(config.agent_name, config.agent)
    known = backtest.registry_parameters(config.agent_name, config.agent)
    if config.num_envs is not None and known is not None and "num_envs" in known:
        wanted["num_envs"] = config.num_envs
    return wanted


def load(run: RunFolder, env_id: str, env_kwargs: Mapping[str, Any], split: str) -> Any:
    """The agent of a finished run, for `env_id`; raises `DataError` where spaces or features differ."""
    config = run.config
    env = backtest.make_env(env_id, env_kwargs, 1, split=split)
    agent = backtest.build(config.agent_name, env, config.seed, _agent_config(config))
    env.close()
    agent.load(run.path)
    return agent


__all__ = ["EpisodeStatistics", "Interrupted", "MeteredVectorEnv", "TrainingCallback", "load", "train"]
