"""What a report says of how a run came about: trials of its ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from governance.ledgers import Desk, day

from emp_gym.runs import run_metadata
from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import RunFolder


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, people=())


def run(desk: Desk, name: str, trial: int, **changes: str) -> RunFolder:
    """The folder of a run that began as `trial`."""
    word = {"folder": str(desk.folder), "log_id": desk.log.log_id, "trial": trial, **changes}
    return RunFolder.create(desk.folder / name, RunConfig(), word)


def test_trials_that_count_are_those_that_saw_a_day_of_the_runs_own(desk: Desk) -> None:
    first, same, other = desk.trial([day(1)]), desk.trial([day(1), day(2)]), desk.trial([day(200)])
    for trial, count in ((first, 2), (same, 2), (other, 1)):
        desk.version(f"given by {trial}", trial)
        assert run_metadata.trials(run(desk, f"run-{trial}", trial)) == count
    desk.trial([day(1)])  # nothing came of it
    assert [run_metadata.trials(RunFolder(desk.folder / f"run-{trial}")) for trial in (first, same, other)] == [3, 3, 1]
    desk.version("a second of the first trial", first)
    assert run_metadata.trials(RunFolder(desk.folder / f"run-{same}")) == 4, "every version of a trial was chosen from"


def test_before_it_has_given_a_version_every_trial_counts(desk: Desk) -> None:
    desk.trial([day(1)])
    last = desk.trial([day(200)])
    assert run_metadata.trials(run(desk, "run", last)) == 2


def test_nobody_counted_where_there_is_no_ledger_or_another(desk: Desk, tmp_path: Path) -> None:
    trial = desk.trial([day(1)])
    assert run_metadata.trials(run(desk, "moved", trial, folder=str(tmp_path / "gone"))) is None
    assert run_metadata.trials(run(desk, "another", trial, log_id="0" * 32)) is None
    assert run_metadata.trials(RunFolder.create(tmp_path / "plain", RunConfig())) is None


def test_what_was_run_is_words_and_no_printed_dictionary() -> None:
    limits = {"order": {"max_quantity": 1000, "min_quantity": 1}, "portfolio": {"capital": "2000000"}}
    env = {"data": ["a.tape", "b.tape"], "episode": "32 decisions", "latency_ns": [1, 2], "gates": [{"gate": "risk", "limits": limits}]}
    told = run_metadata.lines(run_metadata.RunMetadata(RunConfig(agent={"gamma": 0.99, "nested": {"a": 1}}, env=env), {}, market=True))
    assert told[0] == "agent `ppo`, gamma 0.99, nested (a 1)"
    said = "environment `emp-lob-v0`, data `a.tape`, `b.tape`, episode 32 decisions, latency_ns 1/2"
    assert told[1] == f"{said}, gates risk (3 limits, in `config.json`)"
    assert not any("{" in line for line in told)
