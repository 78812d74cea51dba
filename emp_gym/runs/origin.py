"""Where a judged model comes from: how it was trained, one of which seeds it is, and the hashes of its files.

It is written into ``evaluation.json`` when a model is judged, so that it is known wherever the report lies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emp_gym.runs.config import RunConfig
from emp_gym.runs.run_folder import CONFIG, PROVENANCE, SEEDS, RunFolder, hash_of
from emp_gym.types import DataError

IDLE = ("threads", "info")  # keywords that change no result
OWN = ("env_id", "agent_name", "total_timesteps", "num_envs", "agent", "env")


def origin_of(runs: Sequence[RunFolder]) -> dict[str, Any] | None:
    """For ``evaluation.json``: symbols trained on, all seeds of the series (None: not known), what runs that differ in nothing but
    their seed have in common, and the hashes of the models, one each. None for a rule."""
    if not runs:
        return None
    series = [siblings(run) for run in runs]
    return {
        "symbols": list(dict.fromkeys(span.symbol for run in runs for span in run.noted())),
        "series": sorted({seed for seeds in series for seed in seeds or ()}) if all(series) else None,
        "alike": likeness(asdict(runs[0].as_trained)),
        "models": [model_files(run) for run in runs],
    }


def likeness(config: Mapping[str, Any]) -> str:
    """Equal for runs that differ in their seed only."""
    kept = {name: config.get(name) for name in OWN}
    kept["env"] = {key: value for key, value in (config.get("env") or {}).items() if key not in IDLE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def siblings(run: RunFolder) -> frozenset[int] | None:
    """Seeds of the series of `run`, itself included: as its record has them, as the folder around names them, and as they lie there.
    None where nobody knows: a run of an earlier version that stands alone."""
    own, folder = run.as_trained, run.path.resolve().parent
    found = {*(run.record.get("series") or ()), *RunFolder(folder).seeds.get("seeds", ())}
    if run.path.resolve().name.startswith("seed-"):
        beside = [RunFolder(path.parent).as_trained for path in folder.glob(f"seed-*/{CONFIG}")]
        found |= {one.seed for one in beside if likeness(asdict(one)) == likeness(asdict(own))}
    return frozenset(found | {own.seed}) if found else None


def model_files(run: RunFolder) -> dict[str, str]:
    """SHA-256 of the files of the model in a run's folder, by name."""
    files = {path.name for path in run.path.glob("model*") if path.is_file() and not path.name.endswith(".tmp")}
    return {name: hash_of(run.path / name) for name in sorted({*run.record.get("model", {}), *files})}


def replaced(folder: Path, told: Mapping[str, Any]) -> bool:
    """Whether in `folder`, or in those of its seeds, lies another model than the one that was judged; `told`: "run" of an
    ``evaluation.json``."""
    models = (told.get("trained") or {}).get("models") or []
    for seed, model in zip(told["training_seeds"], models):
        lies = next((path for path in (folder, folder / f"seed-{seed}") if (path / "model.json").exists()), None)
        if lies is not None and any(hash_of(lies / name) != known for name, known in model.items()):
            return True
    return False


def distinct(runs: Sequence[RunFolder]) -> None:
    """`DataError` where one run stands for several: its seed, or its model, is there twice."""
    seen: dict[str, RunFolder] = {}
    for run in runs:
        model = model_files(run)
        for known in (f"seed {run.as_trained.seed}", f"model {json.dumps(model)}" if model else str(run.path)):
            if (twin := seen.setdefault(known, run)) is not run:
                what = known.partition(" ")[0]
                raise DataError(f"{run.path}: the {what} of {twin.path}, expected one of its own: one run is not several; leave one out")


def differences(now: RunConfig, then: RunConfig) -> list[str]:
    """In what `now` is not `then`, a few words each: what a run is, without where its data lie and how it is judged."""
    a, b = asdict(now), asdict(then)
    pairs = [(name, a[name], b[name]) for name in ("env_id", "agent_name", "seed", "num_envs", "total_timesteps")]
    for part in ("agent", "env"):
        keys = [key for key in {**b[part], **a[part]} if key not in (*IDLE, "data")]
        pairs += [(f"{part}.{key}", a[part].get(key, "the default"), b[part].get(key, "the default")) for key in keys]
    return [f"{name} {_short(new)} (trained with {_short(old)})" for name, new, old in pairs if _plain(new) != _plain(old)]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else "others"


# ---- whose a folder is


def owner(folder: Path) -> str:
    """Whose `folder` is, if a run or a series of seeds lies there: in words; empty where none does."""
    seeds = sorted(path.parent.name for path in folder.glob(f"seed-*/{CONFIG}"))
    if (folder / SEEDS).exists() or seeds:
        return f"the runs of several seeds ({', '.join(seeds) or SEEDS})"
    told = RunFolder(folder).settings
    if "env_id" in told and "agent_name" in told:
        return f"the run of {told['agent_name']} on {told['env_id']}, seed {told.get('seed', 0)}"
    return "a model" if any((folder / name).exists() for name in ("model.json", PROVENANCE)) else ""
