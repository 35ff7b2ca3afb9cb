"""A source file that is deleted, replaced, restored from long ago, damaged or cut, and put right. [R12]"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import duckdb

from tests.support.faults import Rig
from tests.support.waiting import wait_until

HEADERS_BYTES = 3 * 4096


def _put_right(rig: Rig, kept: Path, fault: str, message: str) -> None:
    """The file is again what the writer left, and the writer goes on."""
    kept.replace(rig.source)
    began = time.monotonic()
    if rig.replica.process.poll() is not None:
        rig.replicate()  # as a service manager does
    rig.write()
    rig.recover()
    rig.settle(fault, time.monotonic() - began, message)


def _keep(rig: Rig) -> Path:
    """The writer has ended in order; its file under another name, too."""
    assert rig.writer.stop() == 0
    kept = rig.directory / "kept"
    shutil.copyfile(rig.source, kept)
    return kept


def test_a_source_that_is_deleted_is_waited_for(rig: Rig) -> None:
    kept = _keep(rig)
    rig.source.unlink()
    message = rig.said()
    assert str(rig.source) in message
    _put_right(rig, kept, "source file deleted", message)


def test_another_database_at_the_same_path_is_not_taken_for_the_source(rig: Rig) -> None:
    kept = _keep(rig)
    other = rig.directory / "other"
    with duckdb.connect(str(other)) as connection:
        connection.execute(f"ATTACH '{kept}' AS kept (READ_ONLY)")
        for table in ("brokers", "trades"):
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM kept.{table} LIMIT 7")
    other.replace(rig.source)
    message = "another database"
    wait_until(lambda: message in rig.replica.log, "the log to tell of it", 60.0)
    _put_right(rig, kept, "source file replaced by another database", message)


def test_a_copy_from_before_the_watermark_is_told_and_gone_on_from(rig: Rig) -> None:
    old = rig.directory / "old"
    shutil.copyfile(_keep(rig), old)
    rig.write()
    rig.writer.wait_for_rows(200)
    rig.recover()
    kept = _keep(rig)
    old.replace(rig.source)
    message = "another file took its place"
    wait_until(lambda: message in rig.replica.log, "the log to tell of it", 60.0)
    _put_right(rig, kept, "source file restored older than the watermark", message)


def test_a_source_with_damaged_blocks_halts_and_delivers_none_of_it(rig: Rig) -> None:
    kept = _keep(rig)
    damaged = rig.directory / "damaged"
    content = bytearray(kept.read_bytes())
    for at in range(HEADERS_BYTES + 100, len(content), 1000):
        content[at] ^= 0xFF
    damaged.write_bytes(content)
    damaged.replace(rig.source)
    rig.replica.kill()
    rig.replicate()  # one that runs has no need to read the blocks again
    message = rig.said()
    _put_right(rig, kept, "source file corrupted in its blocks", message)


def test_a_source_that_is_cut_short_halts_until_it_is_whole(rig: Rig) -> None:
    kept = _keep(rig)
    short = rig.directory / "short"
    shutil.copyfile(kept, short)
    with short.open("r+b") as file:
        file.truncate(HEADERS_BYTES + 1000)
    short.replace(rig.source)
    rig.replica.kill()
    rig.replicate()  # one that runs has no need to read the lost part again
    message = rig.said()
    _put_right(rig, kept, "source file truncated", message)
