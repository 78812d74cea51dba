"""What a file names is code only where a person has said so: hostile folders and files, each with a canary and a positive control.

A canary is a file that every piece of hostile code touches: when its module is imported, when a function of it is called, when a class
of it is made. No case may touch it, and each is refused by an error of ours. Its positive control is the same file where somebody has
said ``--trust`` (then the canary is touched: the bait was live), or the honest twin, which is read.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym import bounded, trust
from emp_gym.agents import registry
from emp_gym.agents.base import read_arrays, read_json
from emp_gym.cli import evaluate, train
from emp_gym.envs import gates
from emp_gym.envs.making import put_together
from emp_gym.governed import diary_replay, evidence
from emp_gym.runs import config as configs
from emp_gym.runs import contract
from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.run_metadata import curve_rows
from emp_gym.search import store
from emp_gym.search.driver import Search
from emp_gym.search.plans import SearchPlan
from emp_gym.trust import Untrusted
from emp_gym.types import ConfigError, DataError, EmpGymError

HOSTILE = """
import os
from pathlib import Path

def touch(*_, **__):
    Path(os.environ["CANARY"]).touch()

touch()

class Gate:
    def __init__(self, **_): touch()
    def __call__(self, view, orders): return orders, None

class Agent:
    def __init__(self, *_, **__): touch()
    def act(self, observation, state, mask=None): raise NotImplementedError
    def save(self, folder): (folder / "model.json").write_text("{}")
    def load(self, folder): touch()
"""
ENV = "emp-almgren-chriss-v0"
PATIENCE = 300
"""Seconds after which a case counts as one that hangs; the first may have to compile kernels, beside other work."""


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that hostile code touches; nothing is trusted yet, and nothing may hang."""
    bird = tmp_path / "canary"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    monkeypatch.setenv("CANARY", str(bird))
    monkeypatch.setattr(trust, "FOLDER", str(tmp_path / "trusted"))
    monkeypatch.setattr(trust, "_noted", set())
    monkeypatch.setattr(os, "system", lambda *_: bird.touch())

    def hangs(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    yield bird
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    sys.modules.pop("hostile", None)


def run_of(folder: Path, **told: Any) -> Path:
    """A run folder as somebody else made it: the files, and no word of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json.dumps(asdict(RunConfig(ENV, "hold", num_envs=2))))
    evaluation = plain["evaluation"] | told.pop("evaluation", {})
    (folder / "config.json").write_text(json.dumps(plain | {"evaluation": evaluation} | told))
    (folder / "model.json").write_text("{}")
    return folder


# ------------------------------------------------------------------------------------------------------ names in a run folder

NAMES: dict[str, dict[str, Any]] = {
    "a function of the system as a gate": {"env": {"gates": "os:system"}},
    "with parameters": {"env": {"gates": {"gate": "os:system", "command": "true"}}},
    "in a list of gates": {"env": {"gates": ["allow-all", "os:system"]}},
    "a function of a module as a gate": {"env": {"gates": ["hostile:touch"]}},
    "a class of a module as a gate": {"env": {"gates": [{"gate": "hostile:Gate", "size": 3}]}},
    "an agent": {"agent_name": "hostile:Agent"},
    "a process as an agent": {"agent_name": "subprocess:Popen"},
    "an environment": {"env_id": "hostile:emp-lob-v0"},
    "an environment without a name": {"env_id": "hostile:"},
    "an environment whose name is a number": {"env_id": "hostile:2048-v0"},
    "an environment whose name is a path": {"env_id": "hostile:/x"},
    "a letter that is none": {"agent_name": "\u2118:Agent"},  # an identifier of Python, and no letter
    "a module below a module": {"agent_name": "os.path:join"},
    "eval": {"agent_name": "builtins:eval"},
    "exec as a gate": {"env": {"gates": [{"gate": "builtins:exec", "source": "1"}]}},
    "a path to run": {"env": {"gates": {"gate": "runpy:run_path", "path_name": "x.py"}}},
    "a library to load": {"env": {"gates": {"gate": "ctypes:CDLL", "name": "x.so"}}},
    "the pickle module": {"env": {"gates": {"gate": "pickle:loads", "data": ""}}},
    "the import machinery": {"env": {"gates": {"gate": "importlib:import_module", "name": "hostile"}}},
    "a name that looks like ours": {"agent_name": "emp_gymx:Agent"},
    "a name that begins like ours": {"agent_name": "emp_gym_extras.agents:Agent"},
    "letters that look like ours": {"agent_name": "emp_gуm.agents:Agent"},  # a Cyrillic letter
    "an algorithm": {"agent_name": "emp_gym.agents.adapters:SB3Agent", "agent": {"algorithm": "hostile:Agent"}},
    "a policy": {"agent_name": "emp_gym.agents.adapters:SB3Agent", "agent": {"policy": "hostile:Agent"}},
    "a function of a network": {"agent": {"policy_kwargs": {"activation_fn": "hostile:touch"}}},
    "an optimiser that is a process": {"agent": {"policy_kwargs": {"optimizer_class": "subprocess:Popen", "optimizer_kwargs": {}}}},
    "what a policy acts around": {"agent_name": "ppo", "agent": {"residual": "hostile:Agent"}},
    "a baseline": {"evaluation": {"baselines": ["hold", "hostile:Agent"]}},
    "a baseline inside a label": {"evaluation": {"baselines": ["ppo[residual=hostile:Agent]"]}},
    "a market": {"env": {"market": "hostile:Agent"}},
    "a task": {"env": {"task": {"task": "hostile:Agent"}}},
    "a reward": {"env": {"reward": "hostile:touch"}},
    "a feature set among ours": {"env": {"features": ["book", {"features": "hostile:Agent"}]}},
    "a market with parameters": {"env": {"market": {"market": "hostile:Agent", "spread": 4}}},
    "a reward of a file": {"env": {"reward": "./hostile.py:Agent"}},
    "a feature set alone": {"env": {"features": "hostile:Agent"}},
    "a task beside a keyword": {"env": {"episode": "8 decisions", "task": "hostile:Agent", "order_quantity": 5}},
    "deep in the keywords": {"env": {"data": {"a": [{"b": ["hostile:Agent"]}]}}},
    "as a key": {"agent": {"hostile:Agent": 1}},
    "a pickle": {"agent_name": "emp_gym.agents.adapters:SB3Zip", "agent": {"path": "model.zip", "trusted": True}},
    "a pickle, trusted by a number": {"agent": {"path": "model.zip", "trusted": 1}},
    "a pickle, trusted by a word": {"agent": {"path": "model.zip", "trusted": "yes"}},
    "a pickle inside a label": {"evaluation": {"baselines": ["x[path=model.zip, trusted = true]"]}},
    "a folder of pickles": {"agent_name": "emp_gym.agents.adapters:RLlibCheckpoint", "agent": {"path": "checkpoint", "trusted": True}},
}
FIRES = (
    "a class of a module as a gate", "an agent", "an environment", "a baseline", "a market", "a task", "a reward",
    "a feature set among ours", "a market with parameters", "a feature set alone", "a task beside a keyword",
)  # fmt: skip
"""Cases whose bait is a class that does what it must: it runs when it is trusted."""


USUAL = {"market": "replay", "task": "trade", "reward": None, "features": None}


def live(config: RunConfig) -> None:
    """Resolves what a configuration names, as making its agent and its environment does."""
    if ":" in config.env_id:
        with pytest.raises(ConfigError, match="no environment"):
            contract.environment("hostile:not-there-v0")
    if ":" in config.agent_name:
        registry.find(config.agent_name)
    gates.resolve(config.env.get("gates"))
    with suppress(ConfigError):  # it is none of these; its module was imported
        put_together(*(config.env.get(key, usual) for key, usual in USUAL.items()), {})
    for name in config.evaluation.baselines or ():
        registry.find(name)


@pytest.mark.parametrize("case", NAMES)
def test_a_run_folder_runs_nothing_that_nobody_has_vouched_for(
    case: str, tmp_path: Path, canary: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.zip", "checkpoint/policy.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    folder = run_of(tmp_path / "run", **NAMES[case])
    with pytest.raises(Untrusted, match="--trust"):
        _ = RunFolder.open(folder).config
    for command, flag in ((evaluate, "--run"), (train, "--resume")):
        assert command.main([flag, str(folder)]) == 2
        told = capsys.readouterr().err
        assert "--trust" in told and "Traceback" not in told and len(told.splitlines()) == 1
    assert not canary.exists()
    with trust.word():
        config = RunFolder.open(folder).config
    assert RunFolder.open(folder).config == config, "asked once"
    if case in FIRES:
        live(config)
        assert canary.exists(), "the bait is live"
    run_of(folder, **(NAMES[case] | {"agent": NAMES[case].get("agent", {}) | {"more": 1}}))
    with pytest.raises(Untrusted):  # other content is another question
        _ = RunFolder.open(folder).config
    assert RunFolder.open(run_of(tmp_path / "honest")).config.agent_name == "hold"


OURS: dict[str, dict[str, Any]] = {
    "a class that one of our modules imports": {"agent_name": "emp_gym.agents.adapters.foreign:Path"},
    "a function of ours": {"agent_name": "emp_gym.cli.kill:main"},
    "a module that one of ours imports": {"agent_name": "emp_gym.agents.registry:os"},
    "a class of ours that is no agent": {"agent_name": "emp_gym.runs.run_folder:RunFolder"},
    "no module of ours": {"agent_name": "emp_gym.os:system"},
    "a dotted attribute": {"agent_name": "emp_gym.agents.registry:os.system"},
    "a relative module": {"agent_name": ".os:system"},
    "spaces": {"agent_name": " os : system "},
    "an unknown agent": {"agent_name": "popen"},
    "an unknown environment": {"env_id": "emp-nothing-v0"},
    "another registered environment": {"env_id": "CartPole-v1"},
    "a zero byte": {"env_id": "emp\0lob"},
    "an unknown keyword": {"env": {"wrappers": ["x"]}},
    "a name of a megabyte": {"agent_name": "x" * 1_000_000},
}


@pytest.mark.parametrize("case", OURS)
def test_what_is_named_inside_of_the_package_is_an_agent_class_or_refused(case: str, tmp_path: Path, canary: Path, capsys: Any) -> None:
    folder = run_of(tmp_path / "run", **OURS[case])
    for command, flag in ((evaluate, "--run"), (train, "--resume")):
        for more in ([], ["--trust"]):
            assert command.main([flag, str(folder), *more]) == 2
            told = capsys.readouterr().err
            assert "Traceback" not in told and len(told) < 5_000
    assert not canary.exists()
    assert registry.find("emp_gym.agents.baselines:Hold") is registry.find("hold"), "the honest twin"


GATES: dict[str, Any] = {
    "a function": "os:system",
    "a function with what it wants": {"gate": "os:system", "command": "true"},
    "a function of a module": "hostile:touch",
    "a class whose objects cannot be called": "hostile:Agent",
    "a class that one of our modules imports": "emp_gym.runs.run_folder:Path",
    "a class of ours that is no gate": "emp_gym.governed.evidence:Execution",
    "a function of ours": "emp_gym.risk.gates:passed",
    "a module": "emp_gym.envs.gates:np",
    "an instance": "emp_gym.governance.ledger.record:STAGES",
    "a partial function": {"gate": "functools:partial", "func": "x"},
    "parameters that it does not take": {"gate": "risk", "command": "true"},
    "a name that is a list": {"gate": ["os:system"]},
    "a number": 7,
}


@pytest.mark.parametrize("case", GATES)
def test_a_gate_is_a_class_that_is_one(case: str, canary: Path) -> None:
    bait = GATES[case]
    with pytest.raises(ConfigError):
        gates.resolve(bait)
    canary.unlink(missing_ok=True)  # the module itself was typed here; what it holds was not called
    with pytest.raises(ConfigError):
        gates.resolve([bait])
    assert not canary.exists()
    gates.resolve("hostile:Gate")
    assert canary.exists(), "a class that is a gate is made"


# ------------------------------------------------------------------------------------------------------------ files that are none

HONEST = json.dumps(asdict(RunConfig(ENV, "hold")))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


BYTES: dict[str, bytes | Callable[[Path], None]] = {
    "lists in lists": b"[" * 200_000,
    "objects in objects": b'{"env":' * 100_000,
    "lists in a keyword": HONEST.replace('"env": {}', '"env": {"a": ' + "[" * 500 + "]" * 500 + "}").encode(),
    "64 gigabytes": sparse,
    "two million values": HONEST.replace('"env": {}', '"env": {"a": [' + "0," * 2_000_000 + "0]}").encode(),
    "no UTF-8": HONEST.encode().replace(b"hold", b"h\xff\xfeld"),
    "UTF-16": HONEST.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + HONEST.encode(),
    "zero bytes": b"\0" * 4096,
    "nothing": b"",
    "a list": b"[]",
    "a text": b'"os:system"',
    "NaN": HONEST.replace('"env": {}', '"env": {"fee": NaN}').encode(),
    "a key twice": (HONEST[:-1] + ', "agent_name": "hostile:Agent"}').encode(),
    "a number of 5,000 digits": HONEST.replace('"seed": 0', '"seed": ' + "9" * 5_000, 1).encode(),
    "what comes after": HONEST.encode() + b"{}",
    "half of it": HONEST.encode()[:100],
    "an unknown key": (HONEST[:-1] + ', "run": "os:system"}').encode(),
    "a name that is a number": HONEST.replace('"hold"', "7").encode(),
    "keywords that are a list": HONEST.replace('"env": {}', '"env": ["os:system"]').encode(),
    "half a letter": HONEST.replace("hold", "\\ud800").encode(),
    "a named pipe": pipe,
    "a folder": Path.mkdir,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a circle of links": circle,
}


def put(path: Path, bait: bytes | Callable[[Path], None]) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(bait) if isinstance(bait, bytes) else bait(path)


@pytest.mark.parametrize("case", BYTES)
def test_a_configuration_that_is_none_is_refused_and_does_not_hang(case: str, tmp_path: Path, canary: Path, capsys: Any) -> None:
    folder = run_of(tmp_path / "run")
    honest = RunFolder.open(folder).config
    put(folder / "config.json", BYTES[case])
    for command, flag in ((evaluate, "--run"), (train, "--resume")):
        assert command.main([flag, str(folder), "--trust"]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told and len(told) < 5_000
    assert not canary.exists()
    assert RunFolder.open(run_of(tmp_path / "twin")).config == honest


SERIES: dict[str, bytes | Callable[[Path], None]] = {
    "an agent": json.dumps({"seeds": [0], "config": {"agent_name": "hostile:Agent"}}).encode(),
    "a gate": json.dumps({"seeds": [0], "config": {"env": {"gates": "os:system"}}}).encode(),
    "a pickle": json.dumps({"seeds": [0], "config": {"agent": {"trusted": True}}}).encode(),
    "no configuration": b'{"seeds": [0]}',
    "a configuration that is a text": b'{"seeds": [0], "config": "os:system"}',
    "no seeds": b'{"config": {}}',
    "seeds that are texts": b'{"seeds": ["../../x"], "config": {}}',
    "a seed twice": b'{"seeds": [1, 1], "config": {}}',
    "a million seeds": json.dumps({"seeds": list(range(1_000_000)), "config": {}}).encode(),
    "a named pipe": pipe,
}


@pytest.mark.parametrize("case", SERIES)
def test_a_series_of_seeds_is_read_as_a_run_is(case: str, tmp_path: Path, canary: Path) -> None:
    put(tmp_path / "seeds.json", SERIES[case])
    with pytest.raises(EmpGymError):
        _ = RunFolder(tmp_path).series
    assert not canary.exists()
    (tmp_path / "honest").mkdir()
    put(tmp_path / "honest" / "seeds.json", b'{"seeds": [3, 4], "config": {"agent_name": "hold"}}')
    assert [one.seed for one in RunFolder(tmp_path / "honest").series] == [3, 4]


# ------------------------------------------------------------------------------------------------------------- studies

PLAN = asdict(SearchPlan(ENV, "ppo", table={"agent.gamma": {"low": 0.9, "high": 1.0}}))


def study_of(folder: Path, plan: Any, batches: Any = (), genome: Any = None) -> Path:
    folder.mkdir(exist_ok=True)
    attributes = {"plan": plan, "batches": list(batches) if isinstance(batches, tuple) else batches, "commit": None}
    study = store.create(folder, "one", {"score": "maximize", "drawdown": "minimize", "turnover": "minimize"}, attributes)
    if genome is not None:
        study.ask().set_user_attr("genome", genome)
    return folder


STUDIES: dict[str, dict[str, Any]] = {
    "an agent": {"plan": PLAN | {"agent_name": "hostile:Agent"}},
    "an environment": {"plan": PLAN | {"env_id": "hostile:emp-lob-v0"}},
    "a gate": {"plan": PLAN | {"env": {"gates": "os:system"}}},
    "a choice of the space": {"plan": PLAN | {"table": {"agent.residual": ["hostile:Agent", "hold"]}}},
    "a pickle in the space": {"plan": PLAN | {"table": {"agent.trusted": [True], "agent.path": ["x.zip"]}}},
    "a genome": {"plan": PLAN, "genome": {"agent.residual": "hostile:Agent"}},
    "a pickle in a genome": {"plan": PLAN, "genome": {"agent.trusted": True}},
    "a plan that is a text": {"plan": "os:system"},
    "a plan of other fields": {"plan": PLAN | {"run": "os:system"}},
    "trials without end": {"plan": PLAN | {"trials": 10**15}},
    "a budget that is a list": {"plan": PLAN | {"budget": [1]}},
    "batches that are texts": {"plan": PLAN, "batches": "0123"},
    "a sampler": {"plan": PLAN | {"sampler": "hostile:Agent"}},
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_study_runs_nothing_that_nobody_has_vouched_for(case: str, tmp_path: Path, canary: Path) -> None:
    with pytest.raises(EmpGymError):
        Search.load(study_of(tmp_path / "study", **STUDIES[case]))
    assert not canary.exists()
    assert Search.load(study_of(tmp_path / "honest", PLAN, genome={"agent.gamma": 0.95})).plan.agent_name == "ppo"


@pytest.mark.parametrize("bait", [b"{}\n", b"[" * 100_000 + b"\n", b'"x"\n', b"\xff\xfe\n", pipe, Path.mkdir])
def test_a_journal_that_is_none_is_refused(bait: Any, tmp_path: Path, canary: Path) -> None:
    put(tmp_path / store.JOURNAL, bait)
    with pytest.raises(DataError):
        store.load(tmp_path)
    assert not canary.exists()
    assert store.load(study_of(tmp_path / "honest", PLAN)).study_name == "one"


# -------------------------------------------------------------------------------------------------- diaries, ledgers, settings

ABOUT = {"env": "emp-lob-v0", "kwargs": "{}", "gates": [], "data": {"given": "null", "hash": "0", "days": []}, "face": "vector", "lanes": 1}


def gate(told: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "made_by": json.dumps(told), "reasons": []}]


DIARIES: dict[str, dict[str, Any]] = {
    "a gate": {"gates": gate({"gate": "os:system"})},
    "a gate of a module": {"gates": gate({"gate": "hostile:Gate"})},
    "a gate that is a text": {"gates": gate("os:system")},
    "an environment": {"env": "hostile:emp-lob-v0"},
    "a keyword": {"kwargs": json.dumps({"task": "hostile:Agent"})},
    "a keyword that it does not take": {"env": ENV, "kwargs": json.dumps({"wrappers": ["x"]})},
    "keywords that are a list": {"kwargs": "[]"},
    "keywords without end": {"kwargs": "[" * 100_000},
    "gates that are numbers": {"gates": [7]},
    "no gates": {"gates": None},
    "an environment that is a number": {"env": 7},
    "an unknown environment": {"env": "emp-nothing-v0"},
}


@pytest.mark.parametrize("case", DIARIES)
def test_a_diary_that_is_replayed_runs_nothing_that_nobody_has_vouched_for(
    case: str, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleNamespace(number=0, about=ABOUT | DIARIES[case], lanes=1)
    with pytest.raises(EmpGymError):
        diary_replay.replay(SimpleNamespace(run=lambda _: told))  # type: ignore[arg-type]
    assert not canary.exists()
    if case == "a gate of a module":

        def made(_: str, *, gates: Any, **__: Any) -> Any:
            resolve(gates)
            return SimpleNamespace(unwrapped=SimpleNamespace(tape_set=SimpleNamespace(hash="1")), close=lambda: None)

        resolve = gates.resolve
        monkeypatch.setattr(diary_replay.gym, "make_vec", made)
        with trust.word(), pytest.raises(DataError, match=r"was on days"):  # other days than its own
            diary_replay.replay(SimpleNamespace(run=lambda _: told))  # type: ignore[arg-type]
        assert canary.exists()


LEDGERS = {
    "an agent": json.dumps({"agent_name": "hostile:Agent"}),
    "a gate": json.dumps({"env": {"gates": ["os:system"]}}),
    "a pickle": json.dumps({"agent": {"trusted": True, "path": "x"}}),
    "no object": "[]",
    "lists in lists": "[" * 100_000,
    "a key twice": '{"seed": 1, "seed": 2}',
}


@pytest.mark.parametrize("case", LEDGERS)
def test_evidence_that_is_executed_again_runs_nothing_that_nobody_has_vouched_for(case: str, canary: Path) -> None:
    entry = SimpleNamespace(value={"version": "0", "config": "0", "policies": [], "days": [{}]})
    log = SimpleNamespace(entry=lambda _: entry, path=Path("ledger.log"))
    registered = SimpleNamespace(text=lambda _: LEDGERS[case], ledger=SimpleNamespace(log=log, find=lambda _: None))
    with pytest.raises(EmpGymError):
        evidence.execute_again(registered, 3)  # type: ignore[arg-type]
    assert not canary.exists()
    assert configs.read(json.loads(HONEST), "a ledger").agent_name == "hold"


def bomb(path: Path) -> None:
    path.write_text("a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
        f"{after}: &{after} [{', '.join(['*' + before] * 10)}]\n" for before, after in zip("abcdefgh", "bcdefghi")
    ))  # fmt: skip


SETTINGS: dict[str, bytes | Callable[[Path], None]] = {
    "a pickle": b"agent: {path: model.zip, trusted: true}",
    "a pickle in a space": b"agent.trusted: [true, false]",
    "a pickle in a label": b"evaluation: {baselines: ['x[trusted=true]']}",
    "a tag of Python": b"agent: !!python/object/apply:os.system ['true']",
    "lists in lists": b"a: " + b"[" * 50_000,
    "aliases of aliases": bomb,
    "itself": b"a: &a [*a]",
    "no UTF-8": b"a: \xff",
    "a date that is none": b"a: 2012-13-45",
    "64 gigabytes": sparse,
    "a named pipe": pipe,
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_are_typed_may_name_classes_and_no_pickles(case: str, tmp_path: Path, canary: Path) -> None:
    put(tmp_path / "x.yaml", SETTINGS[case])
    with pytest.raises(EmpGymError):
        configs.read_yaml(tmp_path / "x.yaml")
    assert not canary.exists()
    (tmp_path / "y.yaml").write_text("agent_name: hostile:Agent\nagent: {trusted: false}\n")
    assert configs.read_yaml(tmp_path / "y.yaml")["agent_name"] == "hostile:Agent", "a class counts as typed"


CURVES: dict[str, bytes | Callable[[Path], None]] = {
    "no steps": b"a,b\n1,2\n",
    "texts": b"steps,loss\n1,os:system\n",
    "more cells than columns": b"steps\n1,2,3\n",
    "no UTF-8": b"steps\n\xff\n",
    "a named pipe": pipe,
}


@pytest.mark.parametrize("case", CURVES)
def test_curves_that_are_none_are_refused(case: str, tmp_path: Path) -> None:
    put(tmp_path / "curves.csv", CURVES[case])
    with pytest.raises(DataError):
        curve_rows(tmp_path / "curves.csv")
    put(tmp_path / "honest.csv", b"steps,loss\n1,\n2,nan\n3,1e-3\n")
    assert [row["loss"] for row in curve_rows(tmp_path / "honest.csv")] == ["", "nan", "1e-3"]


def header(size: int, text: bytes = b"") -> bytes:
    return size.to_bytes(8, "little") + text


WRAPS = b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'


WEIGHTS: dict[str, bytes | Callable[[Path], None]] = {
    "a header of 2^63 bytes": header(1 << 63, b"{}"),
    "a header that is longer than the file": header(1 << 20, b"{}"),
    "a header in a file without end": sparse,
    "lists in lists": header(100_000, b"[" * 100_000),
    "shapes that wrap": header(len(WRAPS), WRAPS),
    "three bytes": b"abc",
    "a pickle": pickle.dumps(ENV),
    "a named pipe": pipe,
    "a folder": Path.mkdir,
    "a circle of links": circle,
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none_are_refused(case: str, tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "model.safetensors"
    put(path, WEIGHTS[case])
    with pytest.raises(DataError):
        read_arrays(path)
    assert not canary.exists()


def test_the_corpus_is_as_large_as_it_is_said_to_be() -> None:
    corpus = (NAMES, OURS, GATES, BYTES, SERIES, STUDIES, DIARIES, LEDGERS, SETTINGS, WEIGHTS, CURVES)
    assert sum(map(len, corpus)) >= 140


# --------------------------------------------------------------------------------------------------------------- the word


class Egg:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_pickles_are_asked_about_by_their_bytes(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.zip").write_bytes(b"an honest file")
    folder = run_of(tmp_path / "run", agent={"path": "model.zip", "trusted": True})
    with trust.word():
        _ = RunFolder.open(folder).config
    assert RunFolder.open(folder).config.agent["trusted"]
    (tmp_path / "model.zip").write_bytes(b"\x80\x04another one")
    with pytest.raises(Untrusted, match=r"may hold pickles \(files: 'model.zip'\)"):
        _ = RunFolder.open(folder).config
    (tmp_path / "model.zip").unlink()
    with pytest.raises(DataError, match=f"no 'model.zip', looked for from {tmp_path}"):  # before anybody is asked
        _ = RunFolder.open(folder).config
    assert not canary.exists()


def test_a_word_is_given_for_what_was_shown_and_all_of_it(tmp_path: Path, canary: Path, caplog: Any) -> None:
    """The record says another gate than the settings; a seed says another agent than its series."""
    kept = set((trust.home() / trust.FOLDER).glob("*.json"))
    folder = run_of(tmp_path / "run", agent_name="hostile:Agent", agent={"of": str(tmp_path)})
    told = json.loads((folder / "config.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({"trained_as": told | {"env": {"gates": [{"gate": "hostile:Gate"}]}}}))
    with pytest.raises(Untrusted, match=r"config\.json: .*'hostile:Agent'; .*provenance\.json: .*'hostile:Gate'"):
        _ = RunFolder.open(folder).config
    series = tmp_path / "series"
    run_of(series / "seed-0")
    run_of(series / "seed-1", agent_name="hostile:Agent", seed=1)
    (series / "seeds.json").write_text(json.dumps({"seeds": [0, 1], "config": told | {"agent_name": "hold"}}))
    with pytest.raises(Untrusted, match=r"seed-1.config\.json: .*'hostile:Agent'"):
        _ = RunFolder(series).series
    assert set((trust.home() / trust.FOLDER).glob("*.json")) == kept, "nothing is kept of what was only asked"
    with trust.word():
        _ = RunFolder.open(folder).config
    assert caplog.text.count("trusted from now on") == 2
    assert "hostile:Gate" in caplog.text and len(set((trust.home() / trust.FOLDER).glob("*.json")) - kept) == 2


@pytest.mark.parametrize("names", [[f"m{n}:C" for n in range(200)], ["m:" + "C" * 2_000]])
def test_what_nobody_would_read_is_not_asked_but_refused(names: list[str], tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", env={"gates": names})
    with trust.word(), pytest.raises(DataError, match="expected at most"):
        _ = RunFolder.open(folder).config


def test_days_by_their_documented_name_are_no_code(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", env={"data": "synthetic:signal=20,rows=20000"})
    assert RunFolder.open(folder).config.env["data"].startswith("synthetic:")
    hostile = {"agent_name": "emp_gym.agents.adapters:SB3Agent", "agent": {"policy_kwargs": {"data": "synthetic:Agent"}}}
    with pytest.raises(Untrusted, match="synthetic:Agent"):
        _ = RunFolder.open(run_of(tmp_path / "hostile", **hostile)).config


def test_runs_of_ones_own_are_not_asked_about_wherever_they_lie(tmp_path: Path, canary: Path) -> None:
    config = RunConfig(ENV, "hostile:Agent", env={"gates": [("hostile:Gate",)]})
    run = RunFolder.create(tmp_path / "run", config)
    assert run.config.agent_name == "hostile:Agent"
    trust._noted.clear()  # another process
    RunFolder(run.path).write_series([run.config])
    run.path.rename(tmp_path / "moved")
    assert RunFolder.open(tmp_path / "moved").config.agent_name == "hostile:Agent"
    assert [one.agent_name for one in RunFolder(tmp_path / "moved").series] == ["hostile:Agent"]
    assert not [path for path in tmp_path.joinpath("moved").iterdir() if "trust" in path.name], "nothing of it lies in the folder"


def test_a_word_of_a_folder_for_itself_is_no_word(tmp_path: Path, canary: Path) -> None:
    folder = run_of(tmp_path / "run", agent_name="hostile:Agent")
    mine = tmp_path / "trusted"
    with trust.word():
        _ = RunFolder.open(folder).config
    (record,) = mine.iterdir()
    record.rename(folder / record.name)
    (folder / "trust").mkdir()
    (folder / "trust" / record.name).write_bytes((folder / record.name).read_bytes())
    trust._noted.clear()
    with pytest.raises(Untrusted):
        _ = RunFolder.open(folder).config


def test_a_budget_and_a_seed_are_not_another_question(tmp_path: Path, canary: Path) -> None:
    with trust.word():
        _ = RunFolder.open(run_of(tmp_path / "a", agent_name="hostile:Agent")).config
    other = run_of(tmp_path / "b", agent_name="hostile:Agent", seed=7, total_timesteps=10)
    assert RunFolder.open(other).config.seed == 7
    with pytest.raises(Untrusted):
        _ = RunFolder.open(run_of(tmp_path / "c", agent_name="hostile:Agent", agent={"path": "x"})).config


def test_the_word_is_given_on_the_command_line_once(tmp_path: Path, canary: Path, capsys: Any) -> None:
    (tmp_path / "modules" / "hostile_dial.py").write_text(
        "import os, pathlib\nimport numpy as np\nfrom emp_gym.agents.base import BaseAgent\n"
        "class Own(BaseAgent):\n    def act(self, observation, state, mask=None):\n"
        "        pathlib.Path(os.environ['CANARY']).touch()\n"
        "        return np.zeros((len(observation), *self.action_space.shape), np.float32), state\n"
    )
    folder, words = tmp_path / "run", ["--episodes", "2", "--set", "evaluation.baselines=[naive]"]
    assert train.main(["--env", ENV, "--agent", "hostile_dial:Own", "--run-dir", str(folder), "--no-evaluation"]) == 0
    assert evaluate.main(["--run", str(folder), *words]) == 0, "what was typed is not asked about"
    assert canary.exists()
    canary.unlink()
    trust._noted.clear()
    for record in (tmp_path / "trusted").iterdir():
        record.unlink()  # somebody else's machine
    capsys.readouterr()
    assert evaluate.main(["--run", str(folder), *words]) == 2
    assert "agent_name names 'hostile_dial:Own'" in capsys.readouterr().err and not canary.exists()
    assert evaluate.main(["--run", str(folder), *words, "--trust"]) == 0
    assert canary.exists()
    assert evaluate.main(["--run", str(folder), *words]) == 0


def test_workers_take_over_what_was_vouched_for(tmp_path: Path, canary: Path) -> None:
    folder = run_of(tmp_path / "run", agent_name="hostile:Agent")
    with trust.word():
        _ = RunFolder.open(folder).config
    told = trust.noted()
    trust._noted.clear()
    for record in (tmp_path / "trusted").iterdir():
        record.unlink()
    with pytest.raises(Untrusted):
        _ = RunFolder.open(folder).config
    trust.take_over(told)
    assert RunFolder.open(folder).config.agent_name == "hostile:Agent"


def test_modules_are_found_where_a_run_was_typed_whoever_writes_or_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders with a module of one name: what is read again is that of its own run; a worker that writes does not forget it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(trust, "_folders", [])
    told = {"agent_name": "twin:Agent"}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trust._folders.clear()
        trust.look_in(str(tmp_path / name))
        trust.remember("run", told, tmp_path / name / "run" / "config.json")
        mine = trust.noted()
        trust._folders.clear()  # as in a new process, which is sent what was noted
        trust.take_over(mine)
        trust.remember("run", told, tmp_path / name / "run" / "config.json")

    def found(place: Path) -> list[str]:
        trust._folders.clear()
        trust._noted.clear()
        trust.ask("run", told, place)
        return [*trust._folders]

    assert found(tmp_path / "a" / "run" / "config.json") == [str(tmp_path / "a")]
    assert found(tmp_path / "b" / "run" / "config.json") == [str(tmp_path / "b")]
    monkeypatch.chdir(tmp_path / "a")
    assert found(Path("run/config.json")) == [str(tmp_path / "a")]
    assert found(tmp_path / "moved" / "config.json") == [str(tmp_path / "b")], "the last, where the place is another"


@pytest.mark.parametrize(
    "honest",
    [
        {"env": {"start": "09:30:00", "episode": "128 decisions", "data": "/data/a day/AMZN.zip"}},
        {"env": {"gates": ["emp_gym.risk.gates:AllowAll", {"gate": "risk", "limits": {"max_position": 5}}]}},
        {"agent_name": "ppo", "agent": {"residual": "hold", "trusted": False, "path": ""}},
        {"env": {"data": "https://example.org/day"}, "evaluation": {"baselines": ["hold", "ppo[gamma=0.9]"]}},
    ],
)
def test_what_names_nothing_foreign_is_not_asked_about(honest: dict[str, Any], tmp_path: Path) -> None:
    assert RunFolder.open(run_of(tmp_path / "run", **honest)).config
    assert not (tmp_path / "trusted").exists()


@settings(max_examples=500)
@given(st.text(st.sampled_from("aos.:_1é℘ー· /=,[]\u0300"), max_size=12), st.sampled_from(["a", "env_id"]))
def test_whatever_could_be_imported_is_seen(text: str, key: str) -> None:
    """The judge asks Python itself what is a name: `module:Class`, and for environments the module before the last colon."""
    module, colon, attribute = text.partition(":") if key == "a" else text.rpartition(":")
    name = all(part.isidentifier() for part in module.split("."))
    if colon and name and (attribute.isidentifier() or key == "env_id"):
        assert trust.claims({key: [{"b": text}] if key == "a" else text}, "here")


def test_files_are_bounded_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert bounded.read_bytes(path, 100) == b"x" * 100
    with pytest.raises(DataError, match="expected at most 99"):
        bounded.read_bytes(path, 99)
    path.write_text('{"a": 1, "b": {"c": [NaN, 2.5]}}')
    assert read_json(path)["b"]["c"][1] == 2.5, "results may hold what is no number"


def test_no_module_of_the_package_calls_anything_when_it_is_imported(root: Path) -> None:
    """Naming a module of ours in a file imports it: that must be worth nothing."""
    import ast

    allowed = {"register_all", "register_error", "register"}
    found = []
    for path in sorted((root / "emp_gym").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = ast.unparse(node.value.func)
                if called.rpartition(".")[2] not in allowed:
                    found.append(f"{path.relative_to(root)}:{node.lineno}: {called}")
    assert found == []
