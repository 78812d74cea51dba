"""The rules to be measured against: one table, `TABLE`; what each promises and takes stands in docs/baselines.md.

Each is short, named after its source, batched over lanes, and knows an environment through its spaces, features and spec
alone. Those that need numbers of the market take them as parameters or measure them on training days in `learn`, and do
not act before. `Oracle` is the exception that its name announces: it reads the planted truth of synthetic days.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from emp_gym.agents.baselines.action_layouts import Menu
from emp_gym.agents.baselines.quotes import GLFT, AvellanedaStoikovQuotes, CarteaJaimungalQuotes
from emp_gym.agents.baselines.schedules import POV, TWAP, VWAP, AlmgrenChrissSchedule
from emp_gym.agents.baselines.simple import Fixed, Hold, Immediate, Long, Oracle, Passive, Random, Short, Symmetric
from emp_gym.agents.baselines.takers import MeanReversionTaker, Momentum, OrderFlowTaker


class Baseline(NamedTuple):
    """One rule."""

    name: str
    agent: Any  # its `able` says what it asks of the actions of a task
    source: str


TABLE = (
    Baseline("hold", Hold, "the benchmark that every strategy with costs must beat"),
    Baseline("long", Long, "buy and hold: what drift alone is worth"),
    Baseline("short", Short, "sell and hold: what drift alone is worth"),
    Baseline("random", Random, "uniform over what is allowed"),
    Baseline("symmetric", Symmetric, "Ho and Stoll 1981 without their inventory term"),
    Baseline("avellaneda-stoikov", AvellanedaStoikovQuotes, "Avellaneda and Stoikov 2008, eqs. 29, 30"),
    Baseline("glft", GLFT, "Guéant, Lehalle and Fernandez-Tapia 2013, theorem 2, section 4"),
    Baseline("cartea-jaimungal", CarteaJaimungalQuotes, "Cartea, Jaimungal and Penalva 2015, section 10.2, eq. 10.11"),
    Baseline("ofi-taker", OrderFlowTaker, "Cont, Kukanov and Stoikov 2014, eq. 3"),
    Baseline("momentum", Momentum, "Moskowitz, Ooi and Pedersen 2012, eq. 5"),
    Baseline("mean-reversion", MeanReversionTaker, "Lehmann 1990; Gatev, Goetzmann and Rouwenhorst 2006, section 2"),
    Baseline("immediate", Immediate, "Almgren and Chriss 2001, the limit of infinite risk aversion"),
    Baseline("passive", Passive, "waits at the touch, the deadline takes the rest"),
    Baseline("twap", TWAP, "Almgren and Chriss 2001 without risk aversion"),
    Baseline("vwap", VWAP, "Berkowitz, Logue and Noser 1988; Konishi 2002"),
    Baseline("pov", POV, "Kissell and Glantz 2003"),
    Baseline("almgren-chriss", AlmgrenChrissSchedule, "Almgren and Chriss 2001, eqs. 15 to 17"),
    Baseline("oracle", Oracle, "reads the planted signal of synthetic days"),
)
"""Every baseline, in the order in which an evaluation shows them."""


def suited(menu: Menu) -> tuple[str, ...]:
    """Names of the baselines that can act with `menu`."""
    return tuple(row.name for row in TABLE if row.agent.able.holds(menu))


__all__ = [
    "GLFT", "POV", "TABLE", "TWAP", "VWAP", "AlmgrenChrissSchedule", "AvellanedaStoikovQuotes", "Baseline",
    "CarteaJaimungalQuotes", "Fixed", "Hold",
    "Immediate", "Long", "MeanReversionTaker", "Menu", "Momentum", "Oracle", "OrderFlowTaker", "Passive", "Random", "Short", "Symmetric",
    "suited",
]  # fmt: skip
