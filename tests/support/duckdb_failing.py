"""DuckDB made to fail for good, as its own defects do: it replays a log into a table of other types."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pytest

from cdc.change import Column
from cdc.source.file.session import FATAL
from cdc.source.format import frames
from cdc.source.format.log import parse_log_header
from cdc.source.tail.twin import Twin


def end(connection: duckdb.DuckDBPyConnection) -> None:
    """End the DuckDB of `connection`, if it has not ended: whoever uses it next, wherever, is refused."""
    try:
        connection.execute("SELECT 1")
    except FATAL:
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "w.db")
        with duckdb.connect(str(path)) as writer:
            writer.execute("PRAGMA disable_checkpoint_on_shutdown")
            writer.execute("CREATE TABLE t (v VARCHAR)")
            writer.execute("CHECKPOINT")
            writer.execute("INSERT INTO t VALUES ('x')")
        log = path.with_name("w.db.wal").read_bytes()
    header = parse_log_header(log)
    assert header is not None
    inserts = [f for f in frames.read_frames(log, header.size) if frames.kind(f) == frames.INSERT]
    with (
        pytest.raises(duckdb.InternalException, match="unified vector"),
        Twin(connection, [Column("v", "INTEGER")]).attached(inserts),
    ):
        pass
    with pytest.raises(FATAL, match="has been invalidated"):
        connection.execute("SELECT 1")
