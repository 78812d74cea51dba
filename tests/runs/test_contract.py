"""The training contract: each row of its table is looked at, and an environment that breaks one is told which."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

import emp_gym  # noqa: F401
from emp_gym.cli import train
from emp_gym.envs import CERTIFICATES
from emp_gym.runs.contract import LANES, missing

ID = "contract-walk-v0"
STARTS = {"train": range(10, 30), "test": range(40, 50)}


class Walk(VectorEnv):
    """Counts from its start; lane i ends after 3 + i steps. Keeps the contract; a subclass breaks one row of it."""

    def __init__(self, num_envs=1, split="train", autoreset_mode="NextStep"):
        self.num_envs, self.mode, self.starts = num_envs, AutoresetMode(autoreset_mode), STARTS[split]
        self.metadata = {"autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = gym.spaces.Box(-1e6, 1e6, (1,), np.float32), gym.spaces.Discrete(2)
        self.observation_space, self.action_space = (
            batch_space(space, num_envs) for space in (self.single_observation_space, self.single_action_space)
        )
        self.at, self.steps = np.zeros(num_envs), np.zeros(num_envs, int)
        self.lengths, self.random = 3 + np.arange(num_envs), np.random.default_rng(0)

    def windows(self, count=None):
        chosen = self.starts if count is None else np.linspace(self.starts[0], self.starts[-1], count).astype(int)
        return [(0, int(start)) for start in chosen]

    def begin(self, lanes, starts=None):
        self.at[lanes] = self.random.integers(1000, size=self.num_envs)[lanes] if starts is None else np.asarray(starts)[lanes]
        self.steps[lanes] = 0

    def reset(self, *, seed=None, options=None):
        options = options or {}
        self.random = self.random if seed is None else np.random.default_rng(seed)
        self.begin(options.get("reset_mask", np.ones(self.num_envs, bool)), options.get("start"))
        return self.seen(), {}

    def seen(self):
        return self.at[:, None].astype(np.float32)

    def step(self, actions):
        over = self.steps >= self.lengths
        moved = ~over
        self.at += moved
        self.steps += moved
        if self.mode is AutoresetMode.NEXT_STEP:
            self.begin(over)
        done = (self.steps >= self.lengths) & moved
        info = {"summary": {name: self.at.copy() for name in ("pnl", "return", "length")}, "_summary": done} if done.any() else {}
        seen = self.seen()
        if done.any() and self.mode is AutoresetMode.SAME_STEP:
            info = {"final_obs": seen, "_final_obs": done, "final_info": info, "_final_info": done}
            self.begin(done)
            seen = self.seen()
        return seen, moved * 1.0, done, np.zeros(self.num_envs, bool), info


class Restless(Walk):
    def step(self, actions):
        self.at += self.steps >= self.lengths
        return super().step(actions)


class Paying(Walk):
    def step(self, actions):
        seen, reward, *others = super().step(actions)
        return seen, reward + 1.0, *others


class ResetsAll(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options={name: value for name, value in (options or {}).items() if name != "reset_mask"})


class ResetsNobody(Walk):
    def reset(self, *, seed=None, options=None):
        return (self.seen(), {}) if "reset_mask" in (options or {}) else super().reset(seed=seed, options=options)


class Elsewhere(Walk):
    def begin(self, lanes, starts=None):
        super().begin(lanes)


class Anywhere(Walk):
    def begin(self, lanes, starts=None):
        self.random = np.random.default_rng()
        super().begin(lanes)


class Twice(Walk):
    def windows(self, count=None):
        return super().windows(count) + ([(0, 41)] if count is None else [])


class Others(Walk):
    def windows(self, count=None):
        return super().windows() if count is None else [(0, start) for start in range(count)]


class TooFew(Walk):
    def windows(self, count=None):
        return super().windows(count)[:1]


class Nameless(Walk):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.metadata = {}


class NoLast(Walk):
    def step(self, actions):
        *others, info = super().step(actions)
        return *others, {name: value for name, value in info.items() if name != "_final_obs"}


class NoPnl(Walk):
    def step(self, actions):
        *others, info = super().step(actions)
        info.get("summary", {}).pop("pnl", None)
        return *others, info


class Endless(Walk):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.lengths = np.full(self.num_envs, 1 << 40)


class NoSplit(Walk):
    def __init__(self, num_envs=1, autoreset_mode="NextStep"):
        super().__init__(num_envs, "test", autoreset_mode)


class NoWindows(Walk):
    windows = None


class NoKeywords(Walk):
    windows = None

    def __init__(self, num_envs=1):
        super().__init__(num_envs)


class Fails(Walk):
    def step(self, actions):
        raise ValueError("mine")


@pytest.fixture
def lacks(monkeypatch):
    monkeypatch.setattr("emp_gym.runs.contract.LONGEST", 200)

    def told(kind):
        gym.registry.pop(ID, None)
        gym.register(ID, entry_point=lambda: None, vector_entry_point=kind)
        return missing(ID)

    yield told
    gym.registry.pop(ID, None)


def test_who_keeps_it_lacks_nothing(lacks):
    assert lacks(Walk) == []


@pytest.mark.parametrize(("kind", "said"), [
    (Restless, ["moves lanes whose episode is over"]), (Paying, ["moves lanes whose episode is over"]),
    (ResetsAll, ["begins other lanes, too"]), (ResetsNobody, ["does not begin the lanes of reset(options={'reset_mask'"]),
    (Elsewhere, ["does not begin at the windows"]), (Anywhere, ["does not begin at the windows"]),
    (Twice, ["names a window twice"]), (Others, ["names a window twice"]),
    (TooFew, ["has 1 windows in its test split"]),
    (Nameless, ["says metadata['autoreset_mode'] = None where 'SameStep'", "says metadata['autoreset_mode'] = None where 'Disabled'"]),
    (NoLast, ["has no info['final_obs'] with its mask"]), (NoPnl, ["has no info['summary'] with pnl of each lane"]),
    (Endless, ["had no end of an episode in 200 steps"]), (NoSplit, ["takes no `split`"]), (NoWindows, ["has no windows(count)"]),
    (NoKeywords, ["takes no `split`", "takes no `autoreset_mode`", "has no windows(count)"]), (Fails, ["fails: ValueError: mine"]),
])  # fmt: skip
def test_each_row_that_is_broken_is_named_and_no_other(kind, said, lacks):
    told = lacks(kind)
    assert len(told) == len(said) and all(line.startswith(start) for line, start in zip(told, said, strict=True)), told


def test_training_says_where_all_the_reasons_are(lacks, capsys):
    assert len(lacks(NoKeywords)) == 3
    assert train.main(["--env", ID, "--total-timesteps", "10"]) == 2
    error = capsys.readouterr().err
    assert "`split`" in error and f"all that it lacks: emp-check --env {ID} --skip conformance" in error


def test_who_has_no_windows_is_not_trained_in_vain(lacks, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lacks(NoWindows)
    assert train.main(["--env", ID, "--total-timesteps", "10", "--run-dir", "run"]) == 2
    error = capsys.readouterr().err
    assert "has no windows(count), so there is nothing to judge it on (all that it lacks: " in error
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.mark.parametrize("env_id", ["emp-lob-v0", "emp-lob-execution-v0", next(iter(CERTIFICATES))])
def test_ours_keep_it(env_id):
    assert LANES == 2 and missing(env_id) == []
