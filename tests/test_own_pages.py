"""Pages on what somebody brings: the file on top of each is that of the example package, and every block runs in an empty folder, with
budgets cut down."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emp_gym.cli import user_modules

PACKAGE = Path("tests/third_party/emp_example_market/emp_example_market")
SAME = {f"own_{name}": name for name in ("market", "task", "reward", "features", "gate", "agent")}
PAGES = (*SAME, "own_environment")
TRAIN = ["--total-timesteps", "256", "--num-envs", "8", "--no-evaluation"]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
WHOLE = re.compile(r"# (my_\w+\.py)\n")  # a file to save under this name
ELSEWHERE = ("sb3_agents", "cleanrl_agent", "stable_baselines3", "sb3_contrib")  # the files of docs/examples, see test_sb3 and test_torch
NEEDS = {"own_reward": ("own_features",)}  # pages whose files it says to save, too


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; what is put on the path is taken away again, and so are the modules of the folder."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def blocks(root: Path, page: str) -> list[tuple[str, str]]:
    """(language, text) of those that run here."""
    found = BLOCK.findall((root / "docs" / f"{page}.md").read_text())
    return [(kind, text) for kind, text in found if not any(name in text for name in ELSEWHERE)]


def save(root: Path, page: str, folder: Path) -> None:
    for kind, text in blocks(root, page):
        if kind == "python" and (name := WHOLE.match(text)):
            (folder / name[1]).write_text(text[name.end() :])


def run(words: list[str]) -> None:
    """A command, as quick as it can be: trained for a moment and not judged; an environment is made, and one episode played there."""
    command = importlib.import_module(f"emp_gym.cli.{words[0].removeprefix('emp-')}")
    if words[0] == "emp-train":
        for option in ("--total-timesteps", "--seeds"):
            if option in words:
                del words[words.index(option) : words.index(option) + 2]
        short = [] if "my_env" in " ".join(words) else ["--set", "env.episode=16 decisions"]
        assert command.main([*words[1:], *TRAIN, *short]) == 0
    elif "--env" in words:
        arguments = command._arguments(words[1:])
        user_modules.admit(arguments)
        assert command._trainable(arguments.env, command._keywords(arguments.set))["missing"] == []
    elif words[0] != "emp-evaluate":  # judged in third_party/test_example_market
        assert command.main(words[1:]) == 0


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs_in_an_empty_folder(page: str, root: Path, here: Path) -> None:
    for each in (page, *NEEDS.get(page, ())):
        save(root, each, here)
    for kind, text in blocks(root, page):
        if kind == "python" and not WHOLE.match(text):
            exec(compile(text, f"{page}.md", "exec"), {"__name__": "page"})
        for line in text.splitlines() if kind == "bash" else ():
            run(shlex.split(line, comments=True))


@pytest.mark.parametrize("page", SAME)
def test_the_file_on_top_of_the_page_is_that_of_the_example_package(page: str, root: Path) -> None:
    first = next(text for kind, text in blocks(root, page) if kind == "python")
    name = WHOLE.match(first)
    assert name is not None and name[1] == f"my_{SAME[page]}.py"
    told, package = first[name.end() :], (root / PACKAGE / f"{SAME[page]}.py").read_text()
    assert told.strip() == package.strip()


@pytest.mark.parametrize("page", PAGES)
def test_links_between_the_pages_lead_somewhere(page: str, root: Path) -> None:
    for link in re.findall(r"\]\(([\w./-]+?)(?:#[\w-]+)?\)", (root / "docs" / f"{page}.md").read_text()):
        assert (root / "docs" / link).exists(), f"{page}.md links to {link}"
