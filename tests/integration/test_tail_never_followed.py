"""A log that can never be followed breaks with each checkpoint: updates before the mark are not seen."""

from __future__ import annotations

from pathlib import Path

from cdc.source import open_source
from tests.support.kept import Heard, Kept
from tests.support.sources import plan_of
from tests.support.writers import Writer


def test_each_checkpoint_of_a_log_that_is_not_followed_tells_that_changes_may_go_unseen(
    tmp_path: Path,
) -> None:  # [R3]
    path, heard = tmp_path / "t.db", Heard()
    with (
        Writer(path, config={"force_mbedtls_unsafe": "true"}, attach="ENCRYPTION_KEY 'secret'") as writer,
        open_source(path, deletes=True, events=heard, encryption_key="secret") as source,
    ):
        writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
        writer.run("INSERT INTO t SELECT i, i FROM range(1000) AS r(i)")
        writer.run("CHECKPOINT")
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        writer.run("INSERT INTO t VALUES (1000, 1000)")  # begins the log, which counts as one
        kept.read()
        told = len(heard.broken)
        for row in range(1001, 1004):
            writer.run(f"INSERT INTO t VALUES ({row}, {row})")
            kept.read()
        assert len(heard.broken) == told
        writer.run("CHECKPOINT")
        kept.read()
        assert len(heard.broken) == told + 1
        assert all("the log is encrypted" in each for each in heard.broken)
