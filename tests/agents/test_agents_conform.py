"""Every built-in agent passes the conformance suite, and the suite catches what it is there for."""

from __future__ import annotations

from typing import Any

import fakes
import numpy as np
import pytest

from emp_gym.agents import registry
from emp_gym.agents.base import BaseAgent
from emp_gym.agents.check import conformance
from emp_gym.types import ConfigError

fakes.register()
BASELINES = {home: registry.baselines(home) for home in registry.HOMES}
SMALL = {"num_envs": 16, "n_steps": 16, "batch_size": 64, "n_epochs": 1, "layers": (8,), "threads": 1}


@pytest.mark.parametrize("name", ["hold", "random", "symmetric", "ofi-taker", "oracle"])
def test_baselines_conform(name: str) -> None:
    assert conformance(name, "fake-lob-v0") == []


@pytest.mark.parametrize(("env_id", "name"), [(env_id, name) for env_id, names in BASELINES.items() for name in names])
def test_baselines_conform_on_every_task_that_they_are_for(env_id: str, name: str) -> None:
    assert conformance(name, env_id) == []


def test_a_baseline_is_checked_on_all_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    import emp_gym.agents.check as suite

    asked: list[list[str]] = []
    monkeypatch.setattr(suite, "_findings", lambda cls, ids, *rest: asked.append(ids) or [])
    suite.conformance("glft")
    suite.conformance(Wrong)
    assert asked == [["emp-lob-v0"], ["emp-lob-market-making-v0"], list(BASELINES)]


@pytest.mark.parametrize("env_id", ["fake-lob-v0", "fake-box-v0"])
def test_ppo_conforms(env_id: str) -> None:
    assert conformance("ppo", env_id, **SMALL) == []


@pytest.mark.parametrize("name", ["hold", "random"])
def test_box_baselines_conform(name: str) -> None:
    assert conformance(name, "fake-box-v0") == []


class Wrong(BaseAgent):
    """Does one thing wrong, as `fault` says."""

    def __init__(self, *args: Any, fault: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fault = fault
        self.calls = 0

    def initial_state(self, lanes: int) -> np.ndarray:
        return np.zeros(lanes, np.int64)

    def reset_state(self, state: Any, done: Any) -> Any:
        if self.fault == "forgets all":
            return np.zeros_like(state)
        return state if self.fault == "remembers" else super().reset_state(state, done)

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        n = len(observation)
        self.calls += 1
        action = (state % 3).astype(np.int64)
        if self.fault == "shape":
            action = action[:, None]
        elif self.fault == "dtype":
            action = action.astype(np.float64)
        elif self.fault == "outside":
            action = action + 11
        elif self.fault == "ignores mask":
            action = np.full(n, 7)
        elif self.fault == "looks around":
            action = action + int(observation[-1, 0] > 0)
        elif self.fault == "lane number":
            action = np.arange(n) % 3
        elif self.fault == "batch mean":
            action = np.full(n, int(observation[:, 0].mean() > 0))
        elif self.fault == "writes":
            observation[:] = 0
        elif self.fault == "own memory":
            action = np.full(n, self.calls % 3)
        elif self.fault == "global generator":
            action = np.random.randint(0, 3, n)
        if (
            mask is not None
            and self.fault != "ignores mask"
            and action.ndim == 1
            and self.fault not in ("outside", "dtype")
        ):
            action = np.where(mask[np.arange(n), action], action, 0)
        return action, state + 1


class Schooled(BaseAgent):
    """Knows what to do only after it has learned; with `forgets` does not take over what another learned."""

    learns_first = True

    def __init__(self, *args: Any, forgets: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forgets, self.menu = forgets, 0

    def learn(self, make_env: Any, total_timesteps: int, callback: Any = None) -> None:
        env = make_env(num_envs=2)
        env.reset(seed=self.seed)
        env.close()
        self.menu = 1 + self.seed
        if callback is not None:
            callback(total_timesteps, {})

    def arrays(self) -> dict[str, np.ndarray]:
        return {"menu": np.array([self.menu])}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.menu = 2 if self.forgets and self.seed == 4 else int(arrays["menu"][0])

    def act(self, observation: Any, state: Any, mask: Any = None) -> Any:
        if self.menu == 0:
            raise ConfigError("not learned yet")
        action = np.full(len(observation), self.menu)
        return np.where(mask[np.arange(len(observation)), action], action, 0) if mask is not None else action, state


def test_an_agent_that_must_learn_first_is_given_the_time() -> None:
    assert conformance(Schooled, "fake-lob-v0") == []
    assert "files_bring_it_back" in {f.check for f in conformance(Schooled, "fake-lob-v0", forgets=True)}


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("shape", "actions_fit_the_space"),
        ("dtype", "actions_fit_the_space"),
        ("outside", "actions_fit_the_space"),
        ("ignores mask", "masks_are_respected"),
        ("looks around", "lanes_do_not_know_each_other"),
        ("lane number", "lanes_may_change_places"),
        ("batch mean", "lanes_do_not_know_each_other"),
        ("forgets all", "done_lanes_forget"),
        ("remembers", "done_lanes_forget"),
        ("writes", "inputs_are_left_alone"),
        ("own memory", "inputs_are_left_alone"),
        ("global generator", "the_seed_decides"),
    ],
)
def test_each_fault_is_caught(fault: str, check: str) -> None:
    import emp_gym.agents.check as suite

    only = [c for c in suite.CHECKS if c.__name__ == check]
    assert only
    candidate = suite._candidate(Wrong, ["fake-lob-v0"], {}, {"fault": fault})
    assert list(only[0](candidate)), f"{check} did not see {fault!r}"


def without(name: str) -> type:
    """`fakes.Rule` without one of its methods."""
    return type("Lacking", (), {key: value for key, value in vars(fakes.Rule).items() if key != name})


def wrong(**methods: Any) -> type:
    return type("Strange", (fakes.Rule,), methods)


def nothing(*_: Any) -> None: ...


WRONG = {
    "no initial_state": (without("initial_state"), "methods_are_there: there is no initial_state(lanes): every agent has one"),
    "no reset_state": (without("reset_state"), "methods_are_there: there is no reset_state(state, done)"),
    "act without a mask": (wrong(act=lambda self, observation, state: None), "it is called as act(observation, state, mask)"),
    "initial_state of nothing": (wrong(initial_state=lambda self: None), "it is called as initial_state(lanes), and does not take"),
    "a method that is none": (wrong(reset_state=3), "there is no reset_state(state, done)"),
    "save, no load": (wrong(save=nothing), "there is no load(folder): what was learned could not be kept"),
    "learn, no save": (wrong(learn=nothing), "there is no save(folder)"),
    "learn of nothing": (
        wrong(learn=lambda self: None, save=nothing, load=nothing), "it is called as learn(make_env, total_timesteps, callback)"
    ),
    "learns first, no arrays": (wrong(learns_first=True), "there is no restore(arrays): it says that it learns first"),
    "takes no seed": (wrong(__init__=lambda self, a, b, c: None), "it_is_built: Strange(observation_space, action_space, spec, seed=0)"),
    "breaks as it is built": (wrong(__init__=lambda self, *_, seed: 1 / 0), "it_is_built: "),
    "no pair": (wrong(act=lambda self, o, s, m=None: np.zeros(len(o))), "act() must return (actions, state), got ndarray"),
    "act breaks": (wrong(act=lambda self, o, s, m=None: s["x"]), "TypeError: 'NoneType' object is not subscriptable (test_agents"),
    "act not written": (type("Empty", (BaseAgent,), {}), "Empty must define act(observation, state, mask)"),
    "reset_state breaks": (wrong(reset_state=lambda self, s, d: s["x"]), "done_lanes_forget: TypeError: "),
    "save breaks": (wrong(save=lambda self, f: (f / "no").read_bytes(), load=nothing), "files_bring_it_back: FileNotFoundError: "),
}


@pytest.mark.parametrize(("cls", "said"), WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_with_a_class_is_a_finding(cls: type, said: str) -> None:
    found = [str(finding) for finding in conformance(cls, "fake-lob-v0")]
    assert any(said in finding for finding in found), found


def test_a_rule_of_three_methods_conforms() -> None:
    assert conformance(fakes.Rule, "fake-lob-v0") == []


def test_the_faultless_one_conforms() -> None:
    assert conformance(Wrong, "fake-lob-v0") == []


def test_every_builtin_name_imports() -> None:
    for name in registry.BUILT_IN:
        assert callable(registry.find(name).act)  # type: ignore[attr-defined]
