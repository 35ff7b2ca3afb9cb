"""The library's face: a live file is queried and followed by another program. [F2, L2]"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

import cdc
from cdc.errors import ConfigError, SourceError
from tests.support.redis import PASSWORD, RedisServer
from tests.support.writers import Writer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "t.duckdb") as made:
        made.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, s VARCHAR)")
        made.run("INSERT INTO t SELECT i, i, 's' || i FROM range(5) AS r(i)")
        yield made


def all_there_is(database: cdc.Database, after: str | None = None) -> tuple[list[tuple[int, bool]], str]:
    """The keys handed out and acknowledged, each with whether it was deleted; and the last token."""
    found, token = [], after or ""
    for change in database.follow("t", after=after, wait=False):
        deleted = [False] * change.rows.num_rows if change.deleted is None else change.deleted.to_pylist()
        found += list(zip(change.rows.column("id").to_pylist(), deleted, strict=True))
        change.acknowledge()
        token = change.token
    return found, token


def test_a_live_file_is_queried(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database:
        assert database.query("SELECT count(*) AS n FROM t").to_pylist() == [{"n": 5}]
        writer.run("INSERT INTO t VALUES (5, 5, 'x')")
        assert database.query("SELECT count(*) AS n FROM t").to_pylist() == [{"n": 6}]
        assert [str(each.table) for each in database.tables()] == ["main.t"]


def test_a_query_ends_when_its_time_is_over(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database, pytest.raises(SourceError, match=r"within 0\.2 s"):
        database.query("SELECT count(*) FROM range(100000000) a, range(100000000) b", timeout=0.2)


def test_what_is_committed_while_a_table_is_followed_comes_once(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database:
        changes = database.follow("t")
        first = next(changes)
        assert first.rows.column("id").to_pylist() == [0, 1, 2, 3, 4]
        first.acknowledge()
        writer.run("BEGIN")
        writer.run("INSERT INTO t VALUES (5, 5, 'new')")
        writer.run("UPDATE t SET s = 'other' WHERE id = 1")
        writer.run("COMMIT")
        second = next(changes)
        assert {row["id"]: row["s"] for row in second.rows.to_pylist()} == {5: "new", 1: "other"}
        assert min(second.versions.to_pylist()) > max(first.versions.to_pylist())
        second.acknowledge()
        writer.run("DELETE FROM t WHERE id = 0")
        third = next(changes)
        assert third.deleted is not None
        assert third.deleted.to_pylist() == [True]
        assert third.rows.column("id").to_pylist() == [0]


def test_what_is_not_acknowledged_comes_again(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database:
        changes = database.follow("t", batch_rows=2)
        for expected in ([0, 1], [2, 3], [4], [0, 1]):
            change = next(changes)
            assert change.rows.column("id").to_pylist() == expected


def test_a_program_goes_on_after_its_token(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database:
        found, token = all_there_is(database)
        assert found == [(i, False) for i in range(5)]
    writer.run("INSERT INTO t VALUES (5, 5, 'x')")
    writer.run("DELETE FROM t WHERE id = 2")
    with cdc.open_source(writer.path) as database:
        found, _ = all_there_is(database, token)
        assert {(5, False), (2, True)} <= set(found)


@pytest.mark.parametrize("token", ["", "?", "é", "bm8=", "W10=", "A" * 100_000])
def test_what_is_no_token_is_refused_with_the_remedy(writer: Writer, token: str) -> None:
    with cdc.open_source(writer.path) as database, pytest.raises(ConfigError, match="Follow from the beginn"):
        next(database.follow("t", after=token))


def test_a_token_of_another_database_is_refused(writer: Writer, tmp_path: Path) -> None:
    with cdc.open_source(writer.path) as database:
        _, token = all_there_is(database)
    with Writer(tmp_path / "other.duckdb") as other:
        other.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, s VARCHAR)")
        with (
            cdc.open_source(other.path) as database,
            pytest.raises(SourceError, match="the token is of the database"),
        ):
            next(database.follow("t", after=token))


def test_closing_ends_a_follow_that_waits(writer: Writer) -> None:
    with cdc.open_source(writer.path) as database:
        changes = database.follow("t")
        next(changes).acknowledge()
        timer = threading.Timer(0.3, database.close)
        timer.start()
        with pytest.raises(SourceError):
            next(changes)
        timer.join()


def test_importing_the_package_loads_neither_duckdb_nor_arrow() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, cdc; print('duckdb' in sys.modules, 'pyarrow' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["False", "False"]


def run_example(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments), "--once"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_with_a_callback_goes_on_where_it_was(writer: Writer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    assert run_example("callback.py", writer.path, "t", "--token", token).count("+ {") == 5
    writer.run("DELETE FROM t WHERE id = 3")
    assert "- {'id': 3" in run_example("callback.py", writer.path, "t", "--token", token)


def test_the_example_with_parquet_files_keeps_every_change(writer: Writer, tmp_path: Path) -> None:
    directory = tmp_path / "changes"
    run_example("parquet.py", writer.path, "t", directory)
    writer.run("UPDATE t SET s = 'other' WHERE id = 1")
    run_example("parquet.py", writer.path, "t", directory)
    rows = [row for file in sorted(directory.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    newest = {row["id"]: row for row in sorted(rows, key=lambda row: row["_version"])}
    assert {key: row["s"] for key, row in newest.items()} == {0: "s0", 1: "other", 2: "s2", 3: "s3", 4: "s4"}


def test_the_example_with_a_redis_stream_goes_on_after_its_last_entry(
    writer: Writer, redis_server: RedisServer
) -> None:
    url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{redis_server.port}"
    arguments = (writer.path, "t", url, "changes")
    with redis_server.client() as client:
        run_example("redis_stream.py", *arguments)
        assert client.xlen("changes") == 5
        writer.run("INSERT INTO t VALUES (5, 5, 'x')")
        run_example("redis_stream.py", *arguments)
        rows = [json.loads(entry[b"row"])["id"] for _, entry in client.xrange("changes")]
        assert set(rows[5:]) >= {5}
