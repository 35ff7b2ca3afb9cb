"""Which ClickHouse is this, and what can it do? One place that knows in which release a type arrived."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Self

from cdc.errors import TargetError


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A server's release. Each predicate holds from the release where the feature works without a setting.

    Where the changelog leaves a release open, it is the next one with long support: too late does no harm.
    """

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`18.16.1`, `26.9.2.1`, `24.8.4.13-stable`, `24.8`.

        Raises:
            TargetError: if `text` does not start with two numbers.
        """
        found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
        if found is None:
            raise TargetError(
                "understand the server version",
                repr(text),
                "it does not start with two numbers",
                "Check that the endpoint is a ClickHouse server",
            )
        return cls(*(int(part or 0) for part in found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def at_least(self, major: int, minor: int) -> bool:
        return (self.major, self.minor) >= (major, minor)

    @property
    def has_low_cardinality(self) -> bool:
        """Present since 18.12 behind a setting; not an experiment since 19.1."""
        return self.at_least(19, 1)

    @property
    def has_datetime64(self) -> bool:
        return self.at_least(20, 1)

    @property
    def datetime64_range(self) -> tuple[date, date]:
        """The first and the last day a DateTime64 prints and computes with."""
        if self.at_least(26, 9):
            return date(1, 1, 1), date(9999, 12, 31)
        if self.at_least(22, 8):
            return date(1900, 1, 1), date(2299, 12, 31)
        if self.at_least(21, 4):
            return date(1925, 1, 1), date(2282, 12, 31)
        return date(1970, 1, 1), date(2105, 12, 31)

    @property
    def date_range(self) -> tuple[date, date]:
        """The first and the last day of Date32, or of Date where there is no Date32."""
        return self.datetime64_range if self.has_date32 else (date(1970, 1, 1), date(2105, 12, 31))

    @property
    def has_int128(self) -> bool:
        """Int128 and UInt128 (20.11 behind a setting)."""
        return self.at_least(21, 8)

    @property
    def has_map(self) -> bool:
        """Map (21.1 behind a setting)."""
        return self.at_least(21, 12)

    @property
    def has_nested_tuple(self) -> bool:
        """A Tuple with names inside another type; before, Array(Tuple) was taken for Nested and split up."""
        return self.at_least(21, 1)

    @property
    def has_date32(self) -> bool:
        return self.at_least(21, 9)

    @property
    def has_bool(self) -> bool:
        return self.at_least(21, 12)

    @property
    def has_time64(self) -> bool:
        """Time64 (25.6 behind a setting)."""
        return self.at_least(25, 12)
