"""Packages that only some rooms need: which extra brings each, and one line where it is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from emp_gym.types import ConfigError

EXTRAS: dict[str, str] = {
    "torch": "agents",
    "stable_baselines3": "agents",
    "safetensors": "agents",
    "tensorboard": "agents",
    "scipy": "report",
    "optuna": "search",
    "faiss": "memory",
    "apsw": "governance",
    "cryptography": "governance",
    "matplotlib": "report",
    "pyarrow": "report",
    "pandas": "report",
    "sb3_contrib": "contrib",
    "ray": "ray",
    "hftbacktest": "peers",
    "optuna_dashboard": "dashboard",
    "moviepy": "video",
    "pygame": "video",
    "cv2": "video",
    "torchrl": "torchrl",
}
"""Package, as Python calls it -> the extra of ours that brings it (options.extras_require of setup.cfg)."""
PIP_NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow"}
"""Other packages that pip knows under another name than Python."""


class MissingPackage(ConfigError, ImportError):
    """Something needs a package that is not installed; the message has the pip line."""


def need(*packages: str) -> None:
    """Raises `MissingPackage` for the first of `packages` that is not there. Nothing is loaded."""
    for package in packages:
        if sys.modules.get(package) is None and find_spec(package) is None:
            raise MissingPackage(f"this needs the package {package}: {pip_line(package)}")


def pip_line(package: str) -> str:
    """The command that brings `package` (as Python calls it): an extra of ours, or the package alone where none has it."""
    extra = EXTRAS.get(package)
    return f"pip install {PIP_NAMES.get(package, package)}" if extra is None else f'pip install "emp-gym[{extra}]"'


def told(error: ModuleNotFoundError) -> MissingPackage | None:
    """In one line what an import did not find, if an extra of ours brings it."""
    package = (error.name or "").partition(".")[0]
    return MissingPackage(f"this needs the package {package}: {pip_line(package)}") if package in EXTRAS else None
