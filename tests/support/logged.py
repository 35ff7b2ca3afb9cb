"""What stands in a log, frame by frame, and tables of random columns and values for a writer to fill."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import duckdb

from cdc.change import Column, TableId
from cdc.source.format import frames
from cdc.source.format.decode import FrameDecoder
from cdc.source.format.log import parse_log_header
from cdc.source.quote import identifier
from cdc.source.tail.judge import difference
from cdc.source.tail.twin import Twin

CHANGES = (frames.INSERT, frames.DELETE, frames.UPDATE)
TEXTS = ("''", "'a'", "'äöü€'", "'👍'", "repeat('x', 200)", "repeat('long', 5000)", "chr(1) || 'b'")
ENUM = "ENUM('NEW', 'FILLED', 'äö', '')"
_MOMENTS = ("'1970-01-01 00:00:00'", "'2026-01-02 03:04:05.678901'", "'1905-12-31 23:59:59'", "'2200-01-01'")

VALUES: dict[str, tuple[str, ...]] = {
    "BOOLEAN": ("TRUE", "FALSE"),
    "TINYINT": ("0", "-128", "127"),
    "SMALLINT": ("0", "-32768", "32767"),
    "INTEGER": ("0", "-2147483648", "2147483647", "1000"),
    "BIGINT": ("0", "-9223372036854775808", "9223372036854775807", "65"),
    "HUGEINT": ("0", "-1", f"'{-(1 << 127)}'", f"'{(1 << 127) - 1}'"),
    "UTINYINT": ("0", "255"),
    "USMALLINT": ("0", "65535"),
    "UINTEGER": ("0", "4294967295"),
    "UBIGINT": ("0", "18446744073709551615"),
    "UHUGEINT": ("0", "'340282366920938463463374607431768211455'"),
    "FLOAT": ("0", "-0.0", "1.5", "'nan'", "'-inf'"),
    "DOUBLE": ("0", "-0.0", "1e300", "'nan'", "'inf'"),
    "DECIMAL(4,1)": ("0", "-999.9", "12.3"),
    "DECIMAL(9,2)": ("0", "-9999999.99", "0.01"),
    "DECIMAL(18,6)": ("0", "-999999999999.999999", "1.5"),
    "DECIMAL(38,10)": ("0", "-9999999999999999999999999999.9999999999", "0.0000000001"),
    "DECIMAL(12,0)": ("0", "-999999999999"),
    "DATE": ("'1970-01-01'", "'0001-01-01'", "'9999-12-31'", "'infinity'"),
    "TIME": ("'00:00:00'", "'23:59:59.999999'"),
    "TIMESTAMP_S": _MOMENTS,
    "TIMESTAMP_MS": _MOMENTS,
    "TIMESTAMP": (*_MOMENTS, "'infinity'"),
    "TIMESTAMP_NS": _MOMENTS,
    "TIMESTAMP WITH TIME ZONE": tuple(f"{moment[:-1]}+00'" for moment in _MOMENTS[:3]),
    "UUID": ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "uuid()"),
    "VARCHAR": TEXTS,
    "BLOB": ("''::BLOB", r"'\x00\xFF\x80'::BLOB", "repeat('b', 300)::BLOB"),
    ENUM: ("'NEW'", "'FILLED'", "'äö'", "''"),
}
"""Types that are decoded, and values of each, as SQL."""


def changes_in(log: bytes, table: TableId) -> list[bytes]:
    """The INSERT, DELETE and UPDATE frames of `table` in a log, in order, committed or not."""
    header = parse_log_header(log)
    assert header is not None
    used, found = None, []
    for frame in frames.read_frames(log, header.size):
        if frames.kind(frame) == frames.USE_TABLE:
            used = frames.used_table(frame)
        elif frames.kind(frame) in CHANGES and used == table:
            found.append(frame)
    return found


def log_of(path: Path) -> bytes:
    return path.with_name(path.name + ".wal").read_bytes()


def random_types(rng: random.Random, kinds: Sequence[str] = tuple(VALUES), most: int = 10) -> list[str]:
    return [rng.choice(kinds) for _ in range(rng.randint(1, most))]


def random_value(rng: random.Random, kind: str, nulls: float = 0.25) -> str:
    """A value of the type, as SQL; NULL as often as `nulls` says."""
    if rng.random() < nulls:
        return f"NULL::{kind}"
    return f"CAST({rng.choice(VALUES[kind])} AS {kind})"


def random_statements(rng: random.Random, tables: dict[str, list[str]], count: int) -> list[str]:
    """Statements that insert, update and delete, some of them within transactions over several of `tables`,
    which have an `id` and columns `c0`, `c1` and so on of these types."""
    made: list[str] = []
    last = dict.fromkeys(tables, 0)
    open_ = False
    for _ in range(count):
        if rng.random() < 0.4:
            made.append("COMMIT" if open_ else "BEGIN")
            open_ = not open_
        table = rng.choice(list(tables))
        types, chosen = tables[table], rng.random()
        if chosen < 0.55:
            rows = rng.choice((1, 1, 1, 2, 5, 63, 64, 65, 300, 2100))
            made.append(insert(rng, table, types, last[table], rows))
            last[table] += rows
        elif chosen < 0.85:
            some = rng.sample(range(len(types)), rng.randint(1, min(3, len(types))))
            sets = ", ".join(f"c{n} = {random_value(rng, types[n])}" for n in some)
            made.append(f"UPDATE {table} SET {sets} WHERE id % {rng.randint(1, 9)} = {rng.randint(0, 4)}")
        else:
            made.append(f"DELETE FROM {table} WHERE id % {rng.randint(5, 20)} = {rng.randint(0, 9)}")
    return [*made, "COMMIT"] if open_ else made


def insert(rng: random.Random, table: str, types: list[str], first: int, rows: int) -> str:
    """An INSERT of `rows` rows, with ids from `first` on."""
    listed = ", ".join(["i", *(_expression(rng, kind) for kind in types)])
    return f"INSERT INTO {table} SELECT {listed} FROM range({first}, {first + rows}) r(i)"


def _expression(rng: random.Random, kind: str) -> str:
    if rng.random() < 0.3:
        return random_value(rng, kind)
    some = [random_value(rng, kind) for _ in range(rng.randint(1, 4))]
    cases = " ".join(f"WHEN i % {len(some)} = {n} THEN {value}" for n, value in enumerate(some))
    return f"CASE {cases} END"


def columns_of(types: list[str]) -> tuple[Column, ...]:
    """The columns of such a table."""
    return (Column("id", "BIGINT"), *(Column(f"c{n}", kind) for n, kind in enumerate(types)))


def create(table: str, types: list[str]) -> str:
    return (
        f"CREATE TABLE {table} ({', '.join(f'{column.name} {column.type}' for column in columns_of(types))})"
    )


class Judged:
    """Frames of a table, decoded by us and by DuckDB."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.decoder = self.decoder_of(columns)
        self._cursor = cursor
        self._twin = Twin(cursor, columns)

    @staticmethod
    def decoder_of(columns: Sequence[Column]) -> FrameDecoder:
        return FrameDecoder([column.type for column in columns])

    def difference(self, changes: Sequence[bytes]) -> str | None:
        """What we read otherwise than DuckDB does; None: nothing."""
        read = self.decoder.changes(changes)
        names = [identifier(column.name) for column in self.columns]
        with self._twin.attached(changes) as decoded:
            return difference(read, decoded, self._twin, names, self._cursor)
