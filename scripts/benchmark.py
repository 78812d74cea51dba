"""Measures parse, replay, env or train: python scripts/benchmark.py NAME [--json]"""

import sys

from emp_gym.experiments.commands.benchmark import main

sys.exit(main())
