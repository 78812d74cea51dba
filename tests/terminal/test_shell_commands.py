"""Commands that are printed can be pasted."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from emp_gym.terminal.shell_commands import command, program


@pytest.mark.parametrize(
    ("called", "begins"),
    [
        ("scripts/train.py", ["python", "scripts/evolve.py"]),
        ("../repo/scripts/train.py", ["python", "../repo/scripts/evolve.py"]),
        ("/opt/bin/emp-train", ["emp-evolve"]),
        ("pytest", ["python", "scripts/evolve.py"]),
    ],
)
def test_a_command_is_called_as_this_process_was(called: str, begins: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    told = command(*program("evolve"), "--resume", Path("runs/it's a b"), "--num-workers", 2)
    assert shlex.split(told) == [*begins, "--resume", "runs/it's a b", "--num-workers", "2"]


FLAGS = r"--(?:resume|run|report|govern|run-dir|logdir|out)|(?:kill|promote|verify|diary)\.py|optuna-dashboard"
PRINTED = re.compile(rf"(?:{FLAGS}) \{{(?!shlex|self\.flags|alias)([^}}]*)\}}")


def unquoted(folder: Path) -> list[str]:
    """Places below `folder` where a path goes into a command as it is."""
    return [f"{path.name}: {hit.group(0)}" for path in sorted(folder.rglob("*.py")) for hit in PRINTED.finditer(path.read_text())]


def test_paths_in_printed_commands_are_quoted(root: Path, tmp_path: Path) -> None:
    assert unquoted(root / "emp_gym") == []
    (tmp_path / "a.py").write_text('say(f"go on with train.py --resume {run.path}")')
    assert unquoted(tmp_path) == ["a.py: --resume {run.path}"], "the check sees one"
