"""Training and test parts never share a moment, whatever the labels; nothing is forgotten or tested twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emp_gym.evaluation.splits import purged_k_fold, walk_forward
from emp_gym.types import ConfigError, DataError


@st.composite
def labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Starts with ties and holes, and labels of very different lengths."""
    steps = draw(st.lists(st.integers(0, 4), min_size=6, max_size=60))
    lengths = draw(st.lists(st.integers(0, 12), min_size=len(steps), max_size=len(steps)))
    start = np.cumsum(steps)
    return start, start + np.array(lengths)


def overlaps(start: np.ndarray, end: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether any interval of `a` shares a moment with any of `b`, pair by pair."""
    return any(start[i] <= end[j] and start[j] <= end[i] for i in a for j in b)


@given(labels(), st.integers(2, 6), st.integers(0, 10))
def test_purged_folds_share_nothing(intervals, folds: int, embargo: int) -> None:
    start, end = intervals
    try:
        splits = purged_k_fold(start, end, folds=folds, embargo=embargo)
    except ConfigError as refused:
        assert "nothing left to train on" in str(refused)
        return
    assert len(splits) == folds
    np.testing.assert_array_equal(np.concatenate([s.test for s in splits]), np.arange(len(start)))
    for split in splits:
        assert not overlaps(start, end, split.train, split.test)
        after = start[split.train] - end[split.test].max()
        assert not ((after > 0) & (after <= embargo)).any()
        span = (start[split.test].min(), end[split.test].max())
        for i in set(range(len(start))) - {*split.train.tolist(), *split.test.tolist()}:
            assert start[i] <= span[1] + embargo and end[i] >= span[0], f"{i} was left out without a reason"


@given(labels(), st.integers(1, 5), st.integers(0, 10), st.none() | st.integers(1, 9))
def test_walking_forward_trains_on_the_past_only(intervals, folds: int, gap: int, window: int | None) -> None:
    start, end = intervals
    first = max(1, len(start) // (folds + 1))
    assume(len(start) - first >= folds)
    try:
        splits = walk_forward(start, end, folds=folds, gap=gap, window=window)
    except ConfigError as refused:
        assert "nothing left to train on" in str(refused)
        return
    np.testing.assert_array_equal(np.concatenate([s.test for s in splits]), np.arange(first, len(start)))
    for split in splits:
        known = np.flatnonzero(end + gap < start[split.test].min())
        np.testing.assert_array_equal(split.train, known if window is None else known[-window:])


def test_five_folds_by_hand() -> None:
    start = np.arange(10)
    middle = purged_k_fold(start, start + 1, folds=5, embargo=2)[2]
    assert middle.test.tolist() == [4, 5]  # the span is [4, 6]
    assert middle.train.tolist() == [0, 1, 2, 9]  # 3 ends at 4; 6 overlaps; 7 and 8 are under embargo


def test_a_label_that_spans_the_test_is_purged() -> None:
    split = purged_k_fold(np.array([0, 0, 5, 6, 9, 30]), np.array([20, 1, 5, 7, 9, 30]), folds=3)[1]
    assert split.test.tolist() == [2, 3] and split.train.tolist() == [1, 4, 5]


def test_walking_by_hand() -> None:
    start = np.arange(9)
    splits = walk_forward(start, start, folds=2, gap=1)
    assert [(s.train.tolist(), s.test.tolist()) for s in splits] == [([0, 1], [3, 4, 5]), ([0, 1, 2, 3, 4], [6, 7, 8])]


def test_a_leak_is_what_purging_prevents() -> None:
    """Labels that are sums over the next 20 steps of noise: a neighbour 'predicts' them across a plain cut, not across
    a purged one."""
    noise = np.random.default_rng(0).normal(size=2000)
    label = np.array([noise[i : i + 20].sum() for i in range(1980)])
    start = np.arange(1980)

    def nearest(train: np.ndarray, test: np.ndarray) -> float:
        edge = test[:5]  # what lies right after the cut
        before = train[train < test[0]][-1:]
        return float(np.mean(np.sign(label[before]) * np.sign(label[edge]) > 0)) if before.size else 0.5

    purged = purged_k_fold(start, start + 20, folds=60)
    plain = purged_k_fold(start, start, folds=60)
    assert np.mean([nearest(s.train, s.test) for s in plain]) > 0.75
    assert np.mean([nearest(s.train, s.test) for s in purged]) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("start", "end", "folds", "error", "says"),
    [
        ([0, 2, 1], [5, 5, 5], 2, DataError, r"start\[2\] = 1 follows 2"),
        ([0, 1, 2], [0, 0, 2], 2, DataError, r"sample 1 has \[1, 0\]"),
        ([0.5, 1.0], [1.0, 2.0], 2, DataError, "must be integers"),
        ([0, 1], [0], 2, DataError, "alike"),
        ([0, 1, 2], [0, 1, 2], 4, ConfigError, "folds must be at most"),
        ([0, 1, 2], [0, 1, 2], 1, ConfigError, "folds must be at least 2"),
        ([0, 1, 2], [9, 9, 9], 3, ConfigError, "split 0 has nothing left to train on"),
    ],
)
def test_impossible_cuts_are_named(start, end, folds: int, error, says: str) -> None:
    with pytest.raises(error, match=says):
        purged_k_fold(np.array(start), np.array(end), folds=folds)
