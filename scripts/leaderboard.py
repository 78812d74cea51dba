"""Judged runs side by side: ``python scripts/leaderboard.py --help``."""

import sys

from emp_gym.experiments.commands.leaderboard import main

if __name__ == "__main__":
    sys.exit(main())
