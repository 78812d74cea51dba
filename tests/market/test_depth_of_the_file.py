"""What depth costs does not depend on how many levels a file has: the deeper file of a day judges the shallow ones.

By hand: ``EMP_EVIDENCE=docs/evidence/depth_beyond_the_file.json pytest -n 0 -m long tests/market/test_depth_of_the_file.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from emp_gym.data.lobster import reader
from emp_gym.data.shallow import shallow_tape
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.market.ladder import OF_DISTANCE, OF_SPREAD
from tests.market.depth_costs import calibrated, judged
from tests.market.depth_ranking import compared, starts
from tests.market.duel import synthetic_day, tape_of
from tests.market.test_ghost import amazon
from tests.market.test_judge import CONFIGS

MULTIPLES = (1, 2, 3, 4, 5, 7, 10)  # of the median visible size
FITTED = (2, 3, 4, 5)  # to these: of more, the deeper file seldom shows all
PARENTS = (100, 500, 1_000, 5_000)
ORDERS, SEED = 20_000, 0


def apple(folder: Path) -> TapeSet:
    found = [next(iter(sorted(folder.glob(f"AAPL_2012-06-21_*_{kind}_10.csv"))), None) for kind in ("message", "orderbook")]
    if None in found:
        pytest.skip(f"no AAPL level-10 sample in {folder}")
    (reading,) = reader.read((found[0], found[1]))  # type: ignore[arg-type]
    return tape_of(reading.day)


def test_a_shallow_file_of_a_day_takes_what_the_deeper_one_takes() -> None:
    """A synthetic day of ten levels, on which nothing was calibrated."""
    deep = tape_of(synthetic_day(CONFIGS["ten levels"]))
    for levels in (1, 2, 3):
        (found,) = judged(shallow_tape(deep, levels), deep, (10,), 1_500, 1)
        assert found["beyond_the_shallow"] > 1_000 and found["cost_of_all"] > 5
        assert abs(found["bias_of_all"]) < 0.25 * found["cost_of_all"], found
        assert abs(found["bias_of_all"]) < 0.7 * abs(found["earlier_bias_of_all"]), found


def test_holding_a_large_parent_costs_more_than_slices_at_every_depth(tmp_path: Path) -> None:
    deep = tape_of(synthetic_day(CONFIGS["ten levels"]))
    begins = starts(deep)[:40]
    for levels in (1, 2, 5, 10):
        tape = (deep if levels == 10 else shallow_tape(deep, levels)).save(tmp_path / f"{levels}.tape")
        found = compared(tape, begins, 20_000, 0)
        assert found["interval"][0] > 0, (levels, found)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_deeper_file_of_a_day_judges_the_shallow_ones(lobster_dir: Path, tmp_path: Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    days = {"AMZN 2012-06-21, 5 levels": amazon(lobster_dir), "AAPL 2012-06-21, 10 levels, its first 999 rows (49 s)": apple(lobster_dir)}
    shares, table = {}, {}
    for name, deep in days.items():
        shallows = {levels: shallow_tape(deep, levels) for levels in ((1, 2, 3, 4) if deep.levels == 5 else (1, 2, 3, 5, 8))}
        shares[name] = {levels: calibrated(tape, deep, FITTED, ORDERS, SEED) for levels, tape in shallows.items()}
        table[name] = [row for tape in shallows.values() for row in judged(tape, deep, MULTIPLES, ORDERS, SEED)]
    amzn, deep = table[next(iter(days))], next(iter(days.values()))
    ranked: list[dict[str, Any]] = []
    for levels in (1, 2, 3, 4, 5):
        tape = (deep if levels == 5 else shallow_tape(deep, levels)).save(tmp_path / f"{levels}.tape")
        ranked += [{"levels": levels, **compared(tape, starts(deep), parent, SEED)} for parent in PARENTS]
    for row in amzn:
        if row["lots"] <= 500:
            assert abs(row["bias_of_all"]) < 0.2, row
        if 200 <= row["lots"] <= 400:
            assert abs(row["bias"]) < 0.35 and row["mean_absolute_error"] < row["earlier_mean_absolute_error"], row
    for parent in PARENTS:
        signs = [(row["interval"][0] > 0) - (row["interval"][1] < 0) for row in ranked if row["parent"] == parent]
        assert len(set(signs)) == 1 and all(row["hold_less_twap"] > 0 for row in ranked), (parent, signs)
        assert signs[0] == (1 if parent >= 500 else 0), "the difference of the smallest parent is within noise, and only that"
    report = {
        "what": "market orders on the first levels of a day against all its levels, in ticks a lot, by the rule of docs/market.md "
        "(Taking) and by the earlier one; shares under which orders of 2 to 5 typical sizes cost the same; hold against ten slices",
        "tier": "long", "commit": commit, "seed": SEED, "n": ORDERS,
        "command": "EMP_EVIDENCE=docs/evidence/depth_beyond_the_file.json pytest -n 0 -m long tests/market/test_depth_of_the_file.py",
        "few": "a whole day and 49 seconds of another one, both of one date: fitted on the first, the second shows how far others may be",
        "shares": {"of_distance": "/".join(map(str, OF_DISTANCE)), "of_spread": "/".join(map(str, OF_SPREAD)), "fitted, by levels": shares},
        "costs": table,
        "ranking": {"settings": "AMZN, costs of configs/honest.yaml, a decision a second, 120 s; normal 95 % interval", "rows": ranked},
    }  # fmt: skip
    if "EMP_EVIDENCE" in os.environ:
        Path(os.environ["EMP_EVIDENCE"]).write_text(json.dumps(report, indent=1) + "\n")
