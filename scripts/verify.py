"""Verifies a log: python scripts/verify.py LOG [--witness DIR] [--public-key HEX] [--json]

Runs the verifier as a file, not as a module: it must work where emp_gym and what it needs are not installed.
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parent.parent / "emp_gym/governance/verify.py"), run_name="__main__")
