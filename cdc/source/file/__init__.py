"""A live DuckDB file: consistent views of it, the DuckDB sessions that read them, and what wakes a reader."""
