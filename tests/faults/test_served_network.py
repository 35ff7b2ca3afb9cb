"""A replicator on another host than the writer that serves it: every answer takes long, and the cable is cut.

[F2 R4 R7]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.clickhouse import ClickHouseServer
from tests.support.places import place
from tests.support.proxy import Proxy
from tests.support.replica import Replica
from tests.support.separate_network import separate_network
from tests.support.served import TOKEN, ServedWriter
from tests.support.waiting import wait_until

DELAY_SECONDS = 0.01
"""Of each piece of what either side sends: as between two cities far apart."""
CONFIG = """
[database]
path = "quack://{host}:{port}"
allow_plaintext_token = true
[served]
request_timeout_sec = 2
compare_interval_sec = 0.5
compare_percent = 100
[sync]
clickhouse_endpoint = "clickhouse://{host}:{target_port}"
deletes = "replicate"
[defaults]
watermark = "seq"
[error_handling]
retry_first_ms = 100
retry_backoff_sec = [1]
halted_sec = 0.5
[target]
database = "{database}"
auto_create = true
connect_timeout_sec = 2
send_timeout_sec = 2
receive_timeout_sec = 2
[metrics]
port = 0
"""
SUMS = "SELECT count(*), coalesce(sum(id), 0), coalesce(sum(v), 0) FROM {table}"


@contextmanager
def _far_away(
    writer: ServedWriter, server: ClickHouseServer, directory: Path, database: str
) -> Iterator[tuple[Replica, Callable[[], None], Callable[[], None]]]:
    """A replicator that runs, and what cuts the network and heals it: of its own; where this user may make
    none, proxies that swallow everything."""
    with separate_network() as network:
        host = network.host if network else "127.0.0.1"
        with Proxy(writer.port, host) as source, Proxy(server.native_port, host) as target:
            ends = source, target

            def delay() -> None:
                for end in ends:
                    end.delay_seconds = DELAY_SECONDS

            def cut() -> None:
                if network is not None:
                    network.cut()
                else:
                    for end in ends:
                        end.blackhole()

            def heal() -> None:
                if network is not None:
                    network.heal()
                else:
                    for end in ends:
                        end.cut()
                        end.heal()
                    delay()

            config = directory / "cdc.toml"
            ports = {"port": source.port, "target_port": target.port}
            config.write_text(CONFIG.format(host=host, database=database, **ports))
            secrets = directory / "secrets.toml"
            secrets.write_text(f'[auth]\nquack_token = "{TOKEN}"\n')
            secrets.chmod(0o600)
            delay()
            with Replica(config, within=network.within if network else ()) as replica:
                yield replica, cut, heal


def test_a_writer_on_another_host_is_followed_through_delays_and_cuts(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with place(url, clickhouse_server.query) as found, ServedWriter(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT NOT NULL, v INTEGER)")
        written = 0

        def insert(rows: int) -> None:
            nonlocal written
            writer.run(f"INSERT INTO t SELECT i, i, 0 FROM range({written}, {written + rows}) AS r(i)")
            written += rows

        def arrived() -> list[int]:
            if not int(clickhouse_server.query(f"EXISTS TABLE {found.database}.t")):
                return []
            asked = SUMS.format(table=f"{found.database}.t FINAL WHERE _cdc_deleted = 0")
            return [int(part) for part in clickhouse_server.query(asked).split()]

        def equal() -> bool:
            [row] = writer.run(SUMS.format(table="t"))
            return arrived() == [int(value or "") for value in row]

        insert(5_000)
        with _far_away(writer, clickhouse_server, tmp_path, found.database) as (replica, cut, heal):
            wait_until(equal, "the first copy", 60.0)
            for _ in range(10):
                insert(7)
            cut()
            for _ in range(10):
                insert(7)
            writer.run("UPDATE t SET v = v + 1 WHERE id % 50 = 1")
            writer.run("DELETE FROM t WHERE id % 100 = 11")
            wait_until(lambda: "gives no answer" in replica.log, "word of it", 60.0)
            assert not equal()
            heal()
            wait_until(equal, "what was written meanwhile", 60.0)
            assert replica.stop() == 0
        assert TOKEN not in replica.log
