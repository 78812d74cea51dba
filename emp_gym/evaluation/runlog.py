"""What happened in finished episodes, as tables of integers: their columns, P&L from fills alone, files.

A `RunLog` is made by ``backtest.evaluate(..., record=Recorder())``; `RunLog.tables` holds structured arrays, one row each:

==========  ============================================================================================================
steps       `STEP`: where a lane stood when it decided, and what it did; T + 1 rows for an episode of T decisions, the
            last one being its end (after its position was closed), without an action. `lever_0`, ... for actions that
            are numbers
orders      `SENT`: requests as the market got them, after all gates
fills       `FILLED`: own executions, in order of time within a decision. `mid2_after_NAME` for each horizon of the log
verdicts    `VERDICT`: what gates objected to
accounts    `ACCOUNT`: one row an episode (and instrument, once a market has several): where it was, its day's rules, and how
            its end is valued
decisions   `DECIDED`: actions and rewards, of environments without a market (certificates), where there are no other tables, and
            of markets without days, which have `fills` beside: their `touch` is the own price, and `ahead` is not known
==========  ============================================================================================================

All are sorted by episode and decision. Units are those of `emp_gym.types`: prices in price units, quantities in lots,
cash, fees and equity in 1e-8 currency, time in ns after local midnight; "2" at the end of a name is twice the amount, so
that mids and what is marked at them stay integers. Cash of a price unit and lot is `price_to_cash` of the episode's account; its
currency is that of its window: ``config["window_days"]`` holds symbol, date and currency of each. Amounts of episodes of several
currencies must never be added up. `instrument` numbers the instruments of a market, 0 where it has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.evaluation.intervals import codes
from emp_gym.extras import need
from emp_gym.types import I64, NS, Bool, ConfigError, DataError, OrderAck, Regime, RequestType, RunLog

SCHEMA = 2
ONE_INSTRUMENT = 1  # schema of logs without instruments, which can still be read: all of instrument 0
HEADER = "runlog.json"
UNKNOWN_PLACE, NEVER_RESTED = -1, -2  # volume ahead: beyond the visible levels; of what does not wait in a queue
NO_ACTION, NO_REGIME = -1, -1
CLOSING = -1  # id of fills that close a position, or take what is left of a parent order, at the end of an episode

STEP = np.dtype(
    [
        ("episode", "i4"),  # number of the window
        ("decision", "i4"),  # 0 .. T; T is the episode's end
        ("instrument", "i4"),  # of bid, ask, mids and position
        ("time_ns", "i8"),
        ("row", "i8"),  # last row that has happened, of the day
        ("seen_row", "i8"),  # row that the view shows (earlier under feed latency)
        ("bid", "i8"),  # best bid as the view shows it, EMPTY_BID where there is none
        ("ask", "i8"),
        ("mid2", "i8"),  # as the view shows it: `equity2` is marked at it
        ("tape_mid2", "i8"),  # best bid + best ask after `row`, whatever the agent saw
        ("position", "i8"),
        ("cash", "i8"),
        ("fees", "i8"),
        ("equity2", "i8"),
        ("action", "i4"),  # number in the menu; NO_ACTION at the end and where actions are numbers
        ("reward", "f8"),  # of this decision; 0 at the end
        ("regime", "i1"),  # Regime of `row`, labelled from earlier rows only
    ]
)
SENT = np.dtype(
    [
        ("episode", "i4"),
        ("decision", "i4"),
        ("instrument", "i4"),
        ("time_ns", "i8"),  # of the decision: it arrives the order latency later
        ("slot", "i1"),
        ("kind", "i1"),  # OrderKind
        ("side", "i1"),
        ("outcome", "i1"),  # Outcome at the door; a replacement may still be refused when it arrives
        ("price", "i8"),
        ("quantity", "i8"),
        ("id", "i8"),
        ("target", "i8"),
        ("ahead", "i8"),  # visible lots at its price when it arrives, UNKNOWN_PLACE, or NEVER_RESTED
    ]
)
FILLED = np.dtype(
    [
        ("episode", "i4"),
        ("decision", "i4"),
        ("instrument", "i4"),
        ("time_ns", "i8"),
        ("row", "i8"),  # whose message caused it; of a taker: whose book it took from
        ("id", "i8"),  # of the order, or CLOSING
        ("side", "i1"),
        ("maker", "?"),
        ("beyond", "?"),  # taken beyond the visible book, at the stated price rule
        ("price", "i8"),
        ("quantity", "i8"),
        ("fee", "i8"),  # negative = rebate
        ("mid2", "i8"),  # before the message that filled it (maker), of the book it took from (taker); of the last part
        ("mid2_lots", "i8"),  # the same over all parts: sum of mid2 x lots
        ("touch", "i8"),  # best price of its own side (maker) or of the other (taker); its own where there was none
        ("ahead", "i8"),  # of its order when that joined the queue, as in `SENT`
        ("ahead_seen", "i8"),  # at the last decision before the fill, NEVER_RESTED if it did not rest then
        ("regime", "i1"),  # Regime of `row`
    ]
)
VERDICT = np.dtype(
    [
        ("episode", "i4"),
        ("decision", "i4"),
        ("gate", "i1"),  # number in config["gates"]
        ("slot", "i1"),
        ("instrument", "i4"),
        ("reason", "u8"),  # reason bits
        ("before", "i8"),  # lots
        ("after", "i8"),
    ]
)
ACCOUNT = np.dtype(
    [
        ("episode", "i4"),
        ("instrument", "i4"),  # of position and marks
        ("day", "i4"),  # of the data, as in config["days"]
        ("decisions", "i4"),  # T
        ("tick", "i8"),  # at the start
        ("price_to_cash", "i8"),  # cash units in one price unit and lot
        ("position", "i8"),  # lots held at the end
        ("parent_side", "i1"),  # of the parent order; 0: there was none
        ("parent", "i8"),  # lots of it
        ("arrival2", "i8"),  # twice the mid at the start
        ("deadline_row", "i8"),  # of the day: where the episode ends if nothing ends it before
        ("twap2", "f8"),  # twice the time-weighted mean of the mid from its start to the deadline
        ("mark2", "i8"),  # at half of which what is held at the end is valued; of a parent order the arrival mid
    ]
)
DECIDED = np.dtype(
    [
        ("episode", "i4"),
        ("decision", "i4"),  # 0 .. T - 1
        ("action", "i4"),  # its number; NO_ACTION where actions are numbers
        ("reward", "f8"),  # in the environment's own unit
    ]
)
TABLES = {"steps": STEP, "orders": SENT, "fills": FILLED, "verdicts": VERDICT, "accounts": ACCOUNT}
"""Of an environment with a market."""
EVERY_TABLE = {**TABLES, "decisions": DECIDED}
MORE_COLUMNS = {"steps": "lever_", "fills": "mid2_after_", "decisions": "lever_"}
"""Beginnings of the names of further columns that a table may have."""


@dataclass(frozen=True)
class Horizon:
    """A distance into the future: so many messages, or so many nanoseconds (the other is 0)."""

    messages: int = 0
    ns: int = 0

    def __post_init__(self) -> None:
        if min(self.messages, self.ns) < 0 or (self.messages > 0) == (self.ns > 0):
            raise ConfigError(f"a horizon is n messages or n ns, exactly one > 0, got {self.messages} and {self.ns}")

    @property
    def name(self) -> str:
        """Like 100_messages, 1s, 250ms, 10ns: part of column names."""
        if self.messages:
            return f"{self.messages}_messages"
        unit, size = next((u, s) for u, s in (("s", NS), ("ms", 10**6), ("us", 10**3), ("ns", 1)) if self.ns % s == 0)
        return f"{self.ns // size}{unit}"

    @property
    def column(self) -> str:
        """Of `fills`: twice the mid that much later, 0 where the day ended before."""
        return f"mid2_after_{self.name}"


HORIZONS = (Horizon(messages=10), Horizon(messages=100), Horizon(messages=1000),
            Horizon(ns=NS // 10), Horizon(ns=NS), Horizon(ns=10 * NS))  # fmt: skip


def horizons(log: RunLog) -> tuple[Horizon, ...]:
    """Those for which the log's fills know the mid afterwards."""
    return tuple(Horizon(int(h["messages"]), int(h["ns"])) for h in log.config.get("horizons", ()))


def per_episode(table: np.ndarray | Mapping[str, np.ndarray], values: np.ndarray, episodes: int) -> np.ndarray:
    """Sums of integer `values` (one a row of `table`) by episode, i8 [episodes], exactly."""
    total = np.zeros(episodes, np.int64)
    np.add.at(total, table["episode"], values)
    return total


def entered(orders: np.ndarray) -> np.ndarray:
    """Which of `orders` are new orders that were accepted, bool."""
    return (orders["outcome"] == OrderAck.ACCEPTED) & (orders["kind"] != RequestType.CANCEL)


def order_keys(orders: np.ndarray, fills: np.ndarray) -> tuple[I64, I64]:
    """A number for the order of each row of both tables, equal where the order is the same; < 0 for `CLOSING` fills."""
    width = int(max(orders["id"].max(initial=0), fills["id"].max(initial=0))) + 1
    keys = [table["episode"].astype(np.int64) * width + table["id"] for table in (orders, fills)]
    return keys[0], np.where(fills["id"] > 0, keys[1], -1)


def price_to_cash(log: RunLog) -> I64:
    """Cash units in one price unit and lot, of each episode's day [W]."""
    return log.accounts["price_to_cash"]


def currencies(log: RunLog) -> list[str]:
    """The currency of each episode [W]. `DataError` where the log does not say."""
    if "window_days" in log.config:
        return [str(day["currency"]) for day in log.config["window_days"]]
    if "currency" in log.config:  # of the first schema
        return [str(log.config["currency"])] * len(log.config["windows"])
    raise DataError("the run log does not say in which currency its episodes are; record the run again, in a market of EMP Gym")


def ends(log: RunLog) -> np.ndarray:
    """The last step of each episode, STEP [W]."""
    return log.steps[np.flatnonzero(np.diff(log.steps["episode"], append=-1))]


def final_position(log: RunLog) -> I64:
    """Lots held at the end [W], from the fills alone."""
    fills = log.fills
    return per_episode(fills, fills["side"] * fills["quantity"], len(log.accounts))


def pnl2(log: RunLog) -> I64:
    """Twice the P&L of each episode [W], 1e-8 currency, from fills, fees and the final mark alone.

    Equals the environment's own, ``round(2e8 * episodes["pnl"])``, to the unit. For a parent order it is minus the
    implementation shortfall of what was executed.
    """
    fills, to_cash = log.fills, price_to_cash(log)
    paid = fills["side"] * fills["price"] * fills["quantity"] * to_cash[fills["episode"]] + fills["fee"]
    return final_position(log) * log.accounts["mark2"] * to_cash - 2 * per_episode(fills, paid, len(log.accounts))


PER_WINDOW = ("windows", "window_days", "dates")
"""Lists in a log's config that have one entry an episode."""


def join(logs: Sequence[RunLog]) -> RunLog:
    """One log of several whose episodes follow each other; the config is the first one's, with all windows.

    `DataError` where they were not recorded alike.
    """
    first = logs[0]
    for log in logs:
        if set(log.episodes) != set(first.episodes) or set(log.tables) != set(first.tables):
            raise DataError("logs to be joined must have the same columns and tables; record all of them, or none")
    offset = np.cumsum([0, *(len(log.config["windows"]) for log in logs)])
    tables = {}
    for name in first.tables:
        parts = [log.tables[name].copy() for log in logs]
        for part, shift in zip(parts, offset):
            part["episode"] += shift
        tables[name] = np.concatenate(parts)
    episodes = {name: np.concatenate([log.episodes[name] for log in logs]) for name in first.episodes}
    shared = [name for name in PER_WINDOW if all(name in log.config for log in logs)]
    own = {name: [each for log in logs for each in log.config[name]] for name in shared}
    return RunLog({**first.config, **own}, episodes, tables)


def dates(log: RunLog) -> I64:
    """A number for the date of each episode [W]: those of one date are one block of a bootstrap."""
    if "dates" in log.config:
        return codes(log.config["dates"])
    days = log.config.get("days")
    own = [day for day, _ in log.config["windows"]]
    return codes([days[day]["date"] for day in own]) if days else np.array(own, np.int64)


def select(log: RunLog, chosen: Bool) -> RunLog:
    """The log of the episodes `chosen` [W] only (days of one kind, say), numbered anew."""
    number = np.cumsum(chosen) - 1
    tables = {}
    for name, table in log.tables.items():
        tables[name] = table[chosen[table["episode"]]]
        tables[name]["episode"] = number[tables[name]["episode"]]
    lists = {name: log.config[name] for name in PER_WINDOW if name in log.config}
    own = {name: [each for each, yes in zip(values, chosen, strict=True) if yes] for name, values in lists.items()}
    episodes = {name: values[chosen] for name, values in log.episodes.items()}
    return RunLog({**log.config, **own}, episodes, tables)


# ---------------------------------------------------------------------------------------------------------------- files


def _told(value: Any) -> str:
    return str(value) if isinstance(value, PathLike) else repr(value)


def save(log: RunLog, folder: str | Path) -> Path:
    """Writes the log into `folder`: ``runlog.json`` and a Parquet file each for the episodes and every table.

    `ConfigError` where `folder` holds a log already.
    """
    need("pyarrow")
    import pyarrow
    from pyarrow import parquet

    path = Path(folder)
    if (path / HEADER).exists():
        raise ConfigError(f"{path} holds a run log already; take another folder")
    path.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, columns in {"episodes": dict(log.episodes), **{n: _columns(t) for n, t in log.tables.items()}}.items():
        file = path / f"{name}.parquet"
        parquet.write_table(pyarrow.table({key: pyarrow.array(value) for key, value in columns.items()}), bounded.unlinked(file))
        rows = len(next(iter(columns.values()), ()))
        files[name] = {"file": file.name, "rows": rows, "sha256": _digest(file), "columns": list(columns)}
    header = {"schema": SCHEMA, "units": UNITS, "tables": files, "config": dict(log.config)}
    bounded.write(path / HEADER, json.dumps(header, indent=1, default=_told) + "\n")  # last: a folder with a header is whole
    return path


UNITS = {
    "price": "price_unit of the day, in days of config", "quantity": "lots", "cash": "1e-8 currency", "time_ns": "ns after local midnight",
    "side": "+1 buy, -1 sell", "reward": "the environment's own", "...2": "twice the amount",
    "episodes": "currency of the day; lots; counts",
}  # fmt: skip


def load(folder: str | Path) -> RunLog:
    """The log that `save` left in `folder`; `DataError` where it is not whole or not what was written."""
    need("pyarrow")
    from pyarrow import parquet

    path = Path(folder)
    try:
        header = bounded.read_object(path / HEADER)
        schema, files, config = header["schema"], dict(header["tables"]), dict(header["config"])
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise DataError(f"{path} is not a run log: no readable {HEADER} ({error!r}); make one with --log") from error
    if schema not in (ONE_INSTRUMENT, SCHEMA):
        raise DataError(f"{path / HEADER}: schema {schema}, expected {SCHEMA}; record the run again")
    read: dict[str, dict[str, np.ndarray]] = {}
    for name, about in files.items():
        file = path / about["file"]
        if not file.is_file() or _digest(file) != about["sha256"]:
            raise DataError(f"{file}: missing or not the file that {HEADER} names; record the run again")
        table = parquet.read_table(file)
        read[name] = {key: table[key].to_numpy() for key in table.column_names}
    episodes = read.pop("episodes")
    if schema == ONE_INSTRUMENT:
        _add_instruments(read, config)
    log = RunLog(config, episodes, {name: _structured(name, columns, path) for name, columns in read.items()})
    _stop_if_out_of_bounds(log, path)
    return log


_BOUNDS: dict[str, tuple[int, int]] = {
    "decision": (0, 1 << 31), "instrument": (0, 1 << 16), "kind": (0, max(RequestType)), "side": (-1, 1), "outcome": (0, max(OrderAck)),
    "regime": (NO_REGIME, max(Regime)), "row": (0, 1 << 31), "seen_row": (0, 1 << 31), "deadline_row": (0, 1 << 31), "day": (0, 1 << 31),
    "decisions": (0, 1 << 31), "parent_side": (-1, 1), "price_to_cash": (1, 1 << 62), "slot": (0, 127), "gate": (0, 127),
}  # fmt: skip
"""Of columns that are places, numbers or enums, in whatever table."""


def _stop_if_out_of_bounds(log: RunLog, path: Path) -> None:
    """`DataError` where a column points outside of the log, or is no number."""
    if not isinstance(log.config.get("windows"), list):
        raise DataError(f"{path / HEADER}: config: windows: expected a list, one entry an episode; record the run again")
    windows = len(log.config["windows"])
    for name, table in log.tables.items():
        bounds = _BOUNDS | {"episode": (0, windows - 1)}
        for column in table.dtype.names or ():
            values = table[column]
            low, high = bounds.get(column, (0, 0))
            wrong = ~((values >= low) & (values <= high)) if column in bounds else np.isinf(values) if values.dtype.kind == "f" else None
            if wrong is not None and wrong.any():
                at = int(np.argmax(wrong))
                wanted = f"{low} to {high}" if column in bounds else "a finite number"
                raise DataError(f"{path}: {name}.{column}, entry {at}: expected {wanted}, got {values[at]}; record the run again")
    if "accounts" in log.tables and len(log.tables["accounts"]) < windows:
        raise DataError(f"{path}: accounts: {len(log.tables['accounts'])} entries, expected {windows}; record the run again")


def _add_instruments(read: dict[str, dict[str, np.ndarray]], config: Mapping[str, Any]) -> None:
    """Gives the tables of a log of the first schema what they lack: its only instrument is number 0."""
    for name, columns in read.items():
        if name in TABLES:
            columns["instrument"] = np.zeros(len(columns["episode"]), np.int32)
    if "accounts" in read:
        accounts, fills = read["accounts"], read["fills"]
        accounts["price_to_cash"] = np.full(len(accounts["episode"]), config["price_to_cash"], np.int64)
        accounts["position"] = per_episode(fills, fills["side"] * fills["quantity"], len(accounts["episode"]))


def _columns(table: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(table[name]) for name in table.dtype.names or ()}


def _structured(name: str, columns: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """The table `name` from its columns."""
    if name not in EVERY_TABLE:
        raise DataError(f"{path}: unknown table {name!r}; expected {sorted(EVERY_TABLE)}")
    known = EVERY_TABLE[name]
    more = [key for key in columns if key not in (known.names or ())]
    start = MORE_COLUMNS.get(name)
    if any(key not in columns for key in known.names or ()) or not all(start and key.startswith(start) for key in more):
        raise DataError(f"{path}: {name} has columns {list(columns)}, expected {list(known.names or ())}")
    table = np.empty(len(columns["episode"]), extended(name, [(key, columns[key].dtype.str) for key in more]))
    for key, values in columns.items():
        table[key] = values
    return table


def extended(name: str, more: list[tuple[str, str]]) -> np.dtype:
    """The dtype of table `name` with `more` columns (name, type)."""
    return np.dtype([*EVERY_TABLE[name].descr, *more])


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
