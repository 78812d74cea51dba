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

from emp_gym import trust
from emp_gym.printable import printable
from emp_gym.terminal.console import guarded, say, trust_argument, vouched
from emp_gym.terminal.flags import Parser
from emp_gym.types import ConfigError

if TYPE_CHECKING:
    from emp_gym.governance.folder import GovernanceFolder
    from emp_gym.governance.ledger.ledger import Ledger
    from emp_gym.governance.ledger.registry import Registry
    from emp_gym.governance.ledger.signatures import Approver
    from emp_gym.governance.promotion.costs import Costs
    from emp_gym.governance.promotion.evidence import Case
    from emp_gym.governance.promotion.guard import RuleFinding

DONE, REFUSED = 0, 1
STAGES = ("paper", "pilot", "live")
ROLES = ("paper", "pilot")  # of a signer, unless told otherwise
ACTS = ("to", "demote", "alias", "add_signer", "revoke_signer", "accept_clock")  # what writes into the ledger


def parser() -> Parser:
    p = Parser(
        prog="promote.py",
        description="Show a strategy's evidence and what is missing for its next stage; with --to, promote it if the guard "
        "agrees. Exit status: 0 shown or done; 1 the guard or a rule of the ledger refuses, or the log is not whole; 2 the "
        "command was wrong or could not be carried out.",
    )
    p.add_argument("folder", type=Path, metavar="LOGDIR", help="the folder of train.py --govern")
    p.add_argument("strategy", nargs="?", metavar="STRATEGY", help="a version's hash (6 digits or more), alias or name")
    p.add_argument(
        "--list", action="store_true", help="all strategies, people and aliases (the default without STRATEGY)"
    )
    p.add_argument("--verbose", action="store_true", help="every parameter of the environment, limits included")
    p.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    trust_argument(p)
    move = p.add_argument_group("moving a strategy")
    move.add_argument(
        "--to", choices=STAGES, metavar="STAGE", help="promote to paper, pilot or live (or renew that stage)"
    )
    move.add_argument("--signer", action="append", default=[], metavar="NAME", help="who signs; once for each --key")
    move.add_argument("--key", action="append", default=[], type=Path, metavar="FILE", help="the signer's private key")
    move.add_argument(
        "--verify", action="store_true",
        help="execute all evidence again and compare, whatever else is found (--to does it where nothing else objects)",
    )  # fmt: skip
    move.add_argument(
        "--request", type=Path, metavar="FILE", help="with --to: promote nothing, write what is to be signed"
    )
    move.add_argument(
        "--approve", action="append", default=[], metavar="NAME=FILE",
        help="with --to: NAME's signature of what --request wrote, 64 bytes or 128 hex digits, made elsewhere",
    )  # fmt: skip
    move.add_argument(
        "--rules", type=Path, metavar="DIR",
        help="rules of the stages as in configs/stages: what the evidence must assume of latency, fees and impact, where it is "
        "not that of configs/honest.yaml; the promotion carries it",
    )  # fmt: skip
    move.add_argument("--demote", metavar="REASON", help="move the strategy one step down")
    move.add_argument("--alias", metavar="NAME", help="let NAME mean this strategy")
    p.add_argument(
        "--accept-clock", action="store_true", default=None,
        help="believe a clock that is more than a year after the last entry: nothing is written under it else",
    )  # fmt: skip
    people = p.add_argument_group("people")
    people.add_argument(
        "--add-signer", metavar="NAME", help="put a person on record; --signer and --key vouch for a second one"
    )
    people.add_argument("--new-key", type=Path, metavar="FILE", help="that person's key; made if it is not there")
    people.add_argument("--role", nargs="+", choices=STAGES, metavar="STAGE",
                        help=f"stages that this person may let a strategy into (default: {' '.join(ROLES)})")  # fmt: skip
    people.add_argument(
        "--revoke-signer", metavar="NAME",
        help="take a person's key out of use, for good: --reason, and --signer and --key of that person or of one with the "
        "same roles; what it has signed stays",
    )  # fmt: skip
    people.add_argument("--reason", metavar="TEXT", help="with --revoke-signer: why")
    people.add_argument("--ends", nargs="+", choices=STAGES, default=[], metavar="STAGE",
                        help="with --revoke-signer of the last who has a role: the stages that nobody can sign for any more")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 shown or done, 1 refused, 2 with one line on stderr for what cannot be done as asked."""
    return guarded(lambda: vouched(parser().parse_args(argv), _run), "promote.py", argv)


@dataclass
class OpenLedger:
    """A ledger with its registry, open for this command."""

    folder: GovernanceFolder
    ledger: Ledger
    registry: Registry


def _run(a: argparse.Namespace) -> int:
    from emp_gym.cli import promotion_view as view
    from emp_gym.governance.errors import LedgerError, LogError, UnregisteredPolicy
    from emp_gym.governance.folder import GovernanceFolder
    from emp_gym.governance.ledger.ledger import Ledger
    from emp_gym.governance.ledger.registry import Registry
    from emp_gym.governance.verify import NotALog, verify

    wanted = [name for name in ACTS if getattr(a, name) is not None]
    _usage(a, wanted)
    approvers = _approvers(a)  # a key that is missing is said before anything is read or executed
    folder = GovernanceFolder(a.folder, clock=time.time_ns)
    try:
        found = verify(folder.ledger_path, folder.witness).findings
    except NotALog as error:
        raise LogError(f"{error}; nothing is shown or promoted until it can be read") from error
    if found:
        view.tampered(folder.ledger_path, found, a.json)
        return REFUSED
    with ExitStack() as stack:
        stack.enter_context(folder)
        writes = wanted and a.request is None
        log = folder.ledger if writes else stack.enter_context(folder.ledger_reader())
        ledger = Ledger(log, clock=time.time_ns)
        try:
            return _act(OpenLedger(folder, ledger, Registry(ledger, folder.artefacts)), a, approvers)
        except UnregisteredPolicy:
            raise
        except LedgerError as refused:
            return _refuse(a, str(refused))


def _act(desk: OpenLedger, a: argparse.Namespace, approvers: list[Approver]) -> int:
    from emp_gym.cli import promotion_view as view

    if a.accept_clock:
        return _accept_clock(desk, a)
    if a.add_signer is not None:
        return _add_signer(desk, a, approvers)
    if a.revoke_signer is not None:
        return _revoke_signer(desk, a, approvers)
    if a.strategy is None:
        view.listing(desk.ledger, a.json)
        return DONE
    a.strategy = desk.ledger.find(a.strategy).version  # an alias may mean another one in a moment
    if a.demote is not None:
        return _demote(desk, a)
    if a.alias is not None:
        return _set_alias(desk, a)
    return _review(desk, a, approvers)


def _accept_clock(desk: OpenLedger, a: argparse.Namespace) -> int:
    from emp_gym.governance.ledger import clock

    trouble = desk.ledger.clock_trouble
    receipt = desk.ledger.accept_clock()
    if a.json:
        print(json.dumps({"accepted": receipt is not None, "entry": receipt and receipt.seq}))
    elif receipt is None:
        print(printable(f"there is no jump to accept; nothing was written{f' ({trouble})' if trouble else ''}"))
    else:
        print(f"accepted: it is {clock.said(receipt.ts_ns)} (entry {receipt.seq}); evidence expires by it")
    return DONE


def _refuse(a: argparse.Namespace, why: str) -> int:
    say(f"promote.py: {' '.join(why.split())}")
    if a.json:
        print(json.dumps({"refused": why}))
    return REFUSED


def _usage(a: argparse.Namespace, wanted: list[str]) -> None:
    """`ConfigError` for a command that is not whole, or holds what would be ignored."""
    if len(wanted) > 1:
        raise ConfigError(f"one thing at a time, got --{' and --'.join(wanted).replace('_', '-')}")
    act = wanted[0] if wanted else ""
    flag = f"--{act.replace('_', '-')}"
    if len(a.signer) != len(a.key):
        raise ConfigError(f"--signer and --key come in pairs, got {len(a.signer)} and {len(a.key)}")
    if act in ("to", "demote", "alias") and a.strategy is None:
        raise ConfigError(f"{flag} needs a STRATEGY; --list shows them")
    if a.strategy is not None and (a.list or act.endswith("signer") or a.accept_clock):
        raise ConfigError(f"{flag if act else '--list'} is about no strategy; leave {a.strategy} out")
    if a.list and act:
        raise ConfigError(f"one thing at a time, got --list and {flag}")
    if a.add_signer is not None and a.new_key is None:
        raise ConfigError("--add-signer needs --new-key FILE: where that person's private key lies or shall lie")
    if a.revoke_signer is not None and not (a.reason and a.signer):
        raise ConfigError("--revoke-signer needs --reason TEXT, and --signer NAME --key FILE of who says so")
    belongs = {
        "new_key": "add_signer", "role": "add_signer", "reason": "revoke_signer", "ends": "revoke_signer", "request": "to",
        "approve": "to",
    }  # fmt: skip
    for option, needs in belongs.items():
        if getattr(a, option) and act != needs:
            raise ConfigError(f"--{option.replace('_', '-')} goes with --{needs.replace('_', '-')}")
    if a.rules is not None and (a.strategy is None or act not in ("", "to")):
        raise ConfigError("--rules goes with a STRATEGY that is looked at or promoted (--to)")
    if a.request is not None and (a.signer or a.approve):
        raise ConfigError("--request only writes what is to be signed; give --signer and --approve when it is signed")


def _approvers(a: argparse.Namespace) -> list[Approver]:
    """Who signs: with a key that lies here, or with a signature made elsewhere."""
    from emp_gym.governance.ledger.signatures import Approver, Detached
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    here = [Approver(name, KeyFile(key)) for name, key in zip(a.signer, a.key, strict=True)]
    pairs = [text.partition("=") for text in a.approve]
    if not all(name and path for name, _, path in pairs):
        raise ConfigError(f"--approve: expected NAME=FILE, got {', '.join(a.approve)}")
    return [*here, *(Approver(name, Detached(_signature(Path(path)))) for name, _, path in pairs)]


def _signature(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data = data if len(data) == 64 else bytes.fromhex(data.decode("ascii"))
    except OSError as error:
        raise ConfigError(f"--approve: {path} cannot be read ({error.strerror})") from error
    except ValueError:
        data = b""
    if len(data) != 64:
        raise ConfigError(f"--approve: {path} is no Ed25519 signature; expected 64 bytes, or 128 hex digits")
    return data


# ------------------------------------------------------------------------------------------------------------- people


def _add_signer(desk: OpenLedger, a: argparse.Namespace, vouchers: list[Approver]) -> int:
    from emp_gym.governance.errors import LedgerError
    from emp_gym.governance.ledger.signatures import Approver
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    roles, made = a.role or list(ROLES), not a.new_key.exists()
    if made and not a.new_key.parent.is_dir():
        raise ConfigError(f"--new-key: {a.new_key.parent} is no folder; make it first")
    key = KeyFile.generate(a.new_key) if made else KeyFile(a.new_key)  # on disk before anybody relies on it
    try:
        receipt = desk.ledger.add_signer(Approver(a.add_signer, key), roles, vouchers)
    except LedgerError as refused:  # nothing was written
        if made:
            a.new_key.unlink()
        hint = "" if vouchers or not desk.ledger.state.people else "; name who vouches: --signer NAME --key FILE"
        return _refuse(a, f"{refused}{hint}")
    if made:
        say(f"new key: {a.new_key} (keep it where only {a.add_signer} can read it)")
    said = {"signer": a.add_signer, "roles": roles, "entry": receipt.seq}
    line = printable(f"{a.add_signer} is on record for {', '.join(roles)} (entry {receipt.seq})")
    print(json.dumps(said) if a.json else line)
    return DONE


def _revoke_signer(desk: OpenLedger, a: argparse.Namespace, approvers: list[Approver]) -> int:
    from emp_gym.governance.kill_switch.state import drop_key
    from emp_gym.governance.promotion.evidence import SIGNERS

    ledger, name = desk.ledger, a.revoke_signer
    person = ledger.state.people.get(name)
    if person is not None and person.revoked is None and not a.ends and ledger.state.ends_with(name):
        ends = ledger.state.ends_with(name)
        why = f"{name} is the last who can sign for {', '.join(ends)}: after this nobody ever can in this ledger"
        return _refuse(a, f"{why}; put somebody else on record first, or say that it is meant: --ends {' '.join(ends)}")
    receipt = ledger.revoke_signer(name, a.reason, approvers, [stage for stage in STAGES if stage in a.ends])
    key = bytes.fromhex(ledger.state.people[name].public_key)
    rearm = drop_key(desk.folder.path, key, f"revoked, entry {receipt.seq} of the ledger")
    left = {stage: sum(stage in one.roles for one in ledger.state.signers()) for stage in STAGES}
    if a.json:
        print(json.dumps({"revoked": name, "entry": receipt.seq, "dropped_from_rearm": rearm, "signers_left": left}))
        return DONE
    print(
        printable(f"the key of {name} is revoked (entry {receipt.seq}): what it signs from now on does not count; "
                  "what it has signed stays")
    )
    if rearm:
        print(
            "  it may not open the kill switch any more, either (keys/rearm.pub); a run under way learns that at its next start"
        )
    for stage in ledger.state.people[name].roles:
        if left[stage] < SIGNERS[stage]:
            print(f"  {stage} asks for {SIGNERS[stage]} signers, {left[stage]} left")
    return DONE


# --------------------------------------------------------------------------------------------------------- strategies


def _demote(desk: OpenLedger, a: argparse.Namespace) -> int:
    ledger = desk.ledger
    version = ledger.find(a.strategy)
    origin = version.stage(ledger.now)
    receipt = ledger.demote(a.strategy, a.demote)
    to = ledger.stage(a.strategy)
    said = {"name": version.name, "version": version.version, "from": origin, "to": to, "entry": receipt.seq}
    line = printable(f"{version.name} {version.version[:12]}: {origin} → {to} (entry {receipt.seq}): {a.demote}")
    print(json.dumps({**said, "reason": a.demote}) if a.json else line)
    return DONE


def _set_alias(desk: OpenLedger, a: argparse.Namespace) -> int:
    ledger = desk.ledger
    versions = ledger.state.versions
    before = versions.get(ledger.state.aliases.get(a.alias, ""))
    now = versions[a.strategy]
    entry = None if before is now else ledger.set_alias(a.alias, a.strategy).seq
    if a.json:
        old = None if before is None else before.version
        print(json.dumps({"alias": a.alias, "from": old, "to": now.version, "entry": entry}))
    elif entry is None:
        print(printable(f"{a.alias} means {now.name} {now.version[:12]} already; nothing was written"))
    else:
        old = "nothing" if before is None else f"{before.name} {before.version[:12]}"
        print(printable(f"{a.alias}: {old} → {now.name} {now.version[:12]} (entry {entry})"))
    return DONE


def _review(desk: OpenLedger, a: argparse.Namespace, approvers: list[Approver]) -> int:
    """Shows the case; with ``--to`` promotes or refuses. Evidence is executed last: it takes minutes."""
    from emp_gym.cli import promotion_view as view
    from emp_gym.governance.errors import LedgerError
    from emp_gym.governance.ledger.ledger import next_stage
    from emp_gym.governance.promotion.evidence import signed
    from emp_gym.governance.promotion.guard import RuleFinding

    ledger = desk.ledger
    version = ledger.find(a.strategy)
    least = _least(a, a.to or next_stage(version.stage(ledger.now)))
    case, decision = ledger.decision(version.version, a.to, least)
    who, wrong = ledger.standing("promote", decision, approvers)
    findings = [_files(desk, version.version), *case.findings]
    if a.request is None:
        findings.append(signed(who, case.stage, wrong))
    passed = all(finding.passed for finding in findings)
    executed = bool(case.used) and (a.verify or (a.to is not None and passed))
    if executed:
        findings.insert(1, _executed_again(desk, case))
        passed = passed and findings[1].passed
    promoted = None
    if a.to is not None and passed and a.request is None:
        try:
            promoted = ledger.promote(version.version, a.to, approvers, least).seq
        except LedgerError as error:  # what came meanwhile: evidence that expired, a kill
            findings.append(RuleFinding("ledger", False, "an entry that the rules allow", str(error)))
    outcome = view.ReviewResult(a.to, promoted, skipped=a.to is not None and bool(case.used) and not executed)
    if a.request is not None and passed:
        outcome.request = _write_request(desk, a, decision)
    view.review(ledger, version, case, findings, outcome, as_json=a.json, verbose=a.verbose)
    return DONE if a.to is None or promoted is not None or outcome.request else REFUSED


def _least(a: argparse.Namespace, stage: str) -> Costs | None:
    """What the evidence for `stage` must assume, as --rules says it."""
    if a.rules is None:
        return None
    from emp_gym.governance.promotion.stages import read_rules

    return read_rules(a.rules)[stage].evidence


def _write_request(desk: OpenLedger, a: argparse.Namespace, decision: dict[str, Any]) -> Path:
    """The bytes that a promotion's signers sign, in a file."""
    from emp_gym.governance.ledger.signatures import statement

    try:
        a.request.write_bytes(statement(desk.ledger.log.log_id, "promote", decision))
    except OSError as error:
        raise ConfigError(f"--request: {a.request} cannot be written ({error.strerror})") from error
    return a.request


def _files(desk: OpenLedger, version: str) -> RuleFinding:
    """Whether the registered files are still those of their row."""
    from emp_gym.governance.errors import UnregisteredPolicy
    from emp_gym.governance.promotion.guard import RuleFinding

    try:
        desk.registry.load(version)
    except UnregisteredPolicy as error:
        return RuleFinding("files", False, "those of its row", str(error))
    return RuleFinding("files", True, "those of its row", "the same hashes")


def _executed_again(desk: OpenLedger, case: Case) -> RuleFinding:
    """Whether the evidence comes out again, to the last digit, from files and data as they are here and now."""
    from emp_gym.governance.errors import LedgerError
    from emp_gym.governance.promotion.guard import RuleFinding
    from emp_gym.governed.evidence import execute_again, questions

    differences, episodes = [], 0
    try:
        trust.ask_all(one for evaluation in case.used for one in questions(desk.registry, evaluation.seq))
    except LedgerError as error:
        differences.append(str(error))
    for evaluation in case.used if not differences else ():
        say(f"executing evaluation {evaluation.seq} again ({len(evaluation.day)} episodes)")
        episodes += len(evaluation.day)
        try:
            differences += [f"entry {evaluation.seq}: {text}" for text in execute_again(desk.registry, evaluation.seq)]
        except LedgerError as error:
            differences.append(str(error))
    got = "; ".join(differences[:2]) if differences else f"{episodes} episodes, all columns equal"
    remedy = "restore data and packages as recorded, or evaluate anew; if neither explains it, the entry was forged"
    return RuleFinding("executed again", not differences, "the recorded table", got, remedy)
