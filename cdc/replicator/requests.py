"""What a configuration asks for of tables, and which of its entries is for which table of the source."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from cdc.change import TableId, TableSchema


class CompletionRequest(Protocol):
    """[tables.completion]"""

    @property
    def group(self) -> str: ...
    @property
    def condition(self) -> str: ...
    @property
    def max_age_sec(self) -> float: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def max_mb(self) -> int: ...


class TableRequest(Protocol):
    """One entry of [[tables]]; None: not said. Its name may be a pattern, as a shell has them for files."""

    @property
    def name(self) -> str: ...
    @property
    def target(self) -> str | None: ...
    @property
    def key(self) -> Sequence[str] | None: ...
    @property
    def watermark(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...
    @property
    def columns(self) -> Sequence[str] | None: ...
    @property
    def exclude(self) -> Sequence[str] | None: ...
    @property
    def exclude_columns(self) -> Sequence[str] | None: ...
    @property
    def filter(self) -> str | None: ...
    @property
    def overlap(self) -> str | None: ...
    @property
    def completion(self) -> CompletionRequest | None: ...


class Defaults(Protocol):
    """[defaults]: what tables that do not say it get."""

    @property
    def key(self) -> Sequence[str] | None: ...
    @property
    def watermark(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...


Request = TypeVar("Request", bound=TableRequest)


def is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def assigned(
    requests: Sequence[Request], schemas: Sequence[TableSchema]
) -> list[tuple[Request, TableSchema | None]]:
    """Each table with its entry, in the configuration's order; None where an entry is for no table.

    A table's own name goes before every pattern, and of several patterns the first counts.
    """
    owners = {schema.table: request_for(requests, schema.table) for schema in schemas}
    found: list[tuple[Request, TableSchema | None]] = []
    for request in requests:
        own: list[tuple[Request, TableSchema | None]] = [
            (request, schema)
            for schema in sorted(schemas, key=lambda each: each.table)
            if owners[schema.table] is request
        ]
        matched = own or any(_matches(request, schema.table) for schema in schemas)
        found += own if matched else [(request, None)]
    return found


def request_for(requests: Sequence[Request], table: TableId) -> Request | None:
    """The entry that is for this table; None: there is none."""
    for request in requests:
        if TableId.parse(request.name).folded == table.folded:
            return request
    return next((request for request in requests if _matches(request, table)), None)


def _matches(request: TableRequest, table: TableId) -> bool:
    if not is_pattern(request.name):
        return TableId.parse(request.name).folded == table.folded
    return _fits(request.name, table) and not any(_fits(name, table) for name in request.exclude or ())


def _fits(pattern: str, table: TableId) -> bool:
    wanted = TableId.parse(pattern)
    return all(fnmatchcase(part, wish) for part, wish in zip(table.folded, wanted.folded, strict=True))
