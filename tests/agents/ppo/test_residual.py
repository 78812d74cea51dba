"""Acting around a baseline: before it has learned, the agent is the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import emp_gym
from emp_gym.agents import registry
from emp_gym.agents.check import conformance
from emp_gym.agents.ppo import PPO
from emp_gym.agents.ppo.closed_forms import RULES, ClosedForm
from emp_gym.envs import CERTIFICATES
from emp_gym.evaluation import optimal
from emp_gym.types import ConfigError

SMALL: dict[str, Any] = {"num_envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 2, "layers": (8,), "threads": 1}
MARKET = {"volatility": 1.0, "intensity": 0.5, "decay": 0.8}
TRADE, MAKE, EXECUTE = "emp-lob-v0", "emp-lob-market-making-v0", "emp-lob-execution-v0"
IDS = {problem: env_id for env_id, problem in CERTIFICATES.items()}
CLOSED = [(rule, IDS[problem]) for rule, (problems, _) in RULES.items() for problem in problems]
assert emp_gym


def make(env_id: str, **fixed: Any) -> Any:
    def make_env(num_envs: int | None = None, **keywords: Any) -> Any:
        return gym.make_vec(env_id, num_envs=num_envs or 8, **{"autoreset_mode": "SameStep", **fixed, **keywords})

    return make_env


def built(cls: Any, env_id: str, seed: int = 0, fixed: dict[str, Any] | None = None, **config: Any) -> Any:
    env = make(env_id, **(fixed or {}))(1)
    return cls(env.single_observation_space, env.single_action_space, env.spec, seed=seed, **config)


def agent(residual: str, env_id: str, seed: int = 0, **config: Any) -> PPO:
    return built(PPO, env_id, seed, **{**SMALL, "residual": residual, **config})


def play(one: Any, env_id: str, other: Any, steps: int = 60) -> None:
    """`one` and `other` act alike in every decision of some lanes, restarts included."""
    env = make(env_id, split="train")(8)
    observation, info = env.reset(seed=4)
    states = [each.initial_state(8) for each in (one, other)]
    for _ in range(steps):
        mask = info.get("action_mask")
        answers = [each.act(observation, state, mask) for each, state in zip((one, other), states, strict=True)]
        assert np.array_equal(answers[0][0], answers[1][0])
        observation, _, terminated, truncated, info = env.step(answers[0][0])
        done = terminated | truncated
        states = [each.reset_state(state, done) for each, (_, state) in zip((one, other), answers, strict=True)]


@pytest.mark.parametrize(("rule", "env_id"), CLOSED)
def test_on_certificates_it_begins_as_the_closed_form(rule: str, env_id: str) -> None:
    play(agent(rule, env_id), env_id, built(ClosedForm, env_id, rule=rule), steps=30)


@pytest.mark.parametrize(
    ("name", "env_id", "options"),
    [
        ("avellaneda-stoikov", MAKE, MARKET), ("glft", MAKE, MARKET), ("symmetric", MAKE, {}), ("hold", MAKE, {}),
        ("glft", TRADE, MARKET), ("ofi-taker", TRADE, {}),
        ("twap", EXECUTE, {}), ("almgren-chriss", EXECUTE, {}), ("pov", EXECUTE, {"rate": 0.05}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("extractor", ["mlp", "gru"])
def test_on_order_books_it_begins_as_the_baseline(name: str, env_id: str, options: dict[str, Any], extractor: str) -> None:
    """Box and menus, with memory of the baseline (pov) and of the encoder (gru)."""
    try:
        baseline = built(registry.find(name), env_id, **options)
    except ConfigError:
        pytest.fail(f"{name} should act on {env_id}")
    if getattr(baseline, "missing", list)():
        pytest.skip(f"{name} has to be calibrated")
    play(agent(name, env_id, residual_options=options, extractor=extractor), env_id, baseline)


@pytest.mark.parametrize(
    ("env_id", "published"), [("emp-avellaneda-stoikov-v0", "avellaneda-stoikov"), ("emp-glft-v0", "glft-asymptotic")]
)
def test_the_closed_forms_are_those_of_the_problems(env_id: str, published: str) -> None:
    """What is read off observations is the problem's own formula at the exact state, up to what the box holds and float32."""
    env, problem = make(env_id)(1).unwrapped, optimal.problem(CERTIFICATES[env_id])
    rng = np.random.default_rng(0)
    bound, top = problem.max_inventory, problem.max_offset  # type: ignore[attr-defined]
    step, state = rng.integers(0, problem.decisions, 500), rng.integers(-bound, bound + 1, (500, 1)).astype(np.float64)
    action = built(ClosedForm, env_id, rule=CERTIFICATES[env_id]).act(env.observation_of(step, state), None)[0]
    assert np.allclose(env.decode(action), np.clip(problem.published()[published](step, state), 0.0, top), atol=1e-5)


def test_the_schedule_of_almgren_and_chriss_is_the_optimum_there() -> None:
    chriss = optimal.problem("almgren-chriss")
    assert chriss.evaluate(RULES["almgren-chriss"][1](chriss)) == pytest.approx(chriss.optimal().value, abs=1e-6)


def test_a_closed_form_reads_the_parameters_that_the_environment_was_made_with() -> None:
    plain = built(ClosedForm, "emp-glft-v0", rule="glft")
    other = built(ClosedForm, "emp-glft-v0", fixed={"risk_aversion": 0.05, "split": "test"}, rule="glft")
    observation = np.array([[0.5, 0.2, 0.1]], np.float32)
    assert other.problem.risk_aversion == 0.05
    assert not np.array_equal(plain.act(observation, None)[0], other.act(observation, None)[0])


def test_offsets_are_scaled_and_stay_in_the_box() -> None:
    one = agent("glft", "emp-glft-v0", residual_scale=0.5)
    assert one.residual is not None
    performed = one.residual.perform(np.array([[0.2, -0.9]], np.float32), np.array([[1.0, -4.0]], np.float32))
    assert np.allclose(performed, [[0.7, -1.0]])


def test_a_menu_is_drawn_towards_the_baseline_and_learns_around_it() -> None:
    one = agent("twap", EXECUTE, deterministic=False, residual_prior=2.0)
    env = make(EXECUTE)(4000)
    observation, info = env.reset(seed=0)
    mask = info["action_mask"]
    base = built(registry.find("twap"), EXECUTE).act(observation, None, mask)[0]
    share = (one.act(observation, one.initial_state(4000), mask)[0] == base).mean()
    others = mask.sum(axis=1).mean() - 1
    assert share == pytest.approx(np.exp(2) / (np.exp(2) + others), abs=0.03)
    before = {name: array.copy() for name, array in one.arrays().items()}
    one.learn(make(EXECUTE), 256)
    assert not np.array_equal(before["action_net.weight"], one.arrays()["action_net.weight"])


def test_what_is_learned_around_a_baseline_is_what_was_performed() -> None:
    """In rollouts, too, the environment gets base + scale * u for the u that is learned from."""
    got: list[np.ndarray] = []

    def make_env(num_envs: int | None = None, **keywords: Any) -> Any:
        env = make("emp-glft-v0")(num_envs, **keywords)
        step = env.step
        env.step = lambda actions: (got.append(np.array(actions)), step(actions))[1]
        return env

    one = agent("glft", "emp-glft-v0", residual_scale=0.3)
    one.learn(make_env, 128)
    buffer = one._trainer.rollout_buffer  # type: ignore[union-attr]
    baseline = built(ClosedForm, "emp-glft-v0", rule="glft")
    for t in range(16):
        base = baseline.act(buffer.observations[t], None)[0]
        assert np.allclose(got[t], np.clip(base + 0.3 * buffer.actions[t], -1, 1), atol=1e-6)


def test_a_baseline_that_has_to_measure_does_so_first_and_is_kept_with_the_weights(tmp_path: Path) -> None:
    few = {"steps": 8192, "lanes": 64}
    one = agent("glft", MAKE, residual_options=few)
    assert one.learns_first
    with pytest.raises(ConfigError, match="has not been calibrated"):
        one.act(np.zeros((1, *one.observation_space.shape), np.float32), one.initial_state(1))
    one.learn(make(MAKE, split="train"), 128)
    one.save(tmp_path)
    other = agent("glft", MAKE, residual_options=few)
    other.load(tmp_path)
    play(one, MAKE, other, steps=20)
    assert other.residual is not None and not other.residual.waits


@pytest.mark.parametrize(
    ("name", "env_id", "says"),
    [
        ("glft", "emp-cartea-jaimungal-v0", "no closed form of emp-cartea-jaimungal-v0: it has cartea-jaimungal"),
        ("random", TRADE, "draws at random"), ("oracle", TRADE, "reads what nobody may see"),
        ("glfd", TRADE, "did you mean glft"), ("twap", TRADE, "acts where actions post at the touch"),
        ("glft", "emp-ladder-memory-v0", "it has none"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_base_is_refused_with_a_sentence(name: str, env_id: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        agent(name, env_id)


def test_an_unknown_parameter_of_the_baseline_is_told() -> None:
    with pytest.raises(ConfigError, match="intensity"):
        agent("glft", MAKE, residual_options={"intensit": 1.0})


@pytest.mark.parametrize(
    ("name", "env_id", "extractor"),
    [("twap", "emp-almgren-chriss-v0", "mlp"), pytest.param("pov", EXECUTE, "gru", marks=pytest.mark.slow)],
)
def test_residual_ppo_conforms(name: str, env_id: str, extractor: str) -> None:
    options = {"rate": 0.05} if name == "pov" else {}
    config = {**SMALL, "num_envs": 128, "batch_size": 2048, "n_epochs": 1, "extractor": extractor}
    config |= {"residual": name, "residual_options": options}
    assert conformance("ppo", env_id, **config) == []
