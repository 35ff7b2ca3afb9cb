"""Does the DuckDB at hand do what reading a live file relies on?

A small database is written here and read as a writer's is, and what comes out is compared with what its
DuckDB says that it holds. So a DuckDB that lays out its log in another way, or numbers rows in another way,
is found out before it can make rows wrong, and not after.

The writer is a second DuckDB in this process. That is safe for a file that nobody else knows: when a pin is
closed, POSIX drops the lock that the writer took on the file, and there is no one whom it would keep out.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cdc.change import Batch, BatchLimits, Mark, TableId, TablePlan
from cdc.clock import Clock, SystemClock
from cdc.closing import Closing
from cdc.private import private_directory
from cdc.source.database import CountedReader, DuckDbSource, open_source
from cdc.source.events import NoEvents
from cdc.source.file.confined import confined
from cdc.source.file.pin import Pinner
from cdc.source.file.places import LOG
from cdc.source.format import frames
from cdc.source.format.headers import HEADER_SIZE, HEADERS_SIZE
from cdc.source.format.log import FRAMED, parse_log_header
from cdc.source.format.tested import READERS
from cdc.source.quote import literal

ROWS = 4_200
"""In the file: of three row groups of the smallest size, one of DuckDB's vectors."""
_ROW_GROUP = 2_048
_LIMITS = BatchLimits(rows=10_000, bytes=32 << 20)
_MEMORY_MB = 64
_PREFIX = "self-test-"
_LEFT_SECONDS = 3600.0
"""A directory that was not touched for so long is of a process that was killed."""
_TABLE = TableId("main", "t")
_COLUMNS = "id BIGINT, seq BIGINT, name VARCHAR, price DECIMAL(18, 4), moment TIMESTAMP, live BOOLEAN"
_VALUES = (
    "i, i, CASE WHEN i % 7 > 0 THEN 'name of ' || i END, i / 8, "
    "TIMESTAMP '2026-01-01' + to_seconds(i), i % 2 = 0"
)
_SKIPPING = ("SET auto_checkpoint_skip_wal_threshold = 1000", "SET checkpoint_threshold = '1KB'")

Row = tuple[Any, ...]


class _Differs(Exception):
    """What does not hold."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of it."""

    duckdb: str
    """The version that was tested."""
    seconds: float
    failed: str | None = None
    """What does not hold; None: everything does, and the log may be followed."""
    remedy: str = ""
    """For a person, where something does not."""
    snapshots: bool = True
    """Snapshots may be taken beside the writer all the same."""


def run_self_test(directory: Path, clock: Clock | None = None) -> SelfTest:
    """Test in a directory of its own below `directory`, for a fraction of a second; it does not raise."""
    clock = clock or SystemClock()
    began = clock.monotonic()
    failed: str | None = None
    stage: tuple[str, Callable[[_Bench], None] | None] = ("it cannot be run", None)
    try:
        with _directory(directory) as made, _Bench(made / "t.db", clock) as bench:
            for stage in _CHECKS:
                stage[1](bench)
    except Exception as error:  # noqa: BLE001 - whatever it is, the log is not to be followed then
        kind = "" if isinstance(error, _Differs) else f"{type(error).__name__}: "
        failed = f"{stage[0]}: {kind}{str(error).partition(chr(10))[0]}"
    seconds = clock.monotonic() - began
    if failed is None:
        return SelfTest(duckdb.__version__, seconds)
    remedy = (
        f"Install a DuckDB that was tested, as by: pip install duckdb=={READERS[-1]}; then restart"
        if stage[1] is not None
        else f"Let this user write to {directory}, and see that there is room; then restart"
    )
    return SelfTest(
        duckdb.__version__, seconds, failed, remedy, snapshots=stage[1] is not _headers_are_a_lock
    )


class _Bench(Closing):
    """A database of one table, its writer, and a source that reads it as any other."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.lost: list[str] = []
        self._rows: dict[int, Row | None] = {}
        self._mark: Mark | None = None
        self._source: DuckDbSource | None = None
        self._reader: CountedReader | None = None
        self._writer = confined(
            {"threads": 1, "memory_limit": f"{_MEMORY_MB}MB", "checkpoint_threshold": "1GB"},
            opens=path,
            settable=("auto_checkpoint_skip_wal_threshold", "checkpoint_threshold"),
        )
        self.write(
            f"ATTACH {literal(str(path))} AS bench (ROW_GROUP_SIZE {_ROW_GROUP})",
            "USE bench",
            f"CREATE TABLE t ({_COLUMNS})",
            f"INSERT INTO t SELECT {_VALUES} FROM range({ROWS}) AS r(i)",
            "CHECKPOINT",
        )

    @property
    def log(self) -> Path:
        return self.path.with_name(self.path.name + LOG)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._source is not None:
            self._source.close()
        self._writer.close()

    def write(self, *statements: str) -> None:
        """Each is a commit."""
        for statement in statements:
            self._writer.execute(statement)

    def written(self) -> set[Row]:
        """The rows as the writer has them."""
        return set(self._writer.execute("SELECT * FROM t").fetchall())

    def must_be_equal(self, *, followed: bool = True) -> None:
        """What is read up to now must be what the writer has; where `followed`, the log has shown it."""
        if self._reader is None:
            self._source = open_source(
                self.path,
                memory_limit_mb=_MEMORY_MB,
                threads=1,
                direct=False,
                deletes=True,
                events=_Events(self.lost),
                clock=self.clock,
            )
            [schema] = self._source.tables()
            watermark = schema.column("seq")
            assert watermark is not None, "it was created with it"
            self._reader = self._source.open(TablePlan(_TABLE, "t", schema.columns, ("id",), watermark))
        before = len(self.lost)
        for batch in self._reader.read(self._mark, _LIMITS):
            self._take(batch)
            self._reader.acknowledged(batch)
        _require(not followed or len(self.lost) == before, f"it was not followed: {self.lost[before:]}")
        read, written = {row for row in self._rows.values() if row is not None}, self.written()
        missing, over = len(written - read), len(read - written)
        _require(read == written, f"of {len(written)} rows {missing} are missing, {over} wrong or left over")

    def _take(self, batch: Batch) -> None:
        self._mark = batch.mark or self._mark
        gone = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
        rows = zip(*(column.to_pylist() for column in batch.rows.columns), strict=True)
        for row, removed in zip(rows, gone, strict=True):
            self._rows[row[0]] = None if removed else row


class _Events(NoEvents):
    def __init__(self, lost: list[str]) -> None:
        self._lost = lost

    def tail_lost(self, _: TableId, reason: str) -> None:
        self._lost.append(reason)


def _headers_are_a_lock(bench: _Bench) -> None:
    """A checkpoint writes into free space, and switches by writing one of the two headers."""
    rows, before = bench.written(), bench.path.read_bytes()[:HEADERS_SIZE]
    pinner = Pinner(bench.path, bench.clock)
    with pinner.pin() as pin:
        bench.write("UPDATE t SET name = 'another', price = price + 1", "DELETE FROM t WHERE id = 5")
        _require(not pin.is_superseded(), "a commit changed the headers")
        bench.write("CHECKPOINT")
        _require(pin.is_superseded(), "a checkpoint changed none of them")
    after = bench.path.read_bytes()
    changed = [
        at
        for at in range(0, HEADERS_SIZE, HEADER_SIZE)
        if after[at:][:HEADER_SIZE] != before[at:][:HEADER_SIZE]
    ]
    _require(changed in ([HEADER_SIZE], [2 * HEADER_SIZE]), f"a checkpoint changed those at {changed}")
    _require(pinner.position().iteration == pin.position.iteration + 1, "a checkpoint is not numbered on")
    overtaken = bench.path.with_name("overtaken.db")
    overtaken.write_bytes(before + after[HEADERS_SIZE:])
    with confined({"access_mode": "READ_ONLY"}, file=overtaken) as connection:
        found = set(connection.execute("SELECT * FROM t").fetchall())
    _require(found == rows, "a checkpoint overwrote what the header before it leads to")


def _log_is_framed(bench: _Bench) -> None:
    """A header that names the database and the checkpoint, then frames with checksums, commit by commit."""
    bench.write(
        f"INSERT INTO t SELECT {_VALUES} FROM range({ROWS}, {ROWS + 10}) AS r(i)",
        "UPDATE t SET live = NOT live WHERE id BETWEEN 1 AND 4",
        "DELETE FROM t WHERE id = 6",
    )
    with Pinner(bench.path, bench.clock).pin() as pin:
        headers, raw, position = pin.headers, bench.log.read_bytes(), pin.position
    header = parse_log_header(raw)
    if header is None or header.version != FRAMED:
        raise _Differs(f"its header is {header}")
    _require(header.identifier == headers.identifier, "it names another database")
    _require(header.iteration == position.iteration, "it follows another checkpoint")
    found = list(frames.read_frames(raw, header.size))
    _require(header.size + sum(map(len, found)) == len(raw), "the frames do not fill it")
    _require(all(map(frames.is_sound, found)), "a checksum does not match its frame")
    _require(position.offset == len(raw), f"{position.offset} of {len(raw)} bytes are committed")
    used = {frames.used_table(frame) for frame in found if frames.kind(frame) == frames.USE_TABLE}
    _require(used == {_TABLE}, f"the table it is about reads as {used}")
    kinds = [frames.kind(frame) for frame in found if frames.kind(frame) != frames.USE_TABLE]
    changes = (frames.INSERT, frames.UPDATE, frames.DELETE)
    _require(
        kinds == [kind for change in changes for kind in (change, frames.COMMIT)], f"it reads as {kinds}"
    )
    _require(frames.inserted_rows(found[1]) == 10, "the rows inserted are not as many")


def _log_is_followed(bench: _Bench) -> None:
    """The twin, attached with new frames alone, shows what they insert, update and delete."""
    bench.must_be_equal()
    bench.write(
        f"INSERT INTO t SELECT {_VALUES} FROM range(8000, 8020) AS r(i)",
        "UPDATE t SET name = NULL, price = -price WHERE id IN (1, 2049, 8001)",
        "DELETE FROM t WHERE id IN (2, 2051, 8002)",
        "UPDATE t SET moment = moment + INTERVAL 1 DAY WHERE id = 1",
    )
    bench.must_be_equal()


def _rows_keep_their_ids(bench: _Bench) -> None:
    """Rows in the file and in the log are numbered as the log numbers them, past rows that are gone too."""
    bench.write(
        f"DELETE FROM t WHERE rowid BETWEEN {_ROW_GROUP} AND {2 * _ROW_GROUP}"
    )  # one group, and a row
    bench.must_be_equal()
    bench.write("CHECKPOINT")
    bench.must_be_equal()
    bench.write(
        f"INSERT INTO t SELECT {_VALUES} FROM range(9000, 9003) AS r(i)",
        "UPDATE t SET name = 'moved' WHERE id IN (3, 4198, 8003, 9001)",
        "DELETE FROM t WHERE id IN (4, 4197, 8004, 9002)",
    )
    bench.must_be_equal()


def _log_is_skipped(bench: _Bench) -> None:
    """A commit that goes into the file alone is in the next snapshot, and the log is followed from there."""
    with contextlib.suppress(duckdb.CatalogException):  # this DuckDB has no such commits, or not by that name
        bench.write(*_SKIPPING)
    bench.write(
        f"INSERT INTO t SELECT {_VALUES} FROM range(10000, 12000) AS r(i)", "RESET checkpoint_threshold"
    )
    bench.must_be_equal(followed=False)
    bench.write("UPDATE t SET name = 'last' WHERE id IN (3, 10001)", "DELETE FROM t WHERE id = 10002")
    bench.must_be_equal()


_CHECKS: tuple[tuple[str, Callable[[_Bench], None]], ...] = (
    ("the headers are no lock", _headers_are_a_lock),
    ("the log is laid out in another way", _log_is_framed),
    ("the log does not show what was committed", _log_is_followed),
    ("rows are numbered in another way", _rows_keep_their_ids),
    ("after a commit that skips the log", _log_is_skipped),
)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Differs(otherwise)


@contextlib.contextmanager
def _directory(parent: Path) -> Iterator[Path]:
    """A directory for this test, and none that was left behind."""
    private_directory(parent)
    for left in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as made:
        yield Path(made)
