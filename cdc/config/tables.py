"""Which tables are replicated, and how is each read? [[tables]] and [defaults]."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cdc.config.kinds import Name, Names, Overlap, PositiveSeconds, Section, Sql, text_like


class CompletionConfig(Section):
    """Rows of a group, such as an order's fills, wait until the group is complete."""

    group: Name
    """The column whose equal values make a group."""
    condition: Sql
    """A SQL aggregate over the group's waiting rows that is true when it is complete."""
    max_age_sec: PositiveSeconds = 60.0
    """After this long a group is delivered as it is, with an alert."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """No more rows wait; the oldest groups are delivered instead, with an alert."""
    max_mb: Annotated[int, Field(ge=1, le=4096)] = 64
    """The same, of their Arrow bytes."""


class TableConfig(Section):
    """One table to replicate, or all that a pattern fits, such as `ord*`.

    What is not given comes from [defaults], [sync] or the source's schema.
    """

    name: Annotated[str, text_like(r"[^.\x00-\x1f]+(\.[^.\x00-\x1f]+)?", "'table' or 'schema.table'")]
    target: Name | None = None
    """The table in ClickHouse; None: the same name."""
    key: Names | None = None
    """The columns that identify a row; None: the primary key."""
    watermark: Name | None = None
    """The column that grows: an integer, decimal, date, timestamp, UUIDv7 or text."""
    version: Name | None = None
    """The column that says which of two states of a row is newer; None: the position it was read at."""
    columns: Names | None = None
    """The columns to replicate; None: all. Key, watermark and version are always among them."""
    exclude_columns: Names | None = None
    """The columns not to replicate; instead of `columns`."""
    exclude: Names | None = None
    """Where the name is a pattern: names or patterns of tables that it is not for."""
    filter: Sql | None = None
    """Only rows for which this SQL condition holds."""
    overlap: Overlap | None = None
    completion: CompletionConfig | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        pattern = any(character in self.name for character in "*?[")
        if pattern and self.target is not None:
            raise ValueError("a pattern is for several tables, which cannot have one target")
        if self.exclude is not None and not pattern:
            raise ValueError("exclude is for a name that is a pattern, such as 'ord*'")
        if self.columns is not None and self.exclude_columns is not None:
            raise ValueError("give columns or exclude_columns, not both")
        return self


class DefaultsConfig(Section):
    """For tables that [[tables]] does not name or does not say it for."""

    key: Names | None = None
    """Used where a table has no primary key."""
    watermark: Name | None = None
    version: Name | None = None
    """Used where a table has a column of this name."""
