"""Measures parse, replay, env or train: python scripts/benchmark.py NAME [--json]"""

import sys

from emp_gym.experiments.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
