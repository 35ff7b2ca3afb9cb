"""What may a column of this type be, and what is to be known of its values?

| family | types | a watermark | its overlap is | a version | a key |
|---|---|---|---|---|---|
| INTEGER | TINYINT to UBIGINT | yes | a count | yes | yes |
| WIDE | HUGEINT, UHUGEINT | yes | a count | no: more than 64 bits | yes |
| DECIMAL | DECIMAL(w,s) | yes | a count | no | yes |
| DATE | DATE | yes | whole days | yes | yes |
| TIMESTAMP | TIMESTAMP of each unit, with and without a time zone | yes | a time | yes | yes |
| UUID | UUID, of version 7 | yes | a time | no | yes |
| TEXT | VARCHAR | yes, without a collation | 0 | no | yes |
| PLAIN | BOOLEAN, BIGNUM, BLOB, BIT, ENUM, TIME, TIME_NS, TIMETZ | no | | no | yes |
| OTHER | FLOAT, DOUBLE, JSON, INTERVAL, VARIANT, GEOMETRY, nested and unknown types | no | | no | no |

A watermark needs an order that grows and a text from which it can be read back exactly: that excludes FLOAT
and DOUBLE (NaN, two zeros), INTERVAL (30 days are a month), and what comes round again every day, as TIME
does. A key needs an equality that ClickHouse shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache

from cdc.duckdb_types.spelling import DuckType, parse_type


class Family(Enum):
    """Types that are treated alike; see the table above."""

    INTEGER = "integer"
    WIDE = "wide"
    DECIMAL = "decimal"
    DATE = "date"
    TIMESTAMP = "timestamp"
    UUID = "uuid"
    TEXT = "text"
    PLAIN = "plain"
    OTHER = "other"


class Hashed(Enum):
    """How a value is hashed so that different values differ. SQL calls some of them equal, and DuckDB's hash
    follows SQL."""

    AS_IT_IS = "as it is"
    WITH_SIGN = "with its sign"
    """0.0 and -0.0 are equal to SQL."""
    WITH_TEXT = "with its text"
    """30 days and 1 month are, too. A nested NULL hashes like `[]` or its only member, and 0 like -1 where a
    number has 128 bits, whose halves DuckDB takes together by an exclusive or."""
    WITH_JSON = "with its JSON"
    """A UNION has the hash and the text of the member in use, whichever it is."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is to be known of one type."""

    name: str
    """DuckDB's spelling, as `duckdb_columns()` has it."""
    family: Family
    hashed: Hashed = Hashed.AS_IT_IS
    low: int = 0
    """The least value: of integers, and of a DECIMAL without its point."""
    high: int = 0
    """The greatest value, likewise."""
    width: int = 0
    """Digits of a DECIMAL,"""
    scale: int = 0
    """and those after its point."""
    digits: int = 0
    """Digits after the second's point of a TIMESTAMP."""
    zoned: bool = False
    """A TIMESTAMP that is written with an offset from UTC."""

    @property
    def overlap(self) -> str | None:
        """What a watermark's overlap is: a `count`, a `date`'s days, a `time`, or none for a `text`. None:
        this type cannot be a watermark."""
        return _OVERLAPS.get(self.family)

    @property
    def may_be_watermark(self) -> bool:
        return self.family in _OVERLAPS

    @property
    def may_be_key(self) -> bool:
        return self.family is not Family.OTHER

    @property
    def may_be_version(self) -> bool:
        """Whether it has an order within 64 bits."""
        return self.family in (Family.INTEGER, Family.DATE, Family.TIMESTAMP)

    @property
    def unsigned(self) -> bool:
        """An integer that is never below 0."""
        return self.family in (Family.INTEGER, Family.WIDE) and self.low == 0


WATERMARKS = "an integer, DECIMAL, DATE, TIMESTAMP, UUID (version 7) or VARCHAR type"
"""Those that may be one, for a message."""
_DIGITS_OF_64_BITS = 18
VERSIONS = "an integer of at most 64 bits, a DATE or a TIMESTAMP"
"""Those that may be one, for a message."""


@cache
def meaning_of(duckdb_type: str) -> Meaning:
    """What the type spelled like this means; a type that is not known here is of the family OTHER."""
    try:
        found = parse_type(duckdb_type)
    except ValueError:
        return Meaning(duckdb_type, Family.OTHER)
    if found.name == "DECIMAL":
        width, scale = found.numbers
        limit = 10**width - 1
        name = f"DECIMAL({width},{scale})"
        hashed = Hashed.AS_IT_IS if width <= _DIGITS_OF_64_BITS else Hashed.WITH_TEXT
        return Meaning(name, Family.DECIMAL, hashed, -limit, limit, width, scale)
    if found.name == "ENUM":
        return Meaning(duckdb_type, Family.PLAIN)
    if found.members:
        hashed = Hashed.WITH_JSON if _has_union(found) else Hashed.WITH_TEXT
        return Meaning(duckdb_type, Family.OTHER, hashed)
    return _KNOWN.get(found.name, Meaning(found.name, Family.OTHER))


def _has_union(found: DuckType) -> bool:
    return found.name == "UNION" or any(map(_has_union, found.types))


def _integer(name: str, bits: int) -> Meaning:
    unsigned = name.startswith("U")
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits <= 64:
        return Meaning(name, Family.INTEGER, low=low, high=high)
    return Meaning(name, Family.WIDE, Hashed.WITH_TEXT, low, high)


def _timestamp(name: str, digits: int, *, zoned: bool = False) -> Meaning:
    return Meaning(name, Family.TIMESTAMP, digits=digits, zoned=zoned)


_OVERLAPS = {
    Family.INTEGER: "count",
    Family.WIDE: "count",
    Family.DECIMAL: "count",
    Family.DATE: "date",
    Family.TIMESTAMP: "time",
    Family.UUID: "time",
    Family.TEXT: "text",
}
_KNOWN = {
    meaning.name: meaning
    for meaning in (
        *(
            _integer(prefix + name, bits)
            for prefix in ("", "U")
            for name, bits in (
                ("TINYINT", 8),
                ("SMALLINT", 16),
                ("INTEGER", 32),
                ("BIGINT", 64),
                ("HUGEINT", 128),
            )
        ),
        Meaning("DATE", Family.DATE),
        _timestamp("TIMESTAMP_S", 0),
        _timestamp("TIMESTAMP_MS", 3),
        _timestamp("TIMESTAMP", 6),
        _timestamp("TIMESTAMP_NS", 9),
        _timestamp("TIMESTAMP WITH TIME ZONE", 6, zoned=True),
        _timestamp("TIMESTAMPTZ_NS", 9, zoned=True),
        Meaning("UUID", Family.UUID),
        Meaning("VARCHAR", Family.TEXT),
        *(
            Meaning(name, Family.PLAIN)
            for name in ("BOOLEAN", "BIGNUM", "BLOB", "BIT", "TIME", "TIME_NS", "TIME WITH TIME ZONE")
        ),
        Meaning("FLOAT", Family.OTHER, Hashed.WITH_SIGN),
        Meaning("DOUBLE", Family.OTHER, Hashed.WITH_SIGN),
        Meaning("INTERVAL", Family.OTHER, Hashed.WITH_TEXT),
        *(Meaning(name, Family.OTHER) for name in ("JSON", "VARIANT", "GEOMETRY")),
    )
}
