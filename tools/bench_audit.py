"""What does the audit cost, and how soon does it find one changed row? For a table of trades.

A server of its own, `cdc run` and a writer that holds the file. The table is audited after the start; once
that is done, one row is changed in the target, and the next audit begins within a minute.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.clickhouse import make_certificates, running_server
from tests.support.reconciling import Scene
from tests.support.replica import Replica
from tools.bench_reconcile import COLUMNS, VALUES

SECONDS = 6 * 3600.0
CHANGED = (
    "INSERT INTO DB.t SELECT trade_id, seq, symbol, side, price, quantity, executed_at, 'changed', "
    "_cdc_version, 0, now() FROM DB.t WHERE seq = {seq}"
)
_HEAD = (
    f"{'% of a core':>11}{'audit s':>9}{'cdc cpu s':>11}{'server cpu s':>14}{'cdc %':>7}{'server %':>10}"
    f"{'found after s':>15}{'more MB':>9}"
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench audit", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--cpu-percent", type=float, nargs="+", default=[100.0, 2.0])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cdc-audit-") as name:
        directory = Path(name)
        made = directory / "certificates"
        made.mkdir()
        with running_server(directory / "server", make_certificates(made)) as server:
            url = f"clickhouse://127.0.0.1:{server.native_port}"
            (directory / "scene").mkdir()
            with Scene(
                directory / "scene", url, server.query, rows=options.rows, columns=COLUMNS, values=VALUES
            ) as scene:
                scene.deliver_once(SECONDS)
                print(_HEAD, flush=True)
                for percent in options.cpu_percent:
                    _measure(scene, percent, options.rows)
    return 0


def _measure(scene: Scene, percent: float, rows: int) -> None:
    # A minute after one audit the next begins.
    scene.configure(scene.url, more=f"[audit]\ncpu_percent = {percent}\ninterval_hours = {1 / 60}")
    with scene.replicate() as replica:
        scene.wait_caught_up(replica, SECONDS)
        _wait(lambda: scene.table().get("broken_since") is None)
        process = psutil.Process(replica.process.pid)
        served = next(each for each in psutil.Process().children() if "clickhouse" in each.name())
        before = process.memory_info().rss
        began, spent = time.monotonic(), _spent(process, served)
        peak = _wait(lambda: len(_audits(replica)) > 0, lambda: process.memory_info().rss)
        seconds = time.monotonic() - began
        used = [now - then for now, then in zip(_spent(process, served), spent, strict=True)]
        scene.query(CHANGED.format(seq=rows // 2))
        changed = time.monotonic()
        _wait(lambda: "source and target differ" in replica.log)
        found = time.monotonic() - changed
        print(
            f"{percent:>11g}{seconds:>9.0f}{used[0]:>11.1f}{used[1]:>14.1f}{used[0] / seconds:>7.1%}"
            f"{used[1] / seconds:>10.1%}{found:>15.0f}{(peak - before) / 1e6:>9.0f}",
            flush=True,
        )
        _wait(lambda: '"outcome": "repaired"' in replica.log)  # the next measurement begins with equal sides
        replica.stop()


def _spent(*processes: psutil.Process) -> list[float]:
    return [sum(each.cpu_times()[:2]) for each in processes]


def _audits(replica: Replica) -> list[str]:
    return re.findall(r'"outcome": "\w+".*"event": "audited"', replica.log)


def _wait(condition: Callable[[], bool], measure: Callable[[], int] = lambda: 0) -> int:
    """Until it is so; the most that was measured meanwhile."""
    most, deadline = 0, time.monotonic() + SECONDS
    while not condition():
        most = max(most, measure())
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)
    return most
