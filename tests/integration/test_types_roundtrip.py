"""Values through real servers and back, bit for bit: DuckDB, Arrow, Native, ClickHouse, and back [F7]."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.change import Column
from cdc.config.endpoint import parse_endpoint
from cdc.target.native import encode_block
from cdc.target.options import TargetOptions
from cdc.target.quote import canonical_type, quote_identifier
from cdc.target.transport import Transport, new_transport
from cdc.target.types import ColumnCodec, column_codec
from cdc.target.version import ServerVersion
from tests.support.clickhouse import ClickHouseServer
from tests.support.duckdb_values import VALUES, duckdb_source, exactly, selected
from tests.support.modern.fixture import ModernServer
from tests.support.places import Place

TEXT = Column("text", "VARCHAR", nullable=False)


@dataclass
class Loop:
    """The way into a server and back out of it."""

    transport: Transport
    source: duckdb.DuckDBPyConnection
    version: ServerVersion = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.transport.version()

    def store(self, codecs: list[ColumnCodec], arrays: list[pa.Array]) -> None:
        """A new table, with `arrays` in it."""
        columns = ", ".join(f"{quote_identifier(codec.name)} {codec.clickhouse_type}" for codec in codecs)
        order = "_order UInt8 DEFAULT 0"  # not every type can be a key
        self.transport.execute("DROP TABLE IF EXISTS loop")
        self.transport.execute(f"CREATE TABLE loop ({order}, {columns}) ENGINE = MergeTree ORDER BY _order")
        names = ", ".join(quote_identifier(codec.name) for codec in codecs)
        block = encode_block(codecs, arrays, len(arrays[0]))
        self.transport.insert(f"INSERT INTO loop ({names})", block, {})

    def load(self, codecs: list[ColumnCodec]) -> pa.Table:
        names = ", ".join(quote_identifier(codec.name) for codec in codecs)
        return pa.Table.from_batches(self.transport.query(f"SELECT {names} FROM loop", codecs))

    def texts(self, expression: str) -> list[str]:
        """What the server itself makes of the values."""
        codec = column_codec(TEXT, self.version)
        found = self.transport.query(f"SELECT {expression} AS text FROM loop", [codec])
        return [text for batch in found for text in batch.column(0).to_pylist()]


@pytest.fixture(scope="module")
def source() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb_source() as connection:
        yield connection


@pytest.fixture(params=["clickhouse_server", "modern_server"], ids=["18.16", "26.9"])
def loop(request: pytest.FixtureRequest, source: duckdb.DuckDBPyConnection) -> Iterator[Loop]:
    server: ClickHouseServer | ModernServer = request.getfixturevalue(request.param)
    with closing(_http(server)) as transport:
        yield Loop(transport, source)


@pytest.fixture
def modern(modern_server: ModernServer, source: duckdb.DuckDBPyConnection) -> Iterator[Loop]:
    with closing(_http(modern_server)) as transport:
        yield Loop(transport, source)


def _http(server: ClickHouseServer | ModernServer) -> Transport:
    return new_transport(parse_endpoint(f"http://127.0.0.1:{server.http_port}"), TargetOptions())


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_comes_back_exactly_as_it_was(loop: Loop, kind: str) -> None:
    for nullable in (True, False):
        column, array = selected(loop.source, kind, VALUES[kind], nullable=nullable)
        codec = column_codec(column, loop.version)
        assert codec.rejects(array) == ()
        loop.store([codec], [array])
        (found,) = loop.load([codec]).column(0).chunks
        assert exactly(found).equals(exactly(array))


@pytest.mark.parametrize("kind", VALUES)
def test_the_server_spells_the_type_as_the_codec_does(loop: Loop, kind: str) -> None:
    for nullable in (True, False):
        codec = column_codec(Column("v", kind, nullable), loop.version)
        loop.store([codec], [pa.nulls(0, codec.arrow_type)])
        text = column_codec(TEXT, loop.version)
        ours = "database = currentDatabase() AND table = 'loop' AND name = 'v'"
        query = f"SELECT type AS text FROM system.columns WHERE {ours}"
        (spelled,) = pa.Table.from_batches(loop.transport.query(query, [text])).column(0).to_pylist()
        assert canonical_type(spelled) == canonical_type(codec.clickhouse_type)


def test_a_megabyte_in_one_value_comes_back(loop: Loop) -> None:
    column, array = selected(loop.source, "VARCHAR", ("repeat('🦆', 262144)", "'short'"), nullable=True)
    codec = column_codec(column, loop.version)
    loop.store([codec], [array])
    assert loop.load([codec]).column(0).chunk(0).equals(array)


def test_every_type_side_by_side_goes_over_every_transport(
    any_place: Place, source: duckdb.DuckDBPyConnection
) -> None:
    with closing(any_place.transport()) as transport:
        loop = Loop(transport, source)
        codecs, arrays = [], []
        for at, (kind, values) in enumerate(VALUES.items()):
            column, array = selected(source, kind, values[:1], nullable=True)
            codecs.append(column_codec(replace(column, name=f"column {at}"), loop.version))
            arrays.append(array)
        loop.store(codecs, arrays)
        found = loop.load(codecs)
    for back, sent in zip(found.columns, arrays, strict=True):
        assert exactly(back.chunk(0)).equals(exactly(sent))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DATE", ("'0001-01-01'", "'1582-10-15'", "'1899-12-31'", "'2300-01-01'", "'9999-12-31'")),
        ("TIMESTAMP_S", ("'0001-01-01 00:00:00'", "'1969-12-31 23:59:59'", "'9999-12-31 23:59:59'")),
        ("TIMESTAMP", ("'0001-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'")),
        (
            "TIMESTAMP_NS",
            (
                "'1677-09-22 00:00:00.000000001'",
                "'1899-12-31 23:59:59.999999999'",
                "'2262-04-11 23:47:16.854775806'",
            ),
        ),
        ("TIME", ("'00:00:00.000001'", "'23:59:59.999999'")),
        ("DECIMAL(38,3)", ("'-99999999999999999999999999999999999.999'",)),
        ("HUGEINT", ("'-170141183460469231731687303715884105728'",)),
        ("UHUGEINT", ("'340282366920938463463374607431768211455'",)),
        ("UUID", ("'00112233-4455-6677-8899-aabbccddeeff'",)),
        ("ENUM('b', 'a')", ("'a'", "'b'")),
        ("BIT", ("'0101'",)),
        ("BIGNUM", ("'-123456789012345678901234567890123456789012345'",)),
    ],
)
def test_clickhouse_reads_the_value_that_duckdb_wrote(
    modern: Loop, kind: str, values: tuple[str, ...]
) -> None:
    column, array = selected(modern.source, kind, values, nullable=False)
    codec = column_codec(column, modern.version)
    assert codec.rejects(array) == ()
    modern.store([codec], [array])
    written = modern.source.sql("SELECT CAST(v AS VARCHAR) FROM edge").fetchall()
    assert modern.texts("CAST(v, 'String')") == [text for (text,) in written]


ROWS = st.fixed_dictionaries(
    {
        "id": st.uuids(),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "price": st.none() | st.decimals(-(10**11), 10**11, places=6),
        "ratio": st.none() | st.floats(),
        "text": st.none() | st.text(st.characters(codec="utf-8"), max_size=300),
        "raw": st.none() | st.binary(max_size=300),
        "list": st.none()
        | st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), max_size=4),
    }
)
COLUMNS = (
    Column("id", "UUID", nullable=False),
    Column("n", "BIGINT"),
    Column("price", "DECIMAL(18,6)"),
    Column("ratio", "DOUBLE"),
    Column("text", "VARCHAR"),
    Column("raw", "BLOB"),
    Column("list", "VARCHAR[]"),
)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROWS, min_size=1, max_size=50))
def test_rows_of_any_values_come_back(loop: Loop, rows: list[dict[str, object]]) -> None:
    given_rows = _table(rows)
    loop.source.register("given_rows", given_rows)
    casts = ", ".join(f'CAST("{column.name}" AS {column.type}) AS "{column.name}"' for column in COLUMNS)
    arrays = loop.source.sql(f"SELECT {casts} FROM given_rows").to_arrow_table().combine_chunks()
    codecs = [column_codec(column, loop.version) for column in COLUMNS]
    loop.store(codecs, [column.chunk(0) for column in arrays.columns])
    found = loop.load(codecs)
    for column in COLUMNS:
        back, sent = found.column(column.name).chunk(0), arrays.column(column.name).chunk(0)
        assert exactly(back).equals(exactly(sent)), column.name


def _table(rows: list[dict[str, object]]) -> pa.Table:
    types = {
        "id": pa.string(),
        "n": pa.int64(),
        "price": pa.decimal128(18, 6),
        "ratio": pa.float64(),
        "text": pa.string(),
        "raw": pa.binary(),
        "list": pa.list_(pa.string()),
    }
    return pa.table(
        {name: pa.array([_plain(row[name]) for row in rows], kind) for name, kind in types.items()}
    )


def _plain(value: object) -> object:
    """As pyarrow takes it."""
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.quantize(Decimal("0.000001")) if isinstance(value, Decimal) else value
