"""Actions by what they do: which entry of a task's table quotes, takes or closes, whatever its number."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from emp_gym.envs.about import told_by
from emp_gym.types import F32, F64, LEAVE, WITHDRAW, Action, Bool, ConfigError

LEVERS = ("half-spread", "skew", "size")
NO_SIZE, AT_TOUCH, BID_ONLY, ASK_ONLY = (-1.0, 0.0, -1.0), (-1.0, 0.0, 1.0), (0.0, 0.5, 1.0), (0.0, -0.5, 1.0)
"""Values of `LEVERS`: nothing quoted; both sides at the touch, full size; one side at the touch and the other `max_offset` ticks
away, as far as that leaves the first where it is."""


class Menu:
    """What the actions of an environment do, as far as it says so: those of a table, or levers."""

    def __init__(self, actions: tuple[Action, ...] = (), relative: bool = False, levers: tuple[str, ...] = ()) -> None:
        self.actions, self.relative, self.levers = actions, relative, levers
        self._first = {_meaning(action): entry for entry, action in reversed(list(enumerate(actions)))}
        self.keep = self.find(default=0)  # an environment that says nothing of its actions is left alone by the first
        self.both = self._both()
        self._quotes, self._depths, self._nothing = self._quoted()

    @classmethod
    def of(cls, spec: Any) -> Menu:
        """Of the environment whose ``spec.about`` says it."""
        about = told_by(spec)
        return cls(about.actions, about.relative, about.levers)

    def find(self, *, bid: int = LEAVE, ask: int = LEAVE, take: int = 0, to: int | None = None, default: int = -1) -> int:
        """The first entry that does this, whatever it does with quotes that are not named; `default` if there is none."""
        free = (LEAVE, WITHDRAW) if (bid, ask, take, to) != (LEAVE, LEAVE, 0, None) else (LEAVE,)
        for b, a in product(free if bid == LEAVE else (bid,), free if ask == LEAVE else (ask,)):
            if (b, a, take, to) in self._first:
                return self._first[b, a, take, to]
        return default

    def one(self, side: int) -> int:
        """Takes one clip of `side` where the position is flat; -1: nothing does."""
        return self.find(take=side, default=self.find(to=side))

    def more(self, side: int) -> int:
        """Takes a clip of `side`, or all that may be held of it; -1: nothing does."""
        farthest = max((side * action.to for action in self.actions if action.to is not None), default=0)
        return self.find(take=side, default=self.find(to=side * farthest) if farthest > 0 else -1)

    @property
    def flatten(self) -> int:
        """Closes the position; -1: nothing does."""
        return self.find(to=0)

    @property
    def is_box(self) -> bool:
        """Whether its actions are `LEVERS`."""
        return sorted(self.levers) == sorted(LEVERS)

    def pulled(self, values: np.ndarray) -> F32:
        """Values [N, 3] of `LEVERS` in the order in which the environment wants them."""
        return values[:, [LEVERS.index(name) for name in self.levers]].astype(np.float32)

    def allowed(self, wanted: np.ndarray, mask: Bool | None) -> np.ndarray:
        """`wanted` [N] where `mask` [N, A] allows it, else `keep`."""
        if mask is None:
            return wanted
        return np.where(mask[np.arange(len(wanted)), wanted], wanted, self.keep)

    def nearest_quotes(self, bid: F64, ask: F64, mask: Bool | None) -> np.ndarray:
        """The allowed entries [N] nearest to quotes [N] in ticks behind the touch, of those that quote and do nothing else.

        A side half a tick behind the deepest that there is counts as no quote, one inside the spread as the touch; nearest is the
        smallest sum of distances, and of several that one which changes the inventory. `keep` only where no entry is allowed.
        """
        apart = sum(
            np.abs(np.clip(side, 0.0, self._nothing)[:, None] - self._depths[None, :, column])
            for column, side in enumerate((bid, ask))
        )
        if mask is not None:
            apart = np.where(mask[:, self._quotes], apart, np.inf)
        best = np.argmin(apart, axis=1)
        return np.where(np.isfinite(np.min(apart, axis=1)), self._quotes[best], self.keep)

    def _both(self) -> dict[int, int]:
        """Entry by depth, shallow first, of those that quote both sides alike."""
        return dict(sorted((bid, entry) for bid, ask, entry in self._quoting() if bid == ask != WITHDRAW))

    def _quoting(self) -> list[tuple[int, int, int]]:
        """(bid, ask, entry) of those that only quote."""
        found = self._first.items()
        return [(bid, ask, entry) for (bid, ask, take, to), entry in found if LEAVE not in (bid, ask) and take == 0 and to is None]

    def _quoted(self) -> tuple[np.ndarray, F64, float]:
        """Entries that only quote, their ticks behind the touch [.., 2], and those that stand for no quote: one beyond the deepest.

        One-sided entries first, then unlike depths: ties go to what changes the inventory.
        """
        quoting = self._quoting()
        nothing = 1.0 + max((depth for bid, ask, _ in quoting for depth in (bid, ask)), default=0)

        def order(quote: tuple[int, int, int]) -> tuple[int, float, float]:
            bid, ask = (nothing if side == WITHDRAW else side for side in quote[:2])
            none, one = bid == ask == nothing, nothing in (bid, ask)
            return 3 if none else 0 if one else 1 if bid != ask else 2, bid, ask

        quoting.sort(key=order)
        depths = [[nothing if side == WITHDRAW else side for side in quote[:2]] for quote in quoting]
        return np.array([entry for *_, entry in quoting], np.int64), np.array(depths, np.float64).reshape(-1, 2), nothing


def _meaning(action: Action) -> tuple[int, int, int, int | None]:
    """(bid, ask, take, to) as they are once the action is done: what is cancelled first is withdrawn."""
    bid, ask = (WITHDRAW if side == LEAVE and action.cancel else side for side in (action.bid, action.ask))
    return bid, ask, action.take, action.to


# ---- what a rule asks of the actions


class Able(NamedTuple):
    """Something that a rule must be able to do."""

    says: str
    holds: Callable[[Menu], bool]


ANY = Able("anything", lambda menu: True)
QUOTES = Able(
    f"quote both sides at the touch, by an action of their own or by the levers {', '.join(LEVERS)}",
    lambda menu: menu.is_box or (not menu.relative and 0 in menu.both),
)
TRENDS = Able(
    f"buy and sell at the market, or quote by the levers {', '.join(LEVERS)}",
    lambda menu: menu.is_box or (not menu.relative and min(menu.more(1), menu.more(-1)) >= 0),
)
TAKES = Able(
    "buy and sell at the market, and close a position",
    lambda menu: not menu.relative and min(menu.one(1), menu.one(-1), menu.flatten) >= 0,
)
EXECUTES = Able(
    "post at the touch, and take one clip or two, of a parent order",
    lambda menu: menu.relative and min(menu.find(bid=0), menu.find(take=1), menu.find(take=2)) >= 0,
)


def require(agent: Any) -> Menu:
    """The menu of `agent`; raises `ConfigError` where its actions are not what ``agent.able`` asks for."""
    menu, able = Menu.of(agent.spec), agent.able
    if not able.holds(menu):
        told = [action.name for action in menu.actions] or list(menu.levers) or f"{agent.action_space}, of which nothing is known"
        raise ConfigError(f"{type(agent).__name__} acts where actions {able.says}, got {told}")
    return menu


def parameter(agent: Any, name: str) -> float:
    """The number that the environment of `agent` was made with: of its task, or the decisions of an episode; raises `ConfigError`
    where it does not say it."""
    about = told_by(agent.spec)
    value = (about.parameters | {"episode": about.episode or None}).get(name)
    if value is None:
        raise ConfigError(f"{type(agent).__name__} needs {name}, which {about.env_id} does not say")
    return float(value)


def quotes_in_box(bid: F64, ask: F64, max_offset: float) -> F64:
    """Quotes [N], in ticks behind the touch (negative: inside the spread), as values [N, 3] of `LEVERS`.

    The box cannot quote inside the spread on both sides at once: such quotes are moved back to the touch together.
    """
    action = np.empty((len(bid), 3))
    action[:, 0] = np.clip((bid + ask) / max_offset - 1.0, -1.0, 1.0)
    action[:, 1] = np.clip(0.5 * (ask - bid) / max_offset, -1.0, 1.0)
    action[:, 2] = 1.0
    return action
