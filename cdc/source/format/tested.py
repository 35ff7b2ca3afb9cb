"""Which versions of DuckDB were tested, as the one that reads and as the one that writes?

The tests take their writers from here. An entry means that all of them passed with it; see `tools/test.sh`.
"""

from __future__ import annotations

from cdc.source.format.headers import DEPRECATED_VERSION, NEWEST_VERSION, Headers

READERS = ("2.0.0", "2.0.1")
"""DuckDB in this process. `requirements.lock` names one of them."""
WRITERS = ("1.0.0", "1.2.2", "1.4.4", "2.0.0", "2.0.1")
"""DuckDB in the process that holds the file."""


def untested_reader(version: str) -> str | None:
    """What there is to say of the DuckDB that reads; None where it was tested."""
    if version in READERS:
        return None
    return f"DuckDB {version}, which reads here, was not tested: {_listed(READERS)} were"


def untested_writer(headers: Headers) -> str | None:
    """What there is to say of the DuckDB that writes, as far as the file tells; None where it was tested.

    The file names the version that created it, and the format of its newest checkpoint. Which version writes
    it now it does not say.
    """
    active = headers.active
    if headers.version == DEPRECATED_VERSION and active is not None and active.version > NEWEST_VERSION:
        return (
            f"the file's storage version {active.version} was not tested: those up to {NEWEST_VERSION} were"
        )
    created_by = headers.library.removeprefix("v")
    if created_by in WRITERS:
        return None
    return f"DuckDB {created_by or 'of no version'}, which created the file, was not tested as a writer: " + (
        f"{_listed(WRITERS)} were"
    )


def _listed(versions: tuple[str, ...]) -> str:
    return f"{', '.join(versions[:-1])} and {versions[-1]}"
