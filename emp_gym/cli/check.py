"""``check``: one door for the project's checks of environments, agents and the queue model.

    check --env emp-lob-v0                        conformance and look-ahead, on embedded or given data
    check --env your_module:YourEnv --data bars.csv
    check --agent your_module:YourAgent
    check --market your_module:YourMarket         conformance of a market, with --set KEY=VALUE for its keywords
    check --certify --agent ppo                   does it learn? regret on environments with a known optimum
    check --certify --agent ppo --only emp-ladder-memory-v0 --set extractor=gru
    check --queue DAY                             ghost orders: the recorded day judges the queue model
    check --queue DAY --against DEEPER            the deeper file of the same day judges the queue out of sight
    check --queue DAY --depth 1,2                 the same for shallow days made of DAY itself
    check --tape TAPE                             bounds of every index, and every column against its hash

Exit code 0: everything held; 1: there are findings; 2: the question was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp_gym.cli import executors, user_modules
from emp_gym.printable import printable
from emp_gym.terminal.console import console, guarded
from emp_gym.terminal.flags import Parser

if TYPE_CHECKING:
    from emp_gym.envs.conformance.suite import CheckResult

LOOKAHEAD = "the_future_changes_nothing"
CONTRACT = "the training contract (docs/own_environment.md)"
LOOKAHEAD_SHOWS = "Nothing after time t changes what is given at t, whatever the future is rewritten to."


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/check.py``; returns the exit code."""
    return guarded(lambda: _run(_arguments(argv)), "check")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, where what is said goes together."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.certify and not arguments.agent:
        parser.error("--certify needs --agent NAME: which agent is to be certified?")
    setting = arguments.set and not (arguments.market or arguments.env)
    asked = arguments.only or arguments.total_timesteps or setting or arguments.seeds != 5
    deeper = arguments.against or arguments.depth
    if not arguments.certify and (asked or (arguments.seed and not (deeper or arguments.market))):
        also = "(--seed also to --against, --depth and --market, --set to --env and --market)"
        parser.error(f"--only, --seeds, --seed, --total-timesteps and --set belong to --certify {also}")
    if (arguments.orders, arguments.hold) != (20_000, 600.0) and not deeper:
        parser.error("--orders and --hold belong to --queue DAY with --against or --depth")
    if arguments.decisions is not None and not arguments.market:
        parser.error("--decisions belongs to --market")
    if arguments.orders < 1 or not 1e-9 <= arguments.hold < 86_400:
        parser.error("--orders must be 1 or more, --hold a nanosecond or more and less than 86400 seconds")
    if arguments.seed < 0:
        parser.error(f"--seed: expected 0 or more, got {arguments.seed}")
    if arguments.engine is not None and not arguments.certify:
        parser.error("--engine belongs to --certify")
    if (arguments.against or arguments.depth) and not arguments.queue:
        parser.error("--against and --depth belong to --queue DAY")
    if arguments.against and arguments.depth:
        parser.error("--against takes another file of the day, --depth makes shallow days of it: give one of the two")
    if arguments.seeds < 1:
        parser.error(f"--seeds: expected 1 or more, got {arguments.seeds}")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    user_modules.admit(arguments)
    if arguments.env:
        return _environment(arguments)
    if arguments.market:
        return _market(arguments)
    if arguments.certify:
        from emp_gym.cli import certify

        return certify.run(arguments)
    if arguments.tape:
        return _tape(arguments)
    return _queue(arguments) if arguments.queue else _agent(arguments)


def _parser() -> Parser:
    parser = Parser(
        prog="check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--env", metavar="ID|module:Name", help="an environment: conformance and look-ahead")
    subject.add_argument("--agent", metavar="NAME|module:Class", help="an agent: conformance")
    subject.add_argument("--market", metavar="module:Class", help="a market: conformance")
    subject.add_argument("--queue", metavar="DAY", help="a recorded LOBSTER day: ghost orders judge the queue model")
    subject.add_argument("--tape", metavar="TAPE", help="a .tape folder, or anything else that --data takes")
    parser.add_argument("--against", metavar="DEEPER", help="of --queue: a file of the same day with more levels")
    parser.add_argument("--depth", metavar="L[,L]", help="of --queue: levels of shallow days to make of DAY, e.g. 1,2")
    parser.add_argument("--orders", type=int, default=20_000, metavar="N", help="of --against and --depth (default: 20000)")
    parser.add_argument("--hold", type=float, default=600.0, metavar="SECONDS", help="of each of them (default: 600)")
    parser.add_argument("--data", metavar="PATH", help="data for the look-ahead check of --env")
    parser.add_argument("--skip", choices=("conformance", "lookahead"), help="leave out one half of --env")
    parser.add_argument(
        "--certify", action="store_true", help="train --agent on every certificate, beside the known optimum"
    )
    parser.add_argument("--only", nargs="+", metavar="ID", help="certificates of --certify (default: all)")
    parser.add_argument("--seeds", type=int, default=5, metavar="K", help="of --certify (default: 5)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="the first of them, that of --orders, or that of the course of --market (default: 0)")  # fmt: skip
    parser.add_argument("--decisions", type=int, metavar="N", help="of --market: length of its course (default: 600)")
    parser.add_argument("--total-timesteps", type=int, metavar="N", help="of --certify (default: the certificate's)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="of --certify: agent.KEY, or env.KEY of what it learns in, e.g. extractor=gru env.reward=certain; "
                        "of --env: env.KEY; of --market: its keywords")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    executors.add_arguments(parser, "the seeds of all certificates")
    return parser


# --- environments


def _environment(arguments: argparse.Namespace) -> int:
    import emp_gym  # noqa: F401  registers the ids
    from emp_gym.envs.conformance.subject import resolve

    resolve(arguments.env)  # an unknown name is one line, before anything else is said
    return _told("env", arguments.env, _checks(arguments), arguments.json)


def _told(what: str, name: str, records: Iterable[dict[str, Any]], as_json: bool) -> int:
    """Says what each check of `name` has found, as they finish; the exit code."""
    from emp_gym import __version__

    checks: list[dict[str, Any]] = []
    report = _table(f"{name} (emp-gym {__version__})", as_json)
    for check in records:
        checks.append(check)
        report(check)
    failed = [check["check"] for check in checks if check["findings"]]
    if as_json:
        sys.stdout.write(json.dumps({what: name, "ok": not failed, "checks": checks}) + "\n")
    else:
        skipped = sum(bool(check["skipped"]) for check in checks)
        verdict = f"{len(failed)} checks have findings: {', '.join(failed)}" if failed else "everything holds"
        sys.stdout.write(f"{verdict} ({len(checks) - skipped} checks run, {skipped} skipped)\n")
        if any(check.get("missing") for check in checks):
            sys.stdout.write(f"train.py does not take it yet: it does not keep {CONTRACT}\n")
    return int(bool(failed))


def _checks(arguments: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One plain record a check, as they finish."""
    from emp_gym.envs.conformance.suite import outcomes

    keywords = _keywords(arguments.set)
    if arguments.skip != "conformance":
        yield from map(_record, outcomes(arguments.env, **keywords))
    if arguments.skip != "lookahead":
        yield _lookahead(arguments.env, arguments.data, keywords)
    yield _trainable(arguments.env, keywords)


def _keywords(settings: Sequence[str]) -> dict[str, Any]:
    """Of the environment, as ``--set env.KEY=VALUE`` gives them."""
    from emp_gym.runs.config import assignments
    from emp_gym.types import ConfigError

    told = assignments(settings)
    if unknown := sorted(told.keys() - {"env"}) or (["env"] if not isinstance(told.get("env", {}), dict) else []):
        raise ConfigError(f"--set {unknown[0]}: expected env.KEY=VALUE, a keyword of the environment")
    return told.get("env", {})


def _trainable(env: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Whether train.py takes it. What it lacks is no finding: an environment may be right and not be meant for that."""
    from emp_gym.envs.conformance.subject import resolve
    from emp_gym.runs.contract import missing

    start = time.perf_counter()
    lacks = ["has no id: register it with gymnasium.register"] if resolve(env)[1] is not None else missing(env, **keywords)
    record: dict[str, Any] = {"check": "the_training_contract", "shows": f"It keeps {CONTRACT}: train.py takes it.", "findings": []}
    return record | {"missing": [f"it {what}" for what in lacks], "skipped": "", "seconds": round(time.perf_counter() - start, 2)}


def _record(outcome: CheckResult) -> dict[str, Any]:
    return {
        "check": outcome.check,
        "shows": outcome.shows,
        "findings": [finding.what for finding in outcome.findings],
        "skipped": outcome.skipped,
        "seconds": round(outcome.seconds, 2),
    }


def _lookahead(env: str, data: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
    """The look-ahead check as a record like the others, with its figures."""
    from emp_gym.envs.lookahead import NoData, lookahead_id

    record: dict[str, Any] = {"check": LOOKAHEAD, "shows": LOOKAHEAD_SHOWS, "findings": [], "skipped": ""}
    start = time.perf_counter()
    try:
        report = lookahead_id(env, data, **keywords)
    except NoData as error:
        return record | {"skipped": str(error), "seconds": 0.0}
    record["findings"] = [*report.problems, *(leak.what for leak in report.worst.values())]
    figures = {"futures": report.futures, "reached": report.reached, "steps_compared": report.compared}
    return record | figures | {"notes": list(report.notes), "seconds": round(time.perf_counter() - start, 2)}


def _table(title: str, quiet: bool) -> Any:
    """A function that shows one finished check after another."""
    if quiet:
        return lambda check: None
    from rich.markup import escape

    out, begun = console(highlight=False), False

    def show(check: dict[str, Any]) -> None:
        nonlocal begun
        if not begun:  # not before anything is known: a wrong keyword is one line
            out.print(f"[bold]{escape(printable(title))}[/]")
        begun = True
        mark = "[yellow]skip[/]" if check["skipped"] else "[red]FAIL[/]" if check["findings"] else "[green]ok[/]  "
        mark = "[yellow]no[/]  " if check.get("missing") else mark
        out.print(f"{mark} {check['shows']} [dim]{check['check']}, {check['seconds']:.1f} s[/]", soft_wrap=True)
        if check.get("futures"):
            out.print(f"     {check['futures']} futures, {check['steps_compared']} steps compared byte for byte")
        for line in [*check["findings"], *check.get("notes", ()), *check.get("missing", ()), check["skipped"]]:
            if line:
                out.print(f"     {escape(printable(line, lines=True))}", soft_wrap=True)

    return show


# --- markets, the queue model and agents


def _market(arguments: argparse.Namespace) -> int:
    from emp_gym.envs.conformance.market import market_outcomes
    from emp_gym.envs.conformance.market_driver import DECISIONS, MarketSubject
    from emp_gym.runs.config import assignments

    subject = MarketSubject.of(arguments.market, **assignments(arguments.set))
    subject = subject.on(arguments.seed, DECISIONS if arguments.decisions is None else arguments.decisions)
    subject.config()  # what it does not take is one line, before anything else is said
    return _told("market", arguments.market, map(_record, market_outcomes(subject)), arguments.json)


def _queue(arguments: argparse.Namespace) -> int:
    if arguments.against or arguments.depth:
        from emp_gym.cli import depths

        return depths.run(arguments)
    from emp_gym.market.queue_validation import judge_day

    figures = judge_day(arguments.queue)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return 0
    judged = max(figures["orders_judged"], 1)
    width = max(map(len, figures))
    for name, count in figures.items():
        sys.stdout.write(f"{name:<{width}}  {count:>12,}\n")
    wrong = sum(figures[name] for name in ("missed", "early", "late"))
    executed = max(figures["orders_executed"], 1)
    sys.stdout.write(
        f"{figures['agree'] / judged:.4%} of the judged orders fill first at the very message of the exchange, or rightly not at all; "
        f"of the executed ones {1 - wrong / executed:.4%}\n"
    )
    return 0


def _tape(arguments: argparse.Namespace) -> int:
    from emp_gym.data import store
    from emp_gym.types import DataError

    path = Path(arguments.tape)
    if not path.exists():
        raise DataError(f"{arguments.tape}: no such file or folder; give a .tape folder")
    looks_like_one = path.is_dir() and (path.suffix == ".tape" or (path / "rows.npy").exists())
    if looks_like_one and not (path / "meta.json").exists():
        raise DataError(f"{arguments.tape}: not a tape: meta.json is missing; make it again with scripts/ingest.py")
    found: dict[str, Any] = {"tape": arguments.tape, "ok": True, "days": 0, "rows": 0, "hashes": False, "finding": ""}
    try:
        tape = store.tapes(arguments.tape)
        found |= {"days": len(tape.info), "rows": len(tape.rows), "hashes": tape.verify()}
    except DataError as error:
        found |= {"ok": False, "finding": str(error)}
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
    elif not found["ok"]:
        sys.stdout.write(f"{found['finding']}\n")
    else:
        hashes = "every column is as it was written" if found["hashes"] else "no hashes (an earlier version wrote it): bounds only"
        sys.stdout.write(f"{arguments.tape}: {found['days']} day(s), {found['rows']:,} rows: bounds hold, {hashes}\n")
    return int(not found["ok"])


def _agent(arguments: argparse.Namespace) -> int:
    from emp_gym.agents.check import conformance

    findings = [str(finding) for finding in conformance(arguments.agent)]
    if arguments.json:
        sys.stdout.write(json.dumps({"agent": arguments.agent, "ok": not findings, "findings": findings}) + "\n")
    else:
        sys.stdout.write("\n".join(findings or [f"{arguments.agent} conforms"]) + "\n")
    return int(bool(findings))
