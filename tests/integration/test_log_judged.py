"""The log decoded directly, and DuckDB as the judge: what is read without it, what it is asked for, and what
becomes of a decoder that it proves wrong. [F2 F6 issue 14 part 2]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest

from cdc.source import open_source
from cdc.source.format import layouts
from cdc.source.format.decode import FrameDecoder
from cdc.source.tail.twin import Decoded, Twin
from tests.support.kept import Heard, Kept, written
from tests.support.logged import VALUES
from tests.support.sources import plan_of
from tests.support.writers import OLDER, Writer

PLAIN = ("id BIGINT", "seq BIGINT", "v VARCHAR", "price DECIMAL(18,6)")
ROWS = "SELECT i, i, 'v' || i, i / 8 FROM range({}, {}) r(i)"


class Attached:
    """Counts how often frames are given to DuckDB, and how many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        real = Twin.attached

        @contextlib.contextmanager
        def attached(twin: Twin, changes: Sequence[bytes]) -> Iterator[Decoded]:
            self.times += 1
            with real(twin, changes) as decoded:
                yield decoded

        monkeypatch.setattr(Twin, "attached", attached)


class Read:
    """A writer with a table, and what is kept of it by a reader."""

    def __init__(
        self,
        stack: ExitStack,
        directory: Path,
        *,
        columns: Sequence[str] = PLAIN,
        rows: str = ROWS.format(0, 20),
        percent: float | None = 0.0,
        version: str | None = None,
        overlap: str = "0",
    ) -> None:
        path = directory / "r.db"
        self.heard = Heard()
        self.names = tuple(column.partition(" ")[0] for column in columns)
        self.writer = stack.enter_context(Writer(path, version) if version else Writer(path))
        self.writer.run(f"CREATE TABLE t ({', '.join(columns)})")
        if rows:
            self.writer.run(f"INSERT INTO t {rows}")
        self.writer.run("CHECKPOINT")
        source = stack.enter_context(
            open_source(path, deletes=True, events=self.heard, decode_check_percent=percent)
        )
        self.kept = Kept(source, plan_of(source, "t", overlap=overlap))
        stack.callback(lambda: self.kept.reader.close())
        self.kept.read()

    def after(self, *statements: str) -> None:
        """Each is a commit and a round; afterwards what is kept is what the writer has."""
        for statement in statements:
            self.writer.run(statement)
            self.kept.read()
        assert self.kept.rows == written(self.writer, "t", self.names)
        assert self.heard.lost == []


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


EACH_KIND = (
    f"INSERT INTO t {ROWS.format(100, 103)}",
    "UPDATE t SET price = NULL, v = 'new' WHERE id IN (1, 101)",
    "DELETE FROM t WHERE id IN (2, 102)",
)


def test_after_the_first_round_of_each_kind_duckdb_decodes_none(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Read(stack, tmp_path)
    attached = Attached(monkeypatch)
    read.after(*EACH_KIND)
    assert attached.times > 3  # the rows written as a test, and one round of each kind
    attached.times = 0
    read.after(
        f"INSERT INTO t {ROWS.format(200, 290)}",
        "UPDATE t SET v = 'newer', price = 1 WHERE id IN (1, 3, 101, 210)",
        "UPDATE t SET v = NULL WHERE id IN (1, 4, 211)",
        "UPDATE t SET id = id + 1000, v = 'moved' WHERE id IN (5, 212)",
        "DELETE FROM t WHERE id IN (1, 6, 213, 1005)",
        f"INSERT INTO t {ROWS.format(5, 7)}",
        "BEGIN; DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (7, 7, 'again', 0); COMMIT",
        f"BEGIN; INSERT INTO t {ROWS.format(300, 305)}; UPDATE t SET v = 'at once' WHERE id = 301;"
        " DELETE FROM t WHERE id = 302; COMMIT",
    )
    assert attached.times == 0
    read.after("CHECKPOINT", f"INSERT INTO t {ROWS.format(500, 503)}")
    assert attached.times > 0
    assert read.heard.mismatches == []


@pytest.mark.parametrize("version", OLDER)
def test_rounds_of_older_writers_are_decoded_directly(
    version: str, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Read(stack, tmp_path, version=version)
    read.after(*EACH_KIND)
    attached = Attached(monkeypatch)
    read.after(
        f"INSERT INTO t {ROWS.format(200, 290)}",
        "UPDATE t SET v = NULL, price = 2 WHERE id IN (1, 3, 101, 210)",
        "UPDATE t SET v = 'back' WHERE id IN (1, 3, 210)",
        "DELETE FROM t WHERE id IN (1, 6, 213)",
    )
    assert attached.times == 0
    assert read.heard.mismatches == []


def test_what_was_read_directly_and_what_duckdb_decoded_are_one_state(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that was NULL for a while, and rows touched by both kinds of rounds in turns."""
    read = Read(stack, tmp_path, percent=50.0)
    read.after(*EACH_KIND)
    for turn in range(12):
        read.after(
            f"UPDATE t SET v = NULL WHERE id % 4 = {turn % 4}",
            f"UPDATE t SET v = 'v' || id WHERE id % 4 = {turn % 4}",
            f"UPDATE t SET price = {turn} WHERE id % 3 = {turn % 3}",
            f"INSERT INTO t {ROWS.format(400 + 10 * turn, 410 + 10 * turn)}",
            f"DELETE FROM t WHERE id = {401 + 10 * turn}",
        )
    assert read.heard.mismatches == []


def test_a_decoder_that_reads_otherwise_than_duckdb_is_turned_off_aloud_and_the_rows_are_duckdbs(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Read(stack, tmp_path, percent=100.0)
    read.after(*EACH_KIND)
    assert read.heard.mismatches == []
    calls = 0
    real = FrameDecoder.inserts

    def misread(decoder: FrameDecoder, of: Sequence[bytes]) -> list[pa.Array]:
        nonlocal calls
        calls += 1
        found = real(decoder, of)
        return [*found[:3], pa.nulls(len(found[3]), found[3].type)]

    monkeypatch.setattr(FrameDecoder, "inserts", misread)
    read.after(f"INSERT INTO t {ROWS.format(200, 203)}")
    assert read.heard.mismatches == ['the inserted values of "price"']
    before = calls
    read.after(f"INSERT INTO t {ROWS.format(300, 303)}", "UPDATE t SET v = 'new' WHERE id = 301")
    assert calls == before
    assert len(read.heard.mismatches) == 1


def test_a_decoder_that_does_not_read_back_what_duckdb_writes_as_a_test_is_never_used(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_widened", lambda data, width: bytes(16 * (len(data) // width)))
    read = Read(stack, tmp_path)
    read.after(*EACH_KIND)
    assert len(read.heard.mismatches) == 1
    assert "rows that DuckDB wrote as a test" in read.heard.mismatches[0]


def test_a_table_with_another_type_is_left_to_duckdb_and_nothing_is_told(
    stack: ExitStack, tmp_path: Path
) -> None:
    read = Read(stack, tmp_path, columns=(*PLAIN, "tags VARCHAR[]"), rows="")
    read.after("INSERT INTO t VALUES (1, 1, 'a', 1, ['x'])", "UPDATE t SET v = 'b'", "DELETE FROM t")
    assert read.heard.mismatches == []


def test_rows_decoded_directly_of_every_type_are_known_after_a_checkpoint(
    stack: ExitStack, tmp_path: Path
) -> None:
    """They get their hash when it is needed, from what was delivered: it must be that of the source's."""
    types = list(VALUES)
    columns = ["id BIGINT", "seq BIGINT", *(f"c{n} {kind}" for n, kind in enumerate(types))]
    read = Read(stack, tmp_path, columns=columns, rows="", overlap="1000")

    def insert(number: int) -> str:
        each = (
            "NULL" if number % 5 == 4 else f"CAST({VALUES[kind][number % len(VALUES[kind])]} AS {kind})"
            for kind in types
        )
        return f"INSERT INTO t VALUES ({number}, {number}, {', '.join(each)})"

    for number in range(10):
        read.writer.run(insert(number))
        read.kept.read()
    handed_out = read.kept.handed_out
    assert handed_out == 10
    read.writer.run("CHECKPOINT")
    read.kept.read()
    assert read.kept.handed_out == handed_out
    assert read.heard.mismatches == []
