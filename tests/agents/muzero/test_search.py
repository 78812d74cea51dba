"""Promises of the search that hold for every world, and its errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular import random_world

from emp_gym.agents.muzero.gumbel import considered_visits, halving_table
from emp_gym.agents.muzero.search import Root, SearchConfig, SearchError, _SearchRun, search

LANES, STATES = 5, 12


@st.composite
def problems(draw):
    """(world, states, mask, gumbel, config)."""
    actions, codes = draw(st.integers(1, 7)), draw(st.sampled_from((1, 2, 5)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = random.random((LANES, actions)) < draw(st.sampled_from((0.3, 0.7, 1.0)))
    mask[np.arange(LANES), random.integers(0, actions, LANES)] = True
    expansion = draw(st.booleans())
    config = SearchConfig(
        simulations=draw(st.integers(0 if expansion else 1, 30)), q_floor=draw(st.sampled_from((1e-8, 0.5))),
        max_considered=draw(st.integers(1, 9)), root_expansion=expansion,
    )  # fmt: skip
    gumbel = random.gumbel(size=(LANES, actions)).astype(np.float32)
    return random_world(random, STATES, actions, codes), random.integers(0, STATES, LANES), mask, gumbel, config


@settings(max_examples=60, deadline=None)
@given(problems())
def test_visits_sum_to_the_simulations_and_masked_actions_get_nothing(problem):
    world, states, mask, gumbel, config = problem
    found = search(world.root(states, mask), world, config, gumbel)
    assert (found.visits.sum(axis=1) == config.simulations).all()
    assert not found.visits[~mask].any()
    assert not found.weights[~mask].any()
    assert mask[np.arange(LANES), found.action].all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-5)
    assert (found.visits[np.arange(LANES), found.action] == found.visits.max(axis=1)).all()


@settings(max_examples=40, deadline=None)
@given(problems())
def test_every_simulation_visits_an_action_that_the_sequence_considers(problem):
    world, states, mask, gumbel, config = problem
    run = _SearchRun(world.root(states, mask), world, config, gumbel, None)
    if config.root_expansion:
        run.expand_root()
    for simulation in range(config.simulations):
        before = run.tree.visits[:, 0].copy()
        run.simulate()
        lanes, visited = np.nonzero(run.tree.visits[:, 0] - before)
        assert list(lanes) == list(range(LANES))
        for lane in lanes:
            considered = min(config.max_considered, mask[lane].sum())
            assert before[lane, visited[lane]] == considered_visits(int(considered), config.simulations)[simulation]


def fields(result):
    return [result.action, result.visits, result.weights, result.q, result.value]


@settings(max_examples=40, deadline=None)
@given(problems(), st.permutations(range(LANES)), st.integers(1, LANES))
def test_a_lane_is_planned_alike_in_any_company(problem, order, company):
    world, states, mask, gumbel, config = problem
    order = np.array(order)[:company]
    whole = search(world.root(states, mask), world, config, gumbel)
    part = search(world.root(states[order], mask[order]), world, config, gumbel[order])
    for mine, theirs in zip(fields(part), fields(whole)):
        np.testing.assert_array_equal(mine, theirs[order])


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(1, 9))
def test_the_model_is_asked_about_so_many_rows_at_most_and_answers_are_the_same(problem, rows):
    world, states, mask, gumbel, config = problem
    whole = fields(search(world.root(states, mask), world, config, gumbel))
    asked: list[int] = []

    class Counting:
        codes = world.codes

        def afterstate(self, latent, action):
            asked.append(len(action))
            return world.afterstate(latent, action)

        def outcome(self, after, code):
            asked.append(len(code))
            return world.outcome(after, code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emp_gym.agents.muzero.search.ROWS", rows)
        parts = fields(search(world.root(states, mask), Counting(), config, gumbel))
    for mine, theirs in zip(parts, whole):
        np.testing.assert_array_equal(mine, theirs)
    assert not asked or 1 <= min(asked) <= max(asked) <= rows


def test_the_sequence_halves_what_is_considered():
    assert considered_visits(4, 8) == (0, 0, 0, 0, 1, 1, 2, 2)
    assert considered_visits(4, 16) == (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert considered_visits(9, 6) == (0, 0, 0, 0, 0, 0)
    assert considered_visits(1, 3) == considered_visits(0, 3) == (0, 1, 2)
    assert halving_table(3, 0).shape == (4, 0)


def test_a_floor_keeps_differences_that_mean_nothing_from_becoming_a_preference():
    world = random_world(np.random.default_rng(0), 8, 5, 1)
    world.discount[:], world.value[:], world.logits[:] = 0, 0, 0
    world.reward *= 1e-6
    found = {
        floor: search(world.root(range(8)), world, SearchConfig(simulations=8, q_floor=floor)).weights.max(axis=1)
        for floor in (1e-8, 0.1)
    }
    assert (found[1e-8] > 0.4).all()
    np.testing.assert_allclose(found[0.1], 0.2, atol=1e-3)


class Torch:
    """The same world with latents in torch: a row holds the number of a state and one that is not looked at."""

    def __init__(self, world):
        self.world, self.codes = world, world.codes

    def afterstate(self, latent, action):
        after, *answer = self.world.afterstate(latent[:, 0].numpy(), action)
        return rows(after), *answer

    def outcome(self, after, code):
        latent, *answer = self.world.outcome(after[:, 0].numpy(), code)
        return rows(latent), *answer


def rows(numbers):
    return torch.stack([torch.as_tensor(numbers), torch.zeros(len(numbers), dtype=torch.int64)], dim=1)


@pytest.mark.parametrize("codes", [1, 4])
def test_latents_may_be_torch_tensors(codes):
    random = np.random.default_rng(2)
    world = random_world(random, 12, 4, codes)
    states, config = random.integers(0, 12, 7), SearchConfig(simulations=20, q_floor=1e-8)
    plain = search(world.root(states), world, config)
    root = Root(world.logits[states], world.value[states], rows(states))
    for mine, theirs in zip(fields(search(root, Torch(world), config)), fields(plain)):
        np.testing.assert_array_equal(mine, theirs)


def test_an_edge_corrects_reward_and_value_of_every_outcome():
    random = np.random.default_rng(3)
    world = random_world(random, 12, 4, 3)
    asked = []

    def dearer(after, code, latent, reward, value):
        asked.append(len(code))
        return reward - 0.1 * (after % 4 == 2), value + 1

    config = SearchConfig(simulations=12, q_floor=0.1)
    found = search(world.root(range(12)), world, config, edge=dearer)
    world.reward[:, 2] -= 0.1
    world.value += 1
    root = Root(world.logits, world.value - 1, np.arange(12))
    for mine, theirs in zip(fields(found), fields(search(root, world, config))):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert asked[0] == 12 * 4 * 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"simulations": 0, "root_expansion": False}, "at least 1"),
        ({"max_considered": 0}, "max_considered=0"),
        ({"q_floor": 0.0}, "above 0"),
        ({"value_scale": 20.0}, "overflow"),
    ],
)
def test_an_impossible_configuration_is_refused(wrong, words):
    with pytest.raises(SearchError, match=words):
        SearchConfig(**{"simulations": 8, "q_floor": 0.1} | wrong)


@pytest.mark.parametrize("codes", [1, 3])
def test_what_is_no_answer_is_refused(codes):
    world = random_world(np.random.default_rng(4), 6, 3, codes)
    config = SearchConfig(simulations=8, q_floor=0.1)
    with pytest.raises(SearchError, match="allows 0 actions"):
        search(world.root(range(6), np.zeros((6, 3), bool)), world, config)
    with pytest.raises(SearchError, match="mask of shape"):
        search(world.root(range(6), np.ones((6, 2), bool)), world, config)
    with pytest.raises(SearchError, match="gumbel"):
        search(world.root(range(6)), world, config, np.zeros((5, 3), np.float32))
    short = random_world(np.random.default_rng(4), 6, 3, codes)

    def outcome(after, code):
        latent, reward, *rest = world.outcome(after, code)
        return latent, reward[1:], *rest

    short.outcome = outcome
    with pytest.raises(SearchError, match="reward of the model has the shape"):
        search(world.root(range(6)), short, config)
    with pytest.raises(SearchError, match="5 rows of latents"):
        search(Root(world.logits, world.value, np.arange(5)), world, config)
    world.reward[:] = np.nan
    with pytest.raises(SearchError, match="diverged"):
        search(world.root(range(6)), world, config)
