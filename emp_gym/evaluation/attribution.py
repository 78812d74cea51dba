"""Where the P&L of an episode came from, in integers: spread, impact, adverse selection, inventory drift, fees. Nothing is left.

    P&L  =  spread + impact      the edge of each execution: side * (mid - price) * lots at its moment
          + adverse + drift      what was held: position * change of the mid, from event to event
          + fees

The edge is split at the touch: up to it is *spread* (positive for who waits, negative for who takes), what a taker pays
beyond it is *impact*. What is held is split by age: for `horizon` after an execution that came to us (a maker's), its lots
are *young*, whatever is done in the meantime; young lots times the change of the mid is *adverse* selection, the rest of
the position is inventory *drift*. What the terms do not mean: `docs/evaluation.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emp_gym.evaluation import runlog
from emp_gym.evaluation.runlog import Horizon, horizons, pnl2, price_to_cash
from emp_gym.types import CASH_UNITS, EMPTY_ASK, EMPTY_BID, F64, I64, NS, ConfigError, Regime, RunLog

TERMS = ("spread2", "impact2", "adverse2", "drift2", "fees2")
TERM = np.dtype([(name, "i8") for name in TERMS])
"""Twice the money of each term, 1e-8 currency; positive is gained."""

SECOND = Horizon(ns=NS)
UNKNOWN = len(Regime)  # column of `by_regime` for what has no label
ONE_TICK = 1.5  # mean spread in ticks up to which a day counts as one-tick


@dataclass(frozen=True)
class Attribution:
    """The terms of W episodes. `by_regime` has a column for each `Regime` and one for what has no label."""

    horizon: Horizon
    by_regime: np.ndarray  # TERM [W, 10]
    pnl2: I64  # [W], from fills alone, by another way

    @property
    def terms(self) -> np.ndarray:
        """TERM [W]: of whole episodes."""
        whole = np.zeros(len(self.by_regime), TERM)
        for name in TERMS:
            whole[name] = self.by_regime[name].sum(axis=1)
        return whole

    @property
    def residual2(self) -> I64:
        """P&L that no term explains [W]: always 0."""
        terms = self.terms
        return self.pnl2 - np.sum([terms[name] for name in TERMS], axis=0)

    def currency(self) -> dict[str, F64]:
        """spread, impact, adverse, drift, fees and pnl of each episode [W], in currency."""
        terms = self.terms
        return {name[:-1]: terms[name] / (2 * CASH_UNITS) for name in TERMS} | {"pnl": self.pnl2 / (2 * CASH_UNITS)}

    def regime_currency(self) -> dict[str, F64]:
        """The terms and their sum as pnl [10], summed over all episodes, in currency; order of `by_regime`."""
        sums = {name[:-1]: self.by_regime[name].sum(axis=0) / (2 * CASH_UNITS) for name in TERMS}
        return sums | {"pnl": np.sum(list(sums.values()), axis=0)}


def attribute(log: RunLog, horizon: Horizon = SECOND) -> Attribution:
    """The terms of every episode of `log`; `horizon` says how long an execution counts as young.

    `ConfigError` if the log's fills do not know the mid after that horizon.
    """
    if horizon not in horizons(log):
        raise ConfigError(
            f"the log has no mids {horizon.name} after its fills, only {[h.name for h in horizons(log)]}; take one of "
            "these, or record with Recorder(horizons=...)"
        )
    terms = np.zeros((len(log.accounts), UNKNOWN + 1), TERM)
    fills, worth = log.fills, price_to_cash(log)
    to_cash = worth[fills["episode"]]
    side, lots = fills["side"].astype(np.int64), fills["quantity"]
    edge2 = side * (fills["mid2_lots"] - 2 * fills["price"] * lots)
    impact2 = np.where(fills["maker"], 0, 2 * side * (fills["touch"] - fills["price"]) * lots)
    where = (fills["episode"], fills["regime"])  # -1 is the last column
    np.add.at(terms["spread2"], where, (edge2 - impact2) * to_cash)
    np.add.at(terms["impact2"], where, impact2 * to_cash)
    np.add.at(terms["fees2"], where, -2 * fills["fee"])
    _hold(terms, log, horizon, worth)
    return Attribution(horizon, terms, pnl2(log))


def _hold(terms: np.ndarray, log: RunLog, horizon: Horizon, worth: I64) -> None:
    """Adds what was held to the terms, from event to event: decisions, executions, and ends of youth; `worth` is the cash of a
    price unit and lot of each episode."""
    steps, fills, accounts = log.steps, log.fills, log.accounts
    signed = fills["side"] * fills["quantity"]
    young = np.where(fills["maker"], signed, 0)
    aging = _grow_old(log, horizon)
    clock = "time_ns" if horizon.ns else "row"
    old_at = fills[clock][aging] + (horizon.ns or horizon.messages)
    events = np.concatenate(
        [
            _events(steps["episode"], steps[clock], 2 * steps["decision"], steps["tape_mid2"], regime=steps["regime"]),
            _events(fills["episode"], fills[clock], 2 * fills["decision"] + 1, fills["mid2"], signed, young, fills["regime"]),
            _events(fills["episode"][aging], old_at, -1, fills[horizon.column][aging], young=-young[aging]),
        ]
    )  # fmt: skip
    events = events[np.lexsort((events["turn"], events["at"], events["episode"]))]
    last = np.flatnonzero(np.diff(events["episode"], append=-1))  # of each episode: its end
    change = np.append(np.diff(events["mid2"]), 0)
    change[last] = 0
    held, fresh = (_running(events[name], events["episode"], len(accounts)) for name in ("position", "young"))
    told = np.maximum.accumulate(np.where(events["regime"] != NOT_TOLD, np.arange(len(events)), 0))
    where = (events["episode"], events["regime"][told])
    to_cash = worth[events["episode"]]
    np.add.at(terms["adverse2"], where, fresh * change * to_cash)
    np.add.at(terms["drift2"], where, (held - fresh) * change * to_cash)
    # parts of one execution that came at other mids than its last part
    between = fills["side"] * (fills["mid2"] * fills["quantity"] - fills["mid2_lots"]) * worth[fills["episode"]]
    np.add.at(terms["adverse2"], (fills["episode"], fills["regime"]), between)
    # what is held at the end is valued at the episode's mark: the arrival mid of a parent order
    jump = held[last] * (accounts["mark2"][events["episode"][last]] - events["mid2"][last]) * to_cash[last]
    np.add.at(terms["drift2"], (events["episode"][last], events["regime"][told][last]), jump)


NOT_TOLD = -2  # regime of an event that has none of its own
_EVENT = np.dtype(
    [
        ("episode", "i8"),
        ("at", "i8"),  # ns or rows
        ("turn", "i8"),  # which comes first at one time
        ("mid2", "i8"),
        ("position", "i8"),  # change of it, lots
        ("young", "i8"),  # change of it, lots
        ("regime", "i8"),
    ]
)


def _events(
    episode: np.ndarray, at: np.ndarray, turn: np.ndarray | int, mid2: np.ndarray, position: np.ndarray | int = 0,
    young: np.ndarray | int = 0, regime: np.ndarray | int = NOT_TOLD,
) -> np.ndarray:  # fmt: skip
    events = np.zeros(len(episode), _EVENT)
    for name, values in zip(_EVENT.names or (), (episode, at, turn, mid2, position, young, regime)):
        events[name] = values
    return events


def _grow_old(log: RunLog, horizon: Horizon) -> np.ndarray:
    """Maker's fills whose youth ends before their episode does."""
    fills, clock = log.fills, "time_ns" if horizon.ns else "row"
    end = runlog.ends(log)[clock]
    old_at = fills[clock] + (horizon.ns or horizon.messages)
    return np.flatnonzero(fills["maker"] & (old_at <= end[fills["episode"]]) & (fills[horizon.column] != 0))


def _running(changes: np.ndarray, episode: np.ndarray, episodes: int) -> I64:
    """Running sums within each episode; rows are sorted by episode."""
    total = np.cumsum(changes)
    before = np.concatenate([[0], total])[np.searchsorted(episode, np.arange(episodes))]
    return total - before[episode]


# ----------------------------------------------------------------------------------------------------------- tick regimes


def spread_ticks(log: RunLog) -> F64:
    """Mean spread of each episode's day [W] in ticks, over the decisions of all episodes on that day that saw two sides."""
    steps, accounts = log.steps, log.accounts
    quoted = (steps["bid"] != EMPTY_BID) & (steps["ask"] != EMPTY_ASK)
    own = accounts[steps["episode"]]
    day = own["day"][quoted]
    ticks = ((steps["ask"] - steps["bid"]) / own["tick"])[quoted]
    days = int(accounts["day"].max(initial=0)) + 1
    count = np.bincount(day, minlength=days)
    mean = np.bincount(day, ticks, minlength=days) / np.maximum(count, 1)
    return np.where(count, mean, np.nan)[accounts["day"]]


def one_tick(log: RunLog) -> np.ndarray:
    """Whether the spread of each episode's day [W] is about one tick: at most `ONE_TICK` on average."""
    return spread_ticks(log) <= ONE_TICK


def per_regime_decisions(log: RunLog) -> I64:
    """Decisions taken in each regime [10], order of `Attribution.by_regime`."""
    acted = log.steps["decision"] < log.accounts["decisions"][log.steps["episode"]]
    return np.bincount(log.steps["regime"][acted] % (UNKNOWN + 1), minlength=UNKNOWN + 1)
