"""A tape says what its day says: events, index and sums against brute force; folders that are whole or refused."""

from __future__ import annotations

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emp_gym.data.synthetic.day import DayConfig
from emp_gym.data.tape import index
from emp_gym.data.tape.format import BLOCK, ELSEWHERE, FORMAT, NO_ROW, NO_TOUCH
from emp_gym.data.tape.replay import replayed_book
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.types import ConfigError, DataError, Instrument, MessageType, RecordedDay, TradingStatus
from tests.market.by_hand import Hand
from tests.market.duel import damaged, rows_of, synthetic_day
from tests.reference_market import Day

Harm = Callable[[Path], object]
CONFIGS = {
    "thin with halts": DayConfig(seed=11, rows=2_000, halts=2, thin=True, stressed=0.5),
    "wide": DayConfig(seed=12, rows=2_000, tick_regime="wide", levels=3),
    "one level": DayConfig(seed=13, rows=2_000, levels=1),
}
NAMES = [*CONFIGS, *(f"{name}; damaged" for name in CONFIGS), "by hand"]


def by_hand() -> RecordedDay:
    day = Hand({100: 50, 98: 60}, {103: 40}, levels=2).new(1, 101, 5, 1).out_of_sight(1, 98, 75).delete(1, 101, 5, 1)
    day.out_of_sight(-1, 102, 9).quiet().execute(-1, 102, 9, 4).execute(-1, 103, 40, 5).halt().new(-1, 99, 8, 6).halt(1)
    return day.new(-1, 99, 8, 7).execute(1, 100, 50, 8).quiet(seconds=0).day()


def day_of(name: str) -> RecordedDay:
    if name == "by hand":
        return by_hand()
    config, _, damage = name.partition("; ")
    day = synthetic_day(CONFIGS[config])
    return damaged(day, CONFIGS[config].seed) if damage else day


def events_by_row(tape: TapeSet) -> dict[int, list[np.void]]:
    events = defaultdict(list)
    for event in tape.window:
        events[int(event["row"])].append(event)
    return events


@pytest.mark.parametrize("name", NAMES)
def test_event_stream_alone_reproduces_every_book_row(name: str) -> None:
    day = day_of(name)
    tape = build(day)
    events, books = events_by_row(tape), {1: {}, -1: {}}
    for r, message in enumerate(tape.messages):
        book, price, size = books[1 if message["side"] > 0 else -1], int(message["price"]), int(message["size"])
        if message["kind"] == MessageType.NEW:
            book[price] = book.get(price, 0) + size
        elif message["kind"] in (MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE) and price in book:
            book[price] -= size
            if book[price] <= 0:
                del book[price]
        for event in events[r]:
            book, price = books[int(event["side"])], int(event["price"])
            if event["kind"] == MessageType.ADOPT:
                book[price] = int(event["size"])
            else:
                assert book.pop(price) == event["size"]
        for s, side in enumerate((1, -1)):
            seen = day.book_size[r, s] > 0
            assert books[side] == dict(zip(day.book_price[r, s][seen].tolist(), day.book_size[r, s][seen].tolist())), r
    for r in (0, len(day.time_ns) // 2, len(day.time_ns) - 1):
        at = {1: day.book_size[r, 0] > 0, -1: day.book_size[r, 1] > 0}
        assert replayed_book(tape, r)[0] == dict(
            zip(day.book_price[r, 0][at[1]].tolist(), day.book_size[r, 0][at[1]].tolist())
        )
        assert replayed_book(tape, r)[1] == dict(
            zip(day.book_price[r, 1][at[-1]].tolist(), day.book_size[r, 1][at[-1]].tolist())
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_book_is_that_of_the_file(name: str) -> None:
    day = day_of(name)
    price, size = build(day).book_at(slice(None))
    assert (price == day.book_price).all() and (size == day.book_size).all()


def test_window_events_are_those_of_a_plain_comparison() -> None:
    for name in NAMES:
        day = day_of(name)
        expected = [
            (r, int(event.kind), event.side, event.price, event.size)
            for r, row in enumerate(Day(day).rows)
            for event in row.events
            if event.kind in (MessageType.ADOPT, MessageType.EVICT)
        ]
        found = [tuple(e) for e in build(day).window[["row", "kind", "side", "price", "size"]].tolist()]
        assert found == expected, name


@pytest.mark.parametrize("name", NAMES)
def test_slots_are_unique_among_live_orders_and_few(name: str) -> None:
    tape = build(day_of(name))
    events, live, left = events_by_row(tape), {}, {}  # order -> slot, price and side; order -> lots
    most = used = 0
    for r, message in enumerate(tape.messages):
        order, slot = int(message["order"]), int(message["slot"])
        if order >= 0:
            if message["kind"] == MessageType.NEW and order not in live:
                assert slot >= 0 and slot not in {held for held, _ in live.values()}
                live[order], left[order] = (slot, (int(message["price"]), int(message["side"]))), int(message["size"])
            assert slot == (live[order][0] if order in live else -1), r
            most, used = max(most, len(live)), max(used, slot + 1)
            if message["kind"] != MessageType.NEW and order in live:
                left[order] -= int(message["size"])
                if message["kind"] == MessageType.DELETE or left[order] <= 0:
                    del live[order]
        for event in events[r]:
            if event["kind"] == MessageType.EVICT:
                level = (int(event["price"]), int(event["side"]))
                live = {order: held for order, held in live.items() if held[1] != level}
    assert used <= most


def first_touches(tape: TapeSet) -> np.ndarray:
    """[stretches, 2, ticks] of the only day."""
    return tape.first_touch.reshape(-1, 2, int(tape.days[0]["ticks"]))


def levels_of(tape: TapeSet) -> dict[tuple[int, int], np.ndarray]:
    """(side, price) -> touches, from the index."""
    day, found = tape.days[0], {}
    for s, side in enumerate((1, -1)):
        for tick, start in enumerate(first_touches(tape)[0, s]):
            if start == NO_TOUCH:
                continue
            stop = start + 1
            while tape.touches[stop - 1]["last"] == 0:
                stop += 1
            found[side, int(day["grid"] + tick * day["tick"])] = tape.touches[start:stop]
    for far in tape.far_touch:
        start = int(far["touch"])
        stop = start + 1 + int(np.argmax(tape.touches["last"][start:] == 1))
        assert (int(far["side"]), int(far["price"])) not in found
        found[int(far["side"]), int(far["price"])] = tape.touches[start:stop]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_first_touch_of_a_stretch_is_the_first_one_in_it_or_after_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "STRETCH", 64)
    tape = build(day_of(name))
    day, levels = tape.days[0], levels_of(tape)
    stretch, table = int(day["stretch"]), first_touches(tape)
    assert len(table) == -(-len(tape.rows) // stretch)
    for s, side in enumerate((1, -1)):
        for tick in range(int(day["ticks"])):
            touches = levels.get((side, int(day["grid"] + tick * day["tick"])), tape.touches[:0])
            for i, at in enumerate(table[:, s, tick]):
                later = touches[touches["row"] >= i * stretch]
                assert (at == NO_TOUCH) == (len(later) == 0)
                assert at == NO_TOUCH or tape.touches[at] == later[0]


def far_and_off_tick() -> RecordedDay:
    """A day of which one new order stands a hundred thousand dollars away and another one off the tick."""
    day = day_of(NAMES[0])
    strange = replace(day, price=day.price.copy())
    far, off = np.flatnonzero(day.kind == MessageType.NEW)[[0, 1]]
    strange.price[far] += 100 * 10_000_000
    strange.price[off] += 1
    return strange


def test_stray_prices_stand_beside_the_grid_of_first_touches() -> None:
    strange = far_and_off_tick()
    tape, levels = build(strange), levels_of(build(strange))
    assert len(tape.first_touch) <= max(4 * len(tape.rows), 1 << 16)
    assert len(tape.far_touch) == tape.days[0]["fars"] >= 2
    assert sum(len(touches) for touches in levels.values()) == len(tape.touches)


@pytest.mark.parametrize("name", NAMES)
def test_touches_are_every_event_of_a_level_in_order_of_time(name: str) -> None:
    day = day_of(name)
    tape, expected = build(day), defaultdict(list)
    for r, row in enumerate(Day(day).rows):
        for event in row.events:
            volume = event.size if event.kind == MessageType.ADOPT else 0
            if event.kind <= MessageType.EXECUTE:
                volume = row.book[event.side].get(event.price, 0)
            birth = event.birth if event.birth is not None else -1 - event.first_mention
            birth = birth if event.kind <= MessageType.EXECUTE else -1
            expected[event.side, event.price].append((r, event.size, volume, birth, int(event.kind)))
    found = levels_of(tape)
    assert {
        level: [tuple(t) for t in touches[["row", "size", "volume", "birth", "kind"]].tolist()]
        for level, touches in found.items()
    } == expected
    assert sum(len(touches) for touches in found.values()) == len(tape.touches)
    base = int(tape.days[0]["base"])
    for touches in found.values():
        mid2 = tape.messages["mid2"][touches["row"]]
        assert (touches["mid2"] == np.where(mid2 > 0, mid2 - 2 * base, ELSEWHERE)).all()
        assert touches["last"].tolist() == [0] * (len(touches) - 1) + [1]
        assert (touches["status"] == tape.messages["status"][touches["row"]]).all()


def told(tape: TapeSet) -> list[tuple[int, int, int, int]]:
    """(status, kind, side, price) of every message."""
    return [tuple(message) for message in tape.messages[["status", "kind", "side", "price"]].tolist()]


def crosses(message: tuple[int, int, int, int], side: int, price: int) -> bool:
    """Whether a message would fill an own order of `side` at `price` whatever the queue says."""
    status, kind, of, at = message
    if status != TradingStatus.TRADING:
        return False
    if kind == MessageType.EXECUTE and of == side:
        return side * at < side * price
    return kind == MessageType.NEW and of == -side and side * at <= side * price


@pytest.mark.parametrize("name", NAMES)
def test_a_levels_next_touch_and_next_crossing_equal_a_search(name: str) -> None:
    tape = build(day_of(name))
    rng, rows, base = np.random.default_rng(1), len(tape.rows), int(tape.days[0]["base"])
    levels, messages = levels_of(tape), told(tape)
    for r in sorted({0, rows - 1, *rng.integers(0, rows, 40).tolist()}):
        for s, side in enumerate((1, -1)):
            for level, link in zip(tape.book[r, s], tape.links[r, s], strict=True):
                if level["size"] == 0:
                    continue
                price = base + int(level["price"])
                later_touches = levels[side, price][levels[side, price]["row"] > r]
                assert (link["touch"] == NO_TOUCH) == (len(later_touches) == 0)
                assert link["touch"] == NO_TOUCH or tape.touches[link["touch"]] == later_touches[0]
                later = (i for i in range(r + 1, rows) if crosses(messages[i], side, price))
                assert link["cross"] == next(later, NO_ROW)


@pytest.mark.parametrize("name", NAMES)
def test_cross_says_which_prices_a_row_crosses(name: str) -> None:
    tape = build(day_of(name))
    base = int(tape.days[0]["base"])
    for r, message in enumerate(told(tape)):
        for s, side in enumerate((1, -1)):
            for price in {message[-1] + step for step in (-100, -1, 0, 1, 100)}:
                assert (side * (price - base) >= side * tape.cross[s, r]) == crosses(message, side, price), (
                    r,
                    side,
                    price,
                )
    for block in range(tape.cross_block.shape[1]):
        part = tape.cross[:, block * BLOCK : (block + 1) * BLOCK]
        assert tape.cross_block[0, block] == part[0].min() and tape.cross_block[1, block] == part[1].max()


@pytest.mark.parametrize("name", NAMES)
def test_running_sums_of_rows_equal_plain_sums(name: str) -> None:
    day = day_of(name)
    tape, judged = build(day), Day(day)
    flow = moves2 = 0
    for r, row in enumerate(judged.rows):
        found = tape.rows[r]
        assert (found["mid2"], found["bought"], found["sold"]) == (row.mid2, row.bought, row.sold), r
        assert (found["time_ns"], found["status"], found["group_end"]) == (
            row.time_ns,
            row.status,
            judged.end_of_group(r),
        ), r
        if r:
            before = judged.rows[r - 1]
            flow += best_flow(before.book, row.book, 1) - best_flow(before.book, row.book, -1)
            moves2 += (row.mid2 - before.mid2) ** 2 if before.mid2 else 0
        assert (found["flow"], found["moves2"]) == (flow, moves2), r


def best_flow(before: dict, now: dict, side: int) -> int:
    """Cont, Kukanov, Stoikov (2014), eq. 4, one side; an empty side is worse than any price."""
    nothing = (-(10**10), 0)
    (was, had), (price, size) = (
        next(((side * price, size) for price, size in book[side].items()), nothing) for book in (before, now)
    )
    return (size if price >= was else 0) - (had if price <= was else 0)


def test_the_same_day_gives_the_same_bytes() -> None:
    assert same(build(day_of("wide; damaged")), build(day_of("wide; damaged")))
    days = [build(day_of("wide; damaged")), build(day_of("wide"))]
    assert same(TapeSet.concatenate(days), TapeSet.concatenate(days))


# ---- folders --------------------------------------------------------------------------------------------------------


def same(a: TapeSet, b: TapeSet) -> bool:
    names = [name for name in vars(a) if isinstance(getattr(a, name), np.ndarray)]
    return a.info == b.info and all(
        getattr(a, name).dtype == getattr(b, name).dtype and getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in names
    )


def test_a_saved_tape_opens_as_it_was(tmp_path: Path) -> None:
    tape = build(day_of("wide"))
    assert tape.signal is not None
    opened = TapeSet.open(tape.save(tmp_path / "new folder" / "a.tape"))
    assert same(tape, opened) and opened.hash == tape.hash and opened.path == tmp_path / "new folder" / "a.tape"
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.tape"]  # nothing is left beside it


def test_hash_follows_content_instrument_and_source() -> None:
    day = day_of("by hand")
    first = build(day).hash
    assert build(day_of("by hand")).hash == first
    size, book = day.size.copy(), day.book_size.copy()
    size[3], book[5, 0, 0] = size[3] + 1, book[5, 0, 0] + 1
    others = [
        replace(day, size=size), replace(day, book_size=book), replace(day, date="2030-01-08"),
        replace(day, instrument=Instrument("HAND", tick=2)), replace(day, source={"sha256": "x"}),
        replace(day, signal=np.zeros(len(size), np.float32)),
    ]  # fmt: skip
    assert len({first, *(build(other).hash for other in others)}) == 7


def test_another_tape_in_the_place_is_replaced_only_if_asked_and_the_same_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a.tape"
    build(day_of("by hand")).save(folder)
    inode = (folder / "meta.json").stat().st_ino
    build(day_of("by hand")).save(folder)
    assert (folder / "meta.json").stat().st_ino == inode
    tape = build(day_of("wide"))
    with pytest.raises(DataError, match=r"a\.tape holds HAND 2030-01-07.* a tape of SYNA 2030-01-07.* would replace it"):
        tape.save(folder)
    assert (folder / "meta.json").stat().st_ino == inode and len(list(tmp_path.iterdir())) == 1
    assert same(TapeSet.open(tape.save(folder, replace=True)), tape)


def _save_often(folder: str, name: str) -> None:
    tape = build(day_of(name))
    for _ in range(10):
        tape.save(folder)


def test_two_processes_that_race_both_end_with_a_whole_tape(tmp_path: Path) -> None:
    folder = tmp_path / "a.tape"
    spawn = multiprocessing.get_context("spawn")
    racers = [spawn.Process(target=_save_often, args=(str(folder), "by hand")) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert same(TapeSet.open(folder), build(day_of("by hand"))) and len(list(tmp_path.iterdir())) == 1


def _remove(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def _cut(name: str) -> Harm:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def _write(name: str, text: str) -> Harm:
    return lambda folder: (folder / name).write_text(text)


def _other_rows(folder: Path) -> None:
    np.save(folder / "rows.npy", np.load(folder / "rows.npy")[:-1])


def _other_format(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"format": 0}))


DAMAGE = [
    _remove("meta.json"),
    _remove("book.npy"),
    _cut("meta.json"),
    _cut("touches.npy"),
    _write("rows.npy", ""),
    _write("messages.npy", "no array"),
    _write("meta.json", "[]"),
    _write("meta.json", f'{{"format": {FORMAT}}}'),
    _other_rows,
    _other_format,
]


@pytest.mark.parametrize("damage", range(len(DAMAGE)))
def test_a_damaged_folder_is_refused_with_its_path_and_mended_by_saving_again(tmp_path: Path, damage: int) -> None:
    tape = build(day_of("by hand"))
    folder = tape.save(tmp_path / "a.tape")
    DAMAGE[damage](folder)
    with pytest.raises(DataError, match=r"a\.tape"):
        TapeSet.open(folder)
    assert same(TapeSet.open(tape.save(folder)), tape)


def test_a_folder_that_is_no_tape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a tape"):
        TapeSet.open(tmp_path)


def test_a_set_keeps_its_days_in_order() -> None:
    first, second = build(day_of("wide")), build(day_of("wide; damaged"))
    both = TapeSet.concatenate([first, second])
    assert [day.rows for day in both.info] == [len(first.rows), len(second.rows)]
    for day, tape in enumerate((first, second)):
        assert (both.rows[both.day_slice(day)] == tape.rows).all()
        assert (both.book_at(slice(None), day)[0] == tape.book_at(slice(None))[0]).all()
        assert replayed_book(both, 500, day) == replayed_book(tape, 500)
    assert both.signal is not None and len(both.signal) == len(both.rows)


def test_days_of_unlike_depth_do_not_make_a_set() -> None:
    with pytest.raises(ConfigError, match="levels"):
        TapeSet.concatenate([build(day_of("wide")), build(day_of("one level"))])


def test_a_day_too_short_or_without_any_level_is_refused() -> None:
    day = day_of("by hand")
    with pytest.raises(DataError, match="at least 2"):
        build(rows_of(day, np.array([0])))
    with pytest.raises(DataError, match="empty"):
        build(replace(day, book_size=np.zeros_like(day.book_size)))


def test_prices_that_span_more_than_32_bits_are_refused() -> None:
    price, size = np.array([[[1], [1 << 40]]]), np.ones((1, 2, 1), np.int32)
    with pytest.raises(DataError, match="stray"):
        index.base_price(price, size)


def test_days_in_large_pages_are_the_same_bytes_and_large_ones_stay_mapped(tmp_path: Path) -> None:
    mapped = TapeSet.open(build(day_of(NAMES[0])).save(tmp_path / "day.tape"))
    held = mapped.in_memory(1 << 30)
    for name in ("rows", "messages", "book", "links", "touches", "first_touch", "cross"):
        copy, original = getattr(held, name), getattr(mapped, name)
        assert copy is not original and copy.tobytes() == original.tobytes() and copy.dtype == original.dtype
        assert not copy.flags.writeable and copy.ctypes.data % 4096 == 0
    assert held.hash == mapped.hash and held.path == mapped.path
    assert mapped.in_memory(mapped.rows.nbytes) is mapped
