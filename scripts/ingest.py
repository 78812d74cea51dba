"""Reads LOBSTER days, verifies them and writes tapes: python scripts/ingest.py SRC... [--out DIR] [--json]"""

import sys

from emp_gym.experiments.commands.ingest import main

if __name__ == "__main__":
    sys.exit(main())
