"""Runs in a log: what they tell of themselves, policies and resets in their place, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.envs.tasks import Task
from emp_gym.governance.diary.blocks import SETTLED, DiaryDamaged
from emp_gym.governance.diary.diary import Diary, DiaryReader
from emp_gym.governance.diary.words import Words
from emp_gym.risk.gates import Gate
from emp_gym.types import ConfigError, RequestType, Verdicts
from tests.governance.diaries import RISK, WEIGHTS, blocks, diary_log, drive, same, scalar, vector
from tests.governance.logs import findings


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch, root):
    monkeypatch.chdir(root)


def test_runs_follow_one_another_and_each_tells_what_it_was(tmp_path):
    with diary_log(tmp_path) as log:
        first = vector(log, gates=[RISK], kept={"policy": ("ppo", WEIGHTS)})
        drive(first, 10)
        first.diary.policy("ppo", "cd" * 32)
        drive(first, 10, seed=4)
        first.close()
        second = scalar(log, "emp-lob-market-making-v0")
        drive(second, 5)
    with DiaryReader(tmp_path) as reader:
        one, two = reader.runs()
        assert one.about["env"] == "emp-lob-v0" and one.lanes == 3 and one.end == {"steps": 20, "decisions": 60}
        assert one.policy_at(0) == ("ppo", WEIGHTS) and one.policy_at(9) == ("ppo", WEIGHTS)
        assert one.policy_at(10) == ("ppo", "cd" * 32)
        assert [(step, seed) for step, seed, _ in one.resets] == [(0, 3), (10, 4)]
        assert one.about["gates"][0]["name"] == "risk" and "position" in one.about["gates"][0]["reasons"]
        assert one.about["data"]["hash"] == first.unwrapped.tape_set.hash
        assert two.about["face"] == "scalar" and two.end is None, "it was not closed"
        assert (one.number, two.number) == (0, 1) and one.entry == 0 < two.entry
        assert reader.run().number == two.number and reader.run(one.number) == one
        with pytest.raises(ConfigError, match=r"no run 2; there are runs 0 \(the oldest\) to 1"):
            reader.run(2)
    assert findings(tmp_path / "diary.log") == []


@pytest.mark.parametrize("name", ["emp-lob-v0", "emp-lob-market-making-v0"])
def test_durable_rows_hold_what_blocks_hold(name, tmp_path):
    found = []
    for durable in (False, True):
        folder = tmp_path / str(durable)
        folder.mkdir()
        with diary_log(folder) as log:
            env = vector(log, name, gates=[RISK], kept={"durable": durable, "rows": 10_000})
            env.reset(seed=1)
            env.diary.note(1, "spread ≥ 2")
            drive(env, 40, seed=1)
            env.close()
        found.append(blocks(folder))
    (block,), (rows,) = found
    assert same(block.decisions, rows.decisions) and same(block.actions, rows.actions) and block.notes == rows.notes
    for table, entries in block.tables():
        assert same(entries, getattr(rows, table)), table
        assert len(entries), f"no {table}: the test shows nothing"


def test_what_one_run_writes_is_no_part_of_another(tmp_path):
    with diary_log(tmp_path) as log:
        one, two = vector(log, lanes=2, kept={"rows": 4}), vector(log, lanes=1, kept={"rows": 1})
        one.reset(seed=1), two.reset(seed=2)
        for _ in range(9):
            one.step(np.zeros(2, int)), two.step(np.zeros(1, int))
        one.close(), two.close()
    with DiaryReader(tmp_path) as reader:
        sizes = [sum(len(block.decisions) for block in reader.blocks(run)) for run in reader.runs()]
    assert sizes == [18, 9]


def test_a_run_that_was_cut_off_keeps_its_whole_blocks(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, kept={"rows": 10})
        drive(env, 12)  # 24 decisions: two blocks of 10 are written, 4 are lost with the process
    assert [len(block.decisions) for block in blocks(tmp_path)] == [10, 10]
    assert all((block.decisions["flags"] & SETTLED).all() for block in blocks(tmp_path))


def test_wrong_words_are_refused(tmp_path):
    with diary_log(tmp_path) as log:
        with pytest.raises(ConfigError, match="rows must be >= 1"):
            Diary(log, {}, lanes=1, slots=1, rows=0)
        env = vector(log)
        with pytest.raises(ConfigError, match="64 digits"):
            env.diary.policy("ppo", "abc")
        with pytest.raises(ConfigError, match="cannot be written down"):
            env.reset(options={"day": object()})
        env.reset(seed=0)
        env.diary.close()
        with pytest.raises(ConfigError, match="closed"):
            env.step(np.zeros(3, int))
        env.diary.close()
    with diary_log(tmp_path.joinpath("other").mkdir() or tmp_path / "other") as log:
        log.append("x", "diary-run", payload={"format": 99, "lanes": 1})
    with DiaryReader(tmp_path / "other") as reader, pytest.raises(DiaryDamaged, match="format 99"):
        reader.runs()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [("diary-outcome", {"of": 7}), ("diary-decision", {"step": 0}), ("diary-decision", {"step": "x"})],
)
def test_rows_that_are_none_are_refused(kind, payload, tmp_path):
    with diary_log(tmp_path) as log:
        drive(vector(log, kept={"durable": True}), 1)
        leaf = next(iter(log.entries(0, 1))).leaf.hex()
        log.append("x", kind, subject_hash=leaf, payload=payload)
    with pytest.raises(DiaryDamaged):
        blocks(tmp_path)


def test_a_decision_is_explained_in_words(tmp_path):
    with diary_log(tmp_path) as log:
        limits = {"instrument": {"max_position": 150}, "order": {"self_trade": "allow"}}
        env = vector(log, lanes=1, gates=[{"gate": "risk", "limits": limits}], episode="3 decisions")
        env.reset(seed=0)
        for action in (7, 7, 0):
            env.diary.note(0, "[bold] idea")
            env.step(np.array([action]))
        env.close()
    (block,) = blocks(tmp_path)
    with DiaryReader(tmp_path) as reader:
        words = Words(reader.run())
    texts = [words.explain(block, at) for at in range(3)]
    assert texts[0].startswith("buy: buy 100 at the market; bought ") and texts[0].endswith('— "[bold] idea"')
    assert "risk: buy 100 at the market cut to 50 (position)" in texts[1] and words.reasons(block, 1) == ["position"]
    assert "keep; sold" in texts[2] and "the episode was cut here" in texts[2]
    assert words.price(302100) == "30.21" and words.price(302150) == "30.215" and words.price(-5) == "-0.0005"


class Two(Task):
    """Two levers of one's own; the first is the lots to buy."""

    levers = ("hurry", "mood")
    features = ("book",)
    rewards = ("pnl",)

    def orders(self, actions, out):
        lanes = np.flatnonzero(actions[:, 0] > 0)
        out.add(lanes, RequestType.MARKET, side=1, quantity=self.order_quantity)


class Dawn(Gate):
    """Drops every market order; its second reason has no name."""

    reason_names = ("too-early",)

    def __call__(self, view, orders):
        drop, sent = orders.kind == RequestType.MARKET, orders.copy()
        sent.kind[drop] = RequestType.NONE
        reason = np.where(drop, np.uint64(3 << 32), np.uint64(0))
        return sent, Verdicts(reason, orders.quantity.copy(), np.where(drop, 0, orders.quantity))


def test_levers_and_reasons_of_ones_own_are_told_by_their_names(tmp_path):
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=1, gates=[f"{__name__}:Dawn"], task=f"{__name__}:Two", episode="2 decisions")
        env.reset(seed=0)
        env.step(np.array([[0.5, -1.0]], np.float32))
        env.close()
    (block,) = blocks(tmp_path)
    with DiaryReader(tmp_path) as reader:
        words = Words(reader.run())
    gate = f"{__name__}:Dawn"
    assert words.action(block, 0) == "hurry +0.50, mood -1.00"
    assert words.reasons(block, 0) == ["too-early", f"{gate}:33"]
    assert f"{gate}: buy 100 at the market dropped (too-early, {gate}:33)" in words.explain(block, 0)
    assert words.reason(0, 4) == f"{gate}:4", "what is below bit 32 is not its own"
