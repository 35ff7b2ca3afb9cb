"""The bytes of DuckDB's files: headers, log and frames. Bytes in, values out; no file is opened here."""
