"""What planning is worth where the best action is known."""

import numpy as np
import pytest
from tabular import random_world, windy_maze

from emp_gym.agents.muzero.search import SearchConfig, search

BANDITS = 1000


def bandits(random, actions, codes):
    """Each state a bandit that is over after one pull; values are exact."""
    world = random_world(random, BANDITS, actions, codes)
    world.discount[:] = 0
    q = world.q(world.value)
    policy = np.exp(world.logits) / np.exp(world.logits).sum(axis=1, keepdims=True)
    return world.knowing((policy * q).sum(axis=1)), q


@pytest.mark.parametrize(("actions", "codes", "simulations", "root_expansion"), [
    (8, 1, 8, False), (8, 1, 50, False), (8, 1, 1, True), (16, 1, 4, True), (2, 3, 4, True), (9, 12, 4, True), (9, 12, 16, True),
])  # fmt: skip
def test_the_policy_improves_in_every_bandit_where_all_actions_are_looked_at(actions, codes, simulations, root_expansion):
    random = np.random.default_rng(actions * simulations)
    world, q = bandits(random, actions, codes)
    config = SearchConfig(simulations=simulations, q_floor=1e-8, root_expansion=root_expansion)
    found = search(world.root(range(BANDITS)), world, config, random.gumbel(size=q.shape))
    gain = (found.weights * q).sum(axis=1) - world.value
    assert gain.min() > -1e-6
    assert gain.mean() > 0.3


@pytest.mark.parametrize(("actions", "simulations"), [(8, 2), (8, 4), (16, 4), (16, 8)])
def test_the_policy_improves_with_fewer_simulations_than_actions(actions, simulations):
    """Actions not looked at are given the mixed value, so that a single bandit may lose a little; in the mean none does."""
    random = np.random.default_rng(actions * simulations)
    world, q = bandits(random, actions, 1)
    config = SearchConfig(simulations=simulations, q_floor=1e-8, root_expansion=False)
    found = search(world.root(range(BANDITS)), world, config, random.gumbel(size=q.shape))
    gain = (found.weights * q).sum(axis=1) - world.value
    assert (gain > -1e-6).mean() >= 0.99
    assert gain.min() > -0.1
    assert gain.mean() > 0.3
    acted = q[np.arange(BANDITS), found.action] - world.value
    assert acted.mean() > 5 * acted.std() / np.sqrt(BANDITS), "and so does what is done"


def test_one_simulation_without_expansion_is_a_draw_from_the_prior():
    random = np.random.default_rng(0)
    world, q = bandits(random, 8, 1)
    config = SearchConfig(simulations=1, q_floor=1e-8, root_expansion=False)
    found = search(world.root(range(BANDITS)), world, config, random.gumbel(size=q.shape))
    gain = q[np.arange(BANDITS), found.action] - world.value
    assert abs(gain.mean()) < 3 * gain.std() / np.sqrt(BANDITS)


def mazes(gusts, noise=None):
    """Twenty mazes; values are those of moving at random, or the best with errors of so many steps."""
    random = np.random.default_rng(0)
    for _ in range(20):
        world = windy_maze(random, gusts)
        best = world.best_values()
        yield world if noise is None else world.knowing(best + random.normal(0, noise, len(best))), world.q(best)


def losses(worlds, **config):
    """What the action of every state of every world costs beside the best one, in steps."""
    found = []
    for world, q in worlds:
        states = np.arange(len(world.value))
        action = search(world.root(states), world, SearchConfig(q_floor=1e-8, **config)).action
        found.append(q.max(axis=1) - q[states, action])
    return np.concatenate(found)


@pytest.mark.parametrize("root_expansion", [False, True])
def test_64_simulations_find_the_action_of_value_iteration_in_a_steady_wind(root_expansion):
    lost = losses(mazes(gusts=False), simulations=64, root_expansion=root_expansion)
    assert (lost < 1e-9).mean() >= 0.99


@pytest.mark.parametrize("root_expansion", [False, True])
def test_64_simulations_lose_next_to_nothing_in_gusts(root_expansion):
    """In gusts many actions are nearly equal, and the mean over visits prefers the wrong one of those: the loss is what counts."""
    lost = losses(mazes(gusts=True), simulations=64, root_expansion=root_expansion)
    assert (lost < 1e-9).mean() >= 0.8
    assert lost.mean() < 0.03  # of a step


@pytest.mark.parametrize(("gusts", "root_expansion"), [(False, False), (True, False), (False, True), (True, True)])
def test_one_simulation_is_measurably_worse_than_sixteen(gusts, root_expansion):
    """Where the whole first ply is looked at, one simulation is nearly greedy on values with errors."""
    noise = 1.0 if root_expansion else None
    one, many = (
        losses(mazes(gusts, noise), simulations=n, root_expansion=root_expansion) for n in (1, 16)
    )
    gained = one - many
    assert gained.mean() > 4 * gained.std() / np.sqrt(len(gained))
    assert many.mean() < 0.7 * one.mean()
