"""Control codes in names, reasons, symbols and paths of others are never printed raw by a command, nor do they make lines."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from judged import judged, left

from emp_gym.cli import diary, evaluate, evaluation, ingest, kill, leaderboard, promote
from emp_gym.cli import promotion_view as view
from emp_gym.governance import verify
from emp_gym.governance.kill_switch.switch import KillSwitch
from emp_gym.terminal import console, streams
from tests.data.test_store import day
from tests.governance.diaries import diary_log, drive, vector
from tests.governance.ledgers import Desk
from tests.governance.logs import create

EVIL = "x\x1b[2J\x1b]0;t\x07\r\nopen\n\u202ey\x9b1m[bold]"
SHOWN = r"x\x1b[2J\x1b]0;t\x07\r\nopen\n\u202ey\x9b1m[bold]"


def quiet(text: str) -> bool:
    """Whether nothing in `text` acts on a terminal, line ends and tabs apart."""
    return not any(unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") for letter in text if letter not in "\n\t")


@pytest.fixture
def said(capfd):
    def read() -> str:
        out, err = capfd.readouterr()
        assert quiet(out) and quiet(err), repr(out + err)
        assert "open" not in (out + err).split("\n"), "a reason has made a line of its own"
        return out + err

    return read


def test_kill_shows_reasons_and_names_spelled_out(tmp_path, said):
    (tmp_path / "kill").write_text('{"state": "armed"}\n')
    assert kill.main([str(tmp_path), "--who", f"who {EVIL}", "--reason", f"why {EVIL}"]) == 0
    assert kill.main([str(tmp_path), "--who", f"second {EVIL}", "--reason", EVIL]) == 0
    assert kill.main([str(tmp_path), "--status"]) == 1
    text = said()
    assert f"why {SHOWN}" in text and f"second {SHOWN}" in text


def test_a_state_file_of_codes_is_spelled_out(tmp_path, said):
    (tmp_path / "kill").write_text(EVIL)
    assert kill.main([str(tmp_path), "--status"]) == 1
    assert r"\x1b[2J" in said()


def test_who_may_open_the_switch_is_spelled_out(tmp_path, said):
    from emp_gym.governance.log.signed_tree_heads import KeyFile

    KeyFile.generate(tmp_path / "bob.key")
    (tmp_path / "kill").write_text('{"state": "armed"}\n')
    assert kill.main([str(tmp_path), "--allow", str(tmp_path / "bob.key"), "--who", "bob\x1b[2J\u202e"]) == 0
    assert kill.main([str(tmp_path), "--reason", "x"]) == 0
    assert kill.main([str(tmp_path), "--rearm", "--key", str(tmp_path / "bob.key"), "--reason", EVIL]) == 0
    assert r"bob\x1b[2J\u202e" in said()


def test_a_folder_of_codes_is_spelled_out_in_errors(tmp_path, said):
    for command in (kill, promote, leaderboard):
        assert command.main([str(tmp_path / EVIL)]) == 2
    assert diary.main([str(tmp_path / EVIL)]) == 2
    assert evaluate.main(["--run", str(tmp_path / EVIL)]) == 2
    assert ingest.main([str(tmp_path / EVIL), "--out", str(tmp_path / "o")]) == 2
    assert verify.main([str(tmp_path / EVIL)]) == 2
    assert said().count(r"\x1b[2J") >= 7


def test_the_verifier_spells_out_paths_and_what_it_finds(tmp_path, said):
    where = tmp_path / "a\x1b[2J\n.log"
    with create(where) as log:
        log.append("a", "k")
    assert verify.main([str(where)]) == 0
    assert r"a\x1b[2J\n.log: whole" in said()


def test_a_ledger_shows_names_and_reasons_spelled_out(desk_of_evil: Desk, said):
    view.listing(desk_of_evil.ledger, as_json=False)
    version = desk_of_evil.ledger.find("evil")
    case, _ = desk_of_evil.ledger.decision(version.version)
    view.review(desk_of_evil.ledger, version, case, case.findings, view.ReviewResult(None, None), as_json=False, verbose=True)
    view.tampered(Path(EVIL), [EVIL], as_json=False)
    text = said().replace("\n", "")
    assert text.count(r"\x1b[2J") >= 3


@pytest.fixture
def desk_of_evil(tmp_path) -> Desk:
    """A ledger whose rows hold what its own rules let through: ASCII codes; and rows that are not allowed, which may hold all."""
    desk = Desk(tmp_path)
    ascii_only = "\x1b[2J\x07\r\nopen\n"
    version = desk.version("evil" + ascii_only)
    desk.evaluate(version)
    desk.promote(version, "paper", "alice")
    desk.ledger.demote(version, "because " + ascii_only)
    desk.forge("demote", {"version": version, "from": EVIL, "to": EVIL, "reason": EVIL}, subject=version)
    desk.log.append(EVIL, "alias", payload={"alias": EVIL, "version": version}, subject_hash=version)
    desk.ledger.find = lambda name, found=desk.ledger.find: found(version if name == "evil" else name)  # type: ignore[method-assign]
    return desk


def test_a_diary_shows_notes_and_policies_spelled_out(tmp_path, root, said, monkeypatch):
    monkeypatch.chdir(root)
    with diary_log(tmp_path) as log:
        env = vector(log, lanes=2, episode="10 decisions", kept={"policy": (EVIL, "ab" * 32)})
        env.reset(seed=1)
        env.diary.note(1, EVIL)
        drive(env, 12)
        env.close()
    for words in (["--runs"], ["--show", "30"], ["--summary"], ["--export", str(tmp_path / "o\x1b.csv")]):
        assert diary.main([str(tmp_path), *words]) == 0
    assert said().count(r"\x1b") >= 3


def test_a_leaderboard_shows_agents_spelled_out(tmp_path, said):
    left(judged(), tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    path = tmp_path / "two" / "evaluation.json"
    told = json.loads(path.read_text())
    told["run"]["agent"] = told["agent"] = EVIL
    path.write_text(json.dumps(told).replace('"random"', json.dumps(EVIL)))
    for words in ([], ["--markdown"], ["--json"]):
        leaderboard.main([str(tmp_path), *words])
    assert r"\x1b[2J" in said()


def test_a_comparison_is_shown_spelled_out(said):
    from dataclasses import replace

    comparison = judged().comparison
    evil = replace(comparison, rows=[replace(comparison.agent, name=EVIL), *comparison.rows[1:]], skipped={EVIL: EVIL})
    evaluation.show(evil)
    assert r"\x1b[2J" in said()


def test_files_of_recorded_days_are_named_spelled_out(tmp_path, said):
    day(tmp_path / "d")
    (tmp_path / "d" / "un\x1b[2Jread.csv").write_text("x")
    assert ingest.main([str(tmp_path / "d"), "--out", str(tmp_path / "o\x1b[2J")]) == 0
    assert r"o\x1b[2J" in said()


def test_what_a_library_prints_is_spelled_out_too(capfd, said):
    def story() -> int:
        print(f"name {EVIL}".replace("\n", " "))
        sys.stderr.write("\x1b[33mWARN: ours\x1b[0m \x1b[2J\n")
        return 0

    assert console.guarded(story, "x") == 0
    text = said()
    assert "WARN: ours \\x1b[2J" in text and "name x\\x1b[2J" in text


def test_colours_of_our_own_tables_reach_a_terminal_and_those_of_others_do_not(monkeypatch):
    import io

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", screen)
    with streams.settled():
        out = console.console(force_terminal=True, color_system="standard")
        out.print("[bold red]ours[/]", "a\x1b[31mtheirs\x07", highlight=False)
    text = screen.getvalue()
    assert "\x1b[1;31mours\x1b[0m" in text and r"a\x1b[31mtheirs" in text and "\x07" not in text


def test_a_kill_in_words_is_one_line(tmp_path):
    switch = KillSwitch.at(tmp_path)
    kill_ = switch.trip(f"who\n{EVIL}", EVIL)
    assert "\n" not in str(kill_) and quiet(str(kill_)) and kill_.reason == EVIL
