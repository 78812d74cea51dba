"""What is promised about installing: two commands, pins that fit the ranges, doors that open."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")
ENTRIES = dict(line.split(" = ", 1) for line in SETUP["options.entry_points"]["console_scripts"].strip().split("\n"))
COMMANDS = {name.removeprefix("emp-"): entry.split(":") for name, entry in ENTRIES.items()}  # the one list is that of setup.cfg
README = {
    "main job": 'pip install -c constraints.txt -e ".[all]" && python scripts/train.py --env emp-lob-v0',
    "tests": 'pip install -c constraints.txt -e ".[test]" && pytest',
}


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s+]+", line) for line in lines), "one plain name==version a line"
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_requirement_has_a_pin_inside_its_range():
    texts = SETUP["options"]["install_requires"].split("\n")
    for extra in SETUP["options.extras_require"].values():
        texts += extra.split("\n")
    wanted = [Requirement(text) for text in texts if text.strip() and not text.strip().startswith("%")]
    known = pins()
    for requirement in wanted:
        version = known.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} has no pin in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the pinned {version}"


def test_the_version_is_a_literal_that_no_import_is_needed_for():
    body = ast.parse((ROOT / "emp_gym" / "__init__.py").read_text()).body
    found = [n.value for n in body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__version__"]
    assert len(found) == 1 and isinstance(found[0], ast.Constant)


@pytest.mark.parametrize("mark", README)
def test_the_readme_has_the_command_that_newcomers_and_ci_run(mark):
    text = (ROOT / "README.md").read_text()
    block = re.search(rf"<!-- command: {mark} -->\s*```\w*\n(.*?)\n```", text, re.DOTALL)
    assert block and block[1].strip() == README[mark]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_and_the_script_open_the_same_door(name):
    module, function = COMMANDS[name]
    assert callable(getattr(importlib.import_module(module), function))
    script = (ROOT / "scripts" / f"{name}.py").read_text()
    assert f"from {module} import {function}" in script or f"{module.replace('.', '/')}.py" in script
    assert len(script.splitlines()) <= 13, "a script is a thin door"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_quick_and_loads_no_learner(name):
    module, function = COMMANDS[name]
    program = (
        f"import sys; sys.argv = ['{name}', '--help']\n"
        f"from {module} import {function} as main\n"
        "try:\n    code = main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:] or "torch was imported for --help"
    assert "usage" in run.stdout.lower()


def test_every_script_is_a_command_and_every_command_has_a_script():
    assert sorted(path.stem for path in (ROOT / "scripts").glob("*.py")) == sorted(COMMANDS)


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_a_process_that_an_engine_starts_may_read_the_script_without_running_it(script: Path) -> None:
    runpy.run_path(str(script), run_name="__mp_main__")  # what `multiprocessing` does; would end in SystemExit


def test_an_unknown_option_is_refused_with_code_2():
    run = subprocess.run([sys.executable, "scripts/check.py", "--evn", "x"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2


def test_ci_is_a_program_that_bash_can_read():
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "shared" not in path.read_text(), "it must run on a machine that has nothing but this checkout"
