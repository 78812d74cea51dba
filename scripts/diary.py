"""Looks through a decision diary: ``python scripts/diary.py --help``."""

import sys

from emp_gym.experiments.commands.diary import main

if __name__ == "__main__":
    sys.exit(main())
