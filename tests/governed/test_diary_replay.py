"""A replay is bit-identical, and one changed bit is found where it is."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from emp_gym.envs import ENVIRONMENTS
from emp_gym.envs.wrappers import RiskVectorWrapper
from emp_gym.envs.wrappers.diary import DiaryVectorWrapper
from emp_gym.governance.diary.diary import DiaryReader
from emp_gym.governed.diary_replay import replay
from emp_gym.risk.gates import CapQuantity
from emp_gym.types import ConfigError, DataError
from tests.governance.diaries import RISK, diary_log, drive, forged, scalar, vector

MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


def replayed(folder, run=None, **more):
    with DiaryReader(folder) as reader:
        return replay(reader, run, **more)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_every_environment_and_mode_replays_to_the_bit(name, durable, tmp_path):
    kept = {"durable": durable}
    with diary_log(tmp_path) as log:
        for mode in MODES:
            gates = [RISK | {"masks": True}]
            env = vector(log, name, lanes=5, autoreset_mode=mode, gates=gates, latency_ns=1_000_000, kept=kept)
            drive(env)
            env.close()
        one = scalar(log, name, kept=kept)
        drive(one, reset=None)
        one.close()
    with DiaryReader(tmp_path) as reader:
        found = [replay(reader, run.number) for run in reader.runs()]
        assert [replay(reader, found[0].run, threads=2)] == found[:1]
    assert [(each.difference, each.played_back, each.whole) for each in found] == [(None, (), True)] * 4
    assert [each.decisions for each in found] == [5 * (50 - 3), 5 * 50, 5 * 50, 50]


def test_resets_in_the_middle_with_seeds_options_and_some_lanes_replay(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, autoreset_mode="Disabled")
        env.action_space.seed(0)
        env.reset(seed=[5, 6, 7], options={"day": np.array([0, 1, 2]), "start": "10:15:00"})
        for step in range(30):
            env.step(env.action_space.sample())
            if step == 11:
                env.reset(options={"reset_mask": np.array([True, False, True])})
            if step == 20:
                env.reset(seed=np.int64(4).item(), options={"stagger": True})
        env.close()
    found = replayed(tmp_path)
    assert found.identical and found.decisions > 3 * 12 + 2 * 9, "the third episodes are cut short"


def test_gates_that_cannot_be_made_again_are_played_back_and_said(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, gates=[RISK, CapQuantity(30)])
        drive(env)
        env.close()
    found = replayed(tmp_path)
    assert found.identical and found.played_back == ("cap-quantity",)


def test_a_risk_wrapper_is_made_again_with_its_limits(tmp_path):
    with diary_log(tmp_path) as log:
        guarded = RiskVectorWrapper(gym.make_vec("emp-lob-v0", num_envs=3), RISK["limits"], penalty=1.0)
        env = DiaryVectorWrapper(guarded, log)
        drive(env, 80)
        env.close()
    found = replayed(tmp_path)
    assert found.identical and found.played_back == ()


def test_regimes_are_compared_where_they_are_given(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, kept={"regime": lambda tapes: tapes.regime})
        drive(env, 20)
        env.close()
    assert replayed(tmp_path).identical
    assert replayed(tmp_path, regime=lambda tapes: tapes.regime).identical
    other = replayed(tmp_path, regime=lambda tapes: np.full_like(tapes.regime, 8))
    assert other.difference.column == "regime" and other.difference.got == "8"


@pytest.fixture(scope="module")
def original(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("diary")
    with pytest.MonkeyPatch.context() as patch, diary_log(folder) as log:
        patch.chdir(root)
        env = vector(log, lanes=3, gates=[RISK], latency_ns=1_000_000)
        drive(env)
        env.close()
    return folder


def flip(table: str | None, name: str, change):
    """Changes one field of the middle entry of a table (None: of the decisions) of the second block."""

    def changed(blocks):
        block = blocks[1]
        entries = block.decisions if table is None else getattr(block, table)
        at = len(entries) // 2
        entries[name][at] = change(entries[name][at])
        place = at if table is None else entries["at"][at]
        changed.where = (block.decisions["step"][place], block.decisions["lane"][place])

    return changed


@pytest.mark.parametrize(
    ("table", "name", "change", "column"),
    [
        (None, "reward", lambda x: np.nextafter(x, 9e9), "reward"),
        (None, "observation", lambda x: x ^ np.uint64(1), "observation"),
        (None, "time_ns", lambda x: x + 1, "time_ns"),
        (None, "row", lambda x: x + 1, "row"),
        (None, "day", lambda x: x + 1, "day"),
        (None, "decision", lambda x: x + 1, "decision"),
        (None, "pnl2", lambda x: x + 1, "pnl2"),
        (None, "latch", lambda x: 2 - x, "latch"),
        (None, "flags", lambda x: x ^ 4, "flags"),
        ("orders", "price", lambda x: x + 100, "orders"),
        ("objections", "reason", lambda x: x ^ np.uint64(1 << 20), "objections"),
        ("sent", "quantity", lambda x: x + 1, "sent"),
        ("fills", "quantity", lambda x: x - 1, "fills"),
        ("fills", "maker", lambda x: not x, "fills"),
    ],
)  # fmt: skip
def test_one_changed_bit_is_found_where_it_is(table, name, change, column, original, tmp_path):
    changed = flip(table, name, change)
    forged(original, tmp_path / "forged", changed)
    found = replayed(tmp_path / "forged").difference
    assert (found.column, (found.step, found.lane)) == (column, changed.where)
    assert found.expected != found.got and found.column in str(found)


def test_a_changed_action_is_found_by_its_first_effect(original, tmp_path):
    def changed(blocks):
        block = blocks[1]
        at = int(np.flatnonzero((block.actions != 7) & (block.decisions["flags"] == 8))[3])
        block.actions[at] = 7
        changed.where = (block.decisions["step"][at], block.decisions["lane"][at])

    forged(original, tmp_path / "forged", changed)
    found = replayed(tmp_path / "forged").difference
    assert (found.step, found.lane) == changed.where and found.column == "orders"


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_decision_is_found(which, original, tmp_path):
    def changed(blocks):
        block = blocks[-1]
        gone = np.arange(len(block.decisions))[which]
        changed.where = block.decisions["step"][gone]
        for name, entries in block.tables():
            entries = entries[entries["at"] != gone]
            entries["at"] -= entries["at"] > gone
            setattr(block, name, entries)
        block.decisions, block.actions = np.delete(block.decisions, gone), np.delete(block.actions, gone)

    forged(original, tmp_path / "forged", changed)
    found = replayed(tmp_path / "forged").difference
    assert found.step == changed.where


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [("given", "", ConfigError, "say where they lie"), ("hash", "00" * 32, DataError, "give the same days")],
)
def test_what_cannot_be_made_again_is_said(name, value, error, text, tmp_path):
    with diary_log(tmp_path) as log:
        vector(log).close()
        about = next(log.entries()).value
        about["data"][name] = value
        log.append("x", "diary-run", payload=about)
    with pytest.raises(error, match=text):
        replayed(tmp_path)


def test_a_run_that_was_cut_off_replays_as_far_as_it_goes(tmp_path):
    with diary_log(tmp_path) as log:
        env = scalar(log, kept={"durable": True})
        env.reset(seed=0)
        for action in (7, 8, 1):
            env.step(action)
        env.unwrapped.lanes.market.advance = lambda orders: 1 / 0
        with pytest.raises(ZeroDivisionError):
            env.step(7)
    found = replayed(tmp_path)
    assert found.identical and found.decisions == 4 and not found.whole
