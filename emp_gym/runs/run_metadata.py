"""What was run, for a report: configuration, data, commit, seeds, time, machine, trials."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emp_gym import bounded
from emp_gym.agents import registry
from emp_gym.envs.about import MARKET, about
from emp_gym.runs import hardware as machine
from emp_gym.runs.config import RunConfig
from emp_gym.runs.origin import origin_of
from emp_gym.runs.run_folder import RunFolder
from emp_gym.types import DataError

SECONDS = "time/seconds"
"""Column of ``curves.csv``: wall clock that training took so far, whatever cut it aside."""


@dataclass(frozen=True)
class RunMetadata:
    """Everything besides the results. None: not known, or of no meaning here."""

    config: RunConfig
    provenance: dict[str, Any]
    data_hash: str | None = None
    seeds: tuple[int, ...] = ()  # of training
    env_steps: int | None = None  # of training, each seed
    train_seconds: float | None = None  # mean over seeds, all pieces of a run that went on
    judge_seconds: float | None = None
    machine: str = field(default_factory=machine.described)
    trials: int | None = None  # that count against the run, from its ledger
    reward_unit: str = ""  # in words; "": the environment does not say it
    market: bool = False  # a book of ours, so that fills, latency and impact mean something
    foreign: Mapping[str, Any] | None = None  # what trades are against where that is somebody else's: {market, its keywords}
    trained: Mapping[str, Any] | None = None  # `origin_of` what was judged; None for a rule

    def as_json(self) -> dict[str, Any]:
        """For ``evaluation.json``."""
        return {
            "data_hash": self.data_hash,
            "settings": {key: value for key, value in self.config.env.items() if key != "data"},
            "market": self.foreign,
            "baselines": list(registry.baselines(self.config.env_id, self.config.env)),
            "agent_config": self.config.agent,
            "split": self.config.evaluation.split,
            "training_seeds": list(self.seeds),
            "trained": self.trained,
            "total_timesteps": self.env_steps,
            "train_seconds": self.train_seconds,
            "judge_seconds": self.judge_seconds,
            "machine": self.machine,
            "trials": self.trials,
            "commit": self.provenance.get("commit"),
        }


def gather(
    config: RunConfig, runs: Sequence[RunFolder], provenance: dict[str, Any], env: Any, judge_seconds: float | None = None
) -> RunMetadata:  # fmt: skip
    """The facts of `runs`, one a training seed (none for an agent that was not trained); `env` is one they were judged in."""
    learned = [told for run in runs if (told := learning_time(run.path / "curves.csv")) is not None]
    counted = [count for run in runs if (count := trials(run)) is not None]
    known = about(env)
    return RunMetadata(
        config,
        provenance,
        data_hash=known.data_hash,
        seeds=tuple(run.as_trained.seed for run in runs),
        env_steps=max((steps for steps, _ in learned), default=None),
        train_seconds=sum(seconds for _, seconds in learned) / len(learned) if learned else None,
        judge_seconds=judge_seconds,
        trials=max(counted, default=None),
        reward_unit=known.reward_unit,
        market=known.kind == MARKET,
        foreign={"market": known.market, **known.market_setting} if known.market else None,
        trained=origin_of(runs),
    )


def learning_time(curves: Path) -> tuple[int, float] | None:
    """(steps done, seconds that they took) as the last row of ``curves.csv`` has it; None without one.

    The pieces of a run that was cut and went on are added up; what was done after the checkpoint from which it went on is not in
    the agent, and its time is not in here.
    """
    if not curves.exists():
        return None
    rows = [row for row in curve_rows(curves) if row.get(SECONDS) or row.get("time/fps")]
    return (int(rows[-1]["steps"]), seconds_at(rows[-1])) if rows else None


def curve_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a ``curves.csv``: steps, and numbers or nothing; `DataError` where they are something else."""
    text = bounded.text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        for row in rows:
            if not 0 <= int(row["steps"]) < 1 << 63:
                raise ValueError(f"{row['steps'][:40]} steps")
            deque((float(value) for value in row.values() if value), maxlen=0)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: not the curves of a run ({error}); remove it, and they begin anew") from error
    return rows


def seconds_at(row: Mapping[str, str]) -> float:
    """Seconds of training up to a row of ``curves.csv``; of a file of an earlier version: since it last went on."""
    if row.get(SECONDS):
        return float(row[SECONDS])
    speed = float(row.get("time/fps") or 0.0)
    return int(row["steps"]) / speed if speed > 0 else 0.0


def trials(run: RunFolder) -> int | None:
    """How many trials count against what `run` gave, itself included: all of its ledger where it has given no version yet. None
    where nobody counted, or not here."""
    told = run.governance
    ledger_path = Path(told.get("folder", "")) / "ledger.log"
    if not told or not ledger_path.is_file():
        return None
    from emp_gym.governance.ledger.ledger import Ledger
    from emp_gym.governance.log.reader import LogReader
    from emp_gym.governance.promotion.evidence import count_trials

    with LogReader(ledger_path) as reader:
        if reader.log_id != told.get("log_id"):
            return None
        state = Ledger(reader, clock=lambda: 0).state
    given = [version for version in state.versions.values() if version.trial == told.get("trial")]
    return max((count_trials(state, version) for version in given), default=len(state.trials))


def lines(facts: RunMetadata) -> tuple[str, ...]:
    """The statements of "What was run"."""
    config, data = facts.config, facts.provenance.get("data") or []
    versions = ", ".join(f"{name} {version}" for name, version in facts.provenance.get("versions", {}).items())
    told = [
        f"agent `{config.agent_name}`, {_given(config.agent)}",
        f"environment `{config.env_id}`, {_given(config.env)}",
    ]
    if facts.foreign is not None:
        told.append(_value("", facts.foreign)[1:-1])
    if facts.market and facts.foreign is None:
        told.append("own fills, latency, impact and fees stand above; what they are worth: `scripts/evaluate.py ... --fidelity`")
    if data:
        told.append(f"data: {len(data)} day{'s' if len(data) > 1 else ''} in all, named above; hash `{facts.data_hash}`")
    told.append(_training(facts))
    told.append(
        f"evaluation: split `{config.evaluation.split}`, bootstrap seed {config.evaluation.seed}, "
        f"{config.evaluation.resamples:,} resamples" + _seconds(facts.judge_seconds, ", {} with all baselines")
    )
    told.append(
        "trials: not counted (a run with `--govern LOGDIR` counts them)"
        if facts.trials is None
        else f"trials: {facts.trials} count against this one in its ledger; the result is not deflated by them here"
    )
    told.append(f"machine: {facts.machine}; seconds are wall clock, other programs included")
    told.append(f"commit {facts.provenance.get('commit') or 'unknown'}; {versions}")
    return tuple(told)


def _training(facts: RunMetadata) -> str:
    if not facts.seeds or facts.env_steps is None:
        return "training: none"
    seeds = f"seed{'s' if len(facts.seeds) > 1 else ''} {', '.join(map(str, facts.seeds))}"
    wanted = facts.config.total_timesteps
    asked = "" if facts.env_steps == wanted else f" ({wanted:,} asked)"
    return f"training: {facts.env_steps:,} environment steps{asked}, {seeds}" + _seconds(facts.train_seconds, ", {} a seed")


def _seconds(seconds: float | None, text: str) -> str:
    return "" if seconds is None else text.format(f"{seconds:,.0f} s")


def _given(keywords: Mapping[str, Any]) -> str:
    """Parameters in words; of risk limits how many there are, since ``config.json`` has them."""
    return ", ".join(f"{key} {_value(key, value)}" for key, value in keywords.items()) if keywords else "with its defaults"


def _value(key: str, value: Any) -> str:
    if key == "gates" and isinstance(value, list | tuple):
        return " and ".join(_gate(gate) for gate in value) or "none"
    if key == "data":
        several = list(value) if isinstance(value, list | tuple) else [value]
        return ", ".join(f"`{one}`" for one in several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_value(name, part)}" for name, part in value.items()) + ")"
    if isinstance(value, list | tuple):
        return "/".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _gate(gate: Any) -> str:
    if not isinstance(gate, Mapping):
        return f"`{gate}`"
    groups = gate["limits"] if isinstance(gate.get("limits"), Mapping) else {}
    limits = sum(len(group) for group in groups.values() if isinstance(group, Mapping))
    own = [f"{name} {_value(name, part)}" for name, part in gate.items() if name != "gate" and not (name == "limits" and limits)]
    own += [f"{limits} limits, in `config.json`"] if limits else []
    return f"{gate.get('gate', 'a gate')}" + (f" ({', '.join(own)})" if own else "")
