"""May the frames of a round be decoded directly, and is what comes out what DuckDB reads?

Our own decoder is never trusted by itself. Of each table, before its first round, DuckDB encodes rows as the
file's format has them, and the decoder must read them back. The first round of each kind (inserts, updates,
deletions) after each checkpoint, and then a share of all rounds, are decoded both ways and compared. Where
anything differs DuckDB is right, nothing is decoded directly any more from that source, and it is told.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import duckdb

from cdc.change import Column, TableId
from cdc.source.format import frames
from cdc.source.format.decode import FrameDecoder, RowChanges
from cdc.source.format.headers import DEPRECATED_VERSION, Headers
from cdc.source.format.layouts import NotDecodable
from cdc.source.quote import identifier
from cdc.source.tail.judge import difference
from cdc.source.tail.probe import probe_frames
from cdc.source.tail.twin import Decoded, Twin

CHECK_PERCENT = 1.0
"""Of rounds that are decoded both ways."""
_STORAGE = {64: "v1.0.0", 65: "v1.2.0", 66: "v1.3.0", 67: "v1.4.0", 68: "v1.5.0", 69: "v2.0.0"}
"""DuckDB's name of each storage version, which says how it writes the log."""
_MOST_SURPRISES = 8
"""Rounds in a row that turned out not to be decodable: the next ones are left to DuckDB at once."""


class Decoding:
    """Whether frames of one source are decoded directly. Shared by its tables; thread safe."""

    def __init__(
        self,
        check_percent: float = CHECK_PERCENT,
        disagreed: Callable[[TableId, str], None] = lambda *_: None,
        *,
        enabled: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            check_percent: of rounds that are decoded both ways.
            disagreed: is told of which table what was read otherwise than DuckDB reads it.
        """
        self.enabled = enabled
        """Until DuckDB disagrees."""
        self._share = check_percent / 100.0
        self._disagreed = disagreed
        self._chance = chance

    def is_sampled(self) -> bool:
        return self._chance() < self._share

    def disagree(self, table: TableId, what: str) -> None:
        """DuckDB reads something else."""
        self.enabled = False
        self._disagreed(table, what)


class DirectReader:
    """Reads the frames of one table directly, where that may be. For one thread."""

    def __init__(
        self,
        decoding: Decoding,
        table: TableId,
        columns: Sequence[Column],
        twin: Twin,
        cursor: duckdb.DuckDBPyConnection,
        *,
        filtered: bool,
    ) -> None:
        self._decoding = decoding
        self._table = table
        self._columns = columns
        self._twin = twin
        self._cursor = cursor
        self._names = [identifier(column.name) for column in columns]
        self._storage: str | None = None
        self._proven: set[str] = set()
        """The storage versions of which the probe was read back."""
        self._unseen: set[int] = set()
        """Kinds of frames of which none of this log was compared yet."""
        self._surprises = 0
        self.decoder: FrameDecoder | None = None
        plain = all(column.generated is None and not column.collation for column in columns)
        if plain and not filtered and decoding.enabled:
            with contextlib.suppress(NotDecodable):  # else DuckDB reads this table
                self.decoder = FrameDecoder([column.type for column in columns])

    def begin(self, headers: Headers) -> None:
        """A log of the file with these headers begins."""
        self._storage = _storage(headers)
        self._unseen = {frames.INSERT, frames.DELETE, frames.UPDATE}

    def read(self, own: Sequence[bytes]) -> RowChanges | None:
        """What these frames of the table hold; None: DuckDB must say.

        Raises:
            duckdb.Error: the probe cannot be made or read.
        """
        if self.decoder is None or not self._decoding.enabled or not self._is_proven(self.decoder):
            return None
        try:
            found = self.decoder.changes(own)
        except NotDecodable:
            self.surprised()
            return None
        self._surprises = 0
        return found

    def surprised(self) -> None:
        """A round was not to be decoded after all."""
        self._surprises += 1
        if self._surprises > _MOST_SURPRISES:
            self.decoder = None

    def is_to_be_checked(self, own: Sequence[bytes]) -> bool:
        """Whether DuckDB is to decode these frames as well."""
        return self._decoding.is_sampled() or not self._unseen.isdisjoint(map(frames.kind, own))

    def check(self, read: RowChanges, decoded: Decoded, own: Sequence[bytes]) -> None:
        """Compare with the attached twin.

        Raises:
            duckdb.Error: it cannot be read.
        """
        found = difference(read, decoded, self._twin, self._names, self._cursor)
        if found is not None:
            self._decoding.disagree(self._table, found)
        self._unseen.difference_update(map(frames.kind, own))

    def _is_proven(self, decoder: FrameDecoder) -> bool:
        storage = self._storage
        if storage is None:
            return False
        if storage not in self._proven:
            probe = probe_frames(tuple(column.type for column in self._columns), storage)
            try:
                read = decoder.changes(probe)
            except NotDecodable as error:
                self._decoding.disagree(self._table, f"rows that DuckDB wrote as a test: {error}")
                return False
            with self._twin.attached(probe) as decoded:
                found = difference(read, decoded, self._twin, self._names, self._cursor)
            if found is not None:
                self._decoding.disagree(self._table, f"rows that DuckDB wrote as a test: {found}")
                return False
            self._proven.add(storage)
        return True


def _storage(headers: Headers) -> str | None:
    """DuckDB's name of the file's storage version; None where it is not known here."""
    version = headers.version
    if version == DEPRECATED_VERSION:
        version = headers.active.version if headers.active is not None else -1
    return _STORAGE.get(version)
