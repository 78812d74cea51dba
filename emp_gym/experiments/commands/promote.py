"""``promote.py``: what a ledger holds, what a strategy lacks for its next stage, and the promotion itself."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emp_gym.experiments.commands.terminal import guarded, say
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from emp_gym.governance.evidence import Case
    from emp_gym.governance.folder import GovernanceFolder
    from emp_gym.governance.ledger import Ledger
    from emp_gym.governance.registry import Registry
    from emp_gym.governance.signatures import Approver

SHOWN, REFUSED = 0, 1
STAGES = ("paper", "pilot", "live")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="promote.py",
        description="Show a strategy's evidence and what is missing for its next stage; with --to, promote it if the guard "
        "agrees. Exit status: 0 shown or done, 1 refused (or the log is not whole), 2 usage.",
    )
    p.add_argument("folder", type=Path, metavar="LOGDIR", help="the folder of train.py --govern")
    p.add_argument("strategy", nargs="?", metavar="STRATEGY", help="a version's hash (6 digits or more), alias or name")
    p.add_argument(
        "--to", choices=STAGES, metavar="STAGE", help="promote to paper, pilot or live (or renew that stage)"
    )
    p.add_argument("--signer", action="append", default=[], metavar="NAME", help="who signs; once for each --key")
    p.add_argument("--key", action="append", default=[], type=Path, metavar="FILE", help="the signer's private key")
    p.add_argument("--verify", action="store_true", help="execute all evidence again and compare (--to always does)")
    p.add_argument("--demote", metavar="REASON", help="move the strategy one step down")
    p.add_argument("--alias", metavar="NAME", help="let NAME mean this strategy")
    p.add_argument(
        "--list", action="store_true", help="all strategies, people and aliases (the default without STRATEGY)"
    )
    p.add_argument(
        "--add-signer", metavar="NAME", help="put a person on record; --signer and --key vouch for a second one"
    )
    p.add_argument("--new-key", type=Path, metavar="FILE", help="that person's key; made if it is not there")
    p.add_argument("--role", nargs="+", choices=STAGES, default=["paper", "pilot"], metavar="STAGE",
                   help="stages that this person may let a strategy into (default: paper pilot)")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 shown or done, 1 refused, 2 with one line on stderr for what cannot be done as asked."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: _run(arguments), "promote.py")


@dataclass
class Desk:
    """A ledger with its registry, open for this command."""

    folder: GovernanceFolder
    ledger: Ledger
    registry: Registry


def _run(a: argparse.Namespace) -> int:
    from emp_gym.experiments.commands import promotion_view as view
    from emp_gym.governance.folder import GovernanceFolder
    from emp_gym.governance.ledger import Ledger
    from emp_gym.governance.registry import Registry
    from emp_gym.governance.verify import verify

    wanted = [name for name in ("to", "demote", "alias", "add_signer") if getattr(a, name) is not None]
    _usage(a, wanted)
    folder = GovernanceFolder(a.folder, clock=time.time_ns)
    found = verify(folder.ledger_path, folder.witness).findings
    if found:
        view.tampered(folder.ledger_path, found, a.json)
        return REFUSED
    with ExitStack() as stack:
        stack.enter_context(folder)
        log = folder.ledger if wanted else stack.enter_context(folder.ledger_reader())
        ledger = Ledger(log, clock=time.time_ns)
        desk = Desk(folder, ledger, Registry(ledger, folder.artefacts))
        if a.add_signer is not None:
            return _add_signer(desk, a)
        if a.strategy is None or a.list:
            view.listing(ledger, a.json)
            return SHOWN
        a.strategy = ledger.find(a.strategy).version  # an alias may mean another one in a moment
        if a.demote is not None:
            ledger.demote(a.strategy, a.demote)
        if a.alias is not None:
            ledger.set_alias(a.alias, a.strategy)
        return _review(desk, a)


def _usage(a: argparse.Namespace, wanted: list[str]) -> None:
    if len(wanted) > 1:
        raise ConfigError(f"one thing at a time, got --{' and --'.join(wanted).replace('_', '-')}")
    if len(a.signer) != len(a.key):
        raise ConfigError(f"--signer and --key come in pairs, got {len(a.signer)} and {len(a.key)}")
    if wanted and wanted != ["add_signer"] and a.strategy is None:
        raise ConfigError(f"--{wanted[0]} needs a STRATEGY; --list shows them")
    if a.add_signer is not None and a.new_key is None:
        raise ConfigError("--add-signer needs --new-key FILE: where that person's private key lies or shall lie")


def _approvers(a: argparse.Namespace) -> list[Approver]:
    from emp_gym.governance.heads import KeyFile
    from emp_gym.governance.signatures import Approver

    return [Approver(name, KeyFile(key)) for name, key in zip(a.signer, a.key, strict=True)]


def _add_signer(desk: Desk, a: argparse.Namespace) -> int:
    from emp_gym.governance.errors import LedgerError
    from emp_gym.governance.heads import KeyFile
    from emp_gym.governance.signatures import Approver

    vouchers = _approvers(a)
    if not a.new_key.exists():
        a.new_key.parent.mkdir(parents=True, exist_ok=True)
        KeyFile.generate(a.new_key)
        say(f"new key: {a.new_key} (keep it where only {a.add_signer} can read it)")
    try:
        receipt = desk.ledger.add_signer(Approver(a.add_signer, KeyFile(a.new_key)), a.role, vouchers)
    except LedgerError as error:
        say(f"promote.py: {error}")
        return REFUSED
    said = {"signer": a.add_signer, "roles": a.role, "entry": receipt.seq}
    print(json.dumps(said) if a.json else f"{a.add_signer} is on record for {', '.join(a.role)} (entry {receipt.seq})")
    return SHOWN


def _review(desk: Desk, a: argparse.Namespace) -> int:
    """Shows the case; with ``--to`` promotes or refuses."""
    from emp_gym.experiments.commands import promotion_view as view
    from emp_gym.governance.errors import LedgerError, UnregisteredPolicy
    from emp_gym.governance.evidence import signed
    from emp_gym.governance.promotion import Finding

    ledger = desk.ledger
    version = ledger.find(a.strategy)
    case = ledger.examine(version.version, a.to)
    findings: list[Finding] = []
    try:
        desk.registry.load(version.version)
        findings.append(Finding("files", True, "those of its row", "the same hashes"))
    except UnregisteredPolicy as error:
        findings.append(Finding("files", False, "those of its row", str(error)))
    if case.used and (a.to is not None or a.verify):
        findings.append(_executed_again(desk, case))
    approvers = _approvers(a)
    people = [ledger.state.people[one.name] for one in approvers if one.name in ledger.state.people]
    unknown = [f"{one.name} is not on record" for one in approvers if one.name not in ledger.state.people]
    findings += [*case.findings, signed(people, case.stage, unknown)]
    promoted = None
    if a.to is not None and all(finding.passed for finding in findings):
        try:
            promoted = ledger.promote(version.version, a.to, approvers).seq
        except LedgerError as error:  # what only the ledger sees: a signature by another key
            findings.append(Finding("ledger", False, "an entry that the rules allow", str(error)))
    view.review(ledger, version, case, findings, asked=a.to, promoted=promoted, as_json=a.json)
    return REFUSED if a.to is not None and promoted is None else SHOWN


def _executed_again(desk: Desk, case: Case) -> Any:
    """Whether the evidence comes out again, to the last digit, from files and data as they are here and now."""
    from emp_gym.experiments.evidence import execute_again
    from emp_gym.governance.errors import LedgerError
    from emp_gym.governance.promotion import Finding

    differences, episodes = [], 0
    for evaluation in case.used:
        say(f"executing evaluation {evaluation.seq} again ({len(evaluation.day)} episodes)")
        episodes += len(evaluation.day)
        try:
            differences += [f"entry {evaluation.seq}: {text}" for text in execute_again(desk.registry, evaluation.seq)]
        except LedgerError as error:
            differences.append(str(error))
    got = "; ".join(differences[:2]) if differences else f"{episodes} episodes, all columns equal"
    remedy = "restore data and packages as recorded, or evaluate anew; if neither explains it, the entry was forged"
    return Finding("executed again", not differences, "the recorded table", got, remedy)
