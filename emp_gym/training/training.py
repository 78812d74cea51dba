"""One training run, from configuration to report: make the environment, let the agent learn, keep curves and
checkpoints.

Whatever the agent is, its environment is metered: returns and the trade's numbers of every finished episode become
``rollout/`` and ``market/`` scalars at each iteration.
"""

from __future__ import annotations

import csv
import io
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from emp_gym import bounded
from emp_gym.agents.base import Kept, Learner, Resumable, traits
from emp_gym.data.array_files import loaded
from emp_gym.envs import snapshot
from emp_gym.envs.about import FOREIGN, about
from emp_gym.evaluation.metrics import rates
from emp_gym.governance.kill_switch.gate import Killed, heed
from emp_gym.risk.gates import Gate
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, agent_parameters
from emp_gym.runs.facts import SECONDS, curve_rows, seconds_at
from emp_gym.runs.rules import brought
from emp_gym.runs.runs import LANES, PROVENANCE, RunFolder, data_differs, provenance
from emp_gym.runs.spans import merged, trained_spans
from emp_gym.terminal.printed import command, program
from emp_gym.training.tensorboard import ScalarWriter
from emp_gym.types import ConfigError, DataError, EmpGymError

LOGGER = logging.getLogger("emp_gym.training.training")
RETURNS = "returns.npy"
"""Sums of rewards so far of the episodes under way, beside the state of the lanes in a checkpoint."""
MARKET_TAGS = {
    "pnl": "pnl",  # currency per episode, position closed at its end
    "mean_abs_inventory": "inventory",  # lots
    "max_inventory": "max_inventory",  # lots
    "fill_rate": "fill_rate",  # orders that got any fill / orders sent
    "maker_share": "maker_share",  # lots filled while resting / lots filled
    "filled": "filled",  # lots per episode
    "spread_captured": "spread_captured",  # currency per episode
    "fees": "fees",  # currency per episode
    "masked_rate": "masked",  # masked actions / decisions
    "clipped": "clipped_features",  # per episode
}
"""Numbers of an episode's summary -> TensorBoard tag below ``market/``."""


class Progress(Protocol):
    """Shows how far training is."""

    def update(self, steps: int, scalars: Mapping[str, float]) -> None: ...


class Keeper(Protocol):
    """Keeps a record of a run, or a hand on it."""

    @property
    def flags(self) -> str:
        """Of the command line with which a run goes on."""
        ...

    @property
    def word(self) -> Mapping[str, Any]:
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

    def gave(self, run: RunFolder) -> bool:
        """Whether the model in the folder of `run` is one that the run gave."""
        ...

    def cut(self, run: RunFolder, steps: int) -> None:
        """`run` was asked to stop and has, with a checkpoint after `steps` steps."""
        ...


class Interrupted(EmpGymError):
    """Training was asked to stop, and has, with a checkpoint from which it goes on as if nothing had been."""

    def __init__(self, run: RunFolder, steps: int, total: int) -> None:
        super().__init__(f"interrupted at {steps:,} of {total:,} steps; saved in {run.path}")


class Meter:
    """Collects the summaries of finished episodes from one or more environments until they are drained."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []
        self._risk = RiskMeter()

    def watch(self, gates: Sequence[Gate]) -> None:
        """Gates whose counters are to be told, too."""
        self._risk.watch(gates)

    def add(self, summary: Mapping[str, Any], lanes: np.ndarray) -> None:
        """Episodes that ended in `lanes`; `summary` holds arrays [N]."""
        self._parts.append({k: np.asarray(v)[lanes] for k, v in summary.items() if not k.startswith("_")})

    def forget(self) -> None:
        """What gates have counted so far was told before."""
        self._parts = []
        self._risk.drain()

    def drain(self) -> dict[str, float]:
        """Scalars of the episodes since the last call, of none where none ended, and of the risk layer."""
        parts, self._parts = self._parts, []
        if not parts:
            return self._risk.drain()
        episodes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        means = rates(episodes)
        scalars = {f"market/{tag}": means[name] for name, tag in MARKET_TAGS.items() if name in means}
        scalars["rollout/episodes"] = float(len(episodes["length"]))
        scalars["rollout/ep_rew_mean"], scalars["rollout/ep_len_mean"] = means["return"], means["length"]
        return scalars | self._risk.drain()


class RiskMeter:
    """Objections of the risk layer: ``risk/RULE`` since the last call, for rules that ever objected, and ``risk/latched``,
    the share of lanes that may only reduce or cancel now."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []
        self._before: Counter[str] = Counter()

    def watch(self, gates: Sequence[Gate]) -> None:
        self._gates += [gate for gate in gates if gate.counters()]

    def drain(self) -> dict[str, float]:
        """Nothing where there is no risk layer."""
        if not self._gates:
            return {}
        totals: Counter[str] = Counter()
        for gate in self._gates:
            totals.update(gate.counters())
        since = {f"risk/{rule}": float(n - self._before[rule]) for rule, n in totals.items() if n}
        self._before = totals
        return since | {"risk/latched": float(np.mean([gate.latched for gate in self._gates]))}


class MeteredVectorEnv(VectorWrapper):
    """A vector environment whose finished episodes are counted by a `Meter`; nothing else changes. `Killed` ends it.

    Their return is the sum of the rewards that came out here, wrappers included: what the agent learns from. With `state` (a file
    of `emp_gym.envs.snapshot`) the first reset begins no episodes: lanes go on from there, and so do the returns in `RETURNS`
    beside it.
    """

    def __init__(self, env: VectorEnv, meter: Meter, state: Path | None = None, returns: Path | None = None) -> None:
        super().__init__(env)
        self._meter, self._gates, self._state, self._returns = meter, backtest.gates_of(env), state, returns
        meter.watch(self._gates)
        self._return, self._length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._return[:], self._length[:] = 0.0, 0
        if self._state is None:
            return self.env.reset(seed=seed, options=options)
        state, self._state = self._state, None
        native: Any = self.env.unwrapped
        if not snapshot.fits(native, state):
            LOGGER.warning("%s: of another environment, or another version of this package: new episodes begin", state)
            return self.env.reset(seed=seed, options=options)
        answer = self.env.reset(seed=seed, options={"state": str(state)})
        self._meter.forget()
        if self._returns is not None and self._returns.exists():
            self._return[:] = _finite(self._returns, self.env.num_envs)
        return answer

    def save_returns(self, path: Path) -> None:
        """Sums of rewards of the episodes under way."""
        np.save(path, self._return, allow_pickle=False)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        heed(self._gates)
        self._return += reward
        self._length += 1
        done = terminated | truncated
        if done.any():
            lanes = np.flatnonzero(done)
            summary = info.get("final_info", info).get("summary") or {"length": self._length}
            self._meter.add({**summary, "return": self._return}, lanes)
            self._return[lanes], self._length[lanes] = 0.0, 0
        return observation, reward, terminated, truncated, info


def _finite(path: Path, lanes: int) -> np.ndarray:
    """The sums that `save_returns` left; `DataError` for another number of them, or one that is no number."""
    returns = loaded(path, np.dtype(np.float64), (lanes,))
    if not np.isfinite(returns).all():
        lane = int(np.argmin(np.isfinite(returns)))
        raise DataError(f"{path}: lane {lane}: expected a finite sum of rewards, got {returns[lane]}; go on from an earlier checkpoint")
    return returns


class Shelf:
    """The checkpoints of a run: the agent, where its lanes stand, and the keeper's seal."""

    def __init__(self, run: RunFolder, agent: Any, keeper: Keeper | None) -> None:
        self._run, self._agent, self._keeper = run, agent, keeper
        self.envs: list[VectorEnv] = []  # that the agent learns in
        self.saved = -1  # steps at the last checkpoint

    def keep(self, steps: int, *, lanes: bool = True) -> None:
        """A checkpoint after `steps` steps; `lanes`: they stand between two episodes' steps, and may go on from there."""

        def fill(folder: Path) -> None:
            (self._agent.checkpoint if isinstance(self._agent, Resumable) else self._agent.save)(folder)
            learning = [env for env in self.envs if not env.unwrapped.closed]  # one to calibrate a baseline is closed by now
            if lanes and len(learning) == 1 and about(learning[0]).kind != FOREIGN:
                self._keep_lanes(learning[0], folder / LANES)
            if self._keeper is not None:
                self._keeper.seal(folder, steps)

        self._run.checkpoint(steps, fill)
        self.saved = steps

    def _keep_lanes(self, env: VectorEnv, path: Path) -> None:
        try:
            snapshot.save(env, path)
            if isinstance(env, MeteredVectorEnv):
                env.save_returns(path.with_name(RETURNS))
        except ConfigError as error:
            LOGGER.warning("a run that goes on from this checkpoint begins new episodes: %s", error)


class Recorder:
    """The callback of `learn`: writes scalars, moves the progress bar, saves checkpoints when they are due, and the last one
    when it is asked to stop."""

    def __init__(
        self, run: RunFolder, agent: Any, config: RunConfig, meter: Meter, progress: Progress, start: int, shelf: Shelf,
        keeper: Keeper | None = None, stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._agent, self._total, self._meter, self._progress = agent, config.total_timesteps, meter, progress
        self._writer = ScalarWriter(run.path, start)
        self._curves = Curves(run.path / "curves.csv", start)
        self._before = self._curves.seconds
        self._due = _checkpoint_steps(config, start)
        self._first, self._since = start, time.monotonic()
        self._keeper, self._shelf, self._stop = keeper, shelf, stop
        self.stopped = False
        if keeper is not None:
            keeper.learned(agent)

    def __call__(self, steps: int, scalars: Mapping[str, float]) -> bool:
        seconds = max(time.monotonic() - self._since, 1e-9)
        merged = {"time/fps": (steps - self._first) / seconds, **scalars, **self._meter.drain()}
        merged[SECONDS] = self._before + seconds
        self._writer.write(steps, merged)
        self._curves.add(steps, merged)
        self._progress.update(steps, merged)
        if self._keeper is not None:
            self._keeper.learned(self._agent)
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


def train(
    config: RunConfig, folder: Path, progress: Progress, resume: Path | None = None, keeper: Keeper | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[RunFolder, Any]:  # fmt: skip
    """Trains one agent as `config` says and leaves it in `folder` (with `resume`: goes on in that run's folder from its last
    checkpoint, or from step 0). `keeper` is told of it, see there. `stop` is asked after each iteration.

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
    if keeper is not None and traits(agent).own_workers:
        raise ConfigError(f"agent {config.agent_name!r} learns in processes of its own, where no kill switch is: not with --govern")
    start = 0 if run is None else _take_up(run, agent, config, keeper)
    last = None if run is None else run.last_checkpoint()
    fresh = run is None or start < config.total_timesteps
    if run is None or start < config.total_timesteps:
        word = None if keeper is None else keeper.word
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
            _learn(run, agent, config, progress, start, keeper, stop)
    env.close()
    if fresh or (last is not None and isinstance(agent, Resumable)):  # else it was read from there, and nothing is new
        run.keep_model(agent.save)
    return run, agent


def _take_up(run: RunFolder, agent: Any, config: RunConfig, keeper: Keeper | None) -> int:
    """Steps that the run has done; `agent` is then as it was. `DataError` for files that are not those that the run kept; what an
    earlier version kept without their hashes is taken, and the run then says that nobody knows what its model learned from."""
    last, more = run.last_checkpoint(), config.total_timesteps != run.config.total_timesteps
    trained = (run.path / "model.json").exists() and (keeper is None or keeper.gave(run))
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
    run: RunFolder, agent: Any, config: RunConfig, progress: Progress, start: int, keeper: Keeper | None,
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    meter, shelf = Meter(), Shelf(run, agent, keeper)
    plain, last = backtest.training_env(config.env_id, config.env), run.last_checkpoint()
    state = None if last is None or not (last / LANES).exists() else last / LANES
    if state is not None and keeper is not None:
        state = keeper.lanes(state)

    def make_env(num_envs: int | None = None, **keywords: Any) -> VectorEnv:
        env = plain(config.num_envs or num_envs, **keywords)
        run.note_trained(trained_spans(env, keywords.get("split", "train")))
        going_on = None if shelf.envs or last is None else last / RETURNS
        env = MeteredVectorEnv(env if keeper is None else keeper.wrap(env), meter, None if shelf.envs else state, going_on)
        shelf.envs.append(env)
        return env

    rollout = traits(agent).rollout_steps
    over = -(config.total_timesteps - start) % rollout
    if over:
        LOGGER.info(
            "%s steps asked, %s will be trained: %s ends its last rollout, and one is %s steps over all lanes",
            f"{config.total_timesteps:,}", f"{config.total_timesteps + over:,}", config.agent_name, f"{rollout:,}",
        )  # fmt: skip
    recorder = Recorder(run, agent, config, meter, progress, start, shelf, keeper, stop)
    try:
        agent.learn(make_env, config.total_timesteps, recorder)
    except Killed as kill:
        if isinstance(agent, Resumable) and traits(agent).num_timesteps:
            shelf.keep(traits(agent).num_timesteps, lanes=False)  # their episodes were ended
        flags = "" if keeper is None else f" {keeper.flags}"
        raise Killed(f"{kill}; then train.py --resume {shlex.quote(str(run.path))}{flags}") from kill
    finally:
        recorder.close()
    if not shelf.envs and not traits(agent).own_workers:
        run.note_unproved(f"{config.agent_name} learned without asking for an environment (make_env)")
    if recorder.stopped and shelf.saved < config.total_timesteps:
        if keeper is not None:
            keeper.cut(run, shelf.saved)
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


__all__ = ["Interrupted", "Meter", "MeteredVectorEnv", "Recorder", "load", "train"]
