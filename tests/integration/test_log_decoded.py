"""Logs of writers of every tested version, decoded directly: as DuckDB replays them, and as their writer
shows their rows. [F2 F6]

CDC_DECODE_SEEDS asks for more random logs than the 2 of every run for each version.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from cdc.change import TableId
from cdc.source.file.session import Session, SessionLimits
from tests.support.logged import (
    VALUES,
    Judged,
    changes_in,
    columns_of,
    create,
    log_of,
    random_statements,
    random_types,
)
from tests.support.writers import VERSIONS, Writer

SEEDS = int(os.environ.get("CDC_DECODE_SEEDS", "2"))


@pytest.fixture(scope="module")
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    session = Session(SessionLimits(threads=1))
    with session.cursor() as made:
        yield made
    session.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_log_of_a_writer_of_every_version_is_read_as_duckdb_reads_it(
    version: str, tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    rng = random.Random(version)
    path = tmp_path / "w.db"
    with Writer(path, version, config={"checkpoint_threshold": "1TB"}) as writer:
        writer.run("PRAGMA disable_checkpoint_on_shutdown")
        tables = {f"t{n}": random_types(rng, most=8) for n in range(2 * SEEDS)}
        tables["every"] = list(VALUES)
        for table, types in tables.items():
            writer.run(create(table, types))
        writer.run("CHECKPOINT")
        for statement in random_statements(rng, tables, 60 * SEEDS):
            writer.run(statement)
        log = log_of(path)
        for table, types in tables.items():
            judged = Judged(cursor, columns_of(types))
            changes = changes_in(log, TableId("main", table))
            assert judged.difference(changes) is None, types


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_inserted_by_a_writer_of_every_version_are_those_it_shows(version: str, tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    types = ["INTEGER", "HUGEINT", "DECIMAL(18,6)", "VARCHAR", "UUID", "BOOLEAN", "BLOB"]
    with Writer(path, version) as writer:
        writer.run(create("t", types))
        for first in range(0, 90, 30):
            writer.run(
                "INSERT INTO t SELECT i, i - 40, -(i::HUGEINT << 70), i / 8, nullif('ä' || i, 'ä7'),"
                f" CAST('00000000-0000-0000-0000-' || lpad(i::VARCHAR, 12, '0') AS UUID), i % 2 = 0,"
                f" encode('b' || i) FROM range({first}, {first + 30}) r(i)"
            )
        shown = writer.run(
            "SELECT id::VARCHAR, c0::VARCHAR, c1::VARCHAR, c2::VARCHAR, c3, c4::VARCHAR,"
            " c5::INTEGER::VARCHAR, decode(c6) FROM t ORDER BY id"
        )
        decoder = Judged.decoder_of(columns_of(types))
        [ids, c0, c1, c2, c3, c4, c5, c6] = decoder.inserts(changes_in(log_of(path), TableId("main", "t")))
    hugeints = [int.from_bytes(value, "little", signed=True) for value in c1.storage.to_pylist()]
    read = zip(
        map(str, ids.to_pylist()),
        map(str, c0.to_pylist()),
        map(str, hugeints),
        map(str, c2.to_pylist()),
        c3.to_pylist(),
        map(str, c4.to_pylist()),
        map(str, c5.storage.to_pylist()),
        (value.decode() for value in c6.to_pylist()),
        strict=True,
    )
    assert [list(row) for row in read] == shown
