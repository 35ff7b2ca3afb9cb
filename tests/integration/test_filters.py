"""A row that leaves the filter is a deletion, one that enters it an insert. [issue 12 case 11]"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cdc.change import Mark
from cdc.source import DuckDbSource, open_source
from tests.support.clickhouse import ClickHouseServer
from tests.support.reconciling import Scene
from tests.support.sources import LIMITS, plan_of
from tests.support.waiting import wait_until
from tests.support.writers import Writer

FILTER = "status <> 'TEST'"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "source.db") as running:
        running.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, status VARCHAR)")
        running.run("INSERT INTO t SELECT i, i, 'OPEN' FROM range(10) r(i)")
        running.run("INSERT INTO t VALUES (100, 100, 'TEST')")
        running.run("CHECKPOINT")
        yield running


class Copy:
    """What a target would show of what one reader delivers."""

    def __init__(self, source: DuckDbSource) -> None:
        self.plan = plan_of(source, "t", filter=FILTER)
        self.reader = source.open(self.plan)
        self.mark: Mark | None = None
        self.rows: dict[int, tuple[str, bool]] = {}
        self.tombstones: list[tuple[int, str]] = []

    def read(self) -> dict[int, str]:
        """Read to the end; the rows that are there now."""
        self.tombstones.clear()
        for batch in self.reader.read(self.mark, LIMITS):
            gone = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
            values = zip(
                *(batch.rows.column(name).to_pylist() for name in ("id", "status")), gone, strict=True
            )
            for key, status, deleted in values:
                self.rows[key] = status, deleted
                if deleted:
                    self.tombstones.append((key, status))
            self.reader.acknowledged(batch)
            self.mark = batch.mark or self.mark
        return {key: status for key, (status, deleted) in self.rows.items() if not deleted}


@pytest.fixture(params=[True, False], ids=["replicate", "ignore"])
def deletes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def copy(writer: Writer, deletes: bool) -> Iterator[Copy]:
    with open_source(writer.path, deletes=deletes) as source:
        made = Copy(source)
        assert made.read() == dict.fromkeys(range(10), "OPEN")
        yield made


@pytest.mark.parametrize("stored", [True, False], ids=["in the file", "in the log"])
def test_a_row_that_leaves_the_filter_is_deleted_and_shows_nothing_of_what_it_became(
    writer: Writer, copy: Copy, stored: bool
) -> None:
    key = 5
    if not stored:
        writer.run("INSERT INTO t VALUES (11, 11, 'OPEN')")
        assert copy.read()[11] == "OPEN"
        key = 11
    writer.run("UPDATE t SET status = 'TEST' WHERE id = ?", key)
    assert key not in copy.read()
    assert copy.tombstones == [(key, "OPEN")]
    writer.run("UPDATE t SET seq = seq + 1000 WHERE id = ?", key)
    assert key not in copy.read()
    assert copy.tombstones == []  # it was outside already
    writer.run("UPDATE t SET status = 'DONE' WHERE id = ?", key)
    assert copy.read()[key] == "DONE"


def test_a_row_that_leaves_the_filter_and_is_deleted_in_one_transaction_is_gone_as_deletes_say(
    writer: Writer, copy: Copy, deletes: bool
) -> None:
    writer.run("BEGIN")
    writer.run("UPDATE t SET status = 'TEST' WHERE id = 5")
    writer.run("DELETE FROM t WHERE id = 5")
    writer.run("COMMIT")
    assert (5 in copy.read()) is not deletes  # it is no longer in the source: pruned


def test_a_key_that_comes_back_outside_the_filter_is_gone(writer: Writer, copy: Copy) -> None:
    writer.run("BEGIN")
    writer.run("DELETE FROM t WHERE id = 5")
    writer.run("INSERT INTO t VALUES (5, 500, 'TEST')")
    writer.run("COMMIT")
    assert 5 not in copy.read()
    writer.run("UPDATE t SET status = 'BACK' WHERE id = 5")
    assert copy.read()[5] == "BACK"


def test_a_row_that_was_never_in_the_filter_leaves_no_trace(writer: Writer, copy: Copy) -> None:
    writer.run("UPDATE t SET seq = 101 WHERE id = 100")
    writer.run("INSERT INTO t VALUES (101, 102, 'TEST')")
    writer.run("DELETE FROM t WHERE id = 100")
    assert copy.read() == dict.fromkeys(range(10), "OPEN")
    assert copy.tombstones == []


def test_a_row_that_enters_the_filter_is_inserted(writer: Writer, copy: Copy) -> None:
    writer.run("UPDATE t SET status = 'OPEN' WHERE id = 100")
    assert copy.read()[100] == "OPEN"


def test_an_unknown_condition_is_outside(writer: Writer, copy: Copy) -> None:
    writer.run("UPDATE t SET status = NULL WHERE id = 5")
    assert 5 not in copy.read()
    writer.run("UPDATE t SET status = 'BACK' WHERE id = 5")
    assert copy.read()[5] == "BACK"


def test_many_rows_of_one_transaction_enter_leave_and_go(writer: Writer, copy: Copy, deletes: bool) -> None:
    writer.run("BEGIN")
    writer.run("UPDATE t SET status = 'TEST' WHERE id IN (1, 2, 3)")
    writer.run("UPDATE t SET status = 'DONE' WHERE id IN (3, 4, 100)")
    writer.run("DELETE FROM t WHERE id IN (6, 7)")
    writer.run("COMMIT")
    expected = {0: "OPEN", 3: "DONE", 4: "DONE", 5: "OPEN", 8: "OPEN", 9: "OPEN", 100: "DONE"}
    assert copy.read() == expected | ({} if deletes else {6: "OPEN", 7: "OPEN"})


def test_a_reader_that_goes_on_after_a_restart_sees_who_left(
    writer: Writer, copy: Copy, deletes: bool
) -> None:
    writer.run("UPDATE t SET status = 'DONE' WHERE id = 5")
    copy.read()
    position = None
    for batch in copy.reader.read(copy.mark, LIMITS):
        position = batch.position
    with open_source(writer.path, deletes=deletes) as source:
        since = position or source.position()
        writer.run("UPDATE t SET status = 'TEST' WHERE id IN (4, 5)")
        copy.reader = source.open(copy.plan, since)
        assert set(copy.read()) == {0, 1, 2, 3, 6, 7, 8, 9}


@pytest.mark.parametrize("mode", ["replicate", "ignore"])
def test_rows_that_leave_the_filter_seen_or_not_leave_the_target_and_pruned_ones_go_as_deletes_say(
    tmp_path: Path, clickhouse_server: ClickHouseServer, mode: str
) -> None:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    tables = """[[tables]]\nname = "t"\nfilter = "s <> 'TEST'\""""
    with Scene(tmp_path, url, clickhouse_server.query, deletes=mode, more=tables) as scene:
        kept = "SELECT id, seq, s FROM t WHERE s <> 'TEST' ORDER BY id"

        def equal(pruned: Sequence[str] = ()) -> bool:
            there = [tuple(map(str, row)) for row in scene.writer.run(kept)]
            here = scene.here()
            return [row for row in here if row[0] not in pruned] == there and len(here) - len(there) == len(
                pruned
            )

        with scene.replicate() as replica:
            scene.wait_caught_up(replica)
            scene.commit("UPDATE t SET s = 'TEST' WHERE id = 5")
            wait_until(equal, "the row to be gone once it left the filter", 20.0)
            scene.commit("DELETE FROM t WHERE id = 5", "UPDATE t SET s = 'TEST' WHERE id BETWEEN 10 AND 20")
            scene.commit("UPDATE t SET s = 'back' WHERE id = 12")
            wait_until(equal, "rows to leave and to come back", 20.0)
            assert replica.stop() == 0
        scene.unseen(
            "UPDATE t SET s = 'TEST' WHERE id BETWEEN 30 AND 40",
            "UPDATE t SET s = 'back' WHERE id = 15",
            "DELETE FROM t WHERE id IN (900, 901)",
        )
        verified = scene.verify(scene.config)
        assert verified.returncode == 7, verified.stdout
        with scene.replicate() as replica:
            pruned = [] if mode == "replicate" else ["900", "901"]
            wait_until(lambda: equal(pruned), "what left unseen to be gone as well", 60.0)
            assert replica.stop() == 0
        verified = scene.verify(scene.config)
        assert verified.returncode == 0, verified.stdout


def test_a_repair_takes_out_what_left_the_filter_and_leaves_what_was_pruned(
    tmp_path: Path, clickhouse_server: ClickHouseServer
) -> None:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    tables = """[[tables]]\nname = "t"\nfilter = "s <> 'TEST'\""""
    with Scene(tmp_path, url, clickhouse_server.query, deletes="ignore", more=tables) as scene:
        scene.deliver_once()
        scene.unseen("UPDATE t SET s = 'TEST' WHERE id IN (3, 999)", "DELETE FROM t WHERE id IN (7, 8)")
        found = scene.verify(scene.config, "--repair")
        assert "2 no longer within the filter; 2 pruned in the source" in found.stdout
        assert "2 marked deleted" in found.stdout
        assert {row[0] for row in scene.here()}.isdisjoint({"3", "999"})
        assert {row[0] for row in scene.here()} >= {"7", "8"}
        assert scene.verify(scene.config).returncode == 0
