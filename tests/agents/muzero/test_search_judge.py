"""The search against a slow one that is written from the rules: pointers, recursion, no arrays over nodes."""

import numpy as np
import pytest
from tabular import Tabular, random_world

from emp_gym.agents.muzero.search import SearchConfig, search


class State:
    def __init__(self, world, index, reward=0.0, discount=0.0):
        self.world, self.index, self.reward, self.discount = world, index, reward, discount
        self.visits = [0] * world.logits.shape[1]
        self.after = {}

    def value(self):
        """The model's value is one visit among the others."""
        worth = self.world.value[self.index] + sum(self.visits[a] * after.value() for a, after in self.after.items())
        return worth / (1 + sum(self.visits))

    def prior(self):
        e = np.exp(self.world.logits[self.index] - self.world.logits[self.index].max())
        return e / e.sum()

    def completed(self):
        known = list(self.after)
        q = {a: self.after[a].value() for a in known}
        mixed, n = self.world.value[self.index], sum(self.visits)
        if n:
            prior = self.prior()[known]
            mixed = (mixed + n * np.dot(prior, [q[a] for a in known]) / prior.sum()) / (1 + n)
        return np.array([q.get(a, mixed) for a in range(len(self.visits))])

    def sigma(self, config):
        q = self.completed()
        spread = max(q.max() - q.min(), config.q_floor)
        return (config.visit_offset + max(self.visits)) * config.value_scale * (q - q.min()) / spread

    def improved(self, config):
        x = self.world.logits[self.index] + self.sigma(config)
        e = np.exp(x - x.max())
        return e / e.sum()


class After:
    def __init__(self, world, state, action):
        self.world, self.state, self.action = world, state, action
        self.chance = world.chance[state, action] / world.chance[state, action].sum()
        self.visits = [0] * len(self.chance)
        self.outcome = {}

    def open(self, code):
        at = self.state, self.action, code
        self.outcome[code] = State(self.world, self.world.follows[at], self.world.reward[at], self.world.discount[at])

    def value(self):
        unknown = self.world.after_value[self.state, self.action]
        return sum(
            p * (o.reward + o.discount * o.value() if (o := self.outcome.get(c)) else unknown)
            for c, p in enumerate(self.chance)
        )


def halving(considered, simulations):
    """Rounds of visits: as many extra visits for each action still in as the budget of a round allows."""
    if considered == 1:
        return list(range(simulations))
    rounds, done, seq, left = int(np.ceil(np.log2(considered))), 0, [], considered
    while len(seq) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            seq += [done] * left
            done += 1
        left = max(2, left // 2)
    return seq[:simulations]


def judge(world, index, mask, gumbel, config):
    """(visits, weights, q, action) of one lane."""
    root, codes = State(world, index), world.chance.shape[2]
    allowed = np.flatnonzero(mask)
    if config.root_expansion:
        for a in allowed:
            root.after[a] = After(world, index, a)
            for c in range(codes):
                if root.after[a].chance[c] >= config.least_chance:
                    root.after[a].open(c)
    sequence = halving(min(config.max_considered, len(allowed)), config.simulations)
    for considered in sequence:
        state, path = root, []
        while True:
            if state is root:
                score = gumbel + world.logits[index] + root.sigma(config)
                a = max((a for a in allowed if root.visits[a] == considered), key=lambda a: score[a])
            else:
                share = np.array(state.visits) / (1 + sum(state.visits))
                a = int(np.argmax(state.improved(config) - share))
            path.append((state, a))
            if a not in state.after:
                state.after[a] = After(world, state.index, a)
                if codes > 1:
                    break
            after = state.after[a]
            c = int(np.argmax([p / (n + 1) for p, n in zip(after.chance, after.visits)]))
            path.append((after, c))
            if c not in after.outcome:
                after.open(c)
                break
            state = after.outcome[c]
        for node, choice in path:
            node.visits[choice] += 1
    x = np.where(mask, world.logits[index] + root.sigma(config), -np.inf)
    weights = np.exp(x - x.max())
    most = [a for a in allowed if root.visits[a] == max(root.visits)]
    return np.array(root.visits), weights / weights.sum(), root.completed(), max(most, key=lambda a: gumbel[a] + x[a])


@pytest.mark.parametrize("expansion", [{"root_expansion": False}, {}, {"least_chance": 0.15}])
@pytest.mark.parametrize(
    ("actions", "codes", "simulations", "considered"),
    [(4, 3, 30, 16), (9, 12, 16, 16), (5, 2, 60, 3), (3, 5, 50, 16), (6, 1, 25, 4), (1, 4, 20, 16), (7, 3, 4, 16)],
)
def test_every_lane_is_as_the_judge_says(actions, codes, simulations, considered, expansion):
    random = np.random.default_rng([actions, codes, simulations])
    world = random_world(random, 15, actions, codes)
    lanes = 6
    states = random.integers(0, 15, lanes)
    mask = random.random((lanes, actions)) < 0.8
    mask[:, 0] |= ~mask.any(axis=1)
    gumbel = random.gumbel(size=(lanes, actions))
    config = SearchConfig(simulations=simulations, q_floor=0.1, max_considered=considered, **expansion)
    single = Tabular(**{k: v.astype(np.float32) if v.dtype == float else v for k, v in vars(world).items()})
    found = search(single.root(states, mask), single, config, gumbel)
    for lane in range(lanes):
        visits, weights, q, action = judge(single, states[lane], mask[lane], gumbel[lane], config)
        np.testing.assert_array_equal(found.visits[lane], visits)
        assert found.action[lane] == action
        np.testing.assert_allclose(found.weights[lane], weights, atol=1e-5)
        np.testing.assert_allclose(found.q[lane], q, atol=1e-5)
        np.testing.assert_allclose(found.value[lane], np.dot(weights, q), atol=1e-5)


def test_an_expanded_root_knows_the_whole_expectation_before_the_first_simulation():
    world = random_world(np.random.default_rng(1), 30, 9, 12)
    found = search(world.root(range(30)), world, SearchConfig(simulations=0, q_floor=1e-8))
    np.testing.assert_allclose(found.q, world.q(world.value), atol=1e-5)
    assert found.visits.sum() == 0
    assert (found.action == (found.weights).argmax(axis=1)).all()
