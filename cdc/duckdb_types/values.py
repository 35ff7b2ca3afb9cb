"""How are the values of a watermark's type read, written and ordered, exactly?

A value is text as DuckDB writes it (`CAST(x AS VARCHAR)` with TimeZone = 'UTC'): that is called canonical.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from cdc.duckdb_types.meaning import WATERMARKS, Family, Meaning, meaning_of
from cdc.errors import StateError

Order = tuple[int, str]
"""What values of one type are ordered by: (number, "") or (0, text)."""


@dataclass(frozen=True, slots=True)
class MarkType(ABC):
    """The type of a watermark or key column: parses, writes and orders its values."""

    name: str
    """DuckDB's spelling of the type."""
    form: str
    """The accepted form, for a person."""

    @abstractmethod
    def _read(self, text: str) -> Order:
        """The order of the value that `text` writes; ValueError, saying what is wrong, when there is none."""

    @abstractmethod
    def text(self, order: Order) -> str:
        """The canonical text of the value with this order."""

    def bounds(self) -> tuple[int, int]:
        """The least and the greatest number that finite values are ordered by; a text has none."""
        return 0, 0

    def order(self, text: str) -> Order:
        """What sorts `text` among values of this type.

        Raises:
            StateError: if `text` is not a value of this type; the remedy shows the accepted form.
        """
        try:
            return self._read(text)
        except ValueError as error:
            raise StateError(
                "use the watermark", repr(text), f"not a {self.name}: {error}", f"Write {self.form}"
            ) from None

    def canonical(self, text: str) -> str:
        """`text` as DuckDB would write the same value.

        Raises:
            StateError: as for `order`.
        """
        return self.text(self.order(text))


@dataclass(frozen=True, slots=True)
class IntegerMarkType(MarkType):
    """TINYINT to UHUGEINT."""

    low: int
    high: int

    def _read(self, text: str) -> Order:
        if not re.fullmatch(r"[+-]?[0-9]{1,60}", text):
            raise ValueError("not an integer")
        return _bounded(int(text), *self.bounds()), ""

    def text(self, order: Order) -> str:
        return str(order[0])

    def bounds(self) -> tuple[int, int]:
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class DecimalMarkType(MarkType):
    """DECIMAL(width, scale), ordered by the unscaled integer."""

    width: int
    scale: int

    def _read(self, text: str) -> Order:
        match = re.fullmatch(r"([+-]?)([0-9]*)(?:\.([0-9]*))?", text)
        if match is None or not (match[2] or match[3]):
            raise ValueError("not a decimal number")
        digits = _fraction(match[3] or "", self.scale)
        unscaled = int((match[2] or "0") + digits)
        return _bounded(-unscaled if match[1] == "-" else unscaled, *self.bounds()), ""

    def bounds(self) -> tuple[int, int]:
        return 1 - 10**self.width, 10**self.width - 1

    def text(self, order: Order) -> str:
        digits = str(abs(order[0])).rjust(self.scale + (self.width > self.scale), "0")
        sign = "-" if order[0] < 0 else ""
        return sign + (f"{digits[: -self.scale]}.{digits[-self.scale :]}" if self.scale else digits)


@dataclass(frozen=True, slots=True)
class DateMarkType(MarkType):
    """DATE, ordered by days since 1970-01-01."""

    def _read(self, text: str) -> Order:
        if text in _INFINITIES:
            return _INFINITIES[text] * _DATE_INFINITY, ""
        match = re.fullmatch(_DATE, text)
        if match is None:
            raise ValueError("not a date")
        return _bounded(_days(match), *self.bounds()), ""

    def bounds(self) -> tuple[int, int]:
        return 1 - _DATE_INFINITY, _DATE_INFINITY - 1

    def text(self, order: Order) -> str:
        if abs(order[0]) == _DATE_INFINITY:
            return "infinity" if order[0] > 0 else "-infinity"
        return _date_text(order[0])


@dataclass(frozen=True, slots=True)
class TimestampMarkType(MarkType):
    """The TIMESTAMPs, ordered by units since 1970-01-01 (UTC), `digits` of them after the second's point."""

    digits: int
    zoned: bool

    def _read(self, text: str) -> Order:
        if text in _INFINITIES:
            return _INFINITIES[text] * _TIMESTAMP_INFINITY, ""
        match = re.fullmatch(_DATE + _TIME + _ZONE, text)
        if match is None:
            raise ValueError("not a timestamp")
        if self.zoned is not bool(match["zone"]):
            raise ValueError("an offset from UTC is missing" if self.zoned else "this type has no offset")
        hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError("no such time of day")
        seconds = _days(match) * 86400 + hour * 3600 + minute * 60 + second - _offset(match)
        fraction = _fraction(match["fraction"] or "", self.digits)
        return _bounded(int(seconds) * 10**self.digits + int(fraction or 0), *self.bounds()), ""

    def text(self, order: Order) -> str:
        if abs(order[0]) == _TIMESTAMP_INFINITY:
            return "infinity" if order[0] > 0 else "-infinity"
        seconds, fraction = divmod(order[0], 10**self.digits)
        days, second = divmod(seconds, 86400)
        time = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        shown = str(fraction).rjust(self.digits, "0").rstrip("0") if fraction else ""
        return f"{_date_text(days)} {time}" + (f".{shown}" if shown else "") + ("+00" if self.zoned else "")

    def bounds(self) -> tuple[int, int]:
        if self.digits == 9:
            return _LOWEST_NS, _TIMESTAMP_INFINITY - 1
        unit = 10 ** (6 - self.digits)
        return -(-_LOWEST_US // unit), (_TIMESTAMP_INFINITY - 1) // unit


@dataclass(frozen=True, slots=True)
class UuidMarkType(MarkType):
    """UUID, ordered as DuckDB orders it: by its 128 bits, so that version 7 is ordered by time."""

    def _read(self, text: str) -> Order:
        if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
            raise ValueError("not a UUID")
        return UUID(text).int, ""

    def bounds(self) -> tuple[int, int]:
        return 0, 2**128 - 1

    def text(self, order: Order) -> str:
        return str(UUID(int=order[0]))


@dataclass(frozen=True, slots=True)
class TextMarkType(MarkType):
    """VARCHAR, ordered by code point, which is the order of its UTF-8 bytes and so DuckDB's."""

    def _read(self, text: str) -> Order:
        text.encode()  # a lone surrogate, from a command line that is not UTF-8, raises a ValueError
        return 0, text

    def text(self, order: Order) -> str:
        return order[1]


def find_mark_type(duckdb_type: str) -> MarkType | None:
    """The type DuckDB spells like this, or None when its values have no exact order here."""
    return _of(meaning_of(duckdb_type))


@cache
def _of(meaning: Meaning) -> MarkType | None:
    name = meaning.name
    match meaning.family:
        case Family.INTEGER | Family.WIDE:
            low, high = meaning.low, meaning.high
            return IntegerMarkType(name, f"an integer from {low} to {high}", low, high)
        case Family.DECIMAL:
            width, scale = meaning.width, meaning.scale
            form = f"at most {width - scale} digits, a point, and at most {scale} digits"
            return DecimalMarkType(name, form, width, scale)
        case Family.DATE:
            return DateMarkType(name, "YYYY-MM-DD")
        case Family.TIMESTAMP:
            fraction = f"[.{'f' * meaning.digits}]" if meaning.digits else ""
            offset = " with an offset such as Z or +02:00" if meaning.zoned else ""
            form = f"YYYY-MM-DD[ HH:MM[:SS{fraction}]]{offset}"
            return TimestampMarkType(name, form, meaning.digits, meaning.zoned)
        case Family.UUID:
            return UuidMarkType(name, "8-4-4-4-12 hexadecimal digits")
        case Family.TEXT:
            return TextMarkType(name, "text in UTF-8")
        case _:
            return None


def mark_type(duckdb_type: str) -> MarkType:
    """The watermark type DuckDB spells like this.

    Raises:
        StateError: if a column of this type cannot be a watermark.
    """
    found = find_mark_type(duckdb_type)
    if found is None:
        raise StateError(
            "use as watermark a column of type",
            duckdb_type,
            "its values have no exact order that grows",
            f"Choose a column of {WATERMARKS}",
        )
    return found


_DATE_INFINITY = 2**31 - 1
_TIMESTAMP_INFINITY = 2**63 - 1
_LOWEST_US = -9_223_372_022_400_000_000
"""290309-12-22 (BC), the first microsecond DuckDB accepts; it wants whole days to fit."""
_LOWEST_NS = -9_223_286_400_000_000_000
"""1677-09-22, for the same reason."""
_INFINITIES = {"infinity": 1, "-infinity": -1}
_DATE = r"(?P<year>[0-9]{1,7})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})(?P<bc> \(BC\))?"
_TIME = (
    r"(?:[ T](?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?)?"
)
_ZONE = r"(?P<zone>Z|(?P<sign>[+-])(?P<zone_hours>[0-9]{2})(?::?(?P<zone_minutes>[0-9]{2}))?)?"


def _bounded(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError("out of its range")
    return value


def _fraction(digits: str, most: int) -> str:
    """`digits` after the point, filled to `most`; what does not fit must be zeros, for nothing is rounded."""
    if digits[most:].strip("0"):
        raise ValueError(f"more than {most} digits after the point")
    return digits[:most].ljust(most, "0")


def _offset(match: re.Match[str]) -> int:
    """Seconds east of UTC."""
    if match["sign"] is None:
        return 0
    seconds = int(match["zone_hours"]) * 3600 + int(match["zone_minutes"] or 0) * 60
    return -seconds if match["sign"] == "-" else seconds


def _days(match: re.Match[str]) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar.

    Python's own dates end at the year 9999, DuckDB's at 5881580; the arithmetic is Howard Hinnant's
    days_from_civil, with years that start in March so that a leap day is a year's last day.
    """
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if match["bc"]:
        year = 1 - year
    if not 1 <= month <= 12 or not 1 <= day <= _month_days(year, month):
        raise ValueError("no such day")
    if month <= 2:
        year -= 1
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _date_text(days: int) -> str:
    """The inverse of `_days`, as DuckDB writes it."""
    era, day = divmod(days + 719468, 146097)
    year_of_era = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year_of_era + year_of_era // 4 - year_of_era // 100
    month = (5 * day + 2) // 153
    day_of_month = day - (153 * month + 2) // 5 + 1
    year = era * 400 + year_of_era + (month >= 10)
    month = (month + 2) % 12 + 1
    return f"{year if year > 0 else 1 - year:04}-{month:02}-{day_of_month:02}" + (" (BC)" * (year <= 0))
