"""Writes down what happens while an agent is evaluated: the tables of a run log, all lanes at once.

A step costs a few copies of arrays over the lanes. What only the tape knows (mids at and after fills, the touch, volume
ahead of an order where it joined, regimes) is looked up once, when all episodes are over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emp_gym.data.tape import TapeSet
from emp_gym.envs.wrappers.diary import describe
from emp_gym.evaluation import runlog
from emp_gym.evaluation.runlog import HORIZONS, NEVER_RESTED, NO_ACTION, NO_REGIME, UNKNOWN_PLACE, Horizon
from emp_gym.sensory.regime import label
from emp_gym.types import F64, I8, I64, Bool, ConfigError, OrderKind, Outcome

RESTS = (OrderKind.LIMIT, OrderKind.REPLACE)


class Recorder:
    """Records one evaluation: `begin` after the reset, `step` after every step, then `tables` and `about`.

    Needs an environment of ours with a market, in the autoreset mode "Disabled": every lane is one episode. `horizons` are
    those at which mids after fills are kept; `regime` labels every row of the tapes (None: nobody knows).
    """

    def __init__(self, horizons: Sequence[Horizon] = HORIZONS, regime: Callable[[TapeSet], I8] | None = label) -> None:
        self.horizons, self._regime = tuple(horizons), regime
        self._lanes: Any = None

    def begin(self, env: Any) -> None:
        """The episodes have just begun."""
        lanes: Any = getattr(env.unwrapped, "lanes", None)
        if not hasattr(lanes, "market"):
            raise ConfigError(
                f"only environments with a market of EMP Gym can be recorded, got {type(env.unwrapped).__name__}; "
                "leave record= (--log) out: summaries of episodes are kept all the same"
            )
        if self._lanes is not None:
            raise ConfigError("a Recorder records one evaluation; make another one")
        self._lanes, self._decision, self._described = lanes, 0, describe(env)
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in runlog.TABLES}
        self._levers = [] if lanes.task.menu else [f"lever_{i}" for i in range(lanes.task.action_space.shape[0])]
        self._step_type = runlog.extended("steps", [(name, "<f4") for name in self._levers])
        self._arrival2 = lanes.market.state["mid2"].copy()
        self._day = lanes.market.state["day"].copy()
        self._stand(np.arange(lanes.lanes))

    def step(self, running: Bool, actions: np.ndarray, rewards: np.ndarray) -> None:
        """One step is over, in which the lanes `running` [N] took part; actions [N] or [N, levers], rewards [N]."""
        now = self._parts["steps"][-1]  # where they stood
        part = running[now["episode"]]
        lanes = now["episode"][part]
        now["reward"][part] = rewards[lanes]
        if self._lanes.task.menu:
            now["action"][part] = np.asarray(actions)[lanes]
        else:
            for i, name in enumerate(self._levers):
                now[name][part] = np.asarray(actions)[lanes, i]
        self._sent(running)
        self._objected(running)
        self._filled(running)
        self._decision += 1
        self._stand(lanes)

    # ---- while it runs

    def _stand(self, lanes: np.ndarray) -> None:
        """Notes where `lanes` stand now."""
        state, view = self._lanes.market.state, self._lanes.market.view
        where = slice(None) if len(lanes) == len(state) else lanes
        rows = np.zeros(len(lanes), self._step_type)
        rows["episode"], rows["decision"], rows["action"] = lanes, self._decision, NO_ACTION
        for name in ("time_ns", "row", "seen_row", "cash", "fees", "position", "mid2"):
            rows[name] = state[name][where]
        rows["bid"], rows["ask"] = view.bid_price[where, 0, 0], view.ask_price[where, 0, 0]
        rows["equity2"] = 2 * rows["cash"] + rows["position"] * rows["mid2"] * view.price_to_cash
        self._parts["steps"].append(rows)
        self._order_id, self._order_ahead = view.order_id.copy(), view.order_ahead.copy()
        self._order_live = view.order_live.copy()

    def _sent(self, running: Bool) -> None:
        sent = self._lanes.sent
        lane, slot = np.nonzero(sent.kind)
        if not running.all():
            lane, slot = lane[running[lane]], slot[running[lane]]
        if not len(lane):
            return
        rows = np.zeros(len(lane), runlog.SENT)
        records = sent.records[lane, slot]
        rows["episode"], rows["decision"], rows["slot"] = lane, self._decision, slot
        rows["kind"] = sent.kind[lane, slot]
        rows["outcome"] = self._lanes.market.outcome[lane, slot]
        for name in ("side", "price", "quantity", "id", "target"):
            rows[name] = records[name]
        self._parts["orders"].append(rows)

    def _objected(self, running: Bool) -> None:
        for gate, verdicts in enumerate(self._lanes.verdicts):
            if not verdicts.touched:
                continue
            lane, slot = np.nonzero(verdicts.reason)
            lane, slot = lane[running[lane]], slot[running[lane]]
            rows = np.zeros(len(lane), runlog.VERDICT)
            rows["episode"], rows["decision"], rows["gate"], rows["slot"] = lane, self._decision, gate, slot
            rows["reason"] = verdicts.reason[lane, slot]
            rows["before"], rows["after"] = verdicts.quantity_before[lane, slot], verdicts.quantity_after[lane, slot]
            self._parts["verdicts"].append(rows)

    def _filled(self, running: Bool) -> None:
        fills = self._lanes.market.last_fills()
        mine = running[fills.lane]
        if not mine.any():
            return
        rows = np.zeros(int(mine.sum()), runlog.FILLED)
        rows["episode"], rows["decision"], rows["beyond"] = fills.lane[mine], self._decision, fills.beyond_depth[mine]
        for name in ("time_ns", "row", "id", "side", "maker", "price", "quantity", "fee", "mid2_lots"):
            rows[name] = getattr(fills, name)[mine]
        lane = rows["episode"]
        there = (self._order_id[lane] == rows["id"][:, None]) & self._order_live[lane]
        seen = np.take_along_axis(self._order_ahead[lane], there.argmax(axis=1)[:, None], 1)[:, 0]
        rows["ahead_seen"] = np.where(there.any(axis=1), seen, NEVER_RESTED)
        self._parts["fills"].append(rows)

    # ---- when it is over

    def about(self) -> dict[str, Any]:
        """What a log's config says besides what was asked for; JSON values."""
        lanes, market = self._lanes, self._lanes.market
        params, instrument = market.params[0], lanes.tape.info[0].instrument
        return {
            "task": type(lanes.task).__name__,
            "menu": list(lanes.task.menu),
            "clip": int(lanes.task.order_quantity),
            "price_unit": instrument.price_unit,
            "currency": instrument.currency,
            "price_to_cash": int(params["price_to_cash"]),
            "fills": market.config.fills,
            "order_latency_ns": int(params["order_latency_ns"]),
            "feed_latency_ns": int(params["feed_latency_ns"]),
            "half_life_ns": int(params["half_life_ns"]),
            "gates": [{"name": gate["name"], "reasons": gate["reasons"]} for gate in self._described["gates"]],
            "horizons": [{"messages": h.messages, "ns": h.ns} for h in self.horizons],
            "data_hash": lanes.tape.hash,
            "days": [
                {"symbol": day.instrument.symbol, "date": day.date, "rows": day.rows, "tick": day.instrument.tick}
                for day in lanes.tape.info
            ],
        }

    def tables(self) -> dict[str, np.ndarray]:
        """The tables of the run log: see `emp_gym.evaluation.runlog`."""
        tape, row0 = self._lanes.tape, self._lanes.tape.days["row0"][self._day]  # [W]
        tables = {}
        for name, dtype in {**runlog.TABLES, "steps": self._step_type}.items():
            table = np.concatenate([np.zeros(0, dtype), *self._parts[name]])
            tables[name] = table[np.argsort(table["episode"], kind="stable")]
        labels = None if self._regime is None else self._regime(tape)
        steps, fills, orders = tables["steps"], tables["fills"], tables["orders"]
        for table in (steps, fills):
            at = row0[table["episode"]] + table["row"]
            table["regime"] = NO_REGIME if labels is None else labels[at]
            if table is steps:
                steps["tape_mid2"] = tape.rows["mid2"][at]
        tables["accounts"] = self._accounts(steps)
        decided = np.searchsorted(steps["episode"], orders["episode"]) + orders["decision"]
        orders["time_ns"] = steps["time_ns"][decided]
        orders["ahead"] = self._ahead(orders, steps["row"][decided])
        tables["fills"] = self._seen_afterwards(fills, orders)
        return tables

    def _accounts(self, steps: np.ndarray) -> np.ndarray:
        lanes, n = self._lanes, self._lanes.lanes
        accounts = np.zeros(n, runlog.ACCOUNT)
        accounts["episode"], accounts["day"], accounts["arrival2"] = np.arange(n), self._day, self._arrival2
        accounts["decisions"] = np.bincount(steps["episode"], minlength=n) - 1
        accounts["tick"] = lanes.tape.days["tick"][self._day]
        accounts["deadline_row"] = self._deadlines()
        accounts["twap2"] = self._twap2(lanes.market.state["start_row"], accounts["deadline_row"])
        if lanes.task.reward == "shortfall":
            accounts["parent_side"], accounts["parent"] = lanes.episodes["parent_side"], lanes.task.parent
            accounts["mark2"] = self._arrival2
        else:
            accounts["mark2"] = lanes.market.state["mid2"]
        return accounts

    def _deadlines(self) -> I64:
        """Rows in which the episodes end if nothing ends them before [W]."""
        lanes, tape = self._lanes, self._lanes.tape
        state = lanes.market.state
        rows = state["start_row"].copy()
        for day in np.unique(self._day):
            own, mine = tape.rows[tape.day_slice(int(day))], self._day == day
            if lanes.pace.rows:
                for _ in range(lanes.episode):
                    rows[mine] = own["group_end"][np.minimum(rows[mine] + lanes.pace.rows, len(own) - 1)]
            else:
                until = own["time_ns"][rows[mine]] + lanes.pace.ns * lanes.episode
                rows[mine] = np.searchsorted(own["time_ns"], until, side="right") - 1
            rows[mine] = np.minimum(rows[mine], own["group_end"][state["end_row"][mine]])
        return rows

    def _twap2(self, first: I64, last: I64) -> F64:
        """Twice the time-weighted mean mid from row `first` to row `last` [W] of each episode's day."""
        mean = np.zeros(len(first))
        for day in np.unique(self._day):
            own, mine = self._lanes.tape.rows[self._lanes.tape.day_slice(int(day))], self._day == day
            low, high = first[mine], last[mine]
            above = (own["mid2"] - own["mid2"][low[0]]).astype(np.float64)
            area = np.concatenate([[0.0], np.cumsum(above[:-1] * np.diff(own["time_ns"]))])
            span = own["time_ns"][high] - own["time_ns"][low]
            part = np.divide(area[high] - area[low], span, out=above[low], where=span > 0)
            mean[mine] = own["mid2"][low[0]] + part
        return mean

    def _ahead(self, orders: np.ndarray, rows: I64) -> I64:
        """Volume ahead of `orders` when they join their queues (decided at `rows`), as the market's rule has it."""
        tape, latency = self._lanes.tape, int(self._lanes.market.params[0]["order_latency_ns"])
        ahead = np.full(len(orders), NEVER_RESTED, np.int64)
        rests = np.isin(orders["kind"], RESTS) & (orders["outcome"] == Outcome.ACCEPTED)
        day_of = self._day[orders["episode"]]
        for day in np.unique(day_of[rests]):
            mine = np.flatnonzero(rests & (day_of == day))
            arrive = rows[mine]
            if latency:
                times = tape.rows["time_ns"][tape.day_slice(int(day))]
                arrive = np.searchsorted(times, orders["time_ns"][mine] + latency, side="right") - 1
            ahead[mine] = _volume_ahead(tape, int(day), arrive, orders["side"][mine], orders["price"][mine])
        return ahead

    def _seen_afterwards(self, fills: np.ndarray, orders: np.ndarray) -> np.ndarray:
        """`fills` with what the tape and the orders know of them."""
        tape, day_of = self._lanes.tape, self._day[fills["episode"]]
        known = np.zeros(len(fills), runlog.extended("fills", [(h.column, "<i8") for h in self.horizons]))
        for name in runlog.FILLED.names or ():
            known[name] = fills[name]
        day = tape.days[day_of]
        at, maker, buys = day["row0"] + fills["row"], fills["maker"], fills["side"] > 0
        known["mid2"] = np.where(maker, tape.messages["mid2"][at], tape.rows["mid2"][at])
        best = tape.book[at - maker, np.where(buys == maker, 0, 1), 0]
        known["touch"] = np.where(best["size"] > 0, day["base"] + best["price"], fills["price"])
        known["ahead"] = _of_order(fills, orders, "ahead", NEVER_RESTED)
        for horizon in self.horizons:
            known[horizon.column] = mid2_after(tape, day_of, fills["row"], fills["time_ns"], horizon)
        return known


def mid2_after(tape: TapeSet, day: I64, row: I64, time_ns: I64, horizon: Horizon) -> I64:
    """Twice the mid `horizon` after `row` at `time_ns` [F]: of the last row not later; 0 where the day ends before."""
    found = np.zeros(len(row), np.int64)
    for each in np.unique(day):
        mine, own = np.flatnonzero(day == each), tape.rows[tape.day_slice(int(each))]
        if horizon.messages:
            then = row[mine] + horizon.messages
        else:
            until = time_ns[mine] + horizon.ns
            then = np.searchsorted(own["time_ns"], until, side="right") - 1
            then[until > own["time_ns"][-1]] = len(own)
        there = then < len(own)
        found[mine[there]] = own["mid2"][then[there]]
    return found


def _volume_ahead(tape: TapeSet, day: int, row: I64, side: I8, price: I64) -> I64:
    """Visible lots at (side, price) after `row` [n]; 0 inside the visible levels, UNKNOWN_PLACE beyond them."""
    levels = tape.book[tape.day_slice(day)][row, np.where(side > 0, 0, 1)]  # [n, L]
    there = levels["size"] > 0
    gap = side[:, None] * (levels["price"].astype(np.int64) + tape.days[day]["base"] - price[:, None])  # > 0: better
    at_price = (there & (gap == 0)).any(axis=1)
    lots = np.where(there & (gap == 0), levels["size"], 0).sum(axis=1)
    inside = ~there[:, -1] | (there & (gap < 0)).any(axis=1)
    return np.where(at_price, lots, np.where(inside, 0, UNKNOWN_PLACE))


def _of_order(fills: np.ndarray, orders: np.ndarray, name: str, otherwise: int) -> np.ndarray:
    """Column `name` of the order of each fill; `otherwise` for those that are of none."""
    known = orders[runlog.entered(orders)]
    keys, wanted = runlog.order_keys(known, fills)
    keys = np.append(keys, -2)  # somebody must be found
    order = np.argsort(keys)
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, np.append(known[name], otherwise)[at], otherwise)
