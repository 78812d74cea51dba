"""When decisions are taken and where episodes start: parsing, splits, purging, windows that never share a row."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.envs.trading_core import Lanes
from emp_gym.market.clock import Clock, parse_episode
from emp_gym.market.day_starts import parse_start, split_days
from emp_gym.market.replay import ReplayConfig
from emp_gym.runs.config import assignments
from emp_gym.types import EMPTY_ASK, EMPTY_BID, NS, ConfigError, DataError
from tests.market.duel import rows_of, synthetic_day

CONFIG = DayConfig(seed=51, rows=4_000)
PACES = [Clock(10, 0), Clock(7, 0), Clock(0, 60 * NS)]  # 60 s of this day hold about ten messages
EPISODE = 20


def days(count: int, held_out: tuple[int, ...] = (), *, one_date: bool = False) -> TapeSet:
    """A set of that many days of unlike rows and lengths, on dates of their own, or of several symbols on one date."""
    parts = []
    for i in range(count):
        whole = synthetic_day(replace(CONFIG, seed=CONFIG.seed + i))
        day = rows_of(whole, np.arange(len(whole.time_ns) - 300 * i))
        called = {"date": whole.date if one_date else f"2030-02-{i + 1:02d}"}
        symbol = replace(day.instrument, symbol=f"SYM{i if one_date else ''}")
        parts.append(build(replace(day, source={"held_out": i in held_out}, instrument=symbol, **called)))
    return TapeSet.concatenate(parts)


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("100 messages", (100, 0)), ("1 message", (1, 0)), (" 5 messages ", (5, 0)), ("1 s", (0, NS)),
        ("250 ms", (0, 250_000_000)), ("10us", (0, 10_000)), ("3 ns", (0, 3)), ("2 min", (0, 120 * NS)),
    ],
)  # fmt: skip
def test_paces_are_messages_or_time(text: str, pace: tuple[int, int]) -> None:
    assert Clock.parse(text) == Clock(*pace)


@pytest.mark.parametrize(
    "text", ["100", "0 messages", "-1 s", "1.5 s", "1 hour", "messages", "", "1 s 2 s", 100, None, ["1 s"]]
)
def test_other_paces_are_refused_with_examples(text: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"'100 messages', '250 ms' or '1 s', got {text!r}")):
        Clock.parse(text)


def test_episodes_count_decisions() -> None:
    assert parse_episode("256 decisions") == 256 and parse_episode("1 decision") == 1
    for text in ("256", "0 decisions", "-1 decisions", "many", 256, None):
        with pytest.raises(ConfigError, match="256 decisions"):
            parse_episode(text)


def test_impacts_are_half_lives() -> None:
    told = ["none", "permanent", "resilient", "resilient 250 ms", "resilient 2 min"]
    assert [ReplayConfig(impact=text).half_life_ns for text in told] == [0, -1, NS, 250_000_000, 120 * NS]
    for text in ("resilient 0 s", "resilient -1 s", "resilient 5", "strong", None, 0):
        with pytest.raises(ConfigError, match="impact"):
            ReplayConfig(impact=text)


def test_starts_are_rows_or_the_last_row_not_after_a_time_of_day() -> None:
    times = (np.array([34_200, 34_201, 34_201, 34_260]) * NS).astype(np.int64)
    told = {"9:30:00": 0, "09:30": 0, "09:30:00.999999999": 0, "9:30:01": 2, "9:31:00": 3, "16:00:00": 3, 0: 0, 3: 3}
    assert {start: parse_start(start, times) for start in told} == told
    for wrong in ("9:29:59", "half past ten", "10", -1, 4):
        with pytest.raises(ConfigError, match="start"):
            parse_start(wrong, times)


# ---- splits ---------------------------------------------------------------------------------------------------------


def rows_allowed(tape: TapeSet, split: str, pace: Clock) -> dict[int, tuple[int, int]]:
    """day -> (first start, last row of an episode)."""
    return {int(day): (int(first), int(end)) for day, first, _, end in split_days(tape, split, pace, EPISODE).table}


@pytest.mark.parametrize("pace", PACES)
def test_of_two_dates_or_more_the_last_fifth_is_held_out_whole(pace: Clock) -> None:
    for count, held in ((2, 1), (3, 1), (4, 1), (5, 1), (7, 1), (8, 2), (10, 2)):
        tape = days(count)
        train, test = (rows_allowed(tape, split, pace) for split in ("train", "test"))
        assert sorted(train) == list(range(count - held)) and sorted(test) == list(range(count - held, count))
        for day, (first, end) in (train | test).items():
            assert (first, end) == (0, tape.info[day].rows - 1)
        assert rows_allowed(tape, "all", pace) == train | test


def test_days_marked_held_out_are_the_test_days_however_few() -> None:
    for tape, held in ((days(3, (1,)), [1]), (days(6, (0, 5)), [0, 5])):
        assert sorted(rows_allowed(tape, "test", PACES[0])) == held
        assert sorted(rows_allowed(tape, "train", PACES[0])) == [
            day for day in range(len(tape.info)) if day not in held
        ]


@pytest.mark.parametrize("pace", PACES)
def test_of_one_day_the_last_quarter_of_rows_is_held_out_and_an_episode_before_it_is_purged(pace: Clock) -> None:
    tape = days(1)
    train, test = (rows_allowed(tape, split, pace)[0] for split in ("train", "test"))
    rows, times = tape.info[0].rows, tape.rows["time_ns"]
    cut = rows * 3 // 4
    assert train[0] == 0 and test == (cut, rows - 1)
    if pace.count:
        assert train[1] == cut - 1 - EPISODE * pace.count
    else:
        assert times[train[1]] < times[cut] - EPISODE * pace.ns <= times[train[1] + 1]
    assert rows_allowed(tape, "all", pace)[0] == (0, rows - 1)


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("count", [2, 5])
def test_of_several_symbols_of_one_date_the_same_moment_cuts_all(count: int, pace: Clock) -> None:
    tape = days(count, one_date=True)
    train, test = (rows_allowed(tape, split, pace) for split in ("train", "test"))
    times = [tape.rows["time_ns"][tape.day_slice(day)] for day in range(count)]
    pooled = sorted(time for own in times for time in own.tolist())
    moment = pooled[len(pooled) * 3 // 4]
    for day, own in enumerate(times):
        assert own[test[day][0]] >= moment > own[test[day][0] - 1] and test[day][1] == len(own) - 1
        if pace.count:
            assert train[day][1] == test[day][0] - 1 - EPISODE * pace.count
        else:
            assert own[train[day][1]] < moment - EPISODE * pace.ns <= own[train[day][1] + 1]


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize(("count", "held_out"), [(1, ()), (4, ()), (8, ()), (3, (1,))])
def test_fit_and_validation_cut_the_training_part_and_nothing_else(count: int, held_out: tuple[int, ...], pace: Clock) -> None:
    tape = days(count, held_out)
    train, fit, chosen = (rows_allowed(tape, split, pace) for split in ("train", "fit", "validation"))
    assert fit and chosen and set(fit) | set(chosen) == set(train)
    if count > 1:
        assert list(chosen) == [max(train)] and fit | chosen == train, "the last date of those to train on chooses"
        return
    (first, end), (last,) = train[0], [chosen[0][0] - 1]
    assert fit[0][0] == first and chosen[0] == (first + (end + 1 - first) * 3 // 4, end), "inside of the training part"
    if pace.count:
        assert fit[0][1] == last - EPISODE * pace.count, "an episode between them is purged"


def test_the_purge_reaches_back_into_the_session_before() -> None:
    """Morning of 100 rows, afternoon of 20: the moment is row 90 of 120, in the morning. With 40 in the morning and 80 in the
    afternoon it is row 50 of the afternoon, and 60 rows before it are all those and ten of the morning."""
    for morning, afternoon, kept in ((100, 20, {0: (0, 29)}), (40, 80, {0: (0, 29)})):
        assert allowed(clocks([("AAA", DATE, morning, 0), ("AAA", DATE, afternoon, 1)]), "train", Clock(5, 0), 12) == kept
    both = allowed(clocks([("AAA", DATE, 40, 0), ("AAA", DATE, 80, 1)]), "test", Clock(5, 0), 4)
    assert both == {1: (50, 79)}


DATE = "2030-01-07"


def clocks(days: list[tuple[str, str, int, int]], seed: int = 0) -> Any:
    """What a split knows of a set of days (symbol, date, rows, session): their names and their clocks, sessions of an hour."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.choice(3_600, rows, replace=False)) + 3_600 * session for _, _, rows, session in days]
    rows = np.ones(sum(map(len, times)), [("time_ns", np.int64), ("mid2", np.int64)])
    rows["time_ns"] = np.concatenate(times) * NS
    ends = np.cumsum([len(own) for own in times])
    info = [SimpleNamespace(date=date, instrument=SimpleNamespace(symbol=symbol), source={}) for symbol, date, *_ in days]
    return SimpleNamespace(info=info, rows=rows, day_slice=lambda day: slice(int(ends[day]) - len(times[day]), int(ends[day])))


def allowed(tape: Any, split: str, pace: Clock, episode: int) -> dict[int, tuple[int, int]]:
    return {int(day): (int(first), int(end)) for day, first, _, end in split_days(tape, split, pace, episode).table}


SETS = st.lists(
    st.tuples(st.sampled_from(["AAA", "BBB", "CCC"]), st.sampled_from(["2030-01-07", "2030-01-08", "2030-02-01"]),
              st.integers(10, 60), st.integers(0, 2)),
    min_size=1, max_size=9, unique_by=lambda day: (day[0], day[1], day[3]),
)  # fmt: skip


@given(days=SETS, order=st.randoms(use_true_random=False), pace=st.sampled_from([Clock(2, 0), Clock(0, 30 * NS)]))
def test_what_is_trained_on_ends_before_what_is_judged_for_any_set_in_any_order(
    days: list[tuple[str, str, int, int]], order: Any, pace: Clock
) -> None:
    """Days of one number of rows and session have one clock, whatever their place: `clocks` is asked for each alone."""
    found = []
    for shuffled in (days, order.sample(days, len(days))):
        alone = [clocks([day], seed=sum(map(ord, "".join(map(str, day))))) for day in shuffled]
        rows = np.concatenate([tape.rows for tape in alone])
        ends = np.cumsum([len(tape.rows) for tape in alone])
        spans = [slice(int(end) - len(tape.rows), int(end)) for tape, end in zip(alone, ends)]
        tape: Any = SimpleNamespace(info=[one.info[0] for one in alone], rows=rows, day_slice=spans.__getitem__)
        moments = {}
        for split in ("train", "test", "fit", "validation"):
            try:
                table = allowed(tape, split, pace, 3)
            except DataError:  # too short for an episode
                continue
            own = {day: rows["time_ns"][spans[day]] for day in table}
            moments[split] = {
                (shuffled[day], int(own[day][first]), int(own[day][end])) for day, (first, end) in table.items()
            }
        for earlier, later in (("train", "test"), ("fit", "validation"), ("fit", "test"), ("validation", "test")):
            if earlier in moments and later in moments:
                last = max((day[1], end) for day, _, end in moments[earlier])
                assert last < min((day[1], start) for day, start, _ in moments[later])
        found.append(moments)
    assert found[0] == found[1], "the order in which days are given changes nothing"


def test_an_unknown_split_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'train', 'test', 'all'"):
        split_days(days(1), "holdout", PACES[0], EPISODE)


@pytest.mark.parametrize(
    ("split", "pace", "episode", "fits"),
    [
        ("test", Clock(1_000, 0), 20, "every='250 messages', episode='20 decisions' fits"),
        ("train", Clock(100, 0), 40, "episode='20 decisions' fits"),
        ("train", Clock(2_000, 0), 3, "every='500 messages', episode='3 decisions' fits"),
        ("test", Clock(0, 24 * 60 * 60 * NS), 2, "fits"),
    ],
)
def test_an_episode_that_fits_nowhere_is_an_error_that_says_what_fits(split: str, pace: Clock, episode: int, fits: str) -> None:
    with pytest.raises(DataError, match=f"episode of {episode} decisions every {pace}") as found:
        split_days(days(1), split, pace, episode)
    said = str(found.value)
    assert fits in said, said
    every, length = re.search(r"every='(.*)', ", said), re.search(r"episode='(.*)' fits", said)
    assert len(split_days(days(1), split, Clock.parse(every[1]) if every else pace, parse_episode(length[1])).table)
    pasted = shlex.split(said.partition("(on a command line: ")[2].partition(");")[0])
    assert pasted[0] == "--set" and assignments(pasted[1:]) == {
        "env": {**({"every": every[1]} if every else {}), "episode": length[1]}
    }


def test_an_episode_longer_than_its_window_may_start_at_its_first_row_only() -> None:
    ((day, first, last, end),) = split_days(days(1), "test", Clock(300, 0), 100).table
    assert first == last == 3_000 and end == 3_999


# ---- the rows that lanes really walk --------------------------------------------------------------------------------


def told(pace: Clock) -> str:
    return f"{pace.count} messages" if pace.count else f"{pace.ns} ns"


def walked(lanes: Lanes) -> list[tuple[int, int, int, int]]:
    """(day, start row, last row, decisions) of the episodes that stand at their start, played to their ends."""
    state, ends = lanes.market.public.lane, {}
    for _ in range(lanes.episode):
        ended, _, _ = lanes.step(np.zeros(lanes.lanes, np.int64))
        lanes.settle_and_observe()
        for i in np.flatnonzero(ended):
            ends[int(i)] = tuple(int(state[i][name]) for name in ("day", "start_row", "row", "decision"))
            lanes.market.active[i] = False
    lanes.market.active[:] = True
    return [ends[i] for i in range(lanes.lanes)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(days(2, one_date=True).save(tmp_path_factory.mktemp("days") / "two.tape"))


def made(data: str, lanes: int, pace: Clock, split: str) -> Lanes:
    return Lanes("trade", lanes, data=data, every=told(pace), episode=f"{EPISODE} decisions", split=split, threads=1)


@pytest.mark.parametrize("blank", [-1, 1])
@pytest.mark.parametrize("split", ["all", "train"])
def test_no_episode_starts_before_both_sides_have_been_quoted(blank: int, split: str, tmp_path: Any) -> None:
    day = synthetic_day(CONFIG)
    price, size, side = day.book_price.copy(), day.book_size.copy(), 0 if blank > 0 else 1
    price[:500, side], size[:500, side] = EMPTY_BID if blank > 0 else EMPTY_ASK, 0
    path = str(build(replace(day, book_price=price, book_size=size)).save(tmp_path / "day.tape"))
    lanes = Lanes("execute", 64, data=path, split=split, episode="20 decisions", every="10 messages")
    assert lanes.market.starts.table[:, 1].tolist() == [500]
    lanes.seed(0)
    lanes.reset(np.arange(64))
    assert (lanes.market.view.mid2 > 0).all()
    for start in (499, 0):
        with pytest.raises(ConfigError, match=f"start {start} is before row 500 of SYN.*start there or later"):
            lanes.reset(np.arange(64), {"start": start})
    lanes.reset(np.arange(64), {"start": 500})
    while not (ended := lanes.step(np.full(64, 0))[0]).any():
        lanes.settle_and_observe()
    assert ended.all() and np.isfinite(lanes.settle_and_observe()[1]).all()


def test_a_day_of_one_side_has_no_window(tmp_path: Any) -> None:
    day = synthetic_day(CONFIG)
    price, size = day.book_price.copy(), day.book_size.copy()
    price[:, 1], size[:, 1] = EMPTY_ASK, 0
    path = str(build(replace(day, book_price=price, book_size=size)).save(tmp_path / "day.tape"))
    for split in ("train", "all"):
        with pytest.raises(DataError, match=r"SYN.*: the two sides of the book are never both quoted.*give other days"):
            Lanes("trade", 1, data=path, split=split)


@pytest.mark.parametrize("split", ["train", "test", "all"])
@pytest.mark.parametrize("pace", PACES)
def test_disjoint_windows_share_no_row_that_is_walked(data: str, pace: Clock, split: str) -> None:
    probe = made(data, 1, pace, split)
    starts = probe.market.starts.disjoint()
    lanes = made(data, len(starts), pace, split)
    lanes.reset(np.arange(len(starts)), {"day": [day for day, _ in starts], "start": [row for _, row in starts]})
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    episodes = walked(lanes)
    for (day, start), (walked_day, first, last, decisions) in zip(starts, episodes):
        passed = set(
            range(first + 1, last + 1)
        )  # the start row is what the first decision sees; nothing of ours meets it
        assert walked_day == day and first >= start and not seen[day] & passed
        seen[day] |= passed
        low, end = rows_allowed(probe.tape, split, pace)[day]
        assert low <= first and last <= lanes.market.data.rows["group_end"][lanes.market.data.day_slice(day)][end]
        assert decisions == EPISODE or last >= end
    short = [decisions for *_, decisions in episodes if decisions < EPISODE]
    assert len(short) <= 2 and len(starts) >= 6  # only a day's last window may lose decisions to equal timestamps
    assert starts == sorted(starts)


@pytest.mark.parametrize("pace", PACES)
def test_no_walk_in_training_time_comes_near_held_out_time(data: str, pace: Clock) -> None:
    train, test = made(data, 400, pace, "train"), made(data, 400, pace, "test")
    last, first = {0: 0, 1: 0}, {0: 1 << 60, 1: 1 << 60}
    for lanes in (train, test):
        lanes.seed(1)
        lanes.reset(np.arange(400))
        for day, start, row, _ in walked(lanes):
            last[day] = max(last[day], row) if lanes is train else last[day]
            first[day] = min(first[day], start) if lanes is test else first[day]
    for day in (0, 1):
        times = train.tape.rows["time_ns"][train.tape.day_slice(day)]
        if pace.count:
            assert first[day] - last[day] >= EPISODE * pace.count
        else:
            assert times[first[day]] - times[last[day]] >= EPISODE * pace.ns


@pytest.mark.parametrize("pace", PACES)
def test_drawn_starts_lie_in_their_windows_and_reach_all_of_them(data: str, pace: Clock) -> None:
    lanes = made(data, 2_000, pace, "train")
    lanes.seed(3)
    lanes.reset(np.arange(2_000))
    state = lanes.market.public.lane
    for day, first, last, end in lanes.market.starts.table.tolist():
        own = state["start_row"][state["day"] == day]
        group = lanes.market.data.rows["group_end"][lanes.market.data.day_slice(day)]
        assert first <= own.min() and own.max() <= group[last] and (state["end_row"][state["day"] == day] == end).all()
        assert own.min() < first + 0.02 * (last - first) and own.max() > last - 0.02 * (last - first)
        assert (group[own] == own).all()  # never amid a timestamp
    starts = np.diff(lanes.market.starts.table[:, 1:3])[:, 0] + 1
    share = starts[0] / starts.sum()
    assert abs((state["day"] == 0).mean() - share) < 0.05
