"""What are the statements that make a table for a plan? Every identifier quoted, nothing of the data in them.

`_cdc_version` decides which of a key's rows `FINAL` keeps; `_cdc_deleted` marks removed ones;
`_cdc_synced_at` is the server's own clock. `<table>_current` is what a person reads: one row for each key,
none of them deleted. [F7]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdc.change import Column, TablePlan
from cdc.errors import TargetError
from cdc.target.options import TargetOptions
from cdc.target.quote import quote_identifier, quote_string
from cdc.target.types import ColumnCodec, column_codec
from cdc.target.version import ServerVersion

VERSION_TYPE = "UInt64"
DELETED_TYPE = "UInt8"

DEDUPLICATION_WINDOW = 1000
"""Inserts whose tokens a table remembers, where it is not replicated: a replicated one remembers as many by
itself. A retry comes within a few inserts of the first try."""


def deduplicates_inserts(server: ServerVersion) -> bool:
    """Whether an insert may carry a token, and a table without replicas remembers it (both by 22.3)."""
    return server.at_least(22, 3)


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """The table that a plan asks for, on one server."""

    database: str
    name: str
    codecs: tuple[ColumnCodec, ...]
    """How each of the plan's columns is held, in order."""
    key: tuple[str, ...]
    options: TargetOptions
    server: ServerVersion

    @property
    def qualified(self) -> str:
        return f"{quote_identifier(self.database)}.{quote_identifier(self.name)}"

    @property
    def view_name(self) -> str:
        return view_name(self.name)

    @property
    def view(self) -> str:
        return f"{quote_identifier(self.database)}.{quote_identifier(self.view_name)}"

    def insert(self) -> str:
        """`INSERT INTO … (…)` of the columns that a block holds."""
        names = [codec.name for codec in self.codecs]
        names += [self.options.version_column, self.options.deleted_column]
        return f"INSERT INTO {self.qualified} ({_listed(names)})"

    def create_database(self) -> str:
        return f"CREATE DATABASE IF NOT EXISTS {quote_identifier(self.database)}{self._on_cluster()}"

    def create_table(self) -> str:
        lines = [f"{quote_identifier(codec.name)} {codec.clickhouse_type}" for codec in self.codecs]
        lines += [f"{quote_identifier(name)} {kind}" for name, kind in self.own_columns()]
        columns = ",\n  ".join(lines)
        partition = f"\nPARTITION BY {self.options.partition_by}" if self.options.partition_by else ""
        settings = ", ".join(f"{name} = {value}" for name, value in self._settings().items())
        return (
            f"CREATE TABLE IF NOT EXISTS {self.qualified}{self._on_cluster()} (\n  {columns}\n)\n"
            f"ENGINE = {self._engine()}{partition}\nORDER BY ({_listed(self.key)})"
            + (f"\nSETTINGS {settings}" if settings else "")
        )

    def create_view(self) -> str:
        columns = _listed([codec.name for codec in self.codecs])
        deleted = quote_identifier(self.options.deleted_column)
        return (
            f"CREATE VIEW IF NOT EXISTS {self.view}{self._on_cluster()} AS\n"
            f"SELECT {columns} FROM {self.qualified} FINAL WHERE {deleted} = 0"
        )

    def drop_view(self) -> str:
        # Releases before 20 have no DROP VIEW; this drops a view on every release.
        return f"DROP TABLE IF EXISTS {self.view}{self._on_cluster()}"

    def add_column(self, name: str, clickhouse_type: str, after: str | None) -> str:
        place = f" AFTER {quote_identifier(after)}" if after is not None else ""
        return f"{self._alter()} ADD COLUMN {quote_identifier(name)} {clickhouse_type}{place}"

    def modify_column(self, name: str, clickhouse_type: str) -> str:
        return f"{self._alter()} MODIFY COLUMN {quote_identifier(name)} {clickhouse_type}"

    def grant(self, user: str, *, reading: bool = False) -> str:
        """All that the replicator's user needs, where nothing is created for it (releases from 20.4). [S4]

        `reading`: what a comparison needs too.
        """
        rights = "INSERT, SELECT" if reading else "INSERT"
        return f"GRANT{self._on_cluster()} {rights} ON {self.qualified} TO {quote_identifier(user)}"

    def own_columns(self) -> tuple[tuple[str, str], ...]:
        """The columns beside the source's: name, and type with default."""
        clock = (
            "DateTime64(3, 'UTC') DEFAULT now64(3)"
            if self.server.has_datetime64
            else "DateTime DEFAULT now()"
        )
        types = (VERSION_TYPE, DELETED_TYPE, clock)
        return tuple(zip(self.options.own_columns, types, strict=True))

    def _alter(self) -> str:
        return f"ALTER TABLE {self.qualified}{self._on_cluster()}"

    def _on_cluster(self) -> str:
        cluster = self.options.cluster
        return f" ON CLUSTER {quote_identifier(cluster)}" if cluster else ""

    def _engine(self) -> str:
        version = quote_identifier(self.options.version_column)
        if not self.options.cluster:
            return f"ReplacingMergeTree({version})"
        if self.server.at_least(21, 1):  # the server's own default path, which has the table's UUID in it
            return f"ReplicatedReplacingMergeTree({version})"
        path = quote_string(f"/clickhouse/tables/{{shard}}/{self.database}/{self.name}")
        return f"ReplicatedReplacingMergeTree({path}, '{{replica}}', {version})"

    def _settings(self) -> dict[str, str]:
        window = {"non_replicated_deduplication_window": str(DEDUPLICATION_WINDOW)}
        own = window if deduplicates_inserts(self.server) and not self.options.cluster else {}
        return {**own, **self.options.engine_settings}


def view_name(table: str) -> str:
    """The view that shows the present rows of `table`."""
    return f"{table}_current"


def define(plan: TablePlan, options: TargetOptions, database: str, server: ServerVersion) -> TableDefinition:
    """The table that `plan` asks for in `database` on a server of this release.

    Raises:
        TargetError: a column cannot be held, or has the name of one of ours.
    """
    taken = [name for name in plan.column_names if name in options.own_columns]
    if taken:
        raise TargetError(
            "replicate",
            f"table {plan.table}",
            f"its column {taken[0]!r} has the name of one that is added",
            "Set version_column, deleted_column or synced_at_column in [target] to another name",
        )
    return TableDefinition(
        database=database,
        name=plan.target,
        codecs=tuple(codec_in(plan, column, server) for column in plan.columns),
        key=plan.key,
        options=options,
        server=server,
    )


def codec_in(plan: TablePlan, column: Column, server: ServerVersion) -> ColumnCodec:
    """How `column` is held. ClickHouse sorts by no column that may be NULL, so a row without a key fails."""
    return column_codec(replace(column, nullable=column.nullable and column.name not in plan.key), server)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(quote_identifier(name) for name in names)
