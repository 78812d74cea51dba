"""Install by need: the core trades in every id alone, and what is missing is one line with the command that brings it."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from emp_gym import extras
from emp_gym.types import ConfigError

PIP = {"stable_baselines3": "stable-baselines3", "faiss": "faiss-cpu", "cv2": "opencv-python-headless"}
ALONE = (
    "governance/verify.py",
    "envs/conformance/scalar.py",
    "benchmarks/",
)  # each says in its own words what is missing
WITHOUT = "import sys\nfrom emp_gym.extras import EXTRAS\nsys.modules.update(dict.fromkeys(EXTRAS))\n"  # None: Python finds none
TRADE = """
import gymnasium as gym
import emp_gym
for name in sorted(name for name in gym.registry if name.startswith("emp-")):
    for env in (gym.make(name), gym.make_vec(name, num_envs=2)):
        env.reset(seed=1)
        env.action_space.seed(1)
        for _ in range(3):
            env.step(env.action_space.sample())
        env.close()
gym.make("emp-lob-v0", gates=[{"gate": "risk", "limits": "configs/limits/default.yaml"}]).reset(seed=1)
"""


def requirements(root: Path) -> dict[str, set[str]]:
    """Extra, or "" for the core -> names of distributions, those of extras that it names included."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(root / "setup.cfg")
    texts = {"": parser["options"]["install_requires"], **parser["options.extras_require"]}

    def names(extra: str) -> set[str]:
        found: set[str] = set()
        for line in texts[extra].strip().split("\n"):
            found |= names(line[2:-2]) if line.startswith("%") else {line.partition(">")[0].partition("[")[0]}
        return found

    return {extra: names(extra) for extra in texts}


def without(program: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program], cwd=root, capture_output=True, text=True, timeout=300
    )


def unannounced(path: Path) -> list[str]:
    """Imports inside functions, of a package that an extra brings, before which nothing says so."""
    found = []
    for function in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)):
        needed, guarded = {}, set()
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need":
                needed.update({each.value: node.lineno for each in node.args if isinstance(each, ast.Constant)})
            if isinstance(node, ast.Try) and any(
                "NotFound" in ast.dump(each) or "ImportError" in ast.dump(each) for each in node.handlers
            ):
                guarded |= set(ast.walk(node))
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
                names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                for package in {name.partition(".")[0] for name in names} & set(extras.EXTRAS):
                    if needed.get(package, node.lineno) >= node.lineno:
                        found.append(f"{path.name}:{node.lineno} {package}")
    return found


def test_the_table_says_which_extra_brings_a_package(root: Path) -> None:
    wanted = requirements(root)
    for package, extra in extras.EXTRAS.items():
        name = PIP.get(package, package.replace("_", "-"))
        assert name in wanted[extra], f"emp-gym[{extra}] does not bring {name}"
        assert name not in wanted[""], f"{name} is of the core, so nothing is said about it"


def test_all_of_it_is_what_the_commands_need(root: Path) -> None:
    wanted = requirements(root)
    assert (
        wanted["agents"] | wanted["search"] | wanted["memory"] | wanted["governance"] | wanted["report"]
        == wanted["all"]
    )
    assert wanted["all"] <= wanted["test"] <= wanted["dev"]


def test_the_core_alone_trades_in_every_id(root: Path) -> None:
    done = without(TRADE, root)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("program", "extra"),
    [
        ("from emp_gym.agents.ppo import PPO", "agents"),
        ("from emp_gym.agents.adapters import SB3Agent", "agents"),
        ("import emp_gym.agents.backbones", "agents"),
        ("from emp_gym.envs.sb3 import NativeVecEnv", "agents"),
        ("from emp_gym.memory.index import FaissIndex\nimport numpy as np\nFaissIndex(2)", "memory"),
        ("from emp_gym.governance.log.signed_tree_heads import KeyFile\nKeyFile.generate('never.key')", "governance"),
        ("import gymnasium as gym\ne = gym.make('emp-lob-v0', render_mode='rgb_array')\ne.reset(seed=1)\ne.render()", "report"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_in_one_line_of_ours(program: str, extra: str, root: Path) -> None:
    done = without(program, root)
    last = done.stderr.strip().split("\n")[-1]
    assert last.startswith("emp_gym.extras.MissingPackage:") and f'pip install "emp-gym[{extra}]"' in last, done.stderr[
        -2000:
    ]


@pytest.mark.parametrize(
    ("words", "extra"), [("train --env emp-lob-v0", "agents"), ("evolve --env emp-lob-v0 --agent ppo", "search")]
)
def test_a_command_that_lacks_a_package_says_one_line_and_ends_with_2(words: str, extra: str, root: Path) -> None:
    name, *rest = words.split()
    done = without(f"from emp_gym.cli.{name} import main\nsys.exit(main({rest!r}))", root)
    assert done.returncode == 2 and f'pip install "emp-gym[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_an_error_of_ours_and_an_import_error() -> None:
    with pytest.raises(ConfigError, match="pip install surely_not_here"):
        extras.need("numpy", "surely_not_here")
    with pytest.raises(ImportError):
        extras.need("surely_not_here")
    assert extras.told(ModuleNotFoundError("no", name="surely_not_here")) is None
    assert "emp-gym[agents]" in str(extras.told(ModuleNotFoundError("no", name="torch.nn")))


def test_no_function_imports_a_package_of_an_extra_without_a_word(root: Path) -> None:
    sources = [
        path
        for path in (root / "emp_gym").rglob("*.py")
        if not path.relative_to(root / "emp_gym").as_posix().startswith(ALONE)
    ]
    assert [each for path in sources for each in unannounced(path)] == []


def test_such_an_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "fault.py").write_text(
        'def f():\n    import torch\n    need("torch")\ndef g():\n    need("apsw")\n    import apsw\n'
    )
    assert unannounced(tmp_path / "fault.py") == ["fault.py:2 torch"]


def test_the_conformance_of_an_environment_is_checked_without_what_draws(root: Path) -> None:
    program = """
import emp_gym
from emp_gym.envs.conformance.scalar import gymnasium_accepts, sb3_accepts
from emp_gym.envs.conformance.subject import Skip, Subject
for check in (gymnasium_accepts, sb3_accepts):
    try:
        print(list(check(Subject.of("emp-lob-execution-v0"))))
    except Skip as skipped:
        print("skip", skipped)
"""
    done = without(program, root)
    assert done.stdout.count("skip") == 2 and 'pip install "emp-gym[report]"' in done.stdout, (
        done.stdout + done.stderr[-2000:]
    )
