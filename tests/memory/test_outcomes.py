"""Outcomes of decisions are the n-step returns that one computes by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.memory.episodic import Recollection
from emp_gym.memory.outcomes import Pending


def nothing(lanes: int) -> Recollection:
    empty = np.zeros((lanes, 1))
    return Recollection(empty.astype(np.int64), empty, empty[:, :, None], empty, np.zeros(lanes))


def lived(pending: Pending, rewards: np.ndarray, ended: np.ndarray, tail: np.ndarray, moved: np.ndarray | None = None) -> list:
    """(lane, step, return) of everything that is known, in the order in which it came; the action is the step's number."""
    steps, lanes = rewards.shape
    found = []
    for t in range(steps):
        out = pending.step(
            np.full((lanes, 1), t, np.float32), np.full((lanes, 1), float(t)), nothing(lanes), rewards[t],
            moved=np.ones(lanes, bool) if moved is None else moved[t], ended=ended[t], tail=tail[t],
        )  # fmt: skip
        assert out.actions[:, 0].tolist() == out.windows[:, 0].tolist()
        found += list(zip(out.lanes.tolist(), out.actions[:, 0].astype(int).tolist(), out.returns.tolist()))
    return found


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.5, 1.0]))
@settings(max_examples=80, deadline=None)
def test_returns_are_sums_over_n_rewards_or_to_the_end_of_the_episode(seed: int, n: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    rewards, tail = rng.standard_normal((17, 3)), rng.standard_normal((17, 3))
    ended = rng.random((17, 3)) < 0.2
    found = lived(Pending(3, n, gamma, width=1, action_size=1, neighbours=1), rewards, ended, tail)
    wanted = {}
    for lane in range(3):
        for t in range(17):
            last = next((s for s in range(t, min(t + n, 17)) if ended[s, lane]), t + n - 1)
            if last < 17:
                total = sum(gamma ** (s - t) * rewards[s, lane] for s in range(t, last + 1))
                wanted[lane, t] = total + gamma ** (last + 1 - t) * tail[last, lane]
    assert {(lane, t): round(value, 9) for lane, t, value in found} == {key: round(value, 9) for key, value in wanted.items()}
    assert len(found) == len(wanted)


def test_they_come_lane_by_lane_and_the_oldest_first() -> None:
    ended = np.zeros((3, 2), bool)
    ended[2] = True
    found = lived(Pending(2, 9, 1.0, width=1, action_size=1, neighbours=1), np.ones((3, 2)), ended, np.zeros((3, 2)))
    assert found == [(0, 0, 3.0), (0, 1, 2.0), (0, 2, 1.0), (1, 0, 3.0), (1, 1, 2.0), (1, 2, 1.0)]


def test_a_lane_that_does_not_move_decides_nothing() -> None:
    moved = np.array([[True, True], [True, False]])
    found = lived(Pending(2, 1, 1.0, width=1, action_size=1, neighbours=1), np.ones((2, 2)), ~moved, np.zeros((2, 2)), moved)
    assert [(lane, t) for lane, t, _ in found] == [(0, 0), (1, 0), (0, 1)]


def test_a_restored_one_goes_on_with_what_waited() -> None:
    rewards, ended, tail = np.ones((6, 2)), np.zeros((6, 2), bool), np.full((6, 2), 5.0)
    one, other = (Pending(2, 3, 0.9, width=1, action_size=1, neighbours=1) for _ in range(2))
    first = lived(one, rewards[:2], ended[:2], tail[:2])
    other.restore(one.arrays())
    assert first == [] and lived(one, rewards[2:], ended[2:], tail[2:]) == lived(other, rewards[2:], ended[2:], tail[2:])


def test_what_is_forgotten_never_comes() -> None:
    pending = Pending(2, 3, 1.0, width=1, action_size=1, neighbours=1)
    lived(pending, np.ones((2, 2)), np.zeros((2, 2), bool), np.zeros((2, 2)))
    pending.forget(np.array([True, False]))
    found = lived(pending, np.ones((1, 2)), np.ones((1, 2), bool), np.zeros((1, 2)))
    assert [lane for lane, *_ in found] == [0, 1, 1, 1]
