"""Held-out is a claim about rows: proved from what was trained on, or not made."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lies import Silent, config, day, trained

from emp_gym.data.lobster import reader
from emp_gym.data.synthetic import day as synthetic
from emp_gym.data.tape.tape_set import build
from emp_gym.reports.preface import _other_rules, fees_told
from emp_gym.runs import backtest
from emp_gym.runs.held_out import Proof, Standing, prove
from emp_gym.runs.rules import is_rule, without_run
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.spans import Span, played_spans, trained_spans
from emp_gym.training import train
from emp_gym.types import DataError, Instrument
from tests.inside import market_of

HOUR = 3_600_000_000_000
TRAINED = Span("day", "rows", "AAA", "2031-03-03", 100, 199, "train", 10 * HOUR, 11 * HOUR)


def window(first: int = 200, last: int = 250, **other: object) -> Span:
    """One after the training on the same day, but for `other`."""
    return replace(TRAINED, first_row=first, last_row=last, split="test", first_ns=12 * HOUR, last_ns=13 * HOUR, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judged", "standing"),
    [
        ([window()], Standing.HELD_OUT),
        ([window(199)], Standing.TRAINED_ON),  # one row is enough
        ([window(0, 99)], Standing.HELD_OUT),  # other rows of the day, later on the clock
        ([window(199), window()], Standing.OVERLAPS),
        ([window(150, identity="another name", symbol="BBB")], Standing.TRAINED_ON),  # rows are known by their content
        ([window(content="others")], Standing.UNKNOWN),  # the day, but not the rows
        ([replace(window(content="x", symbol="BBB"), first_ns=11 * HOUR)], Standing.OVERLAPS),  # the same moment elsewhere
        ([window(content="x", symbol="BBB")], Standing.HELD_OUT),  # later on the same date
        ([window(content="x", date="2031-03-04")], Standing.HELD_OUT),
        ([window(content="x", date="2031-03-01")], Standing.EARLIER),
        ([replace(window(0, 50), first_ns=8 * HOUR, last_ns=9 * HOUR)], Standing.EARLIER),
    ],
)
def test_how_windows_stand_to_what_was_trained_on(judged: list[Span], standing: Standing) -> None:
    found = prove(judged, [TRAINED], "test")
    assert found.standing is standing and bool(found.reason) == (standing is not Standing.HELD_OUT)
    assert ("held-out" in found.windows(3)) == ("held-out" in found.episode) == (standing is Standing.HELD_OUT)


SHAPE = tuple(range(256))


@pytest.mark.parametrize(
    ("shape", "standing"),
    [
        (SHAPE, Standing.OVERLAPS),
        ((*SHAPE[-4:], *range(1_000, 1_252)), Standing.OVERLAPS),  # a part of it
        ((*SHAPE[-3:], *range(1_000, 1_253)), Standing.HELD_OUT),  # chance
        ((), Standing.HELD_OUT),  # a day without runs that tell it from others
    ],
)
def test_a_day_in_disguise_is_not_held_out(shape: tuple[int, ...], standing: Standing) -> None:
    told = replace(TRAINED, shape=SHAPE)
    disguised = window(content="x", identity="i", symbol="ZZZ", date="2031-03-04", shape=shape)
    found = prove([disguised], [told], "test")
    assert found.standing is standing
    if not found.held_out:
        assert "shares rows with AAA 2031-03-03 that was trained on, under another name or shifted" in found.caution
    assert prove([disguised], [TRAINED], "test").held_out, "an older record knows no shapes"
    assert prove([replace(window(), shape=SHAPE)], [told], "test").held_out, "later rows of the very day are known by number"


def test_a_day_that_was_shifted_and_renumbered_is_found_in_the_record_of_a_run(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", config(data=day(tmp_path)))
    written = synthetic.write_day(tmp_path / "csv", synthetic.DayConfig(seed=1, rows=4000, symbol="ZZZ", date="2031-03-04"))
    read = reader.read((written.message, written.orderbook))[0].day
    disguised = build(replace(read, time_ns=read.time_ns + 1, order_id=read.order_id + 7)).save(tmp_path / "z.tape")
    asked = config(data=str(disguised), evaluation={"split": "all"})
    env = backtest.make_env(asked.env_id, asked.env, 1, split="all")
    judged = [one.span for one in played_spans(env, env.unwrapped.windows()[:2], "all")]
    env.close()
    found = prove(judged, run.trained_on(), "all")
    assert found.standing is Standing.OVERLAPS and "shares rows with AAA 2031-03-03" in found.reason


def test_a_record_of_before_shapes_and_rules_still_reads() -> None:
    older = {key: value for key, value in TRAINED.as_json().items() if key not in ("shape", "rules")}
    assert Span.read(older, "here") == TRAINED
    whole = replace(TRAINED, shape=SHAPE, rules="r")
    assert Span.read(json.loads(json.dumps(whole.as_json())), "here") == whole


@pytest.mark.parametrize(
    ("trained", "judged", "other"),
    [
        ({"rules": "r"}, {"rules": "r", "identity": "another name"}, False),
        ({"rules": "r"}, {"rules": "q"}, True),
        ({}, {"rules": "q", "identity": "other fees"}, True),  # an older record
        ({}, {"rules": "q", "identity": "another name", "symbol": "ZZZ"}, False),
    ],
)
def test_rules_are_compared_and_not_names(trained: dict[str, Any], judged: dict[str, Any], other: bool) -> None:
    assert _other_rules(replace(TRAINED, **judged), replace(TRAINED, **trained)) is other


def test_one_window_shares_and_two_share() -> None:
    one, two = ([window(150)] * n + [window()] * 2 for n in (1, 2))
    assert prove(one, [TRAINED], "test").reason == "1 of 3 windows shares rows with training"
    assert prove(two, [TRAINED], "test").reason == "2 of 4 windows share rows with training"
    assert prove([window(150)], [TRAINED], "test").reason == "every window shares rows with training"


def test_without_rows_in_the_record_nothing_is_proved() -> None:
    assert prove([window()], [], "test").standing is Standing.UNKNOWN


def test_a_split_is_called_by_its_name() -> None:
    assert Proof(Standing.TRAINED_ON, "train").windows(3) == "3 windows of the training split"
    assert Proof(Standing.RULE, "test").windows(1) == "1 window of the test split"
    assert Proof(Standing.TRAINED_ON, "all").windows(2) == "2 windows that were trained on"
    assert Proof(Standing.HELD_OUT, "test").windows(2) == "2 held-out windows"


def test_a_run_records_the_rows_that_it_may_have_learned_from(tmp_path: Path) -> None:
    asked = config(data=day(tmp_path))
    run = trained(tmp_path / "run", asked)
    env = backtest.make_env(asked.env_id, asked.env, 1, split="train")
    (span,) = run.trained_on()
    info = env.unwrapped.tape_set.info[0]
    assert (span.symbol, span.date, span.split) == ("AAA", "2031-03-03", "train")
    assert (span.identity, span.content) == (info.identity, info.content) and span.content
    rows = []
    for seed in range(8):
        env.reset(seed=seed)
        for _ in range(17):
            rows.append(int(market_of(env).public.lane["row"][0]))
            env.step(env.action_space.sample() * 0)
    assert span.first_row <= min(rows) <= max(rows) <= span.last_row, "what lanes have seen stands in the record"
    env.close()


def test_a_window_ends_at_the_row_of_its_last_decision(tmp_path: Path) -> None:
    asked = config(data=day(tmp_path, rows=8000))
    chosen = backtest.windows(asked.env_id, asked.env, asked.evaluation)
    env = backtest.make_env(asked.env_id, asked.env, len(chosen), split="test", autoreset_mode="Disabled")
    played = played_spans(env, chosen, "test")
    env.reset(seed=0, options={"day": [d for d, _ in chosen], "start": [row for _, row in chosen]})
    last = market_of(env).public.lane["row"].copy()
    for _ in range(16):
        env.step(env.action_space.sample() * 0)
        last = market_of(env).public.lane["row"].copy()
    assert [one.span.last_row for one in played] == last.tolist()
    mid2 = env.unwrapped.tape_set.rows["mid2"]
    for one in played:
        moved = (int(mid2[one.span.last_row]) - int(mid2[one.span.first_row])) / 2 * 1e-4
        assert one.move == pytest.approx(moved) and not one.planted
    env.close()


def test_a_run_that_goes_on_remembers_what_it_learned_from_before(tmp_path: Path) -> None:
    asked = config(data=day(tmp_path / "then"))
    run = trained(tmp_path / "run", asked)
    before = run.trained_on()
    now = backtest.make_env(asked.env_id, config(data=day(tmp_path / "now", seed=2)).env, 1, split="train")
    run.note_trained(trained_spans(now, "train"))
    now.close()
    assert len(run.trained_on()) == 2 and run.trained_on()[0] == before[0]
    run.note_trained(before)
    assert len(run.trained_on()) == 2, "nothing stands there twice"


def test_another_model_in_the_folder_is_seen(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", config())
    run.trained_on()
    model = run.path / "model.json"
    model.write_text(model.read_text() + " ")
    with pytest.raises(DataError, match="not the one that this run gave"):
        run.trained_on()


@pytest.mark.parametrize("name", ["weights.json", "parts/head.txt"])
def test_files_of_any_name_belong_to_the_model(tmp_path: Path, name: str) -> None:
    run = trained(tmp_path / "run", config("lies:Keeps"))
    run.trained_on()
    assert not list(run.path.glob("*.tmp"))
    (run.path / name).write_text("3")
    with pytest.raises(DataError, match=rf"not the one that this run gave: .*{name} has SHA-256 .*, expected .*another --run-dir"):
        run.trained_on()


def again(run: RunFolder) -> RunFolder:
    return train.train(run.config, run.path, Silent(), resume=run.path)[0]


def files(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("agent", ["lies:Keeps", "lies:Eager", "lies:Still"])
def test_a_run_that_is_done_and_goes_on_is_proved_as_before(tmp_path: Path, agent: str) -> None:
    run = trained(tmp_path / "run", config(agent))
    spans, before = run.trained_on(), files(run)
    assert again(run).trained_on() == spans and files(run) == before


def test_a_run_that_was_cut_before_its_model_was_kept_gives_the_same_one(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", config("lies:Keeps"))
    whole = files(run)
    for name in ("model.json", "weights.json"):
        (run.path / name).unlink()
    again(run).trained_on()
    assert files(run) == whole


@pytest.mark.parametrize("change", ["of another run", "added to", "another seed's weights"])
def test_a_checkpoint_that_this_run_did_not_make_is_refused(tmp_path: Path, change: str) -> None:
    run, other = (trained(tmp_path / name, replace(config("lies:Keeps"), seed=seed)) for name, seed in (("run", 0), ("other", 1)))
    (mine,), (theirs,) = ((folder.path / "checkpoints").iterdir() for folder in (run, other))
    if change == "of another run":
        shutil.rmtree(mine)
        shutil.copytree(theirs, mine.with_name("000000000099"))
    elif change == "added to":
        (mine / "more.txt").write_text("")
    else:
        shutil.copy(theirs / "parts" / "head.txt", mine / "parts" / "head.txt")
    before = files(run)
    with pytest.raises(DataError, match=r"is not one that this run made: .* has SHA-256 .*, expected .*another --run-dir"):
        again(run)
    assert files(run) == before, "nothing was signed"


def test_another_model_is_not_signed_by_going_on(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", config())  # without checkpoints
    (run.path / "model.safetensors").write_bytes(b"of somebody else")
    with pytest.raises(DataError, match=r"not the one that this run gave: .*model\.safetensors"):
        again(run)


@pytest.mark.parametrize("lost", ["checkpoints", "all"])
def test_a_checkpoint_without_a_hash_is_taken_and_then_nothing_is_proved(tmp_path: Path, lost: str) -> None:
    run = trained(tmp_path / "run", config("lies:Keeps"))
    told = json.loads((run.path / "provenance.json").read_text())
    (run.path / "provenance.json").unlink()
    if lost == "checkpoints":  # a run of an earlier version
        run.write_json("provenance.json", {name: value for name, value in told.items() if name != "checkpoints"})
        run.trained_on()
    for _ in range(2):
        with pytest.raises(DataError, match=r"does not say|hashes were not kept"):
            again(run).trained_on()


def test_a_rule_that_is_kept_in_a_folder_learned_from_nothing(tmp_path: Path) -> None:
    run, _ = train.train(config("hold"), tmp_path / "run", Silent())
    assert run.trained_on() == [] and RunFolder(run.path).noted() == []


@pytest.mark.parametrize(
    ("given", "own", "words"),
    [
        ([(None, None), (None, None)], {}, "no fees"),
        ([(0.0, 0.0), (None, None)], {"taker_fee_bps": 0.3}, "no fees"),
        ([(None, None), (None, None)], {"taker_fee_bps": 0.3}, "fees 0/0.3 bp (maker/taker)"),
        ([(0.0, 0.0), (None, None)], {"taker_fee_per_lot": 0.003}, "fees 0/0.003 a lot (maker/taker)"),
        ([(-0.2, 0.3), (None, None)], {"maker_fee_per_lot": -0.002}, "fees -0.2/0.3 bp and -0.002/0 a lot (maker/taker)"),
    ],
)
def test_fees_are_told_as_they_are_charged(given: list[Any], own: dict[str, float], words: str) -> None:
    assert fees_told(given, [Instrument("AAA", **own)]) == words  # type: ignore[arg-type]


def test_days_of_unlike_fees_have_each_their_own() -> None:
    assert fees_told([(None, None), (None, None)], [Instrument("AAA"), Instrument("BBB", taker_fee_bps=30.0)]) == "fees of each instrument"


@pytest.mark.parametrize(
    ("agent", "given", "rule"),
    [
        ("hold", {}, True),
        ("oracle", {}, True),
        ("glft", {}, False),  # measures its numbers on training days
        ("ppo", {}, False),
        ("lies:Eager", {}, False),
        ("lies:Still", {}, False),  # nobody knows what its author has looked at
    ],
)
def test_a_rule_is_what_cannot_have_learned(agent: str, given: dict[str, Any], rule: bool) -> None:
    assert is_rule(replace(config(agent), agent=given)) is rule


@pytest.mark.parametrize(("split", "standing"), [("train", Standing.TRAINED_ON), ("all", Standing.OVERLAPS), ("test", Standing.HELD_OUT)])
def test_a_baseline_is_judged_against_the_days_on_which_it_measured_its_numbers(tmp_path: Path, split: str, standing: Standing) -> None:
    asked = config("glft", data=day(tmp_path, rows=8000), evaluation={"split": split})
    chosen = backtest.windows(asked.env_id, asked.env, asked.evaluation)
    env = backtest.make_env(asked.env_id, asked.env, 1, split=split)
    judged = [one.span for one in played_spans(env, chosen, split)]
    env.close()
    assert without_run(judged, asked).standing is standing
    assert without_run(judged, replace(asked, agent_name="twap")).standing is Standing.RULE
