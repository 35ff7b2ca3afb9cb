"""A process that writes a DuckDB file and holds its lock, told what to do by one line of JSON at a time.

It runs under whichever DuckDB its interpreter has, so it uses nothing else. Requests on standard input, one
answer for each on standard output:

    {"sql": TEXT, "parameters": [...]}          → {"rows": [[...], ...]}, values as text
    {"load": {"table", "rows", "transfers"}}    → {}; from now on a thread commits `rows` rows at a time into
                                                  (id BIGINT, v BIGINT), v = 7 * id, and after each
                                                  `transfers` commits moves 1 from one row's v to another's
    {"pause": true}                             → {"committed": rows}; the thread has stopped

The eight bytes of the file PROGRESS are the rows committed by the thread, written after each COMMIT.
"""

import json
import mmap
import struct
import sys
import threading
import time
from typing import Any

import duckdb


class Load:
    """Commits rows until told to stop."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        progress: mmap.mmap,
        table: str,
        rows: int,
        transfers: int,
        pause: float,
    ) -> None:
        self.connection = connection
        self.progress = progress
        self.table = table
        self.rows = rows
        self.transfers = transfers
        self.pause = pause
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.committed: int
        [(self.committed,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        self.report()
        self.thread.start()

    def report(self) -> None:
        self.progress[:8] = struct.pack("<Q", self.committed)

    def run(self) -> None:
        commits = 0
        while not self.ending.is_set():
            first, last = self.committed, self.committed + self.rows
            self.connection.execute(
                f"INSERT INTO {self.table} SELECT i, 7 * i FROM range({first}, {last}) AS r(i)"
            )
            self.committed = last
            self.report()
            commits += 1
            if self.transfers and commits % self.transfers == 0:
                self.transfer(commits)
            if self.pause:
                time.sleep(self.pause)

    def transfer(self, seed: int) -> None:
        one, other = seed * 7919 % self.committed, seed * 104729 % self.committed
        self.connection.execute("BEGIN")
        self.connection.execute(f"UPDATE {self.table} SET v = v - 1 WHERE id = {one}")
        self.connection.execute(f"UPDATE {self.table} SET v = v + 1 WHERE id = {other}")
        self.connection.execute("COMMIT")

    def stop(self) -> int:
        self.ending.set()
        self.thread.join()
        return self.committed


def main(path: str, progress_path: str, options: str) -> None:
    config = json.loads(options)
    attach = config.pop("attach", None)
    connection = duckdb.connect(":memory:" if attach else path, config=config)
    if attach:
        connection.execute(f"ATTACH '{path}' AS written ({attach})")
        connection.execute("USE written")
    with open(progress_path, "r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    load: Load | None = None
    answer: dict[str, Any]
    print(json.dumps({"version": duckdb.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                load = Load(connection.cursor(), progress, **request["load"])
                answer = {}
            elif "pause" in request:
                answer = {"committed": load.stop() if load else 0}
            else:
                found = connection.execute(request["sql"], request.get("parameters") or [])
                rows = found.fetchall() if found.description else []
                answer = {"rows": [[None if v is None else str(v) for v in row] for row in rows]}
        except duckdb.Error as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if load:
        load.stop()
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
