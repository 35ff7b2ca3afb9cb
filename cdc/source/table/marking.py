"""What can be said of a watermark: where is a row, how far back is an overlap, when is a stamp too far ahead?

Values are DuckDB's text of them. DuckDB compares and orders the rows; what is computed here is exact
arithmetic on the numbers that `cdc.duckdb_types` orders values by.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from math import ceil
from uuid import UUID

import duckdb
import pyarrow as pa

from cdc.change import Mark, TablePlan
from cdc.duckdb_types import WATERMARKS, Family, find_mark_type, meaning_of
from cdc.errors import SourceError, StateError
from cdc.source.quote import identifier
from cdc.source.table.text import duckdb_text

_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PER_DAY = _UNITS["d"]
_EXACT = Context(prec=100)
_UUID_TIME_BITS = 80
"""A UUID of version 7 begins with 48 bits of milliseconds since 1970; this many bits follow."""


class Marking:
    """The arithmetic of one table's watermark.

    Raises:
        SourceError: the column's type cannot be a watermark, or the overlap does not fit it.
    """

    def __init__(self, plan: TablePlan, max_skew_seconds: float) -> None:
        self._plan = plan
        self._meaning = meaning_of(plan.watermark.type)
        self._skew = timedelta(seconds=max_skew_seconds)
        found = find_mark_type(plan.watermark.type)
        if found is None:
            problem = f"its watermark {plan.watermark.name} is a {plan.watermark.type}"
            raise self._refuse(problem, f"Choose a column of {WATERMARKS}")
        self._type = found
        self._overlap = self._parsed(plan.overlap.strip())

    def _parsed(self, text: str) -> int:
        """The overlap in the numbers that values are ordered by, rounded up."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)?", text)
        count, unit = (Decimal(match[1]), match[2]) if match else (Decimal(-1), None)
        meaning, wanted = self._meaning, self._meaning.overlap
        if match and count == 0:
            return 0
        if match and wanted == "count" and unit is None:
            return ceil(count.scaleb(meaning.scale, _EXACT))
        if match and wanted in ("time", "date") and unit is not None:
            return self._units(count * _UNITS[unit])
        said = {"count": "a count, like 100", "text": "0, for a text has no distance"}.get(
            wanted or "", "a time, like 5s, 200ms or 1h"
        )
        raise self._refuse(
            f"the overlap {text!r} does not fit its {self._meaning.name} watermark", f"Set overlap to {said}"
        )

    def _units(self, microseconds: Decimal) -> int:
        if self._meaning.family is Family.DATE:
            return ceil(microseconds / _PER_DAY)
        if self._meaning.family is Family.UUID:
            return ceil(microseconds / 1000)
        return ceil(microseconds.scaleb(self._meaning.digits - 6, _EXACT))

    def low(self, mark: str) -> str | None:
        """`mark` less the overlap; None when that is less than every value of the type.

        Raises:
            SourceError: `mark` is not a value of the type.
        """
        if not self._overlap:
            return mark
        try:
            number, _ = self._type.order(mark)
        except StateError:
            problem = f"its mark {mark!r} is not a {self._meaning.name}"
            raise self._refuse(problem, f"Run 'cdc resync {self._plan.table}'") from None
        least, greatest = self._type.bounds()
        if not least <= number <= greatest:  # infinity
            return mark
        if self._meaning.family is Family.UUID:
            milliseconds = (number >> _UUID_TIME_BITS) - self._overlap
            low = milliseconds << _UUID_TIME_BITS
        else:
            low = number - self._overlap
        return self._type.text((low, "")) if low >= least else None

    def latest(self, wall_seconds: float) -> str | None:
        """The last stamp that moves the mark at this time; None for types that are no time."""
        limit = datetime.fromtimestamp(wall_seconds, UTC) + self._skew
        match self._meaning.family:
            case Family.DATE:
                return limit.date().isoformat()
            case Family.TIMESTAMP:
                return limit.strftime("%Y-%m-%d %H:%M:%S") + ("+00" if self._meaning.zoned else "")
            case Family.UUID:
                milliseconds = int(limit.timestamp() * 1000)
                return str(UUID(int=((milliseconds + 1) << _UUID_TIME_BITS) - 1))
            case _:
                return None

    def place(self, row: pa.RecordBatch, connection: duckdb.DuckDBPyConnection) -> Mark:
        """The place of the one `row`, in DuckDB's own text."""
        names = (self._plan.watermark.name, *self._plan.key)
        known = [text for name in names if (text := duckdb_text(row.column(name))) is not None]
        if len(known) == len(names):
            return Mark(known[0], tuple(known[1:]))
        texts = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in names)
        connection.register("cdc_row", row.select(list(dict.fromkeys(names))))
        [found] = connection.execute(f"SELECT {texts} FROM cdc_row").fetchall()
        connection.unregister("cdc_row")
        return Mark(found[0], tuple(found[1:]))

    def _refuse(self, problem: str, remedy: str) -> SourceError:
        return SourceError("replicate", self._plan.table, problem, remedy)
