"""A database that its writer serves over Quack is read there: nothing is lost, nothing stays open in it."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from cdc.change import BatchLimits
from cdc.errors import Meaning, SourceError, SourceReplaced
from cdc.source.served import open_served
from cdc.source.served.client import Away, over_adbc
from cdc.source.served.pages import Area, Pages
from cdc.source.table.ranges import Range
from tests.support.duckdb_values import VALUES, duckdb_source, exactly, selected
from tests.support.kept import Heard, Kept, written
from tests.support.proxy import Proxy
from tests.support.reference_writer import (
    REFERENCE_WRITER,
    WriterProcess,
    bare_environment,
    check_trades,
    run_writer,
)
from tests.support.rust_writer import rust_writer_binary
from tests.support.served import (
    EXTENSIONS,
    NEVER,
    TOKEN,
    VERSION,
    ServedWriter,
    extension_file,
    follow,
    free_port,
)
from tests.support.served_histories import served_history
from tests.support.sources import deliver, plan_of
from tests.support.waiting import wait_until
from tests.support.writers import WriterError, interpreter

__all__ = ["rust_writer_binary"]

ROWS = 20_000
"""Several pages, and three ranges that are compared, as `writer` and `small_ranges` make them."""
CHUNKS = 4
MOST_ROWS = (CHUNKS - 1) * 2_048 - 1
"""Of one page."""
NOT_IN_THE_SERVER = ("TUPLE(INTEGER, VARCHAR)", "TIMESTAMPTZ_NS", "GEOMETRY")
"""Types of DuckDB 2.0 alone."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ServedWriter]:
    with ServedWriter(tmp_path / "t.db", chunks=CHUNKS) as running:
        yield running


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.source.served.reader.RANGE_ROWS", 5_000)


@pytest.fixture(scope="module")
def values_writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWriter]:
    """One for all types, which have a table each."""
    with ServedWriter(tmp_path_factory.mktemp("values") / "t.db") as running:
        yield running


def through_quack(writer: ServedWriter, table: str, kind: str, values: Sequence[str]) -> pa.Array:
    """What a reader hands out of these `values`, which `writer` wrote.

    Raises:
        SourceError: the type cannot be carried.
    """
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    writer.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v {kind})")
    writer.run(f"INSERT INTO {table} VALUES {rows}")
    with follow(writer) as source:
        reader = source.open(plan_of(source, table, watermark="id"))
        [batch] = deliver(reader, None).batches
        reader.close()
    return batch.rows.column("v")


def create(writer: ServedWriter, rows: int = ROWS, more: str = "") -> None:
    writer.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, v INTEGER, s VARCHAR{more})")
    writer.run(f"INSERT INTO t (id, seq, v, s) SELECT i, i, 0, 'x' || i FROM range({rows}) AS r(i)")


def settled(kept: Kept, reads: int = 8) -> None:
    """Reads enough for a comparison of all ranges."""
    for _ in range(reads):
        kept.read()


def test_what_is_there_and_what_comes_is_delivered_once_in_order(writer: ServedWriter) -> None:
    """[F2 F5]"""
    create(writer)
    with follow(writer, comparing=NEVER) as source:
        reader = source.open(plan_of(source, "t"))
        first = deliver(reader, None, BatchLimits(1_000, 32 << 20))
        assert first.column("id") == list(range(ROWS))
        assert max(map(len, first.batches)) == 1_000
        assert first.mark is not None
        assert first.mark.watermark == str(ROWS - 1)
        for number in range(ROWS, ROWS + 5):
            writer.run(f"INSERT INTO t VALUES ({number}, {number}, 1, 'n')")
            then = deliver(reader, first.mark)
            assert then.column("id") == [number]
            assert then.mark is not None
            first = then
        reader.close()


def test_a_row_that_commits_late_arrives(writer: ServedWriter) -> None:
    create(writer, 5_000)
    with follow(writer, comparing=NEVER) as source:
        kept = Kept(source, plan_of(source, "t", overlap="100"))
        kept.read()
        writer.run("INSERT INTO t VALUES (10000, 10000, 1, 'first')")
        kept.read()
        writer.run("INSERT INTO t VALUES (9950, 9950, 1, 'late')")

        def arrived() -> bool:
            kept.read()
            return kept.rows == written(writer, "t")

        wait_until(arrived, "the late row")
        kept.reader.close()


def test_updates_arrive_by_the_version_column_without_a_comparison(writer: ServedWriter) -> None:
    create(writer, more=", changed BIGINT DEFAULT 0")
    with follow(writer, comparing=NEVER) as source:
        kept = Kept(source, plan_of(source, "t", version="changed"))
        kept.read()
        for number in range(1, 4):
            writer.run(f"UPDATE t SET v = v + 1, changed = {number} WHERE id % 1000 = {number}")
            assert kept.read() == ROWS // 1000
            assert kept.rows == written(writer, "t")
        writer.run("UPDATE t SET v = 77, changed = 3 WHERE id = 500")
        assert kept.read() == 1, "of the very version that was the greatest"
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_updates_without_a_version_arrive_by_digests_and_only_their_ranges(writer: ServedWriter) -> None:
    create(writer)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        writer.run("UPDATE t SET s = 'changed' WHERE id = 5")
        before = kept.handed_out
        settled(kept)
        assert kept.rows == written(writer, "t")
        assert 0 < kept.handed_out - before < ROWS // 2
        assert kept.broken == [], "no key is gone"
        before = kept.handed_out
        settled(kept)
        assert kept.handed_out == before
        kept.reader.close()


@pytest.mark.parametrize("gone", ["id = 5", f"id = {ROWS - 1}", "id % 2 = 0", "TRUE"])
def test_deletions_are_told_before_anything_more_is_sent(writer: ServedWriter, gone: str) -> None:
    create(writer)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        assert kept.broken == []
        writer.run(f"DELETE FROM t WHERE {gone}")
        settled(kept)
        assert kept.broken
        kept.reader.close()


def test_a_state_that_comes_back_is_not_taken_for_delivered(writer: ServedWriter) -> None:
    """A is known; B is sent, and then A is back: the digest alone would say that nothing changed."""
    create(writer)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        wait_until(lambda: kept.digests is not None, "digests to be stored")
        writer.run("UPDATE t SET v = 2 WHERE id = 5")
        kept.crash(source, sent=1, committed=0)
        assert ("5", "5", "2", "x5") in kept.rows
        writer.run("UPDATE t SET v = 0 WHERE id = 5")
        settled(kept)
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_a_version_that_goes_back_arrives(writer: ServedWriter) -> None:
    """The version column says when to look; what is newest, the order of reading says."""
    create(writer, 1_000, more=", changed BIGINT DEFAULT 0")
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t", version="changed"))
        settled(kept)
        writer.run("UPDATE t SET v = 2, changed = 10 WHERE id = 5")
        kept.read()
        assert kept.rows == written(writer, "t")
        writer.run("UPDATE t SET v = 0, changed = 0 WHERE id = 5")
        settled(kept)
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_a_restart_delivers_again_only_what_changed_meanwhile(writer: ServedWriter) -> None:
    create(writer)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        kept.reader.close()
        writer.run("UPDATE t SET s = 'while it was down' WHERE id = 7")
        before = kept.handed_out
        kept.reopen(source)
        kept.read()
        assert kept.rows == written(writer, "t")
        assert kept.handed_out - before < ROWS, "ranges that are as they were are left out"
        assert kept.broken, "a deletion in the open area would not show"
        kept.reader.close()


def test_versions_grow_over_a_restart_of_the_replicator(writer: ServedWriter) -> None:
    create(writer, 10)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        before = source.position()
        kept.reader.close()
    with follow(writer) as source:
        kept.reader = source.open(plan_of(source, "t"), kept.position, kept.digests)
        writer.run("UPDATE t SET v = 5")
        kept.read()
        assert source.position() > before
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_crashes_at_every_batch_lose_nothing(writer: ServedWriter) -> None:
    create(writer, 20_000)
    limits = BatchLimits(3_000, 32 << 20)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        for sent, committed in itertools.product(range(1, 5), range(3)):
            writer.run(f"UPDATE t SET v = v + 1 WHERE id % 7 = {sent}")
            writer.run(f"INSERT INTO t SELECT max(id) + 1, max(seq) + 1, {sent}, 'new' FROM t")
            kept.crash(source, sent, min(sent, committed), limits)
        settled(kept)
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_rows_without_a_watermark_and_many_of_one_watermark_arrive(writer: ServedWriter) -> None:
    writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, v INTEGER)")
    writer.run("INSERT INTO t SELECT i, CASE WHEN i % 2 = 0 THEN 7 END, 0 FROM range(30000) AS r(i)")
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        assert kept.rows == written(writer, "t")
        writer.run("UPDATE t SET v = 1 WHERE id % 1000 = 1")
        settled(kept, 3)
        assert kept.rows == written(writer, "t")
        kept.reader.close()


def test_a_filter_and_a_key_with_several_rows_mean_what_they_mean_in_a_file(writer: ServedWriter) -> None:
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT, v INTEGER, hidden VARCHAR)")
    writer.run("INSERT INTO t VALUES (1, 1, 1, 'a'), (1, 2, 2, 'a'), (2, 3, 3, 'b'), (3, 4, 4, NULL)")
    heard = Heard()
    with follow(writer, events=heard) as source:
        plan = plan_of(source, "t", filter="hidden = 'a'", columns=("id", "seq", "v"), unique_key=False)
        kept = Kept(source, plan)
        settled(kept, 2)
        assert kept.rows == {("1", "2", "2")}
        assert heard.repeated == ["main.t: id = 1 has several rows"]
        kept.reader.close()


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in NOT_IN_THE_SERVER])
def test_a_value_comes_through_quack_exactly_as_it_is(values_writer: ServedWriter, kind: str) -> None:
    """[F7]"""
    values = [value for given in VALUES[kind] for value in (given, "NULL")]
    table = f"t{list(VALUES).index(kind)}"
    if "UNION" in kind:
        with pytest.raises(SourceError, match=r"its column v is a .*UNION.*Leave it out"):
            through_quack(values_writer, table, kind, values)
        return
    with duckdb_source() as connection:
        _, wanted = selected(connection, kind, VALUES[kind], nullable=True)
    assert exactly(through_quack(values_writer, table, kind, values)).equals(exactly(wanted))


EXTREMES = {
    "DATE": ("'-infinity'", "'infinity'", "'5877642-06-25 (BC)'", "'5881580-07-10'", "'0001-01-01'"),
    "TIMESTAMP": (
        "'infinity'",
        "'-infinity'",
        "'290309-12-22 (BC) 00:00:00'",
        "'294247-01-10 04:00:54.775806'",
    ),
    "TIMESTAMP_S": ("'infinity'", "'-infinity'", "'1600-01-01 00:00:01'"),
    "TIMESTAMP_MS": ("'infinity'", "'-infinity'", "'1600-01-01 00:00:01.001'"),
    "TIMESTAMP_NS": (
        "'infinity'",
        "'-infinity'",
        "'1677-09-22 00:00:00.000000001'",
        "'2262-04-11 23:47:16.854775806'",
    ),
    "TIMESTAMP WITH TIME ZONE": ("'infinity'", "'-infinity'", "'1600-01-01 00:00:01.000001+00'"),
    "HUGEINT": ("'-170141183460469231731687303715884105728'",),
    "UHUGEINT": ("'340282366920938463463374607431768211455'",),
    "VARCHAR[]": ("['a, b', '[x]', '\"', '''', 'NULL', '', NULL, '\\\\']",),
    "STRUCT(a DATE, b VARCHAR)[]": ("[{'a': DATE '2020-02-29', 'b': 'it''s, {x: 1}'}, NULL]",),
    "MAP(DATE, UUID)": ("MAP {DATE '2020-02-29': UUID '00112233-4455-6677-8899-aabbccddeeff'}",),
    "STRUCT(d DATE, s VARCHAR)": (
        "{'d': NULL, 's': 'NULL'}",
        "{'d': NULL, 's': NULL}",
        "{'d': NULL, 's': ''}",
    ),
}


@pytest.mark.parametrize("kind", EXTREMES)
def test_the_extremes_of_a_type_come_through_quack(values_writer: ServedWriter, kind: str) -> None:
    with duckdb_source() as connection:
        _, wanted = selected(connection, kind, EXTREMES[kind], nullable=False)
    found = through_quack(values_writer, f"e{list(EXTREMES).index(kind)}", kind, EXTREMES[kind])
    assert exactly(found).equals(exactly(wanted))


READING = """
import itertools, sys
from cdc.change import BatchLimits
from cdc.source.served import open_served
from cdc.source.served.client import Away, over_adbc
from cdc.source.served.pages import Area, Pages
from cdc.source.table.ranges import Range
from cdc.source.served.reader import Comparing
from tests.support.sources import plan_of
source = open_served(sys.argv[1], sys.argv[2], comparing=Comparing(0.0, 100.0))
print("ready", flush=True)
for number in itertools.count():
    reader, mark = source.open(plan_of(source, "t")), None
    for _ in range(3):
        for batch in reader.read(mark, BatchLimits(1_000, 1 << 20)):
            reader.acknowledged(batch)
            mark = batch.mark or mark
    source.rows(plan_of(source, "t"), None, None).read_all()
"""


def reading(writer: ServedWriter) -> subprocess.Popen[str]:
    """A process that reads all that there is, again and again."""
    process = subprocess.Popen(
        [sys.executable, "-c", READING, writer.address, TOKEN], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def checkpoints(writer: ServedWriter) -> bool:
    try:
        writer.run("CHECKPOINT")
    except WriterError:
        return False
    return True


def check_that_it_checkpoints(writer: ServedWriter, number: int) -> None:
    writer.run(f"UPDATE t SET v = {number} WHERE id % 100 = 0")
    wait_until(lambda: checkpoints(writer), "a checkpoint", 10.0)
    log = writer.path.with_name("t.db.wal")
    assert not log.exists() or not log.stat().st_size


def test_the_writer_checkpoints_whenever_its_client_dies(writer: ServedWriter) -> None:
    """What a client left open would keep the writer from that for ever: after an update, no checkpoint."""
    create(writer)
    writer.run("UPDATE t SET s = repeat('long ', 40)")
    chance = random.Random(15)
    for number in range(3):
        process = reading(writer)
        try:
            time.sleep(chance.uniform(0.0, 0.6))
            process.kill()
            check_that_it_checkpoints(writer, number)
        finally:
            ended(process)


def test_a_page_with_a_row_too_many_is_one_response(writer: ServedWriter) -> None:
    """A second one would leave the transaction open in the writer until it was asked for."""
    create(writer)
    with Proxy(writer.port) as proxy, open_served(f"quack://127.0.0.1:{proxy.port}", TOKEN) as source:
        pages = Pages(plan_of(source, "t"), source.client, source.server)
        for most, times in ((MOST_ROWS, 1), (MOST_ROWS + 1, 2)):
            before = proxy.posts
            assert pages.page(Area(Range()), most).num_rows == most + 1
            assert proxy.posts - before == times, f"{most + 1} rows"


def test_the_writer_checkpoints_whenever_its_client_stalls(writer: ServedWriter) -> None:
    create(writer)
    writer.run("UPDATE t SET s = repeat('long ', 40)")
    chance = random.Random(15)
    process = reading(writer)
    try:
        for number in range(8):
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(process.pid, signal.SIGSTOP)
            check_that_it_checkpoints(writer, number)
            os.kill(process.pid, signal.SIGCONT)
    finally:
        ended(process)


def test_a_restarted_writer_is_read_on_and_compared(tmp_path: Path) -> None:
    port = free_port()
    with ServedWriter(tmp_path / "t.db", port=port, chunks=CHUNKS) as first, follow(first) as source:
        create(first)
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        first.close()
        with pytest.raises(SourceError, match="gives no answer: connection refused") as caught:
            kept.read()
        assert caught.value.meaning is Meaning.RETRY
        with ServedWriter(tmp_path / "t.db", port=port, chunks=CHUNKS) as writer:
            writer.run("UPDATE t SET v = 5 WHERE id = 3")
            writer.run("DELETE FROM t WHERE id = 15000")
            before = kept.handed_out
            kept.unseen.clear()
            kept.read()
            assert kept.broken
            assert kept.handed_out - before < ROWS
            assert kept.rows - written(writer, "t") == {("15000", "15000", "0", "x15000")}
            kept.reader.close()
            source.close()
            assert source.closed


def test_another_database_behind_the_address_is_noticed_before_a_row_is_delivered(tmp_path: Path) -> None:
    port = free_port()
    with ServedWriter(tmp_path / "t.db", port=port) as first, follow(first) as source:
        create(first, 100)
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        first.close()
        with ServedWriter(tmp_path / "other.db", port=port) as other:
            create(other, 200)
            before = kept.handed_out
            with pytest.raises(SourceReplaced, match="another database answers there"):
                kept.read()
            assert kept.handed_out == before
            kept.reader.close()


def test_each_way_of_not_answering_has_its_message(writer: ServedWriter, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"refuses the token.*quack_token of \[auth\]") as caught:
        follow(writer, token="another-token")
    assert caught.value.meaning is Meaning.STOP
    assert "another-token" not in str(caught.value)
    create(writer, 10)
    with follow(writer) as source:
        plan = plan_of(source, "t")
        writer.run("ALTER TABLE t DROP COLUMN s")
        reader = source.open(plan)
        with pytest.raises(SourceError, match=r"its column s .* is gone"):
            deliver(reader, None)
        reader.close()
        writer.run("DROP TABLE t")
        reader = source.open(plan)
        with pytest.raises(SourceError, match="the table is gone"):
            deliver(reader, None)
        reader.close()


def test_a_commit_ends_the_wait_where_the_log_is_here(writer: ServedWriter) -> None:
    create(writer, 10)
    with follow(writer) as source:
        assert source.woken_by_log
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        position = source.position()
        deadline = time.monotonic() + 20
        while source.wait(position, 0.3) != position:  # until it looks once a second
            position = source.position()
            assert time.monotonic() < deadline
        writer.run("INSERT INTO t VALUES (99, 99, 1, 'n')")
        assert source.wait(position, 10.0) != position
        assert kept.read() == 1
        kept.reader.close()


def test_histories_are_equal_whenever_their_writer_rests(writer: ServedWriter) -> None:
    """A few; `python -m tools.histories --served` runs as many as are asked for."""
    with follow(writer) as source:
        for seed in range(4):
            served_history(writer, source, seed, most_rows=6_000)


def test_a_call_ends_in_time_whatever_the_server_does_the_closing_included(writer: ServedWriter) -> None:
    connect = over_adbc(writer.address, TOKEN, 0.5)
    asking, closing = connect(), connect()
    closing.ask("SELECT 1")
    os.kill(writer.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Away, match="did not answer in time"):
            asking.ask("SELECT 1")
        asking.close()
        closing.close()
        with pytest.raises(Away, match="did not answer in time"):
            connect()
    finally:
        os.kill(writer.process.pid, signal.SIGCONT)


def test_a_query_is_answered_with_its_types_and_leaves_nothing_open(writer: ServedWriter) -> None:
    writer.run(
        "CREATE TABLE t AS SELECT i AS id, DATE '2020-02-29' AS d, uuid() AS u FROM range(10000) AS r(i)"
    )
    with follow(writer) as source, source.snapshot() as snapshot:
        found = snapshot.query(
            "SELECT id, d, id AS id, 1::HUGEINT AS h FROM t ORDER BY id DESC LIMIT 3"
        ).read_all()
        assert found.column_names == ["id", "d", "id", "h"]
        assert found.column(0).to_pylist() == [9_999, 9_998, 9_997]
        assert str(found.column(1)[0]) == "2020-02-29"
        with pytest.raises(SourceError, match=rf"more than {MOST_ROWS:,} rows.*LIMIT"):
            snapshot.query("SELECT * FROM t")
        with pytest.raises(SourceError, match="Referenced column"):
            snapshot.query("SELECT nope FROM t")
    writer.run("UPDATE t SET id = -id WHERE id = 7")
    assert checkpoints(writer)


def read_only(writer: ServedWriter) -> None:
    """The statements of docs/quack.md that make the endpoint read-only."""
    text = (Path(__file__).parents[2] / "docs" / "quack.md").read_text()
    shown = text[text.index("CREATE OR REPLACE MACRO") :]
    for statement in shown[: shown.index("```")].split(";"):
        lines = [line.partition("--")[0].strip() for line in statement.splitlines()]
        if sql := " ".join(line for line in lines if line):
            writer.run(sql)


def test_an_endpoint_that_is_made_read_only_as_documented_is_read_and_refuses_writes(
    writer: ServedWriter,
) -> None:
    create(writer, 5_000)
    read_only(writer)
    with follow(writer) as source:
        kept = Kept(source, plan_of(source, "t"))
        settled(kept)
        assert kept.rows == written(writer, "t")
        assert source.snapshot().query("SELECT count(*) AS n FROM t").read_all().to_pylist() == [{"n": 5_000}]
        for sql in (
            "DELETE FROM t",
            "DROP TABLE t",
            "SELECT 1; DELETE FROM t",
            "COPY t TO 'stolen.csv'",
            "ATTACH 'other.db'",
            "SET GLOBAL quack_authorization_function = 'quack_nop_authorization'",
            f"CALL quack_stop('quack:127.0.0.1:{writer.port}')",
            "CHECKPOINT",
        ):
            with pytest.raises(SourceError):
                source.client.ask(sql)
        assert source.client.ask("SELECT count(*) FROM t").column(0).to_pylist() == [5_000]
        kept.reader.close()


@pytest.mark.parametrize("language", ["python", "rust"])
def test_the_reference_writers_serve(
    language: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[W4]"""
    command: tuple[str, ...] = (str(interpreter(VERSION, *EXTENSIONS)), REFERENCE_WRITER[1])
    if language == "rust":
        command = (str(request.getfixturevalue("rust_writer_binary")),)
    port = free_port()
    serving = ["--rate", 500, "--rows-per-commit", 10, "--serve", f"quack:127.0.0.1:{port}"]
    for name in EXTENSIONS:
        serving += ["--extension", extension_file(name)]
    told = run_writer("--path", tmp_path / "t.duckdb", *serving, command=command)
    assert told.returncode == 1
    assert "there is no token. Set DUCKDB_QUACK_TOKEN." in told.stderr
    environment = {**bare_environment(), "DUCKDB_QUACK_TOKEN": TOKEN}
    arguments = [*command, "--path", str(tmp_path / "t.duckdb"), *map(str, serving)]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as process:
        trading = WriterProcess(process, tmp_path / "t.duckdb")
        try:
            trading.wait_for_rows(500)
            with open_served(f"quack://127.0.0.1:{port}", TOKEN) as source:
                plan = plan_of(source, "trades", key=("trade_id",), watermark="seq", version="updated_at")
                kept = Kept(source, plan)
                kept.read()
                assert len(kept.rows) >= 500
                assert trading.stop() == 0
                kept.reader.close()
            assert check_trades(trading.database) >= len(kept.rows)
        finally:
            trading.kill()
