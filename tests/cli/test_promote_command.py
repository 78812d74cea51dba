"""Governed runs at the command line: trials noted, versions registered, evidence executed, promotions granted and refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.agents import registry as agents
from emp_gym.cli import evaluate, kill, promote, train
from emp_gym.data.synthetic.day import DayConfig, write_day
from emp_gym.governance.errors import LedgerError
from emp_gym.governance.ledger.ledger import Ledger
from emp_gym.governance.ledger.registry import Registry
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.verify import verify
from emp_gym.governed import evidence
from emp_gym.governed.run_hooks import Governed
from emp_gym.training import train as training
from emp_gym.types import ConfigError

RIVALS = ("hold", "random", "symmetric", "ofi-taker")  # of the taker; on these easy days momentum is as good as it
COSTS = ["env.latency_ns=200000", "env.impact=resilient", "env.taker_fee_bps=0.3", "env.maker_fee_bps=0.0"]  # configs/honest.yaml
FREE = ["env.episode=16 decisions", "env.every=50 messages", "env.threads=1"]  # of costs
SMALL = [*FREE, *COSTS]


def stub(tape_set: Any) -> np.ndarray:
    """Regimes by place: the first half of a day CALM_UP, the second NORMAL_FLAT."""
    labels = np.full(len(tape_set.rows), 2, np.int8)
    for day in range(len(tape_set.days)):
        own = tape_set.day_slice(day)
        labels[own.start + (own.stop - own.start) // 2 : own.stop] = 4
    return labels


@pytest.fixture(autouse=True)
def labels_and_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "regimes", stub)
    monkeypatch.setitem(agents.BASELINES, "emp-lob-v0", RIVALS)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small days: `taught` (5), `fresh` (16, easily predicted), `fair` (50 of which nothing can be foretold)."""
    root = tmp_path_factory.mktemp("days")
    easy = DayConfig(rows=4_000, drift=4.0, tilt=0.15, tick_regime="wide")
    for name, count, month, config in (
        ("taught", 5, 1, easy), ("fresh", 16, 2, easy), ("fair", 50, 3, replace(easy, signal=0.0)),
    ):  # fmt: skip
        for i in range(count):
            day = replace(config, seed=1000 * month + i, date=f"2031-{month + i // 25:02d}-{1 + i % 25:02d}")
            write_day(root / name, day)
    return {name: root / name for name in ("taught", "fresh", "fair")}


@pytest.fixture(scope="module")
def promoted(days: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A governance folder in which the taker was trained, evaluated on fresh days and put before the guard by alice."""
    root = tmp_path_factory.mktemp("governed")
    log = root / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "regimes", stub)
        patch.setitem(agents.BASELINES, "emp-lob-v0", RIVALS)
        words = ["--env", "emp-lob-v0", "--agent", "ofi-taker", "--data", str(days["taught"]), "--set", *SMALL]
        assert train.main([*words, "--govern", str(log), "--run-dir", str(root / "run")]) == 0
        words = ["--policy", "challenger", "--data", str(days["fresh"]), "--set", "evaluation.split=all"]
        assert evaluate.main([*words, "--govern", str(log), "--json"]) == 0
        assert promote.main([str(log), "--add-signer", "alice", "--new-key", str(root / "alice.key")]) == 0
    return root


def copied(promoted: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    shutil.copytree(promoted, tmp_path / "g")
    return tmp_path / "g" / "log", ["--signer", "alice", "--key", str(tmp_path / "g" / "alice.key")]


def ledger_of(log: Path) -> Ledger:
    return Ledger(LogReader(log / "ledger.log"), clock=lambda: 0)


def said_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_governed_run_leaves_trial_version_and_executed_evaluations(promoted: Path) -> None:
    with LogReader(promoted / "log" / "ledger.log") as reader:
        kinds = [entry.kind for entry in reader.entries()]
        trained, noted = reader.entry(0).value, reader.entry(2)
    assert kinds == ["trial", "register", "evaluation", "evaluation", "signer"]
    table = noted.value
    mine = table["policies"][0]
    assert {p["name"] for p in table["policies"][1:]} == {"hold", "random", "symmetric"}, "it is not its own rival"
    assert noted.subject_hash == mine["name"] == table["version"]
    assert set(table["windows"]["regime"]) <= {2, 4} and len(mine["pnl_e8"]) == len(table["windows"]["day"])
    registry = Registry(ledger_of(promoted / "log"), promoted / "log" / "artefacts")
    assert "numpy==" in registry.text(table["lock"]) and json.loads(registry.text(table["config"]))["seed"] == 0
    assert not {d["content"] for d in table["days"]} & {d["content"] for d in trained["days"]}


def test_the_trial_stands_before_training_begins_also_if_it_fails(
    tmp_path: Path, days: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ConfigError("the machine is on fire")

    monkeypatch.setattr(training, "train", broken)
    words = ["--env", "emp-lob-v0", "--data", str(days["taught"]), "--govern", str(tmp_path / "log"), "--set", *SMALL]
    assert train.main([*words, "--run-dir", str(tmp_path / "run")]) == 2
    state = ledger_of(tmp_path / "log").state
    assert len(state.trials) == 1 and not state.versions


def test_a_run_that_goes_on_is_another_trial_with_its_parent(days: dict[str, Path], tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    small = ["agent.batch_size=64", "agent.n_epochs=1", "agent.n_steps=8", "agent.layers=[8]", *SMALL]
    words = ["--env", "emp-lob-v0", "--data", str(days["taught"]), "--total-timesteps", "256", "--num-envs", "32"]
    words += ["--set", *small, "--run-dir", str(run)]
    assert train.main([*words, "--govern", str(log), "--no-evaluation"]) == 0
    again = ["--resume", str(run), "--total-timesteps", "512", "--no-evaluation"]
    assert train.main([*again, "--govern", str(log)]) == 0
    state = ledger_of(log).state
    first, second = state.versions.values()
    assert second.parent == first.version and len(state.trials) == 2 and not state.invalid
    assert train.main([*again, "--govern", str(tmp_path / "other")]) == 2, "it did not begin there"


def test_a_real_strategy_is_promoted_to_paper(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    capsys.readouterr()
    assert promote.main([str(log), "ofi-taker-0"]) == 0
    shown = capsys.readouterr().out
    assert "Missing for paper: signatures." in shown and "✓ deflated Sharpe ratio" in shown
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "paper.yaml").write_text("evidence: {order_latency_ms: 5}")
    assert promote.main([str(log), "challenger", "--to", "paper", *alice, "--rules", str(tmp_path / "rules"), "--json"]) == 1
    assert [f["rule"] for f in said_of(capsys)["findings"] if not f["passed"]] == ["latency"], "a house may ask for more"
    assert promote.main([str(log), "challenger", "--to", "paper", *alice, "--json"]) == 0
    answer = said_of(capsys)
    assert {f["rule"]: f["got"] for f in answer["findings"]}["fees"] == "maker 0 bp, taker 0.3 bp"
    assert answer["promoted"] and answer["stage"] == "paper"
    assert [f["passed"] for f in answer["findings"] if f["rule"] == "executed again"] == [True]
    assert promote.main([str(log), "champion", "--to", "pilot", *alice]) == 1
    shown = capsys.readouterr().out
    assert "Refused" in shown and "✗ evidence" in shown and "✗ signatures" in shown
    assert promote.main([str(log), "champion", "--demote", "fees changed"]) == 0
    assert "paper → experiment (entry 6): fees changed" in capsys.readouterr().out
    assert ledger_of(log).state.champion("paper", 0) is None


def test_the_best_of_a_search_over_noise_is_refused(
    days: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(root / "docs" / "examples"))
    words = ["--env", "emp-lob-v0", "--agent", "lucky:Lucky", "--seeds", "12", "--data", str(days["fair"])]
    words += ["--set", *SMALL]
    log = tmp_path / "log"
    assert train.main([*words, "--govern", str(log), "--run-dir", str(tmp_path / "runs")]) == 0
    assert promote.main([str(log), "--add-signer", "alice", "--new-key", str(tmp_path / "alice.key")]) == 0
    capsys.readouterr()
    assert promote.main([str(log), "--json"]) == 0
    rows = said_of(capsys)["versions"]
    assert {row["trials"] for row in rows} == {12}
    best = max(rows, key=lambda row: row["pnl"])
    key = str(tmp_path / "alice.key")
    assert promote.main([str(log), best["version"], "--to", "paper", "--signer", "alice", "--key", key, "--json"]) == 1
    refused = {f["rule"]: f["got"] for f in said_of(capsys)["findings"] if not f["passed"]}
    assert "the luckiest of 12 without skill" in refused["deflated Sharpe ratio"]
    assert ledger_of(log).state.champion("paper", 0) is None


def test_a_tampered_ledger_is_found_and_nothing_is_promoted(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    db = sqlite3.connect(log / "ledger.log")
    db.execute("DROP TRIGGER entry_no_update")
    ((payload,),) = db.execute("SELECT payload FROM entry WHERE seq = 3").fetchall()
    db.execute("UPDATE entry SET payload = ? WHERE seq = 3", (payload.replace(b'"breaches":0', b'"breaches":1', 1),))
    db.commit()
    db.close()
    assert promote.main([str(log), "challenger", "--to", "paper", *alice]) == 1
    assert "is not whole" in (shown := capsys.readouterr().out) and "3" in shown


def test_forged_numbers_are_found_by_executing_them_again(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    with Governed(log) as governed:
        payload = governed.ledger.log.entry(3).value
        payload["policies"][0]["pnl_e8"][5] += 1
        governed.ledger.log.append("mallory", "evaluation", subject_hash=payload["version"], payload=payload)
        assert not governed.ledger.state.invalid, "its form is right: only an execution can tell"
        (difference,) = evidence.execute_again(governed.registry, 5)
    assert "pnl_e8[5]" in difference and "(1 differ)" in difference
    assert promote.main([str(log), "challenger", "--to", "paper", *alice]) == 1
    assert "✗ executed again" in capsys.readouterr().out


def test_changed_data_are_found_by_executing_again(
    promoted: Path, tmp_path: Path, days: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = copied(promoted, tmp_path)
    with Governed(log) as governed:
        assert evidence.execute_again(governed.registry, 3) == []
        monkeypatch.setattr(evidence, "_content", lambda *_: "0" * 64)
        assert "days" in evidence.execute_again(governed.registry, 3)[0]
        monkeypatch.setattr(evidence.Execution, "play", _gone)
        with pytest.raises(LedgerError, match="cannot be executed again"):
            evidence.execute_again(governed.registry, 3)


def _gone(*_: Any) -> Any:
    from emp_gym.types import DataError

    raise DataError("no such file or folder")


def test_no_orphan_policy_is_evaluated_under_governance(
    promoted: Path, tmp_path: Path, days: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = copied(promoted, tmp_path)
    run = tmp_path / "ungoverned"
    words = ["--env", "emp-lob-v0", "--agent", "symmetric", "--data", str(days["taught"]), "--set", *SMALL]
    assert train.main([*words, "--run-dir", str(run), "--no-evaluation"]) == 0
    assert evaluate.main(["--run", str(run), "--govern", str(log)]) == 2
    assert "has no row" in capsys.readouterr().err
    assert evaluate.main(["--env", "emp-lob-v0", "--agent", "hold", "--govern", str(log)]) == 2
    assert evaluate.main(["--policy", "nobody", "--govern", str(log)]) == 2
    assert evaluate.main(["--policy", "challenger"]) == 2
    with Governed(log) as governed, pytest.raises(LedgerError, match="did not begin under"):
        governed.begin(training.RunFolder.open(run).config, resume=run)


# --- before anything is executed


@pytest.fixture
def nothing_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise AssertionError("evidence was executed")

    monkeypatch.setattr(evidence, "execute_again", broken)


def test_keys_stage_and_signers_are_looked_at_before_evidence_is_executed(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], nothing_is_executed: None
) -> None:
    log, alice = copied(promoted, tmp_path)
    KeyFile.generate(tmp_path / "other.key")
    up, other = [str(log), "challenger", "--to"], str(tmp_path / "other.key")
    assert promote.main([*up, "paper", "--signer", "alice", "--key", str(tmp_path / "none.key")]) == 2
    said = capsys.readouterr().err
    assert "none.key: the key file cannot be read" in said and "--add-signer NAME --new-key FILE" in said
    for words, told in (
        (["paper"], "✗ signatures"), (["paper", "--signer", "alice", "--key", other], "not by the key on record"),
        (["paper", "--signer", "carol", "--key", other], "carol is not on record"), (["pilot", *alice], "✗ next stage"),
    ):  # fmt: skip
        assert promote.main([*up, *words]) == 1
        shown = capsys.readouterr().out
        assert told in shown, words
        assert ("executed again: not done" in shown) == (words[0] == "paper"), "for pilot there is nothing to execute"
    with pytest.raises(AssertionError, match="evidence was executed"):
        promote.main([*up, "paper", "--verify"])


def test_a_second_writer_hears_who_holds_the_folder(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    with Governed(log):
        assert promote.main([str(log), "challenger", "--to", "paper", *alice]) == 2
        said = capsys.readouterr().err
        assert f"in use by process {os.getpid()} (" in said and f"scripts/kill.py {log}" in said
        assert promote.main([str(log), "challenger"]) == 0, "to look nobody has to wait"


# --- who signs


def test_a_refused_person_leaves_no_key_behind(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    new = ["--new-key", str(tmp_path / "bob.key")]
    capsys.readouterr()
    for words, told in (
        (["bob"], "name who vouches: --signer NAME --key FILE"), (["alice", *alice], "on record already"),
        (["bob", "--role", "live", *alice], "roles live"),
    ):  # fmt: skip
        assert promote.main([str(log), "--add-signer", *words, *new]) == 1
        assert told in (err := capsys.readouterr().err) and "new key" not in err
        assert not (tmp_path / "bob.key").exists(), words
    KeyFile.generate(tmp_path / "bob.key")
    assert promote.main([str(log), "--add-signer", "bob", *new]) == 1
    assert (tmp_path / "bob.key").exists(), "a key that was there is not ours to remove"
    assert promote.main([str(log), "--add-signer", "bob", *new, *alice]) == 0


def test_a_key_that_may_open_the_switch_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    from emp_gym.governance.kill_switch import state as kill_state
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    keys = [KeyFile.generate(tmp_path / name).public_key for name in ("a.key", "b.key")]
    (tmp_path / "log" / "keys").mkdir(parents=True)
    (tmp_path / "log" / "kill").mkdir()
    (tmp_path / "log" / "keys" / "rearm.pub").write_text(f"{keys[0].hex()} alice", encoding="utf-8")  # by hand, no line end
    assert kill.main([str(tmp_path / "log"), "--allow", str(tmp_path / "b.key"), "--who", "bob"]) == 0
    assert set(kill_state.rearm_keys(tmp_path / "log")) == set(keys)


def test_a_revoked_key_signs_no_promotion_and_opens_no_switch(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, alice = copied(promoted, tmp_path)
    bob = ["--signer", "bob", "--key", str(tmp_path / "bob.key")]
    assert promote.main([str(log), "--add-signer", "bob", "--new-key", str(tmp_path / "bob.key"), *alice]) == 0
    assert kill.main([str(log), "--allow", str(tmp_path / "bob.key"), "--who", "bob"]) == 0
    assert promote.main([str(log), "challenger", "--to", "paper", *bob]) == 0
    capsys.readouterr()
    assert promote.main([str(log), "--revoke-signer", "bob", "--reason", "laptop stolen", *alice]) == 0
    said = capsys.readouterr().out
    assert "the key of bob is revoked" in said and "pilot asks for 2 signers, 1 left" in said
    assert promote.main([str(log), "champion", "--to", "paper", *bob]) == 1
    shown = capsys.readouterr().out
    assert "the key of bob was revoked (entry 7)" in shown and ": paper, evidence until" in shown, (
        "what it signed stays"
    )
    assert kill.main([str(log), "--reason", "test"]) == 0
    assert kill.main([str(log), "--rearm", "--key", str(tmp_path / "bob.key"), "--reason", "let me"]) == 1
    assert promote.main([str(log)]) == 0
    assert "alice (paper, pilot); bob (key revoked, entry 7)" in capsys.readouterr().out
    assert not verify(log / "ledger.log", log / "witness").findings
    last = [str(log), "--revoke-signer", "alice", "--reason", "leaves", *alice]
    assert promote.main(last) == 1 and "--ends paper pilot" in capsys.readouterr().err
    assert promote.main([*last, "--ends", "pilot", "paper", "--json"]) == 0
    assert said_of(capsys)["signers_left"] == {"paper": 0, "pilot": 0, "live": 0}


def test_a_promotion_is_signed_where_the_ledger_is_not(
    promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = copied(promoted, tmp_path)
    up = [str(log), "challenger", "--to", "paper"]
    assert promote.main([str(log), "challenger", "--to", "pilot", "--request", str(tmp_path / "no")]) == 1
    assert not (tmp_path / "no").exists(), "what is refused needs no signature"
    before = ledger_of(log).state.size
    assert promote.main([*up, "--request", str(tmp_path / "ask")]) == 0
    assert "Nothing is promoted" in capsys.readouterr().out and ledger_of(log).state.size == before
    signature = KeyFile(tmp_path / "g" / "alice.key").sign((tmp_path / "ask").read_bytes())
    for name, data, status in (
        ("alice", b"short", 2), ("alice", bytes(64), 1), ("bob", signature, 1), ("alice", signature.hex().encode(), 0),
    ):  # fmt: skip
        (tmp_path / "sig").write_bytes(data)
        assert promote.main([*up, "--approve", f"{name}={tmp_path / 'sig'}"]) == status, (name, data)
    assert ledger_of(log).stage("ofi-taker-0") == "paper" and not ledger_of(log).state.invalid
    assert ledger_of(log).log.entry(before).actor == "alice"


# --- what is shown


def test_the_list_fits_eighty_columns_and_names_are_whole(
    promoted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert promote.main([str(promoted / "log")]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "1 version, 1 trial; 5 entries" in shown and " ofi-taker-0 " in shown and "experiment" in shown
    assert "challenger → ofi-taker-0" in shown and "emp-lob-v0" in shown


def test_a_review_says_what_matters_of_the_setting_and_verbose_says_it_all(
    promoted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from emp_gym.cli.promotion_view import _setting

    limits = {"instrument": {"max_position": 7}, "portfolio": {"drawdown": {"hard": "9", "soft": "5"}, "capital": "1"}}
    gates = [{"gate": "risk", "limits": limits}, {"gate": "stage", "stage": "paper"}]
    assert _setting({"gates": gates, "every": "5 messages"}) == (
        ' (gates: risk (position ≤ 7, drawdown ≤ 9), stage; every="5 messages")'
    )
    assert _setting({}) == " (its defaults)" and _setting({"x": "y" * 99}) == " (x=…)"
    capsys.readouterr()
    for words, whole in (([], False), (["--verbose"], True)):
        assert promote.main([str(promoted / "log"), "challenger", *words]) == 0
        assert ('"every": "50 messages"' in capsys.readouterr().out) == whole
    assert promote.main([str(promoted / "log"), "challenger", "--json"]) == 0
    assert said_of(capsys)["keywords"]["every"] == "50 messages"


def test_an_alias_says_from_where_to_where(promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = copied(promoted, tmp_path)
    capsys.readouterr()
    assert promote.main([str(log), "challenger", "--alias", "night"]) == 0
    assert capsys.readouterr().out.startswith("night: nothing → ofi-taker-0 ")
    assert promote.main([str(log), "challenger", "--alias", "night"]) == 0
    assert "means ofi-taker-0" in capsys.readouterr().out and ledger_of(log).state.size == 6, "nothing was written"
    assert promote.main([str(log), "challenger", "--alias", "paper"]) == 1, "a name that follows from the record"


# --- exit status: 0 done, 1 the guard refuses, 2 the command was wrong


def test_what_the_rules_refuse_is_status_1(promoted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, alice = copied(promoted, tmp_path)
    capsys.readouterr()
    assert promote.main([str(log), "challenger", "--demote", "why"]) == 1
    assert "is in experiment, the lowest stage" in capsys.readouterr().err
    assert promote.main([str(log), "--revoke-signer", "nobody", "--reason", "x", *alice, "--json"]) == 1
    assert "no key on record" in said_of(capsys)["refused"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "paper"], "needs a STRATEGY"),
        (["--alias", "night", "--list"], "needs a STRATEGY"),
        (["x", "--list"], "--list is about no strategy"),
        (["--list", "--rules", "y"], "--rules goes with a STRATEGY"),
        (["x", "--demote", "y", "--rules", "z"], "--rules goes with a STRATEGY"),
        (["challenger", "--rules", "nowhere"], "no rules of stages"),
        (["x", "--request", "f"], "--request goes with --to"),
        (["x", "--to", "paper", "--request", "f", "--approve", "a=b"], "--request only writes"),
        (["x", "--to", "paper", "--approve", "alice"], "expected NAME=FILE"),
        (["x", "--to", "paper", "--approve", "alice=nowhere"], "cannot be read"),
        (["x", "--role", "paper"], "--role goes with --add-signer"),
        (["x", "--reason", "paper"], "--reason goes with --revoke-signer"),
        (["--revoke-signer", "alice"], "needs --reason TEXT, and --signer"),
        (["--add-signer", "bob", "--new-key", "no/such/folder/key"], "is no folder"),
        (["x", "--to", "paper", "--demote", "y"], "one thing at a time"),
        (["x", "--signer", "alice"], "come in pairs"),
        (["--add-signer", "bob"], "needs --new-key"),
        (["nobody"], "expected one of"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(
    promoted: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote.main([str(promoted / "log"), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote.main([str(tmp_path)]) == 2
    assert "not a governance folder" in capsys.readouterr().err


def test_a_file_in_place_of_the_folder_is_said(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote.main([str(promoted / "log" / "diary.log")]) == 2
    assert f"give the folder itself, {promoted / 'log'}" in capsys.readouterr().err
