"""The rules to be measured against: one table, `TABLE`; what each promises and takes stands in docs/baselines.md.

Each is short, named after its source, batched over lanes, and knows an environment through its spaces, features and spec
alone. Those that need numbers of the market take them as parameters or measure them on training days in `learn`, and do
not act before. `Oracle` is the exception that its name announces: it reads the planted truth of synthetic days.
"""

from __future__ import annotations

from typing import NamedTuple

from emp_gym.agents.baselines.menus import (
    AT_TOUCH,
    BUY,
    EXECUTE,
    FLATTEN,
    KEEP,
    MAKE,
    NO_SIZE,
    QUOTE_BOTH,
    SELL,
    TRADE,
    allowed,
)  # fmt: skip
from emp_gym.agents.baselines.quotes import GLFT, AvellanedaStoikov, CarteaJaimungal
from emp_gym.agents.baselines.schedules import POV, TWAP, VWAP, AlmgrenChriss
from emp_gym.agents.baselines.simple import Fixed, Hold, Immediate, Long, Oracle, Passive, Random, Short, Symmetric
from emp_gym.agents.baselines.takers import MeanReversion, Momentum, OrderFlowTaker


class Baseline(NamedTuple):
    """One rule."""

    name: str
    agent: type
    tasks: tuple[str, ...]  # environment ids
    source: str


EVERY, QUOTES, TAKES, EXECUTES = (TRADE, MAKE, EXECUTE), (TRADE, MAKE), (TRADE,), (EXECUTE,)

TABLE = (
    Baseline("hold", Hold, EVERY, "the benchmark that every strategy with costs must beat"),
    Baseline("long", Long, QUOTES, "buy and hold: what drift alone is worth"),
    Baseline("short", Short, QUOTES, "sell and hold: what drift alone is worth"),
    Baseline("random", Random, EVERY, "uniform over what is allowed"),
    Baseline("symmetric", Symmetric, QUOTES, "Ho and Stoll 1981 without their inventory term"),
    Baseline("avellaneda-stoikov", AvellanedaStoikov, QUOTES, "Avellaneda and Stoikov 2008, eqs. 29, 30"),
    Baseline("glft", GLFT, QUOTES, "Guéant, Lehalle and Fernandez-Tapia 2013, theorem 2, section 4"),
    Baseline(
        "cartea-jaimungal", CarteaJaimungal, QUOTES, "Cartea, Jaimungal and Penalva 2015, section 10.2, eq. 10.11"
    ),
    Baseline("ofi-taker", OrderFlowTaker, TAKES, "Cont, Kukanov and Stoikov 2014, eq. 3"),
    Baseline("momentum", Momentum, TAKES, "Moskowitz, Ooi and Pedersen 2012, eq. 5"),
    Baseline("mean-reversion", MeanReversion, TAKES, "Lehmann 1990; Gatev, Goetzmann and Rouwenhorst 2006, section 2"),
    Baseline("immediate", Immediate, EXECUTES, "Almgren and Chriss 2001, the limit of infinite risk aversion"),
    Baseline("passive", Passive, EXECUTES, "waits at the touch, the deadline takes the rest"),
    Baseline("twap", TWAP, EXECUTES, "Almgren and Chriss 2001 without risk aversion"),
    Baseline("vwap", VWAP, EXECUTES, "Berkowitz, Logue and Noser 1988; Konishi 2002"),
    Baseline("pov", POV, EXECUTES, "Kissell and Glantz 2003"),
    Baseline("almgren-chriss", AlmgrenChriss, EXECUTES, "Almgren and Chriss 2001, eqs. 15 to 17"),
    Baseline("oracle", Oracle, TAKES, "reads the planted signal of synthetic days"),
)
"""Every baseline, in the order in which an evaluation shows them."""

__all__ = [
    "AT_TOUCH", "BUY", "FLATTEN", "GLFT", "KEEP", "NO_SIZE", "POV", "QUOTE_BOTH", "SELL", "TABLE", "TWAP", "VWAP",
    "AlmgrenChriss", "AvellanedaStoikov", "Baseline", "CarteaJaimungal", "Fixed", "Hold", "Immediate", "Long", "MeanReversion",
    "Momentum", "Oracle", "OrderFlowTaker", "Passive", "Random", "Short", "Symmetric", "allowed",
]  # fmt: skip
