"""DuckDB decodes its own log through the twin: inserts, deletes by row id, updates by column. [F2, F6]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change import Column, TableId
from cdc.source.file.confined import confined
from cdc.source.format import frames
from cdc.source.format.log import parse_log_header
from cdc.source.tail.twin import Twin

COLUMNS = (
    Column("id", "UUID"),
    Column("seq", "BIGINT"),
    Column('odd "name"', "VARCHAR"),
    Column("price", "DECIMAL(18,6)"),
    Column("state", "ENUM('NEW', 'FILLED')"),
    Column("at", "TIMESTAMP_NS"),
    Column("tags", "VARCHAR[]"),
    Column("pair", "STRUCT(a INTEGER, b VARCHAR)"),
)


TRADES = TableId("main", "trades")


class Writer:
    """A database whose log is not checkpointed, so that it can be read as a file."""

    def __init__(self, path: Path, storage: str) -> None:
        self.path = path
        self.connection = duckdb.connect()
        self.connection.execute(f"ATTACH '{path}' AS w (STORAGE_VERSION '{storage}')")
        self.connection.execute("USE w")
        self.connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        stored = ", ".join(f'"{c.name.replace(chr(34), chr(34) * 2)}" {c.type}' for c in COLUMNS)
        self.connection.execute(f"CREATE TABLE trades ({stored})")
        self.connection.execute("CREATE TABLE other (x INTEGER)")
        self.connection.execute("CHECKPOINT")

    def insert(self, *seqs: int) -> None:
        for seq in seqs:
            self._insert(seq, seq + 1)

    def insert_many(self, rows: int) -> None:
        """In one transaction."""
        self._insert(0, rows)

    def _insert(self, first: int, stop: int) -> None:
        self.connection.execute(
            "INSERT INTO trades SELECT uuid(), i, 'ä' || i, i / 8, 'NEW',"
            " make_timestamp_ns(1760000000000000000 + i), ['x', NULL], {a: i, b: NULL}"
            " FROM range(?, ?) AS r(i)",
            [first, stop],
        )

    def changes(self, table: TableId = TRADES) -> list[bytes]:
        log = self.path.with_name(self.path.name + ".wal").read_bytes()
        header = parse_log_header(log)
        assert header is not None
        used, found = None, []
        for frame in frames.read_frames(log, header.size):
            if frames.kind(frame) == frames.USE_TABLE:
                used = frames.used_table(frame)
            elif frames.kind(frame) in (frames.INSERT, frames.DELETE, frames.UPDATE) and used == table:
                found.append(frame)
        return found


@pytest.fixture(params=["v1.0.0", "v1.2.0", "latest"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "w.duckdb", request.param)
    yield made
    made.connection.close()


@pytest.fixture
def reader() -> Iterator[duckdb.DuckDBPyConnection]:
    with confined() as connection:
        yield connection


def test_inserted_rows_come_out_as_they_went_in_and_in_their_order(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    writer.insert(*range(10))
    made = Twin(reader, COLUMNS)
    with made.attached(writer.changes()) as decoded:
        assert (decoded.inserts, decoded.deletes, decoded.columns) == (True, False, [])
        rows = reader.execute(f"FROM {made.inserts}").fetchall()
    assert rows == writer.connection.execute("FROM trades").fetchall()


def test_deletes_and_updates_come_out_by_row_id_with_the_newest_value_last(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    writer.insert(*range(10))
    writer.connection.execute("UPDATE trades SET price = 1.5 WHERE seq IN (2, 3)")
    writer.connection.execute("UPDATE trades SET price = 2.5, state = 'FILLED' WHERE seq = 3")
    writer.connection.execute("DELETE FROM trades WHERE seq IN (0, 9)")
    made = Twin(reader, COLUMNS)
    with made.attached(writer.changes()) as decoded:
        assert (decoded.inserts, decoded.deletes, decoded.columns) == (True, True, [3, 4])
        assert reader.execute(f"FROM {made.deletes}").fetchall() == [(0,), (9,)]
        prices = reader.execute(f"SELECT row_id, value::DOUBLE FROM {made.values(3)}").fetchall()
        states = reader.execute(f"SELECT row_id, value FROM {made.values(4)}").fetchall()
    assert prices == [(2, 1.5), (3, 1.5), (3, 2.5)]
    assert states == [(3, "FILLED")]


def test_a_twin_serves_any_number_of_rounds(writer: Writer, reader: duckdb.DuckDBPyConnection) -> None:
    made = Twin(reader, COLUMNS)
    seen = 0
    for round_number in range(5):
        writer.insert(round_number, round_number + 100)
        changes = writer.changes()
        with made.attached(changes[seen:]):
            seqs = reader.execute(f"SELECT seq FROM {made.inserts}").fetchall()
        assert seqs == [(round_number,), (round_number + 100,)]
        seen = len(changes)


def test_changes_of_another_table_are_told_apart_by_the_table_in_use(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    with_both = "BEGIN; INSERT INTO other VALUES (1); DELETE FROM trades WHERE seq = 1; COMMIT"
    writer.insert(1)
    writer.connection.execute(with_both)
    assert len(writer.changes(TableId("main", "other"))) == 1
    assert len(writer.changes()) == 2


def test_an_update_to_null_and_back_comes_out_as_null_flags(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    writer.insert(*range(3))
    writer.connection.execute("UPDATE trades SET price = NULL WHERE seq = 0")
    writer.connection.execute("UPDATE trades SET price = NULL WHERE seq = 1")
    writer.connection.execute("UPDATE trades SET price = 7 WHERE seq = 1")
    made = Twin(reader, COLUMNS)
    with made.attached(writer.changes()) as decoded:
        assert decoded.updates >= {(3, 0)}
        flags = reader.execute(f"SELECT row_id, value IS NULL FROM {made.nulls(3)}").fetchall()
        last = reader.execute(f"SELECT last(value) FROM {made.values(3)} WHERE row_id = 1").fetchone()
    assert dict(flags) == {0: True, 1: False}
    assert last is not None
    assert last[0] == 7


def test_an_update_of_a_struct_comes_out_member_by_member(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    writer.insert(1)
    writer.connection.execute("UPDATE trades SET pair = {a: 5, b: 'z'}")
    made = Twin(reader, COLUMNS)
    with made.attached(writer.changes()) as decoded:
        assert decoded.columns == [7]
        members = [reader.execute(f"FROM {made.leaf((7, member))}").fetchall() for member in (1, 2)]
    assert members == [[(5, 0)], [("z", 0)]]


def test_what_no_column_has_is_not_understood_rather_than_misread(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:
    writer.insert(1)
    writer.connection.execute("UPDATE trades SET pair = {a: 5, b: 'z'}")
    made = Twin(reader, COLUMNS[:4])
    updates = [frame for frame in writer.changes() if frames.kind(frame) == frames.UPDATE]
    with pytest.raises(frames.NotUnderstood, match=r"column path \[7, "), made.attached(updates):
        pass


@given(st.binary(max_size=64))
def test_the_checksum_is_duckdbs(payload: bytes) -> None:
    """DuckDB refuses to replay a frame whose checksum is not its own."""
    assert frames.checksum(payload) == _checksum_word_by_word(payload)


def _checksum_word_by_word(payload: bytes) -> int:
    mask, m = (1 << 64) - 1, 0xC6A4A7935BD1E995
    result = 5381
    for at in range(0, len(payload) // 8 * 8, 8):
        result ^= int.from_bytes(payload[at : at + 8], "little") * 0xBF58476D1CE4E5B9 & mask
    rest = payload[len(payload) // 8 * 8 :]
    if rest:
        h = 0xE17A1465 ^ (len(rest) * m & mask)
        for index in reversed(range(len(rest))):
            h ^= rest[index] << 8 * index
        h = h * m & mask
        h = (h ^ h >> 47) * m & mask
        result ^= h ^ h >> 47
    return result


def test_every_frame_duckdb_wrote_has_the_checksum_computed_here(writer: Writer) -> None:
    writer.insert(*range(40))
    log = writer.path.with_name(writer.path.name + ".wal").read_bytes()
    header = parse_log_header(log)
    assert header is not None
    at = header.size
    for frame in frames.read_frames(log, header.size):
        assert frame == frames.make_frame(frame[frames.FRAME_HEADER.size :])
        at += len(frame)
    assert at == len(log)


@pytest.mark.parametrize("writer", ["latest"], indirect=True)
def test_what_fails_while_rows_are_read_is_told_and_not_that_they_are_read(
    writer: Writer, reader: duckdb.DuckDBPyConnection
) -> None:  # [R3]
    writer.insert_many(5_000)
    twin = Twin(reader, COLUMNS)
    read: list[pa.RecordBatchReader] = []

    def fail_while_reading() -> None:
        with twin.attached(writer.changes()):
            read.append(reader.sql(f"SELECT seq FROM {twin.inserts}").to_arrow_reader(1_000))
            read[0].read_next_batch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_reading()
    read.clear()
    with pytest.raises(duckdb.Error, match="already exists"):
        fail_while_reading()


@pytest.mark.parametrize("writer", ["latest"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("INSERT INTO trades (seq) VALUES (7)", pytest.raises(duckdb.Error, match="checksum")),
        ("UPDATE trades SET seq = 7", pytest.raises(frames.NotUnderstood, match="damaged")),
        ("DELETE FROM trades", pytest.raises(frames.NotUnderstood, match="damaged")),
    ],
)
def test_a_damaged_frame_is_not_taken_for_rows(
    writer: Writer,
    reader: duckdb.DuckDBPyConnection,
    statement: str,
    refusal: pytest.RaisesExc[Exception],
) -> None:  # [R12]
    writer.insert(1)
    before = len(writer.changes())
    writer.connection.execute(statement)
    twin = Twin(reader, COLUMNS)
    whole = writer.changes()[before]
    with twin.attached([whole]) as decoded:
        assert decoded.inserts or decoded.deletes or decoded.updates
    damaged = whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]
    with refusal, twin.attached([damaged]):
        pytest.fail("it was taken")
