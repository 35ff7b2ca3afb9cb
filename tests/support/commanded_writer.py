"""The reference writer, which besides trading does what it is told: through a socket, by `tell`.

    python tests/support/commanded_writer.py --path FILE ...

One request to a connection, a line of JSON: {"sql": [STATEMENT, ...], "alone": BOOL}; one answer:
{"rows": [...]} of the last statement, or {"error": TEXT}. The statements run on a connection of their own,
`alone` while no trade is under way: only so can a table that is traded in be altered or a checkpoint be made,
and of two transactions that change one row the trade is not the one that fails. There is a table `events` for
what trades do not do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools import reference_writer

COMMAND = (sys.executable, __file__)
EVENTS_TABLE = """CREATE TABLE IF NOT EXISTS events (
    id BIGINT PRIMARY KEY, updated_at TIMESTAMP_NS NOT NULL, v VARCHAR)"""
_TRIES_SECONDS = 20.0
_between_commits = threading.Lock()


def tell(database: Path, *statements: str, alone: bool = False, seconds: float = 60.0) -> list[list[Any]]:
    """Have the writer of `database` run these statements, each a transaction; the last one's rows.

    Raises:
        AssertionError: it refused one.
        OSError: there is no such writer, or it did not answer within `seconds`.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds)
        client.connect(_socket(database))
        client.sendall(json.dumps({"sql": statements, "alone": alone}).encode() + b"\n")
        with client.makefile() as answers:
            answer = json.loads(answers.readline() or '{"error": "the writer has gone"}')
    assert "error" not in answer, f"{statements}: {answer['error']}"
    rows: list[list[Any]] = answer["rows"]
    return rows


def _socket(database: Path) -> str:
    """Of no file, for a test's directory may be too long for one."""
    return f"\0writer-{hashlib.blake2b(str(database).encode(), digest_size=8).hexdigest()}"


class _Trader(reference_writer.Trader):
    def _commit(self, count: int) -> reference_writer.Commit:
        with _between_commits:
            return super()._commit(count)


class _Desk(reference_writer.Desk):
    """Trades, and listens meanwhile."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: Any, options: Any) -> None:
        connection.execute(EVENTS_TABLE)
        super().__init__(connection, settings, options)
        self._own = connection.cursor()
        reference_writer._define_stamp(self._own)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(_socket(settings.path))
        self._listener.listen()
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def _listen(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with contextlib.suppress(OSError), client, client.makefile("rw") as stream:
                request = json.loads(stream.readline())
                stream.write(json.dumps(self._obey(request["sql"], alone=request["alone"])) + "\n")

    def _obey(self, statements: Sequence[str], *, alone: bool) -> dict[str, Any]:
        rows: list[Any] = []
        try:
            with _between_commits if alone else contextlib.nullcontext():
                for sql in statements:
                    rows = _run(self._own, sql)
        except duckdb.Error as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"rows": rows}


def _run(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Any]:
    """Run `sql`, again while a trade that was committed meanwhile is in its way."""
    deadline = time.monotonic() + _TRIES_SECONDS
    while True:
        try:
            return connection.execute(sql).fetchall()
        except duckdb.TransactionException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


if __name__ == "__main__":
    setattr(reference_writer, "Trader", _Trader)  # noqa: B010 - mypy refuses =
    setattr(reference_writer, "Desk", _Desk)  # noqa: B010
    sys.exit(reference_writer.main())
