"""The page of commands, made from their own help. Which commands there are says setup.cfg (console_scripts), and nothing else."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PURPOSE = {
    "emp-train": "train an agent, judge it, write a report: [training](training.md)",
    "emp-evaluate": "judge a trained run or a rule on held-out windows: [evaluation](evaluation.md), [reports](reports.md)",
    "emp-evolve": "evolve configurations of an agent: [search](search.md)",
    "emp-ingest": "read recorded days and say what is wrong with them: [data](data.md)",
    "emp-check": "conformance, look-ahead, the queue model, certificates: [look-ahead](lookahead.md), [certificates](certificates.md)",
    "emp-benchmark": "measure speed, or every agent on everything: [benchmarks](benchmarks.md)",
    "emp-leaderboard": "judged runs side by side: [reports](reports.md)",
    "emp-diary": "query, replay and verify recorded decisions: [the diary](decision_diary.md)",
    "emp-promote": "evidence, promotion and people of a governance folder: [governance](governance.md)",
    "emp-kill": "close a kill switch, or open it with a signed order: [kill switch](kill_switch.md)",
    "emp-verify": "check a log with nothing but the standard library and cryptography: [the log](governance_log.md)",
    "emp-cache": "what the cache folder holds, and removing it: [other machines](machines.md)",
}
HEAD = """# Commands

After an installation every command is on the path as `emp-NAME`; in a checkout `python scripts/NAME.py` is the same. All of them take `--help`.

| command | what it does |
| --- | --- |
{rows}

## Exit status

| status | meaning |
| --- | --- |
| 0 | done, and what was asked holds |
| 1 | done, and there are findings: a check fails, a guard refuses, a log is damaged |
| 2 | not done: the command was wrong, something is missing, or the kill switch is closed. One line on stderr says what |
| 130, 143 | stopped by Ctrl-C or SIGTERM; a training has saved what is needed to go on |
| 141 | whoever read the output has gone; the work was done to its end |
"""


def commands() -> dict[str, str]:
    """Name of each command -> module:function."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return dict(line.split(" = ", 1) for line in parser["options.entry_points"]["console_scripts"].strip().split("\n"))


def page() -> str:
    """All of them."""
    known = commands()
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(help_of, known.values()))
    rows = "\n".join(f"| [`{name}`](#{name}) | {PURPOSE.get(name, '')} |" for name in known)
    parts = [
        HEAD.format(rows=rows),
        *(f"## {name}\n\n```text\n{text}\n```\n" for name, text in zip(known, said, strict=True)),
    ]
    return "\n".join(parts)


def help_of(entry: str) -> str:
    """What ``--help`` prints, without colour, 100 columns wide."""
    module, _, function = entry.partition(":")
    name = module.rpartition(".")[2]
    program = f"import sys; sys.argv = ['emp-{name}', '--help']; from {module} import {function}; {function}()"
    settings = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
