"""A search: generations of trials, successive halving on environment steps, every trial counted and kept.

A generation begins ``population * halving`` trials. All of them learn for a quarter of the budget with one seed; the first
1/`halving` of them, in NSGA-II's own order (fronts, then crowding), go on to the whole budget with every seed and are *complete*, the
others are *pruned*. Those that are complete are the parents' pool. So what is pruned costs budget / 4 steps, and a generation leaves
exactly `population` new candidates for parents. (Optuna's pruners know one objective only.)

What a generation draws depends on the seed of the search, on the trials before it, and on nothing else: not on the number of
workers, nor on the order in which they finish, nor on where a process was killed. What was running then is taken up again as the
trial that it was; what is done is in its file and is not done twice.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import commit
from emp_gym.search import pareto, plans, store
from emp_gym.search.jobs import JobResult, Objectives, TrainingJob, objectives, work
from emp_gym.search.plans import HalvingRung, SearchPlan
from emp_gym.search.samplers import SAMPLERS
from emp_gym.search.space import FlatSpace, Genome, Space
from emp_gym.search.store import ResultStore
from emp_gym.training.executors import Executor
from emp_gym.types import F64, ConfigError, DataError

CONSTRAINT = "no worse than doing nothing"


@dataclass(frozen=True)
class Record:
    """A trial, as it is told."""

    number: int
    state: str  # "complete", "pruned", "failed" or "running"
    genome: Genome
    objectives: tuple[float, ...]  # means over the seeds of its last rung; empty where there are none
    values: tuple[float, ...]  # of each of these seeds
    steps: int  # of its last rung, a seed
    env_steps: int  # that it used itself: what an earlier trial had done already costs nothing
    reason: str  # why it was pruned or failed


class Listener(Protocol):
    """Is told how a search goes."""

    def begins(self, unit: TrainingJob) -> None:
        """A training run is about to begin."""
        ...

    def did(self, env_steps: int) -> None:
        """A training run has come to an end."""
        ...

    def told(self, record: Record) -> None:
        """A trial is decided."""
        ...

    def chose(self, finalists: Sequence[Record]) -> None:
        """All trials are decided; these are about to be trained with more seeds."""
        ...


class Silent:
    """Listens to nothing."""

    def begins(self, unit: TrainingJob) -> None:
        """Says nothing."""

    def did(self, env_steps: int) -> None:
        """Says nothing."""

    def told(self, record: Record) -> None:
        """Says nothing."""

    def chose(self, finalists: Sequence[Record]) -> None:
        """Says nothing."""


class Search:
    """A study and what drives it. Hold `store.driving(folder)` around `run`."""

    def __init__(self, folder: Path, study: optuna.Study, plan: SearchPlan, space: Space) -> None:
        self.folder, self.study, self.plan, self.space = folder, study, plan, space
        self.cells = ResultStore(folder)
        self.objectives: Objectives = objectives(plan.base)
        self._units: dict[tuple[int, HalvingRung], list[TrainingJob]] = {}

    @classmethod
    def create(cls, folder: Path, plan: SearchPlan, space: Space | None = None) -> Search:
        """A new study; `ConfigError` where one is already, or where something does not fit, before anything is written."""
        space = FlatSpace(plan.base, plan.table) if space is None else space
        measured = objectives(plan.base)
        name = f"{plan.env_id.rpartition(':')[2]}-{plan.agent_name.rpartition(':')[2]}-{plan.sampler}-seed{plan.seed}"
        attributes = {"plan": asdict(plan), "space": [list(line) for line in space.describe()], "batches": [], "commit": commit()}
        named = dict(zip(measured.names, measured.directions))
        plans.remember(plan, folder)
        study = store.create(folder, name, named, attributes)
        return cls(folder, study, plan, space)

    @classmethod
    def load(cls, folder: Path, *, trials: int | None = None, space: Space | None = None) -> Search:
        """The study in `folder`, to go on or to look at; `trials`: in all, if there are to be more."""
        study = store.load(folder)
        plan = plans.read(SearchPlan, study, folder, flat=space is None)
        if trials is not None and trials != plan.trials:
            if trials < plan.trials:
                raise ConfigError(f"--trials {trials}: {folder} was begun for {plan.trials}, and trials are not taken back")
            plan = replace(plan, trials=trials)
            study.set_user_attr("plan", asdict(plan))
        return cls(folder, study, plan, FlatSpace(plan.base, plan.table) if space is None else space)

    # ---- going on

    def run(self, engine: Executor, hear: Listener) -> None:
        """Goes on until all trials of the plan are decided. May be broken off anywhere, by anything."""
        self._drop_half_drawn()
        while True:
            batches: list[int] = self.study.user_attrs["batches"]
            for first, end in zip([0, *batches], batches):
                self._draw(end)
                self._play_generation(self._born()[first:end], engine, hear)
            first = batches[-1] if batches else 0
            if first >= self.plan.trials:
                finalists = self.finalists()
                hear.chose(finalists)
                deque(self.play([unit for one in finalists for unit in self.final_units(one)], engine, hear), maxlen=0)
                return
            self.study.set_user_attr("batches", [*batches, min(first + self.plan.generation, self.plan.trials)])

    def _born(self) -> list[FrozenTrial]:
        """Trials that have a genome, in order."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if "genome" in trial.user_attrs]

    def _drop_half_drawn(self) -> None:
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING and "genome" not in trial.user_attrs:
                half = optuna.Trial(self.study, trial._trial_id)
                half.set_user_attr("reason", "the search was killed while it was drawn")
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _draw(self, count: int) -> None:
        """Draws trials until there are `count`. Each has a generator of its own, so it does not matter when it is drawn."""
        for place in range(len(self._born()), count):
            seed = int(np.random.SeedSequence([self.plan.seed, place]).generate_state(1)[0])
            self.study.sampler = SAMPLERS[self.plan.sampler](self.plan.population, seed)
            if place == 0 and self.plan.start and not self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
                self.study.enqueue_trial(dict(self.space.start()))
            trial = self.study.ask()
            _ = trial.relative_params  # gives the trial its generation, also where nothing is left to draw
            genome = self.space.suggest(trial)
            trial.set_user_attr("genome", json.loads(json.dumps(genome)))

    def _play_generation(self, born: Sequence[FrozenTrial], engine: Executor, hear: Listener) -> None:
        if all(trial.state.is_finished() for trial in born):
            return
        alive = list(born)
        for level, rung in enumerate(self.plan.rungs):
            sound = []
            for trial in self._played(alive, rung, engine, hear):
                reason = self._failure(trial, rung)
                if reason:
                    self._tell(trial, TrialState.FAIL, reason, hear)
                elif rung == self.plan.rungs[-1]:
                    self._tell(trial, TrialState.COMPLETE, "", hear)
                else:
                    sound.append(trial)
            alive = self._cut(sound, rung, self.plan.survivors(len(born), level + 1), hear)

    def _played(
        self, trials: Sequence[FrozenTrial], rung: HalvingRung, engine: Executor, hear: Listener
    ) -> Iterator[FrozenTrial]:
        """Each of `trials` when it has played `rung`."""
        wanted = {trial.number: set(self.units(trial, rung)) for trial in trials}
        todo = [unit for trial in trials for unit in self.units(trial, rung)]
        waiting = {trial.number: trial for trial in trials}

        def ready() -> Iterator[FrozenTrial]:
            for number in [n for n in waiting if all(unit in self.cells for unit in wanted[n])]:
                yield waiting.pop(number)

        yield from ready()
        for _ in self.play(todo, engine, hear):
            yield from ready()

    def play(self, units: Sequence[TrainingJob], engine: Executor, hear: Listener) -> Iterator[JobResult]:
        """What comes of those of `units` that are not done, as it comes; all of it is kept."""
        todo = [unit for unit in dict.fromkeys(units) if unit not in self.cells]
        for unit in todo:
            hear.begins(unit)
        for index, outcome in engine.map(work, todo):
            self.cells.add(todo[index], outcome)
            hear.did(outcome.env_steps)
            yield outcome

    def _cut(self, sound: Sequence[FrozenTrial], rung: HalvingRung, count: int, hear: Listener) -> list[FrozenTrial]:
        """The best `count` of those that have played `rung`; the others are pruned."""
        sound = sorted(sound, key=lambda trial: trial.number)
        if not sound:
            return []
        values = np.array([self.mean(trial, rung) for trial in sound])
        best = pareto.order(values * self.objectives.signs, self._violations(values))
        for place in best[count:]:
            told = f"{int(np.flatnonzero(best == place)[0]) + 1} of {len(sound)} after {rung.steps:,} steps; {count} went on"
            self._tell(sound[place], TrialState.PRUNED, told, hear)
        return [sound[place] for place in sorted(best[:count])]

    def _violations(self, values: F64) -> F64:
        return np.array([self.objectives.violation(float(value)) for value in values[:, 0]])

    def _tell(self, trial: FrozenTrial, state: TrialState, reason: str, hear: Listener) -> None:
        """Decides `trial`, once."""
        trial = self.study.get_trials(deepcopy=False)[trial.number]
        if trial.state.is_finished():
            return
        live = optuna.Trial(self.study, trial._trial_id)
        values = self.mean(trial, self.plan.rungs[-1]) if state == TrialState.COMPLETE else None
        if reason:
            live.set_user_attr("reason", reason)
        if values is not None and self.objectives.bar is not None and CONSTRAINT not in trial.constraints:
            live.set_constraint(CONSTRAINT, self.objectives.violation(values[0]))
        self.study.tell(trial.number, values, state=state)
        hear.told(self.records()[trial.number])

    # ---- what is known

    def config(self, trial: FrozenTrial) -> RunConfig:
        """The configuration that the genome of `trial` means."""
        return self.space.build(trial.user_attrs["genome"])

    def units(self, trial: FrozenTrial, rung: HalvingRung) -> list[TrainingJob]:
        """The work of `trial` on `rung`."""
        key = trial.number, rung
        if key not in self._units:
            self._units[key] = [TrainingJob.of(self.config(trial), seed, rung.steps) for seed in range(rung.seeds)]
        return self._units[key]

    def outcomes(self, trial: FrozenTrial, rung: HalvingRung) -> list[JobResult]:
        """What came of it, as far as it is done."""
        return [self.cells[unit] for unit in self.units(trial, rung) if unit in self.cells]

    def mean(self, trial: FrozenTrial, rung: HalvingRung) -> list[float]:
        """Objectives of `trial` on `rung`, means over its seeds."""
        return np.mean([outcome.objectives for outcome in self.outcomes(trial, rung)], axis=0).tolist()

    def _failure(self, trial: FrozenTrial, rung: HalvingRung) -> str:
        failed = [f"seed {seed}: {one.failed}" for seed, one in enumerate(self.outcomes(trial, rung)) if one.failed]
        return failed[0] if failed else ""

    def records(self) -> list[Record]:
        """Every trial that was ever begun, by number."""
        counted: set[TrainingJob] = set()
        return [self._record(trial, counted) for trial in self.study.get_trials(deepcopy=False)]

    def _record(self, trial: FrozenTrial, counted: set[TrainingJob]) -> Record:
        state = STATES[trial.state]
        reason, genome = trial.user_attrs.get("reason", ""), trial.user_attrs.get("genome", {})
        if not genome:
            return Record(trial.number, state, {}, (), (), 0, 0, reason)
        env_steps, last, outcomes = 0, 0, list[JobResult]()
        for rung in self.plan.rungs:
            done = [unit for unit in self.units(trial, rung) if unit in self.cells]
            env_steps += sum(self.cells[unit].env_steps for unit in done if unit not in counted)
            counted.update(done)
            if len(done) == rung.seeds and not any(self.cells[unit].failed for unit in done):
                last, outcomes = rung.steps, [self.cells[unit] for unit in done]
        means = tuple(np.mean([one.objectives for one in outcomes], axis=0).tolist()) if outcomes else ()
        values = tuple(one.objectives[0] for one in outcomes)
        return Record(trial.number, state, genome, means, values, last, env_steps, reason)

    def complete(self) -> list[Record]:
        """Trials that had the whole budget and did not fail."""
        return [record for record in self.records() if record.state == "complete"]

    def front(self) -> list[Record]:
        """Those that no other dominates, best value first; feasible ones where there are any."""
        found = self.complete()
        if not found:
            return []
        values = np.array([record.objectives for record in found])
        rank = pareto.fronts(values * self.objectives.signs, self._violations(values))
        return sorted((record for record, level in zip(found, rank) if level == 0), key=lambda record: -record.objectives[0])

    def finalists(self, among: Sequence[Record] | None = None) -> list[Record]:
        """The complete trials (or those of `among`) with the highest values, feasible ones first, one of each genome."""
        found: dict[str, Record] = {}
        among = self.complete() if among is None else among
        for one in sorted(among, key=lambda one: (self.objectives.violation(one.objectives[0]), -one.objectives[0])):
            found.setdefault(json.dumps(one.genome, sort_keys=True), one)
        return list(found.values())[: self.plan.finalists]

    def final_units(self, one: Record) -> list[TrainingJob]:
        """The training runs that a finalist has besides those of its trial."""
        config, first = self.config(self.trial(one.number)), self.plan.seeds
        return [TrainingJob.of(config, seed, self.plan.budget) for seed in range(first, first + self.plan.more_seeds)]

    def final_value(self, one: Record) -> float:
        """Value of a finalist, mean over all of its training runs that did not fail."""
        more = [self.cells[unit] for unit in self.final_units(one) if unit in self.cells]
        return float(np.mean([*one.values, *(outcome.objectives[0] for outcome in more if not outcome.failed)]))

    def champion(self) -> Record:
        """Of the finalists that with the highest value over all training runs; where there are none, the front's highest value. Raises
        `DataError` where no trial is complete."""
        front = self.front()
        if not front:
            raise DataError(f"{self.folder}: no trial is complete, so there is no champion; the reasons stand in the report")
        return max(self.finalists(), key=self.final_value, default=front[0])

    @property
    def beginning(self) -> RunConfig:
        """What one has without a search: the first trial, where it was told to be that, else what all trials have in common."""
        born = self._born()
        return self.config(born[0]) if self.plan.start and born else self.plan.base

    def trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


STATES: Mapping[TrialState, str] = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed", TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}  # fmt: skip
