"""What a reader of the leaderboard must know before the first figure: of a run, of a table, and by what two tables differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emp_gym.agents import registry
from emp_gym.evaluation.assumptions import FILE as HONEST
from emp_gym.evaluation.assumptions import Assumptions, below_honest
from emp_gym.evaluation.intervals import FEWEST
from emp_gym.reports.formatting import left_out, number
from emp_gym.reports.judged_run import JudgedRun
from emp_gym.reports.report_data import KNOWING

SOUND = ("held-out", "rule", "drawn", "unseen seeds")
"""Standings (`runs.heldout`) of which a figure is what it is called: proved, nothing was trained, every episode is drawn anew,
seeds of a simulated market that were not trained on (which its table says)."""
DEFAULTS: Mapping[str, Any] = {
    "fills": "exact", "hidden_prints": "ignore", "latency_ns": [0, 0], "impact": "none", "market": "replay",
    "every": "100 messages", "episode": "256 decisions", "gates": None, "levels": None, "reward": None,
    "order_quantity": 100, "max_position": 500, "maker_fee_bps": None, "taker_fee_bps": None, "maker_fee_per_lot": None,
    "taker_fee_per_lot": None,
}  # fmt: skip
"""What an order book takes where nothing else is asked for: said or left out, it is the same setting."""
IDLE = ("threads", "info")  # keywords that change no figure
SAID = "OPTIMISTIC|NOT HELD OUT|NOT SHOWN TO BE|baselines left out|(one seed|[0-9]+ seeds) [(]"
"""Cautions of a report that the leaderboard says in its own words."""


# ---- of a run


def of_run(one: JudgedRun) -> list[str]:
    """Why a run does not rank beside others: each a sentence; empty for one that does."""
    told = [_edited(one), _standing(one), _market(one), _replaced(one)]
    return [text for text in told if text]


def _standing(one: JudgedRun) -> str:
    """Whether the judged rows were held out, as the evaluation proved it."""
    proof = one.told.get("proof")
    if proof is not None:
        if proof["standing"] in SOUND:
            return ""
        shown = "NOT SHOWN TO BE HELD OUT" if proof["standing"] == "unknown" else "NOT HELD OUT"
        return f"{shown}: {proof['reason'] or proof['standing']}"
    if not one.run["training_seeds"] or one.run["total_timesteps"] is None:  # a rule
        return ""
    if one.run["split"] != "test":
        return f"NOT HELD OUT: judged on the split {one.run['split']}"
    return "NOT SHOWN TO BE HELD OUT: its evaluation says nothing of what it was trained on; judge it again"


def _market(one: JudgedRun) -> str:
    judged = set(one.told.get("symbols") or ())
    if not one.trained_on or not judged or judged & set(one.trained_on):
        return ""
    return f"OF ANOTHER MARKET: trained on {_some(one.trained_on)}, judged on {_some(sorted(judged))}"


def _edited(one: JudgedRun) -> str:
    return "" if not one.edited else "EDITED: its evaluation.json is not as it was written (its seal does not fit); judge again"


def _replaced(one: JudgedRun) -> str:
    """Whether the figures are of a model that is no longer there."""
    return "" if not one.replaced else "STALE: judged before the model that lies here; judge again"


def of_seeds(judged: Sequence[int], trained: frozenset[int]) -> list[str]:
    """Why a figure over the seeds `judged` does not rank, where more of them were `trained`."""
    left = trained - set(judged)
    if not judged or not left:
        return []
    which = f"seed{'s' if len(judged) > 1 else ''} {', '.join(map(str, judged))}"
    return [
        f"{len(set(judged))} OF {len(trained | set(judged))} SEEDS ({which}): the others were trained and are not in it, "
        "and the best of several is lucky; judge all together"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ---- of a table


def of_table(runs: Sequence[JudgedRun], baselines: Sequence[str]) -> list[str]:
    """What holds for every figure of a table; `baselines`: who stands in it."""
    first = runs[0]
    money = first.told["judged"] == "pnl"
    told = [_data(first), _split(first), *([_assumed(first), _left_out(first, baselines), _meanwhile(first)] if money else [])]
    told += [_few(first), *(_skipped(one) for one in runs), *(text for one in runs for text in _cautions(one))]
    return [text for text in dict.fromkeys(told) if text]


def _data(one: JudgedRun) -> str:
    preface = one.told.get("preface") or {}
    if preface.get("data"):
        return f"Data: {preface['data']}."
    return "Data: SYNTHETIC days, not a market." if one.told.get("synthetic") else ""


def _split(one: JudgedRun) -> str:
    split = one.run["split"]
    return "" if split == "test" else f"Judged on the split {split}, which is not held-out time."


def flaws(one: JudgedRun) -> int:
    """How much must be said against the table of a run, as a number: for the order of tables that are equally large."""
    return bool(_split(one)) + len(_costless(one)) + bool(_few(one)) + bool(one.told.get("synthetic"))


def _assumed(one: JudgedRun) -> str:
    parts = _costless(one)
    return f"OPTIMISTIC: {', '.join(parts)}; every figure is of a setting below {HONEST}." if parts else ""


def _costless(one: JudgedRun) -> list[str]:
    """What of trading costs is left out, or less than honest. Fees of instruments are in the preface of newer reports only."""
    if one.told["judged"] != "pnl":
        return []
    known = (one.told.get("preface") or {}).get("below")
    if known is not None:
        return list(known)
    parts = below_honest(Assumptions.of(one.run["settings"]))
    return parts + (["no fees"] if _free(one) and not any(" fee" in part or "rebate" in part for part in parts) else [])


def _free(one: JudgedRun) -> bool:
    """Whether nobody who traded paid a fee; rebates are none."""
    traded = [each for each in one.told["results"].values() if each.get("filled")]
    return bool(traded) and not any(each.get("fees", 0) > 0 for each in traded)


def _few(one: JudgedRun) -> str:
    windows, dates = len(one.told["windows"]), len(set(one.told["days"]))
    if windows == 1:
        return "ONE WINDOW is one path: no figure here has an interval. Shorter episodes (env.episode) give more, more days better ones."
    block, count = ("date", dates) if dates > 1 else ("window", windows)
    if count < FEWEST:
        return f"{count} {block}s: too few for an interval (at least {FEWEST}), so no order of this table is more than chance."
    if dates > 1 or one.told["judged"] != "pnl" or str(one.told["days"][0]).startswith("day "):  # which is none
        return ""
    return "Windows of one date: intervals are within that day and say nothing of others."


def _left_out(one: JudgedRun, present: Sequence[str]) -> str:
    """Baselines that belong to the environment and are not in the table."""
    known = one.run.get("baselines") or registry.baselines(one.told["env"])  # an earlier version noted none
    missing = [name for name in known if name not in present and name not in KNOWING and name not in one.told["skipped"]]
    return f"Left out of the comparison: {', '.join(missing)} (evaluation.baselines)." if missing else ""


def _skipped(one: JudgedRun) -> str:
    told = "; ".join(left_out(one.told["skipped"]))
    return f"Not among the baselines: {told}." if told else ""


def _cautions(one: JudgedRun) -> list[str]:
    """What else its own report says first, and no mark of the leaderboard does."""
    found = (one.told.get("preface") or {}).get("cautions") or ()
    return [f"Of {one.told['agent']} in {one.folder}: {text}." for text in found if not re.match(SAID, text)]


def _meanwhile(one: JudgedRun) -> str:
    """What the market did in the judged windows, and what holding made of it."""
    moves = [move for move in one.told.get("market_moves") or () if move is not None]
    if not moves:
        return ""
    up, mean = sum(move > 0 for move in moves), float(np.mean(moves))
    way = "rose" if mean > 0 else "fell" if mean < 0 else "stood still"
    text = f"The market {way} meanwhile: {number(mean, 4)} a lot in a mean window, up in {up} of {len(moves)}"
    held = [
        f"{name} made {number(float(np.mean(one.told['results'][name]['pnl_by_window'])))}"
        for name in ("long", "short") if name in one.told["results"]
    ]  # fmt: skip
    return f"{text}; {', '.join(held)}." if held else f"{text}; what holding made is not shown."


# ---- what makes runs comparable


def setting_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what is the default anyway, so that what is equal looks equal."""
    told = {name: value for name, value in settings.items() if name not in IDLE}
    latency = told.get("latency_ns")
    if isinstance(latency, int):
        told["latency_ns"] = [latency, latency]
    return {name: value for name, value in told.items() if name not in DEFAULTS or value != DEFAULTS[name]}


def _settings(one: JudgedRun) -> dict[str, Any]:
    """Settings of a run, in a market of somebody else with all of its keywords, whether they were given or are its defaults."""
    foreign = one.run.get("market") or {}
    return {name: value for name, value in setting_of(one.run["settings"]).items() if name not in foreign} | dict(foreign)


def likeness(one: JudgedRun) -> str:
    """Equal for runs whose figures may stand in one table."""
    told, run = one.told, one.run
    parts = [
        told["env"], _settings(one), run["data_hash"], run["split"], told["judged"], told["windows"], one.currency,
    ]  # fmt: skip
    return json.dumps(parts, sort_keys=True, default=str)


def differences(one: JudgedRun, other: JudgedRun) -> list[str]:
    """By what `one` differs from `other`, which is judged in the same environment."""
    mine, theirs = _settings(one), _settings(other)
    found = []
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            found.append(f"{name} {_shown(name, mine)} instead of {_shown(name, theirs)}")
    if one.run["data_hash"] != other.run["data_hash"]:
        found.append(f"data {_hash(one)} instead of {_hash(other)}")
    if one.run["split"] != other.run["split"]:
        found.append(f"split {one.run['split']} instead of {other.run['split']}")
    if one.currency != other.currency:
        found.append(f"{one.currency or 'unnamed currency'} instead of {other.currency or 'unnamed currency'}")
    counts = len(one.told["windows"]), len(other.told["windows"])
    if counts[0] != counts[1]:
        found.append(f"{counts[0]} window{'' if counts[0] == 1 else 's'} instead of {counts[1]}")
    elif one.told["windows"] != other.told["windows"]:
        found.append("other windows")
    return found


def _shown(name: str, settings: Mapping[str, Any]) -> str:
    return setting_text(settings.get(name, DEFAULTS.get(name)))


def _hash(one: JudgedRun) -> str:
    return (one.run["data_hash"] or "unknown")[:8]


def setting_text(value: Any) -> str:
    """A value in a few words; of what is too long for a line the first bits of its hash, of gates their names besides."""
    if value is None:
        return "the default"
    text = str(value)
    if len(text) <= 40:
        return text
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
    gates = [str(gate.get("gate")) for gate in value if isinstance(gate, Mapping)] if isinstance(value, list | tuple) else []
    return f"{'+'.join(gates)}#{digest}"


__all__ = ["differences", "flaws", "likeness", "of_run", "of_seeds", "of_table", "setting_of", "setting_text"]
