"""ClickHouse 18.16 that refuses for reasons of its own: rows, writing, parts, memory, its disk. [R1, R2]

What is injected into a newer one's answers is in test_refusals.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse import Certificates, ClickHouseServer, running_server
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

PARTS = 60
MB = 1 << 20
DISK_MB = 192
ENGINE = f"[target.engine_settings]\nparts_to_delay_insert = {PARTS}\nparts_to_throw_insert = {PARTS}"


@pytest.fixture(scope="module")
def rig_options(proxy: Proxy) -> dict[str, Any]:
    through = f"clickhouse://restrained@127.0.0.1:{proxy.port}"
    return {"through": through, "backoff": "[0.5]", "more": ENGINE}


def _told(rig: Rig, remedy: str) -> str:
    """The message with this remedy, once it is told; a word of a lost connection may come first."""
    found: list[str] = []

    def told() -> bool:
        found.extend(each for each in rig.trouble() if remedy in each)
        return bool(found)

    wait_until(told, f"the status to say {remedy!r}", 60.0)
    return found[0]


def _alerts(rig: Rig) -> dict[str, str]:
    """What each alert that stands says, with its remedy."""
    return {each["name"]: f"{each['message']}. {each['remedy']}" for each in rig.status()["alerts"]}


@pytest.mark.parametrize(
    ("name", "setting", "value", "said"),
    [
        ("user read-only", "readonly", 1, "may insert"),
        ("memory limit", "max_memory_usage", 1, "give the server more memory"),
    ],
)
def test_a_limit_of_the_user_is_said_and_waited_out(
    rig: Rig,
    proxy: Proxy,
    clickhouse_server: ClickHouseServer,
    name: str,
    setting: str,
    value: int,
    said: str,
) -> None:
    clickhouse_server.restrain(**{setting: value})
    try:
        proxy.cut()  # limits count from the next connection on
        message = _told(rig, said)
    finally:
        clickhouse_server.restrain()
        proxy.cut()
    rig.settle(f"ClickHouse 18.16: {name}", rig.recover(), message)


def test_too_many_parts_are_waited_for(rig: Rig) -> None:
    rig.query("SYSTEM STOP MERGES DB.trades")
    try:
        with suppress(AssertionError):  # the refusal that is waited for; the copies are one row under FINAL
            for _ in range(2 * PARTS):
                rig.query("INSERT INTO DB.trades SELECT * FROM DB.trades LIMIT 1")
        message = _told(rig, "raise linger_ms")
        wait_until(lambda: "target_refuses" in _alerts(rig), "the alert", 60.0)
        told = _alerts(rig)
        assert "raise linger_ms" in told["target_refuses"]
        assert "code 252" in told["target_refuses"]
        assert "target_away" not in told
    finally:
        rig.query("SYSTEM START MERGES DB.trades")
    rig.query("OPTIMIZE TABLE DB.trades")
    rig.settle("ClickHouse 18.16: too many parts", rig.recover(), message)


def test_rows_that_a_view_refuses_are_set_aside_and_sent_again_once_it_is_gone(rig: Rig) -> None:
    first = rig.committed() + 20
    rig.query(
        "CREATE MATERIALIZED VIEW DB.refusing ENGINE = Null AS "
        f"SELECT throwIf(seq BETWEEN {first} AND {first + 3}) AS bad FROM DB.trades"
    )
    try:
        wait_until(lambda: rig.failed_rows() >= 4, "rows to be set aside", 60.0)
        wait_until(lambda: rig.arrived() > first + 20, "the others to arrive")
        message = rig.replica.messages()[-1]
    finally:
        rig.query("DROP TABLE DB.refusing")
    assert "set aside" in message
    took = rig.recover()
    wait_until(lambda: rig.failed_rows() == 0, "the failed rows to be sent again", 60.0)
    rig.settle("ClickHouse 18.16: rows refused by a view, later taken", took, message)


def test_an_insert_that_was_applied_and_whose_answer_was_lost_is_sent_again(rig: Rig, proxy: Proxy) -> None:
    again = "SELECT count() - uniqExact(trade_id, _cdc_version) FROM DB.trades"
    rig.query("SYSTEM STOP MERGES DB.trades")
    try:
        before = int(rig.query(again))
        proxy.lose_answers(3)
        wait_until(lambda: proxy.answers_to_lose == 0, "answers to be lost")
        took = rig.recover()
        assert int(rig.query(again)) > before, "what was applied is there again"
    finally:
        rig.query("SYSTEM START MERGES DB.trades")
    rig.settle(
        "ClickHouse 18.16: insert applied, connection dropped before it said so", took, "none, or a retry"
    )


@contextmanager
def _small_disk(directory: Path) -> Iterator[Path]:
    """A disk of a few megabytes; skips where this user may mount none."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "small", str(directory)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a disk; test_refusals has the server's answer")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk_of_the_server_is_said_and_waited_out(tmp_path: Path, certificates: Certificates) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(_small_disk(tmp_path / "disk"))
        server = stack.enter_context(running_server(disk / "clickhouse", certificates))
        url = f"clickhouse://127.0.0.1:{server.native_port}"
        rig = stack.enter_context(Rig(tmp_path / "rig", url, server.query, backoff="[0.5]"))
        rig.write()
        rig.replicate()
        rig.calm()
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(MB)) == MB:
                    pass
            except OSError:
                pass  # it is full
        message = _told(rig, "free or add disk space")
        filler.unlink()
        rig.settle("ClickHouse 18.16: disk full", rig.recover(), message)
