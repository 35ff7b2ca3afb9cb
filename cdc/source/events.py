"""What a source tells about its work, besides the rows: to whoever is interested."""

from __future__ import annotations

from typing import Protocol

from cdc.change import TableId


class SourceEvents(Protocol):
    """Told what happens while tables are read; must not raise and must not block."""

    def snapshot_superseded(self) -> None:
        """A checkpoint overtook a snapshot; what it had not delivered is read again from a new one."""
        ...

    def duckdb_failed(self, reason: str) -> None:
        """The DuckDB in memory that tables are read with failed, and was replaced: what they read is read
        again."""
        ...

    def tail_lost(self, table: TableId, reason: str) -> None:
        """The log cannot be followed for now, or one came and went unread: the table is read in snapshots."""
        ...

    def decoder_mismatch(self, table: TableId, what: str) -> None:
        """Our own decoder read rows of the log otherwise than DuckDB, which is right: from now on DuckDB
        alone decodes the log of this source."""
        ...

    def tail_gap(self, table: TableId, rows: int) -> None:
        """A snapshot found rows that the tail, which followed every log, had not: they were committed without
        the log."""
        ...

    def key_repeated(self, table: TableId, example: str) -> None:
        """The configured key is not unique: `example` says which has several rows."""
        ...

    def key_unique(self, table: TableId) -> None:
        """It is unique again."""
        ...


class NoEvents:
    """For those who are not interested."""

    def snapshot_superseded(self) -> None: ...

    def duckdb_failed(self, reason: str) -> None: ...

    def tail_lost(self, table: TableId, reason: str) -> None: ...

    def decoder_mismatch(self, table: TableId, what: str) -> None: ...

    def tail_gap(self, table: TableId, rows: int) -> None: ...

    def key_repeated(self, table: TableId, example: str) -> None: ...

    def key_unique(self, table: TableId) -> None: ...
