"""The cache command: sizes by kind, and nothing is removed that is used or lies elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from emp_gym import jit
from emp_gym.cli import cache
from emp_gym.data.tape.format import FORMAT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One used and one unused entry of each kind, something of the user's own, and a link to another folder."""
    home = tmp_path / "home"
    monkeypatch.setenv("EMP_GYM_HOME", str(home))
    monkeypatch.setattr(jit, "cache_folder", lambda: home / "kernels" / "aaaa")
    for name in ("kernels/aaaa/f.nbc", "kernels/bbbb/f.nbc", "own/notes.txt", "tapes/old layout/day.tape/meta.json"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("x" * 100)
    for name, form in (("tapes/now.tape", FORMAT), ("tapes/old.tape", FORMAT - 1), ("sets/now.tape", FORMAT)):
        (home / name).mkdir(parents=True)
        (home / name / "meta.json").write_text(json.dumps({"format": form}))
    for name, seconds in (("sets/.begun", None), ("sets/.dead", 1)):
        (home / name).mkdir()
        if seconds:
            os.utime(home / name, (seconds, seconds))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (home / "tapes" / "link").symlink_to(tmp_path / "elsewhere")
    return home


def test_sizes_stand_by_kind(home, capsys):
    assert cache.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["home"] == str(home)
    assert told["kinds"]["kernels"] == {"folders": 2, "bytes": 200, "unused_bytes": 100}
    assert cache.main([]) == 0
    assert "unused: not by this version" in capsys.readouterr().out


def test_prune_removes_what_this_version_does_not_use(home, tmp_path, capsys):
    assert cache.main(["prune"]) == 0
    out = capsys.readouterr().out
    left = sorted(f"{path.parent.name}/{path.name}" for path in home.glob("*/*"))
    assert left == ["kernels/aaaa", "own/notes.txt", "sets/.begun", "sets/now.tape", "tapes/now.tape"]
    for name in ("kernels/bbbb", "sets/.dead", "tapes/link", "tapes/old layout", "tapes/old.tape"):
        assert f"removed {name}" in out
    assert (tmp_path / "elsewhere" / "mine").exists(), "a link goes, what it leads to stays"


def test_prune_all_takes_one_kind_or_everything_and_never_what_is_not_ours(home):
    assert cache.main(["prune", "--all", "--kind", "sets"]) == 0
    assert not list((home / "sets").iterdir())
    assert (home / "tapes" / "now.tape").exists()
    assert cache.main(["prune", "--all"]) == 0
    assert sorted(f"{path.parent.name}/{path.name}" for path in home.glob("*/*")) == ["own/notes.txt"]


@pytest.mark.parametrize("words", [["show", "--all"], ["prune", "--kind", "own"]])
def test_what_makes_no_sense_is_refused(words, home, capsys):
    assert cache.main(words) == 2
    assert capsys.readouterr().err.startswith("cache.py: ")
    assert (home / "own" / "notes.txt").exists()
