"""What happens to the target's table behind the replicator's back is noticed, and rows are there again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clickhouse import Certificates, ClickHouseServer, running_server
from tests.support.modern.fixture import WRITER, ModernServer
from tests.support.reconciling import Scene
from tests.support.replica import Replica
from tests.support.waiting import wait_until

Server = ClickHouseServer | ModernServer

SECONDS = 100.0
DROPPED = ("DROP TABLE DB.t",)
EMPTIED = ("TRUNCATE TABLE DB.t",)
DATABASE = ("DROP DATABASE DB",)
ANOTHER = (
    "DROP TABLE DB.t_current",
    "CREATE TABLE DB.copy AS DB.t",
    "INSERT INTO DB.copy SELECT * FROM DB.t WHERE id < 100",
    "DROP TABLE DB.t",
    "RENAME TABLE DB.copy TO DB.t",
)
"""Another table of the same name, with a few of the rows."""
KINDS = {"dropped": DROPPED, "emptied": EMPTIED, "database dropped": DATABASE, "another": ANOTHER}


@pytest.fixture(params=["old", "modern"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(
        "clickhouse_server" if request.param == "old" else "modern_server"
    )
    return found


def _scene(directory: Path, server: Server, **options: object) -> Scene:
    return Scene(directory, f"clickhouse://127.0.0.1:{server.native_port}", server.query, **options)  # type: ignore[arg-type]


def _equal(scene: Scene) -> bool:
    try:
        return scene.here() == scene.there()
    except (AssertionError, RuntimeError):  # there is no such table just now
        return False


def _wait_equal(scene: Scene, replica: Replica, seconds: float = SECONDS) -> None:
    def equal() -> bool:
        assert replica.process.poll() is None, replica.log
        return _equal(scene)

    wait_until(equal, "both sides to be equal", seconds)


def _behind_the_back(scene: Scene, kind: str) -> None:
    """A server without UUIDs tells one table from another by the second it was made in: that one is over."""
    made = "SELECT now() > max(metadata_modification_time) FROM system.tables WHERE database = 'DB'"
    wait_until(lambda: scene.query(made) == "1", "the second in which the table was made to be over")
    for sql in KINDS[kind]:
        scene.query(sql)


@contextmanager
def _load(scene: Scene) -> Iterator[None]:
    """Small commits, one after the other, until the end."""
    ended = threading.Event()
    turns = iter(range(1, 1 << 30))

    def commit() -> None:
        while not ended.is_set():
            turn = next(turns)
            scene.commit(
                f"INSERT INTO t VALUES ({100_000 + turn}, {100_000 + turn}, 'load')",
                f"UPDATE t SET s = 'turn {turn}' WHERE id = {turn % 1000}",
            )
            ended.wait(0.02)

    worker = threading.Thread(target=commit)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_replicator_notices_within_seconds_and_delivers_everything_again(
    tmp_path: Path, server: Server, kind: str
) -> None:  # cases 9 and 10
    with _scene(tmp_path, server) as scene, scene.replicate() as replica:
        scene.wait_caught_up(replica, SECONDS)
        _wait_equal(scene, replica)
        _behind_the_back(scene, kind)
        _wait_equal(scene, replica)
        assert scene.query("SELECT count() FROM DB.t_current") == "1000"
        assert "everything is delivered again" in replica.log
        assert replica.stop() == 0, replica.log


@pytest.mark.parametrize("kind", KINDS)
def test_under_load_too(tmp_path: Path, server: Server, kind: str) -> None:
    def all_there() -> bool:
        """A table that fills again at once is not empty when it is looked at: then it is compared."""
        try:
            return scene.query("SELECT count() FROM DB.t FINAL WHERE id < 1000") == "1000"
        except (AssertionError, RuntimeError, OSError):
            return False

    with _scene(tmp_path, server) as scene, scene.replicate() as replica:
        scene.wait_caught_up(replica, SECONDS)
        with _load(scene):
            wait_until(lambda: "load" in str(scene.here()[-1]), "the load to arrive")
            _behind_the_back(scene, kind)
            wait_until(all_there, "the old rows to be there again", SECONDS)
        _wait_equal(scene, replica)


@pytest.mark.parametrize("kind", KINDS)
def test_what_happens_while_it_is_stopped_is_noticed_by_the_next_start(
    tmp_path: Path, server: Server, kind: str
) -> None:
    with _scene(tmp_path, server) as scene:
        scene.deliver_once(SECONDS)
        assert _equal(scene)
        _behind_the_back(scene, kind)
        with scene.replicate() as replica:
            _wait_equal(scene, replica)
            assert scene.query("SELECT count() FROM DB.t_current") == "1000"
            assert replica.stop() == 0, replica.log


def test_a_table_that_is_as_it_was_is_not_delivered_again_by_a_start(tmp_path: Path, server: Server) -> None:
    with _scene(tmp_path, server) as scene:
        scene.deliver_once(SECONDS)
        if isinstance(server, ClickHouseServer):
            server.restart()
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, SECONDS)
            assert replica.stop() == 0, replica.log
        assert "delivered again" not in replica.log


def test_a_view_that_was_dropped_is_made_again(tmp_path: Path, server: Server) -> None:
    with _scene(tmp_path, server) as scene, scene.replicate() as replica:
        scene.wait_caught_up(replica, SECONDS)
        scene.query("DROP TABLE DB.t_current")

        def there() -> bool:
            return scene.query("EXISTS TABLE DB.t_current") == "1"

        wait_until(there, "the view to be there", SECONDS)
        assert scene.table()["rows"] == 1000, replica.log


@pytest.mark.parametrize("kind", ["dropped", "database dropped"])
def test_without_auto_create_it_halts_aloud_and_goes_on_once_the_table_is_there(
    tmp_path: Path, server: Server, kind: str
) -> None:
    with _scene(tmp_path, server) as scene:
        scene.deliver_once(SECONDS)
        scene.configure(scene.url, create=False)
        slow = scene.config.read_text().replace("halted_sec = 0.5", "halted_sec = 600")
        scene.config.write_text(slow)  # by itself, within seconds, and not after that
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, SECONDS)
            _behind_the_back(scene, kind)
            wait_until(lambda: scene.table().get("state") == "failed", "the table to halt", SECONDS)
            assert "Run 'cdc schema apply'" in str(scene.table()["error"])
            assert "is missing" in str(scene.table()["error"])
            assert any(each["name"] == "table_halted" for each in scene.status()["alerts"])
            command = [sys.executable, "-m", "cdc", "-c", str(scene.config), "schema", "apply", "--yes"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            _wait_equal(scene, replica)
            assert replica.stop() == 0, replica.log


@pytest.mark.parametrize("kind", ["dropped", "emptied", "another"])
def test_a_user_who_may_only_insert_notices_too(
    tmp_path: Path, modern_server: ModernServer, kind: str
) -> None:
    with _scene(tmp_path, modern_server) as scene:
        scene.deliver_once(SECONDS)
        url = scene.url.replace("//", f"//{WRITER.name}@")
        scene.configure(url, create=False)
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(f'[auth]\nclickhouse_password = "{WRITER.password}"\n')
        secrets.chmod(0o600)
        with scene.replicate() as replica:
            scene.wait_caught_up(replica, SECONDS)
            [made] = scene.query("SHOW CREATE TABLE DB.t").splitlines()
            _behind_the_back(scene, kind)
            if kind == "dropped":
                scene.query(made.replace("\\n", "\n").replace("\\'", "'"))
            _wait_equal(scene, replica)
            assert replica.stop() == 0, replica.log


@pytest.fixture
def own_server(tmp_path: Path, certificates: Certificates) -> Iterator[ClickHouseServer]:
    with running_server(tmp_path / "server", certificates) as found:
        yield found


def _wipe(server: ClickHouseServer) -> None:
    server.kill()
    shutil.rmtree(server.directory / "data")
    server.start()


@pytest.mark.parametrize("when", ["while it waits", "under load", "while it is stopped"])
def test_a_server_that_was_wiped_is_filled_again(
    tmp_path: Path, own_server: ClickHouseServer, when: str
) -> None:  # case 29
    with _scene(tmp_path, own_server) as scene:
        scene.writer.run("CREATE TABLE idle AS SELECT i AS id, i AS seq FROM range(500) r(i)")
        scene.writer.run("ALTER TABLE idle ADD PRIMARY KEY (id)")
        scene.writer.run("CHECKPOINT")

        def idle_rows() -> str:
            return scene.query("SELECT count() FROM DB.idle FINAL WHERE _cdc_deleted = 0")

        def filled() -> bool:
            try:
                return idle_rows() == "500"
            except (AssertionError, OSError):
                return False

        def run(change: Callable[[], None]) -> None:
            with scene.replicate() as replica:
                wait_until(filled, "both tables to be delivered", SECONDS)
                _wait_equal(scene, replica)
                change()
                wait_until(filled, "the idle table to be there", SECONDS)
                _wait_equal(scene, replica)
                assert replica.stop() == 0, replica.log

        if when == "while it waits":
            run(lambda: _wipe(own_server))
        elif when == "under load":

            def under_load() -> None:
                with _load(scene):
                    _wipe(own_server)
                    wait_until(filled, "the idle table to be there", SECONDS)

            run(under_load)
        else:
            run(lambda: None)
            _wipe(own_server)
            run(lambda: None)
