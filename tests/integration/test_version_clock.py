"""What is newer in truth wins in the target, whatever the file, its log, the store or a version column do.

[issue 12 cases 3, 4, 5, 13, 24, 28]
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.modern.fixture import WRITER, ModernServer
from tests.support.reconciling import Scene
from tests.support.replica import Replica
from tests.support.waiting import wait_until
from tests.support.writers import Writer

PATIENCE = 150.0
"""Seconds, on a machine that is at its limit; a few are needed."""


@pytest.fixture
def scene(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Scene]:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with Scene(tmp_path, url, clickhouse_server.query, rows=500) as made:
        yield made


def wait_equal(scene: Scene, replica: Replica, seconds: float = PATIENCE) -> None:
    """Until both sides are equal, or the replicator has ended."""
    wait_until(
        lambda: replica.process.poll() is not None or scene.here() == scene.there(),
        f"both sides to be equal; {scene.status()}",
        seconds,
    )
    assert replica.process.poll() is None, replica.log
    assert scene.here() == scene.there()


def log_of(scene: Scene) -> Path:
    return Path(f"{scene.source}.wal")


class Copy:
    """Of the file and its log, of one moment."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        scene.writer.kill()
        directory.mkdir()
        self._scene = scene
        self._files = {
            path: Path(shutil.copy(path, directory / path.name))
            for path in (scene.source, log_of(scene))
            if path.exists()
        }
        scene.writer = Writer(scene.source)

    def restore(self, *, in_place: bool = False) -> None:
        self._scene.writer.kill()
        if log_of(self._scene) not in self._files:
            log_of(self._scene).unlink(missing_ok=True)
        for path, copy in self._files.items():
            if in_place:
                shutil.copyfile(copy, path)
            else:
                os.replace(copy, path)
        self._scene.writer = Writer(self._scene.source)


def go_on(scene: Scene) -> None:
    scene.commit(
        "UPDATE t SET s = 'lost' WHERE id < 400",
        "INSERT INTO t SELECT i, i, 'lost' FROM range(500, 1000) r(i)",
        "DELETE FROM t WHERE id BETWEEN 10 AND 29",
        "CHECKPOINT",
        "UPDATE t SET s = 'lost too' WHERE id < 100",
    )


def after_the_copy(scene: Scene) -> None:
    scene.commit(
        "UPDATE t SET s = 'restored' WHERE id BETWEEN 50 AND 60",
        "INSERT INTO t SELECT i, i, 'restored' FROM range(500, 510) r(i)",
        "DELETE FROM t WHERE id = 300",
    )


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in place"])
@pytest.mark.parametrize("when", ["stopped", "running", "suspended", "after a checkpoint"])
def test_a_restored_copy_of_the_source_is_replicated_without_a_word_of_a_person(
    scene: Scene, tmp_path: Path, when: str, in_place: bool
) -> None:
    """[issue 12 case 3]"""
    scene.deliver_once(PATIENCE)
    copy = Copy(scene, tmp_path / "copy")
    with scene.replicate() as replica:
        go_on(scene)
        wait_equal(scene, replica)
        if when == "stopped":
            assert replica.stop() == 0, replica.log
        if when == "suspended":
            replica.process.send_signal(signal.SIGSTOP)
        copy.restore(in_place=in_place)
        if when == "running":
            scene.commit("UPDATE t SET s = 'seen' WHERE id = 1")
        if when == "after a checkpoint":
            scene.commit("CHECKPOINT", "UPDATE t SET s = 'later' WHERE id = 2")
        after_the_copy(scene)
        if when == "suspended":
            replica.process.send_signal(signal.SIGCONT)
        if when != "stopped":
            wait_equal(scene, replica)
            wait_until(lambda: scene.alert() is None, "no alert to stand")
            after_restart(scene, replica)
            return
    with scene.replicate() as replica:
        wait_equal(scene, replica)
        assert any(words in replica.log for words in ("an older copy", "another file", "its log")), (
            replica.log
        )
        after_restart(scene, replica)


@pytest.mark.parametrize("source_too", [True, False], ids=["and the source", "alone"])
def test_a_state_directory_that_was_put_back_is_told_and_what_is_read_since_outranks_the_target(
    tmp_path: Path, clickhouse_server: ClickHouseServer, source_too: bool
) -> None:
    """A machine restored from a backup fits together, and only the target is ahead. Not left to the audit."""
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    without = "[audit]\nenabled = false\n"
    with Scene(tmp_path, url, clickhouse_server.query, rows=500, more=without) as scene:
        scene.deliver_once(PATIENCE)
        copy = Copy(scene, tmp_path / "copy")
        state = Path(f"{scene.source}.cdc")
        shutil.copytree(state, tmp_path / "state")
        with scene.replicate() as replica:
            go_on(scene)
            wait_equal(scene, replica)
            scene.commit("CHECKPOINT", "UPDATE t SET s = 'lost three' WHERE id < 70")
            wait_equal(scene, replica)
            assert replica.stop() == 0, replica.log
        shutil.rmtree(state)
        shutil.copytree(tmp_path / "state", state)
        if source_too:
            copy.restore()
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, PATIENCE)
            after_the_copy(scene) if source_too else scene.commit("UPDATE t SET s = 'later' WHERE id < 60")
            wait_equal(scene, replica)
            assert "an older copy of it was put back" in replica.log
            wait_until(lambda: scene.alert() is None, "no alert to stand", PATIENCE)
            after_restart(scene, replica)
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, PATIENCE)
            wait_equal(scene, replica)
            assert "an older copy of it was put back" not in replica.log, replica.log


def test_a_machine_that_was_put_back_to_a_moment_while_all_ran_is_compared(
    tmp_path: Path, clickhouse_server: ClickHouseServer
) -> None:
    """No checkpoint came since: the versions in the target are no later ones, but those of a longer log."""
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    without = "[audit]\nenabled = false\n"
    with Scene(tmp_path, url, clickhouse_server.query, rows=500, more=without) as scene:
        state = Path(f"{scene.source}.cdc")
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, PATIENCE)
            scene.commit("UPDATE t SET s = 'before' WHERE id < 20")
            wait_equal(scene, replica)
            replica.process.send_signal(signal.SIGSTOP)
            for path in (scene.source, log_of(scene)):  # its writer goes on: another would begin another log
                shutil.copy(path, tmp_path / f"copy of {path.name}")
            shutil.copytree(state, tmp_path / "state")
            replica.process.send_signal(signal.SIGCONT)
            scene.commit(
                "UPDATE t SET s = 'lost' WHERE id % 8 = 3",
                "INSERT INTO t SELECT i, i, 'lost' FROM range(500, 520) r(i)",
                "DELETE FROM t WHERE id = 150",
            )
            wait_equal(scene, replica)
            replica.kill()
        shutil.rmtree(state)
        shutil.copytree(tmp_path / "state", state)
        scene.writer.kill()
        for path in (scene.source, log_of(scene)):
            shutil.copy(tmp_path / f"copy of {path.name}", path)
        scene.writer = Writer(scene.source)
        with scene.replicate() as replica:
            wait_equal(scene, replica)
            assert "newer than the log's end" in replica.log, replica.log
            after_restart(scene, replica)


def after_restart(scene: Scene, replica: Replica) -> None:
    """It goes on as ever."""
    scene.commit("UPDATE t SET s = 'end' WHERE id < 5", "DELETE FROM t WHERE id = 6", "CHECKPOINT")
    wait_equal(scene, replica)
    assert replica.stop() == 0, replica.log


@pytest.mark.parametrize("when", ["killed", "running", "suspended"])
def test_a_log_that_lost_commits_which_were_delivered_is_no_continuation(scene: Scene, when: str) -> None:
    """[issue 12 case 4] Whole commits are cut off, and others of the same size written past the old end."""
    scene.deliver_once(PATIENCE)
    with scene.replicate() as replica:
        scene.commit("UPDATE t SET s = 'kept' WHERE id = 0")
        cut = log_of(scene).stat().st_size
        for row in range(10):
            scene.commit(f"UPDATE t SET s = 'lost ' WHERE id = {row + 100}")
        scene.commit("INSERT INTO t VALUES (500, 500, 'lost ')")
        wait_equal(scene, replica)
        if when == "suspended":
            replica.process.send_signal(signal.SIGSTOP)
        if when == "killed":
            replica.kill()
        scene.writer.kill()
        os.truncate(log_of(scene), cut)
        scene.writer = Writer(scene.source)
        for row in range(15):
            scene.commit(f"UPDATE t SET s = 'again' WHERE id = {row + 200}")
        if when == "suspended":
            replica.process.send_signal(signal.SIGCONT)
        if when != "killed":
            wait_equal(scene, replica)
            after_restart(scene, replica)
            return
    with scene.replicate() as replica:
        wait_equal(scene, replica)
        after_restart(scene, replica)


@pytest.mark.parametrize("reads", [True, False], ids=["may read", "may only insert"])
def test_a_row_that_was_lost_with_its_log_and_the_store_does_not_win_over_the_one_there_is(
    tmp_path: Path, modern_server: ModernServer, reads: bool
) -> None:
    """[issue 12 case 5]"""
    url = f"clickhouse://127.0.0.1:{modern_server.native_port}"
    with Scene(tmp_path, url, modern_server.query, rows=100) as scene:
        scene.deliver_once(PATIENCE)
        if not reads:
            scene.configure(url.replace("//", f"//{WRITER.name}@"), create=False)
            secrets = tmp_path / "secrets.toml"
            secrets.write_text(f'[auth]\nclickhouse_password = "{WRITER.password}"\n')
            secrets.chmod(0o600)
        with scene.replicate() as replica:
            for row in range(5):
                scene.commit(f"UPDATE t SET s = 'moves the place in the log on' WHERE id = {row + 50}")
            scene.commit("INSERT INTO t VALUES (100, 100, 'a long row that was lost')")
            wait_equal(scene, replica)
            replica.kill()
        scene.writer.kill()
        log_of(scene).unlink()
        shutil.rmtree(f"{scene.source}.cdc")
        scene.writer = Writer(scene.source)
        scene.commit("INSERT INTO t VALUES (100, 100, 'short')")
        with scene.replicate() as replica:
            wait_equal(scene, replica)


@pytest.mark.parametrize("start", ["live", "at a start"])
def test_another_database_at_the_path_is_replicated_in_the_place_of_the_one_before(
    scene: Scene, tmp_path: Path, start: str
) -> None:
    """[issue 12 case 24] What only the one before had is deleted, as it is configured."""
    scene.deliver_once(PATIENCE)
    with scene.replicate() as replica:
        go_on(scene)
        wait_equal(scene, replica)
        if start == "at a start":
            assert replica.stop() == 0, replica.log
        scene.writer.kill()
        for path in (scene.source, log_of(scene)):
            path.unlink(missing_ok=True)
        scene.writer = Writer(scene.source)
        scene.commit(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT NOT NULL, s VARCHAR)",
            "INSERT INTO t SELECT i, i, 'another' FROM range(100, 300) r(i)",
            "CHECKPOINT",
        )
        if start == "live":
            wait_equal(scene, replica)
            after_restart(scene, replica)
            return
    with scene.replicate() as replica:
        wait_equal(scene, replica)
        after_restart(scene, replica)


def lower(scene: Scene) -> None:
    scene.commit("UPDATE t SET s = 'lower', ver = 1 WHERE id = 5")


def null(scene: Scene) -> None:
    scene.commit("UPDATE t SET s = 'null', ver = NULL WHERE id = 5")


def deleted(scene: Scene) -> None:
    scene.commit("UPDATE t SET ver = NULL WHERE id = 5", "DELETE FROM t WHERE id = 5")


def inserted_again(scene: Scene) -> None:
    scene.commit("DELETE FROM t WHERE id = 5", "INSERT INTO t VALUES (5, 5, 'again', 1)")


@pytest.mark.parametrize("change", [lower, null, deleted, inserted_again])
def test_a_version_that_goes_back_loses_no_change(
    tmp_path: Path, clickhouse_server: ClickHouseServer, change: Callable[[Scene], None]
) -> None:
    """[issue 12 case 13]"""
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    columns = "id INTEGER PRIMARY KEY, seq BIGINT NOT NULL, s VARCHAR, ver INTEGER"
    with Scene(
        tmp_path, url, clickhouse_server.query, rows=100, columns=columns, values="i, i, 'row', 1000",
        more='[[tables]]\nname = "t"\nversion = "ver"\n',
    ) as scene:  # fmt: skip
        scene.deliver_once(PATIENCE)
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, PATIENCE)
            change(scene)
            wait_equal(scene, replica)
            scene.commit("UPDATE t SET s = 'later', ver = 2 WHERE id = 6")
            wait_equal(scene, replica)
            assert replica.stop() == 0, replica.log


def tamper(scene: Scene, version: int) -> None:
    """Write a row with this version, and another content, behind everybody's back."""
    scene.query(
        f"INSERT INTO DB.t (id, seq, s, _cdc_version, _cdc_deleted) VALUES (7, 7, 'tampered', {version}, 0)"
    )
    wait_until(lambda: ("7", "7", "tampered") in scene.here(), "the row to be shown")


FUTURE = (1 << 63) | (1_500_000_000 << 32)


@pytest.mark.parametrize("running", [False, True], ids=["alone", "beside a replicator"])
def test_a_repair_by_hand_outranks_what_is_there_and_what_comes_later_outranks_the_repair(
    scene: Scene, running: bool
) -> None:
    """[issue 12 case 28]"""
    scene.deliver_once(PATIENCE)
    tamper(scene, FUTURE)
    if not running:
        done = scene.verify(scene.config, "--repair")
        assert done.returncode == 0, done.stdout + done.stderr
        assert scene.here() == scene.there()
    with scene.replicate() as replica:
        scene.wait_caught_up(replica, PATIENCE)
        if running:
            done = scene.verify(scene.config, "--repair", "--force", "--wait", "0")
            assert done.returncode == 0, done.stdout + done.stderr
        scene.commit("UPDATE t SET s = 'after the repair' WHERE id IN (7, 8)")
        wait_equal(scene, replica)
        scene.commit("DELETE FROM t WHERE id = 7")
        wait_equal(scene, replica)
        assert replica.stop() == 0, replica.log


def test_the_reconciler_outranks_what_is_there(scene: Scene) -> None:
    """[issue 12 case 28]"""
    scene.deliver_once(PATIENCE)
    tamper(scene, FUTURE)
    scene.note("somebody changed a row")
    with scene.replicate() as replica:
        wait_equal(scene, replica)
        scene.wait_mended(replica, PATIENCE)
        scene.commit("UPDATE t SET s = 'after the repair' WHERE id = 7")
        wait_equal(scene, replica)
        assert replica.stop() == 0, replica.log


def test_of_a_version_that_nothing_outranks_it_is_said_what_to_run_and_that_helps(scene: Scene) -> None:
    """[issue 12 case 28]"""
    scene.deliver_once(PATIENCE)
    tamper(scene, 2**64 - 1)
    done = scene.verify(scene.config, "--repair")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "1 of its rows have a version that no other row can outrank" in said
    remedy = said[said.index("ALTER TABLE") :].splitlines()[0]
    scene.query(remedy)
    wait_until(lambda: ("7", "7", "tampered") not in scene.here(), "the row to be gone")
    done = scene.verify(scene.config, "--repair")
    assert done.returncode == 0, done.stdout + done.stderr
    assert scene.here() == scene.there()
