"""Cuts of a history into training and test parts that share no information. Pure functions of label intervals.

A sample i (a decision, an episode, a session) is known to depend on the interval ``[start[i], end[i]]``: from the first
observation it used to the moment when its outcome was known. Any unit, one unit throughout (ns, rows, sessions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.types import I64, ConfigError, DataError


@dataclass(frozen=True)
class Split:
    """Sample numbers, ascending."""

    train: I64
    test: I64


def purged_k_fold(start: I64, end: I64, *, folds: int, embargo: int = 0) -> list[Split]:
    """`folds` splits; test parts are consecutive stretches that cover every sample once.

    A sample may train only if its interval shares no moment with the span of the test part, and does not start within
    `embargo` (the unit of `start`) after that span: what follows a test is still correlated with it. López de Prado,
    "Advances in Financial Machine Learning" (2018), sections 7.4.1 and 7.4.2. `start` [W] ascending, `end` [W] >= `start`.

    Training parts lie on both sides of the test: right for asking whether something generalises, wrong for asking how
    it would have been lived through, which is `walk_forward`.
    """
    start, end = _intervals(start, end)
    _at_least(folds, 2, "folds")
    _at_least(embargo, 0, "embargo")
    splits = []
    for test in _stretches(len(start), folds):
        opens, closes = start[test].min(), end[test].max()
        train = np.flatnonzero((end < opens) | (start > closes + embargo))
        splits.append(Split(train, test))
    return _with_training(splits, "fewer folds or a shorter embargo")


def walk_forward(
    start: I64, end: I64, *, folds: int, gap: int = 0, window: int | None = None, first: int | None = None
) -> list[Split]:
    """`folds` splits in order of time: train on what was over before the test began, test on the next stretch.

    A sample may train only if it ended more than `gap` (the unit of `start`) before the test's first start. `first`
    samples are never tested (by default as many as a test has); every later sample is tested once. Training expands,
    or keeps the last `window` samples. Pardo, "Design, Testing and Optimization of Trading Systems" (1992).
    """
    start, end = _intervals(start, end)
    _at_least(folds, 1, "folds")
    _at_least(gap, 0, "gap")
    if first is None:
        first = len(start) // (folds + 1)
    _at_least(first, 1, "first")
    if window is not None:
        _at_least(window, 1, "window")
    splits = []
    for test in _stretches(len(start) - first, folds):
        test = test + first
        train = np.flatnonzero(end < start[test].min() - gap)
        splits.append(Split(train if window is None else train[-window:], test))
    return _with_training(splits, "fewer folds, a larger `first` or a shorter gap")


def _stretches(samples: int, folds: int) -> list[I64]:
    """0..samples-1 in `folds` consecutive parts whose lengths differ by at most one."""
    if folds > samples:
        raise ConfigError(f"folds must be at most the number of samples to test ({samples}), got {folds}")
    return np.array_split(np.arange(samples, dtype=np.int64), folds)


def _intervals(start: I64, end: I64) -> tuple[I64, I64]:
    start, end = np.asarray(start), np.asarray(end)
    if start.ndim != 1 or start.shape != end.shape or not start.size:
        raise DataError(f"start and end must be [W], alike and not empty, got {start.shape} and {end.shape}")
    if not (np.issubdtype(start.dtype, np.integer) and np.issubdtype(end.dtype, np.integer)):
        raise DataError(f"start and end must be integers (ns or rows), got {start.dtype} and {end.dtype}")
    if (np.diff(start) < 0).any():
        row = int(np.flatnonzero(np.diff(start) < 0)[0]) + 1
        raise DataError(
            f"start must be ascending: start[{row}] = {start[row]} follows {start[row - 1]}; sort the samples"
        )
    if (end < start).any():
        row = int(np.flatnonzero(end < start)[0])
        raise DataError(f"end must not lie before start: sample {row} has [{start[row]}, {end[row]}]")
    return start.astype(np.int64), end.astype(np.int64)


def _with_training(splits: list[Split], remedy: str) -> list[Split]:
    for number, split in enumerate(splits):
        if not split.train.size:
            raise ConfigError(f"split {number} has nothing left to train on after purging; take {remedy}")
    return splits


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value}")
