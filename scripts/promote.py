"""Shows a strategy's evidence and moves it to its next stage if the guard agrees: ``python scripts/promote.py --help``."""

import sys

from emp_gym.experiments.commands.promote import main

if __name__ == "__main__":
    sys.exit(main())
