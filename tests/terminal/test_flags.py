"""An unknown flag is an error that names the nearest one, in every command."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from emp_gym import cli
from emp_gym.cli import check, train
from emp_gym.terminal.flags import Parser

COMMANDS = sorted(
    file.stem for file in Path(cli.__file__).parent.glob("*.py") if "\ndef main(" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_names_the_flag_that_was_meant(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"emp_gym.cli.{name}").main(["--jsn", "--hepl"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    known = "--json" in said.partition("error:")[0]
    assert not known or "for --jsn, did you mean --json?" in said


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--steps", "--total-timesteps"), ("--timesteps", "--total-timesteps"), ("--total_timesteps=5", "--total-timesteps"),
        ("--envs", "--num-envs"), ("--sed", "--seed"), ("--resum", ""), ("--Data", "--data"), ("--zzz", ""),
    ],
)  # fmt: skip
def test_a_part_of_a_flag_is_that_flag_and_an_abbreviation_is_no_mistake(
    flag: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train.parser().parse_args(["--env", "emp-lob-v0", flag, "5", "--seed"])
    said = capsys.readouterr().err
    assert f"for {flag.partition('=')[0]}, did you mean {meant}?" in said if meant else "did you mean" not in said


def test_the_hint_comes_also_where_argparse_complains_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.main(["--agnet", "ppo"])
    assert "required; for --agnet, did you mean --agent?" in capsys.readouterr().err
    assert Parser(prog="x").parse_args([]) is not None
