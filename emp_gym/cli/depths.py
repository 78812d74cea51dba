"""``check --queue DAY --against DEEPER`` and ``--depth``: what a deeper file of a day says of the queue in a shallower one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from emp_gym.data import store
from emp_gym.data.shallow import shallow_tape
from emp_gym.data.tape.tape_set import TapeSet
from emp_gym.evaluation.intervals import binomial_bounds
from emp_gym.market import depths
from emp_gym.market.depths import DepthComparison
from emp_gym.types import NS, ConfigError, DataError

OUTCOMES = {
    "earlier": "earlier in the shallow file",
    "only_shallow": "filled in the shallow file only",
    "same": "at the same time, or in neither",
    "later": "later in the shallow file",
    "only_deeper": "filled in the deeper file only",
}


def run(arguments: argparse.Namespace) -> int:
    """Prints the table of every pair. 1 if a shallow file fills an order earlier than the deeper one, 2 if no order is filled at all."""
    found = [_record(pair, arguments) for pair in _pairs(arguments)]
    too_early = sum(record["earlier"] + record["only_shallow"] for record in found)
    judged = all(record["filled"] or record["only_shallow"] for record in found)
    if arguments.json:
        sys.stdout.write(json.dumps({"queue": arguments.queue, "ok": judged and not too_early, "pairs": found}) + "\n")
        return int(bool(too_early)) or 2 * (not judged)
    for record in found:
        _show(record)
    verdict = (
        f"{too_early} orders are filled too early"
        if too_early
        else "no order is filled earlier than the deeper file says"
        if judged
        else "nothing was judged: no order was filled in either file; take more orders, or hold them longer"
    )
    caution = "The deeper file has spells out of sight of its own. The 95 % intervals take orders as independent: they overlap in time."
    sys.stdout.write(f"{verdict}\n{caution}\n")
    return int(bool(too_early)) or 2 * (not judged)


def _pairs(arguments: argparse.Namespace) -> Iterator[DepthComparison]:
    tape = store.tapes(arguments.queue)
    if arguments.depth:
        for levels in _levels(arguments.depth):
            for day in range(len(tape.info)):
                yield _compared(shallow_tape(tape, levels, day), tape, (0, day), arguments)
        return
    deeper = store.tapes(arguments.against)
    if deeper.levels <= tape.levels:
        raise DataError(
            f"{arguments.against}: {deeper.levels} levels, expected more than the {tape.levels} of {arguments.queue}; give the deeper file"
        )
    if len(tape.info) != len(deeper.info):
        raise DataError(
            f"{arguments.queue} has {len(tape.info)} days, {arguments.against} has {len(deeper.info)}; give files of the same days"
        )
    for day, (own, other) in enumerate(zip(tape.info, deeper.info, strict=True)):
        if (own.date, own.instrument.symbol) != (other.date, other.instrument.symbol):
            raise DataError(f"day {day}: {own} and {other}; give two files of the same day")
        yield _compared(tape, deeper, (day, day), arguments)


def _levels(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--depth: expected levels such as 1 or 1,2, got {text!r}") from None


def _compared(tape: TapeSet, deeper: TapeSet, day: tuple[int, int], arguments: argparse.Namespace) -> DepthComparison:
    orders = depths.sampled(tape, deeper, arguments.orders, round(arguments.hold * NS), arguments.seed, day)
    return depths.compare(tape, deeper, orders, day)


def _record(pair: DepthComparison, arguments: argparse.Namespace) -> dict[str, Any]:
    intervals = {name: _interval(getattr(pair, name), pair.orders) for name in OUTCOMES}
    return asdict(pair) | {"intervals": intervals, "hold_seconds": arguments.hold, "seed": arguments.seed}


def _interval(hits: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of 95 %, as if orders were independent."""
    if 2 * hits > trials:
        low, high = _interval(trials - hits, trials)
        return 1 - high, 1 - low
    return binomial_bounds(hits, trials, level=0.975)


def _show(record: dict[str, Any]) -> None:
    n, held = record["orders"], f"held {record['hold_seconds']:g} s, seed {record['seed']}"
    lines = [f"{record['levels']} levels against {record['deeper_levels']}: {n:,} one-lot orders at the touch, {held}"]
    for name, words in OUTCOMES.items():
        low, high = record["intervals"][name]
        lines.append(f"  {words:<32} {record[name]:>8,}  {record[name] / n:>8.3%}  [{low:.3%}, {high:.3%}]")
    later = record["out_of_sight_later"] / max(record["out_of_sight"], 1)
    lines.append(f"  all shares are of {n:,}; {record['filled']:,} were filled in the deeper file, {record['neither']:,} in neither")
    lines.append(f"  out of the shallow file's sight for a time: levels of {record['out_of_sight']:,}, of which {later:.3%} filled later")
    sys.stdout.write("\n".join(lines) + "\n")
