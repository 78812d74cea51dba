"""Labels of regimes: causal to the bit, equal to a plain judge, steady, and better than chance at what was planted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp_gym.data import store
from emp_gym.data.synthetic.day import EMBEDDED, DayConfig
from emp_gym.data.tape.tape_set import TapeSet, build
from emp_gym.envs.trading_core import Lanes
from emp_gym.sensory.regime import DEFAULT, Labeller, RegimeConfig, label, shares
from emp_gym.types import NS, Condition, ConfigError, DataError, Regime, TradingStatus, TrendState
from tests.market.duel import damaged, rows_of, synthetic_day
from tests.sensory import reference_regime as plain

HARD = DayConfig(seed=41, rows=12_000, halts=1, thin=True, stressed=0.4)
WIDE = DayConfig(seed=42, rows=8_000, tick_regime="wide", levels=3)
BRIEF = RegimeConfig(
    grid_ns=30 * NS, move_half_life_ns=180 * NS, book_half_life_ns=60 * NS, reference_half_life_ns=3_000 * NS, dwell_ns=90 * NS,
)  # fmt: skip
SMALL = RegimeConfig(
    grid_ns=NS, move_half_life_ns=2 * NS, book_half_life_ns=NS, reference_half_life_ns=10**9 * NS, warm_ns=4 * NS, dwell_ns=NS,
)  # fmt: skip
LabelOf = Callable[[TapeSet], np.ndarray]


def quotes_of(tape: TapeSet, day: int = 0) -> np.ndarray:
    """(time_ns, mid2, spread, depth) of every row [4, R], from the whole book."""
    price, size = tape.book_at(slice(None), day)
    rows = tape.rows[tape.day_slice(day)]
    two_sided = (size[:, :, 0] > 0).all(axis=1) & (rows["status"] == TradingStatus.TRADING)
    spread = np.where(two_sided, price[:, 1, 0] - price[:, 0, 0], 0)
    return np.stack([rows["time_ns"], rows["mid2"], spread, size.sum(axis=(1, 2))])


# ------------------------------------------------------------------------------------------------------------- causality


def futures(tape: TapeSet, cut: int, rng: np.random.Generator) -> list[TapeSet]:
    """The day with rows up to `cut` as they are and another future: turned round, wilder, later, ended."""
    made = []
    for how in ("reversed", "wild", "later", "ended"):
        rows, book = tape.rows.copy(), tape.book.copy()
        after = slice(cut + 1, len(rows))
        if how == "ended":
            days = tape.days.copy()
            days["rows"] = cut + 1
            made.append(replace(tape, days=days, rows=rows[: cut + 1], book=book[: cut + 1]))
            continue
        if how == "reversed":
            book[after] = book[after][::-1]
            rows["mid2"][after] = rows["mid2"][after][::-1]
        if how == "wild":
            rows["mid2"][after] += rng.integers(-500, 500, len(rows[after])) * 100
            book["size"][after] //= 5
        if how == "later":
            rows["time_ns"][after] += 3_600 * NS
        made.append(replace(tape, rows=rows, book=book))
    return made


def leaks(labelled: LabelOf, tape: TapeSet, cuts: int = 60) -> int:
    """In how many futures a label at or before the cut is another one."""
    rng, before = np.random.default_rng(5), labelled(tape)
    found = 0
    for cut in np.sort(rng.choice(np.arange(100, len(tape.rows) - 2), cuts, replace=False)):
        for future in futures(tape, int(cut), rng):
            found += not np.array_equal(labelled(future)[: cut + 1], before[: cut + 1])
    return found


@pytest.mark.parametrize("config", [HARD, WIDE], ids=["one", "wide"])
def test_a_rewritten_future_changes_no_label_of_the_past(config: DayConfig) -> None:
    tape = build(synthetic_day(config))
    assert len(set(label(tape).tolist())) >= 6, "labels that never move cannot show a leak"
    assert leaks(label, tape) == 0


def test_a_day_that_ends_earlier_has_the_same_labels_from_its_messages_on() -> None:
    day = synthetic_day(HARD)
    whole = label(build(day))
    for cut in (900, 4_000, 7_777, 11_000):
        part = build(rows_of(day, np.arange(cut)))
        np.testing.assert_array_equal(label(part), whole[:cut])


def centred(tape: TapeSet) -> np.ndarray:
    """Planted leak: the label of fifty rows later."""
    labels = label(tape)
    return np.concatenate([labels[50:], np.repeat(labels[-1:], 50)])


def scaled_by_the_day(tape: TapeSet) -> np.ndarray:
    """Planted leak: calm where the spread is below its mean over the whole day."""
    spread = quotes_of(tape)[2]
    return (spread > spread.mean()).astype(np.int8)


def from_the_end(tape: TapeSet) -> np.ndarray:
    """Planted leak: stressed in the last tenth of the day."""
    return (np.arange(len(tape.rows)) > 0.9 * len(tape.rows)).astype(np.int8)


@pytest.mark.parametrize("leak", [centred, scaled_by_the_day, from_the_end])
def test_a_planted_leak_is_caught(leak: LabelOf) -> None:
    assert leaks(leak, build(synthetic_day(WIDE)), cuts=10) > 0


# ----------------------------------------------------------------------------------------------------- the same, otherwise


@pytest.mark.parametrize("config", [DEFAULT, BRIEF], ids=["default", "brief"])
@pytest.mark.parametrize("name", ["halts and crosses", "thin"])
def test_the_kernel_equals_a_plain_judge(name: str, config: RegimeConfig) -> None:
    day = synthetic_day(WIDE if name == "thin" else HARD)
    tape = build(damaged(rows_of(day, np.arange(0, len(day.time_ns), 4)), 3) if name != "thin" else day)
    quotes = quotes_of(tape)
    assert name == "thin" or 0 < (quotes[2] == 0).mean() < 0.9
    every = range(0, len(tape.rows), 25)
    expected = plain.labels(quotes.T.tolist(), config, every)
    assert len(set(expected)) > 3
    np.testing.assert_array_equal(label(tape, config)[::25], expected)


def test_fed_row_by_row_it_gives_the_labels_of_the_tape_in_every_lane() -> None:
    days = [build(synthetic_day(replace(HARD, seed=seed))) for seed in (41, 43, 44)]
    joined, together = TapeSet.concatenate(days), Labeller(3)
    quotes = np.stack([quotes_of(tape) for tape in days], axis=-1)
    online = np.stack([together.update(*row) for row in quotes.transpose(1, 0, 2)])
    np.testing.assert_array_equal(online.T.ravel(), label(joined))
    np.testing.assert_array_equal(together.labels, online[-1])


def test_each_day_begins_anew_and_so_does_a_lane_that_is_reset() -> None:
    tape = build(synthetic_day(HARD))
    twice = label(TapeSet.concatenate([tape, tape]))
    np.testing.assert_array_equal(twice[: len(tape.rows)], twice[len(tape.rows) :])
    quotes, lanes = quotes_of(tape)[:, :9_000].T, Labeller(2)
    for row in quotes:
        lanes.update(*row)
    lanes.reset(np.array([False, True]))
    for row in quotes[:5_000]:
        before = lanes.labels[0]
        now = lanes.update(np.array([quotes[-1, 0], row[0]]), *(np.array([quotes[-1, i], row[i]]) for i in (1, 2, 3)))
        assert now[0] == before
    np.testing.assert_array_equal(now[1], label(tape)[4_999])


def test_a_view_is_read_as_its_row(tmp_path: Path) -> None:
    data = str(build(synthetic_day(HARD)).save(tmp_path / "day.tape"))
    lanes = Lanes("trade", 3, data=data, every="7 messages", episode="1000 decisions", split="all", threads=1)
    lanes.seed(3)
    lanes.reset(np.arange(3), {"start": np.array([4_500, 4_600, 3])})
    seen, by_hand = Labeller(3), Labeller(3)
    quotes = quotes_of(lanes.market.data)
    for _ in range(900):
        rows = lanes.market.public.lane["seen_row"]
        np.testing.assert_array_equal(seen.update_view(lanes.market.view), by_hand.update(*quotes[:, rows]))
        lanes.step(np.full(3, 4))
    assert (lanes.market.view.decision >= 900).all() and len(set(seen.labels.tolist()) | {4}) > 1


# ------------------------------------------------------------------------------------------------------------ by hand


def fed(config: RegimeConfig, seconds: int, quote: Callable[[int], tuple[int, int, int]]) -> list[Regime]:
    """Labels when second s shows `quote(s)` = (mid2, spread, depth)."""
    labeller = Labeller(1, config)
    return [Regime(labeller.update(s * NS, *quote(s))[0]) for s in range(seconds)]


def condition_of(labels: list[Regime]) -> list[Condition]:
    return [Condition(regime // 3) for regime in labels]


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        (lambda s: (200, 300 if s >= 30 else 100, 50), Condition.STRESSED),
        (lambda s: (200, 100, 15 if s >= 30 else 50), Condition.STRESSED),
        (lambda s: (200 + (s % 2) * (90 if s >= 30 else 10), 100, 50), Condition.STRESSED),
        (lambda s: (200, 40 if s >= 30 else 100, 50), Condition.CALM),
        (lambda s: (200, 100, 200 if s >= 30 else 50), Condition.CALM),
        (lambda s: (200 + (s % 2) * (0 if s >= 30 else 10), 100, 50), Condition.CALM),
    ],
)
def test_each_of_spread_depth_and_volatility_makes_it_stressed_or_calm(quote: Any, expected: Condition) -> None:
    labels = condition_of(fed(SMALL, 45, quote))
    assert set(labels[:31]) == {Condition.NORMAL}, "second 30 is known when a later one comes"
    assert expected in labels[31:38] and set(labels[31:]) <= {Condition.NORMAL, expected}


def test_a_spread_that_doubles_turns_at_the_tick_that_the_arithmetic_says() -> None:
    # 30 samples of 100, then 200: the fast mean (half-life one sample) is 150, 175, ..., the reference 100 + 100 k / (30 + k).
    # 0.4 ln(150 / 103.2) = 0.1496 < 0.15 <= 0.4 ln(175 / 106.25) = 0.1996: after the second sample, seen one second later.
    labels = condition_of(fed(SMALL, 40, lambda s: (200, 200 if s >= 30 else 100, 50)))
    assert labels.index(Condition.STRESSED) == 32


def test_a_steady_rise_is_up_a_steady_fall_is_down_and_to_and_fro_is_flat() -> None:
    for slope, trend in ((2, TrendState.UP), (-2, TrendState.DOWN)):
        labels = fed(SMALL, 20, lambda s, slope=slope: (1000 + slope * s, 100, 50))
        assert [regime % 3 for regime in labels] == [TrendState.FLAT] * 5 + [trend] * 15
    assert {regime % 3 for regime in fed(SMALL, 60, lambda s: (1000 + 2 * (s % 2), 100, 50))} == {TrendState.FLAT}


def test_until_warm_the_label_is_normal_and_flat() -> None:
    labels = fed(SMALL, 6, lambda s: (1000 + s, 100 * 4**s, 50))
    assert labels[:5] == [Regime.NORMAL_FLAT] * 5 and labels[5] == Regime.STRESSED_UP


def test_a_halt_or_an_empty_side_takes_no_sample_and_keeps_the_label() -> None:
    def quote(s: int) -> tuple[int, int, int]:
        return (1000, 0 if 40 <= s < 400 else 100 + 200 * (s >= 30), 50)

    labels = fed(SMALL, 420, quote)
    assert set(condition_of(labels[33:400])) == {Condition.STRESSED}, "it was stressed when it stopped"
    short = fed(SMALL, 60, lambda s: quote(s if s < 40 else s + 360))
    assert labels[400:] == short[40:], "the stop itself leaves nothing"


def test_the_change_across_a_stop_counts_once() -> None:
    gap = fed(SMALL, 140, lambda s: (1000 + 10 * (s % 2) + (500 if s >= 40 else 0), 0 if 40 <= s < 100 else 100, 50))
    none = fed(SMALL, 80, lambda s: (1000 + 10 * (s % 2) + (500 if s >= 40 else 0), 100, 50))
    assert gap[100:] == none[40:] and Regime.STRESSED_UP in none


def test_a_very_long_silence_ends_soon() -> None:
    labeller = Labeller(1)
    labeller.update(0, 200, 100, 50)
    assert labeller.update(2**62, 200, 100, 50).tolist() == [Regime.NORMAL_FLAT]
    labeller.update(2**62 + NS, 200, 100, 50)


# ------------------------------------------------------------------------------------------------------------ steadiness


def turns(labels: np.ndarray) -> int:
    return int(np.count_nonzero(np.diff(labels)))


def test_at_a_border_the_label_does_not_flicker() -> None:
    rng = np.random.default_rng(3)
    spreads = np.r_[np.full(8_000, 1000), (1000 * (1.46 + 0.1 * rng.standard_normal(600))).astype(int)]

    def count(config: RegimeConfig) -> int:
        return turns(np.array(condition_of(fed(config, len(spreads), lambda s: (200, int(spreads[s]), 50)))))

    nervous = replace(SMALL, hysteresis=0.0, reference_half_life_ns=10**9 * NS)
    with_hysteresis, with_dwell = count(replace(nervous, hysteresis=0.08)), count(replace(nervous, dwell_ns=60 * NS))
    assert count(nervous) > 60 and with_hysteresis < count(nervous) / 3 and with_dwell <= 11


def test_nothing_turns_back_within_the_dwell() -> None:
    tape = build(synthetic_day(HARD))
    times, labels = tape.rows["time_ns"], label(tape)
    for axis in (labels // 3, labels % 3):
        at = times[1:][np.diff(axis) != 0]
        assert len(at) > 4
        assert (np.diff(at // DEFAULT.grid_ns) >= DEFAULT.dwell_ns // DEFAULT.grid_ns - 1).all()


# ---------------------------------------------------------------------------------------------------- what was planted


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Share of each truth's rows that got each label [3, 3]."""
    return np.array([[float((found[truth == a] == b).mean()) for b in range(3)] for a in range(3)])


def balanced(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.diag(confusion(truth, found)).mean())


def embedded(held_out: bool) -> tuple[TapeSet, np.ndarray, list[slice]]:
    tape = store.tapes()
    return tape, label(tape), [tape.day_slice(i) for i, day in enumerate(EMBEDDED) if day.held_out == held_out]


def test_planted_conditions_and_trends_are_found_far_better_than_chance() -> None:
    tape, labels, days = embedded(held_out=True)
    truth, found = (np.concatenate([x[day] for day in days]) for x in (tape.regime, labels))
    assert balanced(truth // 3, found // 3) > 0.33 + 0.20
    assert balanced(truth % 3, found % 3) > 0.33 + 0.08
    shifted = np.concatenate([np.roll(labels[day], len(labels[day]) // 2) for day in days])
    assert balanced(truth // 3, shifted // 3) < 0.40, "labels of another half of the day know nothing"
    assert abs(balanced(truth % 3, shifted % 3) - 1 / 3) < 0.05


def delays(truth: np.ndarray, found: np.ndarray, times: np.ndarray) -> list[float]:
    """Seconds from each change of the planted condition to the label that says so; inf if it never does."""
    starts = [*(np.flatnonzero(np.diff(truth)) + 1).tolist(), len(truth)]
    told = []
    for first, end in pairwise(starts):
        hit = np.flatnonzero(found[first:end] == truth[first])
        told.append(float(times[first + hit[0]] - times[first]) / NS if len(hit) else float("inf"))
    return told


def measured(held_out: bool) -> dict[str, Any]:
    tape, labels, days = embedded(held_out)
    truth, found = (np.concatenate([x[day] for day in days]) for x in (tape.regime, labels))
    told = {}
    for name, part in (("condition", lambda x: x // 3), ("trend", lambda x: x % 3)):
        a, b = part(truth), part(found)
        most = int(np.bincount(a).argmax())
        told[name] = {
            "accuracy": float((a == b).mean()), "accuracy_of_the_majority": float((a == most).mean()),
            "balanced": balanced(a, b), "confusion": confusion(a, b).tolist(),
            "turns_per_hour": sum(turns(part(labels[day])) for day in days) / (6.5 * len(days)),
        }  # fmt: skip
    waits = [s for d in days for s in delays(tape.regime[d] // 3, labels[d] // 3, tape.rows["time_ns"][d])]
    told["condition"]["delay_seconds_median"] = float(np.median(waits))
    told["condition"]["changes"], told["condition"]["missed"] = len(waits), int(np.isinf(waits).sum())
    return told | {"days": len(days), "rows": len(truth), "shares": shares(found)}


@pytest.mark.long
def test_the_figures_of_the_docs(root: Path, lobster_dir: Path) -> None:
    real = store.tapes(str(next(lobster_dir.glob("*AMZN*.zip"))))
    found = label(real)
    hours = {"condition": turns(found // 3) / 6.5, "trend": turns(found % 3) / 6.5}
    told = {
        "what": "labels of emp_gym.sensory.regime against planted regimes, by rows, warm-up included", "tier": "long",
        "command": "pytest -m long -n 0 tests/sensory/test_regime.py", "training": measured(False), "held_out": measured(True),
        "recorded": {"tape": "AMZN 2012-06-21, 5 levels", "rows": len(found), "shares": shares(found), "turns_per_hour": hours},
    }  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    if "EMP_EVIDENCE" in os.environ:
        Path(os.environ["EMP_EVIDENCE"]).write_text(json.dumps({**told, "commit": commit}, indent=1) + "\n")
    assert told["held_out"]["condition"]["accuracy"] > told["held_out"]["condition"]["accuracy_of_the_majority"]


def test_a_recorded_day_has_several_regimes(lobster_dir: Path) -> None:
    found = shares(label(store.tapes(str(next(lobster_dir.glob("*AMZN*.zip"))))))
    assert abs(sum(found.values()) - 1) < 1e-9 and sum(share > 0.05 for share in found.values()) >= 4


# ------------------------------------------------------------------------------------------------------------ the door


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid_ns": 0}, "grid_ns"),
        ({"dwell_ns": 1}, "dwell_ns"),
        ({"volatility_weight": -0.1}, "weights"),
        ({"volatility_weight": 0.0, "spread_weight": 0.0, "depth_weight": 0.0}, "weights"),
        ({"calm": 0.2}, "hysteresis"),
        ({"hysteresis": -0.1}, "hysteresis"),
        ({"trend_left": 2.0}, "trend_left"),
        ({"trend": float("nan")}, "trend"),
    ],
)
def test_impossible_constants_are_refused(change: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(DEFAULT, **change)


def test_time_that_goes_back_floats_and_other_shapes_are_refused() -> None:
    labeller = Labeller(2)
    labeller.update([5, 7], 200, 100, 50)
    with pytest.raises(DataError, match=r"lane 1: time 6 ns after 7 ns; call reset"):
        labeller.update([5, 6], 200, 100, 50)
    with pytest.raises(ConfigError, match=r"spread of a Labeller must be integers"):
        labeller.update([8, 8], 200, 1.5, 50)
    with pytest.raises(ConfigError, match=r"mid2 .* shape \(2,\)"):
        labeller.update([8, 8], [200, 200, 200], 100, 50)
    assert labeller.update([8, 8], 200, 100, 50).tolist() == [Regime.NORMAL_FLAT] * 2
