"""EMP Gym: recorded and simulated markets as Gymnasium environments.

``import emp_gym`` registers the environment ids and loads nothing heavy (no torch, numba, pandas or stable-baselines3).
"""

import os
import signal
import sys
from importlib import import_module

if os.path.basename(sys.argv[0] if hasattr(sys, "argv") and sys.argv else "").startswith("emp-"):
    # A command of ours, as pip installs it: Ctrl-C while modules are imported ends it in silence, as `scripts` do.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

from emp_gym.envs import register_all

__version__ = "0.1.0"

register_all()

API = ("Report", "Run", "backtest", "certify", "evaluate", "load_run", "make", "make_vec", "train")
"""Of `emp_gym.api`, which is loaded when one of them is asked for."""


def __getattr__(name: str) -> object:
    if name in API:
        return getattr(import_module("emp_gym.api"), name)
    raise AttributeError(f"module 'emp_gym' has no attribute {name!r}")
