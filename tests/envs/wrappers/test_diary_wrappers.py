"""The diary's wrappers: they change nothing, miss nothing, and let nothing be sent that is not written down."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.wrappers import RiskVectorWrapper
from emp_gym.envs.wrappers.diary import DiaryVectorWrapper, DiaryWrapper
from emp_gym.governance.diary.blocks import MASKED, SETTLED, TERMINATED, TRUNCATED, hash_rows
from emp_gym.governance.diary.rows import DECIDED, OUTCOME
from emp_gym.governance.errors import LogError
from emp_gym.risk.gates import CapQuantity
from emp_gym.types import ConfigError
from tests.governance.diaries import RISK, blocks, diary_log, scalar, vector

MODES = list(AutoresetMode)
BUY = 7


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


def trace(env, seed: int = 5, steps: int = 30) -> list[bytes]:
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    told = [observation.tobytes()]
    for _ in range(steps):
        step = env.step(env.action_space.sample())
        told.append(b"".join(array.tobytes() for array in step[:4]) + step[4].get("action_mask", np.zeros(0)).tobytes())
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and (step[2] | step[3]).any():
            told.append(env.reset(options={"reset_mask": step[2] | step[3]})[0].tobytes())
    return told


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("durable", [False, True])
def test_a_diary_changes_no_byte(mode, durable, tmp_path):
    for name in ENVIRONMENTS:
        plain = gym.make_vec(name, num_envs=3, episode="12 decisions", autoreset_mode=mode, gates=[RISK])
        folder = tmp_path / name
        folder.mkdir()
        with diary_log(folder) as log:
            kept = vector(log, name, autoreset_mode=mode, gates=[RISK], kept={"durable": durable})
            assert trace(plain) == trace(kept)
            kept.close()


def orders_of(block, at: int, table: str = "orders") -> list[dict]:
    names = ("kind", "price", "quantity", "id", "target", "instrument", "side")
    return [{name: entry[name].item() for name in names} for entry in block.of(table, at)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_a_twin_that_is_watched_by_hand_saw_the_same(name, mode, tmp_path):
    """The slow judge: an equal environment without a diary, whose published state is read around every step."""
    lanes, cap = 3, {"gate": "cap-quantity", "largest": 60}
    arguments = {"autoreset_mode": mode, "latency_ns": 2_000_000, "gates": [cap], "levels": 3}
    twin = gym.make_vec(name, num_envs=lanes, episode="12 decisions", info="full", **arguments)
    twin.action_space.seed(9)
    core, expected = twin.unwrapped.lanes, []
    observation, _ = twin.reset(seed=9)
    ended = np.zeros(lanes, bool)
    with diary_log(tmp_path) as log:
        env = vector(log, name, lanes=lanes, **arguments)
        env.reset(seed=9)
        for step in range(40):
            action = twin.action_space.sample()
            hashes, state, view = hash_rows(observation), core.market.state.copy(), twin.unwrapped.view
            times, decision, mask = view.time_ns.copy(), view.decision.copy(), core.mask.copy()
            observation, reward, end, cut, info = twin.step(action)
            env.step(action)
            for lane in np.flatnonzero(~ended):
                flags = SETTLED | TERMINATED * end[lane] | TRUNCATED * cut[lane]
                if core.task.menu and not mask[lane, action[lane]]:
                    flags |= MASKED
                expected.append(
                    {
                        "step": step, "lane": lane, "time_ns": times[lane], "decision": decision[lane],
                        "observation": hashes[lane], "row": state["row"][lane], "day": state["day"][lane],
                        "flags": flags, "reward": reward[lane], "orders": core.orders.asked(lane),
                        "sent": core.sent.asked(lane), "id": info["fill_id"][lane].tolist(),
                        "fill_ns": info["fill_time_ns"][lane].tolist(), "fee": info["fill_fee"][lane].tolist(),
                    }
                )  # fmt: skip
            if mode is AutoresetMode.NEXT_STEP:
                ended = end | cut
            elif mode is AutoresetMode.DISABLED:
                ended |= end | cut
                if ended.all():
                    observation, _ = twin.reset(options={"reset_mask": ended})
                    env.reset(options={"reset_mask": ended})
                    ended[:] = False
        env.close()
    found = [(block, at) for block in blocks(tmp_path) for at in range(len(block.decisions))]
    assert len(found) == len(expected)
    for (block, at), wanted in zip(found, expected, strict=True):
        row, fills = block.decisions[at], block.of("fills", at)
        assert {name: row[name] for name in wanted if name in row.dtype.names} == {
            name: value for name, value in wanted.items() if name in row.dtype.names
        }
        assert orders_of(block, at) == wanted["orders"]
        changed = {entry["slot"]: entry for entry in block.of("sent", at)}
        sent = [dict(order, quantity=min(60, order["quantity"])) if slot in changed else order
                for slot, order in zip(block.of("orders", at)["slot"], wanted["orders"], strict=True)]  # fmt: skip
        assert sent == wanted["sent"]
        assert (fills["id"].tolist(), fills["time_ns"].tolist(), fills["fee"].tolist()) == (
            wanted["id"], wanted["fill_ns"], wanted["fee"],
        )  # fmt: skip
    assert {"orders", "sent", "objections", "fills"} == {
        name for block, _ in found for name, entries in block.tables() if len(entries)
    }


@pytest.mark.parametrize("mode", MODES)
def test_the_gains_of_an_episode_sum_up_to_its_pnl(mode, tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, autoreset_mode=mode, kept={"rows": 10_000})
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(12):
            _, _, _, cut, info = env.step(env.action_space.sample())
        assert cut.all()
        env.close()
    (block,) = blocks(tmp_path)
    summary = info.get("final_info", info)["summary"]
    for lane in range(2):
        own = block.decisions["lane"] == lane
        assert block.decisions["pnl2"][own].sum() / 2e8 == pytest.approx(summary["pnl"][lane], abs=1e-9)
        assert block.decisions["reward"][own].sum() == pytest.approx(summary["return"][lane])
        assert block.fills["quantity"][own[block.fills["at"]]].sum() == summary["filled"][lane] > 0


def test_the_step_that_resets_writes_no_row(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, episode="3 decisions", autoreset_mode="NextStep")
        env.reset(seed=0)
        for _ in range(8):
            env.step(np.full(2, BUY))
        env.close()
    (block,) = blocks(tmp_path)
    assert block.steps == 8 and block.decisions["step"].tolist() == [0, 0, 1, 1, 2, 2, 4, 4, 5, 5, 6, 6]
    assert block.decisions["decision"].tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_durable_decisions_are_on_disk_before_the_market_has_the_orders(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, kept={"durable": True})
        env.reset(seed=0)
        market, sizes = env.unwrapped.lanes.market, []
        advance = market.advance
        market.advance = lambda orders: (sizes.append([e.kind for e in log.entries(log.size - 2)]), advance(orders))
        env.step(np.full(2, BUY))
        assert sizes == [[DECIDED, DECIDED]]
        assert [entry.kind for entry in log.entries(log.size - 2)] == [OUTCOME, OUTCOME]


def test_a_market_that_crashes_loses_no_decision(tmp_path):
    with diary_log(tmp_path) as log:
        env = scalar(log, kept={"durable": True})
        env.reset(seed=0)
        env.step(BUY)

        def crash(orders):
            raise OSError("the line is dead")

        env.unwrapped.lanes.market.advance = crash
        with pytest.raises(OSError, match="dead"):
            env.step(BUY)
    (block,) = blocks(tmp_path)
    assert (block.decisions["flags"] & SETTLED).tolist() == [SETTLED, 0]
    assert [order["quantity"] for order in orders_of(block, 1)] == [100], "what may have been sent is known"


@pytest.mark.parametrize("durable", [False, True])
def test_what_cannot_be_written_is_not_sent(durable, tmp_path, monkeypatch):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=1, kept={"durable": durable, "rows": 1})
        env.reset(seed=0)
        env.step(np.full(1, BUY))
        before = env.unwrapped.view.time_ns.copy()

        def full(*_, **__):
            raise LogError("disk full")

        monkeypatch.setattr(log, "append", full)
        monkeypatch.setattr(log, "append_many", full)
        with pytest.raises(LogError, match="disk full"):
            env.step(np.full(1, BUY))
        assert (env.unwrapped.view.time_ns == before).all()


def test_the_latch_and_the_regime_of_a_decision_are_noted(tmp_path):
    limits = {"portfolio": {"drawdown": {"soft": 0.01}}, "order": {"self_trade": "allow"}}
    with diary_log(tmp_path) as log:
        inner = RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=2, latency_ns=0), limits)
        env = DiaryVectorWrapper(inner, log, regime=lambda tapes: tapes.regime)
        env.reset(seed=0)
        _, planted = env.unwrapped.truth()
        planted = planted.copy()
        for _ in range(3):
            env.step(np.full(2, BUY))
        env.close()
    (block,) = blocks(tmp_path)
    assert block.decisions["latch"].tolist() == [0, 0, 1, 1, 1, 1], "the spread was paid in the first step"
    assert block.decisions["regime"][:2].tolist() == planted.tolist()


def test_gates_with_masks_do_not_disturb_what_is_noted(tmp_path):
    """A risk gate judges candidates for the mask after the step, on the desk on which it judged the orders."""
    limits = {"instrument": {"max_position": 150}, "order": {"self_trade": "allow"}}
    with diary_log(tmp_path) as log:
        inner = RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=2), limits, masks=True)
        env = DiaryVectorWrapper(inner, log)
        env.reset(seed=0)
        env.step(np.full(2, BUY))
        env.unwrapped.lanes.mask[:] = True  # an agent that does not heed the mask
        env.step(np.full(2, BUY))
        env.close()
    (block,) = blocks(tmp_path)
    assert [(e["at"], e["before"], e["after"]) for e in block.objections] == [(2, 100, 50), (3, 100, 50)]
    assert [e["quantity"] for e in block.sent] == [50, 50]


def test_a_run_without_a_seed_gets_one_that_is_written_down(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2)
        observation, _ = env.reset()
        env.close()
        seed = next(log.entries(kind="diary-reset")).value["seed"]
    again, _ = gym.make_vec("emp-lob-v0", num_envs=2, episode="12 decisions").reset(seed=seed)
    assert (observation == again).all()


def test_closing_leaves_the_environment_as_it_was(tmp_path):
    with diary_log(tmp_path) as log:
        inner = gym.make_vec("emp-lob-v0", num_envs=2)
        before = inner.unwrapped.lanes.gates, set(vars(inner.unwrapped.lanes))
        env = DiaryVectorWrapper(inner, log)
        assert inner.unwrapped.lanes.watch.observers == (env.diary,)
        env._kept.close()
        assert (inner.unwrapped.lanes.gates, set(vars(inner.unwrapped.lanes))) == before
        assert inner.unwrapped.lanes.watch.observers == ()
        inner.reset(seed=0)
        inner.step(np.zeros(2, int))
        copy.deepcopy(inner.unwrapped.lanes)


def test_wrong_uses_are_refused(tmp_path):
    with diary_log(tmp_path) as log:
        with pytest.raises(ConfigError, match="environment of EMP Gym"):
            DiaryWrapper(gym.make("CartPole-v1"), log)
        with pytest.raises(ConfigError, match="one label for each"):
            vector(log, kept={"regime": np.zeros(3, np.int8)})
        inner = gym.make_vec("emp-lob-v0", num_envs=1)
        inner.reset(seed=0)
        with pytest.raises(ConfigError, match="reset its wrapper"):
            DiaryVectorWrapper(inner, log).step(np.zeros(1, int))
        env = vector(log)
        env.reset(seed=0)
        with pytest.raises(ConfigError, match="cannot be copied"):
            copy.deepcopy(env.unwrapped.lanes)
        with pytest.raises(ConfigError, match="cannot be pickled"):
            pickle.dumps(env.unwrapped.lanes)
        env.unwrapped.install(CapQuantity(5))  # which the run's entry does not name
        before = env.unwrapped.view.time_ns.copy()
        with pytest.raises(ConfigError, match="described with 0 gates, got 1"):
            env.step(np.zeros(env.num_envs, int))
        assert (env.unwrapped.view.time_ns == before).all()
