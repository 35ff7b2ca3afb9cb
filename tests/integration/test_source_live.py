"""Reading a file that another process holds: what a snapshot shows, and how it ends."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from cdc.change import Position
from cdc.clock import SystemClock
from cdc.eras import MemoryEras
from cdc.errors import Meaning, SnapshotSuperseded, SourceError, SourceReplaced
from cdc.source import DuckDbSource, NotDuckDb, Snapshot, TruncatedFile, open_source
from cdc.source.file.pin import Pinner
from cdc.source.file.places import CHECKPOINT_LOG
from cdc.source.file.session import Session, SessionLimits
from cdc.source.file.snapshot import Snapshots
from tests.support.waiting import wait_until
from tests.support.writers import CURRENT, VERSIONS, Writer
from tools.stress_live import look, problems, stress


def rows(source: DuckDbSource, sql: str = "SELECT count(*) FROM t") -> int:
    with source.snapshot() as snapshot:
        return int(snapshot.query(sql).read_all().column(0)[0].as_py())


def stored_then_overtaken(writer: Writer, source: DuckDbSource) -> Snapshot:
    """A snapshot of stored rows, which a checkpoint has overtaken before anything was read of it."""
    writer.run("CREATE TABLE t AS SELECT i AS id FROM range(100000) AS r(i)")
    writer.run("CHECKPOINT")
    snapshot = source.snapshot()
    writer.run("INSERT INTO t VALUES (-1)")
    writer.run("CHECKPOINT")
    return snapshot


@pytest.mark.parametrize("version", VERSIONS)
def test_committed_rows_are_read_while_their_writer_holds_the_lock(tmp_path: Path, version: str) -> None:
    """[F2]"""
    with Writer(tmp_path / "t.db", version) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, s VARCHAR)")
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(writer.path), read_only=True)
        with open_source(writer.path) as source:
            for count in range(1, 5):
                writer.run("INSERT INTO t VALUES (?, 'x')", count)
                assert rows(source) == count
            writer.run("CHECKPOINT")
            assert rows(source) == 4
            writer.run("BEGIN")
            writer.run("INSERT INTO t VALUES (5, 'open')")
            assert rows(source) == 4
            writer.run("ROLLBACK")
            assert rows(source) == 4


@pytest.mark.parametrize("version", VERSIONS)
def test_the_position_grows_with_each_commit_and_each_checkpoint(tmp_path: Path, version: str) -> None:
    with Writer(tmp_path / "t.db", version) as writer:
        writer.run("CREATE TABLE t (id BIGINT)")
        with open_source(writer.path) as source:
            seen = [source.position()]
            for _ in range(3):
                writer.run("INSERT INTO t VALUES (1)")
                seen.append(source.position())
                writer.run("CHECKPOINT")
                seen.append(source.position())
            assert seen == sorted(set(seen))
            before = source.position()
            writer.run("BEGIN")
            writer.run("INSERT INTO t VALUES (2)")
            assert source.position() == before


def test_a_checkpoint_during_the_read_supersedes_the_snapshot(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer, open_source(writer.path) as source:
        snapshot = stored_then_overtaken(writer, source)
        with snapshot, pytest.raises(SnapshotSuperseded) as caught:
            snapshot.query("SELECT sum(id) FROM t").read_all()
        assert caught.value.meaning is Meaning.RETRY
        assert rows(source) == 100_001


def test_a_superseded_snapshot_never_shows_another_state(tmp_path: Path) -> None:
    """What was read before the checkpoint stays readable; what was not raises."""
    with Writer(tmp_path / "t.db") as writer, open_source(writer.path) as source:
        with stored_then_overtaken(writer, source) as snapshot, pytest.raises(SnapshotSuperseded):
            snapshot.query("SELECT max(id) FROM t WHERE id % 7 = 3").read_all()
        with source.snapshot() as snapshot:
            before = snapshot.query("SELECT sum(id) FROM t").read_all()
            writer.run("DELETE FROM t WHERE id < 50000")
            writer.run("CHECKPOINT")
            assert snapshot.query("SELECT sum(id) FROM t").read_all() == before


def test_an_open_snapshot_stops_neither_commits_nor_checkpoints(tmp_path: Path) -> None:
    """[the writer is never blocked]"""
    with Writer(tmp_path / "t.db") as writer, open_source(writer.path) as source:
        with stored_then_overtaken(writer, source) as snapshot:
            held = snapshot.position
            assert source.position().iteration > held.iteration
            writer.run("INSERT INTO t SELECT i FROM range(1000) AS r(i)")
            writer.run("CHECKPOINT")
            assert source.position().iteration > held.iteration + 1
        writer.close()
        assert writer.process.returncode == 0


def test_reading_leaves_the_files_and_their_directory_as_they_were(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer:
        writer.run("CREATE TABLE t (id BIGINT)")
        before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.iterdir()}
        with open_source(writer.path) as source:
            rows(source)
            source.tables()
        after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.iterdir()}
    assert after == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_torn_log_shows_whole_commits_only(tmp_path: Path, version: str) -> None:
    """A writer killed within a commit, at any byte of it. [R3]"""
    path = tmp_path / "t.db"
    with Writer(path, version) as writer:
        writer.run("CREATE TABLE t (id BIGINT)")
        writer.run("CHECKPOINT")
        ends = []
        for count in range(4):
            writer.run("INSERT INTO t VALUES (?)", count)
            ends.append(Path(f"{path}.wal").stat().st_size)
        writer.kill()
    whole = Path(f"{path}.wal").read_bytes()
    assert len(whole) == ends[-1]
    for cut in sorted({0, 1, 20, ends[0], ends[2] - 1, ends[2] + 1, *range(ends[2] - 30, ends[3] + 1, 7)}):
        Path(f"{path}.wal").write_bytes(whole[:cut])
        with open_source(path) as source:
            assert rows(source) == sum(end <= cut for end in ends)
            assert source.position().offset == max([0, *(end for end in ends if end <= cut)])


def test_a_writer_killed_and_back_is_followed_without_a_step_back(tmp_path: Path) -> None:
    """[R3]"""
    path = tmp_path / "t.db"
    with Writer(path) as writer:
        writer.run("CREATE TABLE t (id BIGINT)")
        source = open_source(path)
        with source:
            for count in range(1, 4):
                writer.run("INSERT INTO t VALUES (1)")
                before = source.position()
                writer.kill()
                assert rows(source) == count
                writer = Writer(path)
                assert rows(source) == count
                assert source.position() >= before
            writer.close()
            assert rows(source) == 3


def test_commits_during_a_checkpoint_are_seen_in_its_own_log(tmp_path: Path) -> None:
    """DuckDB 2.0 writes them to FILE.wal.checkpoint, which replaces the log at the end."""
    path = tmp_path / "t.db"
    with Writer(path) as writer:
        writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
        writer.run("CREATE TABLE big AS SELECT uuid() AS u FROM range(500000)")
        with open_source(path) as source:
            last = look(source)
            writer.load("t", rows=100, transfers=5)
            during, deadline = 0, time.monotonic() + 60.0
            pinner = Pinner(path, SystemClock())
            for _ in range(100):
                writer.run("UPDATE big SET u = uuid()")  # so that the checkpoint takes a while
                checkpointer = threading.Thread(target=writer.run, args=("FORCE CHECKPOINT",))
                checkpointer.start()
                while checkpointer.is_alive():
                    with pinner.pin() as pin:
                        during += CHECKPOINT_LOG in pin.logs
                    before = writer.committed
                    try:
                        seen = look(source)
                    except SnapshotSuperseded:
                        continue
                    assert not list(problems(0, seen, last))
                    while seen.rows < before and time.monotonic() < deadline:
                        with suppress(SnapshotSuperseded):  # shown a moment later, seldom
                            seen = look(source)
                    assert not list(problems(before, seen, last))
                    last = seen
                checkpointer.join()
                if during:
                    break
            assert during
            committed = writer.pause()
            assert not list(problems(committed, look(source), last))


@pytest.mark.parametrize("version", VERSIONS)
def test_under_a_busy_writer_no_snapshot_is_wrong(tmp_path: Path, version: str) -> None:
    """The long run is `python -m tools.stress_live`."""
    for primary_key in (False, True):
        result = stress(tmp_path, version, primary_key, seconds=4.0, threshold="64KB", snapshots=120)
        assert result.wrong == ()
        assert result.snapshots > 1


def test_another_database_at_the_path_is_another_source(tmp_path: Path) -> None:
    for name in ("t.db", "other.db"):
        with duckdb.connect(str(tmp_path / name)) as connection:
            connection.execute("CREATE TABLE t (id BIGINT)")
    with open_source(tmp_path / "t.db") as source, open_source(tmp_path / "other.db") as other:
        assert source.identity != other.identity
        os.replace(tmp_path / "other.db", tmp_path / "t.db")
        with pytest.raises(SourceReplaced, match="another database took its place"):
            source.position()
        with pytest.raises(SourceReplaced):
            source.tables()


@pytest.mark.parametrize("version", ["1.0.0", CURRENT])
def test_the_identity_outlives_restarts_of_writer_and_reader(tmp_path: Path, version: str) -> None:
    identities = set()
    for count in range(3):
        with Writer(tmp_path / "t.db", version) as writer:
            writer.run(f"CREATE TABLE t{count} (id BIGINT)")
            with open_source(writer.path) as source:
                identities.add(source.identity)
    assert len(identities) == 1


def test_an_older_copy_of_the_database_is_another_history_with_greater_versions(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t (id BIGINT)")
    shutil.copy(path, tmp_path / "backup.db")
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with open_source(path) as source:
        before = source.position()
        os.replace(tmp_path / "backup.db", path)
        after = source.position()
        assert after.iteration < before.iteration
        assert (after > before, after.as_version() > before.as_version()) == (True, True)


@pytest.mark.parametrize("version", ["1.0.0", CURRENT])
def test_of_a_database_made_anew_between_two_runs_no_place_is_proven(tmp_path: Path, version: str) -> None:
    """In the format of 1.x a new file may even get the old one's number."""
    path = tmp_path / "t.db"
    eras = MemoryEras(0.0)
    with Writer(path, version) as writer:
        writer.run("CREATE TABLE t (id BIGINT, seq BIGINT)")
        writer.run("CHECKPOINT")
        writer.run("INSERT INTO t VALUES (1, 1)")
        with open_source(path, eras=eras) as source:
            reached, identity = source.position(), source.identity
        pinner = Pinner(path, SystemClock(), eras)
        assert pinner.proves(reached)
    path.unlink()
    with Writer(path, version) as writer:
        writer.run("CREATE TABLE t (id BIGINT, seq BIGINT)")
        with open_source(path, eras=eras) as source:
            assert source.position() > reached
            assert source.identity != identity or version == "1.0.0"
        pinner = Pinner(path, SystemClock(), eras)
        assert not pinner.proves(reached)
        assert "an older copy took its place" in (pinner.doubt(reached) or "")


def test_what_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no such file\. Start the writer"):
        open_source(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("id,price\n1,2\n" * 1000)
    with pytest.raises(NotDuckDb, match=r"Correct \[database\] path"):
        open_source(tmp_path / "text.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(TruncatedFile):
        open_source(tmp_path / "empty.db")


@pytest.mark.parametrize("name", ['it\'s a "name".db', "Ünï.duckdb", "a b;c.db"])
def test_any_file_name_can_be_read(tmp_path: Path, name: str) -> None:
    with Writer(tmp_path / name) as writer:
        writer.run("CREATE TABLE t AS SELECT 7 AS id")
        with open_source(writer.path) as source:
            assert rows(source, "SELECT id FROM t") == 7


def test_a_windows_path_is_taken_as_it_is_written() -> None:
    with pytest.raises(SourceError, match=r"C:.TradeSystem.trades\.duckdb"):
        open_source("C:/TradeSystem/trades.duckdb")


def test_tables_are_listed_with_types_nullability_and_primary_key(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer:
        writer.run("CREATE SCHEMA book")
        writer.run(
            "CREATE TABLE book.trades (id UUID, leg INTEGER, price DECIMAL(18,6) NOT NULL,"
            " tags STRUCT(a INTEGER)[], side ENUM('BUY', 'SELL'), PRIMARY KEY (leg, id))"
        )
        writer.run("CREATE VIEW v AS SELECT 1")
        writer.run("CREATE TEMP TABLE scratch (a INTEGER)")
        with open_source(writer.path) as source:
            [found] = source.tables()
    assert str(found.table) == "book.trades"
    assert found.primary_key == ("leg", "id")
    assert [(column.name, column.type, column.nullable) for column in found.columns] == [
        ("id", "UUID", False),
        ("leg", "INTEGER", False),
        ("price", "DECIMAL(18,6)", False),
        ("tags", "STRUCT(a INTEGER)[]", True),
        ("side", "ENUM('BUY', 'SELL')", True),
    ]


def test_an_encrypted_file_is_read_with_its_key_and_never_shows_it(tmp_path: Path) -> None:
    key = "a 'secret' key"
    options = f"ENCRYPTION_KEY '{key.replace(chr(39), chr(39) * 2)}'"
    path = tmp_path / "t.db"
    with Writer(path, config={"force_mbedtls_unsafe": "true"}, attach=options) as writer:
        writer.run("CREATE TABLE t (id BIGINT)")
        with open_source(path, encryption_key=key) as source:
            seen = [source.position()]
            for count in range(1, 4):
                writer.run("INSERT INTO t VALUES (?)", count)
                assert rows(source) == count
                seen.append(source.position())
                writer.run("CHECKPOINT")
                assert rows(source) == count
                seen.append(source.position())
            assert seen == sorted(set(seen))
        with open_source(path) as source, pytest.raises(SourceError, match="encrypted, and no key"):
            source.tables()
        with open_source(path, encryption_key="another secret") as source:
            with pytest.raises(SourceError) as caught:
                source.tables()
            assert "another secret" not in str(caught.value)
            assert "key" in str(caught.value)


def test_a_query_that_is_wrong_is_a_source_error_and_leaves_the_source_usable(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer, open_source(writer.path) as source:
        writer.run("CREATE TABLE t (id BIGINT)")
        with source.snapshot() as snapshot, pytest.raises(SourceError, match="nothing_like_it") as caught:
            snapshot.query("SELECT nothing_like_it FROM t")
        assert not isinstance(caught.value, SnapshotSuperseded)
        assert rows(source) == 0


def test_no_statement_and_one_that_writes_are_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db"), open_source(tmp_path / "t.db") as source, source.snapshot() as snapshot:
        with pytest.raises(SourceError, match="there is no statement"):
            snapshot.query(" -- nothing")
        with pytest.raises(SourceError, match=r"read-only|system catalog"):
            snapshot.query("CREATE TABLE theirs (a INTEGER)")


def test_after_a_restart_of_the_embedded_duckdb_the_next_snapshot_is_attached_anew(tmp_path: Path) -> None:
    """As after a fatal error of its own."""
    clock = SystemClock()
    with Writer(tmp_path / "t.db") as writer:
        writer.run("CREATE TABLE t AS SELECT 1 AS id")
        session = Session(SessionLimits())
        snapshots = Snapshots(Pinner(writer.path, clock), session, clock)
        for _ in range(2):
            with snapshots.take() as snapshot:
                assert snapshot.query("FROM t").read_all().num_rows == 1
            session.restart(session.generation)
        snapshots.close()
        session.close()


def test_a_damaged_block_is_a_source_error_and_not_retried_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT uuid() AS id FROM range(200000)")
    raw = bytearray(path.read_bytes())
    for block in range(12288, len(raw), 262144):
        raw[block + 5000] ^= 0xFF
    path.write_bytes(raw)
    with open_source(path) as source:
        with pytest.raises(SourceError, match="orrupt") as caught:
            source.tables()
        assert not isinstance(caught.value, SnapshotSuperseded)


def test_the_source_can_be_watched_while_it_is_read(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer, open_source(writer.path) as source:
        writer.run("CREATE TABLE t (id BIGINT)")
        position = source.position()
        waited: list[Position] = []
        waiter = threading.Thread(target=lambda: waited.append(source.wait(position, 20.0)))
        waiter.start()
        writer.run("INSERT INTO t VALUES (1)")
        wait_until(lambda: waited, "the commit ends the wait")
        waiter.join()
        assert waited == [source.position()] != [position]
