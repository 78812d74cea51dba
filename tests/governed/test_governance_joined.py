"""Governance as a whole, from the command line: a governed run leaves a diary that replays, a kill stops it, and only a key
on record lets it go on."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from emp_gym.cli import kill, train
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governance.folder import GovernanceFolder
from emp_gym.governance.kill_switch.gate import Killed
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governed.diary_replay import replay
from emp_gym.governed.run_hooks import Governed, weights_hash
from emp_gym.runs.run_folder import RunFolder

SHORT = ["--env", "emp-lob-v0", "--total-timesteps", "4096", "--num-envs", "16", "--set", "agent.n_steps=64"]
JUDGED = ["evaluation.episodes=2", "evaluation.baselines=[hold]"]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


def kinds(folder) -> list[str]:
    with LogReader(folder / "ledger.log") as reader:
        return [entry.kind for entry in reader.entries()]


def test_a_governed_run_is_in_the_ledger_and_its_diary_replays(tmp_path, capsys):
    folder, run = tmp_path / "log", tmp_path / "run"
    limits = ["--risk", "configs/limits/strict.yaml"]
    assert train.main([*SHORT, *JUDGED, *limits, "--govern", str(folder), "--run-dir", str(run)]) == 0
    assert kinds(folder) == ["trial", "register", "evaluation"]
    with LogReader(folder / "ledger.log") as ledger:
        (registered,) = ledger.entries(kind="register")
    with DiaryReader(folder) as reader:
        learned, judged = reader.runs()
        assert [gate["name"] for gate in learned.about["gates"]] == ["risk", "stage", "kill-switch"]
        policies = {learned.policy_at(step)[1] for step in range(0, 256, 64)}
        assert len(policies) == 4  # each rollout of 64 steps is by other weights
        assert learned.policy_at(0)[0] == "ppo-0" and judged.policy_at(0) == ("ppo-0", registered.subject_hash)
        for each in (learned, judged):
            found = replay(reader, each.number)
            assert found.difference is None and found.decisions > 0
        assert replay(reader, learned.number).decisions == 4096


def test_a_kill_ends_a_governed_run_and_only_a_key_on_record_lets_it_go_on(tmp_path, capsys):
    folder, run = tmp_path / "log", tmp_path / "run"
    GovernanceFolder.create(folder, clock=time.time_ns).close()
    bob, mallory = KeyFile.generate(tmp_path / "bob.key"), KeyFile.generate(tmp_path / "mallory.key")
    assert kill.main([str(folder), "--allow", str(tmp_path / "bob.key"), "--who", "bob"]) == 0
    assert (folder / "keys" / "rearm.pub").read_text() == f"{bob.public_key.hex()} bob\n"
    assert kill.main([str(folder), "--who", "alice", "--reason", "wrong data"]) == 0
    KillSwitch._all.pop(folder.resolve(), None)  # as in a new process
    assert train.main([*SHORT, "--no-evaluation", "--govern", str(folder), "--run-dir", str(run)]) == 2
    assert "stopped by the kill switch before it began" in capsys.readouterr().err
    assert kinds(folder) == ["kill"] and not run.exists()  # a run that cannot begin is no trial
    assert kill.main([str(folder), "--rearm", "--key", str(mallory.path), "--reason", "let me"]) == 1
    assert kill.main([str(folder), "--status"]) == 1
    sign = [str(folder), "--rearm", "--key", str(tmp_path / "bob.key"), "--reason", "mended"]
    assert kill.main([*sign, "--who", "carol"]) == 2 and "this key is bob's" in capsys.readouterr().err
    assert kill.main(sign) == 0 and "open again: bob" in capsys.readouterr().out
    assert train.main([*SHORT, "--no-evaluation", "--govern", str(folder), "--run-dir", str(run)]) == 0
    assert kinds(folder) == ["kill", "rearm", "trial", "register"]


def test_nothing_about_a_kill_is_said_twice(tmp_path, capsys, caplog):
    folder = tmp_path / "log"
    GovernanceFolder.create(folder, clock=time.time_ns).close()
    KeyFile.generate(tmp_path / "bob.key")
    assert kill.main([str(folder), "--allow", str(tmp_path / "bob.key"), "--who", "bob"]) == 0
    at, reasons = [str(folder)], ("feed looks wrong", "spread is gone")
    for words in (["--who", "alice", "--reason", reasons[0]], ["--who", "carol", "--reason", reasons[1]]):
        KillSwitch._all.pop(folder.resolve(), None)  # as in a new process
        capsys.readouterr()
        assert kill.main([*at, *words]) == 0
        said = capsys.readouterr()
        assert said.err == "" and said.out.count(words[-1]) == 1
    KillSwitch._all.pop(folder.resolve(), None)
    assert train.main([*SHORT, "--govern", str(folder), "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert [said.count(reason) for reason in reasons] == [1, 1] and said.startswith("train.py: stopped by the kill switch before")
    KillSwitch._all.pop(folder.resolve(), None)
    assert kill.main([*at, "--rearm", "--key", str(tmp_path / "bob.key"), "--reason", "mended"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and [said.out.count(words) for words in (*reasons, "mended")] == [1, 1, 1]
    assert not [record for record in caplog.records if "kill_switch" in record.name], "log lines go to standard error"


def test_a_run_goes_on_where_it_began_or_not_at_all(tmp_path, capsys):
    folder, run, other = tmp_path / "log", tmp_path / "run", tmp_path / "other"
    plain = [*SHORT, "--no-evaluation", "--run-dir"]
    assert train.main([*plain, str(run), "--govern", str(folder)]) == 0
    further = ["--no-evaluation", "--total-timesteps", "6144", "--resume"]
    assert train.main([*further, str(run)]) == 2 and "add --govern" in capsys.readouterr().err
    assert train.main([*plain, str(other)]) == 0
    for name in ("model.json", "model.safetensors"):  # as an interrupted run leaves it
        (other / name).unlink()
    assert train.main([*further, str(other), "--govern", str(folder)]) == 2
    assert "did not begin under" in capsys.readouterr().err
    assert kinds(folder) == ["trial", "register"]
    assert train.main([*further, str(run), "--govern", str(folder)]) == 0
    assert kinds(folder) == ["trial", "register", "trial", "resumed", "register"]


def test_a_wrong_folder_is_no_success(tmp_path, capsys):
    assert kill.main([str(tmp_path), "--reason", "x"]) == 2 and "NOTHING was stopped" in capsys.readouterr().err
    assert kill.main([str(tmp_path), "--status"]) == 2
    told = capsys.readouterr().err
    assert "NOTHING" not in told and "given to train.py as --govern LOGDIR" in told
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert train.main([*SHORT, "--govern", str(tmp_path / "file")]) == 2
    assert "no governance folder can be made here" in capsys.readouterr().err


def test_a_drawdown_names_the_version_that_lost(tmp_path):
    folder, run = tmp_path / "log", tmp_path / "run"
    assert train.main([*SHORT, "--no-evaluation", "--govern", str(folder), "--run-dir", str(run)]) == 0
    with Governed(folder) as governed:
        (version,) = governed.ledger.state.versions.values()
        config = RunFolder.open(run).config
        watchful = {"gate": "kill-switch", "folder": str(folder), "drawdown": 0.01}
        with pytest.raises(Killed):
            governed.evaluate([version], replace(config, env={**config.env, "gates": [watchful]}))
    with LogReader(folder / "ledger.log") as reader:
        (told,) = reader.entries(kind="kill")
    assert told.subject_hash == version.version and told.value["cause"] == "drawdown"


def test_weights_are_named_by_all_that_an_agent_learned():
    class Learned:
        def __init__(self, **arrays):
            self._arrays = arrays

        def arrays(self):
            return self._arrays

    a, b = np.arange(6.0), np.ones(3, np.float32)
    assert weights_hash(Learned(a=a, b=b)) == weights_hash(Learned(b=b.copy(), a=a.copy()))
    others = [Learned(a=a), Learned(a=b, b=a), Learned(a=a.reshape(2, 3), b=b), Learned(a=a + 1e-12, b=b), object()]
    assert len({weights_hash(other) for other in [Learned(a=a, b=b), *others]}) == 6
