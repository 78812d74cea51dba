"""Pattern memory: what came of situations like this one.

``index`` finds nearest keys exactly, with FAISS or numpy; ``encoder`` makes keys of raw windows; ``episodic`` holds the
rows and what happens to them in simulated time. Numpy only, and FAISS where it is asked for: no learner in here.
"""

from __future__ import annotations
