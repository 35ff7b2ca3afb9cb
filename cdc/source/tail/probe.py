"""How does the DuckDB at hand write rows of these types into a log? Frames for a decoder to be tested by."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cdc.duckdb_types import Family, meaning_of, parse_type
from cdc.source.file.confined import confined
from cdc.source.format import frames
from cdc.source.format.log import parse_log_header
from cdc.source.quote import literal

_KEPT = 64
_ROWS = 70
"""Of the frame of several rows: masks are of words of 64 bits."""
_TEXTS = ("''", "'a'", "'äöü€'", "repeat('long', 100)")
_MOMENTS = ("'1969-12-31 23:59:59'", "'2026-01-02 03:04:05.678901'")
_VALUES: dict[str, Sequence[str]] = {
    "BOOLEAN": ("TRUE", "FALSE"),
    "FLOAT": ("-1.5", "'nan'"),
    "DOUBLE": ("-1.5", "'inf'"),
    "DATE": ("'1969-12-31'", "'9999-12-31'"),
    "TIME": ("'00:00:00'", "'23:59:59.999999'"),
    "BLOB": (r"'\x00\xFF'::BLOB", "''::BLOB", "repeat('b', 300)::BLOB"),
    "JSON": ("""'{"a": [1, null]}'""", "'1'"),
    "VARCHAR": _TEXTS,
    "UUID": ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-4fff-8fff-fffffffffffe'"),
}


@functools.lru_cache(_KEPT)
def probe_frames(kinds: tuple[str, ...], storage: str) -> tuple[bytes, ...]:
    """INSERT, UPDATE and DELETE frames that DuckDB writes of rows of these types in files of the `storage`
    version: one row and many, with values and with NULL, set to NULL and back.

    Raises:
        duckdb.Error: it cannot.
    """
    names = [f"c{n}" for n in range(len(kinds))]
    values = list(map(_values, kinds))
    with tempfile.TemporaryDirectory(prefix="cdc-probe-") as directory:
        path = Path(directory, "db")
        config = {"storage_compatibility_version": storage}
        settings = ["PRAGMA disable_checkpoint_on_shutdown"]
        with confined(config, file=path, settings=settings) as scratch:
            columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
            scratch.execute(f"CREATE TABLE probe ({columns})")
            scratch.execute("CHECKPOINT")
            scratch.execute("BEGIN")  # one write to the disk for all
            for number in range(max(map(len, values))):
                row = ", ".join(each[number % len(each)] for each in values)
                scratch.execute(f"INSERT INTO probe VALUES ({row})")
            scratch.execute("INSERT INTO probe DEFAULT VALUES")
            mixed = ", ".join(
                f"CASE WHEN i % 3 > 0 THEN [{', '.join(each)}][1 + i % {len(each)}] END" for each in values
            )
            scratch.execute(f"INSERT INTO probe SELECT {mixed} FROM range({_ROWS}) r(i)")
            scratch.execute("COMMIT")
            for name, each in zip(names, values, strict=True):
                scratch.execute("BEGIN")
                scratch.execute(f"UPDATE probe SET {name} = {each[0]} WHERE rowid % 2 = 0")
                scratch.execute("COMMIT; BEGIN")
                scratch.execute(f"UPDATE probe SET {name} = NULL WHERE rowid % 4 = 0")
                scratch.execute("COMMIT")
            scratch.execute("DELETE FROM probe WHERE rowid % 5 = 0")
            log = path.with_name("db.wal").read_bytes()
    header = parse_log_header(log)
    assert header is not None, "DuckDB wrote this log just now"
    changes = (frames.INSERT, frames.UPDATE, frames.DELETE)
    return tuple(frame for frame in frames.read_frames(log, header.size) if frames.kind(frame) in changes)


def _values(kind: str) -> list[str]:
    """Values of the type, as SQL."""
    meaning, found = meaning_of(kind), parse_type(kind)
    values: Sequence[str] = _VALUES.get(found.name, ())
    if meaning.family in (Family.INTEGER, Family.WIDE):
        values = (f"'{meaning.low}'", "'1'", f"'{meaning.high}'")
    elif meaning.family is Family.DECIMAL:
        whole = "9" * (meaning.width - meaning.scale) or "0"
        values = (f"'-{whole}.{'9' * meaning.scale}'", "'0'", f"'0.{'1' * meaning.scale}'")
    elif meaning.family is Family.TIMESTAMP:
        values = _MOMENTS
    elif found.name == "ENUM":
        values = (literal(found.labels[0]), literal(found.labels[-1]))
    return [f"CAST({value} AS {kind})" for value in values]
