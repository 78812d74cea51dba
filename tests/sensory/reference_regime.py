"""A slow, plain labeller of regimes: all samples of a day in lists, every mean summed anew from its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from emp_gym.sensory.regime import RegimeConfig
from emp_gym.types import Condition, Regime, TrendState

Quote = tuple[int, int, int, int]  # time_ns, mid2, spread (0: not to be sampled), depth


def samples(quotes: Sequence[Quote], grid_ns: int, now_ns: int) -> list[Quote]:
    """What the ticks before `now_ns` saw: the last quote at or before each, where it may be sampled."""
    found, i = [], 0
    tick = -(-quotes[0][0] // grid_ns) * grid_ns
    while tick < now_ns:
        while i + 1 < len(quotes) and quotes[i + 1][0] <= tick:
            i += 1
        if quotes[i][2] > 0 and quotes[i][3] > 0:
            found.append(quotes[i])
        tick += grid_ns
    return found


def mean(values: Sequence[float], half_life: float) -> float:
    """Exponential mean, its first values weighing as in a plain mean: a value's weight is its share on coming, and what
    later ones left of it."""
    count = len(values)
    share = np.maximum(1 / np.arange(1, count + 1), 1 - 0.5 ** (1 / half_life))
    left = np.append(np.cumprod((1 - share[1:])[::-1])[::-1], 1.0)
    return float(np.sum(share * left * np.asarray(values)))


def log_ratio(value: float, usual: float) -> float:
    return min(max(math.log(value / usual) if value > 0 else -9.0, -math.log(4)), math.log(4)) if usual > 0 else 0.0


def label_of_samples(seen: Sequence[Quote], config: RegimeConfig) -> list[Regime]:
    """The label after each sample."""
    grid = config.grid_ns
    fast, book, slow = (
        x / grid for x in (config.move_half_life_ns, config.book_half_life_ns, config.reference_half_life_ns)
    )
    warm, dwell = math.ceil(config.warm_ns / grid), math.ceil(config.dwell_ns / grid)
    condition, trend, turned = Condition.NORMAL, TrendState.FLAT, {"condition": -math.inf, "trend": -math.inf}
    labels = []
    for n in range(1, len(seen) + 1):
        if n > warm:
            moves = [float(b[1] - a[1]) for a, b in pairwise(seen[:n])]
            sizes, spreads, depths = [abs(r) for r in moves], [q[2] for q in seen[:n]], [q[3] for q in seen[:n]]
            stress = config.volatility_weight * log_ratio(mean(sizes, fast), mean(sizes, slow))
            stress += config.spread_weight * log_ratio(mean(spreads, book), mean(spreads, slow))
            stress -= config.depth_weight * log_ratio(mean(depths, book), mean(depths, slow))
            gain = 1 - 0.5 ** (1 / fast)
            noise = mean([r * r for r in moves], fast) * gain / (2 - gain)
            t = mean(moves, fast) / math.sqrt(noise) if noise > 0 else 0.0
            new = next_condition(condition, stress, config)
            if new != condition and n - turned["condition"] >= dwell:
                condition, turned["condition"] = new, n
            way = next_trend(trend, t, config)
            if way != trend and n - turned["trend"] >= dwell:
                trend, turned["trend"] = way, n
        labels.append(Regime(3 * condition + trend))
    return labels


def next_condition(now: Condition, stress: float, config: RegimeConfig) -> Condition:
    if stress > config.stressed - (config.hysteresis if now == Condition.STRESSED else 0):
        return Condition.STRESSED
    if stress < config.calm + (config.hysteresis if now == Condition.CALM else 0):
        return Condition.CALM
    return Condition.NORMAL


def next_trend(now: TrendState, t: float, config: RegimeConfig) -> TrendState:
    if t > (config.trend_left if now == TrendState.UP else config.trend):
        return TrendState.UP
    if t < -(config.trend_left if now == TrendState.DOWN else config.trend):
        return TrendState.DOWN
    return TrendState.FLAT


def labels(quotes: Sequence[Quote], config: RegimeConfig, at: Sequence[int]) -> list[Regime]:
    """The label at each quote of `at`."""
    found = [Regime.NORMAL_FLAT, *label_of_samples(samples(quotes, config.grid_ns, quotes[-1][0]), config)]
    return [found[len(samples(quotes[: i + 1], config.grid_ns, quotes[i][0]))] for i in at]
