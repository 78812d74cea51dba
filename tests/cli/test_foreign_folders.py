"""Folders of other people are read within bounds, never written through: links, pipes, evaluations that are none, endless settings."""

from __future__ import annotations

import ast
import json
import os
import random
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from emp_gym import bounded, trust
from emp_gym.agents.base import write_arrays
from emp_gym.cli import evaluate, leaderboard
from emp_gym.data import instruments
from emp_gym.governance.errors import LogTampered
from emp_gym.governance.folder import in_use
from emp_gym.governance.kill_switch import state
from emp_gym.governance.log import signed_tree_heads
from emp_gym.governance.promotion import stages
from emp_gym.reports import plot_style
from emp_gym.risk import limits
from emp_gym.runs import config as configs
from emp_gym.runs import schemas
from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.run_metadata import curve_rows
from emp_gym.search import jobs, store
from emp_gym.types import ConfigError, DataError, EmpGymError

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.fixture(autouse=True)
def patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is trusted yet, and nothing may hang."""
    monkeypatch.setattr(trust, "FOLDER", str(tmp_path / "trusted"))
    monkeypatch.setattr(trust, "_noted", set())
    monkeypatch.setattr(trust, "_folders", [])
    monkeypatch.setattr(sys, "path", list(sys.path))

    def hangs(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# ------------------------------------------------------------------------------------------------------------- what is written


def draw(path: Path) -> None:
    with plot_style.figure(path, "a title"):
        pass


def drive(path: Path) -> None:
    with store.driving(path.parent):
        pass


WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a text": ("a.json", lambda path: bounded.write(path, "new")),
    "the record of a run": ("provenance.json", lambda path: RunFolder(path.parent).write_json(path.name, {})),
    "weights": ("model.safetensors", lambda path: write_arrays(path, {})),
    "a picture": ("a.png", draw),
    "the lock of a study": (store.LOCK, drive),
}


@pytest.mark.parametrize("aside", ["", ".tmp"])
@pytest.mark.parametrize("case", WRITERS)
def test_what_a_link_leads_to_is_left_alone(case: str, aside: str, tmp_path: Path) -> None:
    name, write = WRITERS[case]
    folder, precious = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("{}")
    (folder / (name + aside)).symlink_to(precious)
    write(folder / name)
    assert precious.read_text() == "{}"
    assert (folder / name).is_file() and not (folder / name).is_symlink()


def test_a_pipe_in_the_place_of_a_picture_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_a_journal_that_is_a_link_is_not_driven(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("half a line")
    (tmp_path / store.JOURNAL).symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="a link"):
        store.load(tmp_path)
    with pytest.raises(DataError, match="a link"), store.driving(tmp_path):
        pytest.fail("it is driven")
    assert (tmp_path / "other").read_text() == "half a line"


def test_a_journal_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / store.JOURNAL)
    with pytest.raises(DataError, match="a named pipe"), store.driving(tmp_path):
        pytest.fail("it is driven")


WRITES_AS_TOLD = {  # files that the person names, of folders that the program has just made, or exclusively
    "cli/evaluate.py", "cli/promote.py", "cli/kill.py", "cli/ingest.py", "terminal/streams.py", "benchmarks/parse.py",
    "benchmarks/log.py", "governed/diary_query.py", "studies/walk_forward.py", "studies/vs_random.py",
}  # fmt: skip
ROOMS = ("terminal", "runs", "training", "governed", "reports", "search", "studies", "benchmarks", "cli")


def test_runs_and_reports_are_written_in_the_place_of_links(root: Path) -> None:
    found = []
    for path in sorted(path for room in ROOMS for path in (root / "emp_gym" / room).rglob("*.py")):
        name = path.relative_to(root / "emp_gym").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or name in WRITES_AS_TOLD:
                continue
            opened = node.func.attr == "open" and any(isinstance(a, ast.Constant) and str(a.value)[:1] == "w" for a in node.args)
            if opened or node.func.attr in ("write_text", "write_bytes"):
                found.append(f"{name}:{node.lineno}")
    assert found == [], "use bounded.write"


# ----------------------------------------------------------------------------------------------------------------- evaluations

ESTIMATE = {"mean": 1.0, "low": None, "high": None, "blocks": 2, "block": "date", "note": ""}
RESULT = {"pnl": ESTIMATE, "pnl_by_window": [[1.0, 2.0]], "filled": 1.0, "fees": 0.5}
EVALUATION: dict[str, Any] = {
    "schema": 2, "env": "emp-lob-v0", "agent": "ppo", "judged": "pnl", "seeds": 1, "level": 0.95, "windows": [[0, 0], [1, 0]],
    "days": ["2030-01-01", "2030-01-02"], "symbols": ["A", "A"], "currencies": ["USD", "USD"], "market_moves": [1.0, None],
    "synthetic": False, "proof": {"standing": "drawn", "split": "test", "reason": ""}, "preface": {"data": "days"},
    "skipped": {"oracle": "no signal"}, "results": {"ppo": RESULT, "hold": RESULT},
    "findings": {"optimum": None, "measures": {"ppo": {"turnover_currency_per_episode": {"estimate": ESTIMATE}}}},
    "run": {
        "data_hash": "0", "settings": {"latency_ns": [1, 2]}, "agent_config": {"gamma": 0.9}, "split": "test", "training_seeds": [0],
        "total_timesteps": 100, "train_seconds": 1.0, "judge_seconds": 1.0, "machine": "one", "trials": 3, "commit": "0",
    },
}  # fmt: skip
BAIT = [
    None, True, [], {}, "", ESCAPE, float("nan"), float("inf"), -1, 2**62, 2**63, 10**400, -(10**400), [1], [[]], [None], {"a": 1},
    json.loads("[" * 90 + "]" * 90), "9" * 5_000,
]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from places(tree[key], (*path, key))


def damaged(tree: Any, place: tuple[Any, ...], bait: Any) -> Any:
    tree = json.loads(json.dumps(tree))
    at = tree
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = bait
    return tree


def test_every_value_of_an_evaluation_may_be_anything(tmp_path: Path, capsys: Any) -> None:
    """What passes the form is shown, what does not is named: never a traceback, a control code, or a wait."""
    draws = random.Random(16)
    cases = [(place, bait) for place in places(EVALUATION) if place for bait in BAIT]
    refused = 0
    for place, bait in draws.sample(cases, 400):
        (tmp_path / "evaluation.json").write_text(json.dumps(damaged(EVALUATION, place, bait)))
        status = leaderboard.main([str(tmp_path), *draws.choice(([], ["--json"], ["--markdown"]))])
        told = "".join(capsys.readouterr())
        assert status in (0, 2) and "\x1b" not in told and "\u202e" not in told, (place, bait)
        refused += status == 2
    assert 100 < refused < 400
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    assert leaderboard.main([str(tmp_path)]) == 0, "the honest twin"


@pytest.mark.parametrize(
    ("place", "bait", "said"),
    [
        (("results", "ppo", "pnl_by_window"), [[1.0]], "1 entries for 2 windows"),
        (("days",), ["2030-01-01"], "days has 1 entries"),
        (("agent",), "somebody", "no results of its agent"),
        (("run", "training_seeds", 0), 2**70, "run.training_seeds.0"),
        (("level",), 1.0, "level: Input should be less than 1"),
    ],
)
def test_what_does_not_fit_an_evaluation_is_named(place: tuple[Any, ...], bait: Any, said: str) -> None:
    schemas.evaluation(EVALUATION, "here")
    with pytest.raises(DataError, match=said):
        schemas.evaluation(damaged(EVALUATION, place, bait), "here")


# ------------------------------------------------------------------------------------------------------- settings, keys, heads


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


UNREADABLE: dict[str, Callable[[Path], Any]] = {
    "a pipe": os.mkfifo, "a device": zeros, "a folder": Path.mkdir, "64 gigabytes": sparse,
    "no UTF-8": lambda path: path.write_bytes(b"a: \xff"),
}  # fmt: skip
TEXTS = {
    "lists in lists": "a: " + "[" * 50_000, "a number of a million bits": "a: 0x" + "f" * 250_000,
    "values without end": "a: &a [" + "0, " * 1_000 + "0]\nb: [" + "*a, " * 300 + "0]", "a date that is none": "a: 2012-13-45",
}  # fmt: skip
READERS: dict[str, Callable[[Path], Any]] = {
    "settings": configs.read_yaml, "limits": limits.load, "rules of stages": stages._yaml,
    "instruments": lambda path: instruments.from_options(None, None, path),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_settings_are_read_within_bounds(reader: str, tmp_path: Path) -> None:
    baits = UNREADABLE | {name: lambda path, text=text: path.write_text(text) for name, text in TEXTS.items()}  # type: ignore[misc]
    for number, (case, put) in enumerate(baits.items()):
        path = tmp_path / f"{number}.yaml"
        put(path)
        with pytest.raises(EmpGymError):
            READERS[reader](path)
            pytest.fail(case)
    (tmp_path / "none.yaml").write_text("{}")
    READERS[reader](tmp_path / "none.yaml")


@pytest.mark.parametrize("case", UNREADABLE)
def test_keys_heads_locks_and_curves_hold_up_nobody(case: str, tmp_path: Path) -> None:
    put = UNREADABLE[case]
    (tmp_path / "keys").mkdir()
    for name in ("w-0.json", "ledger.log.lock", "curves.csv", "keys/rearm.pub", "a.key"):
        put(tmp_path / name)
    with pytest.raises(LogTampered):
        signed_tree_heads.Witness(tmp_path).latest("w")
    with pytest.raises(ConfigError):
        state.rearm_keys(tmp_path)
    with pytest.raises(ConfigError):
        signed_tree_heads.KeyFile(tmp_path / "a.key")
    with pytest.raises(DataError):
        curve_rows(tmp_path / "curves.csv")
    assert "another process" in in_use(tmp_path, "ledger.log")


def test_the_lock_of_a_log_names_a_process_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    os.mkfifo(tmp_path / "trap" / "cmdline")
    (tmp_path / "ledger.log.lock").write_text(f"..{tmp_path / 'trap'}")
    assert "another process" in in_use(tmp_path, "ledger.log")


@pytest.mark.parametrize(
    "told", [{"seed": -1}, {"seed": 1 << 63}, {"total_timesteps": 10**400}, {"evaluation": {"seed": -1}}, {"num_envs": -4}]
)
def test_counts_and_seeds_are_numbers_that_a_machine_counts_to(told: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"from 0 up to 2\^63"):
        configs.read(told, "here")
    assert configs.read({"seed": (1 << 63) - 1}, "here").seed == (1 << 63) - 1


@pytest.mark.parametrize("label", ["ppo[a=" + "[" * 400 + "]", "ppo[a=2012-13-45]", "x" * 501])
def test_a_label_that_cannot_be_read_is_an_error(label: str) -> None:
    with pytest.raises(EmpGymError):
        configs.read({"evaluation": {"baselines": [label]}}, "here")
        configs.variant(label)


SPAN: dict[str, Any] = {
    "identity": "i", "content": "c", "symbol": "A", "date": "2030-01-01", "first_row": 0, "last_row": 9, "split": "train", "shape": [1, 2],
}  # fmt: skip
TRAINED: dict[str, Any] = {
    "env_id": "emp-lob-v0", "agent_name": "ppo", "seed": 0, "env": {"levels": 5}, "agent": {}, "total_timesteps": 100,
}  # fmt: skip
RUN: dict[str, dict[str, Any]] = {
    "config.json": TRAINED,
    "seeds.json": {"seeds": [0, 1], "config": TRAINED},
    "provenance.json": {
        "checkpoints": {"000000000100": {"a": "b"}}, "model": {"model.json": "c"}, "trained_as": TRAINED, "series": [0, 1],
        "trained_on": [SPAN],
    },
    "evaluation.json": EVALUATION | {
        "run": EVALUATION["run"] | {"trained": {"symbols": ["A"], "series": [0, 1], "alike": "x", "models": [{"model.json": "c"}]}},
        "preface": {"data": "days", "below": ["no fees"], "cautions": ["one window"]},
    },
}  # fmt: skip


def test_every_value_of_what_lies_beside_an_evaluation_may_be_anything(tmp_path: Path, capsys: Any) -> None:
    """A folder whose files do not fit is named beside the table, where another run stands all the same."""
    draws = random.Random(17)
    cases = [(name, place, bait) for name, tree in RUN.items() for place in places(tree) if place for bait in BAIT]
    for folder in ("whole", "run"):
        (tmp_path / folder).mkdir()
        for name, tree in RUN.items():
            (tmp_path / folder / name).write_text(json.dumps(tree))
    assert leaderboard.main([str(tmp_path)]) == 0
    honest = "".join(capsys.readouterr())
    named = 0
    for name, place, bait in draws.sample(cases, 120):
        (tmp_path / "run" / name).write_text(json.dumps(damaged(RUN[name], place, bait)))
        status = leaderboard.main([str(tmp_path)])
        told = "".join(capsys.readouterr())
        assert status == 0 and "\x1b" not in told and "\u202e" not in told, (name, place, bait)
        named += told != honest
        (tmp_path / "run" / name).write_text(json.dumps(RUN[name]))
    assert named > 40


@pytest.mark.parametrize(
    "told",
    [
        {"checkpoints": ""}, {"checkpoints": []}, {"checkpoints": {"1": "x"}}, {"model": {"a": 1}}, {"model": None}, {"series": 3},
        {"series": ["0"]}, {"trained_as": None}, {"trained_as": {"env": []}}, {"trained_on": {}},
        {"trained_on": [SPAN | {"first_row": "1"}]}, {"trained_on": [{"symbol": "A"}]}, {"unproved": 1},
    ],
)  # fmt: skip
def test_the_record_of_a_run_is_one(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps(RUN["provenance.json"]))
    assert RunFolder(tmp_path).record["checkpoints"]
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match="not the record of a run"):
        _ = RunFolder(tmp_path).record


@pytest.mark.parametrize(
    ("name", "bait"),
    [("env_steps", [1]), ("env_steps", -1), ("objectives", [1.0]), ("objectives", [[1.0]] * 3), ("pnl", 10**400), ("seconds", None)],
)
def test_the_outcome_of_a_unit_is_one(name: str, bait: Any) -> None:
    whole = json.loads(jobs.to_json(jobs.TrainingJob("{}"), jobs.JobResult((1.0, 2.0, 3.0), (1.0,), 5, 0.5)))
    assert jobs.from_json(whole, "here")[1].env_steps == 5
    with pytest.raises(DataError, match="not the outcome"):
        jobs.from_json(whole | {"outcome": whole["outcome"] | {name: bait}}, "here")


# -------------------------------------------------------------------------------------------------------------------- the word


def foreign(folder: Path, **told: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(asdict(RunConfig("emp-almgren-chriss-v0", "hold")) | told))
    (folder / "model.json").write_text("{}")
    return folder


def test_who_is_asked_is_given_the_command_that_answers(tmp_path: Path, capsys: Any) -> None:
    words = ["--run", str(foreign(tmp_path / "a run; of 'somebody'", agent_name="nobody_has_it:Agent")), "--episodes", "2"]
    assert evaluate.main(words) == 2
    told = capsys.readouterr().err
    again = shlex.split(told.partition("stands there now: ")[2])
    assert again == ["python", "scripts/evaluate.py", *words, "--trust"]
    assert evaluate.main(again[2:]) == 2
    assert "there is no module 'nobody_has_it'" in capsys.readouterr().err, "the question was answered"


def test_a_switch_in_a_folder_of_mine_is_asked_about(tmp_path: Path) -> None:
    gate = {"gate": "kill-switch", "folder": str(tmp_path / "mine"), "drawdown": 0.01}
    run = RunFolder(foreign(tmp_path / "run", env={"gates": [gate]}))
    with pytest.raises(trust.Untrusted, match="writes into"):
        _ = run.config
    assert not (tmp_path / "mine").exists()
    with trust.word():
        assert run.config.env["gates"] == [gate]


@pytest.mark.parametrize("path", ["{}", "'{}'", '"{}"'])
def test_pickles_in_a_label_are_asked_about_by_their_bytes_however_their_path_is_spelled(path: str, tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"one")
    label = f"x[trusted=true, path={path.format(tmp_path / 'model.zip')}]"
    run = RunFolder(foreign(tmp_path / "run", evaluation=asdict(RunConfig())["evaluation"] | {"baselines": [label]}))
    with trust.word():
        _ = run.config
    assert run.config.evaluation.baselines == (label,)
    (tmp_path / "model.zip").write_bytes(b"two")
    with pytest.raises(trust.Untrusted):
        _ = run.config


def test_a_module_of_ones_own_is_found_again_where_it_was_typed(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    trust.look_in(str(tmp_path / "here"))  # as the command line does for a module that it names
    run = RunFolder.create(tmp_path / "run", RunConfig("emp-almgren-chriss-v0", "own_module_of_here:Agent"))
    sys.path.remove(str(tmp_path / "here"))
    trust._noted.clear()
    trust._folders.clear()  # another process, in another folder
    assert run.config.agent_name == "own_module_of_here:Agent"
    assert sys.path[-1] == str(tmp_path / "here"), "behind all that is there"


def test_the_name_of_a_study_cannot_write_settings(tmp_path: Path) -> None:
    from emp_gym.printable import printable

    title = f"# trial 1 of {printable('x' + chr(10) + 'agent_name: hostile:Agent')}\n"
    assert yaml.safe_load(title + "seed: 1\n") == {"seed": 1}
