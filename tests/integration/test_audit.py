"""Rows of the target that somebody changed, or that are lost without a reason, are found, told and mended."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse import Certificates, ClickHouseServer, running_server
from tests.support.modern.fixture import WRITER, ModernServer
from tests.support.reconciling import Scene
from tests.support.replica import Replica
from tests.support.waiting import wait_until

Server = ClickHouseServer | ModernServer
SECONDS = 100.0
OFTEN = "[audit]\ninterval_hours = 0.001\ncpu_percent = 100\n"
ONCE = "[audit]\ncpu_percent = 100\n"
"""After the start, and whenever there is a reason."""

TAMPERED = {
    "rows changed": "INSERT INTO DB.t (id, seq, s, _cdc_version, _cdc_deleted) "
    "SELECT id, seq, 'other', _cdc_version, 0 FROM DB.t WHERE id IN (5, 7)",
    "rows deleted": "ALTER TABLE DB.t DELETE WHERE id < 5",
    "rows marked deleted": "INSERT INTO DB.t (id, seq, s, _cdc_version, _cdc_deleted) "
    "SELECT id, seq, s, _cdc_version, 1 FROM DB.t WHERE id < 5",
    "rows added": "INSERT INTO DB.t (id, seq, s, _cdc_version, _cdc_deleted) "
    "SELECT id + 5000, seq, 'added', 1, 0 FROM DB.t WHERE id < 5",
}


@pytest.fixture(params=["old", "modern"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(
        "clickhouse_server" if request.param == "old" else "modern_server"
    )
    return found


def _scene(directory: Path, server: Server, more: str = OFTEN) -> Scene:
    """More rows than the overlap, which a start delivers again: what is changed lies before that."""
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    return Scene(directory, url, server.query, rows=3000, deletes="replicate", more=more)


def _alert(scene: Scene) -> dict[str, Any] | None:
    alerts = scene.status().get("alerts", ())
    return next((each for each in alerts if each["name"] == "audit_differences"), None)


def _differences(scene: Scene) -> dict[str, float]:
    """What the metric counts, by kind."""
    with urllib.request.urlopen(f"{scene.status()['page']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'cdc_audit_differences_total\{kind="(\w+)",table="main.t"\} (\S+)', text)
    return {kind: float(value) for kind, value in found}


def _wait_audited(scene: Scene, replica: Replica) -> None:
    def audited() -> bool:
        assert replica.process.poll() is None, replica.log
        return (
            scene.status().get("pid") == replica.process.pid and scene.table().get("audited_at") is not None
        )

    wait_until(audited, "an audit to end", SECONDS)


@contextmanager
def _told_and_mended(scene: Scene, replica: Replica) -> Iterator[None]:
    """What is done here is found by an audit, told and mended; the alert ends when an audit finds nothing."""
    _wait_audited(scene, replica)
    assert (scene.table()["audit"], _alert(scene)) == ("equal", None)
    assert _differences(scene) == {"missing": 0.0, "extra": 0.0, "different": 0.0}
    yield
    wait_until(lambda: _alert(scene) is not None, "an alert", SECONDS)
    wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)
    wait_until(lambda: _alert(scene) is None, "the alert to end", SECONDS)
    assert scene.table()["audit"] == "equal"


def _equal(scene: Scene) -> bool:
    try:
        return scene.here() == scene.there()
    except (AssertionError, RuntimeError, OSError):
        return False


@pytest.mark.parametrize("kind", TAMPERED)
def test_rows_that_somebody_changed_are_found_told_and_mended(
    tmp_path: Path, server: Server, kind: str
) -> None:
    with _scene(tmp_path, server) as scene, scene.replicate() as replica:
        with _told_and_mended(scene, replica):
            scene.query(TAMPERED[kind])
        counted = _differences(scene)
        assert sum(counted.values()) == {"rows changed": 2}.get(kind, 5), counted
        [said] = [line for line in replica.log.splitlines() if '"source and target differ"' in line]
        assert ("2 different like (5) (7)" if kind == "rows changed" else " like (") in said
        assert replica.stop() == 0, replica.log


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_was_changed_while_it_was_stopped_is_found_after_the_start(
    tmp_path: Path, clickhouse_server: ClickHouseServer, kind: str
) -> None:
    with _scene(tmp_path, clickhouse_server, ONCE) as scene:
        scene.deliver_once(SECONDS)
        scene.query(TAMPERED[kind])
        with scene.replicate() as replica:
            wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)
            _wait_audited(scene, replica)
            told = (
                '"outcome": "repaired"' in replica.log
            )  # by a reconciliation, where the start asked for one
            assert told or "Mended" in str(_alert(scene)), replica.log


def test_a_partition_that_was_dropped_is_noticed_within_seconds(tmp_path: Path, server: Server) -> None:
    """Without an audit: its parts are not there any more."""
    with _scene(tmp_path, server, "[audit]\nenabled = false") as scene:
        partitioned = '[target]\npartition_by = "intDiv(id, 100)"'
        scene.config.write_text(scene.config.read_text().replace("[target]", partitioned))
        with scene.replicate() as replica:
            wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)
            # The reader may ask for a comparison of its own after the start.
            wait_until(lambda: scene.table().get("broken_since") is None, "nothing to be compared", SECONDS)
            partitions = iter(range(9))

            def noticed() -> bool:
                """Dropped one after the other: it may not have looked at the table before the first."""
                scene.query(f"ALTER TABLE DB.t DROP PARTITION {next(partitions)}")
                with suppress(AssertionError):
                    wait_until(lambda: "rows were taken away" in replica.log, "it to be noticed", 10.0)
                return "rows were taken away" in replica.log

            wait_until(noticed, "it to be noticed", SECONDS)
            wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)


def test_a_user_who_may_not_read_is_told_so_once_in_the_status(
    tmp_path: Path, modern_server: ModernServer
) -> None:
    with _scene(tmp_path, modern_server) as scene:
        scene.deliver_once(SECONDS)
        scene.configure(scene.url.replace("//", f"//{WRITER.name}@"), create=False, more=OFTEN)
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(f'[auth]\nclickhouse_password = "{WRITER.password}"\n')
        secrets.chmod(0o600)
        with scene.replicate() as replica:
            told = "off: this user may not read the target"
            wait_until(lambda: scene.table().get("audit") == told, "it to be told", SECONDS)
            assert _alert(scene) is None
            assert replica.stop() == 0, replica.log


def test_it_is_off_where_it_is_switched_off(tmp_path: Path, clickhouse_server: ClickHouseServer) -> None:
    with (
        _scene(tmp_path, clickhouse_server, "[audit]\nenabled = false") as scene,
        scene.replicate() as replica,
    ):
        scene.wait_caught_up(replica, SECONDS)
        wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)
        scene.query(TAMPERED["rows changed"])
        assert replica.stop() == 0, replica.log
        assert (scene.table()["audit"], scene.table()["audited_at"]) == ("off", None)


def test_where_nothing_is_to_be_mended_it_tells(tmp_path: Path, clickhouse_server: ClickHouseServer) -> None:
    with _scene(tmp_path, clickhouse_server) as scene:
        scene.deliver_once(SECONDS)
        scene.configure(scene.url, sync="reconcile = false", more=OFTEN)
        with scene.replicate() as replica:
            _wait_audited(scene, replica)
            scene.query(TAMPERED["rows changed"])
            wait_until(lambda: "2 differ all the same" in str(_alert(scene)), "it to be told", SECONDS)
            assert not _equal(scene)
            assert replica.stop() == 0, replica.log


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_a_server_that_was_restored_from_an_older_backup_is_made_equal(
    tmp_path: Path, certificates: Certificates, when: str
) -> None:
    with (
        running_server(tmp_path / "server", certificates) as server,
        _scene(tmp_path, server, ONCE) as scene,
    ):
        scene.deliver_once(SECONDS)
        server.stop()
        shutil.copytree(server.directory / "data", tmp_path / "backup")
        server.start()
        scene.commit("DELETE FROM t WHERE id < 10", "UPDATE t SET s = 'later' WHERE id BETWEEN 20 AND 40")
        scene.deliver_once(SECONDS)
        wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)

        def restore() -> None:
            server.kill()
            shutil.rmtree(server.directory / "data")
            shutil.copytree(tmp_path / "backup", server.directory / "data")
            server.start()

        if when == "stopped":
            restore()
        with scene.replicate() as replica:
            if when == "running":
                _wait_audited(scene, replica)
                restore()
            assert not _equal(scene)
            wait_until(lambda: _equal(scene), "both sides to be equal", SECONDS)
            assert replica.stop() == 0, replica.log


def test_an_embedded_target_is_audited_too(tmp_path: Path) -> None:
    """Its directory belongs to one process at a time: it is changed while the replicator is stopped."""
    place = tmp_path / "engine"
    with ModernServer(place) as engine:
        engine.stop()

        def query(sql: str) -> str:
            engine.ensure()
            try:
                return engine.query(sql)
            finally:
                engine.stop()

        with Scene(tmp_path, f"chdb://{place}", query, rows=3000, more=ONCE) as scene:
            scene.deliver_once(SECONDS)
            assert _equal(scene)
            scene.query(TAMPERED["rows added"])
            assert not _equal(scene)
            with scene.replicate() as replica:
                _wait_audited(scene, replica)
                told = (
                    '"outcome": "repaired"' in replica.log
                )  # by a reconciliation, if the start asked for one
                assert told or "Mended" in str(_alert(scene)), replica.log
                assert replica.stop() == 0, replica.log
            assert _equal(scene)
            query(f"DROP DATABASE {scene.database}")
            with scene.replicate() as replica:
                scene.wait_caught_up(replica, SECONDS)
                assert replica.stop() == 0, replica.log
            assert _equal(scene)
