"""What do DuckDB's types mean: how are they spelled, and what may a column of each be?

The one source of truth for every part that asks: may it be a watermark, a key, a version; how are its values
ordered, and which values does SQL call equal that are different all the same?
"""

from cdc.duckdb_types.meaning import VERSIONS, WATERMARKS, Family, Hashed, Meaning, meaning_of
from cdc.duckdb_types.spelling import DuckType, parse_type
from cdc.duckdb_types.values import MarkType, find_mark_type, mark_type

__all__ = [
    "VERSIONS",
    "WATERMARKS",
    "DuckType",
    "Family",
    "Hashed",
    "MarkType",
    "Meaning",
    "find_mark_type",
    "mark_type",
    "meaning_of",
    "parse_type",
]
