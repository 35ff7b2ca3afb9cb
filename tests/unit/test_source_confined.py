"""What a file or a query says reaches nothing but the file: every DuckDB of the product is confined. [S4]"""

from __future__ import annotations

import ast
import contextlib
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import cdc
from cdc.change import Completion
from cdc.comparison import formatter
from cdc.comparison.digest import RowHasher
from cdc.errors import SourceError
from cdc.source import CompletionRule, open_source
from cdc.source.file import session as session_module
from cdc.source.file.confined import confined
from cdc.source.file.served import FILES, in_memory
from cdc.source.file.session import Session, SessionLimits
from cdc.source.file.spill import new_spill
from tests.support.sources import deliver, plan_of

OPENS_FILES = frozenset(
    {"connect", "sql", "execute", "query", "from_csv_auto", "read_csv", "read_parquet", "read_json"}
)
"""What of the module `duckdb` opens a database, or uses the one that it keeps itself."""


def _refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)):
        connection.execute(sql).fetchall()


def _is_confined(connection: duckdb.DuckDBPyConnection) -> bool:
    names = ("enable_external_access", "lock_configuration", "python_enable_replacements")
    found = [connection.execute("SELECT current_setting(?)", [name]).fetchall()[0][0] for name in names]
    return found == [False, True, False]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.toml"
    path.write_text("TOPSECRET")
    return path


class Opened:
    """Every DuckDB that was opened meanwhile."""

    def __init__(self) -> None:
        self._connections: list[duckdb.DuckDBPyConnection] = []

    def note(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        self._connections.append(connection)
        return connection

    def confined(self) -> list[bool]:
        """Whether they are, of those that are open."""
        found = []
        for connection in self._connections:
            with contextlib.suppress(duckdb.ConnectionException):
                found.append(_is_confined(connection))
        return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    connect, found = duckdb.connect, Opened()
    monkeypatch.setattr(duckdb, "connect", lambda *a, **options: found.note(connect(*a, **options)))
    return found


def test_only_one_place_of_the_product_opens_a_duckdb() -> None:
    found = set()
    root = Path(cdc.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "duckdb":
                found.add(path.relative_to(root).as_posix())
            if (
                isinstance(node, ast.Attribute)
                and node.attr in OPENS_FILES
                and ast.unparse(node.value) == "duckdb"
            ):
                found.add(path.relative_to(root).as_posix())
    assert found == {"source/file/confined.py"}


def test_every_duckdb_that_reads_follows_compares_and_formats_is_confined(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "t.duckdb"
    writer = confined(file=path)
    writer.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT, s VARCHAR)")
    writer.execute("CHECKPOINT")
    writer.execute("INSERT INTO t SELECT i, i, 'x' FROM range(10) r(i)")
    with open_source(path) as source:
        plan = plan_of(source, "t")
        reader = source.open(plan)
        first = deliver(reader, None)
        writer.execute("INSERT INTO t VALUES (10, 10, 'tail')")
        writer.execute("UPDATE t SET s = 'y' WHERE id = 3")
        assert sorted(deliver(reader, first.mark).column("id"))[-1] == 10
        assert opened.confined() == [True] * 3  # the writer, what reads snapshots, what reads the log
        reader.close()
    rule = CompletionRule(
        plan, Completion(group="s", condition="count(*) > 1", max_age_seconds=60, max_rows=9, max_bytes=999)
    )
    with RowHasher() as hasher, formatter():
        hasher.values(pa.array(["a"]))
        assert opened.confined()[-3:] == [True] * 3
    rule.close()
    writer.close()


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{secret}')",
        "FROM read_csv('{secret}')",
        "FROM glob('{directory}/*')",
        "COPY (SELECT 1) TO '{directory}/out.csv'",
        "ATTACH '{directory}/other.duckdb' AS other",
        "EXPORT DATABASE '{directory}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE PERSISTENT SECRET (TYPE http, BEARER_TOKEN 'x')",
        "FROM read_blob('http://127.0.0.1:9/')",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SET allowed_paths = ['{secret}']",
        "SET temp_directory = '{directory}'",
        "CALL enable_logging('QueryLog', storage_path => '{directory}')",
    ],
)
def test_a_session_reaches_no_file_no_network_and_no_setting(secret: Path, tmp_path: Path, sql: str) -> None:
    session = Session(SessionLimits(), spill=tmp_path / "state" / "spill")
    before = sorted(tmp_path.iterdir())
    cursor = session.cursor()
    _refused(cursor, sql.format(secret=secret.as_posix(), directory=tmp_path.as_posix()))
    cursor.close()
    assert sorted(each for each in tmp_path.iterdir() if each.name != "state") == before
    session.close()


def test_a_generated_column_whose_macro_reads_a_file_is_refused_and_not_replicated(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "secret_name", lambda kind: "hostile")  # as if it were guessed
    path = tmp_path / "hostile.duckdb"
    with duckdb.connect() as writer:
        writer.execute(f"ATTACH '{tmp_path / 'other.duckdb'}' AS hostile; ATTACH '{path}' AS file")
        writer.execute("CREATE MACRO hostile.leak(x) AS CAST(x AS VARCHAR)")
        writer.execute(
            "CREATE TABLE file.t (id BIGINT PRIMARY KEY, seq BIGINT,"
            " g VARCHAR GENERATED ALWAYS AS (hostile.main.leak(id)))"
        )
        writer.execute("INSERT INTO file.t VALUES (1, 1)")
    with duckdb.connect() as writer:
        writer.execute(f"ATTACH '{path}' AS hostile")
        body = f"(SELECT content FROM read_text('{secret.as_posix()}'))"
        writer.execute(f"CREATE MACRO hostile.leak(x) AS {body}")
        [(stolen,)] = writer.execute("SELECT g FROM hostile.t").fetchall()
    assert stolen == "TOPSECRET"  # where DuckDB is not confined
    with open_source(path, tailing=False) as source:
        reader = source.open(plan_of(source, "t"))
        with pytest.raises(SourceError, match="file system operations are disabled"):
            deliver(reader, None)
        reader.close()


def test_what_is_attached_has_a_name_of_its_own_each_time_and_a_path_that_is_served_no_longer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(str(path)) as writer:
        writer.execute("CREATE TABLE t AS SELECT 1 AS x")
    names = set()
    for _ in range(2):
        with open_source(path) as source, source.snapshot() as snapshot:
            names.add(snapshot.database)
            [(served,)] = snapshot.cursor.execute(
                "SELECT path FROM duckdb_databases() WHERE database_name = $1", [snapshot.database]
            ).fetchall()
            assert snapshot.cursor.execute(f"SELECT size FROM read_blob('{served}')").fetchall() == []
            assert not FILES.exists(served)
    assert len(names) == 2
    assert all(len(name) > 32 for name in names)


def test_a_path_is_served_only_while_it_is_attached() -> None:
    with FILES.serving({"db": in_memory(b"abc")}) as directory:
        assert FILES.open(f"{directory}db").read() == b"abc"
        with pytest.raises(PermissionError):
            FILES.open(f"{directory}db", "wb")
    with pytest.raises(FileNotFoundError):
        FILES.open(f"{directory}db")


def test_opening_directly_reaches_that_file_and_no_other(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "t.duckdb"
    for each in (path, tmp_path / "other.duckdb"):
        with duckdb.connect(str(each)) as writer:
            writer.execute("CREATE TABLE t AS SELECT 1 AS x")
    with open_source(path, direct=True) as source, source.snapshot() as snapshot:
        assert snapshot.query("SELECT x FROM t").read_all().num_rows == 1
        _refused(snapshot.cursor, f"ATTACH '{tmp_path / 'other.duckdb'}' AS other")
        _refused(snapshot.cursor, f"FROM read_text('{secret.as_posix()}')")


def test_what_does_not_fit_into_memory_is_spilled_into_a_directory_of_the_user_alone(tmp_path: Path) -> None:
    parent = tmp_path / "state" / "spill"
    session = Session(SessionLimits(memory_mb=64, threads=1), spill=parent)
    cursor = session.cursor()
    rows = cursor.sql(
        "SELECT i, repeat('x' || i, 30) AS s FROM range(600000) r(i) ORDER BY s"
    ).to_arrow_reader(1000)
    rows.read_next_batch()
    [made] = parent.iterdir()
    assert any(made.iterdir())
    assert [made.stat().st_mode & 0o777, parent.stat().st_mode & 0o777] == [0o700, 0o700]
    del rows
    cursor.close()
    session.close()
    assert not list(parent.iterdir())


def test_what_is_spilled_of_an_encrypted_file_is_encrypted(tmp_path: Path) -> None:
    session = Session(SessionLimits(), "key", spill=tmp_path / "spill")
    cursor = session.cursor()
    [(encrypted,)] = cursor.execute("SELECT current_setting('temp_file_encryption')").fetchall()
    cursor.close()
    session.close()
    assert encrypted


def test_what_an_ended_process_spilled_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "4194305-dead"  # past the greatest number of a process
    left.mkdir()
    (left / "duckdb_temp_storage-0.tmp").write_text("rows")
    made = new_spill(tmp_path)
    assert made is not None
    assert [each.name for each in tmp_path.iterdir()] == [made.name]
    assert made.name.startswith(f"{os.getpid()}-")
