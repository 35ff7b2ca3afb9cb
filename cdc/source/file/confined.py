"""How does the product open a DuckDB? Here alone, so that what a file or a query says reaches nothing else.

Whoever writes the source chooses views, macros, generated columns and names, and DuckDB evaluates them. So
every DuckDB of the product reads and writes no file, loads no extension and asks no network, and can no
longer be told otherwise: `enable_external_access` is off and `lock_configuration` on before the first
statement of others. What the product itself attaches comes through one filesystem, which is registered first:
DuckDB heeds `allowed_directories` only for filesystems it knows by then, and one that is registered later
would be refused like any file. Variables of Python are no tables either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from cdc.source.file.served import FILES, PROTOCOL
from cdc.source.quote import literal

_ALWAYS: Mapping[str, str | bool] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
}
_LOGS = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
"""What DuckDB looks for when it opens a file (storage_manager.cpp)."""


def confined(
    config: Mapping[str, str | bool | int] | None = None,
    *,
    file: Path | None = None,
    spill: Path | None = None,
    encrypted: bool = False,
    opens: Path | None = None,
    writes: Path | None = None,
    settings: Sequence[str] = (),
    settable: Sequence[str] = (),
    optimizers: frozenset[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB that can reach nothing but what is named here.

    Args:
        config: what it is opened with, beside what always holds.
        file: the database, with its log; none is one in memory.
        spill: the directory for what does not fit into memory; without one it must fit.
        encrypted: what it spills is encrypted.
        opens: a database file that may be attached.
        writes: the one file that may be written.
        settings: SET statements; afterwards nothing is set any more but what is `settable`.
        optimizers: those it may use; None: all it has.

    Raises:
        duckdb.Error: it knows a setting no more.
    """
    connection = duckdb.connect(str(file) if file else ":memory:", config={**_ALWAYS, **(config or {})})
    try:
        connection.register_filesystem(FILES)
        run = connection.execute
        run("SET GLOBAL TimeZone = 'UTC'")
        for setting in settings:
            run(setting)
        if optimizers is not None:
            known = run("SELECT name FROM duckdb_optimizers()").fetchall()
            others = ",".join(name for (name,) in known if name not in optimizers)
            run(f"SET GLOBAL disabled_optimizers = {literal(others)}")
        if spill is not None and encrypted:
            # Without an extension DuckDB calls its cipher unsafe, for the generator that keys come from.
            run("SET force_mbedtls_unsafe = 'true'")
            run("SET temp_file_encryption = true")
        run(f"SET temp_directory = {literal(str(spill or ''))}")
        paths = [str(opens) + suffix for suffix in _LOGS] if opens else []
        paths += [str(writes)] if writes else []
        run(f"SET allowed_paths = [{', '.join(map(literal, paths))}]")
        run(f"SET allowed_directories = [{literal(f'{PROTOCOL}://')}]")
        run("SET enable_external_access = false")
        run(f"SET allowed_configs = [{', '.join(map(literal, settable))}]")
        run("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection
