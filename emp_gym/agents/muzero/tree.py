"""The trees of all lanes in flat arrays, and the kernels that walk, grow and settle them.

Letters: B lanes, N states and K afterstates of a lane, A actions, C codes. Node 0 is the root. Latents are not here: a node
knows the row in which the model's own arrays hold its latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from emp_gym.agents.muzero.gumbel import NONE, TINY, choose_considered, choose_inside, complete, improve, sigma
from emp_gym.jit import hot, njit


class SearchTree(NamedTuple):
    """Arrays, of which only the nodes in use hold anything."""

    used: Any  # i4[B, 2]  states and afterstates in use
    # states
    row: Any  # i8[B, N]  of its latent
    raw: Any  # f8[B, N]  the model's value
    value: Any  # f8[B, N]  mean of raw and of what the visits found
    reward: Any  # f8[B, N]  on the way in
    discount: Any  # f8[B, N]  of `value`, on the way in
    cause: Any  # i4[B, N, 2]  (afterstate, code) before it
    prior: Any  # f8[B, N, A]  softmax of the model's logits
    child: Any  # i4[B, N, A]  afterstate, or NONE
    visits: Any  # i4[B, N, A]
    q: Any  # f8[B, N, A]
    # afterstates
    after_row: Any  # i8[B, K]
    decision: Any  # i4[B, K, 2]  (state, action) before it
    chance: Any  # f8[B, K, C]  probabilities
    outcome: Any  # i4[B, K, C]  state, or NONE
    outcome_visits: Any  # i4[B, K, C]
    outcome_q: Any  # f8[B, K, C]  reward + discount * value of the outcome; the model's value of the afterstate before it
    work: Any  # f8[A]


class Halving(NamedTuple):
    """What the root's choice needs beside the tree."""

    table: Any  # i4[m + 1, simulations]
    considered: Any  # i8[B]  actions considered at first: row of the table
    logits: Any  # f8[B, A]  the largest allowed one is 0
    score: Any  # f8[B, A]  gumbel + logit
    mask: Any  # b1[B, A]  True: allowed


class Leaves(NamedTuple):
    """Nodes about to be made: i8[M] each. What the model is asked is `edge` at the latent in `row`."""

    lane: Any
    node: Any
    edge: Any  # action or code
    row: Any

    @staticmethod
    def empty(count: int) -> Leaves:
        return Leaves(*np.empty((4, count), np.int64))

    def part(self, begin: int, end: int) -> Leaves:
        return Leaves(*(array[begin:end] for array in self))

    def blocks(self, rows: int) -> Iterator[Leaves]:
        """All of them, at most so many at a time."""
        for begin in range(0, len(self.lane), rows):
            yield self.part(begin, begin + rows)


def plant(lanes: int, states: int, afterstates: int, actions: int, codes: int) -> SearchTree:
    """Trees without a node, with room for so many of each kind."""
    used = np.zeros((lanes, 2), np.int32)
    used[:, 0] = 1
    state, after = (lanes, states), (lanes, afterstates)
    row, after_row = np.empty(state, np.int64), np.empty(after, np.int64)
    raw, value, reward, discount = (np.empty(state) for _ in range(4))
    prior, q = np.empty((*state, actions)), np.empty((*state, actions))
    child, visits = np.empty((*state, actions), np.int32), np.empty((*state, actions), np.int32)
    chance, outcome_q = np.empty((*after, codes)), np.empty((*after, codes))
    outcome, outcome_visits = np.empty((*after, codes), np.int32), np.empty((*after, codes), np.int32)
    cause, decision = np.empty((*state, 2), np.int32), np.empty((*after, 2), np.int32)
    return SearchTree(
        used, row, raw, value, reward, discount, cause, prior, child, visits, q,
        after_row, decision, chance, outcome, outcome_visits, outcome_q, np.empty(actions),
    )  # fmt: skip


@hot
def _open_afterstate(tree, b, state, action, leaves, i):
    """A new afterstate behind (state, action), its question to the model in leaf i."""
    node = tree.used[b, 1]
    tree.used[b, 1] += 1
    tree.child[b, state, action] = node
    tree.decision[b, node, 0], tree.decision[b, node, 1] = state, action
    leaves.lane[i], leaves.node[i], leaves.edge[i], leaves.row[i] = b, node, action, tree.row[b, state]


@hot
def _open_state(tree, b, after, code, leaves, i):
    """A new state behind (afterstate, code), its question to the model in leaf i."""
    node = tree.used[b, 0]
    tree.used[b, 0] += 1
    tree.outcome[b, after, code] = node
    tree.cause[b, node, 0], tree.cause[b, node, 1] = after, code
    leaves.lane[i], leaves.node[i], leaves.edge[i], leaves.row[i] = b, node, code, tree.after_row[b, after]


@hot
def _choose_root(tree, b, halving, scale):
    visits, work = tree.visits[b, 0], tree.work
    most = complete(tree.prior[b, 0], tree.child[b, 0], visits, tree.q[b, 0], tree.raw[b, 0], work)
    sigma(work, most, scale)
    simulation = 0
    for a in range(len(visits)):
        simulation += visits[a]
    considered = halving.table[halving.considered[b], simulation]
    return choose_considered(considered, halving.score[b], halving.mask[b], visits, work)


@hot
def _choose_code(chance, visits):
    best, highest = 0, -1.0
    for c in range(len(chance)):
        score = chance[c] / (visits[c] + 1)
        if score > highest:
            best, highest = c, score
    return best


@njit
def walk(tree, halving, scale, leaves):
    """One walk in every lane, to the first node that is not there: new afterstates come first in `leaves` [B], new states
    last. Returns how many afterstates."""
    early, late = 0, len(tree.used)
    for b in range(len(tree.used)):
        state = 0
        while True:
            if state == 0:
                a = _choose_root(tree, b, halving, scale)
            else:
                a = choose_inside(
                    tree.prior[b, state], tree.child[b, state], tree.visits[b, state], tree.q[b, state], tree.raw[b, state],
                    scale, tree.work,
                )  # fmt: skip
            after = tree.child[b, state, a]
            if after == NONE:
                _open_afterstate(tree, b, state, a, leaves, early)
                early += 1
                break
            code = _choose_code(tree.chance[b, after], tree.outcome_visits[b, after])
            state = tree.outcome[b, after, code]
            if state == NONE:
                late -= 1
                _open_state(tree, b, after, code, leaves, late)
                break
    return early


@njit
def open_actions(tree, mask, leaves):
    """New afterstates behind every allowed action of every root."""
    i = 0
    for b in range(len(mask)):
        for a in range(mask.shape[1]):
            if mask[b, a]:
                _open_afterstate(tree, b, 0, a, leaves, i)
                i += 1


@njit
def open_outcomes(tree, afterstates, least, leaves):
    """New states behind every code of these afterstates that has at least this probability. Returns how many."""
    count = 0
    for i in range(len(afterstates.lane)):
        b, node = afterstates.lane[i], afterstates.node[i]
        for c in range(tree.chance.shape[2]):
            if tree.chance[b, node, c] >= least:
                _open_state(tree, b, node, c, leaves, count)
                count += 1
    return count


@njit
def fill_afterstates(tree, leaves, first_row, value, chance):
    """What the model answered: value [M], chance [M, C]; latents lie in rows from `first_row` on."""
    for i in range(len(leaves.lane)):
        b, node = leaves.lane[i], leaves.node[i]
        tree.after_row[b, node] = first_row + i
        for c in range(chance.shape[1]):
            tree.chance[b, node, c] = chance[i, c]
            tree.outcome[b, node, c] = NONE
            tree.outcome_visits[b, node, c] = 0
            tree.outcome_q[b, node, c] = value[i]


@njit
def fill_states(tree, leaves, first_row, reward, discount, logits, value):
    """What the model answered: reward, discount, value [M], logits [M, A]; latents lie in rows from `first_row` on."""
    for i in range(len(leaves.lane)):
        b, node = leaves.lane[i], leaves.node[i]
        tree.row[b, node] = first_row + i
        tree.reward[b, node], tree.discount[b, node] = reward[i], discount[i]
        tree.raw[b, node] = tree.value[b, node] = value[i]
        peak, total = -np.inf, 0.0
        for a in range(logits.shape[1]):
            peak = max(peak, logits[i, a])
        for a in range(logits.shape[1]):
            tree.prior[b, node, a] = np.exp(np.float64(logits[i, a]) - peak)
            total += tree.prior[b, node, a]
        for a in range(logits.shape[1]):
            tree.prior[b, node, a] = max(TINY, tree.prior[b, node, a] / total)
            tree.child[b, node, a] = NONE
            tree.visits[b, node, a] = 0
            tree.q[b, node, a] = 0.0


@hot
def _expect(chance, outcome_q):
    """An afterstate's value: the expectation over codes."""
    total = 0.0
    for c in range(len(chance)):
        total += chance[c] * outcome_q[c]
    return total


@hot
def _judge_outcome(tree, b, node):
    """What the way into a state and the state are worth, told to the afterstate before it; returns that."""
    after, code = tree.cause[b, node, 0], tree.cause[b, node, 1]
    tree.outcome_q[b, after, code] = tree.reward[b, node] + tree.discount[b, node] * tree.value[b, node]
    return after, code


@hot
def _climb(tree, b, after):
    """Counts a visit of the afterstate and of all before it, and settles their values."""
    while True:
        state, action = tree.decision[b, after, 0], tree.decision[b, after, 1]
        visits, q = tree.visits[b, state], tree.q[b, state]
        visits[action] += 1
        q[action] = _expect(tree.chance[b, after], tree.outcome_q[b, after])
        count, total = 1, tree.raw[b, state]
        for a in range(len(q)):
            count += visits[a]
            total += visits[a] * q[a]
        tree.value[b, state] = total / count
        if state == 0:
            return
        after, code = _judge_outcome(tree, b, state)
        tree.outcome_visits[b, after, code] += 1


@njit
def back_up_afterstates(tree, leaves):
    """Carries what was found at new afterstates to the root."""
    for i in range(len(leaves.lane)):
        _climb(tree, leaves.lane[i], leaves.node[i])


@njit
def back_up_states(tree, leaves):
    """Carries what was found at new states to the root."""
    for i in range(len(leaves.lane)):
        b = leaves.lane[i]
        after, code = _judge_outcome(tree, b, leaves.node[i])
        tree.outcome_visits[b, after, code] += 1
        _climb(tree, b, after)


@njit
def settle_root(tree, states):
    """The root's q after all outcomes of its actions were evaluated, none of which counts as a visit."""
    for i in range(len(states.lane)):
        _judge_outcome(tree, states.lane[i], states.node[i])
    for b in range(len(tree.used)):
        for a in range(tree.q.shape[2]):
            after = tree.child[b, 0, a]
            if after != NONE:
                tree.q[b, 0, a] = _expect(tree.chance[b, after], tree.outcome_q[b, after])


@njit
def conclude(tree, halving, scale, action, weights, q, value):
    """Fills the result: action i8[B], weights f4[B, A], q f4[B, A], value f4[B]."""
    work = tree.work
    for b in range(len(action)):
        visits = tree.visits[b, 0]
        most = complete(tree.prior[b, 0], tree.child[b, 0], visits, tree.q[b, 0], tree.raw[b, 0], work)
        for a in range(len(work)):
            q[b, a] = work[a]
        sigma(work, most, scale)
        action[b] = choose_considered(most, halving.score[b], halving.mask[b], visits, work)
        improve(halving.logits[b], halving.mask[b], work, weights[b])
        worth = 0.0
        for a in range(len(work)):
            worth += weights[b, a] * q[b, a]
        value[b] = worth
