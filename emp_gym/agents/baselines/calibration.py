"""Numbers that baselines need of a market, measured on training days: volatility, fill intensity, impact, volume.

Everything is in ticks, clips (the environment's `order_quantity`) and decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from emp_gym.agents.base import Arrays, BaseAgent, Callback
from emp_gym.types import F32, F64, ConfigError, DataError, MakeEnv


class Calibrated(BaseAgent):
    """A baseline that needs numbers of the market: given as parameters, or measured by `learn` on training days.

    It does not act before it has them: a subclass says in `missing` what it lacks, and calls `ready` in `act`.
    """

    learns_first = True  # whoever builds such an agent lets it learn, or load, before it acts
    config: Any

    def missing(self) -> list[str]:
        """Names of the parameters that are neither given nor measured."""
        raise NotImplementedError(f"{type(self).__name__} must define missing()")

    def ready(self) -> None:
        """Raises `ConfigError` while a number is missing."""
        lacks = self.missing()
        if lacks:
            raise ConfigError(
                f"{type(self).__name__} has not been calibrated: {', '.join(lacks)} unknown; let it learn on training "
                f"days first (train.py --agent NAME, then evaluate.py --run), or give {lacks[0]} as a parameter"
            )


class Step(NamedTuple):
    """One decision of all lanes of a training environment."""

    before: F32  # observation [N, D] that was acted on
    action: np.ndarray  # [N, ...]
    after: F32  # observation [N, D] that followed; of a new episode where `done`
    done: np.ndarray  # bool [N]
    info: dict[str, Any]


def training_steps(
    agent: BaseAgent, make_env: MakeEnv, total_timesteps: int, callback: Callback | None,
    act: Callable[[F32, Any], np.ndarray], **keywords: Any,
) -> Iterator[Step]:  # fmt: skip
    """Steps of the training days under ``act(observation, mask)``, in ``config.lanes`` lanes, until ``config.steps``
    decisions (at most `total_timesteps`) have been seen in all, or the callback asks to stop."""
    env = make_env(num_envs=agent.config.lanes, **keywords)
    lanes = env.num_envs
    before, info = env.reset(seed=agent.seed)
    for step in range(max(1, min(agent.config.steps, total_timesteps) // lanes)):
        action = act(before, info.get("action_mask"))
        after, _, terminated, truncated, info = env.step(action)
        yield Step(before, action, after, terminated | truncated, info)
        before = after
        if callback is not None and callback((step + 1) * lanes, {}) is False:
            break
    env.close()


def half_ticks(agent: BaseAgent, observation: F32, name: str) -> F64:
    """Feature `name` [N], published in half ticks, as a float64; raises `ConfigError` for another unit."""
    feature = agent.features[agent.column(name)]
    if not feature.unit.startswith("half tick"):
        raise ConfigError(f"{type(agent).__name__} needs {name!r} in half ticks, got {feature.unit!r}")
    return agent.value(observation, name)


# ------------------------------------------------------------------------------------------------------ fill intensity

NARROW, WIDE = 0, 1
WIDE_FROM = 3.0  # half ticks of spread: one tick (2) is NARROW, anything above is WIDE
BINS = 64  # distances from mid, half ticks
MIN_FILLS = 10  # in a distance that takes part in the fit


@dataclass
class QuoteFills:
    """What quotes of one's own met: sums over decisions, by tick regime and distance from mid in half ticks [2, BINS]."""

    exposure: F64  # orders that stood there: filled in the decision, or still there after it
    hits: F64  # clips of them that were filled
    moved2: F64  # squared mid moves, ticks^2 [2]
    spread: F64  # ticks [2]
    steps: F64  # decisions [2]

    @classmethod
    def none(cls) -> QuoteFills:
        return cls(np.zeros((2, BINS)), np.zeros((2, BINS)), np.zeros(2), np.zeros(2), np.zeros(2))


def regime(spread: F64) -> np.ndarray:
    """NARROW or WIDE [N] by the spread [N], half ticks: one-tick and wide-tick books differ in every number."""
    return (spread > WIDE_FROM).astype(np.int64)


def watch_fills(
    agent: BaseAgent, make_env: MakeEnv, total_timesteps: int, callback: Callback | None,
    act: Callable[[F32, Any], np.ndarray], behind: Callable[[np.ndarray], F64], clip: float,
) -> QuoteFills:  # fmt: skip
    """Quotes both sides of the training days by ``act(observation, mask)`` and counts.

    ``behind(action)`` gives the ticks behind the touch [N] at which both sides then stand (NaN: not to be counted).
    """
    seen = QuoteFills.none()
    for step in training_steps(agent, make_env, total_timesteps, callback, act, info="full"):
        spread = half_ticks(agent, step.before, "spread")
        offset = behind(step.action)
        group, going = regime(spread), ~step.done & (spread > 0)
        np.add.at(seen.moved2, group[going], (0.5 * half_ticks(agent, step.after, "return_step")[going]) ** 2)
        np.add.at(seen.spread, group[going], 0.5 * spread[going])
        np.add.at(seen.steps, group[going], 1.0)
        distance = np.rint(0.5 * spread + 2.0 * np.where(np.isnan(offset), BINS, offset)).astype(np.int64)
        for side, name in ((1, "bid"), (-1, "ask")):
            filled = _filled(step, side) / clip
            stood = (filled > 0) | (step.after[:, agent.column(f"{name}_live")] > 0)
            counts = going & stood & (distance < BINS)
            where = (group[counts], distance[counts])
            np.add.at(seen.exposure, where, 1.0)
            np.add.at(seen.hits, where, np.minimum(filled[counts], 1.0))
    return seen


def _filled(step: Step, side: int) -> F64:
    """Lots [N] of resting orders of `side` that were filled in a step."""
    lots = np.zeros(len(step.done))
    columns = (step.info[f"fill_{name}"] for name in ("side", "maker", "quantity"))
    for lane, (sides, maker, quantity) in enumerate(zip(*columns, strict=True)):
        if len(sides):
            lots[lane] = quantity[(sides == side) & maker].sum()
    return lots


def fit_intensity(exposure: F64, hits: F64) -> tuple[float, float] | None:
    """(A, k) of the fill intensity A exp(-k distance), clips per decision and per tick; None where it cannot be told.

    `exposure` and `hits` [BINS] by distance in half ticks. An order stands for one decision at most, so an intensity L
    fills a share p = 1 - exp(-L) of it: L = -ln(1 - p). Weighted least squares of ln L on the distance; the weights are
    1 / Var(ln L) = exposure (1 - p) L^2 / p by the delta method. Distances with fewer than MIN_FILLS fills are left out.
    """
    distance = 0.5 * np.arange(len(exposure))
    share = np.divide(hits, exposure, out=np.zeros_like(hits), where=exposure > 0)
    use = (hits >= MIN_FILLS) & (share < 1.0)
    if use.sum() < 2:
        return None
    x, p, n = distance[use], share[use], exposure[use]
    intensity = -np.log1p(-p)
    weight = n * (1.0 - p) * intensity**2 / p
    y = np.log(intensity)
    x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = np.sum(weight * (x - x_mean) * (y - y_mean)) / np.sum(weight * (x - x_mean) ** 2)
    if not slope < 0:
        return None
    return float(np.exp(y_mean - slope * x_mean)), float(-slope)


@dataclass
class MakerMarket:
    """What a market maker needs to know, by tick regime (NARROW, WIDE): arrays [2]; NaN: unknown."""

    volatility: F64  # ticks per root decision
    intensity: F64  # A, clips per decision and side at the mid
    decay: F64  # k, per tick
    half_spread: F64  # mean, ticks

    @classmethod
    def unknown(cls) -> MakerMarket:
        return cls(*(np.full(2, np.nan) for _ in fields(cls)))

    @classmethod
    def measured(cls, seen: QuoteFills) -> MakerMarket:
        """From what was seen. A tick regime that was not seen, or whose fills do not tell an intensity, takes the numbers
        of the other (`arrays` shows by its exposure that it did); raises `DataError` where neither tells."""
        market = cls.unknown()
        for g in (NARROW, WIDE):
            found = fit_intensity(seen.exposure[g], seen.hits[g])
            if found is not None:
                market.intensity[g], market.decay[g] = found
                market.volatility[g] = np.sqrt(seen.moved2[g] / seen.steps[g])
                market.half_spread[g] = 0.5 * seen.spread[g] / seen.steps[g]
        known = np.isfinite(market.decay)
        if not known.any():
            raise DataError(
                f"the fill intensity cannot be told from {seen.hits.sum():.0f} clips filled in {seen.exposure.sum():.0f} "
                f"orders and decisions: it needs two distances with {MIN_FILLS} fills each and a falling rate; watch more "
                "(agent.steps), or give agent.intensity and agent.decay"
            )
        for values in vars(market).values():
            values[~known] = values[known][0]
        return market

    def given(self, **values: float | None) -> MakerMarket:
        """With parameters that were given in the place of measured ones."""
        return MakerMarket(
            **{
                name: measured if values.get(name) is None else np.full(2, float(values[name]))  # type: ignore[arg-type]
                for name, measured in vars(self).items()
            }
        )

    def arrays(self) -> Arrays:
        return {name: np.array(values) for name, values in vars(self).items()}

    @classmethod
    def restored(cls, arrays: Arrays) -> MakerMarket:
        return cls(**{field.name: np.array(arrays[field.name], np.float64) for field in fields(cls)})


# --------------------------------------------------------------------------------------------------- volume and impact


def sweep_costs(agent: BaseAgent, observation: F32, levels: int, clip: float, clips: int) -> tuple[F64, F64]:
    """What taking 1..`clips` clips at once costs beyond the touch: sums of the mean concession per clip over lanes and
    both sides, ticks [clips], and how many had the depth for it [clips]. Hidden volume and what lies beyond the visible
    levels are not known, and not counted."""
    costs, counts = np.zeros(clips), np.zeros(clips)
    for side in ("bid", "ask"):
        size = np.stack([agent.value(observation, f"{side}_size_{j + 1}") for j in range(levels)], axis=1)
        away = np.stack([half_ticks(agent, observation, f"{side}_distance_{j + 1}") for j in range(levels)], axis=1)
        beyond = 0.5 * (away - away[:, :1])  # ticks behind the touch; size 0 where a level is empty
        for n in range(1, clips + 1):
            before = np.cumsum(size, axis=1) - size
            taken = np.clip(n * clip - before, 0.0, size)
            enough = taken.sum(axis=1) >= n * clip * (1 - 1e-3)  # float32 features: sizes are not exact
            costs[n - 1] += ((taken * beyond).sum(axis=1) / (n * clip))[enough].sum()
            counts[n - 1] += enough.sum()
    return costs, counts


def fit_impact(costs: F64, counts: F64) -> float:
    """eta of the linear temporary impact, ticks per clip and decision: least squares through the origin of the mean
    concession on the number of clips; `DataError` where no depth was seen."""
    clips = np.arange(1, len(costs) + 1)
    seen = counts > 0
    if not seen.any():
        raise DataError("the visible book never held one clip: the temporary impact is unknown; give agent.impact")
    mean = costs[seen] / counts[seen]
    return float(np.sum(clips[seen] * mean) / np.sum(clips[seen] ** 2))
