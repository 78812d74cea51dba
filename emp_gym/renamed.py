"""What had another name before: it is still read for one release, with a line that says the new one.

Files of runs, studies and models keep the words that they were written with; whoever reads them asks here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

LOGGER = logging.getLogger(__name__)

PARAMETERS = {
    "entropy": "ent_coef",
    "value": "vf_coef",
    "refresh": "target_update_interval",
    "unroll": "num_unroll_steps",
    "reanalyse": "reanalyze_ratio",
    "chance": "num_chance_codes",
    "average": "weight_average",
    "settled_samples": "eval_samples",
}
"""Parameters of agents: old -> new."""

_BASELINES, _SETS = "emp_gym.agents.baselines", "emp_gym.sensory.sets"
CLASSES = {
    "emp_gym.agents.certified:Optimal": "emp_gym.agents.optimal_policies:Optimal",
    "emp_gym.agents.certified:Naive": "emp_gym.agents.optimal_policies:Naive",
    f"{_BASELINES}.schedules:AlmgrenChriss": f"{_BASELINES}.schedules:AlmgrenChrissSchedule",
    f"{_BASELINES}.quotes:AvellanedaStoikov": f"{_BASELINES}.quotes:AvellanedaStoikovQuotes",
    f"{_BASELINES}.quotes:CarteaJaimungal": f"{_BASELINES}.quotes:CarteaJaimungalQuotes",
    f"{_BASELINES}.takers:MeanReversion": f"{_BASELINES}.takers:MeanReversionTaker",
    f"{_SETS}:Book": f"{_SETS}:BookFeatures",
    f"{_SETS}:Flow": f"{_SETS}:FlowFeatures",
    f"{_SETS}:Clock": f"{_SETS}:ClockFeatures",
    f"{_SETS}:Account": f"{_SETS}:AccountFeatures",
    f"{_SETS}:OwnOrders": f"{_SETS}:OwnOrderFeatures",
    f"{_SETS}:Own": f"{_SETS}:OwnFeatures",
    "emp_gym.governance.kill_gate:KillGate": "emp_gym.governance.kill_switch.gate:KillGate",
    "emp_gym.governance.stages:StageGate": "emp_gym.governance.promotion.stages:StageGate",
}
"""Classes that a file may name, ``module:Class``: old -> new."""

EXTEND = {
    "Kind": "MessageType", "Outcome": "OrderAck", "Status": "TradingStatus", "OrderKind": "RequestType",
}  # fmt: skip
"""Names of `emp_gym.extend`: old -> new."""


def parameters(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """`given` under the names that are `known`; of an old and a new name of one parameter the one that stands later counts."""
    now: dict[str, Any] = {}
    for key, value in given.items():
        new = PARAMETERS.get(key)
        if key not in known and new in known:
            _say(key, str(new))
            key = str(new)
        now.pop(key, None)
        now[key] = value
    return now


def class_now(name: str) -> str:
    """``module:Class`` as it is now."""
    new = CLASSES.get(name, name)
    if new != name:
        _say(name, new)
    return new


def extend_now(name: str) -> str:
    """A name of `emp_gym.extend` as it is now."""
    new = EXTEND.get(name, name)
    if new != name:
        _say(name, new)
    return new


@cache
def _say(old: str, new: str) -> None:
    LOGGER.warning("%s is called %s now; the old name goes with the next release", old, new)
