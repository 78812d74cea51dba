"""Kill switch and stage in an environment: by wrapper and by `gates=`, in every autoreset mode, scalar and vector alike."""

from __future__ import annotations

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import emp_gym  # noqa: F401
from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.wrappers import (
    KillSwitchVectorWrapper,
    KillSwitchWrapper,
    RiskVectorWrapper,
    StageVectorWrapper,
    StageWrapper,
)
from emp_gym.governance.kill_switch.gate import KillGate
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.types import ConfigError, RequestType, TruncationReason

QUOTE, BUY = 1, 7
SAME, NEXT, OFF = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def vector(name: str = "emp-lob-v0", lanes: int = 3, **arguments):
    return gym.make_vec(name, num_envs=lanes, **arguments)


def told(step) -> bytes:
    observation, reward, end, cut, info = step
    parts = [
        observation,
        reward,
        end,
        cut,
        info.get("action_mask", 0),
        info["truncated_by"],
        info["cost"],
        info["reason"],
    ]
    return b"".join(np.asarray(part).tobytes() for part in parts)


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_an_open_switch_and_a_wide_stage_change_no_byte(name, tmp_path):
    traces = []
    for gates in (None, [{"gate": "stage", "stage": "experiment"}, {"gate": "kill-switch", "folder": str(tmp_path)}]):
        env = vector(name, gates=gates, episode="20 decisions")
        env.reset(seed=3)
        env.action_space.seed(3)
        traces.append([env.step(env.action_space.sample())[0].tobytes() for _ in range(50)])
    assert traces[0] == traces[1]


@pytest.mark.parametrize("latency_ns", [0, 50_000_000])
@pytest.mark.parametrize("flatten", [False, True])
def test_a_kill_ends_every_lane_in_one_step_and_sends_cancels_only(tmp_path, latency_ns, flatten):
    env = KillSwitchVectorWrapper(vector(latency_ns=latency_ns), tmp_path, flatten=flatten)
    env.reset(seed=0)
    env.step(np.full(3, BUY)), env.step(np.full(3, QUOTE))
    held, open_ = env.unwrapped.view.position.copy(), (env.unwrapped.view.order_id > 0).sum(axis=1)
    assert open_.all()
    env.gate.switch.trip("alice", "why")
    _, _, end, cut, info = env.step(np.full(3, BUY))
    assert cut.all() and not end.any() and (info["truncated_by"] == TruncationReason.CALL).all()
    kinds = env.unwrapped.lanes.sent.kind
    assert ((kinds == RequestType.CANCEL).sum(axis=1) == open_).all()
    assert ((kinds == RequestType.MARKET).sum(axis=1) == (flatten & (held[:, 0] != 0))).all()
    assert not np.isin(kinds, (RequestType.LIMIT, RequestType.REPLACE)).any()
    assert not (env.unwrapped.view.order_id > 0).any() and not env.unwrapped.view.position.any()
    assert (info["reason"] != 0).all() and (info["cost"] >= open_).all()


@pytest.mark.parametrize("mode", [SAME, NEXT, OFF])
def test_while_it_is_closed_every_episode_is_one_step_long_and_offers_keep_only(mode, tmp_path):
    env = vector(gates=[{"gate": "kill-switch", "folder": str(tmp_path)}], autoreset_mode=mode)
    _, info = env.reset(seed=0)
    assert info["action_mask"].any(axis=0)[1:].any() and (info["truncated_by"] == 0).all()
    env.step(np.full(3, QUOTE))
    KillSwitch.request(tmp_path, "carol", "by hand", 1)
    _, _, _, cut, info = env.step(np.full(3, QUOTE))
    assert cut.all()
    ended = info["final_info"] if mode is SAME else info
    assert (ended["truncated_by"] == TruncationReason.COMMAND).all() and (ended["summary"]["length"] == 2).all()
    for _ in range(2):
        if mode is OFF:
            _, info = env.reset(options={"reset_mask": np.ones(3, bool)})
        elif mode is NEXT:
            _, _, _, cut, info = env.step(np.full(3, QUOTE))
            assert not cut.any(), "this step only resets"
        assert info["action_mask"][:, 0].all() and not info["action_mask"][:, 1:].any()
        _, _, _, cut, info = env.step(np.full(3, BUY))
        assert cut.all() and not env.unwrapped.lanes.sent.kind.any()
        ended = info["final_info"] if mode is SAME else info
        assert (ended["summary"]["length"] == 1).all() and (ended["summary"]["orders"] == 0).all()


def test_scalar_and_vector_agree_bit_for_bit(tmp_path):
    gates = [{"gate": "kill-switch", "folder": str(tmp_path), "scope": "lane", "drawdown": 0.5, "flatten": True}]
    one, many = gym.make("emp-lob-v0", gates=gates), vector(gates=gates, autoreset_mode=OFF, lanes=2)
    first, _ = one.reset(seed=4)
    second, _ = many.reset(seed=4)
    assert (first == second[0]).all()
    stopped = 0
    for action in (BUY, QUOTE, BUY, 8, BUY, 2) * 5:
        alone, together = one.step(action), many.step(np.full(2, action))
        assert (alone[0] == together[0][0]).all() and alone[1] == together[1][0] and alone[3] == together[3][0]
        assert all(alone[4][key] == together[4][key][0] for key in ("truncated_by", "cost", "reason"))
        if alone[3]:
            stopped += alone[4]["truncated_by"] == TruncationReason.DRAWDOWN
            first, _ = one.reset()
            many.reset(options={"reset_mask": np.ones(2, bool)})
    assert stopped, "the rule was met"


@pytest.mark.parametrize("mode", [SAME, NEXT])
def test_a_wrapper_does_what_the_argument_does(mode, tmp_path):
    strict = "configs/limits/strict.yaml"
    options = {"scope": "lane", "drawdown": 2, "messages": {"count": 10, "window_ms": 1000}}
    by_argument = vector(autoreset_mode=mode, episode="30 decisions", gates=json.loads(json.dumps([
        {"gate": "kill-switch", "folder": str(tmp_path), **options},
        {"gate": "stage", "stage": "pilot", "rules": {"pilot": {"max_quantity": 60}}},
        {"gate": "risk", "limits": strict, "mode": "project"},
    ])))  # fmt: skip
    inner = KillSwitchVectorWrapper(vector(autoreset_mode=mode, episode="30 decisions"), tmp_path, **options)
    inner = StageVectorWrapper(inner, "pilot", rules={"pilot": {"max_quantity": 60}})
    by_hand = RiskVectorWrapper(inner, strict, masks=False)
    names = [type(gate).__name__ for gate in by_hand.unwrapped.lanes.gates]
    assert names == ["StageGate", "RiskGate", "KillGate"], "the kill switch is last, whoever comes when"
    by_argument.reset(seed=1), by_hand.reset(seed=1)
    rng, stops = np.random.default_rng(0), 0
    for _ in range(80):
        action = rng.integers(0, 11, 3)
        a, b = by_argument.step(action), by_hand.step(action)
        assert told(a) == told(b)
        stops += (a[4].get("final_info", a[4])["truncated_by"] > 0).sum()
    assert stops


def test_a_drawdown_in_one_lane_closes_the_switch_for_all_and_survives(tmp_path):
    env = vector(gates=[{"gate": "kill-switch", "folder": str(tmp_path), "drawdown": 0.01}])
    env.reset(seed=0)
    _, _, _, cut, info = env.step(np.array([BUY, 0, 0]))
    assert cut.all() and (info["truncated_by"] == TruncationReason.DRAWDOWN).all(), "in the step in which the spread was paid"
    KillSwitch.at(tmp_path).finish()
    assert KillSwitch.seen(tmp_path).cause is TruncationReason.DRAWDOWN


def test_what_a_closing_trade_loses_is_seen_before_the_episode_is_forgotten(tmp_path):
    """The last decision buys nothing and loses nothing; selling the position at the end does."""
    env = vector(lanes=1, gates=[{"gate": "kill-switch", "folder": str(tmp_path), "drawdown": 1000}], taker_fee_bps=30,
                 episode="2 decisions", autoreset_mode="SameStep", order_quantity=400)  # fmt: skip
    env.reset(seed=0)
    rules = env.unwrapped.lanes.gates[0].rules
    env.step(np.array([BUY]))
    paid = -int(env.unwrapped.view.equity2[0]) / 2e8
    object.__setattr__(rules, "drawdown", 0)  # (checked above) replaced by a limit between one fee and two
    env.unwrapped.lanes.gates[0]._monitors.limits["fall2"] = int(1.5 * paid * 2e8)
    _, _, _, cut, info = env.step(np.array([0]))
    assert cut.all() and info["final_info"]["truncated_by"] == 0, "the episode ended by its time"
    assert KillSwitch.at(tmp_path).kill.cause is TruncationReason.DRAWDOWN
    assert not info["action_mask"][:, 1:].any(), "and the next one offers nothing"


def test_copies_and_pickles_of_an_environment_share_the_switch(tmp_path):
    gates = [{"gate": "stage", "stage": "paper"}, {"gate": "kill-switch", "folder": str(tmp_path), "drawdown": 1e6}]
    env = gym.make("emp-lob-v0", gates=gates)
    env.reset(seed=0)
    env.step(QUOTE)
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env.unwrapped))]
    steps = [told(each.step(BUY)) for each in (env, *twins)]
    assert steps[0] == steps[1] == steps[2]
    KillSwitch.at(tmp_path).trip("alice", "why")
    assert all(each.step(BUY)[3] for each in (env, *twins))


def test_a_stage_in_the_environment_cuts_refuses_and_stops(tmp_path):
    env = StageWrapper(gym.make("emp-lob-v0"), "pilot", rules={"pilot": {"max_quantity": 30}})
    env.reset(seed=0)
    env.step(BUY)
    assert env.unwrapped.view.position[0, 0] == 30
    with pytest.raises(ConfigError, match="may trade"):
        StageWrapper(gym.make("emp-lob-v0"), "paper", rules={"paper": {"venues": ["paper"]}})
    word = ["live"]
    env = StageVectorWrapper(vector(lanes=2, autoreset_mode="SameStep", episode="3 decisions"), lambda: word[0],
                             rules={"paper": {"venues": ["paper"]}})  # fmt: skip
    env.reset(seed=0)
    word[0] = "paper"
    for step in range(3):
        _, _, _, cut, info = env.step(np.full(2, BUY))
        assert (info["truncated_by"] == 0).all() and cut.all() == (step == 2)
    assert not info["action_mask"][:, 1:].any()
    _, _, _, cut, info = env.step(np.full(2, BUY))
    assert cut.all() and (info["final_info"]["truncated_by"] == TruncationReason.STAGE).all() and not env.unwrapped.lanes.sent.kind.any()


def test_wrong_uses_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="environment of EMP Gym"):
        KillSwitchWrapper(gym.make("CartPole-v1"), tmp_path)
    with pytest.raises(ConfigError, match="two kill gates"):
        KillSwitchWrapper(gym.make("emp-lob-v0", gates=[KillGate(tmp_path)]), tmp_path)
