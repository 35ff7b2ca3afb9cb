"""Change data capture from a DuckDB file that another process is writing into ClickHouse."""

__version__ = "0.1.0"
