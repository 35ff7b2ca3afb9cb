"""Random histories of a whole installation: each must end with equal sides, or with an alert.

A history is decided by its seed: a writer's transactions, crashes, restored and cut files, a replicator that
is stopped, killed or suspended, resyncs, and a target that is changed behind its back. At its end the file is
closed. Its rows are then read by DuckDB and the target's by SQL, with nothing of the product in between.
"""

from tests.support.histories.history import History, Verdict, run_history
from tests.support.histories.warm import warm_up

__all__ = ["History", "Verdict", "run_history", "warm_up"]
