"""When decisions are taken and where episodes start: parsing, splits, purging, windows that never share a row."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from emp_gym.data.synthetic import DayConfig
from emp_gym.data.tape import TapeSet, build
from emp_gym.envs.core import Lanes
from emp_gym.envs.schedule import Pace, parse_episode, parse_impact, parse_pace, parse_start, split_windows
from emp_gym.types import NS, ConfigError, DataError
from tests.market.duel import rows_of, synthetic_day

CONFIG = DayConfig(seed=51, rows=4_000)
PACES = [Pace(10, 0), Pace(7, 0), Pace(0, 60 * NS)]  # 60 s of this day hold about ten messages
EPISODE = 20


def days(count: int, held_out: tuple[int, ...] = ()) -> TapeSet:
    """A set of that many days of unlike lengths."""
    whole, parts = synthetic_day(CONFIG), []
    for i in range(count):
        day = rows_of(whole, np.arange(len(whole.time_ns) - 300 * i))
        parts.append(build(replace(day, source={"held_out": i in held_out})))
    return TapeSet.concatenate(parts)


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("100 messages", (100, 0)), ("1 message", (1, 0)), (" 5 messages ", (5, 0)), ("1 s", (0, NS)),
        ("250 ms", (0, 250_000_000)), ("10us", (0, 10_000)), ("3 ns", (0, 3)), ("2 min", (0, 120 * NS)),
    ],
)  # fmt: skip
def test_paces_are_messages_or_time(text: str, pace: tuple[int, int]) -> None:
    assert parse_pace(text) == Pace(*pace)


@pytest.mark.parametrize(
    "text", ["100", "0 messages", "-1 s", "1.5 s", "1 hour", "messages", "", "1 s 2 s", 100, None, ["1 s"]]
)
def test_other_paces_are_refused_with_examples(text: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"'100 messages', '250 ms' or '1 s', got {text!r}")):
        parse_pace(text)


def test_episodes_count_decisions() -> None:
    assert parse_episode("256 decisions") == 256 and parse_episode("1 decision") == 1
    for text in ("256", "0 decisions", "-1 decisions", "many", 256, None):
        with pytest.raises(ConfigError, match="256 decisions"):
            parse_episode(text)


def test_impacts_are_half_lives() -> None:
    told = ["none", "permanent", "resilient", "resilient 250 ms", "resilient 2 min"]
    assert [parse_impact(text) for text in told] == [0, -1, NS, 250_000_000, 120 * NS]
    for text in ("resilient 0 s", "resilient -1 s", "resilient 5", "strong", None, 0):
        with pytest.raises(ConfigError, match="impact"):
            parse_impact(text)


def test_starts_are_rows_or_the_last_row_not_after_a_time_of_day() -> None:
    times = (np.array([34_200, 34_201, 34_201, 34_260]) * NS).astype(np.int64)
    told = {"9:30:00": 0, "09:30": 0, "09:30:00.999999999": 0, "9:30:01": 2, "9:31:00": 3, "16:00:00": 3, 0: 0, 3: 3}
    assert {start: parse_start(start, times) for start in told} == told
    for wrong in ("9:29:59", "half past ten", "10", -1, 4):
        with pytest.raises(ConfigError, match="start"):
            parse_start(wrong, times)


# ---- splits ---------------------------------------------------------------------------------------------------------


def rows_allowed(tape: TapeSet, split: str, pace: Pace) -> dict[int, tuple[int, int]]:
    """day -> (first start, last row of an episode)."""
    return {int(day): (int(first), int(end)) for day, first, _, end in split_windows(tape, split, pace, EPISODE).table}


@pytest.mark.parametrize("pace", PACES)
def test_of_five_days_or_more_the_last_fifth_is_held_out_whole(pace: Pace) -> None:
    for count, held in ((5, 1), (6, 1), (8, 2), (10, 2)):
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
@pytest.mark.parametrize("count", [1, 4])
def test_of_fewer_days_the_end_of_each_is_held_out_and_an_episode_before_it_is_purged(count: int, pace: Pace) -> None:
    tape = days(count)
    train, test = (rows_allowed(tape, split, pace) for split in ("train", "test"))
    assert sorted(train) == sorted(test) == list(range(count))
    for day in range(count):
        rows, times = tape.info[day].rows, tape.rows["time_ns"][tape.day_slice(day)]
        cut = rows * 3 // 4
        assert train[day][0] == 0 and test[day] == (cut, rows - 1)
        if pace.rows:
            assert train[day][1] == cut - 1 - EPISODE * pace.rows
        else:
            assert times[train[day][1]] < times[cut] - EPISODE * pace.ns <= times[train[day][1] + 1]
        assert rows_allowed(tape, "all", pace)[day] == (0, rows - 1)


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize(("count", "held_out"), [(1, ()), (4, ()), (8, ()), (3, (1,))])
def test_fit_and_validation_cut_the_training_part_and_nothing_else(count: int, held_out: tuple[int, ...], pace: Pace) -> None:
    tape = days(count, held_out)
    train, fit, chosen = (rows_allowed(tape, split, pace) for split in ("train", "fit", "validation"))
    assert fit and chosen and set(fit) | set(chosen) == set(train)
    for day, (first, end) in train.items():
        if count == 8:  # six days to train on: the last of them chooses
            assert (day in chosen) == (day == 5) and (fit | chosen)[day] == (first, end)
            continue
        assert fit[day][0] == first and chosen[day][1] == end, "the two lie inside of the training part"
        assert chosen[day][0] == first + (end + 1 - first) * 3 // 4
        if pace.rows:
            assert fit[day][1] == chosen[day][0] - 1 - EPISODE * pace.rows, "an episode between them is purged"


def test_an_unknown_split_and_an_episode_that_fits_nowhere_are_errors() -> None:
    with pytest.raises(ConfigError, match="'train', 'test', 'all'"):
        split_windows(days(1), "holdout", PACES[0], EPISODE)
    with pytest.raises(DataError, match="shorten `episode`"):
        split_windows(days(1), "test", Pace(1_000, 0), EPISODE)


def test_an_episode_longer_than_its_window_may_start_at_its_first_row_only() -> None:
    ((day, first, last, end),) = split_windows(days(1), "test", Pace(300, 0), 100).table
    assert first == last == 3_000 and end == 3_999


# ---- the rows that lanes really walk --------------------------------------------------------------------------------


def told(pace: Pace) -> str:
    return f"{pace.rows} messages" if pace.rows else f"{pace.ns} ns"


def walked(lanes: Lanes) -> list[tuple[int, int, int, int]]:
    """(day, start row, last row, decisions) of the episodes that stand at their start, played to their ends."""
    state, ends = lanes.market.state, {}
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
    return str(days(2).save(tmp_path_factory.mktemp("days") / "two.tape"))


def made(data: str, lanes: int, pace: Pace, split: str) -> Lanes:
    return Lanes("trade", lanes, data=data, every=told(pace), episode=f"{EPISODE} decisions", split=split, threads=1)


@pytest.mark.parametrize("split", ["train", "test", "all"])
@pytest.mark.parametrize("pace", PACES)
def test_disjoint_windows_share_no_row_that_is_walked(data: str, pace: Pace, split: str) -> None:
    probe = made(data, 1, pace, split)
    starts = probe.windows.disjoint(probe.tape, pace, EPISODE)
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
        assert low <= first and last <= lanes.tape.rows["group_end"][lanes.tape.day_slice(day)][end]
        assert decisions == EPISODE or last >= end
    short = [decisions for *_, decisions in episodes if decisions < EPISODE]
    assert len(short) <= 2 and len(starts) >= 6  # only a day's last window may lose decisions to equal timestamps
    assert starts == sorted(starts)


@pytest.mark.parametrize("pace", PACES)
def test_no_walk_in_training_time_comes_near_held_out_time(data: str, pace: Pace) -> None:
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
        if pace.rows:
            assert first[day] - last[day] >= EPISODE * pace.rows
        else:
            assert times[first[day]] - times[last[day]] >= EPISODE * pace.ns


@pytest.mark.parametrize("pace", PACES)
def test_drawn_starts_lie_in_their_windows_and_reach_all_of_them(data: str, pace: Pace) -> None:
    lanes = made(data, 2_000, pace, "train")
    lanes.seed(3)
    lanes.reset(np.arange(2_000))
    state = lanes.market.state
    for day, first, last, end in lanes.windows.table.tolist():
        own = state["start_row"][state["day"] == day]
        group = lanes.tape.rows["group_end"][lanes.tape.day_slice(day)]
        assert first <= own.min() and own.max() <= group[last] and (state["end_row"][state["day"] == day] == end).all()
        assert own.min() < first + 0.02 * (last - first) and own.max() > last - 0.02 * (last - first)
        assert (group[own] == own).all()  # never amid a timestamp
    share = (lanes.windows.table[0, 2] - lanes.windows.table[0, 1] + 1) / lanes.windows.weight_end[-1]
    assert abs((state["day"] == 0).mean() - share) < 0.05
