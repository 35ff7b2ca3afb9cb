"""What can be said of a watermark: where is a row, how far back is an overlap, when is a stamp too far ahead?

Values are DuckDB's text of them. DuckDB itself compares and orders them; only bounds are computed here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from uuid import UUID

import duckdb
import pyarrow as pa

from cdc.change import Mark, TablePlan
from cdc.errors import SourceError
from cdc.source.quote import identifier
from cdc.source.table.text import duckdb_text

_INTEGERS = {
    f"{prefix}{name}": (0 if prefix else -(2 ** (bits - 1)))
    for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("INTEGER", 32), ("BIGINT", 64), ("HUGEINT", 128))
    for prefix in ("", "U")
}
"""Each integer type's least value."""
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")
_COARSE = {"TIMESTAMP_S": "second", "TIMESTAMP_MS": "millisecond"}
_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
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
        self.type = plan.watermark.type
        self._skew = timedelta(seconds=max_skew_seconds)
        self._decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.type)
        self._numeric = self.type in _INTEGERS or self._decimal is not None
        if not (self._numeric or self.type in _TIMES or self.type in ("UUID", "VARCHAR")):
            raise self._refuse(
                f"its watermark {plan.watermark.name} is a {self.type}",
                "Choose an integer, decimal, date, timestamp, UUID version 7 or text column that only grows",
            )
        self._overlap = self._parsed(plan.overlap.strip())

    def _parsed(self, text: str) -> Decimal:
        """The overlap: a count for numbers, microseconds for times and UUIDs."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)?", text)
        count, unit = (Decimal(match[1]), match[2]) if match else (Decimal(-1), None)
        if match and count == 0:
            return Decimal(0)
        if match and self._numeric and unit is None:
            return count
        if match and (self.type in _TIMES or self.type == "UUID") and unit is not None:
            return count * _UNITS[unit]
        wanted = {True: "a count, like 100"}.get(self._numeric, "a time, like 5s, 200ms or 1h")
        if self.type == "VARCHAR":
            wanted = "0, for a text has no distance"
        raise self._refuse(
            f"the overlap {text!r} does not fit its {self.type} watermark", f"Set overlap to {wanted}"
        )

    def low(self, mark: str, connection: duckdb.DuckDBPyConnection) -> str | None:
        """`mark` less the overlap; None when that is less than every value of the type.

        Raises:
            SourceError: `mark` is not a value of the type.
        """
        if not self._overlap:
            return mark
        if self._numeric:
            return self._number_low(mark)
        if self.type == "UUID":
            milliseconds = (UUID(mark).int >> _UUID_TIME_BITS) - int(self._overlap / 1000) - 1
            return str(UUID(int=milliseconds << _UUID_TIME_BITS)) if milliseconds >= 0 else None
        # TIMESTAMP_NS is subtracted as microseconds: one more keeps the bound below the exact one.
        back = f"CAST($1 AS {self._wide}) - to_microseconds($2)"
        if self.type in _COARSE:  # the cast would round, perhaps up
            back = f"date_trunc('{_COARSE[self.type]}', {back})"
        try:
            [found] = connection.execute(
                f"SELECT CAST(CAST({back} AS {self.type}) AS VARCHAR)", [mark, int(self._overlap) + 1]
            ).fetchall()
        except duckdb.OutOfRangeException:
            return None
        except duckdb.ConversionException:
            raise self._refuse(f"its mark {mark!r} is not a {self.type}", "Reset its watermark") from None
        return str(found[0])

    @property
    def _wide(self) -> str:
        """The type to subtract in."""
        return "TIMESTAMP WITH TIME ZONE" if self.type.endswith("ZONE") else "TIMESTAMP"

    def _number_low(self, mark: str) -> str | None:
        try:
            low = _EXACT.subtract(Decimal(mark), self._overlap)
        except InvalidOperation:
            raise self._refuse(f"its mark {mark!r} is not a {self.type}", "Reset its watermark") from None
        if self._decimal is not None:
            width, scale = int(self._decimal[1]), int(self._decimal[2])
            least = -Decimal(10 ** (width - scale))
            return f"{low:f}" if low > least else None
        low = low.to_integral_value(rounding="ROUND_FLOOR")
        return f"{low:f}" if low >= _INTEGERS[self.type] else None

    def latest(self, wall_seconds: float) -> str | None:
        """The last stamp that moves the mark at this time; None for types that are no time."""
        limit = datetime.fromtimestamp(wall_seconds, UTC) + self._skew
        if self.type == "DATE":
            return limit.date().isoformat()
        if self.type in _TIMES:
            return limit.strftime("%Y-%m-%d %H:%M:%S") + ("+00" if self.type.endswith("ZONE") else "")
        if self.type == "UUID":
            milliseconds = int(limit.timestamp() * 1000)
            return str(UUID(int=((milliseconds + 1) << _UUID_TIME_BITS) - 1))
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
