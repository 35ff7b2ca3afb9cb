"""In which forms can the answer to a query be written, and which one is meant?"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path


class Format(StrEnum):
    """The forms an answer may have."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    ARROW = "arrow"
    PARQUET = "parquet"

    @property
    def binary(self) -> bool:
        return self in (Format.ARROW, Format.PARQUET)


_SUFFIXES = {f".{form.value}": form for form in Format} | {".txt": Format.TABLE, ".ndjson": Format.JSONL}


def form_of(output: Path | None) -> Format:
    """The form that the output's name asks for; without a file, what suits the one who reads."""
    if output is not None:
        return _SUFFIXES.get(output.suffix.lower(), Format.CSV)
    return Format.TABLE if sys.stdout.isatty() else Format.CSV
