"""A live writer with one table, a source that follows its log, and what a target would hold of the table."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cdc.eras import MemoryEras
from cdc.source import DuckDbSource, open_source
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.writers import Writer

ROWS = 1_000


class Followed:
    """A writer with one table, a source that follows it, and what was kept of the table."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.stack = stack
        self.heard = Heard()
        self.writer: Writer
        self.version = ""
        self.eras = MemoryEras(0.0)
        """They count on, as those of the state store do."""
        self.options: dict[str, Any] = {}
        self.source: DuckDbSource
        self.kept: Kept

    def write(self, version: str, config: dict[str, str] | None = None, attach: str | None = None) -> Writer:
        self.version = version
        self.writer = self.stack.enter_context(Writer(self.path, version, config, attach))
        return self.writer

    def create(self, columns: str = "id INTEGER, seq BIGINT, s VARCHAR", rows: str = "i, i, 'x'") -> None:
        """The table `t` with `ROWS` rows in the file and an empty log."""
        self.writer.run(f"CREATE TABLE t ({columns})")
        self.writer.run(f"INSERT INTO t SELECT {rows} FROM range({ROWS}) AS r(i)")
        self.writer.run("CHECKPOINT")

    def follow(self, *, deletes: bool = True, encryption_key: str | None = None) -> None:
        """Open the source, and read what there is. The overlap is 0, so that a snapshot past the mark shows
        no update."""
        self.options = {"deletes": deletes, "encryption_key": encryption_key}
        self.open()
        self.kept = Kept(self.source, plan_of(self.source, "t"))
        self.kept.read()

    def open(self) -> None:
        """Open the source, again, as another process does."""
        self.source = self.stack.enter_context(
            open_source(self.path, events=self.heard, eras=self.eras, **self.options)
        )

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.writer.run(statement)

    def equal(self) -> bool:
        """Whether what is kept, after one read, is what the writer has."""
        self.kept.read()
        return self.kept.rows == written(self.writer, "t")
