"""Closes the kill switch of a governance folder, shows it, or opens it again: ``python scripts/kill.py --help``."""

import sys

from emp_gym.experiments.commands.kill import main

if __name__ == "__main__":
    sys.exit(main())
