"""A search: generations, halving, what is kept of every trial, going on after a kill, the same whatever the workers do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from searchable import DIAL, TABLE, Formula, Fumbling

from emp_gym.agents.base import read_json
from emp_gym.search import champion, pareto, report, store
from emp_gym.search.driver import CONSTRAINT, Listener, Record, Search, Silent
from emp_gym.search.jobs import TrainingJob, work
from emp_gym.search.plans import SearchPlan
from emp_gym.training.executors import engine
from emp_gym.types import ConfigError, DataError

PLAN = SearchPlan("emp-almgren-chriss-v0", DIAL, trials=14, population=3, budget=400, seeds=2, episodes=16, finalists=2, table=TABLE)


@pytest.fixture(autouse=True, scope="module")
def quick_disk() -> Iterator[None]:
    """Optuna puts every line on disk; what is killed here is a process, not the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


class Noting(Silent):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.begun: list[TrainingJob] = []
        self.decided: list[Record] = []

    def begins(self, unit: TrainingJob) -> None:
        self.begun.append(unit)

    def told(self, record: Record) -> None:
        self.decided.append(record)


def searched(folder: Path, plan: SearchPlan = PLAN, where: Any = None, hear: Listener | None = None) -> Search:
    """The study in `folder`, begun or taken up, run to its end."""
    with store.driving(folder):
        search = Search.load(folder) if (folder / store.JOURNAL).exists() else Search.create(folder, plan)
        search.run(where or Fumbling(), hear or Silent())
    return search


def told(search: Search) -> list[Record]:
    """All that a study says of its trials, but for those that were cut before they had a genome; numbers close up."""
    return [replace(one, number=place) for place, one in enumerate(one for one in search.records() if one.genome)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return searched(tmp_path_factory.mktemp("search") / "study")


# ---- generations and halving


def test_every_trial_is_counted_and_has_a_state_and_a_reason(done: Search) -> None:
    records = done.records()
    assert [one.number for one in records] == list(range(PLAN.trials))
    states = [one.state for one in records]
    assert set(states) == {"complete", "pruned", "failed"}
    for one in records:
        assert bool(one.reason) == (one.state != "complete"), one
        if one.state == "failed":
            assert one.genome["agent.wild"] and "this dial cannot be turned" in one.reason and not one.objectives


def test_a_generation_completes_the_best_of_those_that_it_began(done: Search) -> None:
    for first in range(0, PLAN.trials, PLAN.generation):
        generation = done.records()[first : first + PLAN.generation]
        sound = [one for one in generation if one.state != "failed"]
        after_a_quarter = np.array([done.mean(done.trial(one.number), PLAN.rungs[0]) for one in sound])
        violation = np.maximum(-after_a_quarter[:, 0], 0)
        best = pareto.order(after_a_quarter * done.objectives.signs, violation)[: -(-len(generation) // 2)]
        assert {sound[place].number for place in best} == {one.number for one in sound if one.state == "complete"}


def test_what_is_pruned_costs_a_quarter_of_one_run(done: Search) -> None:
    for one in done.records():
        cost = {"complete": 100 + 2 * 400, "pruned": 100, "failed": 100}[one.state]
        assert one.env_steps == cost and one.steps == {"complete": 400, "pruned": 100, "failed": 0}[one.state]
        assert len(one.values) == {"complete": 2, "pruned": 1, "failed": 0}[one.state]


def test_without_halving_every_trial_has_the_whole_budget(tmp_path: Path) -> None:
    search = searched(tmp_path, replace(PLAN, halving=1, trials=5, seeds=1, finalists=0, table={"agent.share": TABLE["agent.share"]}))
    assert [one.state for one in search.records()] == ["complete"] * 5
    assert sum(one.env_steps for one in search.records()) == 5 * 400 == search.plan.steps


def test_the_same_genome_again_is_a_trial_that_costs_nothing(tmp_path: Path) -> None:
    where = Fumbling()
    search = searched(tmp_path, replace(PLAN, halving=1, trials=6, seeds=1, finalists=0, table={"agent.layers": [[8], [8, 8]]}), where)
    records = search.records()
    assert len(records) == 6 and len(where.done) == 2
    assert sorted(one.env_steps for one in records) == [0, 0, 0, 0, 400, 400]


SIX = SearchPlan("emp-almgren-chriss-v0", "searchable:Six", trials=64, population=8, halving=1, budget=100, seeds=1, finalists=0,
           table={f"agent.{name}": {"low": 0.0, "high": 1.0} for name in "abcdef"})  # fmt: skip


def test_a_generation_of_optuna_is_one_of_ours(tmp_path: Path) -> None:
    search = searched(tmp_path, SIX, Formula())
    generation = [trial.system_attrs["NSGAIISampler:generation"] for trial in search.study.trials]
    assert generation == [place // 8 for place in range(64)]


def test_the_first_trial_is_what_one_has_already(done: Search, tmp_path: Path) -> None:
    first = done.records()[0].genome
    assert (first["agent.share"], first["agent.noise"], first["agent.layers"], first["agent.wild"]) == (0.0, 0.1, [8], False)
    without = searched(tmp_path, replace(PLAN, start=False, trials=6))
    assert without.records()[0].genome["agent.share"] != 0.0
    with store.driving(tmp_path / "half"):  # killed after it was put on the list
        half = Search.create(tmp_path / "half", PLAN)
        half.study.set_user_attr("batches", [6])
        half.study.enqueue_trial(dict(half.space.start()))
    assert searched(tmp_path / "half").records() == done.records()


def test_evolution_beats_random_search_where_figures_are_smooth(tmp_path: Path) -> None:
    volume: dict[str, list[float]] = {"nsga2": [], "random": []}
    for sampler, found in volume.items():
        for seed in range(3):
            search = searched(tmp_path / f"{sampler}{seed}", replace(SIX, sampler=sampler, seed=seed), Formula())
            costs = np.array([one.objectives[:2] for one in search.complete()]) * [-1, 1]
            found.append(pareto.hypervolume(costs, np.array([-0.4, 1.0])))
    assert np.mean(volume["nsga2"]) > 1.1 * np.mean(volume["random"]), volume


def test_the_front_is_optunas_with_the_constraint(done: Search) -> None:
    assert {one.number for one in done.front()} == {trial.number for trial in done.study.best_trials}
    for trial in done.study.trials:
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.constraints[CONSTRAINT] == max(-trial.values[0], 0.0)


def test_objectives_are_means_over_seeds_of_what_the_units_gave(done: Search) -> None:
    best = done.champion()
    units = [TrainingJob.of(done.config(done.trial(best.number)), seed, 400) for seed in (0, 1)]
    again = [work(unit) for unit in units]
    assert best.objectives == tuple(np.mean([one.objectives for one in again], axis=0).tolist())
    assert best.values == tuple(one.objectives[0] for one in again) and best.values[0] != best.values[1]


def test_the_champion_is_the_finalist_that_is_best_over_more_seeds(done: Search) -> None:
    ranked = sorted(done.complete(), key=lambda one: -one.objectives[0])
    finalists = done.finalists()
    assert [one.number for one in finalists] == [one.number for one in ranked[:2]]
    for one in finalists:
        units = [TrainingJob.of(done.config(done.trial(one.number)), seed, 400) for seed in range(8)]
        assert done.final_units(one) == units[2:] and all(unit in done.cells for unit in units)
        assert done.final_value(one) == pytest.approx(np.mean([done.cells[unit].objectives[0] for unit in units]))
    assert done.final_value(done.champion()) == max(map(done.final_value, finalists))
    others = [unit for one in ranked[2:] for unit in done.final_units(one)]
    assert not any(unit in done.cells for unit in others if unit not in [u for one in finalists for u in done.final_units(one)])


# ---- the same, whatever happens


def test_results_do_not_depend_on_the_order_in_which_workers_finish(done: Search, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert searched(tmp_path / str(seed), where=Fumbling(seed)).records() == done.records()
    assert searched(tmp_path / "other", replace(PLAN, seed=1)).records() != done.records()


def test_a_search_that_is_killed_after_every_unit_ends_as_if_it_had_not_been(done: Search, tmp_path: Path) -> None:
    kills, units, hear = 0, list[TrainingJob](), Noting()
    while True:
        where = Fumbling(seed=kills, lives=1)
        try:
            search = searched(tmp_path, where=where, hear=hear)
            break
        except KeyboardInterrupt:
            kills += 1
        finally:
            units += where.done
    assert kills > 10 and search.records() == done.records()
    assert len(units) == len(set(units)) == len(list((done.folder / store.CELLS).glob("*.json"))), "nothing is done twice"
    assert sorted(one.number for one in hear.decided) == list(range(PLAN.trials)), "nothing is told twice"


@pytest.mark.parametrize("share", np.linspace(0.02, 0.99, 12))
def test_a_journal_that_ends_anywhere_is_taken_up(done: Search, tmp_path: Path, share: float) -> None:
    """A kill leaves a journal that ends in the middle of a line, and a lock."""
    shutil.copytree(done.folder, tmp_path / "study")
    journal = tmp_path / "study" / store.JOURNAL
    data = journal.read_bytes()
    begun = data.index(b'"commit"')  # what is before that is there whole, or not at all
    journal.write_bytes(data[: begun + 200 + int(share * (len(data) - begun - 200))])
    journal.with_name(journal.name + ".lock").symlink_to(journal)
    where = Fumbling()
    search = searched(tmp_path / "study", where=where)
    assert [replace(one, env_steps=0) for one in told(search)] == [replace(one, env_steps=0) for one in done.records()]
    assert where.done == [], "its units were done: nothing is done twice"
    cut = [one for one in search.records() if not one.genome]
    assert len(cut) <= 1 and all(one.state == "failed" and "killed while it was drawn" in one.reason for one in cut)


def test_more_trials_go_on_where_a_search_ended(done: Search, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "study")
    with store.driving(tmp_path / "study"):
        search = Search.load(tmp_path / "study", trials=20)
        search.run(Fumbling(), Silent())
    assert len(search.records()) == 20 and search.records()[:14] == done.records()
    assert Search.load(tmp_path / "study").plan.trials == 20
    with pytest.raises(ConfigError, match="not taken back"):
        Search.load(tmp_path / "study", trials=10)


def test_one_process_drives_a_study(done: Search, tmp_path: Path) -> None:
    with store.driving(tmp_path), pytest.raises(ConfigError, match="another process"), store.driving(tmp_path):
        pass
    with pytest.raises(ConfigError, match="already holds a study"):
        Search.create(done.folder, PLAN)
    with pytest.raises(DataError, match="holds no study"):
        Search.load(tmp_path)


def test_a_file_that_is_not_what_its_name_says_is_refused(done: Search, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "study")
    one, other = sorted((tmp_path / "study" / store.CELLS).glob("*.json"))[:2]
    shutil.copy(one, other)
    with pytest.raises(DataError, match="its name is not that of the unit"):
        Search.load(tmp_path / "study")
    other.write_text("{}")
    with pytest.raises(DataError, match="remove it, and it is done again"):
        Search.load(tmp_path / "study")


def test_a_plan_that_cannot_be_is_refused_by_its_flag(tmp_path: Path) -> None:
    for change, words in (({"trials": 0}, "--trials"), ({"population": 1}, "--population"), ({"sampler": "nsga"}, "did you mean nsga2")):
        with pytest.raises(ConfigError, match=words):
            replace(PLAN, **change)
    with pytest.raises(ConfigError, match="another problem"):
        Search.create(tmp_path, replace(PLAN, env={"steps": 5}))
    assert not (tmp_path / store.JOURNAL).exists()


# ---- the champion


def test_the_champion_rebuilt_gives_the_same_figures_to_the_bit(tmp_path: Path) -> None:
    table = {"agent.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}, "agent.n_epochs": {"low": 1, "high": 3}}
    agent = {"num_envs": 16, "n_steps": 8, "batch_size": 64, "layers": [16]}
    plan = SearchPlan("emp-ladder-trend-v0", "ppo", trials=4, population=2, budget=1024, seeds=2, episodes=32, agent=agent, table=table)
    search = searched(tmp_path, plan, engine("local"))
    found = champion.rebuild(Search.load(tmp_path), search.champion().number)
    assert len(found) == 3, "a quarter with one seed, the whole with two"
    for before, now in found:
        assert before.figures == now.figures and before.env_steps in (256, 1024) and len(before.pnl) == 32
    assert found[1][0].objectives != found[2][0].objectives, "two seeds are two agents"


def test_nothing_sees_the_test_before_the_champion_is_chosen(done: Search, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "study")
    search, where, best = Search.load(tmp_path / "study"), Fumbling(), done.champion()
    kept = [json.loads(path.read_text())["unit"] for path in (done.folder / store.CELLS).glob("*.json")]
    assert {(unit["fit"], json.loads(unit["config"])["evaluation"]["split"]) for unit in kept} == {("fit", "validation")}
    mine, start = champion.final(search, best, where, Silent(), seeds=3)
    looked = [(unit.fit, json.loads(unit.config)["evaluation"]["split"], json.loads(unit.config)["seed"]) for unit in where.done]
    assert sorted(looked) == [("train", "test", seed) for seed in (1000, 1000, 1001, 1001, 1002, 1002)]
    assert champion.looks(search.folder) == [(best.number, 3)]
    assert mine.estimate(0).mean > start.estimate(0).mean, "the starting point sells half of what is left"
    where.done.clear()
    assert champion.final(search, best, where, Silent(), seeds=3) == [mine, start] and not where.done, "read, not judged again"
    other = next(one for one in done.complete() if one.number != best.number)
    champion.final(search, other, where, Silent(), seeds=1)
    champion.final(search, best, where, Silent(), seeds=4)
    assert champion.looks(search.folder) == [(best.number, 3), (other.number, 1), (best.number, 4)]
    page = re.sub("<[^>]+>", "", Path(report.write(search, [mine, start])).read_text())
    assert f"3 times, for trial {best.number} with 3 seeds, trial {other.number} with 1 seed, trial {best.number} with 4 seeds" in page


def test_looks_that_cannot_be_read_are_no_looks_less(tmp_path: Path) -> None:
    (tmp_path / champion.FINAL).write_text('{"looks": [3]}')
    with pytest.raises(DataError, match=r"final\.json: expected .*noted no seeds"):
        champion.looks(tmp_path)


def test_what_the_champion_is_compared_with_is_the_first_trial(tmp_path: Path) -> None:
    """And not what lies outside of the space, which the search could not have."""
    outside = replace(PLAN, trials=2, agent={"noise": 5.0}, table={"agent.noise": {"low": 0.1, "high": 1.0}})
    search = searched(tmp_path / "outside", outside)
    assert search.beginning.agent["noise"] == 1.0 == search.records()[0].genome["agent.noise"]
    assert search.plan.base.agent["noise"] == 5.0
    _, start = champion.final(search, search.champion(), Fumbling(), Silent(), seeds=1)
    assert start.outcomes == tuple(search.cells[unit] for unit in champion._units(search.beginning, 400, 1))
    free = searched(tmp_path / "free", replace(outside, start=False))
    assert free.beginning == free.plan.base


def test_splits_share_no_episode() -> None:
    import gymnasium as gym

    first: list[Any] = []
    for split in ("validation", "test", "train"):
        env = gym.make_vec("emp-garleanu-pedersen-v0", num_envs=4, split=split)
        first.append(env.reset(options={"day": [0, 1, 2, 3]})[0].tolist())
        env.close()
    assert first[0] != first[1] != first[2] != first[0]
    env = gym.make_vec("emp-lob-v0", num_envs=1, split="train")
    train = {day for day, _ in env.unwrapped.windows()}
    env.close()
    days = {}
    for split in ("fit", "validation", "test"):
        env = gym.make_vec("emp-lob-v0", num_envs=1, split=split)
        days[split] = {day for day, _ in env.unwrapped.windows()}
        env.close()
    assert days["fit"] | days["validation"] == train and not days["fit"] & days["validation"]
    assert not train & days["test"] and max(days["fit"]) < min(days["validation"])


# ---- what people see


def test_the_report_has_front_trials_and_the_count(done: Search, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "study")
    search = Search.load(tmp_path / "study")
    judged = champion.final(search, search.champion(), Fumbling(), Silent(), seeds=2)
    page = report.write(search, judged)
    text = (search.folder / "report.md").read_text()
    promised = ("14 trials", "N = 14 trials were begun", "Front", "Finalists", "On test time", "once", "this dial cannot be turned")
    for words in (*promised, "went on", "optuna-dashboard"):
        assert words in text, words
    assert "data:image/png;base64," in page.read_text() and (search.folder / report.FRONT).stat().st_size > 10_000
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.split("|")[2].strip() in ("complete", "pruned", "failed")]
    assert len(rows) == PLAN.trials
    numbers = read_json(search.folder / "search.json")
    assert [one["number"] for one in numbers["trials"]] == list(range(14)) and numbers["looks_at_test"] == [
        {"trial": search.champion().number, "seeds": 2}
    ]
    total = sum(outcome.env_steps for outcome in search.cells._kept.values())
    assert f"{total:,} environment steps" in text and total > sum(one.env_steps for one in search.records())


def test_a_search_in_which_everything_fails_says_why(tmp_path: Path) -> None:
    search = searched(tmp_path, replace(PLAN, trials=3, table={"agent.wild": [True], "agent.share": TABLE["agent.share"]}))
    assert [one.state for one in search.records()] == ["failed"] * 3
    with pytest.raises(DataError, match="no trial is complete"):
        search.champion()
    assert "this dial cannot be turned" in report.write(search, ()).read_text()


def test_figures_are_deflated_by_all_trials_that_were_begun(done: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    table, numbers = report.series(done)
    assert table.shape == (16, len(done.complete())) == (16, len(numbers))
    lines = report.deflated(done, done.records(), ())
    assert "N = 14" in lines[0] and "cost to be kept small" in lines[1]
    lucky = table - table.mean() + 0.3 * table.std()
    monkeypatch.setattr(report, "series", lambda _: (lucky, numbers))
    assert "backtest overfitting" in " ".join(report.deflated(done, done.records(), ()))
    shares = [float(report.deflated(done, [done.champion()] * n, ())[1].split("**")[1].split()[0]) for n in (1, 14, 1000)]
    assert shares[0] > shares[1] > shares[2], "the more were tried, the less is left"


def test_the_dashboard_opens_the_study(done: Search) -> None:
    import threading
    import urllib.request
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from optuna_dashboard import wsgi

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(done.folder / store.JOURNAL)))
    server = make_server("127.0.0.1", 0, wsgi(storage), handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{address}/api/studies", timeout=60) as answer:
            (study,) = json.load(answer)["study_summaries"]
        assert study["study_name"] == done.study.study_name == "emp-almgren-chriss-v0-Dial-nsga2-seed0"
        with urllib.request.urlopen(f"{address}/api/studies/{study['study_id']}", timeout=60) as answer:
            told = json.load(answer)
        assert len(told["trials"]) == PLAN.trials
        with urllib.request.urlopen(f"{address}/dashboard/", timeout=60) as answer:
            assert "html" in answer.read().decode().lower()
    finally:
        server.shutdown()
        server.server_close()
