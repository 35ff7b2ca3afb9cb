"""What does a reconciliation cost? Its time, the processor's, and the memory, for a table of trades.

A server of its own, `cdc run` and a writer that holds the file. First the table is said to have broken,
although both sides are equal; then one row in a hundred was deleted and one updated while nobody followed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import psutil

from tests.support.clickhouse import make_certificates, running_server
from tests.support.reconciling import Scene
from tests.support.replica import Replica

COLUMNS = """
    trade_id UUID PRIMARY KEY, seq BIGINT NOT NULL, symbol VARCHAR NOT NULL, side VARCHAR NOT NULL,
    price DECIMAL(18, 6) NOT NULL, quantity DECIMAL(18, 6) NOT NULL, executed_at TIMESTAMP NOT NULL,
    note VARCHAR
"""
VALUES = """
    uuid(), i, 'SYM' || i % 50, CASE WHEN i % 2 = 0 THEN 'buy' ELSE 'sell' END, i % 1000 + 0.25, i % 77,
    TIMESTAMP '2026-01-01' + to_microseconds(i), NULL
"""
UNSEEN = ("DELETE FROM t WHERE seq % 100 = 7", "UPDATE t SET note = 'late' WHERE seq % 100 = 8")
SECONDS = 900.0
_HEAD = f"{'':<9}{'seconds':>8}{'cdc cpu s':>11}{'server cpu s':>14}{'MB before':>11}{'peak MB':>9}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench reconcile", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cdc-reconcile-") as name:
        directory = Path(name)
        made = directory / "certificates"
        made.mkdir()
        with running_server(directory / "server", make_certificates(made)) as server:
            url = f"clickhouse://127.0.0.1:{server.native_port}"
            (directory / "scene").mkdir()
            with Scene(
                directory / "scene",
                url,
                server.query,
                rows=options.rows,
                columns=COLUMNS,
                values=VALUES,
            ) as scene:
                scene.deliver_once(SECONDS)
                print(_HEAD)
                scene.note("said so")
                _measure("equal", scene)
                for sql in UNSEEN:
                    scene.commit(sql, "CHECKPOINT")
                _measure("mended", scene)
    return 0


def _measure(name: str, scene: Scene) -> None:
    with scene.replicate() as replica:
        scene.wait_step("comparing", SECONDS)
        process = psutil.Process(replica.process.pid)
        served = next(each for each in psutil.Process().children() if "clickhouse" in each.name())
        before = process.memory_info().rss
        spent = [sum(each.cpu_times()[:2]) for each in (process, served)]
        scene.wait_mended(replica, SECONDS)
        now = [sum(each.cpu_times()[:2]) for each in (process, served)]
        peak = _peak(process.pid)
        seconds, repaired = _told(replica)
        print(
            f"{name:<9}{seconds:>8.1f}{now[0] - spent[0]:>11.1f}{now[1] - spent[1]:>14.1f}"
            f"{before / 1e6:>11.0f}{peak / 1e6:>9.0f}  {repaired}",
            flush=True,
        )
        replica.stop()


def _peak(pid: int) -> int:
    """The most memory the process has held, its start included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise LookupError("VmHWM")


def _told(replica: Replica) -> tuple[float, str]:
    for line in replica.log.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "reconciled":
            rows = f"{event['delivered']:,} delivered, {event['deleted']:,} deleted"
            return float(event["seconds"]), rows
    raise LookupError("reconciled")
