"""Rows that went while nobody could see it are gone from the target within seconds, without any command. [R3]

Every kind of deletion, key change and replacement, while the replicator is stopped, suspended or cannot
follow the log, and around a mark that is moved by hand. None of them raises an alert.
[issue 12 cases 6, 7, 8, 14, 15]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.reconciling import Scene
from tests.support.replica import Replica
from tests.support.waiting import wait_until

KEYED = '[[tables]]\nname = "t"\nkey = ["id"]\nwatermark = "seq"'
NO_KEY = "id INTEGER, seq BIGINT, s VARCHAR"
REKEYED = "UPDATE t SET id = id + 100000 WHERE id < 6"
REPLACED = ("DELETE FROM t", "INSERT INTO t SELECT i + 5000, i, 'other' FROM range(1000) r(i)")


@contextmanager
def scene_of(
    directory: Path, server: ClickHouseServer, *, version: str = "", sync: str = ""
) -> Iterator[Scene]:
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    with Scene(directory, url, server.query, columns=NO_KEY, more=KEYED, version=version, sync=sync) as made:
        made.deliver_once()
        yield made


@pytest.fixture
def scene(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Scene]:
    with scene_of(tmp_path, clickhouse_server) as made:
        yield made


def wait_equal(scene: Scene, replica: Replica, seconds: float = 40.0) -> None:
    def equal() -> bool:
        assert replica.process.poll() is None, replica.log
        return scene.here() == scene.there()

    wait_until(equal, "both sides to be equal", seconds)
    assert scene.alert() is None


def command(scene: Scene, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cdc", "-c", str(scene.config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", ["emptied", "rekeyed", "replaced", "made anew"])
def test_what_changed_while_the_replicator_was_stopped(scene: Scene, change: str) -> None:
    statements = {
        "emptied": ("DELETE FROM t",),
        "rekeyed": (REKEYED,),
        "replaced": REPLACED,
        "made anew": (f"CREATE OR REPLACE TABLE t ({NO_KEY})", REPLACED[1]),
    }
    scene.commit(*statements[change], "CHECKPOINT")
    with scene.replicate() as replica:
        wait_equal(scene, replica)


@pytest.mark.parametrize("change", ["rekeyed", "replaced"])
def test_what_changed_while_the_replicator_was_suspended(scene: Scene, change: str) -> None:
    with scene.replicate() as replica:
        scene.wait_caught_up(replica)
        replica.process.send_signal(signal.SIGSTOP)
        scene.commit(*([REKEYED] if change == "rekeyed" else REPLACED), "CHECKPOINT")
        scene.commit("INSERT INTO t VALUES (-1, 2000, 'last')", "CHECKPOINT")
        replica.process.send_signal(signal.SIGCONT)
        wait_equal(scene, replica)


@pytest.mark.parametrize(
    "reset",
    [
        ("resync", "t", "--yes"),
        ("watermark", "reset", "t", "--to", "500", "--yes"),
        ("watermark", "set", "t", "900", "--yes"),
    ],
)
def test_rows_deleted_before_a_mark_was_moved_by_hand(scene: Scene, reset: tuple[str, ...]) -> None:
    scene.commit("DELETE FROM t WHERE id % 97 = 3", "CHECKPOINT")
    command(scene, *reset)
    with scene.replicate() as replica:
        wait_equal(scene, replica)


def test_rows_deleted_all_the_while_a_table_is_sent_again_three_times(scene: Scene) -> None:
    with scene.replicate() as replica:
        scene.wait_caught_up(replica)
        scene.writer.run("SET checkpoint_threshold = '20KB'")
        for turn in range(3):
            for row in range(10):
                scene.commit(f"DELETE FROM t WHERE id = {100 * turn + row}")
            command(scene, "resync", "t", "--yes", "--force")
            for row in range(10, 20):
                scene.commit(
                    f"DELETE FROM t WHERE id = {100 * turn + row}",
                    f"INSERT INTO t VALUES ({2000 + 100 * turn + row}, {2000 + 100 * turn + row}, 'new')",
                )
        wait_equal(scene, replica)


def test_a_replicator_that_waits_takes_up_a_mark_that_was_moved_within_seconds(scene: Scene) -> None:
    """The rows are gone from the target, and the writer says nothing. [case 10]"""
    with scene.replicate() as replica:
        scene.wait_caught_up(replica)
        scene.query("TRUNCATE TABLE DB.t")
        assert scene.here() == []
        began = time.monotonic()
        command(scene, "resync", "t", "--yes", "--force")
        wait_equal(scene, replica, 20.0)
        print(f"refilled {time.monotonic() - began:.1f} s after the command began")


@pytest.mark.parametrize("version", ["1.4.4", ""])
def test_a_column_that_the_target_lacks_keeps_a_comparison_no_longer_than_until_it_is_there(
    tmp_path: Path, clickhouse_server: ClickHouseServer, version: str
) -> None:
    """[cases 14 and 16]"""
    with scene_of(tmp_path, clickhouse_server, version=version, sync="reconcile_interval_sec = 600") as scene:
        scene.configure(scene.url, create=False, sync="reconcile_interval_sec = 600", more=KEYED)
        with scene.replicate() as replica:
            scene.wait_caught_up(replica)
            scene.commit("ALTER TABLE t ADD COLUMN k DOUBLE DEFAULT random()")
            scene.commit("DELETE FROM t WHERE id % 50 = 7")
            wait_until(lambda: scene.table().get("state") == "failed", "the table to halt", 30.0)
            scene.commit("DELETE FROM t WHERE id % 50 = 8", "CHECKPOINT")
            scene.query("ALTER TABLE DB.t ADD COLUMN k Nullable(Float64)")
            wait_equal(scene, replica)


def test_a_table_made_anew_while_the_log_is_not_followed_is_compared_at_once(scene: Scene) -> None:
    """[case 15] Its rows lie before the mark, so that no snapshot past it shows them."""
    with scene.replicate() as replica:
        scene.wait_caught_up(replica)
        scene.commit("ALTER TABLE t ADD COLUMN k INTEGER", "ALTER TABLE t DROP COLUMN k")
        wait_until(lambda: scene.table().get("reconciled_at") is not None, "a first comparison", 30.0)
        for turn in range(3):
            scene.commit(
                f"CREATE OR REPLACE TABLE t ({NO_KEY})",
                f"INSERT INTO t SELECT i * {turn + 2}, i, 'turn {turn}' FROM range(300) r(i)",
            )
            wait_equal(scene, replica, 30.0)
