"""A package that knows nothing of this repository but its public protocol is installed elsewhere and trained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "emp_example_agent"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the checkout into which the example package was installed, without network."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder


def command(elsewhere: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A script of ours, run from `elsewhere` with the package on its path."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(elsewhere / "site"), str(root)])
    return subprocess.run(
        [sys.executable, str(root / "scripts" / script), *words],
        cwd=elsewhere, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip


def test_it_trains_by_name_and_is_judged_again_from_its_files(elsewhere: Path) -> None:
    small = ["--data", "synthetic:rows=4000", "--set", "env.episode=16 decisions", "agent.num_envs=64"]
    words = ["--env", "emp-lob-v0", "--agent", "linear-search", "--total-timesteps", "4096", "--run-dir", "run"]
    done = command(elsewhere, "train.py", *words, *small)
    assert done.returncode == 0, done.stderr[-2000:]
    report = (elsewhere / "run" / "report.md").read_text()
    assert "linear-search" in report and "hold" in report
    assert (elsewhere / "run" / "model.safetensors").exists() and (elsewhere / "run" / "learning_curve.png").exists()
    header = (elsewhere / "run" / "curves.csv").read_text().splitlines()[0]
    assert "search/mean_return" in header and "market/pnl" in header
    done = command(elsewhere, "evaluate.py", "--run", "run", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    kept = json.loads((elsewhere / "run" / "evaluation.json").read_text())
    assert json.loads(done.stdout)["results"]["linear-search"] == kept["results"]["linear-search"]


def test_it_conforms(elsewhere: Path) -> None:
    small = "{'data': 'synthetic:rows=4000', 'episode': '16 decisions'}"
    code = "from emp_gym.agents.check import conformance; "
    code += f"print(conformance('emp_example_agent:LinearSearch', 'emp-lob-v0', {small}))"
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(elsewhere / "site"), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr[-2000:]


def test_without_the_package_its_name_is_unknown(tmp_path: Path) -> None:
    done = command(tmp_path, "train.py", "--env", "emp-lob-v0", "--agent", "linear-search")
    assert done.returncode == 2
    assert "unknown agent 'linear-search'" in done.stderr and len(done.stderr.strip().splitlines()) == 1
