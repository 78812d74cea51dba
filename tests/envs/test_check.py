"""The conformance suite finds the faults that it is for, one planted fault at a time, and passes what is sound."""

from __future__ import annotations

import copy
import json
import os
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

import emp_gym  # noqa: F401  registers the ids
from emp_gym.cli.check import main
from emp_gym.envs.conformance import scalar, vector
from emp_gym.envs.conformance.subject import Skip, Subject, first_difference, resolve
from emp_gym.envs.conformance.suite import CHECKS, conformance, outcomes, run_check
from emp_gym.types import ConfigError

LENGTH = 12
IDS = [name for name in gym.registry if name.startswith("emp-")]


class Walk(gym.Env):
    """A sound little environment: a random walk that the action pushes; `fault` breaks one promise."""

    metadata = {"render_modes": []}
    shared = np.zeros(3, np.float32)

    def __init__(self, fault: str = ""):
        self.fault = fault
        self.observation_space = spaces.Box(-1, np.inf if fault == "infinite" else 1, (3,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.features = ("place", "clock", "push")
        self.row = 0

    def _observe(self) -> np.ndarray:
        place = np.clip(self.place, -1, 1) if self.fault != "escape" else self.place
        values = np.array([place, self.time / LENGTH, self.push / 2], np.float32)
        if self.fault == "constant":
            values[2] = 0.5
        if self.fault == "dtype":
            return values.astype(np.float64)
        if self.fault == "buffer":
            self.shared[:] = values
            return self.shared
        if self.fault == "alias":
            self.last = values
            return self.last
        return values

    def _info(self) -> dict:
        mask = np.array([True, self.place < 0.5, self.place > -0.5])
        if self.fault == "nothing allowed" and self.time == 5:
            mask[:] = False
        if self.fault == "info buffer":
            return {"action_mask": self.mask}
        return {"action_mask": mask, "cost": 0.0}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None if self.fault == "deaf" else seed)
        if self.fault == "deaf" and seed is not None:
            self.np_random = np.random.default_rng()
        if self.fault == "one start":
            self.np_random = np.random.default_rng(1)
        if self.fault == "stuck":
            self.np_random = np.random.default_rng(seed or 1)
        self.place, self.time, self.push, self.masked = self.np_random.uniform(-0.9, 0.9), 0, 0, 0
        self.mask = np.ones(3, bool)
        return self._observe(), self._info()

    def step(self, action):
        if self.fault == "alias" and hasattr(self, "last"):
            self.place = float(self.last[0])
        allowed = self._info()["action_mask"]
        if self.fault != "mask ignored" and not allowed[action]:
            self.masked, action = self.masked + (self.fault != "uncounted"), 0
        self.push = int(action)
        drift = np.random.normal() if self.fault == "global" else self.np_random.normal()
        self.place += 0.1 * drift + (0.05, -0.1, 0.1)[self.push] - 0.05
        self.time += 1
        over = self.time >= LENGTH
        reward = {"flat": 1.0, "nan": float("nan") if self.time == 7 else 0.0}.get(self.fault, float(self.place))
        info = self._info() | ({"summary": {"masked": float(self.masked)}} if over else {})
        return self._observe(), reward, False, over, info

    def __deepcopy__(self, memo):
        if self.fault == "copy":
            other = Walk(self.fault)
            other.reset(seed=1)
            return other
        other = copy.copy(self)
        other.__dict__ = {k: copy.deepcopy(v, memo) for k, v in self.__dict__.items()}
        return other

    def __getstate__(self):
        if self.fault == "pickle":
            raise TypeError("will not be pickled")
        return self.__dict__


class DyingWalk(Walk):
    """Its forked children die."""

    home = os.getpid()

    def step(self, action):
        if os.getpid() != self.home:
            os._exit(3)
        return super().step(action)


class Walks(VectorEnv):
    """Walks side by side, natively seeded; `fault` breaks one promise."""

    def __init__(self, num_envs=1, fault="", autoreset_mode="NextStep", threads=1):
        self.num_envs, self.fault, self.threads = num_envs, fault, threads
        self.mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.mode}
        self.walks = [Walk() for _ in range(num_envs)]
        self.single_observation_space, self.single_action_space = self.walks[0].observation_space, spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for lane in np.flatnonzero(mask):
            own = seed[lane] if isinstance(seed, list) else None if seed is None else seed + 1000 * int(lane)
            if self.fault == "width" and own is not None:
                own += self.num_envs
            self.walks[lane].reset(seed=own)
        self.over = np.zeros(self.num_envs, bool)
        return np.stack([w._observe() for w in self.walks]), self._infos()

    def _infos(self):
        mask = np.stack([w._info()["action_mask"] for w in self.walks])
        if self.fault == "info":
            mask[:, 0] ^= mask[:, 1]
        return {"action_mask": mask, "cost": np.zeros(self.num_envs)}

    def step(self, actions):
        rewards, cut = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        final = np.full(self.num_envs, None, object)
        for lane, walk in enumerate(self.walks):
            if self.over[lane] and self.mode is AutoresetMode.NEXT_STEP:
                walk.reset()
                continue
            _, rewards[lane], _, cut[lane], _ = walk.step(actions[lane])
        if self.fault == "thread" and self.threads > 1:
            rewards[-1] += 1e-12
        if self.fault == "late" and self.mode is AutoresetMode.NEXT_STEP:
            rewards[self.over] = 1.0
        infos: dict = {}
        if self.mode is AutoresetMode.SAME_STEP and cut.any():
            last = self._infos() | {"summary": {"masked": np.array([float(w.masked) for w in self.walks])}}
            for lane in np.flatnonzero(cut):
                final[lane] = self.walks[lane]._observe()
                if self.fault == "final":
                    final[lane][0] += 1e-6
                self.walks[lane].reset()
            infos = {"final_obs": final, "_final_obs": cut.copy(), "final_info": last}
        elif cut.any():
            infos["summary"] = {"masked": np.array([float(w.masked) for w in self.walks])}
        self.over = cut.copy()
        return np.stack([w._observe() for w in self.walks]), rewards, np.zeros_like(cut), cut, infos | self._infos()


def lanes(fault: str = "") -> Subject:
    return Subject("walks", Walk, lambda n, **kw: Walks(n, fault, **kw), threads=(1, 2))


ALONE = [
    ("infinite", scalar.spaces_are_finite),
    ("escape", scalar.outputs_stay_inside),
    ("nan", scalar.outputs_stay_inside),
    ("deaf", scalar.seeds_decide_everything),
    ("global", scalar.seeds_decide_everything),
    ("one start", scalar.seeds_decide_everything),
    ("one start", scalar.starts_are_random),
    ("stuck", scalar.starts_are_random),
    ("constant", scalar.features_vary),
    ("flat", scalar.rewards_vary),
    ("buffer", scalar.returned_arrays_are_not_shared),
    ("info buffer", scalar.returned_arrays_are_not_shared),
    ("alias", scalar.scribbling_changes_nothing),
    ("copy", scalar.copies_continue_alike),
    ("pickle", scalar.copies_continue_alike),
    ("nothing allowed", scalar.masks_hold),
    ("mask ignored", scalar.masks_hold),
    ("uncounted", scalar.masks_hold),
    ("dtype", scalar.sb3_accepts),
    ("infinite", scalar.gymnasium_accepts),
]


@pytest.mark.parametrize(("fault", "check"), ALONE, ids=[f"{fault}-{check.__name__}" for fault, check in ALONE])
def test_a_planted_fault_is_found_alone(fault, check):
    outcome = run_check(check, Subject.of(lambda: Walk(fault)))
    assert outcome.findings and not outcome.skipped


def test_threads_that_meet_are_found():
    class Meeting(Walk):
        """Its instances share a walk, as environments do that step one module-level simulator."""

        common = [0]

        def step(self, action):
            Meeting.common[0] += 1
            seen = Meeting.common[0]
            time.sleep(0.0003)
            self.place += 1e-3 * (Meeting.common[0] - seen)
            return super().step(action)

    assert run_check(vector.python_threads_do_not_meet, Subject.of(Meeting)).findings


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_workers_that_die_are_found():
    assert run_check(vector.forked_workers_survive, Subject.of(DyingWalk)).findings


LANES = [
    ("final", vector.lanes_equal_their_twins),
    ("late", vector.lanes_equal_their_twins),
    ("info", vector.lanes_equal_their_twins),
    ("width", vector.lanes_do_not_know_each_other),
    ("thread", vector.threads_change_nothing),
]


@pytest.mark.parametrize(("fault", "check"), LANES, ids=[f"{fault}-{check.__name__}" for fault, check in LANES])
def test_a_planted_fault_is_found_in_lanes(fault, check):
    assert run_check(check, lanes(fault)).findings


def test_a_sound_environment_conforms():
    assert [str(finding) for finding in conformance(Walk)] == []


def test_sound_lanes_pass_every_check_of_lanes():
    for check in CHECKS:
        if check.__module__ == vector.__name__:
            assert [str(finding) for finding in run_check(check, lanes()).findings] == []


def test_what_does_not_apply_is_skipped_and_says_why():
    skipped = {outcome.check: outcome.skipped for outcome in outcomes(Walk) if outcome.skipped}
    assert set(skipped) == {
        "lanes_equal_their_twins", "lanes_do_not_know_each_other", "threads_change_nothing", "snapshots_continue_alike",
        "plugins_write_nothing_else",
    }  # fmt: skip
    assert all(skipped.values())
    with pytest.raises(Skip):
        Subject.of(Walk).together(2)


def test_a_declared_constant_is_allowed():
    class Declared(Walk):
        constant_features = ("push",)

    assert not run_check(scalar.features_vary, Subject.of(lambda: Declared("constant"))).findings


def test_an_environment_that_cannot_be_made_is_said_once():
    def broken():
        raise RuntimeError("no market today")

    found = list(outcomes(broken))
    assert [str(finding).partition(" (")[0] for finding in found[0].findings] == ["gymnasium_accepts: RuntimeError: no market today"]
    because = "not run to its end, because of the RuntimeError that gymnasium_accepts has met"
    assert all(outcome.skipped and not outcome.findings for outcome in found[1:])
    assert sum(outcome.skipped == because for outcome in found) == 13  # the others ask for lanes


def test_differences_are_of_bytes():
    assert first_difference(np.float32([0.0]), np.float32([-0.0]))
    assert first_difference(np.float32([np.nan]), np.float32([np.nan])) is None
    assert first_difference({"a": (np.zeros(2), 1)}, {"a": (np.zeros(2), 1)}) is None
    assert "a" in first_difference({"a": np.zeros(2)}, {"a": np.zeros(3)})
    assert "float32" in first_difference(np.zeros(2), np.zeros(2, np.float32))
    record = np.zeros(3, np.dtype([("x", "i8"), ("y", "i1")], align=True))
    other = record.copy()
    other.view(np.uint8)[15] = 1  # padding
    assert first_difference(record, other) is None


def test_a_name_that_stands_for_nothing_names_the_nearest():
    with pytest.raises(ConfigError, match="emp-lob-v0"):
        resolve("emp-lob-v00")
    with pytest.raises(ConfigError, match="no_such_module"):
        resolve("no_such_module:Env")
    assert resolve("emp_gym:emp-lob-v0") == ("emp-lob-v0", None)


def test_the_door_answers_a_wrong_name_in_one_line_with_code_2(capsys):
    assert main(["--env", "emp-lbo-v0"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "emp-lob-v0" in said.err


def test_the_door_reports_findings_as_json_with_code_1(capsys, monkeypatch, tmp_path):
    (tmp_path / "broken_market.py").write_text("def Env():\n    raise RuntimeError('no market today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--env", "broken_market:Env", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert any("no market today" in text for check in answer["checks"] for text in check["findings"])
    skipped = {check["check"]: check["skipped"] for check in answer["checks"]}
    assert "NOT checked" in skipped["the_future_changes_nothing"]


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_registered_environment(name, check):
    """The registry is the test plan: what is registered is checked."""
    outcome = run_check(check, Subject.of(name))
    assert [str(f) for f in outcome.findings] == []
