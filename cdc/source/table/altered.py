"""Does the table still have the plan's columns? What a person is told when its writer altered it. [R10]"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb

from cdc.change import TablePlan
from cdc.errors import SnapshotSuperseded, SourceError


@contextmanager
def explained(cursor: duckdb.DuckDBPyConnection, relation: str, plan: TablePlan) -> Iterator[None]:
    """Whatever a query over `relation` fails by, a difference between the table and its plan is the reason.

    Raises:
        SnapshotSuperseded, SourceError: as within, or the difference.
    """
    try:
        yield
    except SnapshotSuperseded:
        raise
    except SourceError:
        try:
            found = cursor.sql(f"SELECT * FROM {relation} LIMIT 0")
            types = dict(zip(found.columns, map(str, found.types), strict=True))
        except duckdb.CatalogException:
            raise _gone(plan) from None
        except duckdb.Error:  # then that is not it
            types = {}
        if types:
            check_columns(plan, types)
        raise


def check_columns(plan: TablePlan, found: Mapping[str, str]) -> None:
    """See that the table's columns, of these types, are those of the plan.

    Raises:
        SourceError: they are not; it names each that differs.
    """
    planned = {column.name: column.type for column in plan.columns}
    differing = {name: kind for name, kind in planned.items() if found.get(name) != kind}
    if not differing:
        return
    new = {name: kind for name, kind in found.items() if name not in planned}
    said = "; ".join(_difference(name, kind, found.get(name), new) for name, kind in differing.items())
    raise SourceError("read", plan.table, said, _remedy(plan, differing, found))


def _difference(name: str, kind: str, now: str | None, new: Mapping[str, str]) -> str:
    if now is not None:
        return f"its column {name} was {kind} and is {now}"
    alike = [other for other in new if new[other] == kind]
    renamed = f", perhaps renamed to {alike[0]}" if len(alike) == 1 else ""
    return f"its column {name} ({kind}) is gone{renamed}"


def _remedy(plan: TablePlan, differing: Mapping[str, str], found: Mapping[str, str]) -> str:
    if needed := [name for name in differing if name in (*plan.key, plan.watermark.name, plan.version)]:
        return (
            f"{', '.join(needed)} is part of its key, watermark or version: change the column back, or name "
            f"others in [[tables]] and run `cdc resync {plan.table}`"
        )
    if any(name in found for name in differing):
        return (
            "Compare with `cdc schema diff` and apply the change in ClickHouse, change the column back, or "
            "leave it out with [[tables]] columns"
        )
    return (
        "It goes on without the column unless [[tables]] columns names it; compare with `cdc schema diff`, "
        f"and after a rename run `cdc resync {plan.table}`"
    )


def _gone(plan: TablePlan) -> SourceError:
    return SourceError(
        "read", plan.table, "the table is gone", "Create it again, or take it out of [[tables]] and restart"
    )
