"""Every block of README and docs: Python runs in an empty folder on the embedded days, command lines are ones that their command takes,
settings are read. What a page says that its reader has already stands in GIVEN; budgets are cut by CUT. The pages on what somebody
brings have a test of their own (test_own_pages)."""

from __future__ import annotations

import argparse
import configparser
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

import emp_gym
from emp_gym.envs.about import about
from emp_gym.risk.limits import Limits
from emp_gym.runs.config import RunConfig
from emp_gym.search.space import FlatSpace

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\]\((?!https?:|#|environments/|mailto:)([\w./-]+)(?:#[\w-]+)?\)")
PICTURE = re.compile(r"!\[[^\]]+\]\((?!https?:)([\w./-]+)\)")
MADE = {"commands.md", "changelog.md", "contributing.md", "security.md"}  # by the documentation's build
OTHERS = {
    "pip",
    "python3",
    "pytest",
    "openssl",
    "export",
    "mkdocs",
    "optuna-dashboard",
    ".",
}  # commands that are not ours
BOOK = 'import time\nimport gymnasium as gym\nimport emp_gym\nenv = gym.make_vec("emp-lob-v0", num_envs=256)\nenv.reset(seed=1)\n'
GIVEN = {
    "README": "import gymnasium as gym\n",
    "backbones": """
import gymnasium as gym, torch
import emp_gym
env = gym.make_vec("emp-lob-v0", num_envs=64)
columns = len(env.unwrapped.features)
observation, observations, fresh = torch.zeros(64, columns), torch.zeros(3, 64, columns), torch.zeros(3, 64, dtype=torch.bool)
""",
    "certificates": """
import gymnasium as gym, numpy as np
import emp_gym
step, state, value = 0, np.zeros((1, 1)), 6.0
def policy(step, state):
    return problem("cartea-jaimungal").optimal().policy(step, state)
""",
    "decision_diary": """
import json, time
import numpy as np
import emp_gym
from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.diary import blocks as blocks
from emp_gym.sensory.regime import label
key, weights_sha256, new_sha256 = KeyFile.generate("diary.key"), "0" * 64, "1" * 64
tables = {name: np.zeros(0, table) for name, table in blocks.TABLES.items()}
data = blocks.encode(blocks.Block("0" * 64, 2, 0, 1, np.zeros(2, blocks.DECISION), np.arange(2), **tables))
""",
    "distributed": "from math import sqrt as function\ntasks = [1.0, 4.0]\n",
    "kill_switch": BOOK + "from emp_gym.envs.wrappers.governance import KillSwitchVectorWrapper\n",
    "lookahead": """
import gymnasium as gym, numpy as np
prices = np.cumsum(np.random.default_rng(0).normal(size=400)) + 100
class Prices(gym.Env):
    observation_space, action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64), gym.spaces.Discrete(2)
    def __init__(self, prices):
        self.prices = np.asarray(prices, float).reshape(-1)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = 30
        return self.prices[self.row : self.row + 1].copy(), {}
    def step(self, action):
        self.row += 1
        return self.prices[self.row : self.row + 1].copy(), 0.0, False, self.row >= 90, {}
make = Prices
""",
    "muzero": """
import gymnasium as gym
import emp_gym
from emp_gym.agents.muzero.agent import MuZero
def make_env(num_envs=8):
    return gym.make_vec("emp-ladder-trend-v0", num_envs=num_envs, autoreset_mode="SameStep")
env = make_env()
observation, _ = env.reset(seed=1)
def correct(after, code, latent, reward, value):
    return reward, value
""",
    "regimes": BOOK + "import numpy as np\ndone = np.ones(256, bool)\n",
    "risk": BOOK + "from emp_gym.envs.wrappers.risk import RiskVectorWrapper\n",
    "rules_and_records": BOOK,
    "trust": """
from emp_gym.cli.train import main
words = "--env emp-ladder-trend-v0 --total-timesteps 64 --num-envs 8 --no-evaluation --run-dir from_somebody"
assert main(words.split()) == 0
""",
    "evaluation": """
import shutil
from emp_gym.cli.evaluate import main
words = ["--env", "emp-lob-v0", "--agent", "symmetric", "--episodes", "2", "--set", "evaluation.baselines=[hold]", "--log", "logs"]
assert main(words) == 0
shutil.copytree("logs/symmetric", "logs/ppo")
""",
}  # fmt: skip
"""Page -> what its reader has before the first block."""
CUT = {
    "certificates": (("4096", "64"), ("1024", "64")),
    "decision_diary": (('"governed/', '"'),),
    "distributed": (("workers=4", "workers=1"),),
    "governance": (("EMBEDDED * 2", "EMBEDDED[:1]"),),
    "governance_log": (("/mnt/other/heads", "heads"),),
    "muzero": (("50_000", "64"),),
}
"""Page -> what is written smaller, or elsewhere, when its blocks run."""


class Parsed(Exception):
    """A command took its words."""


def texts(root: Path) -> dict[str, str]:
    """Page -> its Markdown, those on what somebody brings left out."""
    paths = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    return {path.stem: path.read_text() for path in paths if not path.stem.startswith("own_")}


ROOT = Path(__file__).resolve().parent.parent
TEXTS = texts(ROOT)
PYTHON = [page for page, text in TEXTS.items() if any(kind == "python" for kind, _ in BLOCK.findall(text))]
PROGRAM = re.compile(r"<<'EOF'.*?^EOF$|^python -c (['\"]).*?\1$", re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Commands of the blocks of a page, continued lines joined; programs within are left out."""
    blocks = [block for kind, block in BLOCK.findall(text) if kind == "bash" or (not kind and "scripts/" in block)]
    lines = PROGRAM.sub("", "\n".join(blocks).replace("\\\n", " ")).replace(" && ", "\n").split("\n")
    return [line.strip() for line in lines if line.strip() and not line.startswith(" ")]


LINES = [(page, line) for page, text in TEXTS.items() for line in command_lines(text)]
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")
ENTRIES = dict(line.split(" = ", 1) for line in SETUP["options.entry_points"]["console_scripts"].strip().split("\n"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that has nothing but the project's settings."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.mark.parametrize("page", PYTHON)
def test_python_on_the_page_runs(page: str, here: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(GIVEN.get(page, ""), f"{page} (given)", "exec"), names)
    for kind, text in BLOCK.findall(TEXTS[page]):
        if kind == "python":
            for old, new in CUT.get(page, ()):
                text = text.replace(old, new)
            exec(compile(text, f"{page}.md", "exec"), names)


def words_of(line: str) -> tuple[str, list[str]] | None:
    """Our command and what it is given; None for a command that is not ours."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0] in OTHERS or words[:2] in (["python", "-"], ["python", "-m"]):
        return None
    if words[0] == "python":
        script = re.fullmatch(r"scripts/(\w+)\.py", words[1])
        assert script, f"no script of ours: {line}"
        return f"emp-{script[1]}", words[2:]
    return words[0], words[1:]


def parsed(line: str, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace | None:
    """What the command of `line` makes of it, before it does anything."""
    found = words_of(line)
    if found is None:
        return None
    module, function = ENTRIES[found[0]].split(":")
    took: list[argparse.Namespace] = []
    parse = argparse.ArgumentParser.parse_args

    def stop(
        self: argparse.ArgumentParser, args: list[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> None:
        took.append(parse(self, args, namespace))
        raise Parsed

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Parsed):
            getattr(importlib.import_module(module), function)(found[1])
    return took[0]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_is_one_that_its_command_takes(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = vars(parsed(line, monkeypatch) or argparse.Namespace())
    env_id = told.get("env")
    if isinstance(env_id, str) and env_id.startswith("emp-"):
        assert env_id in gym.registry
    for name in re.findall(r"(?<![\w/])(?:configs|docs)/[\w./-]+", line):
        assert (ROOT / name).exists() or "EVIDENCE" in line, f"{page}: {name} is not there"


def test_an_option_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        parsed("python scripts/train.py --env emp-lob-v0 --total-steps 5", monkeypatch)


def test_the_limits_on_the_page_of_risk_are_read() -> None:
    (text,) = [text for kind, text in BLOCK.findall(TEXTS["risk"]) if kind == "yaml"]
    assert Limits.model_validate(yaml.safe_load(text)).portfolio is not None


def test_the_search_space_on_the_page_of_search_is_read() -> None:
    (text,) = [text for kind, text in BLOCK.findall(TEXTS["search"]) if kind == "yaml"]
    assert len(FlatSpace(RunConfig(), yaml.safe_load(text)).describe()) == 4


def test_links_and_pictures_lead_somewhere() -> None:
    for page, text in TEXTS.items():
        folder = ROOT if page in ("README", "CONTRIBUTING") else ROOT / "docs"
        for target in (*LINK.findall(text), *PICTURE.findall(text)):
            assert (folder / target).exists() or target in MADE, f"{page} links to {target}"


def test_every_page_stands_in_the_navigation_once() -> None:
    named = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    assert len(named) == len(set(named))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(named), pages - set(named)
    assert {name for name in named if "/" not in name} - pages == MADE


def test_every_command_has_a_purpose_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    command_pages = importlib.import_module("command_pages")
    assert set(command_pages.PURPOSE) == set(command_pages.commands())


@pytest.mark.parametrize("word", ["queue", "mask", "kill switch", "LOBSTER"])
def test_a_search_for_the_word_finds_a_heading(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = re.findall(
        r"^#+ (.+)$|^ +- ([\w ,]+): ", "\n".join((*TEXTS.values(), (ROOT / "mkdocs.yml").read_text())), re.MULTILINE
    )
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    made = importlib.import_module("environment_pages")
    said = " ".join(f"{a} {b}" for a, b in heads) + Path(str(made.__file__)).read_text()
    assert re.search(word, said, re.IGNORECASE)


@pytest.mark.parametrize(
    "env_id",
    ["emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0", "emp-almgren-chriss-v0", "emp-ladder-quote-v0"],
)
def test_the_page_of_an_environment_says_what_the_environment_is(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    pages = importlib.import_module("environment_pages")
    env = gym.make(env_id)
    known = about(env)
    text = (pages.market_page if "lob" in env_id else pages.certificate_page)(env_id, env, known)
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert {"Actions", "Observation", "Reward", "Start and end", "Masks", "Keyword arguments", "Baselines"} <= set(
        sections
    )
    shown = [line.split(" | ") for line in sections["Observation"].split("\n") if re.match(r"\| \d", line)]
    assert [row[1] for row in shown] == [f"`{each.name}`" for each in known.features]
    assert [row[2:5] for row in shown] == [
        [each.unit, each.transform.replace("_", " "), f"{each.scale:g}"] for each in known.features
    ]
    numbers = env.action_space.n if isinstance(env.action_space, gym.spaces.Discrete) else env.action_space.shape[0]
    assert len(re.findall(r"^\| \d+ \|", sections["Actions"], re.MULTILINE)) == numbers
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            exec(block, {})
    env.close()


def test_a_simple_table_of_a_docstring_becomes_a_table_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    pages = importlib.import_module("environment_pages")
    told = (
        "Words.\n\n====  ======\nkey   what\n====  ======\na     one\n      two ``x``\nb     a|b\n====  ======\n\nMore."
    )
    assert pages.markdown(told).split("\n\n")[1].strip().split("\n") == [
        "| key | what |", "| --- | --- |", "| `a` | one two `x` |", "| `b` | a\\|b |",
    ]  # fmt: skip


def test_the_files_for_those_who_join_fit_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    addresses = dict(line.split(" = ", 1) for line in SETUP["metadata"]["project_urls"].strip().split("\n"))
    assert cited["version"] == emp_gym.__version__ and cited["license"] == SETUP["metadata"]["license"]
    assert cited["repository-code"] == addresses["Source"] == SETUP["metadata"]["url"]
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3 and all(isinstance(yaml.safe_load(form.read_text()), dict) for form in forms)
