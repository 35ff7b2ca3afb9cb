"""Changes that the log did not show are mended by the running replicator itself, without any command. [R3]"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.modern.fixture import WRITER, ModernServer
from tests.support.proxy import Proxy
from tests.support.reconciling import Scene
from tests.support.waiting import wait_until

DELETED = "DELETE FROM t WHERE id < 100"
UPDATED = "UPDATE t SET s = 'updated' WHERE id BETWEEN 500 AND 520"

Server = ClickHouseServer | ModernServer


@pytest.fixture(params=["old", "modern"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(
        "clickhouse_server" if request.param == "old" else "modern_server"
    )
    return found


@pytest.fixture
def scene(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Scene]:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with Scene(tmp_path, url, clickhouse_server.query) as made:
        made.deliver_once()
        yield made


def test_deletions_and_updates_of_a_time_that_nobody_followed_are_mended_after_the_start(
    tmp_path: Path, server: Server
) -> None:
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    with Scene(tmp_path, url, server.query) as scene:
        scene.deliver_once()
        scene.unseen(DELETED, UPDATED)
        with scene.replicate() as replica:
            scene.wait_mended(replica)
            assert scene.here() == scene.there()
            assert scene.table()["reconciled_rows"] == 100
            assert replica.stop() == 0, replica.log
        assert "source and target are equal again" in replica.log


@pytest.mark.parametrize("step", ["before send", "mid-send", "after send"])
def test_a_reconciliation_that_was_killed_is_done_by_the_next_start(scene: Scene, step: str) -> None:
    scene.unseen(DELETED)
    with scene.replicate(mortal=True) as replica:
        scene.wait_step("comparing")  # everything else is delivered by now: the next block is the repair's
        assert replica.die(step, "KILL") == -9
    assert scene.here() != scene.there() or step == "after send"
    with scene.replicate() as replica:
        scene.wait_mended(replica)
        assert scene.here() == scene.there()
        told = [each for each in replica.messages() if each.startswith("changes of older rows")]
        assert told == []  # this process noticed nothing of the kind itself: it was remembered


def test_rows_may_change_while_it_repairs(tmp_path: Path, server: Server) -> None:
    """The table's own loop delivers what comes, and what it delivers outranks the repair."""
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    with Scene(tmp_path, url, server.query, rows=20_000) as scene:
        scene.deliver_once()
        scene.unseen("DELETE FROM t WHERE id % 3 = 0", "UPDATE t SET s = 'unseen' WHERE id % 5 = 0")
        with scene.replicate() as replica:
            scene.wait_step("comparing")
            turn = 0
            while scene.table().get("broken_since") is not None:
                turn += 1
                scene.commit(
                    f"UPDATE t SET s = 'turn {turn}' WHERE id % 97 = {turn % 97}",
                    f"DELETE FROM t WHERE id % 101 = {turn % 101}",
                    f"INSERT INTO t SELECT i, i, 'back {turn}' FROM range(20000) r(i) "
                    f"WHERE i % 3 = 0 AND i % 89 = {turn % 89} AND i NOT IN (SELECT id FROM t)",
                )
                assert turn < 5000, scene.status()
            wait_until(lambda: scene.here() == scene.there(), "both sides to be equal", 30.0)
            scene.wait_mended(replica)
            assert turn > 3


def test_a_target_that_goes_away_meanwhile_is_waited_for(
    tmp_path: Path, clickhouse_server: ClickHouseServer
) -> None:
    with Proxy(clickhouse_server.native_port) as proxy:
        url = f"clickhouse://127.0.0.1:{proxy.port}"
        with Scene(tmp_path, url, clickhouse_server.query) as scene:
            scene.deliver_once()
            scene.unseen(DELETED)
            with scene.replicate() as replica:
                scene.wait_step("comparing")
                proxy.refuse()
                scene.wait_step("waiting")
                assert scene.table()["broken_since"] is not None
                proxy.heal()
                scene.wait_mended(replica)
                assert scene.here() == scene.there()


def test_a_user_that_may_only_insert_is_told_what_to_do_and_the_alert_resolves_when_that_is_done(
    tmp_path: Path, modern_server: ModernServer
) -> None:  # [S4]
    url = f"clickhouse://127.0.0.1:{modern_server.native_port}"
    with Scene(tmp_path, url, modern_server.query) as scene:
        scene.deliver_once()
        administrator = shutil.copy(scene.config, tmp_path / "administrator.toml")
        scene.configure(url.replace("//", f"//{WRITER.name}@"), create=False)
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(f'[auth]\nclickhouse_password = "{WRITER.password}"\n')
        secrets.chmod(0o600)
        scene.unseen(DELETED)
        with scene.replicate() as replica:
            alert = scene.wait_alert("GRANT SELECT")
            assert "cdc verify main.t --repair" in alert["remedy"]
            assert "may not compare" in alert["message"]
            assert len(scene.here()) == len(scene.there()) + 100  # nothing was mended
            secrets.unlink()  # the replicator has read it; the administrator has no password
            done = scene.verify(Path(administrator), "--repair", "--force")
            assert done.returncode == 0, done.stdout + done.stderr
            wait_until(lambda: scene.alert() is None, "the alert to resolve")
            assert (scene.here(), scene.table()["broken_since"]) == (scene.there(), None)
            assert replica.stop() == 0, replica.log


def test_where_it_is_switched_off_a_person_mends_and_the_alert_resolves_without_a_restart(
    scene: Scene,
) -> None:
    scene.configure(scene.url, sync="reconcile = false")
    scene.unseen(DELETED)
    with scene.replicate() as replica:
        scene.wait_alert("reconcile = true")
        assert scene.table()["reconciling"] is None
        compared = scene.verify(scene.config)
        assert (compared.returncode, scene.alert() is None) == (7, False)
        done = scene.verify(scene.config, "--repair", "--force")
        assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: scene.alert() is None, "the alert to resolve")
        assert scene.here() == scene.there()
        assert replica.stop() == 0, replica.log


def test_rows_pruned_from_the_source_stay_where_deletions_are_ignored(scene: Scene) -> None:
    scene.configure(scene.url, deletes="ignore", sync="overlap_count = 0")  # no row is sent a second time
    before = scene.here()
    scene.commit("DELETE FROM t WHERE id < 100")
    scene.query("ALTER TABLE DB.t DELETE WHERE id = 700")  # a row that got lost
    wait_until(lambda: len(scene.here()) == len(before) - 1, "the row to be gone")
    scene.note("as if updates had gone unseen")
    with scene.replicate() as replica:
        scene.wait_mended(replica)
        assert scene.here() == before
        assert scene.table()["reconciled_rows"] == 1


def test_a_stop_in_the_middle_ends_the_process_within_a_moment(scene: Scene) -> None:  # [P5]
    scene.unseen(DELETED)
    with scene.replicate() as replica:
        scene.wait_step("comparing")
        began = time.monotonic()
        assert replica.stop() == 0, replica.log
        assert time.monotonic() - began < 5.0  # the whole process; a second on a machine that is not busy
    assert "under way" not in replica.log
