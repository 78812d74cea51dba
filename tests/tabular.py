"""Small worlds in tables, exact models of themselves for a planner: S states, A actions, C codes of chance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emp_gym.agents.muzero.search import Root


@dataclass
class Tabular:
    """A world as tables. Latents are numbers of states, afterstates are ``state * A + action``."""

    logits: np.ndarray  # [S, A]
    value: np.ndarray  # [S]
    chance: np.ndarray  # [S, A, C]
    reward: np.ndarray  # [S, A, C]
    discount: np.ndarray  # [S, A, C]
    follows: np.ndarray  # [S, A, C]
    after_value: np.ndarray  # [S, A]

    @property
    def codes(self) -> int:
        return self.chance.shape[2]

    def afterstate(self, latent, action):
        return latent * self.logits.shape[1] + action, self.after_value[latent, action], self.chance[latent, action]

    def outcome(self, after, code):
        at = (*np.divmod(after, self.logits.shape[1]), code)
        state = self.follows[at]
        return state, self.reward[at], self.discount[at], self.logits[state], self.value[state]

    def root(self, states, mask=None) -> Root:
        states = np.asarray(states)
        return Root(self.logits[states], self.value[states], states, mask)

    def knowing(self, value) -> Tabular:
        """The same world with other values of states, and of afterstates as follows from them."""
        return replace(self, value=value, after_value=self.q(value))

    def q(self, value) -> np.ndarray:
        """Expected reward and discounted `value` of every action, [S, A]."""
        return (self.chance * (self.reward + self.discount * value[self.follows])).sum(axis=2)

    def best_values(self) -> np.ndarray:
        """Value iteration, to 1e-12."""
        value = np.zeros(len(self.value))
        while True:
            better = self.q(value).max(axis=1)
            if np.abs(better - value).max() < 1e-12:
                return better
            value = better

    def values_of(self, policy) -> np.ndarray:
        """Of a policy [S, A], to 1e-12."""
        value = np.zeros(len(self.value))
        while True:
            after = (policy * self.q(value)).sum(axis=1)
            if np.abs(after - value).max() < 1e-12:
                return after
            value = after


def random_world(random, states, actions, codes) -> Tabular:
    """Everything drawn at random; values and values of afterstates are not those of the world."""
    size = (states, actions, codes)
    return Tabular(
        logits=random.normal(0, 1.5, (states, actions)),
        value=random.normal(0, 1, states),
        chance=random.dirichlet(np.full(codes, 0.8), (states, actions)),
        reward=random.normal(0, 1, size),
        discount=np.where(random.random(size) < 0.1, 0.0, random.uniform(0.9, 1.0, size)),
        follows=random.integers(0, states, size),
        after_value=random.normal(0, 1, (states, actions)),
    )


MAZE = """
. . # . . . # . .
. . # . # . # . .
. . # . # . # . .
. . . . # . . . G
"""


def windy_maze(random, gusts, discount=0.97) -> Tabular:
    """A maze to cross to a goal G that ends it, in winds that are drawn at random, one for a column.

    Four moves (right, left, up, down), then the wind: in gusts (three codes: calm, a cell up, a cell down) or always the same
    (one code). At a wall # and at the edge one stays. A step costs 1. Logits are 0, so that the prior knows nothing; values
    are those of moving at random.
    """
    cells = [line.split() for line in reversed(MAZE.strip().splitlines())]  # row 0 is the lowest
    free = [(x, y) for y, line in enumerate(cells) for x, cell in enumerate(line) if cell != "#"]
    number = {cell: i for i, cell in enumerate(free)}
    strength, steady = random.uniform(0, 0.4, len(cells[0])), random.choice(3, len(cells[0]), p=(0.6, 0.3, 0.1))
    size = (len(free), 4, 3 if gusts else 1)
    world = Tabular(
        logits=np.zeros(size[:2]), value=np.zeros(size[0]), chance=np.ones(size), reward=np.full(size, -1.0),
        discount=np.full(size, discount), follows=np.zeros(size, np.int64), after_value=np.zeros(size[:2]),
    )  # fmt: skip
    for state, (x, y) in enumerate(free):
        if gusts:
            world.chance[state] = 1 - strength[x], 0.7 * strength[x], 0.3 * strength[x]
        for a, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            for c, gust in enumerate((0, 1, -1) if gusts else ((0, 1, -1)[steady[x]],)):
                to = (x + dx, y + dy) if (x + dx, y + dy) in number else (x, y)
                to = (to[0], to[1] + gust) if (to[0], to[1] + gust) in number else to
                world.follows[state, a, c] = number[to]
                world.discount[state, a, c] = 0.0 if cells[to[1]][to[0]] == "G" else discount
    return world.knowing(world.values_of(np.full(size[:2], 0.25)))
