"""Market makers in closed form: Avellaneda-Stoikov, Guéant-Lehalle-Fernandez-Tapia, Cartea-Jaimungal.

All three see a mid that moves as a Brownian motion and orders that fill with intensity A exp(-k distance) (clips per
decision), and give distances from mid in ticks for the bid and the ask. They differ in what they pay for inventory.
Prices are in ticks, inventory q in clips, time in decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from emp_gym.agents.base import Arrays, Callback
from emp_gym.agents.baselines.action_layouts import LEVERS, QUOTES, Able, parameter, quotes_in_box, require
from emp_gym.agents.baselines.calibration import Calibrated, MakerMarket, QuoteFills, half_ticks, regime, watch_fills
from emp_gym.extras import need
from emp_gym.types import F32, F64, Bool, MakeEnv

Quotes = tuple[F64, F64]
"""Distances of bid and ask from mid, ticks."""


def avellaneda_stoikov(q: F64, left: F64, gamma: F64, volatility: F64, decay: F64) -> Quotes:
    """Avellaneda and Stoikov 2008, eqs. 29 and 30, with `left` = T - t."""
    risk = gamma * volatility**2 * left
    half = 0.5 * risk + np.log1p(gamma / decay) / gamma
    return half + q * risk, half - q * risk


def glft(q: F64, gamma: F64, volatility: F64, intensity: F64, decay: F64) -> Quotes:
    """Guéant, Lehalle and Fernandez-Tapia 2013, section 4: the closed-form approximation of the asymptotic quotes of
    their theorem 2 (the paper numbers the propositions, not these formulas)."""
    base = np.log1p(gamma / decay) / gamma
    slope = np.sqrt(volatility**2 * gamma / (2 * decay * intensity) * (1 + gamma / decay) ** (1 + decay / gamma))
    return base + 0.5 * (2 * q + 1) * slope, base - 0.5 * (2 * q - 1) * slope


def cartea_jaimungal(
    intensity: float, decay: float, running: float, terminal: float, limit: int, steps: int, dt: float = 1.0
) -> F64:
    """h [steps + 1, 2 limit + 1]: value beyond cash and mark of inventory -limit..limit with 0..steps times dt left.

    Cartea, Jaimungal and Penalva 2015, section 10.2, eq. 10.11: h = ln(w) / k, w(t) = exp(A (T - t)) z. One matrix
    exponential over dt serves all times; w is rescaled on the way, since it grows beyond any float.
    """
    need("scipy")
    from scipy.linalg import expm  # type: ignore[import-untyped]

    q = np.arange(-limit, limit + 1.0)
    beside = np.full(2 * limit, intensity * np.exp(-1.0))
    step = expm(dt * (np.diag(-decay * running * q**2) + np.diag(beside, 1) + np.diag(beside, -1)))
    w, logs = np.exp(-decay * terminal * q**2), 0.0
    h = np.empty((steps + 1, len(q)))
    for n in range(steps + 1):
        h[n] = (np.log(w) + logs) / decay
        w = step @ w
        logs, w = logs + np.log(w.max()), w / w.max()
    return h


def depths(h: F64, decay: float) -> Quotes:
    """Optimal distances [..., 2 limit + 1] for values h of inventory (section 10.2): 1/k - h(q+1) + h(q) for the bid,
    1/k - h(q-1) + h(q) for the ask. Where the limit forbids a side, that of one clip less stands; it is not quoted."""
    change = np.diff(h, axis=-1)
    bid = 1 / decay - np.concatenate([change, change[..., -1:]], axis=-1)
    ask = 1 / decay + np.concatenate([change[..., :1], change], axis=-1)
    return bid, ask


@dataclass(frozen=True)
class MakerConfig:
    """What market makers share. None: measured on training days."""

    volatility: float | None = None  # sigma, ticks per root decision
    intensity: float | None = None  # A, clips per decision and side at the mid
    decay: float | None = None  # k, per tick
    lanes: int = 64  # that quote on the training days
    steps: int = 32_768  # decisions there, over all lanes


class Maker(Calibrated):
    """Quotes both sides around the mid at the distances of `quotes`.

    Levers take them to the tick; a table of actions only as its nearest entry (that of ``emp-lob-v0`` has touch, one tick
    deeper, none). `learn` quotes at a few offsets of its own, one a lane, and fits A, k and sigma apart for one-tick
    and wide-tick books, which are told apart by the spread at each decision. State: none.
    """

    able: ClassVar[Able] = QUOTES
    uses: ClassVar[tuple[str, ...]] = ("volatility", "intensity", "decay")
    OFFSETS: ClassVar[tuple[float, ...]] = (0.0, 1.0, 2.0, 4.0, 8.0)  # ticks behind the touch, in the box

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._menu = require(self)
        for name in ("inventory", "elapsed", "spread", "return_step", "bid_live", "ask_live"):
            self.column(name)
        self._max_offset = parameter(self, "max_offset") if self._menu.is_box else 0.0
        self._clip = parameter(self, "order_quantity")
        self._limit = parameter(self, "max_position") / self._clip  # clips
        self._episode = parameter(self, "episode")  # decisions
        self._measured, self._seen = MakerMarket.unknown(), QuoteFills.none()
        self._settle()

    def quotes(self, q: F64, left: F64, group: np.ndarray) -> Quotes:
        """Distances [N] for inventory `q` [N], clips, with `left` [N] decisions to go, in tick regime `group` [N]."""
        raise NotImplementedError(f"{type(self).__name__} must define quotes(q, left, group)")

    def prepare(self) -> None:
        """Called when `self.market` is known."""

    def missing(self) -> list[str]:
        return [name for name in self.uses if np.isnan(getattr(self.market, name)).any()]

    def _settle(self) -> None:
        given = {name: getattr(self.config, name, None) for name in vars(self._measured)}
        self.market = self._measured.given(**given)
        if not self.missing():
            self.prepare()

    def act(self, observation: F32, state: Any, mask: Bool | None = None) -> tuple[np.ndarray, Any]:
        self.ready()
        spread = half_ticks(self, observation, "spread")
        left = (1.0 - self.value(observation, "elapsed")) * self._episode
        bid, ask = self.quotes(self.value(observation, "inventory") * self._limit, left, regime(spread))
        bid, ask = bid - 0.25 * spread, ask - 0.25 * spread  # behind the touch
        if self._menu.is_box:
            return self._menu.pulled(quotes_in_box(bid, ask, self._max_offset)), state
        return self._menu.nearest_quotes(bid, ask, mask), state

    # ---- calibration

    def learn(self, make_env: MakeEnv, total_timesteps: int, callback: Callback | None = None) -> None:
        """Quotes on the training days and fits what it needs; raises `DataError` where they do not tell."""
        probe, behind = self._probe_menu, self._behind_menu
        if self._menu.is_box:
            probe, behind = self._probe_box, self._behind_box
        self._seen = watch_fills(self, make_env, total_timesteps, callback, probe, behind, self._clip)
        self._measured = MakerMarket.measured(self._seen)
        self._settle()

    def _probe_box(self, observation: F32, mask: Any) -> np.ndarray:
        """Both sides at one of the offsets, another in each lane."""
        offsets = np.array([offset for offset in self.OFFSETS if offset <= self._max_offset])
        offset = offsets[np.arange(len(observation)) % len(offsets)]
        return self._menu.pulled(quotes_in_box(offset, offset, self._max_offset))

    def _behind_box(self, action: np.ndarray) -> F64:
        half = action[:, self._menu.levers.index(LEVERS[0])].astype(np.float64)
        return np.rint(0.5 * (half + 1.0) * self._max_offset)

    def _probe_menu(self, observation: F32, mask: Any) -> np.ndarray:
        """Both sides at the touch, or at one of the other depths, another in each lane; flat again where the inventory forbids
        one side."""
        lane, menu = np.arange(len(observation)), self._menu
        wanted = np.array(list(menu.both.values()))[lane % len(menu.both)]
        if mask is None:
            return wanted
        out = np.full(len(lane), menu.keep if menu.flatten < 0 else menu.flatten)
        return np.where(mask[lane, wanted], wanted, menu.allowed(out, mask))

    def _behind_menu(self, action: np.ndarray) -> F64:
        behind = np.full(len(self._menu.actions), np.nan)
        behind[list(self._menu.both.values())] = list(self._menu.both)
        return behind[action]

    def arrays(self) -> Arrays:
        """The fitted numbers, and the counts behind them by distance in half ticks."""
        return self._measured.arrays() | {"exposure": self._seen.exposure, "hits": self._seen.hits}

    def restore(self, arrays: Arrays) -> None:
        self._measured = MakerMarket.restored(arrays)
        self._seen.exposure, self._seen.hits = np.array(arrays["exposure"]), np.array(arrays["hits"])
        self._settle()


@dataclass(frozen=True)
class AvellanedaStoikovConfig(MakerConfig):
    """Parameters of `AvellanedaStoikovQuotes`."""

    risk_aversion: float | None = None  # gamma, per tick and clip; None: gamma sigma^2 T k = `risk`
    risk: float = 0.6  # inventory risk against the reach of orders: that of the paper's example (0.1, 2, 1, 1.5)
    horizon: float | None = None  # T, decisions at the start of an episode; None: its length


class AvellanedaStoikovQuotes(Maker):
    """Avellaneda and Stoikov, "High-frequency trading in a limit order book" (Quantitative Finance 2008): reservation
    price r = s - q gamma sigma^2 (T - t) (eq. 29), spread gamma sigma^2 (T - t) + 2 / gamma ln(1 + gamma / k) (eq. 30).
    """

    Config: ClassVar[type | None] = AvellanedaStoikovConfig
    uses = ("volatility", "decay")

    def prepare(self) -> None:
        self._horizon = self._episode if self.config.horizon is None else self.config.horizon
        m = self.market
        self._gamma = self.config.risk / (m.decay * m.volatility**2 * self._horizon)
        if self.config.risk_aversion is not None:
            self._gamma = np.full(2, self.config.risk_aversion)

    def quotes(self, q: F64, left: F64, group: np.ndarray) -> Quotes:
        m = self.market
        left = left * self._horizon / self._episode
        return avellaneda_stoikov(q, left, self._gamma[group], m.volatility[group], m.decay[group])


@dataclass(frozen=True)
class GLFTConfig(MakerConfig):
    """Parameters of `GLFT`."""

    risk_aversion: float | None = None  # gamma, per tick and clip; None: gamma / k = `risk`
    risk: float = 1 / 30  # gamma / k of the paper's example (0.01 / 0.3)


class GLFT(Maker):
    """Guéant, Lehalle and Fernandez-Tapia, "Dealing with the inventory risk" (Mathematics and Financial Economics 7,
    2013): asymptotic quotes, the same at all times (theorem 2 and the closed form that follows proposition 3)."""

    Config: ClassVar[type | None] = GLFTConfig

    def prepare(self) -> None:
        self._gamma = self.config.risk * self.market.decay
        if self.config.risk_aversion is not None:
            self._gamma = np.full(2, self.config.risk_aversion)

    def quotes(self, q: F64, left: F64, group: np.ndarray) -> Quotes:
        m = self.market
        return glft(q, self._gamma[group], m.volatility[group], m.intensity[group], m.decay[group])


@dataclass(frozen=True)
class CarteaJaimungalConfig(MakerConfig):
    """Parameters of `CarteaJaimungalQuotes`."""

    running: float | None = None  # phi, ticks per clip^2 and decision; None: gamma sigma^2 / 2 with gamma / k = `risk`
    risk: float = 1 / 30  # as in `GLFT`: phi is then what its risk aversion costs, to first order
    half_spread: float | None = None  # alpha, ticks per clip^2 held at the end; None: the mean half-spread


class CarteaJaimungalQuotes(Maker):
    """Cartea and Jaimungal, "Risk metrics and fine tuning of high-frequency trading strategies" (Mathematical Finance
    2015), as in Cartea, Jaimungal and Penalva, "Algorithmic and High-Frequency Trading" (2015), section 10.2: expected
    profit less a running penalty phi q^2 and a terminal alpha q^2, with an inventory limit. The value h(t, q) (eq. 10.11)
    is tabulated once for every decision and whole clip; between clips the distances are interpolated.
    """

    Config: ClassVar[type | None] = CarteaJaimungalConfig
    uses = ("volatility", "intensity", "decay", "half_spread")

    def prepare(self) -> None:
        m, limit = self.market, max(1, int(self._limit))
        running = 0.5 * self.config.risk * m.decay * m.volatility**2
        if self.config.running is not None:
            running = np.full(2, self.config.running)
        sides: tuple[list[F64], list[F64]] = ([], [])
        for g in range(2):
            values = m.intensity[g], m.decay[g], running[g], m.half_spread[g], limit, int(self._episode)
            for side, table in zip(sides, depths(cartea_jaimungal(*values), m.decay[g])):
                side.append(table)
        self._bid, self._ask = np.stack(sides[0]), np.stack(sides[1])  # [2, decisions left, 2 limit + 1]

    def quotes(self, q: F64, left: F64, group: np.ndarray) -> Quotes:
        most = self._bid.shape[2] - 1
        place = np.clip(q + most // 2, 0, most)
        below = np.clip(place.astype(np.int64), 0, most - 1)
        share = place - below
        n = np.clip(np.rint(left).astype(np.int64), 0, self._bid.shape[1] - 1)

        def between(table: F64) -> F64:
            return (1 - share) * table[group, n, below] + share * table[group, n, below + 1]

        return between(self._bid), between(self._ask)
