"""The memory against a plain one of dicts and floats, and what it promises one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emp_gym.memory.encoder import Projection
from emp_gym.memory.episodic import EpisodicMemory, MemoryRules, Recollection, combine, confidence
from emp_gym.memory.index import BACKENDS
from emp_gym.types import ConfigError, DataError
from tests.memory.plain_memory import PlainMemory

RULES = MemoryRules(
    backend="numpy", capacity=12, neighbours=5, merge=0.3, half_life=7, prior=2.0, strongest=3.0, floor=0.8, floor_share=0.25
)


def encoder(scale: float = 1.0) -> Projection:
    return Projection(np.zeros(2, np.float32), np.full(2, scale, np.float32), np.zeros((0, 0), np.float32))


def memory(rules: MemoryRules = RULES, scale: float = 1.0) -> EpisodicMemory:
    return EpisodicMemory(rules, encoder(scale), 2)


def written(held: EpisodicMemory, *rows: tuple[float, float, float, float]) -> list[int]:
    """Rows (x, y, action, return) in one batch."""
    table = np.array(rows, np.float64)
    return held.write(table[:, :2].astype(np.float32), table[:, 2:3], table[:, 3]).tolist()


# On a lattice of quarters, in float32 exactly: distances tie and merge often.
WINDOW = st.tuples(st.integers(-4, 4), st.integers(-4, 4)).map(lambda p: (p[0] / 4, p[1] / 4))
OUTCOME = st.tuples(WINDOW, st.sampled_from([0.0, 1.0]), st.integers(-8, 8).map(lambda n: n / 2))


class AgainstThePlainOne(RuleBasedStateMachine):
    """Two backends and the judge live through the same calls."""

    setting = RULES

    def __init__(self) -> None:
        super().__init__()
        self.ours = [memory(replace(self.setting, backend=backend)) for backend in BACKENDS]
        self.judge = PlainMemory(self.setting, encoder())
        self.recalled: list[tuple[list[Recollection], list, float, tuple]] = []

    @rule(batch=st.lists(OUTCOME, min_size=1, max_size=6))
    def write(self, batch: list) -> None:
        wanted = self.judge.write(batch)
        for ours in self.ours:
            assert written(ours, *((*window, action, outcome) for window, action, outcome in batch)) == wanted

    @rule(ticks=st.integers(0, 10))
    def time_goes_on(self, ticks: int) -> None:
        self.judge.advance(self.judge.now + ticks)
        for ours in self.ours:
            ours.advance(ours.now + ticks)

    @rule(window=WINDOW)
    def recall(self, window: tuple) -> None:
        told, prior = self.judge.recall(window), self.judge.mean
        found = [ours.recall(np.array([window], np.float32)) for ours in self.ours]
        for one in found:
            count = len(told)
            assert one.ids[0, :count].tolist() == [number for number, *_ in told]
            assert one.weights[0, :count] == pytest.approx([weight for _, weight, *_ in told], rel=1e-9, abs=1e-12)
            assert not one.weights[0, count:].any()
            assert one.returns[0, :count] == pytest.approx([value for *_, value in told], abs=1e-9)
        assert found[0].weights.tobytes() == found[1].weights.tobytes()
        self.recalled.append((found, told, prior, window))

    @precondition(lambda self: self.recalled)
    @rule(outcome=OUTCOME)
    def reinforce(self, outcome: tuple) -> None:
        found, told, prior, _ = self.recalled.pop()
        _, action, value = outcome
        self.judge.strengthen(self.judge.reinforce(told, prior, action, value))
        for ours, one in zip(self.ours, found):
            ours.reinforce(one, np.array([[action]]), np.array([value]))

    @rule(which=st.lists(st.integers(0, 60), max_size=4))
    def protect(self, which: list[int]) -> None:
        self.judge.protect(which)
        for ours in self.ours:
            ours.protect(np.array(which, np.int64))

    @rule(scale=st.sampled_from([0.5, 1.0, 2.0]))
    def reembed(self, scale: float) -> None:
        self.judge.reembed(encoder(scale))
        for ours in self.ours:
            ours.reembed(encoder(scale))

    @rule()
    def go_through_a_file(self) -> None:
        for at, ours in enumerate(self.ours):
            again = EpisodicMemory(ours.rules, ours.encoder, 2)
            again.restore(ours.arrays())
            self.ours[at] = again

    @invariant()
    def rows_are_the_same(self) -> None:
        rows = self.judge.rows
        assert len(rows) <= self.setting.capacity
        for ours in self.ours:
            assert ours.ids.tolist() == list(rows)
            for name in ("mean", "variance", "count", "evidence", "strength", "touched", "protected"):
                assert ours.column(name).tolist() == pytest.approx([getattr(row, name) for row in rows.values()], abs=1e-9), name
            assert ours.strengths() == pytest.approx([self.judge.strength(row) for row in rows.values()], abs=1e-9)
            assert (ours.mean, ours.variance) == pytest.approx((self.judge.mean, self.judge.variance), abs=1e-9)


class FirstInFirstOut(AgainstThePlainOne):
    setting = replace(RULES, evict="oldest", merge=0.0)


TestAgainstThePlainOne = AgainstThePlainOne.TestCase
TestAgainstThePlainOne.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestFirstInFirstOut = FirstInFirstOut.TestCase
TestFirstInFirstOut.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


def test_outcomes_of_one_situation_and_action_become_their_mean() -> None:
    held = memory()
    assert written(held, (0, 0, 1, 2.0), (0.1, 0, 1, 4.0), (0.1, 0, 0, 9.0)) == [0, 0, 1]
    assert written(held, (0, 0.1, 1, 6.0)) == [0]
    assert (held.column("mean")[0], held.column("count")[0]) == (pytest.approx(4.0), 3)
    assert held.column("variance")[0] == pytest.approx(np.var([2.0, 4.0, 6.0]))


def test_what_is_old_counts_half_after_a_half_life() -> None:
    held = memory()
    written(held, (0, 0, 0, 0.0))
    held.advance(7)
    assert held.recall(np.zeros((1, 2), np.float32)).weights[0, 0] == pytest.approx(0.5)
    written(held, (0, 0, 0, 3.0))
    assert held.column("mean")[0] == pytest.approx(2.0), "one outcome against half of one"


def test_time_does_not_go_back() -> None:
    held = memory()
    held.advance(5)
    with pytest.raises(ConfigError, match="time goes back: now 4"):
        held.advance(4)


def test_rows_of_extreme_episodes_stay_while_weaker_ones_go() -> None:
    held = memory()
    [kept] = written(held, (9, 9, 0, -100.0))
    held.protect(np.array([kept]))
    for at in range(40):
        held.advance(held.now + 7)
        written(held, (at, 0, 0, 1.0), (at, 5, 0, 1.0))
    assert kept in held.ids
    assert len(held) <= RULES.capacity


def test_a_row_without_which_the_prediction_is_worse_gains_and_the_others_do_not() -> None:
    held = memory()
    good, bad = written(held, (0, 0, 0, 4.0), (0.5, 0, 0, -4.0))
    held.reinforce(held.recall(np.zeros((1, 2), np.float32)), np.array([[0.0]]), np.array([4.0]))
    strengths = dict(zip(held.ids.tolist(), held.strengths().tolist()))
    assert strengths[good] > 1.0 == strengths[bad]


def test_joining_keeps_the_strength_that_was_earned() -> None:
    held = memory(replace(RULES, half_life=1000))
    written(held, (0, 0, 0, 4.0), (0.5, 0, 0, -4.0))
    for _ in range(4):
        held.reinforce(held.recall(np.zeros((1, 2), np.float32)), np.array([[0.0]]), np.array([4.0]))
    earned = held.strengths()[0]
    written(held, (0, 0, 0, 4.0))
    assert held.strengths()[0] == earned > 1.0


def test_a_failing_encoder_leaves_the_memory_as_it_was() -> None:
    class Broken(Projection):
        def __call__(self, windows):
            return super().__call__(windows) * np.nan

    held = memory()
    written(held, (0, 0, 0, 1.0))
    before = held.arrays()
    with pytest.raises(DataError, match="not finite"):
        held.reembed(Broken(*encoder().arrays().values()))
    assert all(np.array_equal(array, before[name]) for name, array in held.arrays().items())


def test_a_memory_of_another_encoder_is_refused() -> None:
    held = memory()
    written(held, (0, 0, 0, 1.0))
    with pytest.raises(DataError, match="kept with encoder"):
        memory(scale=2.0).restore(held.arrays())
    with pytest.raises(DataError, match="actions of 1, expected 2 and 3"):
        EpisodicMemory(RULES, encoder(), 2, action_size=3).restore(held.arrays())


def test_what_was_re_embedded_is_what_would_have_been_written() -> None:
    rng, apart = np.random.default_rng(0), replace(RULES, merge=0.0, capacity=100)
    rows = [(*rng.standard_normal(2), 0.0, rng.standard_normal()) for _ in range(60)]
    moved, straight = memory(apart), memory(apart, 2.0)
    written(moved, *rows)
    written(straight, *rows)
    moved.reembed(encoder(2.0))
    asked = rng.standard_normal((5, 2)).astype(np.float32)
    assert moved.recall(asked).weights.tobytes() == straight.recall(asked).weights.tobytes()


@pytest.mark.parametrize("values", ["permuted", "coded"])
def test_shuffled_values_are_the_same_values_at_other_rows(values: str) -> None:
    setting = replace(RULES, capacity=200, merge=0.0, neighbours=100)
    kept, mixed = memory(setting), memory(replace(setting, values=values))
    rows = [(at, 0, 0, float(at)) for at in range(100)]
    for held in (kept, mixed):
        written(held, *rows)
    at = np.zeros((1, 2), np.float32)
    assert kept.recall(at).returns[0].tolist() == list(range(100))
    told = mixed.recall(at).returns[0]
    assert sorted(told) == list(range(100)) and abs(np.corrcoef(told, np.arange(100))[0, 1]) < 0.3
    mixed.advance(1)
    assert np.array_equal(mixed.recall(at).returns[0], told) == (values == "coded")


def test_actions_are_told_apart_and_slopes_point_the_better_way() -> None:
    held = EpisodicMemory(RULES, encoder(), 2)
    written(held, (0, 0, 0, 1.0), (0, 0, 1, 5.0))
    recalled = held.recall(np.zeros((1, 2), np.float32))
    returns, evidence = recalled.by_action(3)
    assert returns[0].tolist() == pytest.approx([1.0, 5.0, held.mean]) and evidence[0].tolist() == pytest.approx([1, 1, 0])
    assert recalled.value()[0][0] == pytest.approx(3.0) and recalled.slopes()[0, 0] == pytest.approx(1.0)


def test_confidence_is_evidence_against_the_prior() -> None:
    assert confidence(np.array([0.0, 4.0]), 4.0).tolist() == [0.0, 0.5]
    assert combine(np.array([2.0]), np.array([6.0]), np.array([0.25])).tolist() == [3.0]


def test_an_empty_memory_knows_nothing() -> None:
    value, evidence = memory().recall(np.zeros((3, 2), np.float32)).value()
    assert value.tolist() == [0.0] * 3 == evidence.tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"backend": "annoy"}, "faiss, numpy"), ({"capacity": 0}, "at least 1"), ({"merge": -1.0}, "from 0 up"),
     ({"bandwidth": 0.0}, "above 0"), ({"evict": "newest"}, "weakest, oldest")],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MemoryRules(**wrong)


def test_returns_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="must be finite"):
        written(memory(), (0, 0, 0, np.nan))
