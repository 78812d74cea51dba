"""Replay: targets against a slow judge that walks one step at a time, and the chances of being drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp_gym.agents.muzero.replay import CUT, FINISHED, Replay

LANES = 3


def filled(steps: int, rows: int, seed: int) -> tuple[Replay, list[dict[str, np.ndarray]]]:
    """A replay of `rows` rows after `steps` steps whose numbers are all different, and the steps as they came."""
    random = np.random.default_rng(seed)
    replay = Replay(rows, LANES, observation=2, action=1, policy=2, menu=2)
    story = []
    for _ in range(steps):
        step = {
            "observation": random.normal(size=(LANES, 2)).astype(np.float32),
            "following": random.normal(size=(LANES, 2)).astype(np.float32),
            "action": random.normal(size=(LANES, 1)).astype(np.float32),
            "policy": random.random((LANES, 2)).astype(np.float32),
            "value": random.normal(size=LANES).astype(np.float32),
            "reward": random.normal(size=LANES).astype(np.float32),
            "code": random.integers(4, size=LANES),
            "end": random.choice([0, FINISHED, CUT], p=[0.7, 0.15, 0.15], size=LANES),
            "mask": random.random((LANES, 2)) < 0.5,
        }
        story.append(step)
        replay.add(**step)
    return replay, story


def slow_target(story: list[dict[str, np.ndarray]], row: int, lane: int, n: int, gamma: float) -> float:
    """n rewards and then the search's value, of one state."""
    total, discount = 0.0, 1.0
    for i in range(n):
        step = story[row + i]
        end, there = step["end"][lane], row + i + 1 < len(story)
        if end == FINISHED:
            return total + discount * float(step["reward"][lane])
        if end == CUT or not there:
            return total + discount * float(step["value"][lane])
        total += discount * float(step["reward"][lane])
        discount *= gamma
    return total + discount * float(story[row + n]["value"][lane])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 16), st.integers(0, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_targets_are_those_of_the_slow_judge(steps: int, rows: int, n: int, unroll: int, seed: int) -> None:
    replay, story = filled(steps, rows, seed)
    places = [(row, lane) for row in range(replay.oldest, steps) for lane in range(LANES)]
    row, lane = (np.array(part) for part in zip(*places))
    batch = replay.batch(row, lane, np.ones(len(row), np.float32), unroll, n, 0.9)
    for b, (at, i) in enumerate(places):
        alive = True
        for k in range(unroll + 1):
            alive = alive and at + k < steps and (k == 0 or story[at + k - 1]["end"][i] == 0)
            assert batch.lived[b, k] == alive
            if not alive:
                continue
            step = story[at + k]
            assert batch.value[b, k] == pytest.approx(slow_target(story, at + k, i, n, 0.9), abs=1e-5)
            assert batch.reward[b, k] == step["reward"][i] and batch.code[b, k] == step["code"][i]
            assert batch.finished[b, k] == (step["end"][i] == FINISHED)
            for name in ("observation", "following", "action", "policy"):
                assert np.array_equal(getattr(batch, name)[b, k], step[name][i])


def test_a_finished_episode_is_worth_nothing_afterwards_and_a_cut_one_what_was_thought() -> None:
    replay = Replay(8, 1, observation=1, action=1, policy=1, menu=0)
    zero = np.zeros((1, 1), np.float32)
    for reward, value, end in ((1.0, 10.0, 0), (2.0, 20.0, FINISHED), (4.0, 40.0, 0), (8.0, 80.0, CUT)):
        one = {name: np.array([x]) for name, x in (("reward", reward), ("value", value), ("end", end))}
        replay.add(observation=zero, following=zero, action=zero, policy=zero, code=np.zeros(1, int), **one)
    at = np.arange(4)
    batch = replay.batch(at, np.zeros(4, int), np.ones(4, np.float32), 1, 3, 0.5)
    assert batch.value[:, 0].tolist() == [1 + 0.5 * 2, 2, 4 + 0.5 * 80, 80]


def test_a_judge_replaces_what_was_thought_at_the_time() -> None:
    replay, story = filled(12, 12, 3)
    row, lane = np.array([0, 4, 8]), np.array([0, 1, 2])
    batch = replay.batch(row, lane, np.ones(3, np.float32), 2, 3, 0.9, lambda observation: 7 * observation[..., 0])
    for step in story:
        step["value"] = 7 * step["observation"][:, 0]
    expected = [slow_target(story, at, i, 3, 0.9) for at, i in zip(row, lane)]
    assert batch.value[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_places_are_drawn_as_often_as_their_priority_says() -> None:
    replay, _ = filled(20, 10, 0)
    row, lane = (part.ravel() for part in np.meshgrid(np.arange(10, 20), np.arange(LANES), indexing="ij"))
    error = np.linspace(0.1, 3.0, len(row)).astype(np.float32)
    replay.surprise(row, lane, error)
    drawn_row, drawn_lane, weight = replay.draw(200_000, np.random.default_rng(1), 0.6, 0.4)
    assert drawn_row.min() == 10 and drawn_row.max() == 19, "rows that were overwritten are gone"
    counts = np.bincount((drawn_row - 10) * LANES + drawn_lane, minlength=30) / 200_000
    chance = (error + 1e-6) ** 0.6 / ((error + 1e-6) ** 0.6).sum()
    assert np.abs(counts - chance).max() < 0.002
    expected = (30 * chance[(drawn_row - 10) * LANES + drawn_lane]) ** -0.4
    assert np.allclose(weight, expected / expected.max(), rtol=1e-4)


def test_full_correction_makes_a_skewed_draw_fair() -> None:
    """With beta 1 the weighted share of every place is the same: what is learned of chance is not bent by priorities."""
    replay, _ = filled(10, 10, 0)
    row, lane = (part.ravel() for part in np.meshgrid(np.arange(10), np.arange(LANES), indexing="ij"))
    replay.surprise(row, lane, np.linspace(0.1, 3.0, len(row)).astype(np.float32))
    drawn_row, drawn_lane, weight = replay.draw(300_000, np.random.default_rng(1), 0.6, 1.0)
    share = np.bincount(drawn_row * LANES + drawn_lane, weights=weight, minlength=30)
    assert np.abs(share / share.mean() - 1).max() < 0.05


def test_new_steps_come_with_the_largest_priority() -> None:
    replay, _ = filled(4, 10, 0)
    replay.surprise(np.arange(4), np.zeros(4, int), np.array([0.1, 0.2, 7.0, 0.3], np.float32))
    _, story = filled(1, 10, 5)
    replay.add(**story[0])
    assert replay.arrays()["priority"][4].tolist() == pytest.approx([7.0] * LANES, rel=1e-5)


def test_second_thoughts_replace_first_ones() -> None:
    replay, story = filled(12, 5, 0)
    row, lane = np.array([9, 11]), np.array([0, 2])
    observation, mask = replay.seen(row, lane)
    assert np.array_equal(observation, [story[9]["observation"][0], story[11]["observation"][2]])
    assert mask is not None and np.array_equal(mask, [story[9]["mask"][0], story[11]["mask"][2]])
    replay.revise(row, lane, np.array([[1, 0], [0, 1]], np.float32), np.array([5.0, 6.0], np.float32))
    batch = replay.batch(row, lane, np.ones(2, np.float32), 1, 0, 1.0)
    assert batch.value[:, 0].tolist() == [5, 6] and batch.policy[:, 0].tolist() == [[1, 0], [0, 1]]


def test_what_follows_a_break_is_no_continuation() -> None:
    replay, _ = filled(3, 10, 1)
    replay.cut()
    assert (replay.arrays()["end"][2] != 0).all()


def test_files_bring_everything_back() -> None:
    replay, _ = filled(23, 10, 2)
    other = Replay(10, LANES, observation=2, action=1, policy=2, menu=2)
    other.restore(replay.arrays())
    draws = [one.draw(50, np.random.default_rng(0), 0.6, 0.4) for one in (replay, other)]
    assert all(np.array_equal(a, b) for a, b in zip(*draws)) and len(other) == len(replay) == 30
