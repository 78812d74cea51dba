"""Synthetic days obey the file format, a slow book agrees with every row, and without a signal the market is fair."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data.lobster import reader
from emp_gym.data.synthetic.book import KIND, SIDE, TRUE_VALUE, exponential, rand32
from emp_gym.data.synthetic.day import (
    EMBEDDED,
    VERSION,
    DayConfig,
    Truth,
    parse_overrides,
    simulate_day,
    with_overrides,
    write_day,
)
from emp_gym.types import EMPTY_ASK, EMPTY_BID, Condition, ConfigError, Regime

NEW, REDUCE, DELETE, EXECUTE, HIDDEN, CROSS, HALT = range(1, 8)
SUB, TICK = 16, 100
HARD = DayConfig(seed=7, rows=8_000, tick_regime="wide", thin=True, stressed=0.4, halts=1, hidden_side=True)
SMALL = (HARD, replace(HARD, tick_regime="one", hidden_side=False), replace(HARD, levels=1), DayConfig(rows=1_000))


@cache
def simulated(config: DayConfig) -> Truth:
    return simulate_day(config)


def burst_ends(time_ns: np.ndarray) -> np.ndarray:
    """Rows after which another time begins: the only moments at which anybody can decide."""
    return np.append(np.flatnonzero(np.diff(time_ns)), len(time_ns) - 1)


def files(folder: Path, config: DayConfig) -> tuple[list[list[str]], list[list[int]]]:
    day = write_day(folder, config)
    message = [line.split(",") for line in day.message.read_text().splitlines()]
    book = [[int(cell) for cell in line.split(",")] for line in day.orderbook.read_text().splitlines()]
    return message, book


# ---- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", SMALL)
def test_files_have_the_format_of_the_reference(tmp_path: Path, config: DayConfig) -> None:
    message, book = files(tmp_path, config)
    assert len(message) == len(book) == config.rows
    assert {len(row) for row in message} == {6} and {len(row) for row in book} == {4 * config.levels}
    assert all(not (row[0].endswith("0") and "." in row[0]) for row in message)  # trailing zeros are dropped
    times = [float(row[0]) for row in message]
    assert times == sorted(times) and times[0] > 34_200 and times[-1] < 57_600
    for row in book:
        asks, bids = row[0::4], row[2::4]
        assert asks == sorted(asks) and bids == sorted(bids, reverse=True) and bids[0] < asks[0]
        assert all((size == 0) == (abs(price) == EMPTY_ASK) for price, size in zip(row[0::2], row[1::2]))
    assert {row[2] for row in message if row[1] == "5"} == {"0"}


def test_file_names_say_symbol_date_session_and_levels(tmp_path: Path) -> None:
    day = write_day(tmp_path / "new", DayConfig(rows=1_000))
    assert day.message.name == "SYNA_2030-01-07_34200000_57600000_message_5.csv"
    assert day.orderbook.name == "SYNA_2030-01-07_34200000_57600000_orderbook_5.csv"
    assert (
        day.signal.dtype == np.float32 and day.regime.dtype == np.int8 and len(day.signal) == len(day.regime) == 1_000
    )


def test_same_config_same_bytes_and_the_bytes_are_the_known_ones(tmp_path: Path) -> None:
    first, again = (write_day(tmp_path / name, HARD) for name in ("a", "b"))
    assert first.message.read_bytes() == again.message.read_bytes()
    assert first.orderbook.read_bytes() == again.orderbook.read_bytes()
    digest = hashlib.sha256(first.message.read_bytes() + first.orderbook.read_bytes()).hexdigest()[:16]
    assert (VERSION, digest) == (1, "1b7e24fe7f8b5acd"), (
        "other bytes: raise VERSION, else cached days are served for them"
    )
    other = write_day(tmp_path / "c", replace(HARD, seed=8))
    assert other.message.read_bytes() != first.message.read_bytes()


def test_kernels_give_the_same_bytes_without_numba(tmp_path: Path) -> None:
    config = DayConfig(seed=3, rows=1_000, tick_regime="wide")
    code = f"from emp_gym.data.synthetic.day import *; write_day({str(tmp_path / 'plain')!r}, {config!r})"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    compiled = write_day(tmp_path / "compiled", config)
    for path in (compiled.message, compiled.orderbook):
        assert path.read_bytes() == (tmp_path / "plain" / path.name).read_bytes()


# ---- a slow book ----------------------------------------------------------------------------------------------------


class SlowBook:
    """Queues of [order id, size] by side and price; what came before the open is one nameless heap in front."""

    def __init__(self, row: list[int]) -> None:
        self.levels: dict[int, dict[int, list[list[int]]]] = {1: {}, -1: {}}
        self.births_unknown = 0
        for side, first in ((-1, 0), (1, 2)):
            for price, size in zip(row[first::4], row[first + 1 :: 4]):
                if size:
                    self.levels[side][price] = [[0, size]]

    def apply(self, kind: int, order: int, size: int, price: int, side: int) -> None:
        if kind == NEW:
            self.levels[side].setdefault(price, []).append([order, size])
        if kind not in (REDUCE, DELETE, EXECUTE):
            return
        queue = self.levels[side][price]
        known = [entry for entry in queue if entry[0] == order]
        self.births_unknown += not known
        entry = known[0] if known else queue[0]
        assert known or entry[0] == 0, "an order without a birth must be one from before the open"
        if kind == EXECUTE:
            best = max(self.levels[1]) if side == 1 else min(self.levels[-1])
            assert price == best and entry is queue[0], "executions come first in, first out, at the best price"
        entry[1] -= size
        assert entry[1] >= 0
        if kind == DELETE and known:
            assert entry[1] == 0, "a deletion takes all that is left"
        self.levels[side][price] = [entry for entry in queue if entry[1] > 0]
        if not self.levels[side][price]:
            del self.levels[side][price]

    def row(self, levels: int) -> list[int]:
        best = {side: sorted(self.levels[side], reverse=side == 1)[:levels] for side in (1, -1)}
        cells: list[int] = []
        for level in range(levels):
            for side, empty in ((-1, EMPTY_ASK), (1, EMPTY_BID)):
                there = level < len(best[side])
                price = best[side][level] if there else empty
                cells += [price, sum(size for _, size in self.levels[side][price]) if there else 0]
        return cells


@pytest.mark.parametrize("tick_regime", ["one", "wide"])
def test_a_slow_book_replays_every_row_when_the_window_shows_the_whole_book(tmp_path: Path, tick_regime: str) -> None:
    config = DayConfig(seed=1, rows=4_000, levels=50, tick_regime=tick_regime, halts=1, signal=0)
    message, book = files(tmp_path, config)
    assert min(row[-4] for row in book) == EMPTY_ASK  # the window is never full, so nothing hides behind it
    start = list(book[0])
    kind, _, size, price, side = map(int, message[0][1:])
    assert kind == NEW  # undo the first message: what remains is the book from before the open
    at = next(i for i in range(0 if side == -1 else 2, len(start), 4) if start[i] == price)
    start[at + 1] -= size
    slow = SlowBook(start)
    for fields, expected in zip(message, book):
        slow.apply(*map(int, fields[1:]))
        assert slow.row(config.levels) == expected
    assert slow.births_unknown > 50


@pytest.mark.parametrize("config", SMALL[:3])
def test_a_row_is_the_row_before_and_its_message_but_for_what_enters_the_window(
    config: DayConfig, tmp_path: Path
) -> None:
    message, book = files(tmp_path, config)
    entered = 0
    for before, fields, after in zip(book, message[1:], book[1:]):
        kind, _, size, price, side = map(int, fields[1:])
        for half, first, sign in ((-1, 0, 1), (1, 2, -1)):
            levels = {p: s for p, s in zip(before[first::4], before[first + 1 :: 4]) if s}
            if half == side and kind <= EXECUTE:
                assert kind == NEW or levels[price] >= size  # beyond the window nothing is written
                levels[price] = levels.get(price, 0) + (size if kind == NEW else -size)
                levels = {p: s for p, s in levels.items() if s}
            expected = sorted(levels.items(), key=lambda level: sign * level[0])[: config.levels]
            shown = [(p, s) for p, s in zip(after[first::4], after[first + 1 :: 4]) if s]
            assert shown[: len(expected)] == expected and len(shown) - len(expected) in (0, 1)
            entered += len(shown) - len(expected)
    assert entered > 0
    born = {fields[2] for fields in message if fields[1] == "1"}
    assert any(
        fields[2] not in born for fields in message if fields[1] in "234"
    )  # births before the open or out of sight


def test_the_reader_keeps_every_row_of_the_embedded_days_and_explains_it(tmp_path: Path) -> None:
    for config in EMBEDDED:
        (reading,) = reader.read(write_day(tmp_path, config)[:2])
        assert reading.rows_in == reading.rows_kept == config.rows and reading.rows_quarantined == 0
        assert reading.check.unexplained == 0 and reading.check.rows_checked == config.rows - 1
        share = reading.check.explained / config.rows  # levels that enter the window: rare where queues are deep
        assert 0.005 < share < 0.05 if config.tick_regime == "one" else 0.1 < share < 0.25
        assert reading.day.instrument.tick == TICK and reading.day.instrument.symbol == config.symbol


# ---- everything that a day may hold ---------------------------------------------------------------------------------


def test_a_day_holds_every_type_and_trap(tmp_path: Path) -> None:
    message, book = files(tmp_path, HARD)
    rows = [(int(k), int(i), int(s), int(p), int(d)) for _, k, i, s, p, d in message]
    assert {row[0] for row in rows} == set(range(1, 8))
    assert [row[1] for row in rows if row[0] == CROSS] == [-1, -3, -2] and rows[-1][0] == CROSS
    assert float(message[[row[0] for row in rows].index(CROSS)][0]) < 34_200 + 60
    halts = [at for at, row in enumerate(rows) if row[0] == HALT]
    assert [rows[at][3] for at in halts] == [-1, 0, 1]
    assert halts[1] == halts[0] + 1 and float(message[halts[1]][0]) - float(message[halts[0]][0]) >= 300
    assert halts[2] > halts[1] + 10 and not {EXECUTE, HIDDEN} >= {row[0] for row in rows[halts[1] + 1 : halts[2]]}
    assert all(row[0] != EXECUTE for row in rows[halts[0] : halts[2]])
    for at, row in enumerate(rows[1:], 1):
        assert row[0] < HIDDEN or book[at] == book[at - 1]
    hidden = [(row, book[at]) for at, row in enumerate(rows) if row[0] == HIDDEN]
    assert all(levels[2] < row[3] < levels[0] for row, levels in hidden) and any(row[3] % TICK for row, _ in hidden)
    assert {row[4] for row, _ in hidden} == {1, -1}
    assert any(EMPTY_ASK in levels for levels in book) and any(EMPTY_BID in levels for levels in book)
    times = [fields[0] for fields in message]
    assert 0.03 < np.mean([a == b for a, b in pairwise(times)]) < 0.3
    assert any(len(t.partition(".")[2]) < 9 for t in times)


def test_hidden_executions_carry_no_side_after_2014() -> None:
    message = simulated(SMALL[1]).rows.message
    assert set(message[message[:, KIND] == HIDDEN, SIDE]) == {1}


def test_tick_regimes_differ_in_spread_and_depth() -> None:
    spreads, depths = {}, {}
    for config in (DayConfig(rows=20_000), DayConfig(rows=20_000, tick_regime="wide")):
        truth = simulated(config)
        book = truth.rows.book[burst_ends(truth.time_ns)]
        spreads[config.tick_regime] = book[:, 1, 0, 0] - book[:, 0, 0, 0]
        depths[config.tick_regime] = book[:, :, 0, 1].mean()
    assert np.mean(spreads["one"] == 1) > 0.97
    assert np.quantile(spreads["wide"], 0.2) >= 5 and np.quantile(spreads["wide"], 0.95) <= 16
    assert depths["one"] > 8 * depths["wide"]


def test_activity_is_u_shaped_over_the_day() -> None:
    rows = np.histogram(simulated(DayConfig(rows=20_000)).time_ns / 1e9, bins=13, range=(34_200, 57_600))[0]
    assert rows[0] > 2 * rows[6] and rows[12] > 1.5 * rows[6]


def test_every_row_has_its_signal_and_regime(tmp_path: Path) -> None:
    day = write_day(tmp_path, EMBEDDED[2])
    assert np.abs(day.signal).max() <= 1 and (day.signal > 0.9).any() and (day.signal < -0.9).any()
    up, down = day.regime % 3 == 2, day.regime % 3 == 0
    assert (day.signal[up] > 0).all() and (day.signal[down] < 0).all()
    assert {Regime(value) // 3 for value in set(day.regime.tolist())} == {0, 1, 2}
    calm_of_signal = np.abs(np.corrcoef(day.signal[:-1500], day.signal[1500:])[0, 1] - np.exp(-1))
    assert calm_of_signal < 0.35  # correlation time of about 1,500 messages


def test_stress_is_more_volatile_and_thinner() -> None:
    truth = simulated(DayConfig(seed=2, rows=60_000, tick_regime="wide", calm=0.4, stressed=0.4, signal=0))
    condition = truth.regime // 3
    step = np.diff(truth.rows.message[:, TRUE_VALUE]).astype(float) ** 2
    calm, stressed = condition == Condition.CALM, condition == Condition.STRESSED
    assert step[stressed[1:]].mean() > 2 * step[calm[1:]].mean()
    spread = truth.rows.book[:, 1, 0, 0] - truth.rows.book[:, 0, 0, 0]
    assert np.median(spread[stressed]) > np.median(spread[calm])


# ---- fairness and predictability ------------------------------------------------------------------------------------

LONG = [DayConfig(seed=100 + i, tick_regime=regime, rows=60_000) for i in range(8) for regime in ("one", "wide")]


@pytest.mark.parametrize("signal", [0.0, 1.0])
@pytest.mark.parametrize("config", [*SMALL, *LONG[:2]])
def test_the_value_lies_between_the_quotes_and_executions_only_where_it_has_been(
    config: DayConfig, signal: float
) -> None:
    truth = simulated(replace(config, signal=signal))
    message, book, value = truth.rows.message, truth.rows.book[:, :, 0, 0], truth.rows.message[:, TRUE_VALUE]
    ends = burst_ends(truth.time_ns)
    assert (book[ends] > 0).all(), "both sides have an order whenever somebody may decide"
    assert (book[ends, 0] * SUB <= value[ends]).all() and (value[ends] <= book[ends, 1] * SUB).all()
    executed = message[message[:, KIND] == EXECUTE]
    price, at, side = executed[:, 3] // TICK * SUB, executed[:, TRUE_VALUE], executed[:, SIDE]
    assert len(executed) and (side * (price - at) >= 0).all()
    assert (side * (price - at) == 0).mean() > 0.1  # the value often just touches the level


def decisions(config: DayConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At every 100 rows: [D, 4] imbalance, order-flow imbalance and return of 500 rows; value and mid [D] in ticks."""
    truth = simulated(config)
    at = np.unique(
        burst_ends(truth.time_ns)[np.searchsorted(burst_ends(truth.time_ns), np.arange(500, config.rows - 1, 100))]
    )
    bid, ask = (truth.rows.book[:, k, 0].astype(float) for k in (0, 1))
    flow = np.zeros(config.rows)
    flow[1:] = (bid[1:, 0] >= bid[:-1, 0]) * bid[1:, 1] - (bid[1:, 0] <= bid[:-1, 0]) * bid[:-1, 1]
    flow[1:] -= (ask[1:, 0] <= ask[:-1, 0]) * ask[1:, 1] - (ask[1:, 0] >= ask[:-1, 0]) * ask[:-1, 1]
    flow, mid = flow.cumsum(), (bid[:, 0] + ask[:, 0]) / 2
    past = at - 500
    known = [(bid - ask)[at, 1] / (bid + ask)[at, 1], flow[at] - flow[past], mid[at] - mid[past]]
    return np.array(known).T, truth.rows.message[at, TRUE_VALUE] / SUB, mid[at]


def correlations(signal: float, regime: str, of_value: bool, horizon: int) -> Iterator[float]:
    """Pooled over days: what is known against the next move over `horizon` decisions."""
    days = [decisions(replace(config, signal=signal)) for config in LONG if config.tick_regime == regime]
    moves = [(value if of_value else mid)[horizon:] - (value if of_value else mid)[:-horizon] for _, value, mid in days]
    for column in range(3):
        known = np.concatenate([k[:-horizon, column] for k, _, _ in days])
        yield float(np.corrcoef(known, np.concatenate(moves))[0, 1])


@pytest.mark.parametrize("regime", ["one", "wide"])
def test_nothing_known_predicts_the_value_without_a_signal(regime: str) -> None:
    for correlation in correlations(0.0, regime, of_value=True, horizon=1):
        assert abs(correlation) < 4 / np.sqrt(8 * 595)  # four standard errors of no correlation


@pytest.mark.parametrize("regime", ["one", "wide"])
def test_order_flow_imbalance_predicts_the_next_mid_move_only_with_a_signal(regime: str) -> None:
    _, off, _ = correlations(0.0, regime, of_value=False, horizon=10)
    _, on, _ = correlations(1.0, regime, of_value=False, horizon=10)
    assert abs(off) < 0.12 and off + 0.1 < on < 0.4


def taker(config: DayConfig, wanted: str) -> float:
    """Ticks per clip of a position of the planted sign, or of the order-flow imbalance's, renewed every 1,000 rows."""
    truth = simulated(config)
    ends = burst_ends(truth.time_ns)
    at = ends[np.searchsorted(ends, np.arange(1_000, config.rows - 1_000, 1_000))]
    if wanted == "signal":
        side = np.sign(truth.signal[at])
    else:
        known, _, _ = decisions(config)
        side = np.sign(known[5::10, 1][: len(at)])
    bid, ask = (truth.rows.book[at, k, 0, 0].astype(float) for k in (0, 1))
    n = min(len(side), len(at))
    change = np.diff(side[:n], prepend=0.0, append=0.0)
    price = np.where(change > 0, np.append(ask[:n], ask[n - 1]), np.append(bid[:n], bid[n - 1]))
    return float(-(change * price).sum())


@pytest.mark.parametrize("regime", ["one", "wide"])
def test_an_oracle_earns_with_a_signal_and_takers_lose_without(regime: str) -> None:
    days = [config for config in LONG if config.tick_regime == regime]
    oracle = [taker(config, "signal") for config in days]
    flow = [taker(config, "flow") for config in days]
    fair = [taker(replace(config, signal=0.0), "flow") for config in days]
    assert min(oracle) > 0 and np.mean(flow) < 0.5 * np.mean(oracle)
    assert np.mean(fair) < 2 * np.std(fair, ddof=1) / np.sqrt(len(fair))


def passive(config: DayConfig) -> float:
    """Ticks of a quoter in front of both queues at the touch, one clip a side and 100 rows, closed by taking."""
    truth = simulated(config)
    ends, message, book = burst_ends(truth.time_ns), truth.rows.message, truth.rows.book[:, :, 0, 0].astype(int)
    at = ends[np.searchsorted(ends, np.arange(500, config.rows - 1, 100))]
    cash, position = 0, 0
    for first, last in pairwise(at):
        bid, ask = book[first]
        rows = message[first + 1 : last + 1]
        executed, price = rows[:, KIND] == EXECUTE, rows[:, 3] // TICK
        if (executed & (rows[:, SIDE] == 1) & (price <= bid)).any():
            cash, position = cash - bid, position + 1
        if (executed & (rows[:, SIDE] == -1) & (price >= ask)).any():
            cash, position = cash + ask, position - 1
    return float(cash + position * (book[at[-1], 0] if position > 0 else book[at[-1], 1]))


@pytest.mark.parametrize("regime", ["one", "wide"])
def test_quotes_in_front_of_the_queue_do_not_earn_without_a_signal(regime: str) -> None:
    profit = [passive(replace(config, signal=0.0)) for config in LONG if config.tick_regime == regime]
    assert np.mean(profit) < 2 * np.std(profit, ddof=1) / np.sqrt(len(profit))


def test_random_numbers_have_their_distribution() -> None:
    r = np.array([1, 2, 3, 1], np.int64)
    uniform = np.array([rand32(r) for _ in range(20_000)]) / 2**32
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.002
    waits = np.array([exponential(r, 1 << 16) for _ in range(20_000)]) / 2**16
    assert abs(waits.mean() - 1) < 0.03 and abs(np.median(waits) - np.log(2)) < 0.03 and waits.max() > 7


# ---- configuration --------------------------------------------------------------------------------------------------


def test_embedded_days_are_sixteen_to_train_and_eight_held_out() -> None:
    assert len(EMBEDDED) == 24 and [day.held_out for day in EMBEDDED] == [False] * 16 + [True] * 8
    assert len({day.seed for day in EMBEDDED}) == len({day.date for day in EMBEDDED}) == 24
    for part in (EMBEDDED[:16], EMBEDDED[16:]):
        assert {day.tick_regime for day in part} == {"one", "wide"}
        assert {day.thin for day in part} == {day.hidden_side for day in part} == {True, False}
        assert {0, 1} <= {day.halts for day in part}
    assert all(50_000 <= day.rows <= 77_000 and day.signal == 1 for day in EMBEDDED)


def test_overrides_are_typed_and_an_unknown_field_names_the_nearest() -> None:
    overrides = parse_overrides("signal=0, rows=5000,thin=true,tick_regime=wide")
    assert overrides == {"signal": 0.0, "rows": 5_000, "thin": True, "tick_regime": "wide"}
    assert {day.rows for day in with_overrides(EMBEDDED, overrides)} == {5_000}
    assert parse_overrides("") == {}
    with pytest.raises(ConfigError, match="'signal'"):
        parse_overrides("sgnal=0")
    with pytest.raises(ConfigError, match="rows of a synthetic day must be a int"):
        parse_overrides("rows=many")
    with pytest.raises(ConfigError, match="expected rows=VALUE"):
        parse_overrides("rows")


@pytest.mark.parametrize(
    ("field", "value"),
    [("rows", 10), ("rows", 1e4), ("signal", 1.5), ("tick_regime", "narrow"), ("levels", 0), ("date", "7 January"),
     ("calm", 0.9), ("symbol", "A/B"), ("seed", True)],
)  # fmt: skip
def test_an_impossible_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"DayConfig\.{field}"):
        DayConfig(**{field: value})  # type: ignore[arg-type]
