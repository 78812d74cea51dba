"""Toy markets with one ability each: a rung is a finite process whose optimum is known.

Prices are in ticks; positions are marked at the mid, also at the end; a lot traded by a taker costs `half_spread`. A taker has the
actions 0, 1, 2 = position -1, 0, +1 for the coming step; a quoter 0, 1 = abstain, quote both sides for one step and close what was
filled at the next mid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from emp_gym.evaluation.optimal.base import Policy, Problem, Solution
from emp_gym.evaluation.optimal.tabular import FiniteMDP, PolicyValue
from emp_gym.types import F32, F64, I64, ConfigError

PASS = 0.95  # score
ABSTAINS = 0.01  # lots a step: less than one in an episode


@dataclass(frozen=True)
class Rung(Problem):
    """A toy market. Its state is one column, the number of the state in `mdp()`; a policy gives actions or probabilities."""

    state: ClassVar = ("number of the state",)
    action: ClassVar = ("number of the action",)
    abstention: ClassVar[bool] = False  # whether holding is the optimum, so that the score says little
    ability: ClassVar[str] = ""

    steps: int = 64

    def __post_init__(self) -> None:
        self._check(steps="count")

    def mdp(self) -> FiniteMDP:
        """The process itself."""
        return _mdp(self)

    def _build(self) -> FiniteMDP:
        raise NotImplementedError

    def evaluate(self, policy: Policy) -> float:
        return self.judge(policy).value

    def judge(self, policy: Policy) -> PolicyValue:
        """Value, turnover and cost of `policy`, exactly."""
        return self.mdp().judge(policy)

    def passes(self, value: float, turnover: float, cost: float) -> bool:
        """Whether an agent that makes `value` ticks an episode, and trades `turnover` lots and pays `cost` ticks a step, has
        the ability: score >= 0.95, or where holding is the optimum at most 0.01 lots a step and no more than such lots cost."""
        if self.abstention:
            return turnover <= ABSTAINS and cost <= ABSTAINS * self._dearest()
        return self.score(value) >= PASS

    def _dearest(self) -> float:
        """Ticks that a lot costs where it costs most."""
        mdp = self.mdp()
        return float((mdp.cost[mdp.turnover > 0] / mdp.turnover[mdp.turnover > 0]).max())

    def _contenders(self) -> dict[str, Policy]:
        """Where holding is the optimum the others, or there would be no score."""
        return {name: policy for name, policy in self.naive().items() if not (self.abstention and name == "hold")}

    def _simple(self) -> dict[str, Policy]:
        mdp = self.mdp()
        known = {"hold": _always(mdp.idle), "random": _uniform(mdp.actions)}
        if mdp.actions == 3:
            return known | {"always-long": _always(2), "always-short": _always(0)}
        return known | {"always-quote": _always(1)}

    def _solve(self) -> Solution:
        mdp = self.mdp()
        values, actions = mdp.backward_induction()

        def policy(step: I64, state: F64) -> F64:
            return actions[step, state[:, 0].astype(np.int64)][:, None].astype(np.float64)

        return Solution(float(mdp.start @ values[0]), policy)


@lru_cache(maxsize=64)
def _mdp(rung: Rung) -> FiniteMDP:
    return rung._build()


def _always(action: int) -> Policy:
    return lambda step, state: np.full((len(state), 1), float(action))


def _uniform(actions: int) -> Policy:
    return lambda step, state: np.full((len(state), actions), 1 / actions)


@dataclass(frozen=True)
class _Chain:
    """A market of M states that trades do not move."""

    transition: F64  # [M, M]
    move: F64  # [M, M], ticks: what the mid does on the way to the next state
    start: F64  # [M]
    seen: F64  # [M, D], in [-1, 1]
    features: tuple[str, ...]


def _taker(chain: _Chain, half_spread: float, steps: int) -> FiniteMDP:
    """Positions -1, 0, +1 in `chain`; state number = 3 * market + position + 1."""
    size = len(chain.start)
    held = np.array([-1.0, 0.0, 1.0])
    moves, transition = np.empty((3, 3 * size, 3 * size)), np.zeros((3, 3 * size, 3 * size))
    for action in range(3):
        to = np.zeros((3, 3))
        to[:, action] = 1
        transition[action] = np.kron(chain.transition, to)
        moves[action] = np.kron(chain.move, np.full((3, 3), held[action]))
    traded = np.tile(np.abs(held[:, None] - held), (1, size))  # [A, S]
    seen = np.column_stack((np.repeat(chain.seen, 3, axis=0), np.tile(held, size))).astype(np.float32)
    return FiniteMDP(
        transition=transition,
        reward=moves - half_spread * traded[:, :, None],
        start=np.kron(chain.start, np.array([0.0, 1.0, 0.0])),
        observation=seen,
        features=(*chain.features, "position [lots]"),
        horizon=steps,
        turnover=traded,
        cost=half_spread * traded,
        idle=1,
    )


@dataclass(frozen=True)
class Trend(Rung):
    """The mid moves one tick a step and goes on in its direction with probability `persistence`: follow it, though it costs."""

    ability: ClassVar = "follow a trend"

    persistence: float = 0.8
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(persistence="share", half_spread="not negative")

    def _build(self) -> FiniteMDP:
        stay = self.persistence
        transition = np.array([[stay, 1 - stay], [1 - stay, stay]])
        move = np.tile([-1.0, 1.0], (2, 1))
        chain = _Chain(transition, move, np.full(2, 0.5), np.array([[-1.0], [1.0]]), ("last move [ticks]",))
        return _taker(chain, self.half_spread, self.steps)


@dataclass(frozen=True)
class MeanReversion(Rung):
    """The mid moves one tick a step, back to its anchor with probability 1/2 + pull * distance: sell high, buy low, and wait."""

    ability: ClassVar = "fade an excursion"

    pull: float = 0.1  # 1 / tick
    reach: int = 4  # ticks
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(pull="share", reach="count", half_spread="not negative")
        if self.pull * self.reach > 0.5:
            raise ConfigError(f"MeanReversion: pull * reach must be at most 1/2, got {self.pull * self.reach:g}")

    def _build(self) -> FiniteMDP:
        place = np.arange(-self.reach, self.reach + 1)
        rise = 0.5 - self.pull * place
        rise[0], rise[-1] = 1.0, 0.0
        transition = np.diag(rise[:-1], 1) + np.diag(1 - rise[1:], -1)
        start = (place == 0).astype(np.float64)
        seen = place[:, None] / self.reach
        chain = _Chain(transition, np.subtract.outer(place, place).T * 1.0, start, seen, ("mid less anchor [reach]",))
        return _taker(chain, self.half_spread, self.steps)


def _flow(persistence: float, edge: float) -> _Chain:
    """Order flow -1, 0, +1 that persists, and a mid that moves by -1, 0, +1 ticks with mean edge * flow; state = 3 * flow
    + last move."""
    signs = np.array([-1.0, 0.0, 1.0])
    next_flow = np.where(np.eye(3) > 0, persistence, (1 - persistence) / 2)
    chance = np.array([0.3, 0.4, 0.3]) + edge / 2 * np.outer(signs, signs)  # [flow, move]
    transition = np.einsum("fg,fm->fgm", next_flow, chance).reshape(3, 9).repeat(3, axis=0)
    start = np.kron(np.full(3, 1 / 3), np.array([0.0, 1.0, 0.0]))
    seen = np.column_stack((np.repeat(signs, 3), np.tile(signs, 3)))
    return _Chain(transition, np.tile(seen[:, 1], (9, 1)), start, seen, ("order flow [sign]", "last move [ticks]"))


@dataclass(frozen=True)
class OrderFlow(Rung):
    """Signed order flow foretells the next move, which has mean edge * flow; the last move, also seen, foretells nothing."""

    ability: ClassVar = "use a planted signal"

    persistence: float = 0.7
    edge: float = 0.5  # ticks
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(persistence="share", edge="not negative", half_spread="not negative")
        if self.edge > 0.6:
            raise ConfigError(f"OrderFlow: edge must be at most 0.6 ticks, got {self.edge:g}")

    def _build(self) -> FiniteMDP:
        return _taker(_flow(self.persistence, self.edge), self.half_spread, self.steps)


@dataclass(frozen=True)
class Noise(Rung):
    """The same picture with an edge of 0: nothing foretells anything and trading costs, so the optimum is to hold."""

    ability: ClassVar = "leave noise alone"
    abstention: ClassVar = True

    persistence: float = 0.7
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(persistence="share", half_spread="positive")

    def _build(self) -> FiniteMDP:
        return _taker(_flow(self.persistence, 0.0), self.half_spread, self.steps)


def _quoter(chain: _Chain, gain: F64, lots: F64, cost: F64, steps: int) -> FiniteMDP:
    """Abstain or quote in `chain`; quoting gains `gain` [M, M] ticks, trades `lots` [M] and pays `cost` [M]."""
    none = np.zeros(len(chain.start))
    return FiniteMDP(
        transition=np.stack((chain.transition, chain.transition)),
        reward=np.stack((np.zeros_like(gain), gain)),
        start=chain.start,
        observation=chain.seen.astype(np.float32),
        features=chain.features,
        horizon=steps,
        turnover=np.stack((none, lots)),
        cost=np.stack((none, cost)),
    )


@dataclass(frozen=True)
class Quote(Rung):
    """A quote that is always filled, on the side of a coin; the mid then moves a tick either way by another coin. Each fill earns
    half_spread - fee on average, so quote always: that is the optimum and therefore not among the simple policies."""

    ability: ClassVar = "earn the spread"

    half_spread: float = 0.5  # ticks
    fee: float = 0.1  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(half_spread="positive", fee="not negative")

    def _simple(self) -> dict[str, Policy]:
        return {name: policy for name, policy in super()._simple().items() if name != "always-quote"}

    def _build(self) -> FiniteMDP:
        side, move = np.repeat([-1.0, 1.0], 2), np.tile([-1.0, 1.0], 2)
        even = np.full((4, 4), 0.25)
        seen = np.column_stack((side, move))
        chain = _Chain(even, np.tile(move, (4, 1)), np.full(4, 0.25), seen, ("last taker [side]", "last move [ticks]"))
        gain = np.tile(self.half_spread - self.fee - side * move, (4, 1))  # a buyer leaves us short
        return _quoter(chain, gain, np.ones(4), np.full(4, self.fee), self.steps)


@dataclass(frozen=True)
class Toxic(Rung):
    """A taker comes with probability `fills`; with probability `toxicity` the mid then runs `adverse` ticks against whoever filled
    him, more than the half-spread pays for. Single fills do pay; quoting does not: abstain."""

    ability: ClassVar = "refuse toxic flow"
    abstention: ClassVar = True

    fills: float = 0.5
    toxicity: float = 0.8
    adverse: float = 1.0  # ticks
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(fills="share", toxicity="share", adverse="positive", half_spread="positive")
        if self.fills == 0 or self.toxicity * self.adverse <= self.half_spread:
            raise ConfigError(
                "Toxic: fills must be above 0 and toxicity * adverse above half_spread, got "
                f"{self.fills:g} and {self.toxicity * self.adverse:g} <= {self.half_spread:g}: quoting would pay"
            )

    def _build(self) -> FiniteMDP:
        chance = np.array([1 - self.fills, self.fills * (1 - self.toxicity), self.fills * self.toxicity])
        seen = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
        even = np.tile(chance, (3, 1))
        features = ("a taker came [-1, 1]", "the mid ran [-1, 1]")
        chain = _Chain(even, np.zeros((3, 3)), np.array([1.0, 0.0, 0.0]), seen, features)
        gain = np.tile([0.0, self.half_spread, self.half_spread - self.adverse], (3, 1))
        lots, cost = np.full(3, self.fills), np.full(3, self.fills * self.toxicity * self.adverse)
        return _quoter(chain, gain, lots, cost, self.steps)


@dataclass(frozen=True)
class Memory(Rung):
    """A cue at the open says which way the mid will drift in the last `session` steps; afterwards it is not shown.

    Positions are closed at the end of each step, so that none of them can stand for the cue: a step in the market costs a round trip.
    Who remembers earns (drift - 2 half_spread) * session; who sees the present only does best by holding (`best_memoryless` of the
    process, exactly), because both cues look the same by then. The process knows the cue throughout: its optimum is that with memory.
    """

    ability: ClassVar = "remember a cue"

    steps: int = 32
    session: int = 8
    drift: float = 2.0  # ticks a step
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(session="count", drift="positive", half_spread="positive")
        if self.session >= self.steps or self.drift <= 2 * self.half_spread:
            raise ConfigError(
                f"Memory: session must be below steps and drift above 2 half_spread, got {self.session} of {self.steps} and "
                f"{self.drift:g} ticks"
            )

    def best_memoryless(self) -> float:
        """Value of the best policy that sees the present observation only."""
        return self.mdp().best_memoryless()

    def _build(self) -> FiniteMDP:
        """State number = 2 * step + (0 for the cue -1, 1 for +1)."""
        step, cue = np.repeat(np.arange(self.steps), 2), np.tile([-1.0, 1.0], self.steps)
        size = 2 * self.steps
        transition = np.zeros((size, size))
        transition[np.arange(size), np.where(step < self.steps - 1, np.arange(size) + 2, np.arange(size))] = 1
        drift = np.where(step >= self.steps - self.session, self.drift * cue, 0.0)
        seen = np.column_stack((np.where(step == 0, cue, 0.0), 2 * step / (self.steps - 1) - 1))
        return _day_trader(
            transition, np.where(step == 0, 0.5, 0.0), drift, self.half_spread, seen,
            ("cue, at the open only [sign]", "clock [-1 open, 1 close]"), self.steps,
        )  # fmt: skip


@dataclass(frozen=True)
class Returning(Rung):
    """Four regimes that come, go and return. Each shows a signature of two signs in its first step and never while it lasts; as
    long as it does, the mid drifts the way of their product.

    Neither sign alone tells anything. Positions are closed at the end of each step, as in `Memory`, so that none can stand for the
    regime. Who sees the present only can trade the first steps of regimes (`best_memoryless`, exactly); who remembers the last
    signature, and what came of it, trades them all. The process knows the regime throughout: its optimum is that with memory.
    """

    ability: ClassVar = "know a regime again"

    persistence: float = 0.9
    drift: float = 2.0  # ticks a step
    half_spread: float = 0.5  # ticks

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(persistence="share", drift="positive", half_spread="positive")
        if self.drift <= 2 * self.half_spread:
            raise ConfigError(f"Returning: drift must be above 2 half_spread, got {self.drift:g} ticks")

    def best_memoryless(self) -> float:
        """Value of the best policy that sees the present observation only."""
        return self.mdp().best_memoryless()

    def _build(self) -> FiniteMDP:
        """State number = 2 * regime + (0 in its first step, 1 later)."""
        signature = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        regime, later = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
        stays = (regime[:, None] == regime) & (later == 1)
        comes = (regime[:, None] != regime) & (later == 0)
        transition = self.persistence * stays + (1 - self.persistence) / 3 * comes
        return _day_trader(
            transition, np.where(later == 0, 0.25, 0.0), self.drift * signature.prod(axis=1)[regime], self.half_spread,
            signature[regime] * (later == 0)[:, None], ("signature a [sign]", "signature b [sign]"), self.steps,
        )  # fmt: skip


def _day_trader(
    transition: F64, start: F64, drift: F64, half_spread: float, seen: F64, features: tuple[str, ...], steps: int
) -> FiniteMDP:
    """Positions -1, 0, +1 for one step each, closed at its end, in a market that goes by `transition` [S, S] and drifts by `drift`
    [S] ticks in the step that begins in a state."""
    position = np.array([-1.0, 0.0, 1.0])[:, None]
    lots = 2 * np.abs(position) * np.ones(len(start))
    gain = position * drift - half_spread * lots
    return FiniteMDP(
        transition=np.stack((transition,) * 3),
        reward=np.repeat(gain[:, :, None], len(start), axis=2),
        start=start,
        observation=_rounded(seen),
        features=features,
        horizon=steps,
        turnover=lots,
        cost=half_spread * lots,
        idle=1,
    )


def _rounded(seen: F64) -> F32:
    return np.clip(seen, -1, 1).astype(np.float32)


RUNGS: dict[str, type[Rung]] = {
    "trend": Trend,
    "mean-reversion": MeanReversion,
    "order-flow": OrderFlow,
    "quote": Quote,
    "memory": Memory,
    "returning": Returning,
    "toxic": Toxic,
    "noise": Noise,
}
