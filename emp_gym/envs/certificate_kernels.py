"""One step of each certificate, batched over lanes: plain functions over flat arrays.

Randomness is counted, not drawn: number `j` of step `t` is a hash of (episode key, t, j), so that two policies that meet
the same episode meet the same noise whatever they do (common random numbers).
"""

from __future__ import annotations

import math

import numpy as np

from emp_gym.jit import njit

STATE = np.dtype(
    [
        ("key", "u8"),  # of the episode's randomness
        ("episode", "i8"),  # number of the episode, pinned or counted
        ("step", "i8"),  # decisions taken
        ("length", "i8"),  # decisions after which the episode is over or cut
        ("x", "f8"),  # what is held: share of the parent left, inventory, position, state of a table
        ("y", "f8"),  # what else moves: displacement of the book, factor
        ("move", "f8"),  # last move of the price, in its deviations
        ("wealth", "f8"),  # what the market paid so far, risk aside, in the problem's unit
        ("certain", "f8"),  # CARA: wealth whose mean-zero noise has been exchanged for its certainty equivalent
        ("total", "f8"),  # sum of rewards
        ("value", "f8"),  # the same with mean-zero noise integrated out: an unbiased estimate of less variance
        ("turnover", "f8"),  # traded, in the unit of x
        ("cost", "f8"),  # paid for trading, in the problem's unit
        ("largest", "f8"),  # largest |x|
        ("held", "f8"),  # sum of |x| after each decision
    ]
)

ALMGREN_CHRISS, OBIZHAEVA_WANG, QUOTING, TRACKING = range(4)
ARRIVAL, POISSON, LINEAR = range(3)


@njit(inline="always")
def mix(z):
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def uniform(key, step, number):
    """In [0, 1): `number` 0..7 of decision `step`."""
    count = np.uint64(step * 8 + number + 1)
    return np.float64(mix(key + count * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) * 1.1102230246251565e-16


@njit(inline="always")
def normal(key, step, number):
    """Standard normal from numbers `number` and `number + 1` (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, step, number)))
    return radius * math.cos(2.0 * math.pi * uniform(key, step, number + 1))


@njit
def chances(state, out):
    """A number in [0, 1) [N] for each lane's next decision, for policies that mix actions: apart from the market's own."""
    for i in range(len(state)):
        out[i] = uniform(state[i]["key"], state[i]["step"], 6)


@njit
def begin(lanes, random, pinned, salt, stagger, steps, state):
    """New episodes: `pinned` [n] gives their number (and with it their noise), -1 counts on from the lane's stream."""
    for j in range(len(lanes)):
        i = lanes[j]
        s = state[i]
        number = s["episode"] + 1
        key = mix(random[i] + np.uint64(number) * np.uint64(0xD1342543DE82EF95))
        if pinned[j] >= 0:
            number = pinned[j]
            key = mix(salt + np.uint64(number))
        s["key"], s["episode"], s["step"] = key, number, 0
        s["length"] = steps
        if stagger:
            s["length"] = 1 + np.int64(uniform(key, steps, 7) * steps)
        s["x"] = s["y"] = s["move"] = 0.0
        s["wealth"] = s["certain"] = s["total"] = s["value"] = s["turnover"] = s["cost"] = s["largest"] = s["held"] = (
            0.0
        )


@njit
def begin_control(lanes, kind, p, state):
    """What an analytic problem starts from."""
    for i in lanes:
        if kind <= OBIZHAEVA_WANG:
            state[i]["x"] = 1.0
        elif kind == TRACKING:
            state[i]["y"] = p[5] * normal(state[i]["key"], 1 << 20, 0)


@njit
def begin_table(lanes, start, state):
    """The first state of a table: `start` [S] are running sums of probabilities."""
    for i in lanes:
        state[i]["x"] = np.searchsorted(start, uniform(state[i]["key"], 1 << 20, 0), side="right")


@njit(inline="always")
def _note(s, reward, expected, traded, cost):
    """Sums of an episode after a decision."""
    s["total"] += reward
    s["value"] += expected
    s["turnover"] += traded
    s["cost"] += cost
    s["step"] += 1


@njit(inline="always")
def _note_held(s):
    s["largest"] = max(s["largest"], abs(s["x"]))
    s["held"] += abs(s["x"])


@njit
def step_control(kind, actions, active, p, state, rewards):
    """Moves the active lanes of an analytic problem; `actions` f4 [N, A] in [-1, 1], `p` its parameters."""
    for i in range(len(state)):
        rewards[i] = 0.0
        if not active[i]:
            continue
        if kind == ALMGREN_CHRISS:
            rewards[i] = _almgren_chriss(state[i], actions[i, 0], p)
        elif kind == OBIZHAEVA_WANG:
            rewards[i] = _obizhaeva_wang(state[i], actions[i, 0], p)
        elif kind == QUOTING:
            rewards[i] = _quote(state[i], actions[i, 0], actions[i, 1], p)
        else:
            rewards[i] = _track(state[i], actions[i, 0], p)
        _note_held(state[i])


@njit
def _almgren_chriss(s, action, p):
    """p: steps, shares, half-spread, permanent, temporary / tau, risk aversion tau sigma^2, sigma sqrt(tau), basis points."""
    share = 1.0 if s["step"] + 1 >= p[0] else 0.5 * (np.float64(action) + 1.0)
    sold = share * s["x"] * p[1]
    s["x"] -= share * s["x"]
    left = s["x"] * p[1]
    s["move"] = normal(s["key"], s["step"], 0)
    cost = p[3] * sold * left + sold * (p[2] + p[4] * sold)
    risk = p[5] * left * left
    noise = p[6] * s["move"] * left
    s["wealth"] += (noise - cost) * p[7]
    reward = (noise - cost - risk) * p[7]
    _note(s, reward, -(cost + risk) * p[7], sold, cost * p[7])
    return reward


@njit
def _obizhaeva_wang(s, action, p):
    """p: steps, shares, depth, decay a step, sigma sqrt(dt), basis points. y: displacement of the book, currency."""
    share = 1.0 if s["step"] + 1 >= p[0] else 0.5 * (np.float64(action) + 1.0)
    sold = share * s["x"] * p[1]
    s["x"] -= share * s["x"]
    s["move"] = normal(s["key"], s["step"], 0)
    cost = sold * (s["y"] + 0.5 * sold / p[2])
    s["y"] = p[3] * (s["y"] + sold / p[2])
    reward = (p[4] * s["move"] * s["x"] * p[1] - cost) * p[5]
    s["wealth"] += reward
    _note(s, reward, -cost * p[5], sold, cost * p[5])
    return reward


@njit(inline="always")
def _filled(offset, p):
    """Probability that a quote `offset` from the mid is filled in one step; p as in `_quote`."""
    if p[4] == ARRIVAL:
        return (1.0 - math.exp(-p[2] * p[1])) * math.exp(-p[3] * offset)
    if p[4] == POISSON:
        return 1.0 - math.exp(-p[2] * math.exp(-p[3] * offset) * p[1])
    return min(p[2] * math.exp(-p[3] * offset) * p[1], 1.0)


@njit
def _quote(s, bid, ask, p):
    """p: steps, dt, arrival, decay, fills, largest offset, largest inventory, running penalty dt, terminal penalty,
    CARA risk aversion (0: none), sigma sqrt(dt), whether the walk is binomial, whether rewards are increments of the certainty
    equivalent instead of utility. x: inventory."""
    below, above = 0.5 * (np.float64(bid) + 1.0) * p[5], 0.5 * (np.float64(ask) + 1.0) * p[5]
    buys = 0.0 if s["x"] >= p[6] else _filled(below, p)
    sells = 0.0 if s["x"] <= -p[6] else _filled(above, p)
    bought, sold = uniform(s["key"], s["step"], 2) < buys, uniform(s["key"], s["step"], 3) < sells
    if p[11] > 0.0:
        s["move"] = 1.0 if uniform(s["key"], s["step"], 0) < 0.5 else -1.0
    else:
        s["move"] = normal(s["key"], s["step"], 0)
    before, earned = s["x"], below * bought + above * sold
    s["x"] += np.float64(bought) - np.float64(sold)
    moved = s["x"] * p[10] * s["move"]
    gained = earned + moved
    last = s["step"] + 1 >= p[0]
    traded = np.float64(bought) + np.float64(sold)
    if p[9] > 0.0:
        gamma = p[9]
        risk = abs(gamma * s["x"] * p[10])
        if p[11] > 0.0:
            lost = (risk + math.log1p(math.exp(-2.0 * risk)) - math.log(2.0)) / gamma  # ln cosh
        else:
            lost = 0.5 * risk * risk / gamma
        reward = math.exp(-gamma * s["wealth"]) * -math.expm1(-gamma * gained) / gamma
        expected = math.exp(-gamma * s["certain"]) * -math.expm1(-gamma * (earned - lost)) / gamma
        s["certain"] += earned - lost
        if p[12] > 0.0:
            reward = earned - lost
    else:
        end = p[8] if last else 0.0
        penalty = p[7] * before * before
        reward = gained - penalty - end * s["x"] * s["x"]
        square = before * before + (buys - sells) * 2.0 * before + buys + sells - 2.0 * buys * sells
        expected = below * buys + above * sells - penalty - end * square
    s["wealth"] += gained
    _note(s, reward, expected, traded, 0.0)
    return reward


@njit
def _track(s, action, p):
    """p: steps, limit, risk aversion variance / 2, Lambda / 2, 1 - rho, deviation of the first factor, loading, 1 - reversion,
    factor noise, deviation of returns. x: position, y: factor."""
    target = np.float64(action) * p[1]
    traded = target - s["x"]
    s["x"] = target
    now, later = p[4] ** s["step"], p[4] ** (s["step"] + 1)
    s["move"] = normal(s["key"], s["step"], 0)
    drift = p[6] * s["y"]
    cost = now * p[3] * traded * traded
    expected = later * (s["x"] * drift - p[2] * s["x"] * s["x"]) - cost
    noise = later * s["x"] * p[9] * s["move"]
    s["wealth"] += later * s["x"] * drift + noise - cost
    s["y"] = p[7] * s["y"] + p[8] * normal(s["key"], s["step"], 2)
    _note(s, expected + noise, expected, abs(traded), cost)
    return expected + noise


@njit
def step_table(actions, active, running, reward, expected, turnover, cost, state, rewards):
    """Moves the active lanes of a table: `running` [A, S, S] are running sums of the transition probabilities, `reward`
    [A, S, S], `expected`, `turnover`, `cost` [A, S]. x: number of the state."""
    for i in range(len(state)):
        rewards[i] = 0.0
        if not active[i]:
            continue
        s = state[i]
        a, here = actions[i], np.int64(s["x"])
        after = np.searchsorted(running[a, here], uniform(s["key"], s["step"], 0), side="right")
        gained = reward[a, here, after]
        s["wealth"] += gained
        _note(s, gained, expected[a, here], turnover[a, here], cost[a, here])
        s["x"] = np.float64(after)
        rewards[i] = gained


@njit
def observe_control(lanes, kind, p, limit, steps, state, out, clipped):
    """Elapsed time, what is held, and what else may be known, all of the order of 1."""
    for i in lanes:
        s = state[i]
        out[i, 0] = s["step"] / steps
        if kind == ALMGREN_CHRISS:
            out[i, 1] = s["x"]
            out[i, 2] = _clip(s["move"] / 4.0, clipped, i)
        elif kind == OBIZHAEVA_WANG:
            out[i, 1] = s["x"]
            out[i, 2] = _clip(s["y"] / limit, clipped, i)
            out[i, 3] = _clip(s["move"] / 4.0, clipped, i)
        elif kind == QUOTING:
            out[i, 1] = s["x"] / limit
            out[i, 2] = steps / (steps + 10.0 * (steps - s["step"]))
        else:
            out[i, 1] = s["x"] / limit
            out[i, 2] = _clip(s["y"] / p[5] / 4.0, clipped, i)


@njit(inline="always")
def _clip(value, clipped, i):
    if value > 2.0 or value < -2.0:
        clipped[i] += 1
        return min(max(value, -2.0), 2.0)
    return value


@njit
def observe_table(lanes, table, steps, state, out):
    """Elapsed time and the features of the state, `table` f4 [S, D - 1]."""
    for i in lanes:
        out[i, 0] = state[i]["step"] / steps
        out[i, 1:] = table[np.int64(state[i]["x"])]
