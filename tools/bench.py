"""`python -m tools.bench NAME …`: the measurements behind the figures that the README states.

throughput   1,000,000 trades from a file to ClickHouse, as a ratio to the ceiling of the same run
latency      commit → acknowledged, at several log sizes and rates
rounds       the cost of reading the log, by what is in it; no server, for a machine with other work to do
idle         the cost of having nothing to do
reconcile    the cost of comparing and mending a table whose changes went unseen
audit        the cost of comparing a table at leisure, and how soon one changed row is found
"""

from __future__ import annotations

import sys
from importlib import import_module

from tools.ending import leaving_nothing

BENCHES = ("throughput", "latency", "rounds", "idle", "reconcile", "audit")


def main() -> int:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name not in BENCHES:
        print(__doc__.strip() if __doc__ else "")
        return 0 if name in ("-h", "--help") else 2
    with leaving_nothing():
        return int(import_module(f"tools.bench_{name}").main(arguments))


if __name__ == "__main__":
    sys.exit(main())
