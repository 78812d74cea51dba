"""What a result is of, for the first lines of terminal and report: the data by name, what was trained on, costs and fills, and all
that a reader must know before the first figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from emp_gym.agents import registry
from emp_gym.data.lobster.name import UNKNOWN_DATE
from emp_gym.envs.about import CERTIFICATE, EnvInfo, about, kind_of
from emp_gym.evaluation.assumptions import FILE as HONEST
from emp_gym.evaluation.assumptions import Fees, below_honest
from emp_gym.evaluation.intervals import FEWEST, LEVEL, RESAMPLES
from emp_gym.reports.formatting import percent
from emp_gym.runs.backtest import Comparison
from emp_gym.runs.config import EvaluationConfig, RunConfig
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.held_out import Proof, Standing, not_recorded, prove, spoken
from emp_gym.runs.origin import differences, siblings
from emp_gym.runs.rules import NO_RECORD, calibrated_on, is_rule, without_run
from emp_gym.runs.run_folder import SEEDS, RunFolder
from emp_gym.runs.run_metadata import learning_time
from emp_gym.runs.spans import Played, Span, lot_price
from emp_gym.terminal.shell_commands import command
from emp_gym.types import DataError, Instrument

SHOWN = 6  # symbols that a line names
DEPTH = 0.02  # share of the lots taken, beyond the file or more often than it showed them, above which it is said
TAKING = "docs/market.md, Taking"
ALIKE = ("data", "threads", "info")
"""Keywords that are told elsewhere, or change no result."""


@dataclass(frozen=True)
class Preface:
    """The first lines. Empty strings where there is nothing to be said."""

    data: str  # what was judged
    trained: str  # what was learned from
    setting: str  # fees, latency, impact, fills
    cautions: tuple[str, ...] = ()
    hint: str = ""  # what would give an interval, where there is none
    below: tuple[str, ...] = ()  # what trading costs less than in `configs/honest.yaml`
    intervals: str = ""  # level and resamples, where they are not the default

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """(label, text), the cautions first."""
        named = (("judged on", self.data), ("trained on", self.trained), ("costs and fills", self.setting), ("intervals", self.intervals))
        return (*(("careful", caution) for caution in self.cautions), *((label, text) for label, text in named if text))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def introduce(comparison: Comparison, evaluation: EvaluationSetup, proof: Proof | None = None) -> Comparison:
    """`comparison`, which `evaluation` gave, with its proof and preface; `proof` where it is known already."""
    config, runs, env = evaluation.config, evaluation.runs, evaluation.env
    proof = proven(comparison, config, runs) if proof is None else proof
    whole = Preface(
        _data(comparison, about(env)), _trained(config, runs, proof), setting(env), _cautions(comparison, config, runs, proof, env),
        _hint(comparison, env), tuple(below(env)), _intervals(config.evaluation),
    )  # fmt: skip
    parts = {name: replace(part, proof=proof, preface=whole) for name, part in comparison.by_currency.items()}
    return replace(comparison, proof=proof, preface=whole, by_currency=parts)


def proven(comparison: Comparison, config: RunConfig, runs: Sequence[RunFolder]) -> Proof:
    """Whether the windows of `comparison` were held out from the training of `runs`."""
    split = config.evaluation.split
    if not comparison.played and kind_of(config.env_id) == CERTIFICATE:
        return Proof(Standing.DRAWN, split)
    if not comparison.played and (runs or not is_rule(config)):
        return not_recorded(split, "the environment does not tell what its episodes are of")
    judged = [one.span for one in comparison.played]
    if not runs:
        return without_run(judged, config)
    try:
        trained = [run.trained_on() for run in runs]
    except DataError as error:
        return not_recorded(split, str(error))
    if all(trained):
        return prove(judged, [span for spans in trained for span in spans], split)
    if any(trained) or any(learning_time(run.path / "curves.csv") for run in runs) or not all(is_rule(run.config) for run in runs):
        return not_recorded(split, NO_RECORD)
    return Proof(Standing.RULE, split)


# ---- the data


def _data(comparison: Comparison, known: EnvInfo) -> str:
    if not comparison.played:
        return ""
    told = days_told([one.span for one in comparison.played], planted(comparison.played))
    if known.simulated:
        generator = "; training and test come from one generator, and nothing says that a real market is like it"
        drift = "what its prices drift by is no skill, and at most what a constant position earns of it is taken out"
        return f"{told}, not a recorded one: {drift}{generator}"
    return f"{told}; through a market of somebody else, {known.market}" if known.market else told


def planted(played: Sequence[Played]) -> bool | None:
    """Whether synthetic windows have a planted signal; None where none is synthetic."""
    synthetic = [one.planted for one in played if one.span.synthetic]
    return any(synthetic) if synthetic else None


def days_told(spans: Sequence[Span], signal: bool | None = None) -> str:
    """``SYNTHETIC days, not a market, with a planted signal: SYNA, SYNB, 8 dates, 2030-01-29 to 2030-02-07``."""
    if played := [span for span in spans if span.simulated]:
        first, last = min(span.first_row for span in played), max(span.last_row for span in played)
        numbers = f"a SIMULATED market, {played[0].simulated}, {'seeds' if played[0].seeds else 'starts'} {first:,} to {last:,}"
        rest = [span for span in spans if not span.simulated]
        return f"{numbers}; {days_told(rest, signal)}" if rest else numbers
    symbols = sorted({span.symbol for span in spans})
    dates = sorted({span.date if span.date != UNKNOWN_DATE else "no date in its name" for span in spans})
    shown = ", ".join(symbols[:SHOWN]) + (f" and {len(symbols) - SHOWN} more" if len(symbols) > SHOWN else "")
    when = dates[0] if len(dates) == 1 else f"{len(dates)} dates, {dates[0]} to {dates[-1]}"
    made = [span.synthetic for span in spans]
    if not any(made):
        return f"recorded days: {shown}, {when}"
    sort = "SYNTHETIC days, not a market" if all(made) else "recorded days and SYNTHETIC ones, which are not a market"
    if signal is not None:
        sort += ", with a planted signal" if signal else ", without a planted signal"
    return f"{sort}: {shown}, {when}"


def _trained(config: RunConfig, runs: Sequence[RunFolder], proof: Proof) -> str:
    if proof.standing is Standing.DRAWN:
        return ""
    if proof.standing is Standing.RULE:
        return "nothing: a rule"
    steps = max((told[0] for run in runs if (told := learning_time(run.path / "curves.csv"))), default=None)
    seeds = f"seed{'s' if len(runs) > 1 else ''} {', '.join(str(run.as_trained.seed) for run in runs)}"
    told_steps = "" if steps is None else f"; {steps:,} steps, {seeds}"
    spans = [span for run in runs for span in run.noted()]
    if proof.standing is Standing.UNKNOWN and not all(map(_provable, runs)):
        return f"not known, see above{told_steps}"
    if not runs and (spans := calibrated_on(config)):
        told_steps = "; a rule that measures its numbers there"
    if not spans:
        return f"not known{told_steps}"
    splits = " and ".join(spoken(split) for split in dict.fromkeys(span.split for span in spans))
    return f"{days_told(spans)} ({splits}){told_steps}"


def _provable(run: RunFolder) -> bool:
    """Whether the record of `run` says what its model learned from."""
    try:
        return bool(run.trained_on())
    except DataError:
        return False


# ---- costs and fills


def setting(env: Any) -> str:
    """Fees, latency, impact and fills of an environment with a book; empty for others."""
    known = about(env)
    told, days = known.assumes, known.days
    if known.market:
        own = "has them" if told is None else f"declares them ({told.fills} fills, latency {told.latency}, impact {told.impact})"
        return f"as {known.market} {own}, which is not this package's: nothing here says how true they are (check.py --market)"
    if told is None or days is None:
        return ""
    given = [(told.maker_fee_bps, told.taker_fee_bps), (told.maker_fee_per_lot, told.taker_fee_per_lot)]
    fees = fees_told(given, [day.instrument for day in days.info])
    latency, half_life_ns = _latency(told.order_latency_ns or 0, told.feed_latency_ns or 0), told.half_life_ns or 0
    impact = "no impact" if half_life_ns == 0 else "impact that stays" if half_life_ns < 0 else (
        f"impact that fades with a half-life of {half_life_ns / 1e9:g} s"
    )
    fills = {"exact": "exact queue", "touch": "fills whenever the price trades (optimistic)"}.get(told.fills, f"{told.fills} fills")
    fills += ", hidden prints fill (optimistic)" if told.hidden_prints == "fill" else ""
    text = f"{fees}, {latency}, {impact}, {fills}"
    if not (parts := below(env)):
        return text
    costs = any("fills" not in part for part in parts)
    return f"{text}: an optimistic setting; --config {HONEST} has {'costs' if costs else 'exact fills and ignores hidden prints'}"


def below(env: Any) -> list[str]:
    """What trading costs less than in the honest setting; nothing for an environment without a book of ours."""
    known = about(env)
    told, days = known.assumes, known.days
    if told is None or days is None or known.market:  # what somebody else's assumes, nobody here has seen
        return []
    own = [Fees.of(info.instrument) for info in days.info]
    if told.maker_fee_per_lot or told.taker_fee_per_lot or any(fees.maker_per_lot or fees.taker_per_lot for fees in own):
        own = [replace(fees, price=lot_price(days, day)) for day, fees in enumerate(own)]
    return below_honest(told, own)


def _almost_free(parts: Sequence[str]) -> str:
    """A caution where a cost is less than honest, or a rebate. Where there is none at all the line of the costs says so."""
    return f"OPTIMISTIC: {', '.join(parts)}" if any(HONEST in part for part in parts) else ""


Pair = tuple[float | None, float | None]
"""Of maker and taker; None is the instrument's own."""


def fees_told(given: Sequence[Pair], instruments: Sequence[Instrument]) -> str:
    """In words, as they are charged: `given` are those in basis points and those a lot."""
    charged = set()
    for one in instruments:
        own = ((one.maker_fee_bps, one.taker_fee_bps), (one.maker_fee_per_lot, one.taker_fee_per_lot))
        charged.add(tuple(mine if theirs is None else theirs for pair, rules in zip(given, own) for theirs, mine in zip(pair, rules)))
    if charged == {(0.0, 0.0, 0.0, 0.0)}:
        return "no fees"
    if len(charged) > 1:
        return "fees of each instrument"
    maker, taker, maker_lot, taker_lot = next(iter(charged))
    parts = [f"{maker:g}/{taker:g} bp"] if maker or taker else []
    parts += [f"{maker_lot:g}/{taker_lot:g} a lot"] if maker_lot or taker_lot else []
    return f"fees {' and '.join(parts)} (maker/taker)"


def _latency(order_ns: int, feed_ns: int) -> str:
    if order_ns == feed_ns == 0:
        return "no latency"
    if order_ns == feed_ns:
        return f"latency {order_ns / 1e6:g} ms"
    return f"latency {order_ns / 1e6:g} ms of orders and {feed_ns / 1e6:g} ms of the feed"


# ---- what must be known first


def _cautions(comparison: Comparison, config: RunConfig, runs: Sequence[RunFolder], proof: Proof, env: Any) -> tuple[str, ...]:
    found = [proof.caution, *_versions(comparison, runs), _seed_of_many(runs)]
    found += [_trained_otherwise(config, run) for run in runs]
    if comparison.recorded:
        found += [_cut_short(comparison.played, env), _at_once(comparison.played)]
    found += [_almost_free(below(env)), *_weak(config.evaluation)]
    asked, got = config.evaluation.episodes, len(comparison.windows)
    if asked is not None and got < asked and comparison.recorded:
        found.append(f"{asked} windows were asked for, the {spoken(proof.split)} holds {got}")
    if asked is not None and comparison.recorded and (there := len(env.unwrapped.windows())) > got:
        found.append(f"{got} of the {there} windows of the {spoken(proof.split)} were judged (evaluation.episodes), the others were not")
    if config.evaluation.baselines is not None:
        missing = [name for name in registry.baselines(config.env_id, config.env) if name not in config.evaluation.baselines]
        missing = [name for name in missing if name not in (config.agent_name, "oracle")]
        if missing:
            found.append(f"baselines left out by evaluation.baselines: {', '.join(missing)}")
    found += [_halted(comparison), *_depth(comparison, about(env).market)]
    return tuple(dict.fromkeys(text for text in found if text))


def _halted(comparison: Comparison) -> str:
    """Episodes that ended while nobody could trade."""
    closed = np.asarray(comparison.agent.episodes.get("closed_halted", 0))
    if not closed.any():
        return ""
    return (
        f"{int(closed.sum())} of {closed.size} episodes of {comparison.agent.name} ended while trading was halted, and what was left "
        "was closed at the halted book's prices: nobody could have had them"
    )


def _depth(comparison: Comparison, foreign: str) -> list[str]:
    """Figures that rest on lots which no file shows, or shows once: who took more than `DEPTH` of his so. `foreign`: whose market it
    is, where it is none of ours, and its rule for what it does not show its own."""
    found = []
    beyond = "BEYOND THE BOOK" if foreign else "BEYOND THE FILE"
    whose_price = f"a price that {foreign} sets" if foreign else "a stated price"
    for share, mark, words in (
        ("beyond_share", beyond, f"beyond the levels that it shows, at {whose_price}"),
        ("retaken_share", "TAKEN AGAIN", "more often than it showed them, which nobody could have had"),
    ):
        over = [f"{row.name} {percent(row.rates[share], 1)}" for row in comparison.rows if row.rates.get(share, 0.0) > DEPTH]
        if over:
            whose = ", ".join(over)
            where = "" if foreign and mark == beyond else f"; {TAKING}"
            found.append(f"{mark}: of the lots that they took, these took {words}: {whose} (said above {percent(DEPTH)}{where})")
    return found


def _cut_short(played: Sequence[Played], env: Any) -> str:
    """Windows that end before an episode is over."""
    known = about(env)
    clock = known.clock
    if not played or clock is None:
        return ""
    counts = [
        (one.span.last_row - one.span.first_row) // clock.count if clock.count else (one.span.last_ns - one.span.first_ns) // clock.ns
        for one in played
    ]  # fmt: skip
    short = [count for count in counts if count < known.episode]
    if not short:
        return ""
    several = f"{len(short)} of {len(played)} windows end" if len(played) > 1 else "the window ends"
    return f"{several} after {min(short)} of the {known.episode} decisions of an episode: the data are too short for it"


def _at_once(played: Sequence[Played]) -> str:
    """Windows of several symbols that share their moments, where windows are what intervals are over."""
    spans = sorted((one.span for one in played), key=lambda span: span.first_ns)
    if len({span.date for span in spans}) != 1:
        return ""
    together = sum(b.first_ns <= a.last_ns and a.symbol != b.symbol for a, b in pairwise(spans))
    if not together:
        return ""
    some = f"{together} of {len(spans)} windows"
    return f"{some} are of several symbols at the same moments of one date: they are not independent, and intervals too narrow"


def _weak(judged: EvaluationConfig) -> list[str]:
    """Intervals that promise less than is usual."""
    found = []
    if judged.level < LEVEL:
        found.append(f"intervals of {100 * judged.level:g}%, narrower than those of {LEVEL:.0%}: no verdict rests on them")
    if judged.resamples < RESAMPLES:
        found.append(f"intervals from {judged.resamples} resamples: below {RESAMPLES:,} their ends are rough")
    return found


def _intervals(judged: EvaluationConfig) -> str:
    usual = EvaluationConfig()
    if (judged.level, judged.resamples) == (usual.level, usual.resamples):
        return ""
    return f"{100 * judged.level:g}%, {judged.resamples:,} resamples (the default: {usual.level:.0%}, {usual.resamples:,})"


def _versions(comparison: Comparison, runs: Sequence[RunFolder]) -> list[str]:
    """Days whose rows or rules are not everywhere the same."""
    trained = [span for run in runs for span in run.noted()]
    contents: dict[tuple[str, str], set[str]] = {}
    for span in trained:
        contents.setdefault((span.symbol, span.date), set()).add(span.content)
    found = [f"trained on two versions of the rows of {symbol} {day}" for (symbol, day), own in contents.items() if len(own) > 1][:1]
    same = {span.content: span for span in trained}
    other = next((one.span for one in comparison.played if _other_rules(one.span, same.get(one.span.content))), None)
    if other is not None:
        found.append(f"the rules of {other.symbol} {other.date} (fees, lot, tick) are not those under which it was trained")
    return found


def _other_rules(judged: Span, trained: Span | None) -> bool:
    if trained is None:
        return False
    if trained.rules:
        return trained.rules != judged.rules
    named = (trained.symbol, trained.date) == (judged.symbol, judged.date)  # an older record: its identity knows names too
    return named and trained.identity != judged.identity


def _seed_of_many(runs: Sequence[RunFolder]) -> str:
    """Seeds that were picked out of their series."""
    judged = {run.as_trained.seed for run in runs}
    series = {seed for run in runs for seed in siblings(run) or ()}
    if not series - judged:
        return ""
    folder = runs[0].path.resolve().parent
    whole = (folder / SEEDS).exists() and series == {one.seed for one in RunFolder(folder).series}
    again = f"judge all with {command('--run', folder)}" if whole else "judge all of them together"
    which = f"{'one seed' if len(judged) == 1 else f'{len(judged)} seeds'} ({', '.join(map(str, sorted(judged)))})"
    return f"{which} of {len(series)}; the others may have done worse: {again}"


def _trained_otherwise(judged: RunConfig, run: RunFolder) -> str:
    """What is not as it was in training: of the environment, and of what the run says of itself."""
    trained, own = run.as_trained, run.config
    said = replace(own, agent_name=judged.agent_name, agent=judged.agent, env=trained.env, env_id=trained.env_id)
    changed = differences(said, trained)
    told = [f"its config.json, or the command, says other than it was trained: {'; '.join(changed)}"] if changed else []
    if judged.env_id != trained.env_id:
        return "; ".join([f"trained in {trained.env_id}, judged in {judged.env_id}", *told])
    keys = [key for key in {**trained.env, **judged.env} if key not in ALIKE and trained.env.get(key) != judged.env.get(key)]
    parts = [_difference(key, judged.env, trained.env) for key in keys]
    return "; ".join([*([f"judged otherwise than trained: {'; '.join(parts)}"] if parts else []), *told])


def _difference(key: str, judged: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    if key == "gates":
        return "other risk limits"
    return f"{key} {judged.get(key, 'the default')} (trained with {trained.get(key, 'the default')})"


# ---- what would help


def _hint(comparison: Comparison, env: Any) -> str:
    """What would give an interval; empty where there is one, or where nobody knows."""
    known = about(env)
    if comparison.agent.pnl.low is not None or not comparison.recorded:
        return ""
    dates = len(set(comparison.days))
    if dates >= FEWEST:  # all the same
        return ""
    if dates > 1:
        return f"give at least {FEWEST} dates"
    available = len(known.windows()) if known.windows else 0
    if available >= FEWEST:
        return f"judge all {available} windows: without --episodes"
    length = known.episode
    while length > 1:
        length = 1 << (int(length - 1).bit_length() - 1)  # the next smaller power of two
        count = _count(known, length)
        if count >= FEWEST:
            return f"ask for shorter episodes, e.g. --set env.episode='{length} decisions' gives about {count} windows"
    return f"give at least {FEWEST} dates"


def _count(known: EnvInfo, length: int) -> int:
    """About how many episodes of `length` decisions the split holds."""
    found, clock, days, starts = 0, known.clock, known.days, known.starts
    if clock is None or days is None or starts is None:
        return 0
    for day, first, _, end in starts.table.tolist():
        if clock.count:
            found += int((end - first) // (clock.count * length))
        else:
            times = days.rows["time_ns"][days.day_slice(day)]
            found += int((times[end] - times[first]) // (clock.ns * length))
    return found


def moves(played: Sequence[Played]) -> np.ndarray:
    """Currency a lot that the mid moved over each window that had one."""
    found = np.array([one.move for one in played], np.float64)
    return found[np.isfinite(found)]
