"""A writer that says each entry's number and leaf hash on stdout once it is acknowledged, until somebody kills it.

python doomed_writer.py LOG KEY WITNESS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emp_gym.governance.log.signed_tree_heads import KeyFile
from emp_gym.governance.log.writer import Log
from tests.governance.logs import Ticks, drafts

if __name__ == "__main__":
    log = Log.open(sys.argv[1], signer=KeyFile(sys.argv[2]), clock=Ticks(), witness=sys.argv[3])
    os.write(1, b"open\n")
    while True:
        for count in (1, 1, 40, 1, 7):
            receipts = log.append_many(drafts(count, log.size))
            os.write(1, "".join(f"{receipt.seq} {receipt.leaf.hex()}\n" for receipt in receipts).encode())
