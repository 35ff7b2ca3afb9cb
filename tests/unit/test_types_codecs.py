"""Every DuckDB type through its codec and back, as each release of ClickHouse gets it [F7]."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from cdc.change import Column
from cdc.errors import Meaning, TargetError
from cdc.target.native import Reader
from cdc.target.types import column_codec
from cdc.target.types.storage import bare
from cdc.target.types.table import EXAMPLES, markdown, rules
from cdc.target.version import ServerVersion
from tests.support.duckdb_values import VALUES, duckdb_source, exactly, selected

SCALARS = [
    kind
    for kind in VALUES
    if not kind.startswith(("ENUM", "STRUCT", "TUPLE", "MAP", "UNION")) and not kind.endswith("]")
]
RELEASES = ("18.16.1", "20.3.1", "21.8.1", "24.8.4", "26.9.2")


@pytest.fixture(scope="module")
def source() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb_source() as connection:
        yield connection


@pytest.mark.parametrize("nullable", [True, False], ids=["nullable", "not-null"])
@pytest.mark.parametrize("kind", VALUES)
def test_what_is_decoded_is_what_duckdb_gave(
    source: duckdb.DuckDBPyConnection, kind: str, nullable: bool
) -> None:
    column, array = selected(source, kind, VALUES[kind], nullable=nullable)
    for release in RELEASES:
        codec = column_codec(column, ServerVersion.parse(release))
        assert codec.arrow_type == array.type
        for part in (array, array.slice(1), array.slice(0, 1), array.slice(0, 0)):
            assert codec.rejects(part) == ()
            reader = Reader(b"".join(codec.encode(part)) if len(part) else b"")
            decoded = codec.decode(reader, len(part))
            assert exactly(decoded).equals(exactly(part)), release
            assert reader.ended


@pytest.mark.parametrize("kind", SCALARS)
def test_what_lies_under_a_null_does_not_reach_the_block(
    source: duckdb.DuckDBPyConnection, kind: str
) -> None:
    column, array = selected(source, kind, VALUES[kind], nullable=False)
    values = bare(array)
    hidden = pa.Array.from_buffers(values.type, len(array), [pa.py_buffer(bytes(64)), *values.buffers()[1:]])
    codec = column_codec(Column("v", column.type), ServerVersion(26, 9))
    assert codec.encode(hidden) == codec.encode(pa.nulls(len(array), values.type))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("VARIANT", "no type for VARIANT"),
        ('"NULL"', "no type for NULL"),
        ("STRUCT(a VARIANT)[]", "no type for VARIANT"),
        ('STRUCT("null" INTEGER)', "cannot be named null"),
        ("STRUCT(", "is not a DuckDB type"),
    ],
)
def test_a_column_that_clickhouse_cannot_hold_is_refused_by_name(kind: str, problem: str) -> None:
    with pytest.raises(TargetError, match=problem) as raised:
        column_codec(Column("extra", kind), ServerVersion(26, 9))
    assert raised.value.meaning is Meaning.STOP
    assert "'extra'" in str(raised.value)


def test_null_in_a_column_that_is_not_null_is_rejected() -> None:
    codec = column_codec(Column("v", "BIGINT", nullable=False), ServerVersion(26, 9))
    (rejected,) = codec.rejects(pa.array([1, None, 3], pa.int64()))
    assert rejected.rows.tolist() == [False, True, False]
    assert "NOT NULL" in rejected.reason


@pytest.mark.parametrize("labels", [255, 256, 257, 65_535, 65_536])
def test_an_enum_of_any_size_keeps_its_labels(source: duckdb.DuckDBPyConnection, labels: int) -> None:
    kind = "ENUM(" + ", ".join(f"'{label}'" for label in range(labels)) + ")"
    column, array = selected(source, kind, ("'0'", f"'{labels - 1}'"), nullable=True)
    for nullable in (True, False):
        codec = column_codec(Column("v", column.type, nullable), ServerVersion(26, 9))
        part = array if nullable else array.drop_null()
        decoded = codec.decode(Reader(b"".join(codec.encode(part))), len(part))
        assert decoded.equals(part)


def test_a_megabyte_in_one_string_is_nothing_special(source: duckdb.DuckDBPyConnection) -> None:
    column, array = selected(source, "VARCHAR", ("repeat('🦆', 262144)", "'x'"), nullable=True)
    codec = column_codec(column, ServerVersion(26, 9))
    assert codec.decode(Reader(b"".join(codec.encode(array))), len(array)).equals(array)


@pytest.mark.parametrize(
    ("kind", "usual", "other"),
    [
        ("VARCHAR", pa.array(["", None, "a\0b", "🦆", "x" * 200]), pa.large_string()),
        ("VARCHAR", pa.array(["", None, "a\0b", "🦆", "x" * 200]), pa.string_view()),
        ("BLOB", pa.array([b"", None, b"\xff"]), pa.large_binary()),
        ("BOOLEAN", pa.array([1, None, 0], pa.int8()), pa.bool_()),
        ("BIGINT", pa.array([1, None, -5], pa.int64()), pa.int16()),
        ("DECIMAL(9,2)", pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)), pa.decimal32(9, 2)),
        ("INTEGER[]", pa.array([[1], None, []], pa.list_(pa.int32())), pa.large_list(pa.int32())),
    ],
)
def test_another_layout_of_the_same_values_gives_the_same_bytes(
    kind: str, usual: pa.Array, other: pa.DataType
) -> None:
    codec = column_codec(Column("v", kind), ServerVersion(26, 9))
    assert codec.encode(usual.cast(other)) == codec.encode(usual)


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("UUID", pa.array(["00112233-4455-6677-8899-aabbccddeeff"])),
        ("HUGEINT", pa.array([1.5])),
        ("TIMESTAMP", pa.array([1], pa.timestamp("ns"))),
        ("INTEGER", pa.array([2**31], pa.int64())),
        ("STRUCT(a INTEGER)", pa.array([[1]])),
    ],
)
def test_values_of_another_type_are_refused_never_reinterpreted(kind: str, array: pa.Array) -> None:
    codec = column_codec(Column("other", kind), ServerVersion(26, 9))
    with pytest.raises(TargetError, match="'other'") as raised:
        codec.encode(array)
    assert raised.value.meaning is Meaning.STOP


def test_a_number_longer_than_pythons_own_limit_is_kept(source: duckdb.DuckDBPyConnection) -> None:
    column, array = selected(source, "BIGNUM", (f"'-{'7' * 5000}'",), nullable=True)
    codec = column_codec(column, ServerVersion(26, 9))
    assert codec.decode(Reader(b"".join(codec.encode(array))), len(array)).equals(array)


def test_the_table_for_people_has_every_type_in_it() -> None:
    for server in (ServerVersion(18, 16, 1), ServerVersion(26, 9)):
        assert [rule.duckdb for rule in rules(server)] == list(EXAMPLES)
        assert markdown(server).count("\n") == len(EXAMPLES) + 1


def test_the_table_says_what_is_refused_and_how_values_are_kept() -> None:
    table = {rule.duckdb: rule for rule in rules(ServerVersion(18, 16, 1))}
    assert table["VARIANT"].clickhouse == "refused"
    assert table["TIMESTAMP_NS"].nullable == "Nullable(Int64)"
    assert table["TIMESTAMP_NS"].note.startswith("nanoseconds since 1970")
