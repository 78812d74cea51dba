"""Checks environments, agents and the queue model: ``python scripts/check.py --help``."""

import sys

from emp_gym.experiments.commands.check import main

if __name__ == "__main__":
    sys.exit(main())
