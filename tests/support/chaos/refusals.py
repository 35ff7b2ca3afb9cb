"""ClickHouse that answers and refuses, each for a reason of its own: a row, writing, parts, memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from tests.support.chaos.place import PARTS, TABLES, Faults, Place
from tests.support.waiting import wait_until

MOST_ROWS = 5
"""That are refused: each is searched for by halves."""
RETRIED_SECONDS = 60.0
"""Failed rows are looked for every 10 s."""


def faults(place: Place) -> Faults:
    return {
        "rows refused, then taken": partial(_refuse_rows, place, _retry),
        "rows refused, then changed": partial(_refuse_rows, place, _change),
        "user may only read": partial(_restrain, place, readonly=1),
        "memory limit": partial(_restrain, place, max_memory_usage=1),
        "too many parts": partial(_fill_with_parts, place),
    }


def _refuse_rows(place: Place, mend: Callable[[Place], None]) -> None:
    """A view refuses them, which is how a server without constraints does; once it is gone all are mended."""
    rig = place.rig
    first = rig.committed() + place.random.randrange(5, 100)
    last = first + place.random.randrange(MOST_ROWS)
    rig.query(
        "CREATE MATERIALIZED VIEW DB.refusing ENGINE = Null AS "
        f"SELECT throwIf(seq BETWEEN {first} AND {last}) AS bad FROM DB.trades"
    )
    try:
        wait_until(lambda: rig.failed_rows() > 0, "rows to be set aside", 60.0)
    finally:
        rig.query("DROP TABLE DB.refusing")
    rig.recover()
    mend(place)
    wait_until(lambda: rig.failed_rows() == 0, "no row to be left aside", RETRIED_SECONDS)


def _retry(place: Place) -> None:
    place.cdc("failed", "retry", "--all")


def _change(place: Place) -> None:
    """The rows get a newer state in the source, which is taken; what was refused is not wanted any more."""
    found: list[dict[str, Any]] = json.loads(place.cdc("failed", "list", "--json"))
    keys = ", ".join(f"'{each['key'][0]}'" for each in found)
    if found:
        place.tell_writer(
            "UPDATE trades SET quantity = quantity + 1, updated_at = stamp(epoch_ns(now())) "
            f"WHERE trade_id IN ({keys})",
            alone=True,
        )
        place.rig.recover()
        # Rows that are not found were sent by then.
        place.cdc("failed", "discard", "--yes", *(str(each["id"]) for each in found), known=(0, 1))


def _restrain(place: Place, **settings: int) -> None:
    """A user's limits count from its next connection on."""

    def restrain(**settings: int) -> None:
        place.server.restrain(**settings)
        place.proxy.cut()

    place.while_(partial(restrain, **settings), restrain)


def _fill_with_parts(place: Place) -> None:
    """Copies of one row, each a part, until no more are taken: the same state of it, so FINAL shows one."""
    rig = place.rig
    for table in TABLES:
        rig.query(f"SYSTEM STOP MERGES DB.{table}")
    with suppress(AssertionError):  # what is waited for
        for _ in range(2 * PARTS):
            rig.query("INSERT INTO DB.trades SELECT * FROM DB.trades LIMIT 1")
    place.pause()
    for table in TABLES:
        rig.query(f"SYSTEM START MERGES DB.{table}")
    rig.query("OPTIMIZE TABLE DB.trades")
