"""Writes down what happens while an agent is evaluated: the tables of a run log, all lanes at once.

Decisions, requests, objections and fills are noted by the diary's recorder; where the lanes stand, and what a diary does not hold,
beside it: a few copies of arrays over the lanes a step. What only the tape knows (mids at and after fills, the touch, volume
ahead of an order where it joined, regimes) is looked up once, when all episodes are over. Where there is no market, what was decided and
what it brought is all that can be told; where it has no days, its fills besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from gymnasium import spaces

from emp_gym.data.tape.format import DayInfo
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.envs.about import MARKET, about
from emp_gym.envs.wrappers.diary import describe
from emp_gym.evaluation import runlog
from emp_gym.evaluation.observers import Began, Decision, Observer, Settled
from emp_gym.evaluation.runlog import HORIZONS, NEVER_RESTED, NO_ACTION, NO_REGIME, UNKNOWN_PLACE, Horizon
from emp_gym.governance.diary.blocks import Block
from emp_gym.governance.diary.recorder import DecisionRecorder as Noted
from emp_gym.sensory.regime import label
from emp_gym.types import F64, I8, I64, Bool, ConfigError, OrderAck, RequestType

RESTS = (RequestType.LIMIT, RequestType.REPLACE)


def recorder(env: Any) -> RunRecorder | Decisions:
    """What records an evaluation in environments like `env`: all that happens on days, or decisions, rewards and what was filled."""
    known = about(env)
    return RunRecorder() if known.kind == MARKET and known.days is not None else Decisions()


class Decisions:
    """Records decisions and rewards of one evaluation, in any vector environment that does not reset itself.

    `begin`, `step` after every step, then `tables` and `about`. The table is `runlog.DECIDED`, with that of the fills beside it in a
    market without days.
    """

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._about: dict[str, Any] = {}
        self._filled: _Filled | None = None

    def begin(self, env: Any) -> None:
        """The episodes are about to begin."""
        if self._about:
            raise ConfigError("Decisions records one evaluation; make another one")
        space = env.single_action_space
        menu = isinstance(space, spaces.Discrete)
        self._levers = [] if menu else [f"lever_{i}" for i in range(int(np.prod(space.shape)))]
        self._about = {"environment": type(env.unwrapped).__name__, "actions": int(space.n) if menu else self._levers}
        self._type = runlog.extended("decisions", [(name, "<f4") for name in self._levers])
        if (known := about(env)).simulated:
            self._filled = env.unwrapped.attach(_Filled())
            rules, currency = [asdict(one) for one in known.instruments], known.instruments[0].currency
            self._about |= {"market": known.market, "instruments": rules, "currency": currency}

    def step(self, running: Bool, actions: np.ndarray, rewards: np.ndarray) -> None:
        """One step is over, in which the lanes `running` [N] took part; actions [N, ...], rewards [N]."""
        lanes = np.flatnonzero(running)
        rows = np.zeros(len(lanes), self._type)
        rows["episode"], rows["decision"], rows["reward"] = lanes, len(self._parts), np.asarray(rewards)[lanes]
        chosen = np.asarray(actions)[lanes].reshape(len(lanes), -1)
        rows["action"] = NO_ACTION if self._levers else chosen[:, 0]
        for name, column in zip(self._levers, chosen.T):
            rows[name] = column
        self._parts.append(rows)

    def about(self) -> dict[str, Any]:
        """What a log's config says besides what was asked for; JSON values."""
        return self._about

    def tables(self) -> dict[str, np.ndarray]:
        """The tables of the run log."""
        told = {"decisions": _by_episode(self._parts, self._type)}
        return told if self._filled is None else told | {"fills": _by_episode(self._filled.parts, runlog.FILLED)}


class _Filled(Observer):
    """Notes the fills of a market without days: what such a one reports, and nothing of what stood in the book."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self._step = 0

    def settled(self, now: Settled) -> None:
        fills = now.fills
        mine = now.moved[fills.lane]
        rows = np.zeros(int(mine.sum()), runlog.FILLED)
        for name in set(runlog.FILLED.names or ()) & set(vars(fills)):
            rows[name] = getattr(fills, name)[mine]
        rows["episode"], rows["decision"], rows["beyond"] = fills.lane[mine], self._step, fills.beyond_depth[mine]
        rows["mid2"], rows["touch"], rows["regime"] = rows["mid2_lots"] // rows["quantity"], rows["price"], NO_REGIME
        rows["ahead"] = rows["ahead_seen"] = np.where(rows["maker"], UNKNOWN_PLACE, NEVER_RESTED)
        self.parts.append(rows)
        self._step += 1


class RunRecorder(Observer):
    """Records one evaluation: `begin` before the reset, then `tables` and `about`.

    Needs an environment of ours with a market, in the autoreset mode "Disabled": every lane is one episode. `horizons` are
    those at which mids after fills are kept; `regime` labels every row of the tapes (None: nobody knows).
    """

    def __init__(self, horizons: Sequence[Horizon] = HORIZONS, regime: Callable[[TapeSet], I8] | None = label) -> None:
        self.horizons, self._regime = tuple(horizons), regime
        self._env: Any = None

    def begin(self, env: Any) -> None:
        """The episodes are about to begin."""
        self._known = about(env)
        if self._known.kind != MARKET or self._known.days is None:
            raise ConfigError(
                f"only environments on days of a market of EMP Gym can be recorded, got {type(env.unwrapped).__name__}; "
                "leave record= (--log) out: summaries of episodes are kept all the same"
            )
        if self._env is not None:
            raise ConfigError("a Recorder records one evaluation; make another one")
        self._env, self._described = env.unwrapped, describe(env)
        self._levers = [] if self._known.menu else [f"lever_{i}" for i in range(env.single_action_space.shape[0])]
        self._step_type = runlog.extended("steps", [(name, "<f4") for name in self._levers])
        self._fill_type = runlog.extended("fills", [(horizon.column, "<i8") for horizon in self.horizons])
        self._noted = Noted(len(self._env.mask), self._known.requests, len(self._levers), rows=1)
        self._env.attach(self)

    # ---- while it runs

    def began(self, now: Began) -> None:
        self._stands: list[np.ndarray] = []
        self._outcomes: list[I8] = []
        self._places: list[I64] = []
        self._rows = np.zeros(len(now.lanes), np.int64)  # of `steps`, so far
        self._arrival2, self._tick = now.view.mid2[:, 0].copy(), now.view.tick[:, 0].copy()
        self._day = now.public.lane["day"].copy()
        self._stand(now, now.lanes)

    def decided(self, now: Decision) -> None:
        self._noted.decided(now)

    def settled(self, now: Settled) -> None:
        self._noted.settled(now)
        self._outcomes.append(now.outcome[now.moved])
        self._filled(now)
        self._stand(now, np.flatnonzero(now.moved))

    def _stand(self, now: Began | Settled, lanes: np.ndarray) -> None:
        """Notes where `lanes` stand now."""
        (lane, quote, *_), view = now.public, now.view
        where = slice(None) if len(lanes) == len(lane) else lanes
        rows = np.zeros(len(lanes), self._step_type)
        self._rows[where] += 1
        rows["episode"], rows["decision"], rows["action"] = lanes, self._noted.step, NO_ACTION
        for name in ("time_ns", "row", "seen_row", "cash", "fees"):
            rows[name] = lane[name][where]
        for name in ("position", "mid2"):
            rows[name] = quote[name][where, 0]
        rows["bid"], rows["ask"] = view.bid_price[where, 0, 0], view.ask_price[where, 0, 0]
        rows["equity2"] = 2 * rows["cash"] + rows["position"] * rows["mid2"] * quote["price_to_cash"][where, 0]
        self._stands.append(rows)
        self._order_id, self._order_ahead = view.order_id.copy(), view.order_ahead.copy()
        self._order_live = view.order_live.copy()

    def _filled(self, now: Settled) -> None:
        """Notes of each fill what a diary does not hold: mids times lots, and the volume ahead at the last decision."""
        mine = now.moved[now.fills.lane]
        lane = now.fills.lane[mine]
        there = (self._order_id[lane] == now.fills.id[mine][:, None]) & self._order_live[lane]
        slot = there.argmax(axis=1)
        rested = there[np.arange(len(lane)), slot]
        self._places.append(np.stack([now.fills.mid2_lots[mine], np.where(rested, self._order_ahead[lane, slot], NEVER_RESTED)]))

    # ---- when it is over

    def about(self) -> dict[str, Any]:
        """What a log's config says besides what was asked for; JSON values."""
        return {
            **{name: self._described[name] for name in ("task", "menu", "clip")},
            **self._assumed(),
            "gates": [{"name": gate["name"], "reasons": gate["reasons"]} for gate in self._described["gates"]],
            "horizons": [{"messages": h.messages, "ns": h.ns} for h in self.horizons],
            "data_hash": self._known.data_hash,
            "days": [_about_day(day, own) for day, own in zip(self._tape.info, self._env.public.rules, strict=True)],
        }

    @property
    def _tape(self) -> TapeSet:
        assert self._known.days is not None
        return self._known.days

    def _assumed(self) -> dict[str, Any]:
        """What is assumed of own orders; in a market of somebody else that is its own affair, and its name is told instead."""
        if (known := self._known).market or known.assumes is None:
            return {"market": known.market, "market_setting": dict(known.market_setting)}
        names = ("fills", "hidden_prints", "order_latency_ns", "feed_latency_ns", "half_life_ns")
        return {name: getattr(known.assumes, name) for name in names}

    def tables(self) -> dict[str, np.ndarray]:
        """The tables of the run log: see `emp_gym.evaluation.runlog`."""
        tape, row0 = self._tape, self._tape.days["row0"][self._day]  # [W]
        block = self._noted.peek()
        steps, orders, fills = self._steps(block), self._orders(block), self._fills(block)
        labels = None if self._regime is None else _labels(tape, self._regime)
        for table in (steps, fills):
            at = row0[table["episode"]] + table["row"]
            table["regime"] = NO_REGIME if labels is None else labels[at]
            if table is steps:
                steps["tape_mid2"] = tape.rows["mid2"][at]
        self._seen_afterwards(fills, orders)
        return {"steps": steps, "orders": orders, "fills": fills, "verdicts": self._verdicts(block), "accounts": self._accounts()}

    def _steps(self, block: Block) -> np.ndarray:
        """All steps, each at its place: those of a lane are its decisions in turn."""
        first, decided = np.cumsum(self._rows) - self._rows, block.decisions
        steps = np.empty(int(self._rows.sum()), self._step_type)
        for part in self._stands:
            _whole(steps)[first[part["episode"]] + part["decision"]] = _whole(part)
        at = first[decided["lane"]] + decided["step"]
        steps["reward"][at] = decided["reward"]
        for name, column in zip(self._levers or ["action"], block.actions.reshape(len(at), -1).T, strict=True):
            steps[name][at] = column
        return steps

    def _orders(self, block: Block) -> np.ndarray:
        """The requests as the market got them, and what became of them at its door."""
        untouched, left = ~np.isin(self._key(block.orders), self._key(block.sent)), block.sent["kind"] != RequestType.NONE
        entries = np.concatenate([block.orders[untouched], block.sent[left]])
        entries = entries[np.argsort(self._key(entries), kind="stable")]
        entries, rows = _by_lane(entries, block, runlog.SENT)
        at, decided = entries["at"], block.decisions
        rows["outcome"] = np.concatenate([np.zeros((0, self._known.requests), np.int8), *self._outcomes])[at, entries["slot"]]
        rows["time_ns"], rows["ahead"] = decided["time_ns"][at], NEVER_RESTED
        self._ahead(rows, decided["row"][at])
        return rows

    def _key(self, entries: np.ndarray) -> I64:
        """A number for the decision and place of each of `entries`, ascending in the recorder's order."""
        return entries["at"] * self._known.requests + entries["slot"]

    def _verdicts(self, block: Block) -> np.ndarray:
        entries, rows = _by_lane(block.objections, block, runlog.VERDICT)
        keys, wanted = np.append(self._key(block.orders), -1), self._key(entries)
        of = np.searchsorted(keys[:-1], wanted)
        rows["instrument"] = np.where(keys[of] == wanted, np.append(block.orders["instrument"], 0)[of], 0)
        return rows

    def _fills(self, block: Block) -> np.ndarray:
        more = np.concatenate([np.zeros((2, 0), np.int64), *self._places], axis=1)
        places = np.argsort(block.decisions["lane"][block.fills["at"]], kind="stable")
        entries, rows = _by_lane(block.fills, block, self._fill_type)
        rows["beyond"], rows["mid2_lots"], rows["ahead_seen"] = entries["beyond_depth"], *more[:, places]
        return rows

    def _accounts(self) -> np.ndarray:
        n, view = len(self._rows), self._env.view
        accounts = np.zeros(n, runlog.ACCOUNT)
        accounts["episode"], accounts["day"], accounts["arrival2"] = np.arange(n), self._day, self._arrival2
        accounts["decisions"] = self._rows - 1
        accounts["tick"], accounts["position"] = self._tick, view.position[:, 0]
        accounts["price_to_cash"] = view.price_to_cash[:, 0]
        accounts["deadline_row"] = self._deadlines()
        accounts["twap2"] = self._twap2(self._env.public.lane["start_row"], accounts["deadline_row"])
        if self._known.relative:
            accounts["parent_side"], accounts["parent"] = self._env.parent_side, self._known.task.parent
            accounts["mark2"] = self._arrival2
        else:
            accounts["mark2"] = view.mid2[:, 0]
        return accounts

    def _deadlines(self) -> I64:
        """Rows in which the episodes end if nothing ends them before [W]."""
        tape, lane, known = self._tape, self._env.public.lane, self._known
        clock: Any = known.clock
        rows = lane["start_row"].copy()
        for day in np.unique(self._day):
            own, mine = tape.rows[tape.day_slice(int(day))], self._day == day
            if clock.count:
                for _ in range(known.episode):
                    rows[mine] = own["group_end"][np.minimum(rows[mine] + clock.count, len(own) - 1)]
            else:
                until = own["time_ns"][rows[mine]] + clock.ns * known.episode
                rows[mine] = np.searchsorted(own["time_ns"], until, side="right") - 1
            rows[mine] = np.minimum(rows[mine], own["group_end"][lane["end_row"][mine]])
        return rows

    def _twap2(self, first: I64, last: I64) -> F64:
        """Twice the time-weighted mean mid from row `first` to row `last` [W] of each episode's day."""
        mean = np.zeros(len(first))
        for day in np.unique(self._day):
            own, mine = self._tape.rows[self._tape.day_slice(int(day))], self._day == day
            low, high = first[mine], last[mine]
            above = (own["mid2"] - own["mid2"][low[0]]).astype(np.float64)
            area = np.concatenate([[0.0], np.cumsum(above[:-1] * np.diff(own["time_ns"]))])
            span = own["time_ns"][high] - own["time_ns"][low]
            part = np.divide(area[high] - area[low], span, out=above[low], where=span > 0)
            mean[mine] = own["mid2"][low[0]] + part
        return mean

    def _ahead(self, orders: np.ndarray, rows: I64) -> None:
        """Adds the volume ahead of `orders` when they join their queues (decided at `rows`), as the market's rule has it; where nobody
        says a latency, as if there were none."""
        assumes = self._known.assumes
        tape, latency = self._tape, (assumes.order_latency_ns if assumes is not None else 0) or 0
        rests = np.isin(orders["kind"], RESTS) & (orders["outcome"] == OrderAck.ACCEPTED)
        day_of = self._day[orders["episode"]]
        for day in np.unique(day_of[rests]):
            mine = np.flatnonzero(rests & (day_of == day))
            arrive = rows[mine]
            if latency:
                times = tape.rows["time_ns"][tape.day_slice(int(day))]
                arrive = np.searchsorted(times, orders["time_ns"][mine] + latency, side="right") - 1
            orders["ahead"][mine] = _volume_ahead(tape, int(day), arrive, orders["side"][mine], orders["price"][mine])

    def _seen_afterwards(self, fills: np.ndarray, orders: np.ndarray) -> None:
        """Adds to `fills` what the tape and the orders know of them."""
        tape, day_of = self._tape, self._day[fills["episode"]]
        at, maker, buys = tape.days["row0"][day_of] + fills["row"], fills["maker"], fills["side"] > 0
        fills["mid2"] = np.where(maker, tape.messages["mid2"][at], tape.rows["mid2"][at])
        best = _whole(tape.book)[at - maker, np.where(buys == maker, 0, 1), 0].view(tape.book.dtype)
        fills["touch"] = np.where(best["size"] > 0, tape.days["base"][day_of] + best["price"], fills["price"])
        fills["ahead"] = _of_order(fills, orders, "ahead", NEVER_RESTED)
        for column, mids in mids2_after(tape, day_of, fills["row"], fills["time_ns"], self.horizons).items():
            fills[column] = mids


def _about_day(day: DayInfo, own: np.void) -> dict[str, Any]:
    """A day of the data and the rules under which its episodes traded, as JSON values; fees in cash units a lot, and of a price
    unit and lot as a fraction."""
    instrument = day.instrument
    return {
        "symbol": instrument.symbol, "date": day.date, "rows": day.rows, "tick": instrument.tick,
        "ticks": [list(step) for step in instrument.ticks], "lot": instrument.lot, "price_unit": instrument.price_unit,
        "currency": instrument.currency, "price_to_cash": int(own["price_to_cash"]),
        "fees": {side: _fee(own, side) for side in ("maker", "taker")},
        "session_ns": [instrument.session_start_ns, instrument.session_end_ns], "timezone": instrument.timezone,
        "midnight_utc_ns": day.midnight_utc_ns,
    }  # fmt: skip


def _fee(own: np.void, side: str) -> dict[str, Any]:
    fraction = [int(own[f"{side}_{part}"]) for part in ("numerator", "denominator")]
    return {"per_lot": int(own[f"{side}_per_lot"]), "of_price": fraction}


def _by_lane(entries: np.ndarray, block: Block, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """`entries` of a table of `block`, by episode, and rows of `dtype` with all that both have."""
    entries = entries[np.argsort(block.decisions["lane"][entries["at"]], kind="stable")]
    rows, decided = np.zeros(len(entries), dtype), block.decisions[entries["at"]]
    rows["episode"], rows["decision"] = decided["lane"], decided["step"]
    for name in set(dtype.names or ()) & set(entries.dtype.names or ()):
        rows[name] = entries[name]
    return entries, rows


def _by_episode(parts: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """One table of `parts`, by episode; within one in the order in which they came."""
    episode = np.concatenate([np.zeros(0, np.int32), *(part["episode"] for part in parts)])
    few = episode.max(initial=0) < 1 << 16  # these are sorted by counting
    place = np.empty(len(episode), np.int64)
    place[np.argsort(episode.astype(np.uint16) if few else episode, kind="stable")] = np.arange(len(episode))
    table = np.empty(len(episode), dtype)
    at = 0
    for part in parts:
        _whole(table)[place[at : at + len(part)]] = _whole(part)
        at += len(part)
    return table


def _whole(table: np.ndarray) -> np.ndarray:
    """The same rows, each as one piece of memory: numpy copies the fields of picked rows one by one, 30 times as slowly."""
    return table.view(np.dtype((np.void, table.dtype.itemsize)))


_LABELLED: dict[tuple[str, Callable[[TapeSet], I8]], I8] = {}
"""Labels of the tape that was last recorded: baselines play on the same one."""


def _labels(tape: TapeSet, regime: Callable[[TapeSet], I8]) -> I8:
    key = (tape.hash, regime)
    if key not in _LABELLED:
        _LABELLED.clear()
        _LABELLED[key] = regime(tape)
    return _LABELLED[key]


def mids2_after(tape: TapeSet, day: I64, row: I64, time_ns: I64, horizons: Sequence[Horizon]) -> dict[str, I64]:
    """By column of each horizon: twice the mid so much after `row` at `time_ns` [F], of the last row not later; 0 where the day
    ends before."""
    found = {horizon.column: np.zeros(len(row), np.int64) for horizon in horizons}
    for each in np.unique(day):
        mine, own = np.flatnonzero(day == each), tape.rows[tape.day_slice(int(each))]
        times, mids = np.ascontiguousarray(own["time_ns"]), np.append(own["mid2"], 0)  # the last stands for what is after the day
        for horizon in horizons:
            if horizon.messages:
                then = np.minimum(row[mine] + horizon.messages, len(own))
            else:
                until = time_ns[mine] + horizon.ns
                then = np.where(until > times[-1], len(own), np.searchsorted(times, until, side="right") - 1)
            found[horizon.column][mine] = mids[then]
    return found


def _volume_ahead(tape: TapeSet, day: int, row: I64, side: I8, price: I64) -> I64:
    """Visible lots at (side, price) after `row` [n]; 0 inside the visible levels, UNKNOWN_PLACE beyond them."""
    book = tape.book[tape.day_slice(day)]
    half = book.view(np.dtype((np.void, book.dtype.itemsize * book.shape[2])))[..., 0]  # all levels of a side at once
    levels = half[row, np.where(side > 0, 0, 1)].view(book.dtype).reshape(len(row), -1)  # [n, L]
    there = levels["size"] > 0
    gap = side[:, None] * (levels["price"].astype(np.int64) + tape.days[day]["base"] - price[:, None])  # > 0: better
    at_price = (there & (gap == 0)).any(axis=1)
    lots = np.where(there & (gap == 0), levels["size"], 0).sum(axis=1)
    inside = ~there[:, -1] | (there & (gap < 0)).any(axis=1)
    return np.where(at_price, lots, np.where(inside, 0, UNKNOWN_PLACE))


def _of_order(fills: np.ndarray, orders: np.ndarray, name: str, otherwise: int) -> np.ndarray:
    """Column `name` of the order of each fill; `otherwise` for those that are of none."""
    known = _whole(orders)[runlog.entered(orders)].view(orders.dtype)
    keys, wanted = runlog.order_keys(known, fills)
    keys = np.append(keys, -2)  # somebody must be found
    order = np.argsort(keys, kind="stable")  # which knows what is sorted already
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, np.append(known[name], otherwise)[at], otherwise)
