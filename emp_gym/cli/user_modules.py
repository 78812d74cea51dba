"""Modules of the user's own: ``my_agents:DQN`` in the working folder, or ``./path/my_agents.py:DQN``.

Only names that stand on the command line are looked for there; what a run's folder names is found where Python finds it, and where it
was found when the person typed it.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from emp_gym import trust
from emp_gym.types import ConfigError

NAMED = ("env", "agent", "agents", "only", "market")
"""Options whose values may be ``module:Name``."""
_INSIDE = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")  # of a text such as --set 'env.gates=["my_gates:Gate"]'
_FILE = re.compile(r"""[^\s"'=,:()\[\]{}]+\.py:[A-Za-z_]\w*""")  # of env.reward=./my_rewards.py:Growth


def admit(arguments: argparse.Namespace) -> None:
    """Lets Python find the modules that `arguments` name; a file becomes the module that it is."""
    for option in NAMED:
        value = getattr(arguments, option, None)
        if isinstance(value, str):
            setattr(arguments, option, _admitted(value))
        elif isinstance(value, list):
            setattr(arguments, option, [_admitted(name) for name in value])
    settings = getattr(arguments, "set", None) or []
    settings[:] = [_FILE.sub(lambda found: _admitted(found[0]), text) for text in settings]
    for text in settings:
        for module in _INSIDE.findall(text):
            _find_here(module)


def _admitted(name: str) -> str:
    module, colon, what = name.rpartition(":")
    if not colon:
        return name
    if module.endswith(".py") or "/" in module:
        return f"{_of_file(Path(module), name)}:{what}"
    _find_here(module)
    return name


def _find_here(module: str) -> None:
    """Puts the working folder on the path, behind all that is there, if it holds `module`."""
    top = module.partition(".")[0]
    here = Path.cwd()
    if (here / f"{top}.py").is_file() or (here / top).is_dir():
        _add(here)


def _of_file(path: Path, name: str) -> str:
    """The module's name, its folder on the path."""
    path = path.expanduser().resolve()
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"{name!r}: expected FILE.py:Name, where FILE is a name that Python can import")
    if not path.is_file():
        near = get_close_matches(path.name, [each.name for each in path.parent.glob("*.py")], 1)
        raise ConfigError(f"{name!r}: there is no file {path}" + (f"; did you mean {near[0]}?" if near else ""))
    _add(path.parent)
    spec: Any = importlib.util.find_spec(path.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != path:
        raise ConfigError(f"{name!r}: Python knows another module {path.stem!r} ({getattr(spec, 'origin', None)}); rename the file")
    return path.stem


def _add(folder: Path) -> None:
    trust.look_in(str(folder))
