"""The full check of data: every column of the days against the hash that it was written with."""

from __future__ import annotations

import logging
from typing import Any

from emp_gym.envs.about import about
from emp_gym.runs import backtest
from emp_gym.runs.config import RunConfig

LOGGER = logging.getLogger(__name__)
NO_HASHES = (
    "without hashes (an earlier version wrote it): only its bounds are checked; make it again with scripts/ingest.py, or remove it "
    "from the cache"
)


def verify(env: Any) -> str:
    """One line on what was found for the days of `env`, "" for an environment without days. `DataError` names what differs."""
    tape = about(env).days
    if tape is None:
        return ""
    whole = tape.verify()
    where = tape.path or tape.described
    return f"{where}: {len(tape.hashes)} columns are as they were written" if whole else f"{where}: {NO_HASHES}"


def verify_for(config: RunConfig) -> str:
    """`verify` for the environment of `config`."""
    env = backtest.make_env(config.env_id, config.env, 1, split=config.evaluation.split)
    try:
        return verify(env)
    finally:
        env.close()


def before_evidence(tape: Any) -> None:
    """`DataError` unless the days are as they were written; a warning where nobody can say."""
    if not tape.verify():
        LOGGER.warning("%s: evidence on days %s", tape.path or tape.described, NO_HASHES)
