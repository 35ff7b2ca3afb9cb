"""A table whose target would be another's is left out, aloud, and the others run. [issue 12 case 19]"""

from __future__ import annotations

from pathlib import Path

from tests.support.clickhouse import ClickHouseServer
from tests.support.reconciling import Scene
from tests.support.waiting import wait_until


def test_a_table_made_later_does_not_stop_the_one_whose_target_it_would_take(
    tmp_path: Path, clickhouse_server: ClickHouseServer
) -> None:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with Scene(tmp_path, url, clickhouse_server.query) as scene:
        scene.commit("CREATE TABLE b_t (id INTEGER PRIMARY KEY, seq BIGINT)", "INSERT INTO b_t VALUES (1, 1)")
        scene.deliver_once()
        # By name b.t comes first: what decides is that b_t was there.
        scene.commit("CREATE SCHEMA b", "CREATE TABLE b.t (id INTEGER PRIMARY KEY, seq BIGINT)", "CHECKPOINT")
        with scene.replicate() as replica:
            scene.commit("INSERT INTO b.t VALUES (7, 7)", "INSERT INTO b_t VALUES (2, 2)")
            scene.commit("INSERT INTO t VALUES (5000, 5000, 'new')")
            wait_until(lambda: scene.here() == scene.there(), "t to be equal", 30.0)
            both = "SELECT id FROM DB.b_t FINAL WHERE _cdc_deleted = 0 ORDER BY id"
            wait_until(lambda: scene.query(both).split() == ["1", "2"], "b_t to have its own rows", 30.0)
            [left] = scene.status()["left_out"]
            assert left["table"] == "b.t"
            assert (
                "'b_t' would also be written for main.b_t. Give one of them another target" in left["reason"]
            )
            assert replica.process.poll() is None
            verified = scene.verify(scene.config)
            assert verified.returncode == 0, verified.stdout + verified.stderr
            assert replica.stop() == 0
