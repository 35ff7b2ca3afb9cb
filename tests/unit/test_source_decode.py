"""Frames of the log decoded directly, with DuckDB as the judge: it replays the same frames. [F2 F6]

CDC_DECODE_SEEDS asks for more random logs than the 4 of every run for each storage version.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from cdc.change import TableId
from cdc.source.file.session import Session, SessionLimits
from cdc.source.format import decode as decode_module
from cdc.source.format import frames
from cdc.source.format.decode import _MANY, FrameDecoder
from cdc.source.format.frames import make_frame
from cdc.source.format.layouts import NotDecodable
from tests.support.logged import (
    VALUES,
    Judged,
    changes_in,
    columns_of,
    create,
    insert,
    log_of,
    random_statements,
    random_types,
    random_value,
)

pytestmark = pytest.mark.long


SEEDS = range(int(os.environ.get("CDC_DECODE_SEEDS", "4")))
STORAGE = ("v1.0.0", "v1.2.0", "v1.4.0", "v1.5.0", "latest")
T = TableId("main", "t")


@pytest.fixture(scope="module")
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    session = Session(SessionLimits(threads=1))
    with session.cursor() as made:
        yield made
    session.close()


def written(
    path: Path, storage: str, tables: dict[str, list[str]], *statements: str, threads: int = 1
) -> bytes:
    """The log of a file in this storage version after these statements."""
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.execute(f"ATTACH '{path}' AS w (STORAGE_VERSION '{storage}'); USE w")
        connection.execute("PRAGMA disable_checkpoint_on_shutdown; SET checkpoint_threshold = '1TB'")
        for table, types in tables.items():
            connection.execute(create(table, types))
        connection.execute("CHECKPOINT")
        for statement in statements:
            connection.execute(statement)
        return log_of(path)


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_frames_are_read_as_duckdb_reads_them(
    seed: int,
    storage: str,
    tmp_path: Path,
    cursor: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One by one, and many at once."""
    rng = random.Random(seed)
    tables = {"t": random_types(rng), "u": random_types(rng)}
    log = written(tmp_path / "w.db", storage, tables, *random_statements(rng, tables, 30))
    for table, types in tables.items():
        judged = Judged(cursor, columns_of(types))
        changes = changes_in(log, TableId("main", table))
        assert len(changes) > 3
        assert judged.difference(changes) is None, types
        monkeypatch.setattr(decode_module, "_MANY", 1)
        assert judged.difference(changes) is None, types
        for alike in by_size(changes):
            assert judged.difference(alike) is None, types
        monkeypatch.undo()
        assert [judged.difference([frame]) for frame in changes] == [None] * len(changes), types


def by_size(changes: list[bytes]) -> list[list[bytes]]:
    """Inserts of the same number of rows: those that are laid out alike, but for NULL."""
    found: dict[int, list[bytes]] = {}
    for frame in changes:
        if frames.kind(frame) == frames.INSERT:
            found.setdefault(frames.inserted_rows(frame), []).append(frame)
    return list(found.values())


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("rows", [1, 3, 64, 70])
def test_many_frames_of_few_rows_are_read_at_once_as_duckdb_reads_them(
    rows: int, storage: str, tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    rng = random.Random(rows)
    types = list(VALUES)
    inserts = [insert(rng, "t", types, n * rows, rows) for n in range(2 * _MANY)]
    updates = [f"UPDATE t SET c{n % len(types)} = NULL WHERE id = {n}" for n in range(2 * _MANY)]
    updates += [f"UPDATE t SET c17 = {random_value(rng, types[17])} WHERE id = {n}" for n in range(2 * _MANY)]
    deletes = [f"DELETE FROM t WHERE id = {n}" for n in range(_MANY)]
    changes = changes_in(
        written(tmp_path / "w.db", storage, {"t": types}, "BEGIN", *inserts, "COMMIT", *updates, *deletes), T
    )
    assert Judged(cursor, columns_of(types)).difference(changes) is None


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("kind", VALUES)
def test_every_value_of_every_type_is_read_as_duckdb_reads_it(
    kind: str, storage: str, tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    each = [f"({n}, CAST({value} AS {kind}))" for n, value in enumerate((*VALUES[kind], "NULL"))]
    changes = changes_in(
        written(
            tmp_path / "w.db",
            storage,
            {"t": [kind]},
            f"INSERT INTO t VALUES {', '.join(each)}",
            *(f"INSERT INTO t VALUES {value}" for value in each),
            f"UPDATE t SET c0 = CAST({VALUES[kind][-1]} AS {kind})",
            "UPDATE t SET c0 = NULL",
            f"UPDATE t SET c0 = CAST({VALUES[kind][0]} AS {kind}) WHERE id < 3",
        ),
        T,
    )
    judged = Judged(cursor, columns_of([kind]))
    assert judged.difference(changes) is None


@pytest.mark.parametrize("storage", ["v1.4.0", "latest"])
def test_constant_and_dictionary_vectors_are_read_as_duckdb_reads_them(
    storage: str, tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    """DuckDB writes them where one transaction holds a bulk load, of which a rest is left, and an insert."""
    types = ["INTEGER", "VARCHAR", "VARCHAR", "UUID", "DECIMAL(18,6)"]
    values = "7, 'x' || i % 3, CASE WHEN i % 5 > 0 THEN 'y' || i % 9 END, NULL, i % 2"
    changes: list[bytes] = []
    for attempt in range(20):  # it depends on how threads share the rows
        log = written(
            tmp_path / f"{attempt}.db",
            storage,
            {"stock": types, "t": types},
            f"INSERT INTO stock SELECT i, {values} FROM range(250000) r(i)",
            "CHECKPOINT",
            "BEGIN",
            "INSERT INTO t SELECT * FROM stock",
            "INSERT INTO t SELECT * FROM stock WHERE id < 20000",
            "COMMIT",
            threads=4,
        )
        if changes := changes_in(log, T):
            break
    compressed = [b"Z\0" + bytes((way,)) for way in (2, 3)]  # field 90
    assert all(any(way in frame for frame in changes) for way in compressed)
    judged = Judged(cursor, columns_of(types))
    assert judged.difference(changes) is None


@pytest.mark.parametrize(("start", "step"), [(0, 1), (-5, 7), (1 << 40, -3), (-1, 0)])
def test_sequence_vectors_are_read_as_duckdb_reads_them(
    start: int, step: int, tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    log = written(tmp_path / "w.db", "latest", {"t": []}, "INSERT INTO t SELECT i FROM range(9) r(i)")
    [frame] = changes_in(log, T)
    values = b"d\0\0f\0" + bytes([72])
    payload = frame[frames.FRAME_HEADER.size :]
    at = payload.index(values)
    sequence = b"Z\0\4[\0" + signed(start) + b"\\\0" + signed(step)
    changed = make_frame(payload[:at] + sequence + payload[at + len(values) + 72 :])
    judged = Judged(cursor, columns_of([]))
    assert judged.difference([changed]) is None
    [read] = judged.decoder.inserts([changed])
    assert read.to_pylist() == [start + step * n for n in range(9)]


def signed(value: int) -> bytes:
    """As BinarySerializer writes it."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def test_frames_of_different_storage_versions_are_decoded_together(
    tmp_path: Path, cursor: duckdb.DuckDBPyConnection
) -> None:
    """A writer of another version may go on in the log of the one before."""
    types = list(VALUES)
    changes: list[bytes] = []
    for number, storage in enumerate(("v1.2.0", "latest")):
        rng = random.Random(number)
        statements = [insert(rng, "t", types, first, rows) for first, rows in ((0, 1), (1, 70), (71, 1))]
        changes += changes_in(written(tmp_path / f"{number}.db", storage, {"t": types}, *statements), T)
    judged = Judged(cursor, columns_of(types))
    assert judged.difference(changes) is None


@pytest.mark.parametrize(
    "kind",
    ["INTEGER[]", "STRUCT(a INTEGER)", "INTERVAL", "BIT", "MAP(VARCHAR, INTEGER)", "INTEGER[3]", "BIGNUM"],
)
def test_a_table_with_another_type_is_not_decodable(kind: str) -> None:
    with pytest.raises(NotDecodable, match="of the type"):
        FrameDecoder(["BIGINT", kind])


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("INTEGER", "UINTEGER"),
        ("DATE", "INTEGER"),
        ("DECIMAL(18,6)", "DECIMAL(18,5)"),
        ("ENUM('a', 'b')", "ENUM('b', 'a')"),
        ("VARCHAR", "BLOB"),
    ],
)
def test_a_frame_of_other_columns_is_not_decodable(kind: str, other: str, tmp_path: Path) -> None:
    log = written(tmp_path / "w.db", "latest", {"t": [kind]}, "INSERT INTO t VALUES (1, NULL)")
    frame = changes_in(log, T)
    FrameDecoder(["BIGINT", kind]).inserts(frame)
    for types in (["BIGINT", other], ["BIGINT"], ["BIGINT", kind, kind]):
        with pytest.raises(NotDecodable):
            FrameDecoder(types).inserts(frame)


@pytest.mark.parametrize("storage", ["v1.2.0", "latest"])
def test_of_damaged_frames_nothing_comes_but_that_they_are_not_decodable(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their checksums are made to fit: it is the layout that must be found wrong, or the values be values."""
    rng = random.Random(storage)
    types = list(VALUES)
    statements = [insert(rng, "t", types, first, rows) for first, rows in ((0, 1), (1, 3), (4, 70))]
    statements += [f"UPDATE t SET c{n} = NULL" for n in range(len(types))]
    statements += [f"UPDATE t SET c{types.index('VARCHAR')} = 'ä' || id", "DELETE FROM t WHERE id % 2 = 0"]
    changes = changes_in(written(tmp_path / "w.db", storage, {"t": types}, *statements), T)
    decoder = FrameDecoder(["BIGINT", *types])
    refused = 0
    for number in range(4_000):
        monkeypatch.setattr(decode_module, "_MANY", 1 + number % 2)
        good = rng.choice(changes)
        frame = make_frame(damaged(rng, good[frames.FRAME_HEADER.size :]))
        try:
            found = decoder.changes([good, frame] if number % 2 else [frame])
        except NotDecodable:
            refused += 1
            continue
        for array in (*found.inserts, *(updated.values for updated in found.updates.values())):
            structured = pa.types.is_string(array.type) or pa.types.is_dictionary(array.type)
            array.validate(full=structured)  # a number may be past what its type allows, as in DuckDB
    assert refused > 1_000


def damaged(rng: random.Random, payload: bytes) -> bytes:
    at = rng.randrange(len(payload))
    match rng.randrange(4):
        case 0:
            return payload[:at]
        case 1:
            return payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]
        case 2:
            return payload[:at] + rng.randbytes(rng.randint(1, 9)) + payload[at:]
        case _:
            return payload[:at] + payload[at + rng.randint(1, 9) :]


def test_a_frame_whose_checksum_does_not_fit_is_not_decodable(tmp_path: Path) -> None:
    [frame] = changes_in(written(tmp_path / "w.db", "latest", {"t": []}, "INSERT INTO t VALUES (1)"), T)
    decoder = FrameDecoder(["BIGINT"])
    assert decoder.changes([frame]).inserts[0].to_pylist() == [1]
    at = frame.index(b"d\0\0f\0") + 6
    with pytest.raises(NotDecodable, match="damaged"):
        decoder.changes([frame[:at] + b"\2" + frame[at + 1 :]])
