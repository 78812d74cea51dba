"""Trains an agent and judges it on held-out time: ``python scripts/train.py --help``."""

import sys

from emp_gym.experiments.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
