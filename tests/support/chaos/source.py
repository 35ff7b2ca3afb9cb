"""A writer that crashes, checkpoints, alters its table, writes much or large rows, and deletes."""

from __future__ import annotations

import time
from functools import partial

from tests.support.chaos.place import Faults, Place
from tests.support.waiting import PATIENCE

HUGE_ROWS = 100_000
LARGE_BYTES = 10 << 20
MOST_ROWS = 250_000
"""Of events: what is more is deleted by the next fault that deletes."""
ARRIVAL_SECONDS = 60.0
UNSEEN_SECONDS = 60.0
INSERT = (
    "INSERT INTO events SELECT (SELECT coalesce(max(id), 0) FROM events) + 1 + i, "
    "stamp(epoch_ns(now()) + i), {} FROM range({}) r(i)"
)


def faults(place: Place) -> Faults:
    return {
        "writer killed": partial(_kill, place),
        "writer stopped": partial(_stop, place),
        "writer frozen": partial(_freeze, place),
        "checkpoint": partial(_checkpoint, place),
        "transaction of 100,000 rows": partial(_insert, place, "repeat('x', 20)", HUGE_ROWS),
        "row of 10 MB": partial(_insert, place, f"repeat('x', {LARGE_BYTES})", 1),
        "bulk insert past the log": partial(_bulk, place),
        "rows deleted": partial(_delete, place),
        "column added or dropped": partial(_alter, place),
    }


def _kill(place: Place) -> None:
    place.rig.writer.kill()
    place.rig.write()


def _stop(place: Place) -> None:
    place.rig.writer.stop()
    place.rig.write()


def _freeze(place: Place) -> None:
    with place.rig.writer_frozen():
        place.pause()


def _checkpoint(place: Place) -> None:
    for _ in range(place.random.randrange(1, 4)):
        place.tell_writer("CHECKPOINT", alone=True)
        time.sleep(place.random.uniform(0.0, 0.3))


def _insert(place: Place, value: str, rows: int) -> None:
    place.tell_writer(INSERT.format(value, rows))
    arrive(place)


def _bulk(place: Place) -> None:
    """The rows go into the file, and the log has but a reference to them."""
    place.tell_writer(
        "SET auto_checkpoint_skip_wal_threshold = 1000",
        INSERT.format("'bulk ' || i", HUGE_ROWS // 4),
        "RESET auto_checkpoint_skip_wal_threshold",
    )
    arrive(place)


def _delete(place: Place) -> None:
    """Some here and there, and the oldest where there are many; none may be seen afterwards.

    One may go unseen where the log was not followed. Then the status must say that it is compared, and it
    arrives by that; or an alert must stand, and what it says must help.
    """
    nth = place.random.randrange(2, 50)
    place.tell_writer(
        f"DELETE FROM events WHERE id % {nth} = 0 AND id > (SELECT max(id) FROM events) - 5000",
        f"DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - {MOST_ROWS}",
        f"DELETE FROM trades WHERE status = 'CANCELLED' AND seq % {nth} = 0",
        alone=True,
    )
    try:
        arrive(place, UNSEEN_SECONDS)
    except AssertionError:
        status = place.rig.status()
        alerts = [(each["name"], each["subject"]) for each in status["alerts"]]
        compared = [each["table"] for each in status["tables"] if each["broken_since"] is not None]
        if ("tail_broken", "main.events") in alerts:
            place.cdc("verify", "events", "--repair", known=(0, 7))
        else:
            assert "main.events" in compared, f"deletions unseen, and nothing says so: {alerts}, {compared}"
        arrive(place)


def _alter(place: Place) -> None:
    """Of the table that is being traded in: it goes on with or without the column."""
    there = place.tell_writer("SELECT count(*) FROM duckdb_columns() WHERE column_name = 'note'")
    change = "DROP COLUMN note" if there else "ADD COLUMN note VARCHAR DEFAULT 'none'"
    place.tell_writer(f"ALTER TABLE trades {change}", alone=True)


def arrive(place: Place, seconds: float = ARRIVAL_SECONDS) -> None:
    """Wait until the events are those of the source, by number and sum."""
    wanted = place.tell_writer("SELECT coalesce(sum(id), 0)::BIGINT FROM events")
    deadline = time.monotonic() + PATIENCE * seconds
    while _sum(place) != wanted:
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: events to arrive"
        time.sleep(0.2)


def _sum(place: Place) -> int | None:
    """Of the events in the target; None while it has no such table."""
    try:
        return int(place.rig.query("SELECT sum(id) FROM DB.events FINAL WHERE _cdc_deleted = 0"))
    except AssertionError:
        return None
