"""Is everything there that a replication needs? Each finding says what is so, and what to do about it.

Nothing is changed but the state directory, which is made where there is none. It may run beside a replicator.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import psutil

from cdc.app.first_configuration import as_text
from cdc.app.proposal import Proposal, propose
from cdc.app.wiring import plans_of, source_of, target_of
from cdc.change import TablePlan
from cdc.config import Settings
from cdc.errors import CdcError, StateError, TargetError
from cdc.observe.status import read_status
from cdc.private import private_directory
from cdc.replicator.plan import LeftOut
from cdc.source import AnySource, run_self_test
from cdc.state import open_store
from cdc.state.store import FILE_NAME
from cdc.target import ClickHouseTarget

Level = Literal["ok", "warning", "problem"]

LEAST_FREE_BYTES = 1 << 30
"""Of the state directory's disk: less is told."""
MOST_SKEW_SECONDS = 5.0
"""Between this machine's clock and the server's: more is told."""
MOST_CHECKED_BYTES = 256 << 20
"""A larger file's checksums are left to `cdc check-file`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was found."""

    level: Level
    subject: str
    said: str
    remedy: str = ""
    """What to do; empty where all is well."""


def examine(settings: Settings) -> Iterator[Finding]:
    """The findings, as they are made. No error ends it: it is a finding."""
    doctor = _Doctor(settings)
    yield from doctor.state()
    yield from doctor.page()
    yield from doctor.source()
    yield from doctor.target()
    yield from doctor.redis()


class _Doctor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plans: tuple[TablePlan, ...] = ()
        self._running = False

    def state(self) -> Iterator[Finding]:
        """Its directory, what is in it, and the room on its disk."""
        directory = self._settings.state.directory
        try:
            private_directory(directory)
        except OSError as error:
            problem, _, remedy = str(error.strerror).partition("; ")
            remedy = remedy or "let this user write there, or set [state] directory"
            yield Finding("problem", "state", f"{directory}: {problem}", _sentence(remedy))
            return
        free = shutil.disk_usage(directory).free
        if free < LEAST_FREE_BYTES:
            said = f"{directory}: {free >> 20:,} MB are free on its disk"
            yield Finding("warning", "state", said, "Make room: the spool alone may take [spool] max_mb")
        if not (directory / FILE_NAME).exists():
            yield Finding("ok", "state", f"{directory}: nothing was replicated yet")
            return
        try:
            with open_store(directory, mode="read") as store:
                yield Finding("ok", "state", f"{directory}: {len(store.tables())} tables are known")
        except StateError as error:
            yield _failed("state", error)

    def page(self) -> Iterator[Finding]:
        """Whether it runs, and else whether its page would have a port."""
        metrics = self._settings.metrics
        try:
            status = read_status(self._settings.status_path)
        except StateError as error:
            yield _failed("status", error)
            status = None
        self._running = status is not None and status.state == "running" and psutil.pid_exists(status.pid)
        if self._running or not metrics.enabled or not metrics.port:
            return
        try:
            with socket.create_server((metrics.host, metrics.port)):
                yield Finding("ok", "page", f"http://{metrics.host}:{metrics.port} is free")
        except OSError as error:
            said = f"{metrics.host}:{metrics.port}: {error.strerror}"
            yield Finding("problem", "page", said, "Set [metrics] port to a free one, or to 0 for any")

    def source(self) -> Iterator[Finding]:
        """The file or server, what is known of its versions, and every table of it."""
        settings = self._settings
        try:
            source = source_of(settings)
        except CdcError as error:
            yield _failed("source", error)
            return
        with source:
            yield Finding("ok", "source", f"{settings.database.path}: {self._way(source)}")
            for said in source.untested:
                yield Finding("warning", "source", said, "It may work; a version that was tested will")
            if settings.database.file is not None:
                yield from self._file(settings.database.file)
            yield from self._tables(source)

    def _way(self, source: AnySource) -> str:
        if self._settings.database.address is not None:
            return "asked of the server that its writer runs"
        how = "read beside its writer, and its log followed"
        if sys.platform == "win32":
            how = "read while no writer has it open, for DuckDB shares no file there"
        elif source.encrypted:
            how = "encrypted: read beside its writer, in snapshots"
        return f"{how}; DuckDB {duckdb.__version__} reads"

    def _file(self, path: Path) -> Iterator[Finding]:
        tested = run_self_test(self._settings.state.directory)
        if tested.failed is None:
            yield Finding("ok", "self-test", f"passed with DuckDB {tested.duckdb}")
        else:
            yield Finding("problem", "self-test", tested.failed, tested.remedy)
        if path.stat().st_size > MOST_CHECKED_BYTES:
            yield Finding("ok", "checksums", f"not looked at in so large a file; run: cdc check-file {path}")
            return
        from cdc.source.file.integrity import check_file

        try:
            checked = check_file(path)
        except CdcError as error:
            yield _failed("checksums", error)
            return
        if checked.sound:
            said = f"of {checked.blocks:,} blocks and {checked.frames:,} frames of the log are right"
            yield Finding("ok", "checksums", said)
        else:
            said = f"{len(checked.problems)} are wrong: {checked.problems[0]}"
            yield Finding(
                "problem", "checksums", said, f"Restore the file; all of them: cdc check-file {path}"
            )

    def _tables(self, source: AnySource) -> Iterator[Finding]:
        try:
            found = plans_of(self._settings, source, strict=False)
            proposals = {each.table: each for each in propose(source)} if found.left_out else {}
        except CdcError as error:
            yield _failed("tables", error)
            return
        self._plans = found.plans
        for plan in found.plans:
            said = f"into {plan.target}, key {', '.join(plan.key)}, watermark {plan.watermark.name}"
            if plan.unique_key:
                yield Finding("ok", str(plan.table), said)
            else:
                remedy = "Have the source keep it unique: of several rows of one key one is shown"
                yield Finding(
                    "warning", str(plan.table), f"{said}; no constraint keeps the key unique", remedy
                )
        for left in found.left_out:
            yield _left_out(left, proposals.get(left.table), all_wanted=not self._settings.tables)
        if not found.plans:
            remedy = f"Write [[tables]], or have it proposed: {self._command('init')}"
            yield Finding("problem", "tables", "none can be replicated as the configuration is", remedy)

    def target(self) -> Iterator[Finding]:
        """The server that answers, its clock, its tables."""
        if any(each.kind == "embedded" for each in self._settings.endpoints) and self._running:
            yield Finding("ok", "target", "the engine is open in the replicator that runs")
            return
        where = ", ".join(map(str, self._settings.endpoints))
        try:
            with target_of(self._settings) as target:
                took = target.ping()
                said = f"{where}: ClickHouse {target.server_version}, {took * 1000:.0f} ms away"
                yield Finding("ok", "target", said)
                yield from _clock(target)
                yield from self._definitions(target)
        except CdcError as error:
            yield _failed("target", error)

    def _definitions(self, target: ClickHouseTarget) -> Iterator[Finding]:
        """What is there of the tables, and what is not."""
        ready = 0
        for plan in self._plans:
            try:
                differences = target.diff(plan)
            except CdcError as error:
                yield _failed(f"target of {plan.table}", error)
                continue
            reasons = [each.reason for each in differences if each.reason]
            missing = [each.subject for each in differences if each.statements and each.blocks]
            if reasons:
                remedy = f"Compare: {self._command('schema diff')}"
                yield Finding("problem", f"target of {plan.table}", "; ".join(reasons), remedy)
            elif missing and not self._settings.target.auto_create:
                remedy = f"Make it: {self._command('schema apply')}; or set [target] auto_create = true"
                said = f"{', '.join(missing)} is not there as needed"
                yield Finding("problem", f"target of {plan.table}", said, remedy)
            else:
                ready += 1
        if ready:
            yield Finding("ok", "target", f"{ready} of {len(self._plans)} tables are there or will be made")

    def redis(self) -> Iterator[Finding]:
        """Where it is configured."""
        options = self._settings.redis.options
        if options is None:
            return
        from cdc.redis_client import FAILURES, connect

        try:
            client = connect(options)
            client.ping()
            client.close()
        except CdcError as error:
            yield _failed("redis", error)
        except FAILURES as error:
            needed = self._settings.redis.lease
            remedy = "Start it, or correct [redis] url and its password; without it nothing is lost"
            if needed:
                remedy = "Start it, or correct [redis] url and its password: [redis] lease needs it to start"
            yield Finding("problem" if needed else "warning", "redis", f"no answer: {error}", remedy)
        else:
            yield Finding("ok", "redis", "it answers")

    def _command(self, words: str) -> str:
        if words == "init":
            addresses = [str(self._settings.database.path), str(self._settings.endpoints[0])]
            return shlex.join(["cdc", "init", *addresses, "-o", "proposed.toml"])
        return shlex.join(["cdc", "-c", str(self._settings.path), *words.split()])


def _clock(target: ClickHouseTarget) -> Iterator[Finding]:
    before = time.time()
    try:
        with target.query("SELECT toUInt32(toUnixTimestamp(now())) AS t") as reader:
            there = float(reader.read_all().column(0)[0].as_py())
    except TargetError:
        return  # there is no database yet to ask in
    skew = abs(there + 0.5 - (before + time.time()) / 2)
    if skew > MOST_SKEW_SECONDS:
        said = f"the server's clock and this machine's differ by {skew:.0f} s"
        yield Finding("warning", "target", said, "Have both follow one time server: lags are told wrong")


def _left_out(left: LeftOut, proposal: Proposal | None, *, all_wanted: bool) -> Finding:
    """A table that nobody asked for is no problem; how it could be had is said all the same."""
    remedy = ""
    if proposal is not None:
        remedy = proposal.left_out or f"to replicate it, write:\n{_lines(proposal)}"
    level: Level = "problem" if left.listed else "warning" if all_wanted else "ok"
    return Finding(level, str(left.table), f"left out: {left.reason}", _sentence(remedy))


def _lines(proposal: Proposal) -> str:
    """What replicates the table, as the configuration has it."""
    lines = ["[[tables]]", f"name = {as_text(str(proposal.table).removeprefix('main.'))}"]
    if proposal.key:
        lines.append(f"key = [{', '.join(map(as_text, proposal.key))}]")
    return "\n".join([*lines, f"watermark = {as_text(proposal.watermark)}"])


def _failed(subject: str, error: CdcError) -> Finding:
    return Finding("problem", subject, f"{error.subject}: {error.problem}", error.remedy)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def worst(findings: Sequence[Finding]) -> Level:
    """The level of the whole."""
    levels = {each.level for each in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"
