"""Runs that are stopped, cut or copied: what is saved, what is said, and that going on is as if nothing had been."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest

from emp_gym.cli import evaluation, train
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.governance.log.reader import LogReader
from emp_gym.governance.verify import verify
from emp_gym.governed.diary_replay import replay
from emp_gym.terminal.console import ProgressBar
from emp_gym.training import train as training
from emp_gym.training.callbacks import Checkpointer

SHORT = ["--env", "emp-lob-v0", "--total-timesteps", "4096", "--num-envs", "16", "--no-evaluation", "--set",
         "agent.n_steps=64", "agent.batch_size=256", "agent.n_epochs=2", "agent.layers=[16]", "agent.threads=1",
         "env.episode=8 decisions", "checkpoints=2"]  # fmt: skip
LIMITS = ["--risk", "configs/limits/strict.yaml"]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, root) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert train.main([*SHORT, *LIMITS, "--run-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def signalled(monkeypatch):
    """Makes a signal arrive at the n-th report of training (from 1), once."""

    def at(number: signal.Signals, report: int) -> None:
        update, seen = ProgressBar.update, []

        def updated(self, steps, scalars):
            update(self, steps, scalars)
            seen.append(steps)
            if len(seen) == report:
                signal.raise_signal(number)

        monkeypatch.setattr(ProgressBar, "update", updated)

    return at


def kinds(folder) -> list[str]:
    with LogReader(folder / "ledger.log") as reader:
        return [entry.kind for entry in reader.entries()]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def curves(run: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((run / "curves.csv").open())
    return [{tag: value for tag, value in row.items() if tag not in ("time/fps", "time/seconds")} for row in rows]


def test_a_run_with_memory_around_a_baseline_that_measures_first_goes_on_to_the_bit(signalled, tmp_path, capsys):
    """The environment in which the baseline measured is closed by then, and is no lane of the run."""
    asked = ["--env", "emp-lob-market-making-v0", "--total-timesteps", "1024", "--num-envs", "16", "--no-evaluation", "--set",
             "extractor=gru", "residual=glft", "agent.residual_options={steps: 16384}", "agent.n_steps=16", "agent.batch_size=128",
             "agent.n_epochs=1", "agent.layers=[8]", "agent.extractor_width=8", "agent.threads=1", "env.episode=8 decisions"]  # fmt: skip
    assert train.main([*asked, "--run-dir", str(tmp_path / "whole")]) == 0
    signalled(signal.SIGINT, 2)
    assert train.main([*asked, "--run-dir", str(tmp_path / "cut")]) == 130
    assert (tmp_path / "cut" / "checkpoints" / "000000000512" / "lanes.npz").exists()
    assert train.main(["--resume", str(tmp_path / "cut"), "--no-evaluation"]) == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_ctrl_c_saves_and_resume_goes_on_to_the_bit(whole, signalled, tmp_path, capsys):
    run = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    signalled(signal.SIGINT, 1)
    assert train.main([*SHORT, *LIMITS, "--run-dir", str(run)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"train.py: interrupted at 1,024 of 4,096 steps; saved in {run}; to go on: python scripts/train.py --resume {run} "
        "--no-evaluation"
    )
    assert not (run / "model.json").exists() and signal.getsignal(signal.SIGINT) is before
    assert train.main(["--resume", str(run), "--no-evaluation"]) == 0
    assert weights(run) == weights(whole)
    assert len(curves(run)) == 4 and curves(run) == curves(whole)
    last = "checkpoints/000000004096"
    assert sorted(p.name for p in (run / last).iterdir()) == sorted(p.name for p in (whole / last).iterdir())
    for name in ("training.safetensors", "model.safetensors", "training.json"):
        assert (run / last / name).read_bytes() == (whole / last / name).read_bytes()


def test_a_second_ctrl_c_ends_at_once_without_saving(tmp_path, monkeypatch, signalled):
    ended = []
    monkeypatch.setattr("os.kill", lambda pid, number: ended.append(number) or (_ for _ in ()).throw(SystemExit))
    signalled(signal.SIGTERM, 1)
    monkeypatch.setattr(Checkpointer, "keep", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        train.main([*SHORT, "--run-dir", str(tmp_path / "run")])
    assert ended == [signal.SIGTERM]


def test_sigterm_closes_a_governed_run_and_the_same_trial_goes_on(whole, signalled, tmp_path, capsys):
    folder, run = tmp_path / "log", tmp_path / "run"
    signalled(signal.SIGTERM, 3)
    assert train.main([*SHORT, *LIMITS, "--run-dir", str(run), "--govern", str(folder)]) == 143
    assert f"--resume {run} --govern {folder}" in capsys.readouterr().err
    assert kinds(folder) == ["trial", "interrupted"]
    for log in ("ledger.log", "diary.log"):
        assert verify(folder / log, folder / "witness").whole
    assert train.main(["--resume", str(run), "--no-evaluation", "--govern", str(folder)]) == 0
    assert "goes on at step 3,072 of trial 0, which was cut; it stays the same trial" in capsys.readouterr().err
    assert weights(run) == weights(whole)
    with LogReader(folder / "ledger.log") as reader:
        _, cut, resumed, registered = reader.entries()
    assert cut.value["checkpoint"] == resumed.value["checkpoint"] and resumed.value["steps"] == 3072
    assert (registered.kind, registered.value["trial"], registered.value["parent"]) == ("register", 0, "")
    folder = folder.rename(tmp_path / "moved")
    with DiaryReader(folder) as reader:
        first, second = reader.runs()
        assert first.end == {"steps": 192, "decisions": 3072} and second.end == {"steps": 64, "decisions": 1024}
        for each in (first, second):  # the second begins in the middle of episodes, from an artefact beside the diary
            found = replay(reader, each.number)
            assert found.difference is None and found.decisions == each.end["decisions"]
    for log in ("ledger.log", "diary.log"):
        assert verify(folder / log, folder / "witness").whole


def test_a_governed_run_that_is_done_says_so_and_is_no_other_version(tmp_path, capsys):
    folder, run = tmp_path / "log", tmp_path / "run"
    assert train.main([*SHORT, "--run-dir", str(run), "--govern", str(folder)]) == 0
    capsys.readouterr()
    assert train.main(["--resume", str(run), "--no-evaluation", "--govern", str(folder)]) == 0
    assert f"{run} is done (4,096 steps): nothing to train" in capsys.readouterr().err
    assert kinds(folder) == ["trial", "register"]
    further = ["--resume", str(run), "--no-evaluation", "--govern", str(folder), "--total-timesteps"]
    assert train.main([*further, "6144"]) == 0 and "made from version" in capsys.readouterr().err
    with LogReader(folder / "ledger.log") as reader:
        first, second = reader.entries(kind="register")
    assert second.value["parent"] == first.subject_hash and json.loads((run / "config.json").read_text())["total_timesteps"] == 6144


def test_a_cut_run_with_more_steps_is_another_trial_that_says_it_has_no_parent(signalled, tmp_path, capsys):
    folder, run = tmp_path / "log", tmp_path / "run"
    signalled(signal.SIGINT, 2)
    assert train.main([*SHORT, "--run-dir", str(run), "--govern", str(folder)]) == 130
    further = ["--resume", str(run), "--no-evaluation", "--govern", str(folder), "--total-timesteps", "5120"]
    assert train.main(further) == 0
    said = "goes on at step 2,048 of trial 0, as trial 2: what it gives will be without a parent, since no version"
    assert said in capsys.readouterr().err
    with LogReader(folder / "ledger.log") as reader:
        (told,), (made,) = reader.entries(kind="resumed"), reader.entries(kind="register")
    assert (told.value["from"], told.value["trial"], made.value["trial"]) == (0, 2, 2)


def test_a_checkpoint_of_another_run_is_refused_under_governance(signalled, tmp_path, capsys):
    folder, run, other = tmp_path / "log", tmp_path / "run", tmp_path / "other"
    signalled(signal.SIGINT, 2)
    assert train.main([*SHORT, "--run-dir", str(run), "--govern", str(folder)]) == 130
    assert train.main([*SHORT, "--run-dir", str(other), "--govern", str(folder), "--seed", "1"]) == 0
    assert train.main([*SHORT, "--run-dir", str(tmp_path / "free")]) == 0
    resume = ["--resume", str(run), "--no-evaluation", "--govern", str(folder)]
    capsys.readouterr()

    def refused() -> str:
        size = len(kinds(folder))
        assert train.main(resume) == 2 and len(kinds(folder)) == size
        return capsys.readouterr().err

    own, last = tmp_path / "own", run / "checkpoints" / "000000002048"
    shutil.copytree(run / "checkpoints", own)
    for source, why in ((other, "is of another run: expected trial 0"), (tmp_path / "free", "was not made under governance")):
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(source / "checkpoints", run / "checkpoints")
        assert why in refused()
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(own, run / "checkpoints")
    for name in ("training.safetensors", "lanes.npz"):
        data = (last / name).read_bytes()
        (last / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        said = refused()
        assert f"{name} is not what was saved: expected SHA-256" in said and ", got " in said and "put back" in said
        (last / name).write_bytes(data)
    seal = (last / "seal.json").read_text()
    (last / "seal.json").write_text(json.dumps(json.loads(seal) | {"trial": 3}))
    assert "not signed by this ledger" in refused()
    (last / "seal.json").write_text(seal)
    assert train.main(resume) == 0


def test_a_model_that_was_put_into_a_governed_run_is_not_taken_for_its_own(tmp_path, signalled):
    """Of an agent without checkpoints, whose files nothing binds to the trial but the registry."""
    folder, run, other = tmp_path / "log", tmp_path / "run", tmp_path / "other"
    words = ["--env", "emp-lob-v0", "--agent", "symmetric", "--no-evaluation"]
    assert train.main([*words, "--run-dir", str(run), "--govern", str(folder)]) == 0
    assert train.main([*words, "--run-dir", str(other), "--seed", "9"]) == 0
    own = (run / "model.json").read_bytes()
    shutil.copy(other / "model.json", run / "model.json")
    assert (run / "model.json").read_bytes() != own
    assert train.main(["--resume", str(run), "--no-evaluation", "--govern", str(folder)]) == 0
    assert (run / "model.json").read_bytes() == own and kinds(folder) == ["trial", "register"]


def test_a_run_without_a_checkpoint_begins_again_in_its_folder(whole, tmp_path, monkeypatch):
    """As after a `kill -9` in the first minutes."""
    run, folder = tmp_path / "run", tmp_path / "log"
    with monkeypatch.context() as patch:
        patch.setattr(training, "_learn", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            train.main([*SHORT, *LIMITS, "--run-dir", str(run), "--govern", str(folder)])
    assert train.main([*SHORT, *LIMITS, "--run-dir", str(run)]) == 2, "there is a run"
    assert train.main(["--resume", str(run), "--no-evaluation", "--govern", str(folder)]) == 0
    assert weights(run) == weights(whole) and kinds(folder) == ["trial", "resumed", "register"]


def test_seeds_that_were_stopped_say_which_are_done_and_go_on_together(signalled, tmp_path, capsys):
    root, words = tmp_path / "root", [*SHORT, "--seeds", "3", "--seed", "5"]
    assert train.main([*words, "--run-dir", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    signalled(signal.SIGINT, 6)  # four reports a seed
    assert train.main([*words, "--run-dir", str(root)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"saved in {root / 'seed-6'} (seed 6; seeds done: 5; not begun: 7); to go on: " in said and f"--resume {root} " in said
    assert train.main([*words, "--run-dir", str(root)]) == 2 and f"--resume {root}" in capsys.readouterr().err
    assert train.main(["--resume", str(root), "--no-evaluation"]) == 0
    assert f"{root / 'seed-5'} is done" in capsys.readouterr().err
    for seed in ("seed-5", "seed-6", "seed-7"):
        assert weights(root / seed) == weights(tmp_path / "whole" / seed)


def test_a_kill_signal_before_the_switch_is_there_closes_it(tmp_path, monkeypatch, capsys):
    folder, opened = tmp_path / "log", evaluation.governance

    def late(*words, **keywords):
        signal.raise_signal(signal.SIGUSR1)  # its default action would end this process
        return opened(*words, **keywords)

    monkeypatch.setattr(evaluation, "governance", late)
    assert train.main([*SHORT, "--run-dir", str(tmp_path / "run"), "--govern", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "stopped by the kill switch before it began" in said and "SIGUSR1 was received" in said
    assert kinds(folder) == ["kill"] and KillSwitch.seen(folder) is not None


def test_ctrl_c_while_it_is_judged_says_how_to_judge(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    monkeypatch.setattr(evaluation, "judge_and_report", lambda *_: signal.raise_signal(signal.SIGINT))
    words = [word for word in SHORT if word != "--no-evaluation"]
    assert train.main([*words, "--run-dir", str(run)]) == 130
    assert f"trained and saved in {run}, not judged" in capsys.readouterr().err and (run / "model.json").exists()


def test_tensorboard_forgets_what_was_lost_and_done_again(whole, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for name in ("000000004096",):
        shutil.rmtree(run / "checkpoints" / name)  # as if cut after the last report, before its checkpoint
    assert train.main(["--resume", str(run), "--no-evaluation"]) == 0
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1024, 2048, 3072, 4096]
    assert curves(run) == curves(whole) and weights(run) == weights(whole)
