"""Changes that the log did not show are mended by the running replicator itself, without any command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.modern.fixture import ModernServer
from tests.support.reconciling import Scene

DELETED = "DELETE FROM t WHERE id < 100"
UPDATED = "UPDATE t SET s = 'updated' WHERE id BETWEEN 500 AND 520"


@pytest.fixture(params=["old", "modern"])
def server(request: pytest.FixtureRequest) -> ClickHouseServer | ModernServer:
    found: ClickHouseServer | ModernServer = request.getfixturevalue(
        "clickhouse_server" if request.param == "old" else "modern_server"
    )
    return found


def test_deletions_and_updates_of_a_time_that_nobody_followed_are_mended_after_the_start(
    tmp_path: Path, server: ClickHouseServer | ModernServer
) -> None:  # [R3]
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
