"""The fidelity report: what an optimistic backtest would have claimed for a policy, and what is left of it.

One policy plays the same windows under every assumption about its own fills, latency, impact and fees. One assumption at a
time is relaxed (or tightened) from the *honest* setting; then all are relaxed at once. Differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emp_gym import bounded
from emp_gym.evaluation import comparison as pairs
from emp_gym.evaluation import intervals
from emp_gym.evaluation.assumptions import HONEST, Assumptions, Fees, below_honest
from emp_gym.evaluation.intervals import FEWEST, LEVEL, Estimate
from emp_gym.reports import html_page, plots
from emp_gym.reports.blocks import Block, FactList, Heading, Picture, Table, Text, markdown
from emp_gym.reports.formatting import bare, interval, number, p_value, percent
from emp_gym.reports.preface import Preface
from emp_gym.runs import backtest
from emp_gym.runs.evaluation_setup import EvaluationSetup
from emp_gym.runs.run_folder import RunFolder
from emp_gym.runs.spans import Window, lot_price
from emp_gym.types import F64, ConfigError

KEYS = tuple(HONEST)
JUDGED: dict[str, Any] = {
    "fills": "exact", "hidden_prints": "ignore", "latency_ns": 0, "impact": "none", "maker_fee_bps": None, "taker_fee_bps": None,
    "maker_fee_per_lot": None, "taker_fee_per_lot": None,
}  # fmt: skip
"""The environments' own defaults; a fee of None is the instrument's."""
LATENCIES = {"0 ms": 0, "1 ms": 1_000_000, "10 ms": 10_000_000}
NO_FEES = {"maker_fee_bps": 0.0, "taker_fee_bps": 0.0, "maker_fee_per_lot": 0.0, "taker_fee_per_lot": 0.0}
REBATE = {"maker_fee_bps": -0.2, "taker_fee_bps": 0.3}
OPTIMISTIC = {"fills": "optimistic", "hidden_prints": "ignore", "latency_ns": 0, "impact": "none", **NO_FEES}


@dataclass(frozen=True)
class Setting:
    """Assumptions by name; `keywords` are the environment's."""

    name: str
    dial: str  # what was turned: "", fills, latency, impact, fees, all
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class SettingResult:
    """A policy under one setting."""

    setting: Setting
    pnl: Estimate  # currency per episode
    gap: Estimate  # minus the P&L of the honest setting, same windows; 0 for that one
    p_value: float  # Wilcoxon, of the gap; NaN where nothing differs
    lots: float  # filled per episode
    maker_share: float  # of them
    episodes: F64  # P&L [S, W]


@dataclass(frozen=True)
class Fidelity:
    """Outcomes: the honest setting first, the optimistic corner last."""

    env_id: str
    agent: str
    outcomes: tuple[SettingResult, ...]
    windows: tuple[Window, ...]
    dates: int
    seeds: int
    level: float
    preface: Preface | None = None  # of the comparison beside which it stands

    @property
    def honest(self) -> SettingResult:
        return self.outcomes[0]

    @property
    def optimistic(self) -> SettingResult:
        return self.outcomes[-1]

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "env": self.env_id,
            "agent": self.agent,
            "seeds": self.seeds,
            "level": self.level,
            "windows": [list(window) for window in self.windows],
            "settings": {
                one.setting.name: {
                    "dial": one.setting.dial,
                    "keywords": dict(one.setting.keywords),
                    "pnl": asdict(one.pnl),
                    "gap": asdict(one.gap),
                    "p_value": one.p_value if np.isfinite(one.p_value) else None,
                    "lots": one.lots,
                    "maker_share": one.maker_share,
                    "pnl_by_window": one.episodes.tolist(),
                }
                for one in self.outcomes
            },
        }


CHEAPEST = Fees(price=1e-9)  # where nobody says what a lot costs: a fee per lot is taken as it is told, a rebate is not


def settings(env: Mapping[str, Any], own: Sequence[Fees] = (CHEAPEST,)) -> list[Setting]:
    """Every setting for a run whose environment was made with `env`: where that is at least as strict as `HONEST`, it is
    taken for the honest one (a latency or an impact of its own, fees that it named). `own`: fees of the instruments."""
    judged = {key: env.get(key, default) for key, default in JUDGED.items()}
    honest = dict(HONEST)
    for keys in (("latency_ns",), ("impact",), tuple(NO_FEES)):
        told = {key: judged[key] for key in keys}
        named = told != {key: JUDGED[key] for key in keys}
        if named and not below_honest(Assumptions.of({**HONEST, **told}), own):
            honest |= told
    found = [Setting(f"honest: {described(honest)}", "", honest)]

    def turned(name: str, dial: str, **keywords: Any) -> None:
        setting = {**honest, **keywords}
        if setting not in [dict(one.keywords) for one in found]:
            found.append(Setting(name, dial, setting))

    for fills in ("touch", "optimistic"):
        turned(f"fills {fills}", "fills", fills=fills)
    turned("hidden prints fill", "fills", hidden_prints="fill")
    for name, latency in LATENCIES.items():
        turned(f"latency {name}", "latency", latency_ns=latency)
    for impact in ("none", "resilient", "permanent"):
        turned(f"impact {impact}", "impact", impact=impact)
    turned("no fees", "fees", **NO_FEES)
    turned("fees with a maker's rebate", "fees", **REBATE)
    turned(f"as the run was judged: {described(judged)}", "all", **judged)
    found = [one for one in found if dict(one.keywords) != OPTIMISTIC]
    return [*found, Setting("all optimistic", "all", OPTIMISTIC)]


def described(setting: Mapping[str, Any]) -> str:
    """``exact queue, 0.2 ms, resilient, fees 0/0.3 bp``."""
    fills = {"exact": "exact queue"}.get(setting["fills"], f"{setting['fills']} fills")
    fills += ", hidden prints fill" if setting["hidden_prints"] == "fill" else ""
    impact = {"none": "no impact"}.get(setting["impact"], setting["impact"])
    bps, lots = ([setting.get(f"{side}_fee_{unit}") for side in ("maker", "taker")] for unit in ("bps", "per_lot"))
    paid = "the instrument's fees" if bps == [None, None] else f"fees {_pair(bps)} bp"
    if any(lots):
        paid += f" and {_pair(lots)} a lot"
    return f"{fills}, {_milliseconds(setting['latency_ns'])}, {impact}, {paid}"


def _pair(fees: Sequence[float | None]) -> str:
    return "/".join("–" if fee is None else f"{fee:g}" for fee in fees)


def _milliseconds(latency: Any) -> str:
    parts = latency if isinstance(latency, list | tuple) else [latency]
    return " + ".join(f"{part / 1e6:g} ms" for part in parts)


def replay(
    evaluation: EvaluationSetup, progress: Callable[[str], None] = lambda name: None, preface: Preface | None = None
) -> Fidelity:  # fmt: skip
    """Its agents (one a training seed) under every setting, on its windows; `progress` is told each setting's name.

    `ConfigError` for environments without a market of ours: there is nothing to assume about fills there.
    """
    config, agents, known = evaluation.config, evaluation.agents, evaluation.about
    judged, env_id = config.evaluation, config.env_id
    chosen, dates = evaluation.windows, evaluation.dates
    tape = known.days
    own = [] if tape is None else [Fees.of(info.instrument, lot_price(tape, day)) for day, info in enumerate(tape.info)]
    if known.assumes is None or known.market:
        what = f"the market {known.market} has none of ours" if known.market else f"{env_id} has no order book"
        raise ConfigError(f"--fidelity: {what}, in which fills would be an assumption; take an emp-lob-* id with the replay")
    days = intervals.codes(dates)
    options: dict[str, Any] = {"level": judged.level, "resamples": judged.resamples}
    outcomes: list[SettingResult] = []
    for setting in settings(config.env, own or (CHEAPEST,)):
        progress(setting.name)
        keywords = {**config.env, **{key: value for key, value in setting.keywords.items() if value is not None}}
        logs = [backtest.evaluate(agent, env_id, keywords, chosen, judged.seed, judged.split) for agent in agents]
        episodes = {name: np.stack([log.episodes[name] for log in logs]) for name in ("pnl", "filled", "maker_filled")}
        pnl = episodes["pnl"]
        gap = pnl - (outcomes[0].episodes if outcomes else pnl)
        filled = episodes["filled"]
        outcomes.append(
            SettingResult(
                setting, _estimate(pnl, days, judged.seed, options), _estimate(gap, days, judged.seed, options),
                pairs.signed_rank(pairs.by_day(gap.mean(axis=0), days)), float(filled.mean()),
                float(episodes["maker_filled"].sum() / max(filled.sum(), 1)), pnl,
            )
        )  # fmt: skip
    return Fidelity(
        env_id, config.agent_name, tuple(outcomes), tuple(chosen), len(set(dates)), len(agents), judged.level, preface
    )


def _estimate(values: F64, days: np.ndarray, seed: int, options: Mapping[str, Any]) -> Estimate:
    return intervals.bootstrap(values, days, np.random.default_rng(np.random.SeedSequence([seed, 17])), **options)


# ---- for people

TITLES = ("setting", "P&L per episode", "beyond the honest one (paired)", "Wilcoxon p", "lots", "maker")
SPARE = ("maker", "lots", "Wilcoxon p")
"""Columns that a narrow terminal may do without, the least important one first."""


def cells(one: SettingResult) -> tuple[str, ...]:
    honest = not one.setting.dial
    p = "" if honest else p_value(one.p_value, one.gap.blocks)
    return (
        one.setting.name, bare(one.pnl), "" if honest else bare(one.gap), p, number(one.lots, 0), percent(one.maker_share),
    )  # fmt: skip


def in_short(setting: Setting) -> str:
    """For a narrow table or an axis: its name without the assumptions that it stands for."""
    return setting.name.partition(":")[0]


def reading(fidelity: Fidelity) -> str:
    """In a sentence or two: the claim, what is left, and which assumption carries most of it."""
    claim, left = fidelity.optimistic, fidelity.honest
    text = (
        f"An optimistic backtest would have claimed {interval(claim.pnl)} per episode for {fidelity.agent}; the honest setting "
        f"leaves {interval(left.pnl)}"
    )
    gap = claim.gap
    sure = "" if _sure(fidelity, gap) else f", {gap.note}" if gap.low is None else (
        f", an interval of {100 * fidelity.level:g}% only" if gap.clear else ", an interval that includes 0"
    )
    text += f" (a difference of {bare(gap)}{sure})."
    if not _sure(fidelity, gap):
        text += " What the assumptions are worth cannot be said from so few windows." if gap.low is None else ""
    elif claim.pnl.mean > 0 >= left.pnl.mean:
        text += " The profit is an assumption."
    elif claim.pnl.mean > 0 and gap.mean > 0:
        text += f" That is {percent(left.pnl.mean / claim.pnl.mean)} of the claim."
    elif gap.mean < 0:
        text += " Here the optimistic setting is the worse one: more fills are not better fills for this policy."
    single = [one for one in fidelity.outcomes if one.setting.dial not in ("", "all")]
    most = max((one for one in single if _sure(fidelity, one.gap)), key=lambda one: abs(one.gap.mean), default=None)
    if most is not None:
        text += f" One at a time, {most.setting.name} matters most: {bare(most.gap)}."
    elif single and left.gap.low is not None:
        text += " No single assumption makes a difference beyond its interval."
    return text


def _sure(fidelity: Fidelity, estimate: Estimate) -> bool:
    """Whether the sign of a difference is known: an interval over enough dates (or windows) without 0 in it."""
    return estimate.clear and estimate.blocks >= FEWEST and fidelity.level >= LEVEL


def document(fidelity: Fidelity, picture: str) -> list[Block]:
    """The report as blocks."""
    windows = len(fidelity.windows)
    told = () if fidelity.preface is None else [line for line in fidelity.preface.lines if line[1] != fidelity.preface.setting]
    return [
        Heading(f"Fidelity: {fidelity.agent} on {fidelity.env_id}", 1),
        *([FactList(tuple(f"**{label}**: {text}" for label, text in told))] if told else []),
        Text(f"**{reading(fidelity)}**"),
        Table(TITLES, tuple(cells(one) for one in fidelity.outcomes), strong=0),
        Picture("P&L under every setting, and what each claims beyond the honest one", picture),
        Heading("How to read this"),
        FactList(
            (
                f"The same policy ({fidelity.seeds} training seed{'s' if fidelity.seeds > 1 else ''}) on the same {windows} "
                f"windows of {fidelity.dates} date{'s' if fidelity.dates > 1 else ''}, not trained again: it may have been "
                "trained under other assumptions than it is replayed under.",
                "Each row changes one assumption of the first; `as the run was judged` and `all optimistic` change several.",
                f"Differences are paired; intervals are {100 * fidelity.level:g}% block bootstraps over dates (windows, where there "
                f"is one date; of other dates such an interval says nothing); below {FEWEST} none is given.",
                "`touch`: filled when a trade prints at the price, whatever the queue. `optimistic`: filled whole when the "
                "price is touched. `hidden prints fill`: those inside the spread fill as a trade-through does. Latency "
                "holds for orders and for the feed. `resilient`: depth that was taken comes back with a half-life of 1 s; "
                "`permanent`: not within the episode. Fees: maker/taker, basis points of the value.",
                "The honest setting is not the truth: nobody answers our orders in a replay (`docs/market.md`).",
            )
        ),
    ]


def write(fidelity: Fidelity, folder: Path) -> Path:
    """Leaves ``fidelity.md``, ``.html``, ``.png`` and ``.json`` in `folder`; returns the text's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(in_short(one.setting), one.pnl, one.gap) for one in fidelity.outcomes]
    title = f"{fidelity.agent} on {fidelity.env_id}: what its P&L assumes"
    plots.gap_chart(rows, title, folder / "fidelity.png")
    blocks = document(fidelity, "fidelity.png")
    path = folder / "fidelity.md"
    bounded.write(path, markdown(blocks))
    bounded.write(folder / "fidelity.html", html_page.html(blocks, folder, title))
    RunFolder(folder).write_json("fidelity.json", fidelity.as_json())
    return path
