"""What makes a copy diverge: copies put back, keys changed, tables emptied or sent again, targets touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.chaos.place import Faults, Place
from tests.support.chaos.source import INSERT, arrive

ROWS = 500
SECONDS = 90.0
"""A comparison is waited for, and every row of a table may have to be delivered again."""


def faults(place: Place) -> Faults:
    found = {
        "older copy put back": partial(_restore, place),
        "keys changed in place": partial(_change_keys, place),
        "table emptied": partial(_empty, place),
        "table sent again": partial(_resync, place),
        "target's table emptied": partial(_tamper, place, "TRUNCATE TABLE DB.events"),
        "target's table dropped": partial(_tamper, place, "DROP TABLE DB.events"),
    }
    return {name: partial(_after_some_events, place, fault) for name, fault in found.items()}


def _after_some_events(place: Place, fault: Callable[[], None]) -> None:
    """Of rows that are there, so that there is something to diverge."""
    place.tell_writer(INSERT.format("'before'", ROWS))
    arrive(place)
    fault()


def _restore(place: Place) -> None:
    rig = place.rig
    rig.writer.kill()
    kept = rig.directory / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for file in _files(rig.source):
        shutil.copy2(file, kept)
    rig.write()
    place.pause()
    rig.writer.kill()
    for file in _files(rig.source):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy2(file, rig.directory)
    rig.write()
    arrive(place, SECONDS)


def _files(source: Path) -> list[Path]:
    names = (source.name, source.name + ".wal", source.name + ".wal.checkpoint")
    return [path for name in names if (path := source.with_name(name)).exists()]


def _change_keys(place: Place) -> None:
    nth = place.random.randrange(2, 50)
    place.tell_writer(
        f"UPDATE events SET id = -id WHERE id % {nth} = 0 AND id > (SELECT max(id) FROM events) - 2000 "
        "AND -id NOT IN (SELECT id FROM events)",
        alone=True,
    )
    arrive(place, SECONDS)


def _empty(place: Place) -> None:
    place.tell_writer("DELETE FROM events", alone=True)
    arrive(place, SECONDS)


def _resync(place: Place) -> None:
    """Rows are deleted meanwhile, of which the table that is sent again shows nothing."""
    place.cdc("resync", "events", "--yes", "--force")
    place.tell_writer("DELETE FROM events WHERE id % 7 = 3", alone=True)
    arrive(place, SECONDS)


def _tamper(place: Place, sql: str) -> None:
    place.rig.query(sql)
    arrive(place, SECONDS)
