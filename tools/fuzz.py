"""python -m tools.fuzz --minutes 60 [--seed N] [TARGET …]

Gives everything that reads bytes which are not ours inputs made of good ones, each target its share of the
time, and prints how many there were, which declared errors they were refused with, and the greatest time and
memory that one took. It ends at the first input that ends in another way, with the seed that makes it again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support.fuzz import TARGETS, fuzz, targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    names = options.names or TARGETS
    seconds = options.minutes * 60 / len(names)
    print(f"seed {options.seed}, {seconds:.0f} s each")
    with tempfile.TemporaryDirectory() as directory, targets(Path(directory)) as found:
        for name in names:
            figures = fuzz(found[name], seconds, options.seed)
            refused = ", ".join(f"{count:,} {kind}" for kind, count in figures.refused.most_common())
            print(
                f"{name}: {figures.inputs:,} inputs, {refused or 'none refused'};"
                f" at most {figures.seconds:.2f} s and {figures.bytes / 1e6:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
