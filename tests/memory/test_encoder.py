"""Windows keep what was seen, keys compare it, and a fit finds the columns that matter."""

from __future__ import annotations

import numpy as np
import pytest

from emp_gym.memory.encoder import Projection, begin, follow, relevance, windows
from emp_gym.types import DataError


def test_a_cue_shown_once_stays_whole_and_the_present_is_the_present() -> None:
    traces = follow(begin(2, 2), np.array([[1.0, 5.0], [-1.0, 5.0]], np.float32))
    for _ in range(30):
        traces = follow(traces, np.array([[0.0, 5.0]] * 2, np.float32))
    seen = windows(traces)
    assert seen.shape == (2, 6)
    assert seen[:, :4].tolist() == [[0.0, 5.0, 1.0, 5.0], [0.0, 5.0, -1.0, 5.0]]
    assert abs(seen[0, 4]) < 0.01 and seen[0, 5] == pytest.approx(5.0 * (1 - 0.9**31), rel=1e-5)


def test_following_leaves_the_old_traces_alone() -> None:
    before = begin(1, 1)
    follow(before, np.ones((1, 1), np.float32))
    assert not before.any()


def test_wide_windows_are_projected_by_the_seed_narrow_ones_not_at_all() -> None:
    assert Projection.plain(2, 6, 0).dimension == 6 and not Projection.plain(2, 6, 0).matrix.size
    wide = Projection.plain(10, 8, 0)
    assert wide.dimension == 8 and wide.sha256 == Projection.plain(10, 8, 0).sha256 != Projection.plain(10, 8, 1).sha256
    with pytest.raises(DataError, match="30 columns, got 7"):
        wide(np.zeros((1, 7), np.float32))


def test_a_key_does_not_depend_on_the_rows_beside_it() -> None:
    encoder, seen = Projection.plain(20, 8, 3), np.random.default_rng(0).standard_normal((50, 60)).astype(np.float32)
    whole = encoder(seen)
    assert all(np.array_equal(encoder(seen[i : i + 1])[0], whole[i]) for i in range(50))


def planted(rows: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column 1 of 6 tells which of two actions pays; column 4 is constant, column 2 repeats column 0."""
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((rows, 6)).astype(np.float32)
    seen[:, 2], seen[:, 4] = seen[:, 0], 3.0
    action = rng.integers(0, 2, (rows, 1)).astype(np.float64)
    return seen, action, seen[:, 1] * (2 * action[:, 0] - 1) + 0.5 * rng.standard_normal(rows)


def test_the_column_that_goes_with_outcomes_is_found_within_actions_only() -> None:
    seen, action, outcome = planted()
    assert relevance(seen, action, outcome).argmax() == 1 and relevance(seen, action, outcome)[1] == 1.0
    assert relevance(seen, np.zeros_like(action), outcome).max() == 0, "over all actions it tells nothing"


def test_a_fit_scales_weighs_and_leaves_out() -> None:
    seen, action, outcome = planted()
    seen *= np.array([1, 50, 1, 1, 1, 7], np.float32)
    fitted = Projection.plain(2, 8, 0).fitted(seen, action, outcome, 16)
    size = fitted.scale * seen.std(axis=0)  # deviation of the key's columns
    assert fitted.scale[4] == 0 and fitted.scale[2] == 0, "constant, or carrying forward what is never 0"
    assert size[1] == pytest.approx(size[0], rel=1e-4) and size[5] == pytest.approx(0.3 * size[0], rel=1e-4)
    assert fitted.sha256 != Projection.plain(2, 8, 0).sha256
    keys = fitted(seen).astype(np.float64)
    apart = np.sort(np.square(keys[:, None] - keys).sum(axis=2), axis=1)
    assert np.sqrt(np.median(apart[:, 16])) == pytest.approx(1.0, rel=1e-3), "a unit is the usual distance to a neighbour"


def test_rows_that_coincide_are_fitted_without_dividing_by_nothing() -> None:
    seen = np.ones((100, 6), np.float32)
    fitted = Projection.plain(2, 8, 0).fitted(seen, np.zeros((100, 1)), np.zeros(100), 16)
    assert np.isfinite(fitted(seen)).all()
