"""Very many small tables, all changed in one transaction: delivered, in little memory.
[issue 12 case 21]
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cdc.app.replication import Replication
from cdc.config import Settings
from tests.support.places import Place
from tests.support.waiting import wait_until
from tests.support.writers import Writer

TABLES = int(os.environ.get("CDC_MANY_TABLES", "120"))
"""The case was 300; so many take minutes of two processors, most of them for the server to make them."""
ROWS = 10


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "t.db") as made:
        made.run("BEGIN")
        for number in range(TABLES):
            made.run(f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, seq BIGINT, s VARCHAR)")
            made.run(f"INSERT INTO t{number} SELECT i, i, 'x' FROM range({ROWS}) AS r(i)")
        made.run("COMMIT")
        made.run("CHECKPOINT")
        yield made


@pytest.mark.parametrize("any_place", ["old-native"], indirect=True)
def test_very_many_tables_changed_in_one_transaction_are_delivered(
    any_place: Place, writer: Writer, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {
            "database": {"path": writer.path},
            "sync": {"clickhouse_endpoint": (str(any_place.endpoint),), "deletes": "replicate"},
            "state": {"directory": tmp_path / "state"},
            "defaults": {"watermark": "seq"},
            "target": {"auto_create": True, "database": any_place.database},
            "limits": {"max_memory_mb": 300, "max_connections_per_second": 0},
            "performance": {"cache_size_mb": 64},
            "metrics": {"enabled": False},
        }
    )
    stop = threading.Event()
    thread = threading.Thread(target=Replication(settings).run, args=(stop,))
    before = psutil.Process().memory_info().rss
    thread.start()
    try:
        there = (
            f"SELECT count() FROM system.tables WHERE database = '{any_place.database}' AND name LIKE 't%'"
        )
        wait_until(lambda: any_place.query(there) == str(2 * TABLES), "tables and views to be there", 300.0)
        every = f"merge('{any_place.database}', '^t[0-9]+$')"
        count = f"SELECT uniqExact(_table, id) FROM {every}"
        wait_until(lambda: any_place.query(count) == str(TABLES * ROWS), "all rows to be there", 300.0)
        for version in range(3):
            writer.run("BEGIN")
            for number in range(TABLES):
                writer.run(f"UPDATE t{number} SET s = 'u{version}' WHERE id = {version}")
            writer.run("COMMIT")
            changed = f"SELECT uniqExact(_table) FROM {every} WHERE s = 'u{version}'"
            wait_until(lambda sql=changed: any_place.query(sql) == str(TABLES), "all to be changed", 90.0)  # type: ignore[misc]
        assert psutil.Process().memory_info().rss - before < 4 * TABLES << 20
    finally:
        stop.set()
        thread.join(60.0)
        for number in range(TABLES):  # at once they take the server longer than a statement may
            any_place.query(f"DROP TABLE IF EXISTS {any_place.database}.t{number}_current")
            any_place.query(f"DROP TABLE IF EXISTS {any_place.database}.t{number}")
