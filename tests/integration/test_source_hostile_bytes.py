"""Bytes that are not ours end nothing, hang nothing, fill no memory: the log is not followed then. [S4]"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import duckdb
import pytest

from cdc.clock import SystemClock
from cdc.errors import SourceError
from cdc.source import open_source
from cdc.source.file import integrity, pinned
from cdc.source.file.integrity import check_file
from cdc.source.file.pin import Pinner
from cdc.source.format import frames
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.headers import HEADER_SIZE, checksum
from cdc.source.format.log import parse_log_header
from tests.support.writers import Writer

USE_TABLE = bytes((100, 0, frames.USE_TABLE))


def text_field(number: int, raw: bytes) -> bytes:
    return struct.pack("<H", number) + bytes([len(raw)]) + raw


@pytest.mark.parametrize(
    "payload",
    [
        text_field(101, b"main") + text_field(102, b"\xff\xfe") + b"\xff\xff",
        text_field(101, b"main") + text_field(102, b"t"),
        struct.pack("<H", 101) + b"\x80" * 1_000_000 + b"\1",
        struct.pack("<H", 101) + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        struct.pack("<HH", 103, 100) + b"\xff\xff\xff\xff\x7f",
        b"",
    ],
    ids=["no UTF-8", "no end", "an endless number", "a huge text", "a huge path", "nothing"],
)
def test_a_table_that_cannot_be_read_is_not_understood_at_once(payload: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(NotUnderstood):
        frames.used_table(frames.make_frame(USE_TABLE + payload))
    with pytest.raises(NotUnderstood):
        frames.inserted_columns(frames.make_frame(bytes((100, 0, frames.INSERT)) + b"e\0d\0" + payload[2:]))
    assert time.monotonic() - began < 5


def test_a_damaged_frame_is_not_parsed() -> None:
    payload = USE_TABLE + text_field(101, b"main") + text_field(102, b"t") + b"\xff\xff"
    frame = bytearray(frames.make_frame(payload))
    assert frames.used_table(bytes(frame)).name == "t"
    frame[-3] ^= 1
    with pytest.raises(NotUnderstood, match="damaged"):
        frames.used_table(bytes(frame))


def test_an_endless_number_in_a_logs_header_makes_it_none() -> None:
    assert parse_log_header(b"\x64\0" + b"\x80" * 500) is None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT i FROM range(1000) r(i)")
    return path


def with_header_field(path: Path, field: int, value: int) -> None:
    """Set a field of both headers, with the checksum that it then has."""
    raw = bytearray(path.read_bytes())
    for start in (HEADER_SIZE, 2 * HEADER_SIZE):
        struct.pack_into("<Q", raw, start + 8 * field, value)
        struct.pack_into("<Q", raw, start, checksum(bytes(raw[start + 8 : start + HEADER_SIZE])))
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [(4, 1 << 60), (5, 1 << 60), (5, 4), (3, 1 << 60 | 5)],
    ids=["count", "size", "small", "free"],
)
def test_a_header_that_claims_what_no_file_has_is_damage_found_at_once(
    file: Path, field: int, value: int
) -> None:
    with_header_field(file, field, value)
    began = time.monotonic()
    assert check_file(file).problems
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["t.db", "t.db.wal", "t.db.wal.checkpoint"])
def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(file: Path, name: str) -> None:
    fifo = file.with_name(name)
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    with pytest.raises(SourceError, match="not a regular file"):
        Pinner(file, SystemClock())
    if not name.endswith(".checkpoint"):
        with pytest.raises(SourceError, match="not a regular file"):
            check_file(file)


def test_a_log_that_its_writer_empties_during_the_check_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(tmp_path / "t.db") as writer:
        writer.run("CREATE TABLE t (i INTEGER)")
        writer.run("INSERT INTO t SELECT i FROM range(1000) r(i)")
        log = tmp_path / "t.db.wal"
        copy = tmp_path / "copy.wal"
        copy.write_bytes(log.read_bytes())

    def emptied(raw: bytes) -> object:
        os.truncate(copy, 0)
        return parse_log_header(raw)

    monkeypatch.setattr(integrity, "parse_log_header", emptied)
    assert integrity._check_log(copy, None).frames == 0


def test_a_sparse_log_is_not_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "t.db.wal"
    with log.open("wb") as file:
        file.write(b"\x64\0\x62\x65\0\2\xff\xff" + struct.pack("<QQ", 1 << 40, 0))
        file.truncate(1 << 31)
    checked = integrity._check_log(log, None)  # 2 GB of nothing, in pieces
    assert checked.frames == 0


def test_a_large_log_is_read_by_and_by_and_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned, "_IN_MEMORY_BYTES", 0)
    with Writer(tmp_path / "t.db") as writer:
        writer.run("CREATE TABLE t (i INTEGER)")
        writer.run("INSERT INTO t SELECT i FROM range(1000) r(i)")
        with open_source(tmp_path / "t.db") as source, source.snapshot() as snapshot:
            table = snapshot.relation(source.tables()[0].table)
            assert snapshot.single(f"SELECT count(*) FROM {table}") == 1000
