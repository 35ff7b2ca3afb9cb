"""`cdc demo`: a writer that holds its DuckDB file, a replicator beside it, a crash, and the comparison.

Everything runs in processes of its own, as in earnest; the target is ClickHouse's engine embedded, so that no
server is needed. Nothing outside the demo's directory is touched.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cdc.errors import CdcError
from cdc.observe.status import Status, read_status

ROWS_BEFORE_CRASH = 2000
ROWS_AFTER_CRASH = 2000
START_SECONDS = 30.0
"""The longest wait for a process to begin its work, on a slow machine."""
STOP_SECONDS = 15.0
QUIET_SECONDS = 2.5
"""Nothing new for so long is the end: the status is written every second, a row takes a fraction of one."""
_POLL_SECONDS = 0.1

_CONFIG = """\
[database]
path = {database}

[sync]
clickhouse_endpoint = {endpoint}
overlap = "5s"

[defaults]
watermark = "updated_at"
version = "updated_at"

[target]
auto_create = true

[metrics]
port = 0
"""


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    rate: Annotated[int, typer.Option(min=1, max=5000, help="Trades per second.")] = 400,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the demo's directory, to look around in.")
    ] = False,
) -> None:
    """Show it working: a live writer, a replicator, a crash of the writer, and source and target compared."""
    screen = Console(highlight=False, soft_wrap=True)
    with _directory(keep) as directory:
        code = _Demo(directory, rate, screen).play()
        if keep:
            screen.print(f"\nkept: {directory}\n  try: cdc -c {directory / 'demo.toml'} query --tables")
    raise typer.Exit(code)


class _Demo:
    """The demo's processes and what it says of them."""

    def __init__(self, directory: Path, rate: int, screen: Console) -> None:
        self._directory = directory
        self._rate = rate
        self._screen = screen
        self._database = directory / "trades.duckdb"
        self._config = directory / "demo.toml"
        self._status = directory / "trades.duckdb.cdc" / "status.json"
        endpoint = "chdb://" + ("" if directory.as_posix().startswith("/") else "/")
        self._config.write_text(
            _CONFIG.format(
                database=_quoted(self._database.as_posix()),
                endpoint=_quoted(endpoint + (directory / "clickhouse").as_posix()),
            ),
            encoding="utf-8",
        )

    def play(self) -> int:
        """The exit code: that of the comparison at the end."""
        with contextlib.ExitStack() as stack:
            self._say("A trade engine starts, and holds the lock of its DuckDB file for as long as it runs:")
            writer = stack.enter_context(self._writer())
            self._wait(self._database.exists, "the writer creates its file", writer)
            self._show_lock()
            self._say("A replicator starts beside it, and follows the file into ClickHouse (embedded):")
            replicator = stack.enter_context(self._command("run"))
            self._follow(ROWS_BEFORE_CRASH, writer, replicator)
            self._say("The writer is killed in the middle of its work (kill -9), and started again:")
            writer.kill()
            writer.wait()
            writer = stack.enter_context(self._writer())
            arrived = _trades(read_status(self._status))
            self._follow(arrived + ROWS_AFTER_CRASH, writer, replicator)
            self._say(
                "The writer ends; the replicator delivers the rest and ends too. Source and target compared:"
            )
            _stop(writer)
            self._caught_up(replicator)
            _stop(replicator)
        return subprocess.run([*self._cdc(), "verify"], check=False).returncode

    def _show_lock(self) -> None:
        """What any other program gets that opens the file now."""
        code = "import duckdb, sys; duckdb.connect(sys.argv[1], read_only=True)"
        opened = subprocess.run(
            [sys.executable, "-c", code, str(self._database)], capture_output=True, text=True, check=False
        )
        if opened.returncode:
            held = re.search(r"Conflicting lock is held.*?\(PID \d+\)", opened.stderr)
            self._screen.print(
                f"  any other program that opens it is refused: {held[0] if held else 'locked'}"
            )

    def _follow(
        self, rows: int, writer: subprocess.Popen[bytes], replicator: subprocess.Popen[bytes]
    ) -> None:
        """Show the trades arriving until there are `rows`."""
        shown = time.monotonic()
        with self._screen.status("") as line:

            def arrived() -> bool:
                nonlocal shown
                text = _progress(read_status(self._status))
                line.update(text)
                if not self._screen.is_terminal and time.monotonic() - shown > 2.0:
                    shown = time.monotonic()
                    self._screen.print(f"  {text}")
                return _trades(read_status(self._status)) >= rows

            self._wait(
                arrived,
                f"{rows:,} trades arrive",
                writer,
                replicator,
                seconds=START_SECONDS + rows / self._rate,
            )
        self._screen.print(f"  {_progress(read_status(self._status))}")

    def _caught_up(self, replicator: subprocess.Popen[bytes]) -> None:
        """Wait until nothing more arrives."""
        rows, since = -1, time.monotonic()

        def quiet() -> bool:
            nonlocal rows, since
            now = _trades(read_status(self._status))
            if now != rows:
                rows, since = now, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS

        self._wait(quiet, "the replicator catches up", replicator)

    def _wait(
        self,
        condition: Callable[[], bool],
        what: str,
        *processes: subprocess.Popen[bytes],
        seconds: float = START_SECONDS,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            ended = next((each for each in processes if each.poll() is not None), None)
            if ended is not None or time.monotonic() > deadline:
                problem = (
                    "a process ended early" if ended is not None else f"it did not within {seconds:.0f} s"
                )
                raise CdcError(
                    "show how", what, problem, f"See the logs in {self._directory} (run it again with --keep)"
                )
            time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def _writer(self) -> Iterator[subprocess.Popen[bytes]]:
        script = Path(__file__).with_name("reference_writer.py")
        if not script.exists():  # not installed, but run from the sources
            script = Path(__file__).parents[2] / "tools" / "reference_writer.py"
        command: list[str | Path] = [sys.executable, script, "--path", self._database]
        with self._process(
            [*command, "--rate", str(self._rate), "--rows-per-commit", "20"], "writer.log"
        ) as process:
            yield process

    @contextlib.contextmanager
    def _command(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        with self._process([*self._cdc(), name], f"{name}.log") as process:
            yield process

    @contextlib.contextmanager
    def _process(self, command: list[str | Path], log: str) -> Iterator[subprocess.Popen[bytes]]:
        """A child whose output goes to `log`; stopped at the end, whatever happens."""
        with (self._directory / log).open("ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield process
        finally:
            _stop(process)

    def _cdc(self) -> list[str | Path]:
        return [sys.executable, "-m", "cdc", "--config", self._config]

    def _say(self, text: str) -> None:
        self._screen.print(f"\n{text}", style="bold")


def _trades(status: Status | None) -> int:
    tables = () if status is None else status.tables
    return sum(table.rows for table in tables if table.target == "trades")


def _progress(status: Status | None) -> str:
    if status is None or not status.tables:
        return "starting…"
    trades = next((table for table in status.tables if table.target == "trades"), status.tables[0])
    lag = (
        ""
        if trades.lag_seconds is None
        else f", the last batch {trades.lag_seconds * 1000:.0f} ms after it was seen"
    )
    return f"{trades.rows:,} states of trades in ClickHouse{lag}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _directory(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="cdc-demo-"))
    else:
        with tempfile.TemporaryDirectory(prefix="cdc-demo-", ignore_cleanup_errors=True) as directory:
            yield Path(directory)


def _quoted(text: str) -> str:
    """A TOML literal string."""
    if "'" in text:
        raise CdcError(
            "run the demo in", text, "the path has a quote in it", "Set TMPDIR to another directory"
        )
    return f"'{text}'"
