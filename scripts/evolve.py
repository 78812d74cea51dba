"""Evolves agents' configurations: ``python scripts/evolve.py --help``."""

import sys

from emp_gym.experiments.commands.evolve import main

if __name__ == "__main__":
    sys.exit(main())
