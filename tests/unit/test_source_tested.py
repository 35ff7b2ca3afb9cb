"""The one table of the versions of DuckDB that were tested: tests and lock follow it; others are said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from cdc.source import open_source
from cdc.source.format import tested
from cdc.source.format.headers import DatabaseHeader, Headers
from cdc.source.format.tested import READERS, WRITERS, untested_reader, untested_writer
from tests.support.writers import VERSIONS

HEADERS = Headers(
    version=999,
    library="v2.0.1",
    identifier="00" * 16,
    encrypted=False,
    cipher=None,
    active=DatabaseHeader(1, 2, 3, 4, 262144, 69),
)


def test_the_tests_write_with_every_writer_of_the_table_and_with_the_one_at_hand() -> None:
    assert set(VERSIONS) == {*WRITERS, duckdb.__version__}


def test_the_locked_duckdb_is_in_the_table() -> None:
    [locked] = re.findall(
        r"(?m)^duckdb==(\S+)", (Path(__file__).parents[2] / "requirements.lock").read_text()
    )
    assert locked == READERS[-1] == WRITERS[-1]


@pytest.mark.parametrize("version", WRITERS)
def test_nothing_is_said_of_a_tested_writer(version: str) -> None:
    assert untested_writer(replace(HEADERS, library=f"v{version}")) is None


@pytest.mark.parametrize("library", ["v2.2.0", "v1.3.1", "v2.0.1-dev7", ""])
def test_any_other_version_in_the_file_is_said(library: str) -> None:
    said = untested_writer(replace(HEADERS, library=library))
    assert said is not None
    assert library.removeprefix("v") in said
    assert "1.0.0, 1.2.2, 1.4.4, 2.0.0 and 2.0.1 were" in said


def test_a_newer_storage_version_is_said_whoever_created_the_file() -> None:
    assert HEADERS.active is not None
    said = untested_writer(replace(HEADERS, active=replace(HEADERS.active, version=70)))
    assert said == "the file's storage version 70 was not tested: those up to 69 were"


def test_an_untested_reader_is_said() -> None:
    assert untested_reader("2.0.1") is None
    assert untested_reader("2.2.0") == "DuckDB 2.2.0, which reads here, was not tested: 2.0.0 and 2.0.1 were"


def test_a_source_says_what_of_its_versions_was_not_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with duckdb.connect(str(tmp_path / "t.db")) as connection:
        connection.execute("CREATE TABLE t (id BIGINT)")
    monkeypatch.setattr(tested, "READERS", ("1.9.0", "1.9.1"))
    monkeypatch.setattr(tested, "WRITERS", ("1.9.0", "1.9.1"))
    with open_source(tmp_path / "t.db") as source:
        reader, writer = source.untested
    assert reader == f"DuckDB {duckdb.__version__}, which reads here, was not tested: 1.9.0 and 1.9.1 were"
    assert writer.startswith(
        f"DuckDB {duckdb.__version__}, which created the file, was not tested as a writer"
    )
