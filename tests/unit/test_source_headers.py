"""The headers of a DuckDB file: what is read from them, and how a file that is none is refused."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cdc.errors import Meaning, SourceError
from cdc.source.format.headers import (
    HEADER_SIZE,
    HEADERS_SIZE,
    CorruptHeader,
    NotDuckDb,
    TruncatedFile,
    UnknownVersion,
    checksum,
    parse_headers,
)

PATH = Path("trades.db")


def made(directory: Path, *statements: str) -> bytes:
    """The headers of a new database after `statements`."""
    path = directory / "made.db"
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    with path.open("rb") as file:
        return file.read(HEADERS_SIZE)


def sealed(block: bytes) -> bytes:
    """`block` with the checksum of its payload."""
    return checksum(block[8:]).to_bytes(8, "little") + block[8:]


def test_a_new_file_says_its_version_its_identifier_and_its_checkpoint(tmp_path: Path) -> None:
    headers = parse_headers(made(tmp_path, "CREATE TABLE t (a INTEGER)", "CHECKPOINT"), PATH)
    assert headers.library == f"v{duckdb.__version__}"
    assert headers.identifier is not None
    assert len(headers.identifier) == 32
    assert not headers.encrypted
    assert headers.active is not None
    assert headers.active.block_size == 262144


def test_each_checkpoint_raises_the_iteration(tmp_path: Path) -> None:
    iterations = []
    with duckdb.connect(str(tmp_path / "made.db")) as connection:
        for number in range(3):
            connection.execute(f"CREATE TABLE t{number} (a INTEGER)")
            connection.execute("CHECKPOINT")
            active = parse_headers((tmp_path / "made.db").read_bytes()[:HEADERS_SIZE], PATH).active
            assert active is not None
            iterations.append(active.iteration)
    assert iterations == [iterations[0], iterations[0] + 1, iterations[0] + 2]


def test_a_file_in_the_default_format_of_1_x_has_no_identifier(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{tmp_path / 'old.db'}' AS old (STORAGE_VERSION 'v1.0.0')")
        connection.execute("CREATE TABLE old.t (a INTEGER)")
    headers = parse_headers((tmp_path / "old.db").read_bytes()[:HEADERS_SIZE], PATH)
    assert headers.version == 64


@pytest.mark.parametrize("raw", [b"PAR1" * 4096, b"SQLite format 3\0" * 1024, bytes(HEADERS_SIZE)])
def test_a_file_of_another_format_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(NotDuckDb, match=r"cannot read trades\.db: it is not a DuckDB database"):
        parse_headers(raw, PATH)


@pytest.mark.parametrize("size", [0, 4, 4096, HEADERS_SIZE - 1])
def test_a_file_cut_within_its_headers_is_truncated_and_may_be_tried_again(tmp_path: Path, size: int) -> None:
    with pytest.raises(TruncatedFile) as caught:
        parse_headers(made(tmp_path)[:size], PATH)
    assert caught.value.meaning is Meaning.RETRY


@pytest.mark.parametrize("block", [0, 1, 2])
def test_one_changed_bit_in_a_header_is_corruption(tmp_path: Path, block: int) -> None:
    raw = bytearray(made(tmp_path))
    raw[block * HEADER_SIZE + 2000] ^= 1
    with pytest.raises(CorruptHeader, match=f"the header at byte {block * HEADER_SIZE}"):
        parse_headers(bytes(raw), PATH)


@pytest.mark.parametrize("version", [63, 70, 1000])
def test_an_unknown_storage_version_is_refused_with_its_number(tmp_path: Path, version: int) -> None:
    raw = made(tmp_path)
    main = raw[:12] + version.to_bytes(8, "little") + raw[20:HEADER_SIZE]
    with pytest.raises(UnknownVersion, match=f"storage version is {version}"):
        parse_headers(sealed(main) + raw[HEADER_SIZE:], PATH)


def test_every_refusal_is_a_source_error(tmp_path: Path) -> None:
    for kind in (NotDuckDb, TruncatedFile, CorruptHeader, UnknownVersion):
        assert issubclass(kind, SourceError)
