"""The target as the replicator and the commands know it: ClickHouse behind one or several endpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from cdc.change import UNREACHABLE, TableId, TablePlan
from cdc.clock import Clock, SystemClock
from cdc.closing import Closing
from cdc.config.endpoint import Endpoint
from cdc.errors import TargetError
from cdc.sighting import Sighting
from cdc.target.ddl import TableDefinition, define, view_name
from cdc.target.options import TargetOptions
from cdc.target.quote import quote_identifier
from cdc.target.ranges import select_maximum, select_range, select_versions, watermark_text
from cdc.target.result import readable
from cdc.target.route import Route, RoutedConnection
from cdc.target.schema import Difference, FoundTable, compare, held_codecs, inspect
from cdc.target.sightings import look_up
from cdc.target.table import ClickHouseTable
from cdc.target.transport import Transport
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion

T = TypeVar("T")


class ClickHouseTarget(Closing):
    """A ClickHouse server, or several that hold the same tables. Any thread may use it.

    Each open table, each running query and the rest of the calls have a connection of their own.
    """

    def __init__(self, endpoints: Sequence[Endpoint], options: TargetOptions, clock: Clock) -> None:
        self._options = options
        self._database = options.database_at(endpoints[0])
        self._route = Route(endpoints, clock)
        self._control = RoutedConnection(self._route, options)
        self._control_lock = threading.Lock()
        self._open_lock = threading.Lock()
        self._open: set[RoutedConnection] = set()
        self._closed = False
        self._parts_readable = True

    def __repr__(self) -> str:
        return f"ClickHouseTarget({', '.join(map(str, self._route.endpoints))}, {self._database!r})"

    @property
    def database(self) -> str:
        return self._database

    @property
    def server_version(self) -> ServerVersion:
        """The release of the server in use.

        Raises:
            TargetError: no endpoint answers.
        """
        return self._ask(lambda transport: transport.version())

    def ping(self) -> float:
        """Round-trip time in seconds, to the endpoint in use.

        Raises:
            TargetError: no endpoint answers.
        """
        return self._ask(lambda transport: transport.ping())

    def open(self, plan: TablePlan, generation: int = 0) -> ClickHouseTable:
        """The plan's table, ready for inserts. It is created or mended only with `auto_create`.

        Args:
            generation: rows of another one are other inserts, even if a server remembers the same block.

        Raises:
            TargetError: it differs from what the plan needs; names the differences and the command.
        """
        if self._options.auto_create:
            self.apply(plan)
        definition, found = self._inspect(plan)
        blocking = [difference for difference in compare(plan, definition, found) if difference.blocks]
        if blocking:
            raise _refusal(definition, blocking)
        return ClickHouseTable(
            definition, held_codecs(plan, definition, found), self._connection(), generation
        )

    def sightings(self, plans: Sequence[TablePlan]) -> Mapping[TableId, Sighting | None]:
        """What the server in use says of the tables of `plans`; None of one that is not there.

        Raises:
            TargetError: no endpoint answers.
        """
        views = {plan.target: view_name(plan.target) for plan in plans}
        found, self._parts_readable = self._ask(
            lambda transport: look_up(transport, self._database, views, parts=self._parts_readable)
        )
        return {plan.table: found.get(plan.target) for plan in plans}

    def ddl(self, plan: TablePlan) -> tuple[str, ...]:
        """The statements that make database, table and view for `plan` where there is nothing yet."""
        definition = self._define(plan)
        return (definition.create_database(), definition.create_table(), definition.create_view())

    def grants(self, plan: TablePlan, user: str, *, reading: bool = False) -> tuple[str, ...]:
        """The statements that give `user` what the replicator needs for `plan`, and no more. [S4]

        `reading`: what comparing source and target needs too.
        """
        return (self._define(plan).grant(user, reading=reading),)

    def diff(self, plan: TablePlan) -> tuple[Difference, ...]:
        """How database, table and view differ from what `plan` asks for; empty when they do not."""
        return compare(plan, *self._inspect(plan))

    def apply(self, plan: TablePlan) -> tuple[str, ...]:
        """Mend what differs; gives the statements that were run, in order.

        Raises:
            TargetError: something that blocks cannot be mended (nothing is run then), or a statement failed.
        """
        definition, found = self._inspect(plan)
        differences = compare(plan, definition, found)
        hopeless = [each for each in differences if each.blocks and not each.statements]
        if hopeless:
            raise _refusal(definition, hopeless)
        statements = tuple(sql for difference in differences for sql in difference.statements)
        for sql in statements:
            self._ask(lambda transport, sql=sql: transport.execute(sql))  # type: ignore[misc]
        return statements

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        """The plan's columns of all present rows with `low <= watermark < high`, by watermark and key.

        `ordered` False: in any order, so that the server need not sort. One row for each key, as FINAL
        has it, without the deleted ones. None leaves an end open; rows without a watermark belong below the
        first. The bounds are DuckDB's text of them, as in a mark.

        Raises:
            TargetError: also while the rows are read.
        """
        definition, found = self._inspect(plan)
        codecs = held_codecs(plan, definition, found)
        return self._stream(select_range(plan, definition, codecs, low, high, ordered=ordered), codecs)

    def maximum(self, plan: TablePlan, upto: str | None = None) -> str | None:
        """The greatest watermark in the table, up to `upto`, in the source's order; None where there is none.

        It is a text that a mark of the watermark's type may have, though not always as DuckDB writes it.

        Raises:
            TargetError: there is no table, or its order is not the source's.
        """
        definition, found = self._inspect(plan)
        sql, codec = select_maximum(plan, definition, held_codecs(plan, definition, found), upto)
        with self._stream(sql, [codec]) as reader:
            batches = [batch for batch in reader if batch.num_rows]
        return watermark_text(batches[0].column(0)) if batches else None

    def newest_version(self, plan: TablePlan) -> int | None:
        """The greatest version in the plan's table that can be outranked, of deleted rows too; None where no
        row has one.

        Raises:
            TargetError: there is no table, or it cannot be read.
        """
        newest, rows, _ = self._versions(self._define(plan))
        return newest if rows else None

    def check_versions(self, plan: TablePlan) -> None:
        """See that every row of the plan's table can be outranked.

        Raises:
            TargetError: some cannot, or it cannot be read.
        """
        definition = self._define(plan)
        if beyond := self._versions(definition)[2]:
            version = quote_identifier(self._options.version_column)
            raise TargetError(
                "mend",
                definition.qualified,
                f"{beyond:,} of its rows have a version that no other row can outrank",
                f"Run ALTER TABLE {definition.qualified} DELETE WHERE {version} >= {UNREACHABLE}",
            )

    def _versions(self, definition: TableDefinition) -> tuple[int, int, int]:
        sql, codecs = select_versions(definition)
        with self._stream(sql, codecs) as reader:
            [row] = [row for batch in reader for row in batch.to_pylist()]
        return row["newest"], row["rows"], row["beyond"]

    def query(self, sql: str) -> pa.RecordBatchReader:
        """The result of any SELECT, in the target's database. Types without an exact Arrow type come as text.

        The connection may only read (`readonly = 1`), whatever else `sql` asks for.

        Raises:
            TargetError: also while the rows are read.
        """
        reading = replace(self._options, settings={**self._options.settings, "readonly": "1"})
        connection = self._connection(self._database, reading)
        try:
            statement, codecs = connection.run(
                lambda transport: readable(transport, sql, transport.version()), everywhere=True
            )
        except TargetError:
            self._release(connection)
            raise
        return self._stream(statement, codecs, connection)

    def close(self) -> None:
        """Close every connection; what waits on one ends at once, with an error."""
        with self._open_lock:
            self._closed = True
            connections = [*self._open, self._control]
        for connection in connections:
            connection.close()

    def _define(self, plan: TablePlan) -> TableDefinition:
        return define(plan, self._options, self._database, self.server_version)

    def _inspect(self, plan: TablePlan) -> tuple[TableDefinition, FoundTable]:
        definition = self._define(plan)
        return definition, self._ask(lambda transport: inspect(transport, definition))

    def _ask(self, work: Callable[[Transport], T]) -> T:
        with self._control_lock:
            return self._control.run(work, everywhere=True)

    def _connection(self, database: str = "", options: TargetOptions | None = None) -> RoutedConnection:
        connection = RoutedConnection(self._route, options or self._options, database)
        with self._open_lock:
            self._open.add(connection)
            if self._closed:
                connection.close()
        return connection

    def _release(self, connection: RoutedConnection) -> None:
        connection.close()
        with self._open_lock:
            self._open.discard(connection)

    def _stream(
        self, sql: str, codecs: Sequence[ColumnCodec], connection: RoutedConnection | None = None
    ) -> pa.RecordBatchReader:
        connection = connection or self._connection()
        schema = pa.schema([pa.field(codec.name, codec.arrow_type) for codec in codecs])

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from connection.run(lambda transport: transport.query(sql, codecs), everywhere=True)
            finally:
                self._release(connection)

        return pa.RecordBatchReader.from_batches(schema, batches())


def open_target(
    endpoints: Sequence[Endpoint], options: TargetOptions, clock: Clock | None = None
) -> ClickHouseTarget:
    """The target behind `endpoints`, the preferred one first. Nothing is connected before it is used.

    Raises:
        TargetError: there is no endpoint.
    """
    if not endpoints:
        raise TargetError("open", "the target", "no endpoint is given", "Set clickhouse_endpoint in [sync]")
    return ClickHouseTarget(endpoints, options, clock or SystemClock())


def _refusal(definition: TableDefinition, differences: Sequence[Difference]) -> TargetError:
    problem = "; ".join(map(str, differences))
    reasons = dict.fromkeys(each.reason for each in differences if each.reason)
    remedy = "; ".join(reasons) or "Run 'cdc schema apply', or set auto_create = true in [target]"
    return TargetError("replicate into", definition.qualified, problem, remedy[:1].upper() + remedy[1:])
