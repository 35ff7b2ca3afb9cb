"""What does a server say of tables that is cheap to ask, and seen by a user who may only insert?

`system.tables` shows a table to whoever has any right to it. `system.parts` needs a right of its own on
some servers; without it less is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from cdc.change import Column
from cdc.errors import TargetError
from cdc.sighting import Sighting
from cdc.target.quote import quote_string
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion

if TYPE_CHECKING:
    from cdc.target.transport import Transport

NOT_ALLOWED = (291, 497)
"""DATABASE_ACCESS_DENIED and ACCESS_DENIED."""
MOST_PARTITIONS = 1_000
"""Of a table with more, only the number of its rows is known."""


def look_up(
    transport: Transport, database: str, views: Mapping[str, str], *, parts: bool = True
) -> tuple[dict[str, Sighting], bool]:
    """The tables of `database` that are there, by name, and whether their parts may be read.

    Args:
        views: the view of each table that is asked for, by the table's name.
        parts: ask for them at all.

    Raises:
        TargetError: the server does not answer.
    """
    server = transport.version()
    where = f"database = {quote_string(database)}"
    rows = _ask(transport, server, *_tables(server, where, [*views, *views.values()]))
    there = {row[0] for row in rows}
    found = {
        name: Sighting(
            host=host,
            uuid="" if set(uuid) <= {"0", "-"} else uuid,
            made=made,
            rows=None if total < 0 else total,
            expires=bool(expires),
            view=views[name] in there,
            uptime=uptime,
        )
        for name, uuid, made, total, expires, host, uptime in rows
        if name in views
    }
    if found and parts:
        try:
            said = _ask(transport, server, *_parts(where, found))
        except TargetError as error:
            if error.code not in NOT_ALLOWED:
                raise
            return found, False
        found = {
            name: _with_parts(each, [row[1:] for row in said if row[0] == name])
            for name, each in found.items()
        }
    return found, parts


def _with_parts(table: Sighting, said: list[tuple[Any, ...]]) -> Sighting:
    blocks = {partition: (first, last) for partition, first, last, _ in said}
    return Sighting(
        host=table.host,
        uuid=table.uuid,
        made=table.made,
        rows=sum(rows for *_, rows in said) if table.rows is None else table.rows,
        parts=blocks if len(blocks) <= MOST_PARTITIONS else None,
        reached=max((last for _, last in blocks.values()), default=0),
        expires=table.expires,
        view=table.view,
        uptime=table.uptime,
    )


def _tables(server: ServerVersion, where: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    # Tables have UUIDs since 20.4, in databases that are Atomic, and total_rows since 20.1.
    uuid = "toString(uuid)" if server.at_least(20, 8) else "''"
    total = "ifNull(toInt64(total_rows), toInt64(-1))" if server.at_least(20, 8) else "toInt64(-1)"
    columns = {
        "name": ("name", "VARCHAR"),
        "said_uuid": (uuid, "VARCHAR"),
        "said_made": ("toString(metadata_modification_time)", "VARCHAR"),
        "said_rows": (total, "BIGINT"),
        "said_expires": ("toUInt8(position(engine_full, ' TTL ') > 0)", "UTINYINT"),
        "said_host": ("hostName()", "VARCHAR"),
        "said_uptime": ("toInt64(uptime())", "BIGINT"),
    }
    listed = ", ".join(f"{sql} AS {name}" for name, (sql, _) in columns.items())
    named = ", ".join(map(quote_string, names))
    sql = f"SELECT {listed} FROM system.tables WHERE {where} AND name IN ({named})"  # noqa: S608 - quoted
    return sql, {name: kind for name, (_, kind) in columns.items()}


def _parts(where: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    columns = {
        "said_table": ("table", "VARCHAR"),
        "said_partition": ("partition_id", "VARCHAR"),
        "said_first": ("toInt64(min(min_block_number))", "BIGINT"),
        "said_last": ("toInt64(max(max_block_number))", "BIGINT"),
        "said_rows": ("toInt64(sum(rows))", "BIGINT"),
    }
    listed = ", ".join(f"{sql} AS {name}" for name, (sql, _) in columns.items())
    named = ", ".join(map(quote_string, names))
    return (
        f"SELECT {listed} FROM system.parts WHERE active AND {where} AND table IN ({named}) "  # noqa: S608
        "GROUP BY table, partition_id",
        {name: kind for name, (_, kind) in columns.items()},
    )


def _ask(
    transport: Transport, server: ServerVersion, sql: str, columns: Mapping[str, str]
) -> list[tuple[Any, ...]]:
    codecs = [column_codec(Column(name, kind, False), server) for name, kind in columns.items()]
    batches = transport.query(sql, codecs)
    return [row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
