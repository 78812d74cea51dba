"""Agents are found by name, by module:Class, by entry point; what is not there is named with its nearest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emp_gym.agents import registry


def test_module_and_class() -> None:
    assert registry.find("emp_gym.agents.baselines:Hold").__name__ == "Hold"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("randon", "random"),
        ("PPO", "ppo"),
        ("emp_gym.agents.baselines:Holt", "Hold"),
        ("no_such_module:Agent", "no_such_module"),
        ("emp_gym.agents.baselines:Menu", "no act method"),
    ],
)
def test_unknown_names_the_nearest(asked: str, said: str) -> None:
    with pytest.raises(registry.UnknownAgent, match=said):
        registry.find(asked)


def test_a_missing_package_gives_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import sb3_contrib.surely_not_here\nclass A:\n    def act(self): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(registry.MissingPackage, match=r'pip install "emp-gym\[contrib\]"'):
        registry.find("needs_more:A")


def test_importing_agents_loads_no_torch() -> None:
    import subprocess

    code = "import sys, emp_gym.agents; print('torch' in sys.modules, 'stable_baselines3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
