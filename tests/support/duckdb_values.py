"""Every DuckDB type with the values at its edges, and how DuckDB hands them over as Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from cdc.change import Column

LOSSLESS = (
    "SET TimeZone = 'UTC'",
    "SET arrow_lossless_conversion = true",
    "SET produce_arrow_string_view = false",
)
"""The settings of every source connection."""

VALUES: dict[str, tuple[str, ...]] = {
    "BOOLEAN": ("true", "false"),
    "TINYINT": ("-128", "0", "127"),
    "SMALLINT": ("-32768", "32767"),
    "INTEGER": ("-2147483648", "2147483647"),
    "BIGINT": ("-9223372036854775808", "9223372036854775807"),
    "HUGEINT": (
        "'-170141183460469231731687303715884105728'",
        "'-18446744073709551616'",
        "-1",
        "0",
        "'170141183460469231731687303715884105727'",
    ),
    "UTINYINT": ("0", "255"),
    "USMALLINT": ("65535",),
    "UINTEGER": ("4294967295",),
    "UBIGINT": ("18446744073709551615",),
    "UHUGEINT": ("0", "'340282366920938463463374607431768211455'"),
    "BIGNUM": ("'0'", "'1'", "'-1'", "'255'", "'-256'", f"'-{'1234567890' * 60}'"),
    "FLOAT": ("'nan'", "'inf'", "'-inf'", "-0.0", "1e-45", "3.4028235e38"),
    "DOUBLE": ("'nan'", "'inf'", "'-inf'", "-0.0", "5e-324", "0.1"),
    "DECIMAL(4,1)": ("-999.9", "1.5"),
    "DECIMAL(9,3)": ("-999999.999", "0.001"),
    "DECIMAL(18,6)": ("-999999999999.999999", "1"),
    "DECIMAL(38,10)": ("'-9999999999999999999999999999.9999999999'", "1"),
    "DECIMAL(38,38)": ("'0.99999999999999999999999999999999999999'",),
    "VARCHAR": ("''", "'a' || chr(0) || 'b'", "'é🦆'", "repeat('x', 127)", "repeat('y', 128)"),
    "BLOB": ("''::BLOB", "'\\x00\\xFF'::BLOB"),
    "BIT": ("'1'", "'101'", "'00000000'", "'111111110'"),
    "JSON": ("""'{"b": 1,  "a": 1.0, "b": 2}'""", "'null'"),
    "UUID": ("'00112233-4455-6677-8899-aabbccddeeff'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "ENUM('a', 'it''s', '')": ("'it''s'", "'a'", "''"),
    "DATE": ("'1970-01-01'", "'2105-12-31'", "'2024-02-29'"),
    "TIME": ("'00:00:00'", "'12:34:56.789012'", "'24:00:00'"),
    "TIME_NS": ("'00:00:00'", "'12:34:56.789012345'"),
    "TIME WITH TIME ZONE": ("'12:34:56.789012+02:30:15'", "'24:00:00-15:59:59'", "'00:00:00+15:59:59'"),
    "TIMESTAMP_S": ("'1970-01-01'", "'2105-12-31 23:59:59'"),
    "TIMESTAMP_MS": ("'1970-01-01'", "'2105-12-31 23:59:59.999'"),
    "TIMESTAMP": ("'1970-01-01'", "'2105-12-31 23:59:59.999999'"),
    "TIMESTAMP_NS": ("'1970-01-01'", "'2105-12-31 23:59:59.999999999'"),
    "TIMESTAMP WITH TIME ZONE": ("'2024-06-30 23:59:59.999999+02'",),
    "TIMESTAMPTZ_NS": ("'2024-06-30 23:59:59.999999999'",),
    "INTERVAL": ("'14 months 3 days 00:00:00.000001'", "'-1 month -5 microseconds'"),
    "INTEGER[]": ("[]", "[1, NULL, 3]", "[NULL]"),
    "VARCHAR[][]": ("[]", "[[], NULL, ['a', NULL, '']]"),
    "INTEGER[3]": ("[1, 2, 3]", "[NULL, NULL, NULL]"),
    'STRUCT(a INTEGER, "b c" VARCHAR)': ("{'a': 1, 'b c': 'x'}", "{'a': NULL, 'b c': NULL}"),
    "TUPLE(INTEGER, VARCHAR)": ("row(1, 'x')", "row(NULL, NULL)"),
    "MAP(VARCHAR, INTEGER)": ("MAP {'a': 1, 'b': NULL}", "MAP {}"),
    "MAP(DOUBLE, VARCHAR[])": ("MAP {1.5: ['x', NULL]}", "MAP {2.5: NULL}", "MAP {}"),
    "MAP(INTEGER[], UUID)": ("MAP {[1]: '00112233-4455-6677-8899-aabbccddeeff'}",),
    "UNION(k INTEGER, tag VARCHAR)": ("union_value(tag := 'x')", "union_value(k := 1)"),
    "GEOMETRY": ("'POINT (1 2)'",),
    "ENUM('a', 'b')[]": ("['b', NULL, 'a']", "[]"),
    "UUID[2]": ("['00112233-4455-6677-8899-aabbccddeeff', NULL]",),
    "HUGEINT[]": ("[1, NULL]",),
    "BIGNUM[]": ("['-1', NULL]",),
    "BIT[]": ("['10', NULL, '1']",),
    "BOOLEAN[]": ("[true, NULL]",),
    "DATE[]": ("['2024-02-29', NULL]",),
    "INTERVAL[]": ("[INTERVAL 1 DAY, NULL]",),
    "TIME WITH TIME ZONE[]": ("['12:00:00+01', NULL]", "[]"),
    "UNION(k INTEGER, l VARCHAR[])[]": ("[union_value(k := 1)::UNION(k INTEGER, l VARCHAR[])]",),
    "STRUCT(e ENUM('a', 'b'), l STRUCT(x HUGEINT, y DECIMAL(5,2)[])[], m MAP(VARCHAR, STRUCT(q UUID)))": (
        """{'e': 'a', 'l': [{'x': 1, 'y': [1.5, NULL]}, NULL],
            'm': MAP {'k': {'q': '00112233-4455-6677-8899-aabbccddeeff'}, 'n': NULL}}""",
        "{'e': NULL, 'l': NULL, 'm': NULL}",
    ),
}
"""Type → SQL of values that every supported server holds."""


@contextmanager
def duckdb_source() -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database, set up as sources are."""
    with duckdb.connect() as connection:
        for statement in LOSSLESS:
            connection.execute(statement).fetchall()
        yield connection


def selected(
    connection: duckdb.DuckDBPyConnection, kind: str, values: tuple[str, ...], *, nullable: bool
) -> tuple[Column, pa.Array]:
    """`values` of type `kind`, with a NULL between any two where `nullable`, as a SELECT returns them."""
    rows = [f"({value})" for value in values]
    if nullable:
        rows = [row for value in rows for row in (value, "(NULL)")]
    connection.execute(f"CREATE OR REPLACE TABLE edge (v {kind})").fetchall()
    connection.execute(f"INSERT INTO edge VALUES {', '.join(rows)}").fetchall()
    ((spelled,),) = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE table_name = 'edge'"
    ).fetchall()
    array = connection.sql("SELECT v FROM edge").to_arrow_table().column(0).chunk(0)
    return Column("v", spelled, nullable), array


def exactly(array: pa.Array) -> pa.Array:
    """`array` in a form whose equality is that of its bits: NaN equals itself, and 0.0 is not -0.0."""
    if pa.types.is_floating(array.type):
        return array.view(pa.int32() if array.type == pa.float32() else pa.int64())
    return array
