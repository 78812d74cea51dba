"""Nearest rows are those of a plain scan, whoever scans; what cannot be proved is looked at row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.memory.index import BACKENDS, NOBODY, FaissIndex, FlatIndex
from emp_gym.types import ConfigError

KINDS = pytest.mark.parametrize("kind", BACKENDS.values(), ids=list(BACKENDS))


def plain(ids: np.ndarray, keys: np.ndarray, query: np.ndarray, k: int) -> list[tuple[float, int]]:
    apart = ((keys.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1)
    return sorted(zip(apart.tolist(), ids.tolist()))[:k]


@st.composite
def worlds(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Rows on a coarse lattice, where ties are the rule, or anywhere; some far from 0, where digits are few."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    rows, d = draw(st.integers(1, 120)), draw(st.integers(1, 6))
    keys = rng.standard_normal((rows, d))
    if draw(st.booleans()):
        keys = np.round(keys)
    keys = (keys + draw(st.sampled_from([0.0, 1000.0]))).astype(np.float32)
    queries = np.concatenate((keys[rng.integers(rows, size=3)], rng.standard_normal((2, d)).astype(np.float32)))
    return np.cumsum(rng.integers(1, 4, rows)), keys, queries, draw(st.integers(1, 40))


@given(worlds(), st.sampled_from(sorted(BACKENDS)))
@settings(max_examples=150, deadline=None)
def test_the_nearest_are_those_of_a_plain_scan_and_ties_go_by_id(world, kind: str) -> None:
    ids, keys, queries, k = world
    index = BACKENDS[kind](keys.shape[1])
    index.add(ids, keys)
    found, apart = index.search(queries, k)
    for q, query in enumerate(queries):
        told = [(d, i) for d, i in zip(apart[q].tolist(), found[q].tolist()) if i != NOBODY]
        wanted = plain(ids, keys, query, k)
        assert [i for _, i in told] == [i for _, i in wanted]
        assert [d for d, _ in told] == pytest.approx([d for d, _ in wanted], rel=1e-12, abs=1e-12)


@given(worlds(), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_faiss_and_numpy_give_the_same_bytes_also_after_rows_left(world, seed: int) -> None:
    ids, keys, queries, k = world
    kept = np.random.default_rng(seed).random(len(ids)) < 0.7
    answers = []
    for kind in BACKENDS.values():
        index = kind(keys.shape[1])
        index.add(ids, keys)
        index.keep(kept)
        index.add(ids[-1:] + 5, keys[:1])
        answers.append(index.search(queries, k))
    assert [a.tobytes() for a in answers[0]] == [a.tobytes() for a in answers[1]]


@KINDS
def test_a_query_is_answered_alone_as_among_many(kind: type[FlatIndex]) -> None:
    rng = np.random.default_rng(3)
    index = kind(8)
    index.add(np.arange(2000), rng.standard_normal((2000, 8)).astype(np.float32))
    queries = rng.standard_normal((40, 8)).astype(np.float32)
    ids, apart = index.search(queries, 16)
    for q in range(40):
        own = index.search(queries[q : q + 1], 16)
        assert np.array_equal(own[0][0], ids[q]) and np.array_equal(own[1][0], apart[q])


def test_what_a_backend_misses_within_its_bound_is_found_all_the_same() -> None:
    class Careless(FaissIndex):
        def _candidates(self, queries, count):
            places, bound = super()._candidates(queries, count)
            return places[:, ::-1], np.zeros_like(bound)  # proves nothing

    rng = np.random.default_rng(4)
    keys, queries = rng.standard_normal((300, 4)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    answers = []
    for kind in (Careless, FlatIndex):
        index = kind(4)
        index.add(np.arange(300), keys)
        answers.append(index.search(queries, 8)[0])
    assert np.array_equal(*answers)


@KINDS
def test_fewer_rows_than_wanted_are_said_to_be_nobody(kind: type[FlatIndex]) -> None:
    index = kind(2)
    assert index.search(np.zeros((2, 2), np.float32), 3)[0].tolist() == [[NOBODY] * 3] * 2
    index.add(np.array([7]), np.ones((1, 2), np.float32))
    ids, apart = index.search(np.zeros((1, 2), np.float32), 3)
    assert ids.tolist() == [[7, NOBODY, NOBODY]] and apart.tolist() == [[2.0, np.inf, np.inf]]


@KINDS
def test_ids_must_rise(kind: type[FlatIndex]) -> None:
    index = kind(1)
    index.add(np.array([3, 5]), np.zeros((2, 1), np.float32))
    for ids in ([5], [4], [6, 6]):
        with pytest.raises(ConfigError, match="must rise"):
            index.add(np.array(ids), np.zeros((len(ids), 1), np.float32))


@pytest.mark.slow
def test_a_recall_of_a_hundred_thousand_rows_takes_less_than_a_millisecond() -> None:
    import time

    rng = np.random.default_rng(0)
    index = FaissIndex(16)
    index.add(np.arange(100_000), rng.standard_normal((100_000, 16)).astype(np.float32))
    queries = rng.standard_normal((400, 1, 16)).astype(np.float32)
    took = []
    for query in queries:
        began = time.thread_time()  # processor time: other programs on the machine do not count
        index.search(query, 32)
        took.append(time.thread_time() - began)
    assert np.quantile(took[100:], 0.99) < 1e-3, f"p99 {np.quantile(took[100:], 0.99) * 1e3:.2f} ms"
