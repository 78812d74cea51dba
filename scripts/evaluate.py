"""Judges a run or an agent beside its baselines: ``python scripts/evaluate.py --help``."""

import sys

from emp_gym.experiments.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
