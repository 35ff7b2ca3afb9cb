"""Where log lines go, and what never gets into them."""

from __future__ import annotations

import io
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from cdc.config import LoggingConfig
from cdc.errors import ConfigError
from cdc.observe.log import RateLimit, Redactor, logging_to


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def thread_cpu(self) -> float:
        return 0.0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.is_set()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def log(name: str = "cdc.replicator") -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def config(**values: object) -> LoggingConfig:
    return LoggingConfig.model_validate({"log_format": "json", **values})


def test_lines_are_json_on_the_stream_and_in_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    path = tmp_path / "logs" / "cdc.log"
    with logging_to(config(log_path=path), stream=stream):
        log().info("delivered", table="main.trades", rows=5)
    (line,) = lines(stream.getvalue())
    assert (line["event"], line["table"], line["rows"], line["level"]) == (
        "delivered",
        "main.trades",
        5,
        "info",
    )
    assert line["timestamp"].endswith("Z")
    assert lines(path.read_text()) == [line]


def test_without_a_terminal_the_stream_gets_json() -> None:
    stream = io.StringIO()
    with logging_to(config(log_format="auto"), stream=stream):
        log().info("x")
    assert lines(stream.getvalue())[0]["event"] == "x"


def test_on_a_terminal_lines_are_for_people() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with logging_to(config(log_format="auto"), stream=stream):
        log().info("delivered", rows=5)
    assert "delivered" in stream.getvalue()
    assert "{" not in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARN", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_the_level_is_the_configured_one(level: str, written: list[str]) -> None:
    stream = io.StringIO()
    with logging_to(config(log_level=level), stream=stream):
        for method in ("debug", "info", "warning", "error"):
            getattr(log(), method)(f"at {method}")
    assert [line["level"] for line in lines(stream.getvalue())] == written


def test_the_libraries_are_heard_from_warnings_on_and_in_the_same_form() -> None:
    stream = io.StringIO()
    with logging_to(config(log_level="DEBUG"), stream=stream):
        logging.getLogger("watchdog").info("chatter")
        logging.getLogger("watchdog").warning("lost %s", "events")
        logging.getLogger("cdc.supervisor").info("started")
    assert [line["event"] for line in lines(stream.getvalue())] == ["lost events", "started"]


def test_no_secret_gets_into_a_line(tmp_path: Path) -> None:  # [S7]
    stream = io.StringIO()
    secret = 'hush"\\hush'
    with logging_to(config(log_path=tmp_path / "l"), secrets=[secret, "ab"], stream=stream):
        log().info("a", password="short", nested={"api_token": "short", "host": "fine"})
        log().error(f"connecting with {secret}", url="http://user:pass@host:1/db", other=[secret])
        logging.getLogger("driver").warning("said %s", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            log().exception("failed")
    for text in (stream.getvalue(), (tmp_path / "l").read_text()):
        assert "hush" not in text
        assert "pass@" not in text
        first, second, _, last = lines(text)
        assert first["nested"] == {"api_token": "********", "host": "fine"}
        assert first["password"] == "********"
        assert second["url"] == "http://user:********@host:1/db"
        assert "ValueError: ********" in last["exception"]


def test_short_secrets_do_not_ruin_the_log() -> None:
    assert Redactor(["a", "abc"]).line("a table") == "a table"


def test_a_secret_inside_another_is_masked_whole() -> None:
    assert Redactor(["hush", "hush-hush"]).line("x hush-hush y hush") == "x ******** y ********"


def test_a_repeated_warning_is_held_back_and_counted_per_table_and_error() -> None:
    clock, stream = HandClock(), io.StringIO()
    with logging_to(config(), stream=stream, clock=clock):
        for second in range(121):
            clock.now = float(second)
            log().warning("retry", table="main.a", error_class="TargetError", attempt=second)
        log().warning("retry", table="main.b", error_class="TargetError")
        log().info("table state", table="main.a")
        log().info("table state", table="main.a")
    written = [
        (line["event"], line.get("attempt"), line.get("repeated")) for line in lines(stream.getvalue())
    ]
    assert written == [
        ("retry", 0, None),
        ("retry", 60, 59),
        ("retry", 120, 59),
        ("retry", None, None),
        ("table state", None, None),
        ("table state", None, None),
    ]


def test_what_is_remembered_of_repeats_is_bounded() -> None:
    limit = RateLimit(HandClock())
    for number in range(3000):
        limit(None, "", {"level": "error", "event": str(number)})
    assert len(limit._seen) == 1000


def test_a_stuck_stream_holds_nobody_up_and_what_was_dropped_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cdc.observe.log.QUEUE_LINES", 10)
    written, released = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            written.set()
            assert released.wait(30)
            return super().write(text)

    stream = Stuck()
    with logging_to(config(), stream=stream):
        log().info("first")
        assert written.wait(30)
        for number in range(100):  # returns although nothing is written
            log().info("more", number=number)
        released.set()
    events = [line["event"] for line in lines(stream.getvalue())]
    assert events[:2] == ["first", "more"]
    assert events[-1] == "90 log lines were dropped: the log could not be written fast enough"


def test_the_file_is_rotated_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "cdc.log"
    with logging_to(config(log_path=path, log_max_mb=1, log_keep=2), stream=io.StringIO()):
        for _ in range(40):
            log().info("x" * 100_000)
    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["cdc.log", "cdc.log.1", "cdc.log.2"]
    assert all(found.stat().st_size <= 1 << 20 for found in tmp_path.iterdir())


def test_a_log_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logging\.log_path"), logging_to(config(log_path=tmp_path)):
        raise AssertionError("opened a directory")


def test_afterwards_logging_is_as_it_was() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logging_to(config(), stream=io.StringIO()):
        assert root.level == logging.WARNING
    assert (root.level, root.handlers) == before
