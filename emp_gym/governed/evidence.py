"""Evidence is executed, not handed in: a registered version goes in by name, the table of its episodes comes out.

    ledger.enter(version, Execution(registry, config))
    differences = execute_again(registry, seq)  # the recorded table against what the same files and data give now

An evaluation loads the version's files through the registry, plays its windows, the baselines' and the champion's on the
same, labels each episode with the regime at its first row, and hashes everything that it used: days as they were replayed,
configuration, installed packages. Same files, data, packages and machine: same table, to the last unit of 1e-8 currency.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import distributions
from platform import python_version
from typing import Any

import numpy as np

from emp_gym import bounded, trust
from emp_gym.data.tape.format import rules_of
from emp_gym.envs.about import about
from emp_gym.envs.base_env import Published
from emp_gym.evaluation.assumptions import Fees
from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger.record import CASH, LARGEST, STAGES, Version, fees_payload, setting
from emp_gym.governance.ledger.registry import Registry
from emp_gym.risk.reasons import Check
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig, parsed, question, remember
from emp_gym.runs.data_check import before_evidence
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import CONFIG, RunFolder, commit
from emp_gym.runs.spans import Window, lot_price
from emp_gym.training import train
from emp_gym.trust import Untrusted
from emp_gym.types import I8, Bool, ConfigError, DataError, RunLog

CONTROLS = np.uint64((1 << Check.DAILY_LOSS) - 1)  # reason bits of limits that an order can break
PLAYED = ("days", "windows", "policies", "setting", "seed", "split")  # what must come out again

Label = Callable[[Any], I8]
"""`Regime` of every row of a `TapeSet` [R]."""


def regimes(tape_set: Any) -> I8:
    """The house's causal labels."""
    from emp_gym.sensory.regime import label

    return label(tape_set)


def _labeller(label: Label) -> str:
    """Which labels were used: the house's with the hash of its constants, or a function of somebody else."""
    if label is not regimes:
        return f"{getattr(label, '__module__', '')}:{getattr(label, '__qualname__', label)}"
    from emp_gym.sensory.regime import DEFAULT

    return f"emp_gym.sensory.regime {hashlib.sha256(repr(DEFAULT).encode()).hexdigest()[:12]}"


@dataclass
class ObjectionCounter:
    """Counts what gates objected to while an agent played, and control limits broken by an order that was sent."""

    breaches: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def __call__(self, env: Any, running: Bool) -> None:
        """After a step of `env`; only lanes `running` [N] count."""
        for verdicts in env.unwrapped.last_verdicts if isinstance(env.unwrapped, Published) else ():
            if not verdicts.touched:
                continue
            reason = verdicts.reason[running]
            before, after = verdicts.quantity_before[running], verdicts.quantity_after[running]
            self.breaches += int(np.count_nonzero((before > 0) & (after == before) & (reason & CONTROLS != 0)))
            for bit in range(64):
                count = int(np.count_nonzero(reason >> np.uint64(bit) & np.uint64(1)))
                if count:
                    self.reasons[f"bit {bit}"] = self.reasons.get(f"bit {bit}", 0) + count


class Execution:
    """Executes evaluations as `config` says (its environment, data, split, windows and seed), for `Ledger.enter`.

    The environment's own baselines are played always, and once for all versions that are asked for. `label` gives the
    regime of each row; None: `regimes`. `wrap(env, version)` is put around the environments in which versions play; it must
    change nothing that is sent.
    """

    def __init__(
        self, registry: Registry, config: RunConfig, label: Label | None = None,
        wrap: Callable[[Any, str], Any] | None = None,
    ) -> None:  # fmt: skip
        self.registry, self.label, self.wrap = registry, label or regimes, wrap
        self.config = replace(config, evaluation=replace(config.evaluation, baselines=None))
        self._setup = EvaluationSetup(self.config)

    def __call__(self, version: Version) -> dict[str, Any]:
        """The payload of an evaluation of `version`, with the champions of its environment on the same windows."""
        state, now = self.registry.ledger.state, self.registry.ledger.now
        there = [state.champion(stage, now, self.config.env_id) for stage in STAGES[1:]]
        return self.play(version, sorted({c.version for c in there if c is not None} - {version.version}))

    def play(self, version: Version, champions: Sequence[str]) -> dict[str, Any]:
        """The same with champions of the caller's choice."""
        remember(self.config, f"evaluation of {version.name}")  # who executes it again here is not asked
        with self._setup:
            return self._payload(version, champions)

    def _payload(self, version: Version, champions: Sequence[str]) -> dict[str, Any]:
        judged = self.config.evaluation
        policies = [self._policy(version.version, "candidate"), *(self._policy(name, "champion") for name in champions)]
        return {
            "version": version.version,
            "setting": setting(self.config.env_id, self.config.env),
            "data": json.dumps(self.config.env.get("data")),
            "split": judged.split,
            "seed": judged.seed,
            **self._where,
            "policies": [
                *(policy for policy in policies if policy is not None),
                *(row for row in self._baselines if row["name"] != version.agent),
            ],
            "labeller": _labeller(self.label),
            "config": self.registry.keep(json.dumps(asdict(self.config), sort_keys=True)),
            "lock": self.registry.keep(installed()),
            "commit": commit() or "",
        }

    @property
    def _chosen(self) -> list[Window]:
        return self._setup.windows

    @cached_property
    def _where(self) -> dict[str, Any]:
        """Days and windows, each with the regime at its first row: known when the episode begins."""
        env = self._setup.env
        tape_set, days = env.unwrapped.tape_set, sorted({day for day, _ in self._chosen})
        before_evidence(tape_set)
        labels = self.label(tape_set)
        windows = {
            "day": [days.index(day) for day, _ in self._chosen],
            "start": [row for _, row in self._chosen],
            "regime": [int(labels[tape_set.day_slice(day)][row]) for day, row in self._chosen],
        }
        return {"days": [day_of(env, day) for day in days], "windows": windows}

    @cached_property
    def _baselines(self) -> list[dict[str, Any]]:
        config = self.config
        logs, _ = backtest.run_baselines(config.env_id, config.env, self._chosen, config.evaluation, asked=self._setup.env)
        return [_row(name, "baseline", log, ObjectionCounter()) for name, log in logs.items()]

    def _policy(self, version: str, role: str) -> dict[str, Any] | None:
        """What a registered version does; None for a champion that cannot act here. Where it had to be beaten, the guard
        says that it is missing."""
        config, judged = self.config, self.config.evaluation
        run = RunFolder(self.registry.load(version))
        try:
            agent = train.load(run, config.env_id, config.env, judged.split)
        except Untrusted:
            raise
        except (DataError, ConfigError):
            if role == "candidate":
                raise
            return None
        watch, wrap = ObjectionCounter(), self.wrap
        log = backtest.evaluate(
            agent, config.env_id, config.env, self._chosen, judged.seed, judged.split, watch,
            None if wrap is None else lambda env: wrap(env, version),
        )  # fmt: skip
        return _row(version, role, log, watch)


def execute_again(registry: Registry, seq: int, label: Label | None = None) -> list[str]:
    """What differs between the evaluation at entry `seq` and its execution here and now; nothing where it holds.

    `LedgerError` where files or data are no longer those that were recorded, or cannot be found.
    """
    trust.ask_all(questions(registry, seq))
    recorded = registry.ledger.log.entry(seq).value
    version = registry.ledger.find(recorded["version"])
    config, _ = _configured(registry, seq)
    companions = [policy["name"] for policy in recorded["policies"] if policy["role"] == "champion"]
    try:
        found = Execution(registry, config, label).play(version, companions)
    except DataError as error:
        raise LedgerError(f"entry {seq} cannot be executed again: {error}") from error
    known = set(recorded["days"][0])  # an entry of an earlier version says less of a day
    found["days"] = [{name: value for name, value in day.items() if name in known} for day in found["days"]]
    return [text for name in PLAYED for text in _differences(recorded[name], found[name], name)]


def questions(registry: Registry, seq: int) -> list[trust.Question]:
    """Of all that the evaluation at entry `seq` names, its policies' folders included."""
    policies = registry.ledger.log.entry(seq).value["policies"]
    versions = [policy["name"] for policy in policies if policy["role"] in ("candidate", "champion")]
    runs = [RunFolder(registry.artefacts / registry.ledger.find(name).version) for name in versions]
    known = [one for run in runs if (run.path / CONFIG).exists() for one in run.questions()]
    return [question(*_configured(registry, seq)), *known]


def _configured(registry: Registry, seq: int) -> tuple[RunConfig, str]:
    """The configuration of the evaluation at entry `seq`, of which nothing may be made before it was asked about, and where it is."""
    where = f"{registry.ledger.log.path}, configuration of entry {seq}"
    told = bounded.loads(registry.text(registry.ledger.log.entry(seq).value["config"]), where, numbers=True)
    if not isinstance(told, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(told).__name__}")
    return parsed(told, where), where


def _differences(recorded: Any, found: Any, where: str) -> Iterator[str]:
    """The first place in each column where two payloads differ."""
    if isinstance(recorded, Mapping) and isinstance(found, Mapping) and set(recorded) == set(found):
        where = f"{where} {recorded['name'][:12]}" if "name" in recorded else where
        for name, value in recorded.items():
            yield from _differences(value, found[name], f"{where}.{name}")
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        differing = [i for i, pair in enumerate(zip(recorded, found)) if pair[0] != pair[1]]
        if differing and not isinstance(recorded[0], Mapping):
            i = differing[0]
            yield f"{where}[{i}] is {recorded[i]} in the record, {found[i]} when executed ({len(differing)} differ)"
        elif differing:
            for i in differing:
                yield from _differences(recorded[i], found[i], where)
    elif recorded != found:
        yield f"{where} is {recorded!r:.80} in the record, {found!r:.80} when executed"


def _row(name: str, role: str, log: RunLog, watch: ObjectionCounter) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "pnl_e8": [round(float(pnl) * CASH) for pnl in log.episodes["pnl"]],
        "decisions": [int(length) for length in log.episodes["length"]],
        "breaches": watch.breaches,
        "reasons": watch.reasons,
    }


def day_of(env: Any, day: int) -> dict[str, Any]:
    """A day of `env` for the record: `content` is the hash of what is replayed, its instrument included and whatever its files are
    called, `rows` that of messages and book alone."""
    tape_set = env.unwrapped.tape_set
    info = tape_set.info[day]
    files = [info.source[half]["sha256"] for half in ("message", "orderbook") if "sha256" in info.source.get(half, {})]
    return {
        "symbol": info.instrument.symbol,
        "date": info.date,
        "content": _content(tape_set, day, json.dumps(rules_of(info.instrument), sort_keys=True)),
        "rows": _content(tape_set, day),
        "currency": info.instrument.currency,
        "fees": fees_payload(Fees.of(info.instrument)),
        **({"price_e8": price} if 0 < (price := round(lot_price(tape_set, day) * CASH)) <= LARGEST else {}),
        "files": files,
        "synthetic": info.synthetic,
    }


def _content(tape_set: Any, day: int, instrument: str = "") -> str:
    """SHA-256 of `instrument`, messages and book of a day."""
    own, base = tape_set.day_slice(day), int(tape_set.days[day]["base"])
    digest = hashlib.sha256(instrument.encode())
    messages, book = tape_set.messages[own], tape_set.book[own]
    columns = [messages[name] for name in ("time_ns", "price", "size", "kind", "side")]
    for column in (
        *columns,
        book["price"].astype(np.int64) + base,
        book["size"],
    ):  # fields: gaps between them hold anything
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def trial_payload(registry: Registry, config: RunConfig) -> dict[str, Any]:
    """What is noted of a training run before it begins."""
    env = backtest.make_env(config.env_id, config.env, 1, split="train")
    if about(env).days is None:
        raise ConfigError(f"{config.env_id} has no recorded days, so there is nothing to govern; train it without --govern")
    days = sorted({int(day) for day, _ in env.unwrapped.windows()})
    described = [day_of(env, day) for day in days]
    env.close()
    return {
        "agent": config.agent_name,
        "config": registry.keep(json.dumps(asdict(config), sort_keys=True)),
        "days": described,
        "seed": config.seed,
        "setting": setting(config.env_id, config.env),
        "steps": config.total_timesteps if _learns(config) else 0,
    }


def _learns(config: RunConfig) -> bool:
    from emp_gym.agents import registry as agents
    from emp_gym.agents.base import Learner

    return issubclass(agents.find(config.agent_name), Learner)


def installed() -> str:
    """Every installed distribution with its version, one a line: the lock file of what ran."""
    found = {f"{d.metadata['Name'].lower()}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return "\n".join((f"python=={python_version()}", *sorted(found))) + "\n"
