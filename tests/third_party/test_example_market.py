"""A package that brings a market, a task, a reward, feature sets, a gate and an agent is installed elsewhere, checked, trained and judged
from an empty folder; the same is found as modules and files of that folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "emp_example_market"
IDS = ("emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0")
SMALL = ["env.episode=16 decisions", "evaluation.episodes=4", "evaluation.resamples=100"]
PROGRAM = """
import contextlib, importlib, io, json, sys
told = []
for name, *words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = importlib.import_module(f"emp_gym.cli.{name}").main(words)
    told.append((status, out.getvalue(), err.getvalue()))
json.dump(told, sys.stdout)
"""  # one process for many commands: loading takes longer than any of them


class Told(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str


def commands(folder: Path, path: list[Path], lines: list[list[str]]) -> list[Told]:
    """The commands `lines`, each a name and its words, given in `folder`."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        input=json.dumps(lines), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [Told(*told) for told in json.loads(done.stdout)]


def plugged(market: str, task: str, reward: str, features: str, gate: str) -> list[str]:
    """An environment of nothing but theirs, as ``--set`` takes it."""
    own = f'env.features=[book, account, "{features}"]'
    return ["--set", f"env.market={market}", f"env.task={task}", f"env.reward={reward}", own, f'env.gates=["{gate}"]', *SMALL]


NAMES = ("walk", "position", "growth", "skew", "lunch")
CLASSES = ("market:Walk", "task:Position", "reward:Growth", "features:Skew", "gate:Lunch")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package was installed, without network."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


def test_it_is_checked_trained_and_judged_by_its_names(site: Path, tmp_path: Path) -> None:
    here = tmp_path / "empty"
    check = [["check", "--market", "walk", "--set", "spread=4", "--json"], ["check", "--agent", "follow"]]
    check += [["check", "--env", name, "--set", "env.market=walk", SMALL[0], "--skip", "conformance", "--json"] for name in IDS]
    train = ["train", "--env", IDS[0], "--agent", "follow", "--total-timesteps", "1024", "--run-dir", "run", *plugged(*NAMES)]
    market, agent, *environments, trained, judged = commands(here, [site, ROOT], [*check, train, ["evaluate", "--run", "run", "--json"]])
    assert market.status == 0 and json.loads(market.out)["ok"], market
    assert agent == Told(0, "follow conforms\n", "")
    for told in environments:
        contract = json.loads(told.out)["checks"][-1]
        assert told.status == 0 and contract["check"] == "the_training_contract" and contract["missing"] == [], told
    assert trained.status == 0, trained.err
    report = (here / "run" / "report.md").read_text()
    assert "a SIMULATED market, emp_example_market.market:Walk, seeds 1,073,741,824 to " in report and "of unseen seeds" in report
    assert "as emp_example_market.market:Walk has them" in report
    assert "basis points of wealth" in report and "follow" in report and "growth" in report and "skew" in report
    assert judged.status == 0, judged.err
    kept = json.loads((here / "run" / "evaluation.json").read_text())
    assert json.loads(judged.out)["results"]["follow"] == kept["results"]["follow"]


def test_modules_and_files_of_the_working_folder_are_found_and_typos_are_told_the_nearest(site: Path, tmp_path: Path) -> None:
    here = tmp_path / "own"
    shutil.copytree(PACKAGE / "emp_example_market", here)
    (here / "__init__.py").unlink()
    train = ["train", "--env", IDS[0], "--total-timesteps", "256", "--no-evaluation"]
    files = [f"./{name.replace(':', '.py:')}" for name in CLASSES]
    lines = [
        [*train, "--agent", "agent:Follow", "--run-dir", "modules", *plugged(*CLASSES)],
        [*train, "--agent", "./agent.py:Follow", "--run-dir", "files", *plugged(*files)],
        ["check", "--market", "./market.py:Walk", "--set", "spred=4"],
    ]
    names, classes = [*zip(NAMES, CLASSES, strict=True)], [*CLASSES]
    for at, (name, cls) in enumerate(names):
        typo, near = [*classes], cls[:-1]
        typo[at] = near
        lines.append([*train, "--agent", "agent:Follow", *plugged(*typo)])
        lines.append([*train, "--agent", "agent:Follow", *plugged(*classes[:at], name[:-1], *classes[at + 1 :])])
    lines += [[*train, "--agent", "folow", *plugged(*CLASSES)], [*train, "--agent", "agent:Folow", *plugged(*CLASSES)]]
    modules, of_files, keyword, *typos = commands(here, [site, ROOT], lines)
    assert modules.status == of_files.status == 0, modules.err + of_files.err
    told = [json.loads((here / run / "config.json").read_text())["env"] for run in ("modules", "files")]
    assert told[0] == told[1] and told[0]["market"] == "market:Walk"
    assert keyword.status == 2 and "spred" in keyword.err and "'spread'" in keyword.err
    wanted = [word for name, cls in names for word in (cls.partition(":")[2], name)] + ["follow", "Follow"]
    for typo, near in zip(typos, wanted, strict=True):
        assert typo.status == 2 and "did you mean" in typo.err and near in typo.err.partition("did you mean")[2], typo
        assert typo.err.count("\n") == 1


ASYNC = """
import sys

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv

KEYWORDS = dict(market="market:Walk", task="task:Position", reward="reward:Growth", features=["book", "account", "features:Skew"],
                gates=[{"gate": "gate:Lunch", "begin": 0.0, "end": 24.0}], episode="8 decisions")

def make():
    import emp_gym

    return gym.make("emp-lob-v0", **KEYWORDS)

if __name__ == "__main__":
    lanes, twins = AsyncVectorEnv([make] * 2, context=sys.argv[1], shared_memory=False), [make() for _ in range(2)]
    first, _ = lanes.reset(seed=[3, 4])
    assert all((mine == twin.reset(seed=seed)[0]).all() for mine, twin, seed in zip(first, twins, (3, 4)))
    for action in (1, 5, 0, 2):
        observation, reward, *_, info = lanes.step(np.full(2, action))
        for lane, twin in enumerate(twins):
            alone = twin.step(action)
            assert (alone[0] == observation[lane]).all() and alone[1] == reward[lane] and alone[4]["cost"] == info["cost"][lane]
    assert info["cost"].any() and (info["reason"] == 1 << 32).any()
    lanes.close()
"""


def test_those_of_the_working_folder_are_there_in_workers_of_every_kind(tmp_path: Path) -> None:
    here = tmp_path / "own"
    shutil.copytree(PACKAGE / "emp_example_market", here)
    (here / "__init__.py").unlink()
    (here / "apart.py").write_text(ASYNC)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for context in ("fork", "spawn"):
        done = subprocess.run([sys.executable, "apart.py", context], cwd=here, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
    workers = ["--engine", "processes", "--num-workers", "2"]
    train = ["train", "--env", IDS[0], "--agent", "agent:Follow", "--total-timesteps", "256", "--seeds", "2", *workers, "--run-dir", "run"]
    (trained,) = commands(here, [ROOT], [[*train, *plugged(*CLASSES)]])
    assert trained.status == 0 and "2 of 2" in trained.err, trained
    judged = commands(tmp_path, [ROOT], [["evaluate", "--run", f"own/run{part}", *more] for part, more in (("", workers), ("/seed-1", []))])
    assert [told.status for told in judged] == [0, 0], judged


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_the_three_ids_conform_on_its_market(site: Path, tmp_path: Path, name: str) -> None:
    (told,) = commands(tmp_path, [site, ROOT], [["check", "--env", name, "--set", "env.market=walk", "--json"]])
    assert told.status == 0, [check for check in json.loads(told.out)["checks"] if check["findings"]]
