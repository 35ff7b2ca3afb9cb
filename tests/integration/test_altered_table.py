"""A writer alters its tables while they are replicated: what a person is told, from the first word. [R10]"""

from __future__ import annotations

from pathlib import Path

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.waiting import wait_until
from tests.support.writers import Writer

CHANGES = {
    "dropped": ("DROP v", "its column v (VARCHAR) is gone. It goes on without the column unless"),
    "renamed": ("RENAME v TO w", "its column v (VARCHAR) is gone, perhaps renamed to w. It goes on without"),
    "retyped": ("ALTER v TYPE BLOB", "its column v was VARCHAR and is BLOB. Compare with `cdc schema diff`"),
}
TABLES = "\n".join(
    f'[[tables]]\nname = "{name}"\nwatermark = "seq"\ncolumns = ["id", "seq", "v"]' for name in CHANGES
)


def test_the_first_message_of_an_altered_column_names_table_column_and_remedy(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    """The columns are listed, so that nothing but a person can go on."""
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with (
        Rig(tmp_path, url, clickhouse_server.query, tables=TABLES) as rig,
        Writer(rig.source) as writer,
    ):
        for name in CHANGES:
            writer.run(f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
            writer.run(f"INSERT INTO {name} SELECT i, i, 'before' FROM range(10) r(i)")
        with rig.replicate() as replica:
            wait_until(lambda: all(rows(rig, name) == 10 for name in CHANGES), "the rows to arrive", 60.0)
            before = len(replica.messages())
            for name, (change, _) in CHANGES.items():
                writer.run(f"ALTER TABLE {name} {change}")
                writer.run(f"INSERT INTO {name} BY NAME SELECT 10 AS id, 10 AS seq")
            wait_until(
                lambda: all(told(replica.messages()[before:], name) for name in CHANGES),
                "a word of each",
                60.0,
            )
            said = replica.messages()[before:]
            assert replica.stop() == 0
    for name, (_, words) in CHANGES.items():
        assert words in told(said, name)[0]
    assert not [line for line in said if "Binder" in line or "Catalog Error" in line]


def rows(rig: Rig, name: str) -> int:
    try:
        return int(rig.query(f"SELECT uniqExact(id) FROM DB.{name}"))
    except AssertionError:
        return 0


def told(messages: list[str], table: str) -> list[str]:
    """What was said of the table's halt; that older changes may go unseen is an alert of its own."""
    return [line for line in messages if line.startswith("cannot ") and f"main.{table}" in line]
