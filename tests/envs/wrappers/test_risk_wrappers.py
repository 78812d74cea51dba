"""The risk wrappers: what they tell, what they leave alone, and every way in which an episode begins again."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import emp_gym  # noqa: F401
from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.wrappers import RiskVectorWrapper, RiskWrapper, SafetyAdapter, SafetyVectorAdapter
from emp_gym.risk.gate import RiskGate
from emp_gym.risk.reasons import Check, Latch
from emp_gym.types import ConfigError

SLACK, STRICT = "configs/limits/slack.yaml", "configs/limits/strict.yaml"
TIGHT = {"instrument": {"max_position": 150}, "order": {"self_trade": "allow"}}
BUY = 7


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


def vector(name: str = "emp-lob-v0", lanes: int = 3, **arguments):
    return gym.make_vec(name, num_envs=lanes, episode="20 decisions", **arguments)


def trace(env, seed: int, steps: int = 60) -> list[bytes]:
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    told = [observation.tobytes()]
    for _ in range(steps):
        observation, reward, end, cut, info = env.step(env.action_space.sample())
        told.append(observation.tobytes() + reward.tobytes() + end.tobytes() + cut.tobytes())
        told.append(info["action_mask"].tobytes() if "action_mask" in info else b"")
    return told


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("latency_ns", [0, 5_000_000])
def test_slack_limits_change_no_byte(name, latency_ns):
    free, guarded = vector(name, latency_ns=latency_ns), RiskVectorWrapper(vector(name, latency_ns=latency_ns), SLACK)
    assert trace(free, 3) == trace(guarded, 3)
    assert not any(guarded.gate.counters().values())


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_limits_hold_in_every_autoreset_mode(mode):
    env = RiskVectorWrapper(vector(autoreset_mode=mode), TIGHT, masks=False)
    env.reset(seed=0)
    ended = np.zeros(3, bool)
    for step in range(70):
        if mode is AutoresetMode.DISABLED and ended.all():
            _, info = env.reset(options={"reset_mask": ended})
            assert (info["risk_bits"] == 0).all()
        _, _, end, cut, info = env.step(np.full(3, BUY))
        ended = end | cut
        assert (env.unwrapped.view.position <= 150).all()
        assert (info["risk_state"] == Latch.NORMAL).all()
        if step == 1:
            assert (env.unwrapped.view.position == 150).all() and (info["cost"] == 1).all()
            assert (info["risk_bits"] == 1 << Check.POSITION).all() and info["_risk_bits"].all()


def test_the_step_that_resets_takes_no_token_and_the_next_episode_starts_afresh():
    limits = {"window": {"submit": {"count": 100, "window_ms": 86_400_000}}, "order": {"self_trade": "allow"}}
    env = RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=2, episode="5 decisions"), limits)
    env.reset(seed=0)
    for _ in range(5):
        _, _, _, cut, _ = env.step(np.full(2, BUY))
    assert cut.all() and (env.gate.state.lane["sent"] == 5).all()
    env.step(np.full(2, BUY))  # resets; the action is ignored
    lane = env.gate.state.lane
    assert (lane["sent"] == 0).all() and (lane["messages"] == 0).all() and (lane["submitted_ns"] == 0).all()
    env.step(np.full(2, BUY))
    assert (lane["sent"] == 1).all()


def test_same_step_tells_the_last_state_in_final_info():
    limits = {"portfolio": {"drawdown": {"soft": 0.01}}, "order": {"self_trade": "allow"}}
    env = RiskVectorWrapper(vector(autoreset_mode="SameStep"), limits)
    env.reset(seed=0)
    for _ in range(20):
        _, _, _, cut, info = env.step(np.full(3, BUY))
    assert cut.all()
    assert (info["final_info"]["risk_state"] == Latch.REDUCING).all() and (info["risk_state"] == Latch.NORMAL).all()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_what_the_very_last_step_lost_is_told_in_every_autoreset_mode(mode):
    limits = {"portfolio": {"drawdown": {"soft": 0.01}}, "order": {"self_trade": "allow"}}
    env = RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=3, episode="1 decisions", autoreset_mode=mode), limits)
    env.reset(seed=0)
    _, _, _, cut, info = env.step(np.array([BUY, 0, BUY]))
    last = info["final_info"] if mode is AutoresetMode.SAME_STEP else info
    assert cut.all() and last["risk_state"].tolist() == [Latch.REDUCING, Latch.NORMAL, Latch.REDUCING]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_gate_without_a_wrapper_sees_the_very_last_step_too(mode):
    gate = RiskGate({"portfolio": {"drawdown": {"soft": 0.01}}, "order": {"self_trade": "allow"}})
    env = gym.make_vec("emp-lob-v0", num_envs=3, episode="1 decisions", autoreset_mode=mode, gates=[gate])
    env.reset(seed=0)
    _, _, _, cut, _ = env.step(np.array([BUY, 0, BUY]))
    if mode is AutoresetMode.NEXT_STEP:
        env.step(np.zeros(3, int))
    elif mode is AutoresetMode.DISABLED:
        env.reset(options={"reset_mask": cut})
    assert gate.last_latch.tolist() == [Latch.REDUCING, Latch.NORMAL, Latch.REDUCING]
    assert (gate.last_overshoot > 0).tolist() == [True, False, True]
    env.step(np.zeros(3, int))
    assert (gate.state.lane["peak2"] == gate.state.lane["start2"]).all() and not gate.latch.any(), "and began afresh"


def test_a_drawdown_is_told_in_the_step_in_which_it_happens():
    env = RiskWrapper(
        gym.make("emp-lob-v0"), {"portfolio": {"drawdown": {"soft": 0.01}}, "order": {"self_trade": "allow"}}
    )
    env.reset(seed=0)
    _, _, _, _, info = env.step(BUY)
    assert env.unwrapped.view.equity2[0] < -2_000_000, "the spread was paid"
    assert info["risk_state"] == Latch.REDUCING and info["risk_bits"] == 0
    assert env.gate.overshoot[0] > 0
    position = int(env.unwrapped.view.position[0, 0])
    _, _, _, _, info = env.step(BUY)
    assert int(env.unwrapped.view.position[0, 0]) <= position


def test_the_mask_leaves_only_what_passes_untouched():
    env = RiskVectorWrapper(vector(), {"instrument": {"max_position": 199}, "order": {"self_trade": "cancel-new"}})
    _, info = env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = info["action_mask"]
        assert mask[:, 0].all() and (mask == env.unwrapped.lanes.mask).all()
        action = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        _, _, _, _, info = env.step(action)
        assert (info["cost"] == 0).all(), "what the mask offers is not touched"
    assert not any(env.gate.counters().values())


def test_the_mask_leaves_the_verdicts_of_every_lane_as_they_are():
    env = vector(gates=[{"gate": "risk", "limits": TIGHT | {"order": {"max_quantity": 80}}, "masks": True}])
    env.unwrapped.lanes.gates[0].masks = False  # nothing is masked at the first decision, all is from the next one on
    env.reset(seed=[5, 5, 5], options={"day": 0, "start": 500})
    env.unwrapped.lanes.gates[0].masks = True
    _, _, _, _, info = env.step(np.full(3, BUY))
    for told in (info["cost"], info["reason"]):
        assert told[0] and (told == told[0]).all()
    for verdicts in env.unwrapped.last_verdicts:
        assert (verdicts.reason == verdicts.reason[0]).all()


def test_a_gate_from_gates_narrows_the_mask_too():
    gate = {"gate": "risk", "limits": {"instrument": {"max_position": 50}}, "masks": True}
    env = gym.make("emp-lob-v0", gates=[gate])
    _, info = env.reset(seed=0)
    assert info["action_mask"][[0, 9]].all() and not info["action_mask"][[1, 3, 4, BUY, 8]].any()


def test_a_penalty_is_taken_for_each_order_that_is_touched():
    free = RiskWrapper(gym.make("emp-lob-v0"), TIGHT, masks=False)
    fined = RiskWrapper(gym.make("emp-lob-v0"), TIGHT, masks=False, penalty=2.5)
    for env in (free, fined):
        env.reset(seed=0)
    for step in range(3):
        (_, plain, *_, info), (_, reward, *_) = free.step(BUY), fined.step(BUY)
        assert reward == pytest.approx(plain - 2.5 * info["cost"]) and info["cost"] == (step > 0)


def test_safety_adapters_give_six_values():
    env = SafetyAdapter(RiskWrapper(gym.make("emp-lob-v0"), TIGHT, masks=False))
    env.reset(seed=0)
    costs = [env.step(BUY)[2] for _ in range(3)]
    assert costs == [0, 1, 1]
    many = SafetyVectorAdapter(RiskVectorWrapper(vector(), TIGHT, masks=False))
    many.reset(seed=0)
    _, _, cost, end, cut, _ = many.step(np.full(3, BUY))
    assert cost.shape == end.shape == cut.shape == (3,)


def test_scalar_and_vector_agree():
    one, many = (
        RiskWrapper(gym.make("emp-lob-v0"), STRICT),
        RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=2), STRICT),
    )
    one.reset(seed=4), many.reset(seed=4)
    for action in (1, 7, 8, 1, 7, 10, 8, 8, 2):
        a, r, _, _, info = one.step(action)
        b, s, _, _, infos = many.step(np.full(2, action))
        assert (a == b[0]).all() and r == s[0]
        assert all(info[name] == infos[name][0] for name in ("risk_state", "risk_bits", "cost"))


def test_gates_are_copied_and_pickled_with_their_state():
    env = vector(gates=[{"gate": "risk", "limits": STRICT}])
    env.reset(seed=0)
    env.step(np.full(3, BUY))
    twin = copy.deepcopy(env.unwrapped.lanes.gates[0])
    again = pickle.loads(pickle.dumps(twin))
    assert (again.state.lane == twin.state.lane).all() and again.limits == twin.limits
    env.step(np.full(3, BUY))
    assert (twin.state.lane["messages"] < env.unwrapped.lanes.gates[0].state.lane["messages"]).all()


def test_wrong_uses_are_refused():
    with pytest.raises(ConfigError, match="environment of EMP Gym"):
        RiskWrapper(gym.make("CartPole-v1"), SLACK)
    with pytest.raises(ConfigError, match="penalty"):
        RiskWrapper(gym.make("emp-lob-v0"), SLACK, penalty=-1)
    with pytest.raises(ConfigError, match="mode must be"):
        RiskGate(SLACK, mode="maybe")
    with pytest.raises(ConfigError, match="needs limits"):
        gym.make("emp-lob-v0", gates=["risk"])
    gate = RiskGate(SLACK)
    vector(lanes=2, gates=[gate]).reset()
    first, second = vector(lanes=2, gates=[gate]), vector(lanes=4, gates=[gate])
    first.reset()
    first.step(np.zeros(2, int))
    with pytest.raises(ConfigError, match="a gate of its own"):
        second.reset()
