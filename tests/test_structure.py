"""The house stands as it was drawn: imports point one way, doors are links, heavy packages stay in their rooms.

Every rule is a function of a folder that returns findings, so each is also tried on a small house with a fault in it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = (  # lowest first; a room may import from lower layers only, and from itself
    {"paths", "kernel_files", "printable", "file_lock", "renamed"},
    {"types", "jit", "atomics"},
    {"extras"},
    {"threads", "bounded", "settings"},
    {"trust"},
    {"plugins"},
    {"data"},
    {"market"},
    {"risk", "sensory", "memory"},
    {"evaluation", "evolution"},
    {"governance"},
    {"execution", "operations"},
    {"envs"},
    {"agents"},
    {"extend"},
    {"terminal"},
    {"runs"},
    {"training"},
    {"governed", "reports"},
    {"search"},
    {"studies"},
    {"benchmarks"},
    {"api"},
    {"cli"},
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
CLOSED = {"agents": {"market", "data"}}  # an agent sees an environment and the shared types, never a market from inside
LINKS = ("envs", "agents")
OFFERED = "emp_gym.api"  # what the package itself offers: loaded when one of its names is asked for, and nothing within asks for one
CONFINED = {  # package -> path prefixes below emp_gym where it may be imported
    "torch": ("agents/", "training/", "runs/", "benchmarks/"),
    "tensorboard": ("agents/", "training/"),
    "safetensors": ("agents/", "training/", "runs/"),
    "stable_baselines3": ("agents/", "benchmarks/", "envs/sb3.py", "envs/conformance/scalar.py"),
    "hftbacktest": ("benchmarks/",),
    "apsw": ("governance/",),
    "cryptography": ("governance/",),
    "faiss": ("memory/",),
    "optuna": ("search/",),
    "duckdb": (),
    "ray": ("agents/", "training/"),
}
COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil"}
FORBIDDEN = {f"{name}.{compiler}" for name in ("numba", "nb") for compiler in COMPILERS}
DECORATORS = re.compile(r"\b(njit|hot|inner|region)\b")  # of emp_gym.jit and emp_gym.threads
KEYED = "from emp_gym.jit import"  # files with these words are hashed into the name of the kernel cache
HEAVY = (
    "torch",
    "numba",
    "pandas",
    "stable_baselines3",
    "matplotlib",
    "scipy",
    "tensorboard",
    "pydantic",
    "apsw",
    "cryptography",
)


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands and the full dotted names that it may bring in."""

    path: Path
    line: int
    module: str  # what stands after `from` or `import`, made absolute
    names: tuple[str, ...]  # after `from module import`; empty for a plain import

    @property
    def targets(self) -> tuple[str, ...]:
        """Every dotted name that this could load."""
        return tuple(f"{self.module}.{name}" for name in self.names) or (self.module,)


def sources(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if not any(part[0] == "." for part in p.relative_to(folder).parts))


def where(path: Path, root: Path, line: int) -> str:
    return f"{path.relative_to(root).as_posix()}:{line}"


def imports(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file: plain, lazy inside a function, relative, and `import_module("...")` with a literal."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(path, node.lineno, absolute(node, path, root), names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield Import(path, node.lineno, node.args[0].value, ())


def absolute(node: ast.ImportFrom, path: Path, root: Path) -> str:
    """The module of a `from` import as an absolute dotted name."""
    if not node.level:
        return node.module or ""
    package = path.relative_to(root).parent.parts  # the same for a package's __init__ and for its modules
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, *([node.module] if node.module else [])))


def room_of(path: Path, root: Path) -> str:
    """Room of a file below emp_gym: its first folder, or its own name; "" for emp_gym/__init__.py."""
    first = path.relative_to(root / "emp_gym").parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def wrong_arrows(root: Path) -> list[str]:
    """Imports inside emp_gym that point up or sideways, and rooms that have no place in the order."""
    found = []
    for path in sources(root / "emp_gym"):
        room = room_of(path, root)
        here = path.relative_to(root)
        if room and room not in RANK:
            found.append(f"{here}: room {room!r} has no layer; give it one in LAYERS")
            continue
        for item in imports(path, root):
            for target in item.targets:
                parts = target.split(".")
                if parts[0] != "emp_gym" or len(parts) < 2 or parts[1].startswith("__"):
                    continue
                other = parts[1]
                if other == room or (not room and (other == "envs" or target == OFFERED)):  # the package registers the ids
                    continue
                low = other in RANK and room in RANK and RANK[other] < RANK[room]
                if not low or other in CLOSED.get(room, ()):
                    found.append(f"{where(path, root, item.line)}: {room or 'emp_gym'} imports {target}")
    return found


def circles(root: Path) -> list[str]:
    """Groups of files that import each other, for types only and inside functions too."""
    files = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in sources(root / "emp_gym")}
    reached = {}
    for name, path in files.items():
        wanted = {target if target in files else item.module for item in imports(path, root) for target in item.targets}
        reached[name] = wanted & files.keys() - {name} - ({OFFERED} if name == "emp_gym" else set())
    while grown := {name: more for name, own in reached.items() if not own >= (more := set().union(*(reached[other] for other in own)))}:
        for name, more in grown.items():
            reached[name] |= more
    found = {frozenset(other for other in own if name in reached[other]) for name, own in reached.items() if name in own}
    return [f"{where(files[min(group)], root, 1)}: imports in a circle: {', '.join(sorted(group))}" for group in sorted(found, key=min)]


def wrong_doors(root: Path) -> list[str]:
    """Scripts that reach past emp_gym.cli, and anything that imports the two links."""
    found = []
    for folder in ("emp_gym", "scripts", "tests", "docs", "configs"):
        for path in sources(root / folder) if (root / folder).is_dir() else []:
            for item in imports(path, root):
                top = item.module.split(".")[0]
                if top in LINKS:
                    found.append(f"{where(path, root, item.line)}: imports the link {top!r}; import emp_gym.{top}")
                if folder == "scripts" and top == "emp_gym" and not item.module.startswith("emp_gym.cli."):
                    found.append(f"{where(path, root, item.line)}: a script opens emp_gym.cli only")
    return found


def escaped_packages(root: Path) -> list[str]:
    """Heavy third-party packages imported outside their rooms."""
    found = []
    for path in sources(root / "emp_gym"):
        inside = path.relative_to(root / "emp_gym").as_posix()
        for item in imports(path, root):
            package = item.module.split(".")[0]
            if package in CONFINED and not inside.startswith(CONFINED[package] or ("\0",)):
                found.append(f"emp_gym/{inside}:{item.line}: {package} belongs to {CONFINED[package] or 'nobody yet'}")
    return found


def printing(root: Path) -> list[str]:
    """Calls of print in library code (commands may print)."""
    found = []
    for path in sources(root / "emp_gym"):
        if room_of(path, root) in ("cli", "terminal"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                found.append(f"{where(path, root, node.lineno)}: print in library code")
    return found


def foreign_compilers(root: Path) -> list[str]:
    """Uses of numba's own decorators, and imports of emp_gym.jit in a form that the cache key does not see."""
    found = []
    for path in sources(root / "emp_gym"):
        if path == root / "emp_gym" / "jit.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN:
                found.append(f"{where(path, root, node.lineno)}: {ast.unparse(node)}; use emp_gym.jit.njit")
        for item in imports(path, root):
            if item.module == "numba" and COMPILERS & set(item.names):
                found.append(f"{where(path, root, item.line)}: numba's decorator; use emp_gym.jit.njit")
            compiles = item.module == "emp_gym.jit" or "emp_gym.jit" in item.targets
            if compiles and KEYED not in path.read_text().splitlines()[item.line - 1]:
                found.append(f"{where(path, root, item.line)}: write `{KEYED} ...`: the cache key looks for it")
    return found


def stale_globals(root: Path) -> list[str]:
    """Names that a kernel takes from a file of ours outside the cache key: numba freezes them when it compiles."""
    from emp_gym.jit import kernel_sources

    package = root / "emp_gym"
    keyed_files = {*kernel_sources(package), package / "types.py", package / "jit.py"}
    found = []
    for path in (p for p in sources(package) if KEYED in p.read_text()):
        outside = {}
        for item in imports(path, root):
            file = root / (item.module.replace(".", "/") + ".py")
            keyed = file in keyed_files
            if item.module.startswith("emp_gym.") and not keyed:
                outside.update(dict.fromkeys(item.names, item.module))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and DECORATORS.search(" ".join(map(ast.unparse, node.decorator_list))):
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                for name in sorted(used & set(outside)):
                    found.append(f"{where(path, root, node.lineno)}: {node.name} freezes {name} of {outside[name]}")
    return found


def peeks_beyond_the_list(root: Path) -> list[str]:
    """Places that ask an object what it is or reach into it, where what to ask is said: more than `PEEKS` allows, or fewer, so that
    the list only shrinks."""
    instead = {
        "asked": "hasattr, or getattr with a default: ask emp_gym.envs.about, the protocols and traits of emp_gym.agents.base, or Gate",
        "lanes": ".unwrapped.lanes: ask emp_gym.envs.about, or what the environment publishes",
        "private": "a name with an underscore of an object whose class is in another file",
        "certificates": "CERTIFICATES: ask emp_gym.envs.about for kind and problem",
    }
    found = []
    for path in sources(root / "emp_gym"):
        if RANK.get(room_of(path, root), 0) >= RANK["risk"] and room_of(path, root) not in ("sensory", "memory", "extend"):
            file = path.relative_to(root / "emp_gym").as_posix()
            for (kind, told), got, listed in zip(instead.items(), peeks(path), PEEKS.get(file, (0, 0, 0, 0)), strict=True):
                if got != listed:
                    todo = told if got > listed else "take it off the list"
                    found.append(f"emp_gym/{file}: {kind} {got} times, PEEKS has {listed}; {todo}")
    return found


def peeks(path: Path) -> tuple[int, int, int, int]:
    """How often a file asks an object what it is, goes to an environment's lanes, reads a private name, names the certificates."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {"_replace", "_asdict", "_exit"}  # Python's
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value)}
    called = [node for node in nodes if isinstance(node, ast.Call)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    return (
        sum(ast.unparse(node.func) == "hasattr" or (ast.unparse(node.func) == "getattr" and len(node.args) == 3) for node in called),
        sum(node.attr == "lanes" and getattr(node.value, "attr", "") == "unwrapped" for node in attributes),
        sum(node.attr[0] == "_" != node.attr[1] and not _is_own(node.value) and node.attr not in own for node in attributes),
        sum(isinstance(node, ast.Name) and node.id == "CERTIFICATES" for node in nodes),
    )


def _is_own(node: ast.expr) -> bool:
    return ast.unparse(node) in ("self", "cls", "super()")


PEEKS = {  # file -> what `peeks` counts there; it only shrinks
    "agents/adapters/foreign.py": (1, 0, 0, 0),
    "agents/adapters/sb3.py": (5, 0, 0, 0),
    "agents/adapters/torch.py": (1, 0, 0, 0),
    "agents/base.py": (3, 0, 0, 0),
    "agents/baselines/quotes.py": (1, 0, 0, 0),
    "agents/check.py": (1, 0, 0, 0),
    "agents/muzero/search.py": (1, 0, 0, 0),
    "agents/ppo/residual.py": (1, 0, 0, 0),
    "agents/ppo/rollout.py": (1, 0, 0, 0),
    "agents/ppo/training.py": (2, 0, 0, 0),
    "agents/registry.py": (1, 0, 0, 1),
    "agents/memory_agent.py": (3, 0, 0, 0),
    "envs/__init__.py": (0, 0, 0, 3),
    "envs/about.py": (9, 0, 0, 0),
    "envs/lookahead.py": (5, 0, 0, 0),
    "envs/conformance/market_driver.py": (0, 0, 1, 0),
    "envs/sb3.py": (2, 0, 0, 0),
    "envs/conformance/subject.py": (3, 0, 0, 0),
    "benchmarks/certificates.py": (0, 0, 0, 1),
    "benchmarks/parse.py": (1, 0, 0, 0),
    "benchmarks/risk.py": (0, 1, 0, 0),
    "training/certify.py": (0, 0, 0, 1),
    "cli/certify.py": (0, 0, 0, 2),
    "cli/evolve.py": (1, 0, 0, 0),
    "cli/user_modules.py": (3, 0, 0, 0),
    "terminal/streams.py": (1, 0, 0, 0),
    "runs/config.py": (1, 0, 0, 0),
    "governed/evidence.py": (2, 0, 0, 0),
    "runs/hardware.py": (1, 0, 0, 0),
    "runs/run_folder.py": (1, 0, 0, 0),
    "search/driver.py": (0, 0, 2, 0),
    "search/space.py": (1, 0, 0, 0),
    "studies/suite.py": (0, 0, 0, 1),
    "governance/log/signed_tree_heads.py": (1, 0, 0, 0),
    "governance/log/writer.py": (0, 0, 2, 0),
    "governance/verify.py": (7, 0, 0, 0),
    "risk/gates.py": (1, 0, 0, 0),
}
RULES = [wrong_arrows, circles, wrong_doors, escaped_packages, printing, foreign_compilers, stale_globals, peeks_beyond_the_list]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule):
    assert rule(ROOT) == []


PLANTED = [
    (wrong_arrows, "emp_gym/market/a.py", "from emp_gym.envs.trading import X\n"),
    (wrong_arrows, "emp_gym/market/a.py", "def f():\n    import emp_gym.agents.ppo\n"),
    (wrong_arrows, "emp_gym/data/a.py", "from ..market import replay\n"),
    (wrong_arrows, "emp_gym/data/a.py", "from emp_gym import market\n"),
    (wrong_arrows, "emp_gym/sensory/a.py", "from emp_gym.risk import limits\n"),
    (wrong_arrows, "emp_gym/types.py", "from emp_gym.jit import njit\n"),
    (wrong_arrows, "emp_gym/agents/a.py", "from emp_gym.market.replay import Replay\n"),
    (wrong_arrows, "emp_gym/envs/a.py", "import importlib\nimportlib.import_module('emp_gym.runs.run_folder')\n"),
    (wrong_arrows, "emp_gym/__init__.py", "from emp_gym.data.lobster import reader as lobster\n"),
    (wrong_arrows, "emp_gym/attic/a.py", ""),
    (wrong_doors, "tests/test_a.py", "import envs\n"),
    (wrong_doors, "emp_gym/envs/a.py", "from agents.ppo import PPO\n"),
    (wrong_doors, "scripts/a.py", "from emp_gym.envs.conformance import suite as check\n"),
    (escaped_packages, "emp_gym/market/a.py", "def f():\n    import torch\n"),
    (escaped_packages, "emp_gym/envs/wrappers/a.py", "from stable_baselines3 import PPO\n"),
    (escaped_packages, "emp_gym/agents/a.py", "import optuna\n"),
    (printing, "emp_gym/data/a.py", "print('x')\n"),
    (foreign_compilers, "emp_gym/market/a.py", "import numba\n@numba.njit\ndef f(): pass\n"),
    (foreign_compilers, "emp_gym/market/a.py", "from numba import njit\n"),
    (foreign_compilers, "emp_gym/market/a.py", "from emp_gym import jit\n"),
    (foreign_compilers, "emp_gym/market/a.py", "from ..jit import njit\n"),
    (peeks_beyond_the_list, "emp_gym/envs/a.py", "def f(env):\n    return hasattr(env.unwrapped, 'windows')\n"),
    (peeks_beyond_the_list, "emp_gym/agents/a.py", "def f(agent):\n    return getattr(agent, 'stochastic', False)\n"),
    (peeks_beyond_the_list, "emp_gym/runs/a.py", "def f(env):\n    return env.unwrapped.lanes\n"),
    (peeks_beyond_the_list, "emp_gym/governance/a.py", "def f(gate):\n    return gate._state\n"),
    (peeks_beyond_the_list, "emp_gym/training/a.py", "from emp_gym.envs import CERTIFICATES\nx = 'a' in CERTIFICATES\n"),
    (peeks_beyond_the_list, "emp_gym/risk/gates.py", "class Gate: ...\n"),
    (stale_globals, "emp_gym/market/a.py", f"{KEYED} njit\nfrom emp_gym.market.b import C\n@njit\ndef f(): return C\n"),
]


@pytest.mark.parametrize(("rule", "file", "text"), PLANTED, ids=[rule.__name__ for rule, *_ in PLANTED])
def test_a_planted_fault_is_found(rule, file, text, tmp_path):
    (tmp_path / "emp_gym").mkdir()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found = rule(tmp_path)
    assert len(found) == 1, found
    assert file in found[0].replace(os.sep, "/")


@pytest.mark.parametrize("back", ["if TYPE_CHECKING:\n    from emp_gym.data.a import A\n", "def f():\n    from emp_gym.data import a\n"])
def test_a_circle_is_found_though_the_way_back_is_for_types_only_or_late(back, tmp_path):
    texts = {"a": "from emp_gym.data.b import B\n", "b": "import emp_gym.data.c\n", "c": back, "d": "from emp_gym.data import a\n"}
    (tmp_path / "emp_gym/data").mkdir(parents=True)
    for name, text in texts.items():
        (tmp_path / f"emp_gym/data/{name}.py").write_text(text)
    assert circles(tmp_path) == ["emp_gym/data/a.py:1: imports in a circle: emp_gym.data.a, emp_gym.data.b, emp_gym.data.c"]


ALLOWED = [
    ("emp_gym/market/a.py", f"from emp_gym.data.tape.tape_set import Tape\n{KEYED} njit\nfrom emp_gym.types import Kind\n"),
    ("emp_gym/envs/a.py", "from emp_gym import __version__\nfrom .tasks import T\nimport numba\nnumba.prange(1)\n"),
    ("emp_gym/agents/a.py", "import torch\nfrom emp_gym.envs.sb3 import Adapter\n"),
    ("emp_gym/cli/a.py", "print(1)\nfrom emp_gym.market.queue_validation import judge_day\n"),
    ("emp_gym/__init__.py", "from emp_gym.envs import register_all\n"),
    ("scripts/a.py", "from emp_gym.cli.a import main\n"),
]


@pytest.mark.parametrize(("file", "text"), ALLOWED, ids=[file for file, _ in ALLOWED])
def test_a_sound_file_passes_every_rule(file, text, tmp_path):
    (tmp_path / "emp_gym").mkdir()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert [finding for rule in RULES for finding in rule(tmp_path)] == []


def test_the_list_of_peeks_names_files_that_are_there():
    assert [file for file in PEEKS if not (ROOT / "emp_gym" / file).exists()] == []


@pytest.mark.parametrize("name", LINKS)
def test_the_door_leads_into_the_package(name):
    door = ROOT / name
    if door.is_symlink():
        assert not os.path.isabs(os.readlink(door))
        assert door.resolve() == (ROOT / "emp_gym" / name).resolve()
    else:  # where links are not supported git leaves their text
        assert door.read_text().strip() == f"emp_gym/{name}"
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return
    listed = subprocess.run(["git", "ls-files", "-s", name], cwd=ROOT, capture_output=True, text=True).stdout
    assert not listed or listed.startswith("120000"), "git must keep the door as a link"


def test_every_folder_of_the_package_is_a_package():
    folders = {path.parent for path in sources(ROOT / "emp_gym")}
    assert [str(f.relative_to(ROOT)) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


def test_importing_the_package_is_cheap():
    program = (
        "import json, sys, time\nstart = time.process_time()\nimport emp_gym\n"
        "print(json.dumps([time.process_time() - start, sorted(m for m in sys.modules if '.' not in m)]))"
    )
    seconds = []
    for _ in range(3):  # processor time, best of three: other programs on the machine do not count
        run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        took, modules = json.loads(run.stdout)
        seconds.append(took)
    assert not set(HEAVY) & set(modules)
    assert min(seconds) < 0.4, f"import emp_gym took {min(seconds):.2f} s of processor time at best"


def test_the_kernel_cache_key_sees_an_edit_of_any_kernel(tmp_path):
    from emp_gym.jit import cache_key, kernel_sources

    copy = tmp_path / "emp_gym"
    shutil.copytree(ROOT / "emp_gym", copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = cache_key(copy)
    assert before == cache_key(ROOT / "emp_gym"), "the key must not depend on where the package stands"
    (copy / "elsewhere.py").write_text("x = 1\n")
    assert cache_key(copy) == before, "a file without kernels is not part of the key"
    keys = {before}
    for path in kernel_sources(copy):
        path.write_text(path.read_text() + "\n# edited\n")
        keys.add(cache_key(copy))
    assert len(keys) == 1 + len(kernel_sources(copy))
