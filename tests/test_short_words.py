"""What a person sees first: short, and whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emp_gym.cli import ingest
from emp_gym.types import Fills, View

ROOT = Path(__file__).resolve().parent.parent


def test_fills_and_view_are_short_however_many_lanes():
    n = 2048
    fields = {name: np.ones(n, int) for name in Fills.__dataclass_fields__} | {"maker": np.ones(n, bool)}
    fields["lane"] = np.arange(n)
    assert repr(Fills(**fields)) == "Fills(2048 in 2048 lanes, 2048 lots; first: lane 0 bought 1 @ 1 (maker))"
    assert repr(Fills(**{name: values[:0] for name, values in fields.items()})) == "Fills(none)"
    shapes = {"bid_price": (n, 1, 5), "bid_size": (n, 1, 5), "ask_price": (n, 1, 5), "ask_size": (n, 1, 5), "position": (n, 1),
              "order_id": (n, 8)}  # fmt: skip
    arrays = {name: np.zeros(shapes.get(name, n), np.int64) for name, field in View.__dataclass_fields__.items() if field.default_factory}
    view = View(**arrays)
    assert repr(view) == "View(2048 lanes, 1 instruments, 5 levels; lane 0: 0 x 0 / 0 x 0, position 0, 0 open orders)"


def test_the_readmes_ten_lines_run_as_they_stand_and_print_little(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text().split("## Ten lines")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in text.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "Fills(" in out
    assert len(out) < 1500


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_table_of_ingest_keeps_names_and_numbers_whole(width, monkeypatch, capsys):
    class Bad:
        columns = ("file", "row", "rule")
        rows = [("AAPL_2012-06-21_34200000_57600000_message_5.csv", 7, "off-tick: the price is no multiple of the tick")]

        def __len__(self) -> int:
            return len(self.rows)

    monkeypatch.setenv("COLUMNS", str(width))
    counts = dict(zip(ingest.COUNTS, (155_935, 155_934, 1, 155_933, 122_094, 33_839, 0), strict=True))
    counts |= dict(zip(ingest.ORDER_COUNTS, (68_088, 68_083, 5, 0, 85_402, 2_445), strict=True))
    ingest._show([(Path("tapes/AMZN_2012-06-21_5.tape"), counts, Bad()), (Path("tapes/B.tape"), counts, ())], 1.0)  # type: ignore[arg-type]
    out = capsys.readouterr().out
    for word in ("AMZN_2012-06-21_5.tape", "155,935", "155,934", "unexplained", "AAPL_2012-06-21_34200000_57600000_message_5.csv"):
        assert word in out
    assert "…" not in out


SCRIPT = """
import os, signal, sys, threading
import builtins
real, first = builtins.__import__, []
def importing(name, *more, **options):
    if name == WHEN and not first:
        first.append(name)
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *more, **options)
builtins.__import__ = importing
import runpy
sys.argv = [PATH, "--agent", "hold"]
runpy.run_path(PATH, run_name="__main__")
"""


@pytest.mark.parametrize("when", ["numpy", "emp_gym.cli.check"])
def test_ctrl_c_while_modules_are_imported_is_silent(when):
    path = str(ROOT / "scripts" / "check.py")
    program = SCRIPT.replace("PATH", repr(path)).replace("WHEN", repr(when))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert run.returncode == -signal.SIGINT, "a shell calls it 130"
    assert run.stderr == ""


def test_a_command_of_ours_lets_ctrl_c_end_it_and_a_library_does_not():
    for name, handler in (("emp-train", "SIG_DFL"), ("python", "default_int_handler")):
        program = f"import sys; sys.argv = ['/usr/bin/{name}']; import signal, emp_gym\nassert signal.getsignal(2) is signal.{handler}"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=os.environ, timeout=120)
