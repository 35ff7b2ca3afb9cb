"""Closes a source while threads read it: `python -m tests.support.closing CASE FILE`, a process that may die.

Prints what came of it as JSON: how the close went, and what each thread met. The file has a table `t` with
`id` and `seq`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from cdc.errors import SourceError
from cdc.source import DuckDbSource, open_source
from cdc.source.file.pinned import _PinnedFile
from tests.support.sources import deliver, plan_of

ROUNDS = 12
READERS = 3
STUCK_SECONDS = 1.5
_COUNT = "SELECT count(*) FROM t AS a, t AS b, t AS c WHERE hash(a.id, b.id, c.id) = 0"
_ROWS = "SELECT a.id, b.seq FROM t AS a, t AS b, t AS c"
"""Both take longer than anybody waits."""


def count(source: DuckDbSource, begun: threading.Event) -> None:
    with source.snapshot() as snapshot:
        begun.set()
        snapshot.query(_COUNT).read_all()


def stream(source: DuckDbSource, begun: threading.Event) -> None:
    with source.snapshot() as snapshot:
        for _ in snapshot.query(_ROWS):
            begun.set()


def replicate(source: DuckDbSource, begun: threading.Event) -> None:
    """Read the table again and again, as the replicator does, from a mark that stays where it is."""
    while True:
        reader = source.open(plan_of(source, "t"))
        try:
            for _ in range(3):
                deliver(reader, None)
                begun.set()
        finally:
            reader.close()


def stuck(source: DuckDbSource, begun: threading.Event) -> None:
    """A call that no interruption ends, like the replay of a log: the disk does not answer."""
    with source.snapshot() as snapshot:
        read, never = _PinnedFile.read, threading.Event()

        def slow(file: _PinnedFile, size: int = -1) -> bytes:
            begun.set()
            never.wait(STUCK_SECONDS)
            return read(file, size)

        with patch.object(_PinnedFile, "read", slow):
            snapshot.query("SELECT sum(seq), max(id) FROM t").read_all()


CASES = {case.__name__: case for case in (count, stream, replicate, stuck)}


def close_under(case: str, path: Path, seconds: float) -> dict[str, object]:
    met: list[str] = []
    source = open_source(path)

    def read(begun: threading.Event) -> None:
        try:
            CASES[case](source, begun)
            met.append("the end")
        except SourceError as error:
            met.append(error.problem)

    begun = [threading.Event() for _ in range(READERS if case == "replicate" else 1)]
    threads = [threading.Thread(target=read, args=(each,)) for each in begun]
    for thread, each in zip(threads, begun, strict=True):
        thread.start()
        assert each.wait(30.0), "the reader has not begun"
    at = time.monotonic()
    source.close(seconds)
    took = time.monotonic() - at
    for thread in threads:
        thread.join()
    return {"closed": source.closed, "seconds": took, "met": met}


if __name__ == "__main__":
    case, path = sys.argv[1], Path(sys.argv[2])
    for _ in range(ROUNDS if case == "replicate" else 1):
        print(json.dumps(close_under(case, path, 0.3 if case == "stuck" else 15.0)), flush=True)
