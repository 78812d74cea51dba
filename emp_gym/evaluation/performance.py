"""What a run log comes to: money, risk, trading and execution figures, each with its unit, estimator and interval.

Every measure is a `WindowShare` a window: a `top` and a `bottom` [W] whose sums over the windows are divided. A mean per episode has
a bottom of ones; a rate over all lots has the lots. Sharpe, Sortino and CVaR are statistics of the P&L of the windows.
Intervals are block bootstraps over days (`intervals.resampled`). Prices are in ticks, so that instruments compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emp_gym.evaluation import intervals, runlog
from emp_gym.evaluation.intervals import Estimate
from emp_gym.evaluation.runlog import dates, per_episode, pnl2, price_to_cash
from emp_gym.types import CASH_UNITS, F64, I64, Bool, RequestType, RunLog

BP = 1e4
TAIL = 0.05  # share of windows in `cvar5`


@dataclass(frozen=True)
class WindowShare:
    """What each window [W] adds to a measure: the measure is sum(top) / sum(bottom)."""

    top: F64
    bottom: F64
    unit: str
    meaning: str

    @property
    def per_window(self) -> F64:
        """The measure of each window on its own [W]; NaN where it has nothing to divide by."""
        return np.divide(self.top, self.bottom, out=np.full(len(self.top), np.nan), where=self.bottom != 0)


@dataclass(frozen=True)
class Figure:
    """A measure of a run with its interval."""

    unit: str
    meaning: str
    estimate: Estimate


def parts(log: RunLog) -> dict[str, WindowShare]:
    """Every measure that is a mean or a rate, by name; those of a parent order only where there was one."""
    found = {**_money(log), **_trading(log), **_queue(log), **_markouts(log)}
    if log.accounts["parent"].any():
        found |= _parent(log)
    return found


def figures(
    log: RunLog, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 2000, only: Sequence[str] | None = None
) -> dict[str, Figure]:  # fmt: skip
    """Every measure of `log` (or those in `only`) with its interval. `rng` is spawned, one stream for each measure in
    turn, so that leaving out some changes no other."""
    days = dates(log)
    table: dict[str, tuple[intervals.Statistic, str, str]] = {
        name: (intervals.ratio(part.top, part.bottom), part.unit, part.meaning) for name, part in parts(log).items()
    } | _risk(pnl2(log) / (2 * CASH_UNITS))
    streams = dict(zip(table, rng.spawn(len(table))))
    return {
        name: Figure(unit, meaning, intervals.resampled(statistic, days, streams[name], level=level, resamples=resamples))
        for name, (statistic, unit, meaning) in table.items()
        if only is None or name in only
    }


def _risk(pnl: F64) -> dict[str, tuple[intervals.Statistic, str, str]]:
    return {
        "sharpe_per_episode": (
            intervals.sharpe(pnl), "1", "mean P&L of the episodes over their standard deviation (n - 1); not annualised"),
        "sortino_per_episode": (
            intervals.sortino(pnl), "1", "mean P&L of the episodes over the root of their mean squared loss, target 0"),
        "cvar5_currency": (
            intervals.cvar(pnl, TAIL), "currency", "mean P&L of the worst 5 % of the episodes"),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- families


def _money(log: RunLog) -> dict[str, WindowShare]:
    w, to_cash = len(log.accounts), price_to_cash(log)
    fills = log.fills
    pnl = pnl2(log) / (2 * CASH_UNITS)
    turnover = per_episode(fills, fills["price"] * fills["quantity"], w) * to_cash / CASH_UNITS
    fees = per_episode(fills, fills["fee"], w) / CASH_UNITS
    one = np.ones(w)
    equity2 = _grid(log, "equity2")
    drop = (np.maximum.accumulate(equity2, axis=1) - equity2).max(axis=1) / (2 * CASH_UNITS)
    held = np.abs(_grid(log, "position"))
    return {
        "pnl_currency_per_episode": WindowShare(pnl, one, "currency", "P&L of an episode, its position closed"),
        "return_bp_of_turnover": WindowShare(BP * pnl, turnover, "bp", "P&L over the value of all that was traded"),
        "fees_bp_of_turnover": WindowShare(BP * fees, turnover, "bp", "fees less rebates over the value of all that was traded"),
        "turnover_currency_per_episode": WindowShare(turnover, one, "currency", "value of all that was traded, either side"),
        "max_drawdown_currency": WindowShare(
            drop, one, "currency", "largest fall of equity from its highest so far, at decisions; mean over episodes"),
        "max_inventory_lots": WindowShare(held.max(axis=1) * 1.0, one, "lots", "largest |position| at a decision; mean over episodes"),
    }  # fmt: skip


def _trading(log: RunLog) -> dict[str, WindowShare]:
    w, fills, tick = len(log.accounts), log.fills, _tick(log)
    lots = fills["quantity"].astype(np.float64)
    maker = fills["maker"]
    edge = fills["side"] * (fills["mid2_lots"] - 2 * fills["price"] * fills["quantity"]) / (2 * tick)

    def total(values: np.ndarray, where: Bool | None = None) -> F64:
        return _sums(fills["episode"], values if where is None else values * where, w)

    orders = log.orders[runlog.entered(log.orders)]
    keys, hits = runlog.order_keys(orders, fills)
    resting = orders["kind"] != RequestType.MARKET

    def count(which: np.ndarray) -> F64:
        return _sums(orders["episode"], which, w)

    return {
        "traded_lots_per_episode": WindowShare(total(lots), np.ones(w), "lots", "lots bought and sold"),
        "maker_share": WindowShare(total(lots, maker), total(lots), "share of lots", "lots that came to resting orders"),
        "fill_rate": WindowShare(
            count(np.isin(keys, hits)), count(np.ones(len(orders))), "share of orders", "accepted orders that got any fill"),
        "passive_fill_rate": WindowShare(
            count(np.isin(keys, hits[maker]) & resting), count(resting),
            "share of limit orders", "accepted limit orders that got a fill while resting"),
        "spread_captured_ticks_per_lot": WindowShare(
            total(edge), total(lots), "ticks", "side x (mid - price) of all executions: negative where more was paid"),
        "maker_spread_captured_ticks_per_lot": WindowShare(
            total(edge, maker), total(lots, maker), "ticks", "the same of resting orders; mid before the message"),
        "taker_spread_paid_ticks_per_lot": WindowShare(
            total(-edge, ~maker), total(lots, ~maker), "ticks", "price less mid, impact beyond the touch included"),
    }  # fmt: skip


def _queue(log: RunLog) -> dict[str, WindowShare]:
    w, fills = len(log.accounts), log.fills
    orders = log.orders[runlog.entered(log.orders)]
    orders = orders[orders["ahead"] >= 0]
    keys, hits = runlog.order_keys(orders, fills)
    filled = np.isin(keys, hits[fills["maker"]])
    seen = fills["maker"] & (fills["ahead_seen"] >= 0)

    def part(table: np.ndarray, column: str, where: Bool, meaning: str) -> WindowShare:
        episode = table["episode"]
        return WindowShare(_sums(episode, table[column] * where, w), _sums(episode, where, w), "lots", meaning)

    return {
        "ahead_at_posting_lots": part(
            orders, "ahead", np.ones(len(orders), bool), "visible lots ahead of a limit order when it joined, place known"),
        "ahead_at_posting_of_filled_lots": part(
            orders, "ahead", filled, "the same of those that got a fill while resting"),
        "ahead_before_fill_lots": part(
            fills, "ahead_seen", seen, "lots ahead at the last decision before a fill, of orders that rested then"),
    }  # fmt: skip


def _markouts(log: RunLog) -> dict[str, WindowShare]:
    """Adverse selection, realised spread and what takers foresaw, at every horizon of the log."""
    w, fills, tick = len(log.accounts), log.fills, _tick(log)
    edge2 = fills["side"] * (fills["mid2_lots"] - 2 * fills["price"] * fills["quantity"])
    found = {}
    for horizon in runlog.horizons(log):
        later = fills[horizon.column]
        moved2 = fills["side"] * (later * fills["quantity"] - fills["mid2_lots"])
        made, took = fills["maker"] & (later != 0), ~fills["maker"] & (later != 0)

        def part(values2: I64, where: Bool, meaning: str) -> WindowShare:
            top = _sums(fills["episode"], values2 * where / (2 * tick), w)
            return WindowShare(top, _sums(fills["episode"], fills["quantity"] * where, w), "ticks", meaning)

        after = f"{horizon.name.replace('_', ' ')} after"
        found[f"adverse_selection_ticks_per_lot_{horizon.name}"] = part(
            -moved2, made, f"how far the mid had moved against resting orders {after} they were filled")
        found[f"realised_spread_ticks_per_lot_{horizon.name}"] = part(
            edge2 + moved2, made, f"what was left of their spread then: side x (mid {after} - price)")
        found[f"taker_markout_ticks_per_lot_{horizon.name}"] = part(
            moved2, took, f"how far the mid had moved the way of taken lots {after}")  # fmt: skip
    return found


def _parent(log: RunLog) -> dict[str, WindowShare]:
    """Of a parent order: what it cost against its arrival, against the average price of its window, and what was left."""
    fills, accounts, w = log.fills, log.accounts, len(log.accounts)
    side, parent, arrival2 = (accounts[name] * 1.0 for name in ("parent_side", "parent", "arrival2"))
    done = accounts["parent_side"] * runlog.final_position(log)
    left: F64 = parent - done
    end2 = runlog.ends(log)["tape_mid2"]
    missed = side * left * (end2 - arrival2) / 2 * price_to_cash(log) / CASH_UNITS
    value = arrival2 / 2 * parent * price_to_cash(log) / CASH_UNITS
    paid2 = 2.0 * per_episode(fills, fills["side"] * fills["price"] * fills["quantity"], w) * side
    forced = _sums(fills["episode"], fills["quantity"] * (fills["id"] == runlog.CLOSING), w)
    one, there = np.ones(w), done > 0
    advantage: F64 = side * BP * (accounts["twap2"] * done - paid2) / np.where(there, accounts["twap2"] * done, 1)
    shortfall: F64 = BP * (missed - pnl2(log) / (2 * CASH_UNITS)) / value
    return {
        "implementation_shortfall_bp": WindowShare(
            shortfall, one, "bp of the arrival value",
            "Perold (1988): cost against the arrival mid, fees included, what was not executed at the last mid"),
        "price_advantage_vs_twap_bp": WindowShare(
            np.where(there, advantage, 0.0), there.astype(np.float64), "bp",
            "mean price against the time-weighted mid of the whole window, fees left out; positive is better than it"),
        "unfilled_lots": WindowShare(left, one, "lots", "of the parent order, when the episode was over"),
        "left_to_the_deadline_lots": WindowShare(
            forced, one, "lots", "of the parent order that had to be taken at once when the time was up"),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ pieces


def _sums(episode: np.ndarray, values: np.ndarray, episodes: int) -> F64:
    """Sums of `values` by episode [episodes]."""
    return np.bincount(episode, values, minlength=episodes).astype(np.float64)


def _tick(log: RunLog) -> I64:
    """Tick of each fill's instrument, price units."""
    return log.accounts["tick"][log.fills["episode"]]


def _grid(log: RunLog, column: str) -> np.ndarray:
    """A column of the steps as [W, longest + 1]; episodes that ended earlier stay where they ended."""
    steps, length = log.steps, log.accounts["decisions"]
    grid = np.zeros((len(length), int(length.max(initial=0)) + 1), log.steps[column].dtype)
    grid[steps["episode"], steps["decision"]] = steps[column]
    at = np.minimum(np.arange(grid.shape[1]), length[:, None])
    return np.take_along_axis(grid, at, axis=1)

