"""Where log lines go, and what never gets into them.

Lines are handed to a thread that formats and writes them, so that a slow disk or terminal holds nobody up.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog

from cdc.clock import Clock, SystemClock
from cdc.config import LoggingConfig
from cdc.errors import ConfigError
from cdc.private import open_private, private_directory
from cdc.visible import visible_line

TRACE = 5
_LEVELS = {"TRACE": TRACE, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}

QUEUE_LINES = 10_000
"""Lines that wait for the disk; past it they are dropped and counted, for the log may not stop the work."""

REPEAT_SECONDS = 60.0
"""The same warning of the same table is written once in this time, with how often it was held back."""

MASK = "********"
_SECRET_NAMES = re.compile(r"passw|secret|token|master_key|encryption_key|authorization", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)([^\s/@:\"']*):[^\s/@\"']*@")

Event = MutableMapping[str, Any]


@contextmanager
def logging_to(
    config: LoggingConfig,
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> Iterator[None]:
    """Send the log to `stream` (default: standard error) and to `config.log_path`; flushed when it ends.

    Args:
        secrets: texts that must never appear; those of fewer than 4 characters are masked by key alone,
            as masking them everywhere would ruin the log.

    Raises:
        ConfigError: the log file cannot be opened.
    """
    stream = stream or sys.stderr
    redact = Redactor(secrets)
    console = config.log_format == "console" or (config.log_format == "auto" and stream.isatty())
    screen = logging.StreamHandler(stream)
    screen.setFormatter(_formatter(_console() if console else _json(), redact))
    handlers: list[logging.Handler] = [screen]
    if config.log_path is not None:
        handlers.append(_file(config, redact))
    lines: queue.Queue[Any] = queue.Queue(QUEUE_LINES)
    listener = _Listener(lines, *handlers)
    entry = _NeverBlocking(lines)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("cdc").level)
    logging.addLevelName(TRACE, "TRACE")
    root.handlers = [entry]
    root.setLevel(logging.WARNING)  # of the libraries
    logging.getLogger("cdc").setLevel(_LEVELS[config.log_level])
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _take_exception,
            RateLimit(clock or SystemClock()),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    listener.start()
    try:
        yield
    finally:
        listener.stop()  # writes what still waits
        if entry.dropped:
            entry.dropped_line(screen)
        for handler in handlers[1:]:
            handler.close()
        root.setLevel(before[0])
        root.handlers = before[1]
        logging.getLogger("cdc").setLevel(before[2])
        structlog.reset_defaults()


class Redactor:
    """Takes secrets out of a line: known texts, values under telling names, and passwords in URLs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {text for text in secrets if len(text) >= 4}
        known |= {json.dumps(text)[1:-1] for text in known} | {repr(text)[1:-1] for text in known}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        """As a structlog processor: by name."""
        return {key: self._by_name(key, value) for key, value in event.items()}

    def line(self, text: str) -> str:
        """By content."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _USERINFO.sub(rf"\1:{MASK}@", text)

    def _by_name(self, name: object, value: object) -> object:
        if _SECRET_NAMES.search(str(name)):
            return MASK
        if isinstance(value, Mapping):
            return {key: self._by_name(key, inner) for key, inner in value.items()}
        return value


class RateLimit:
    """A structlog processor that holds back a warning or error repeated within `REPEAT_SECONDS`.

    Two are the same when event, table and kind of error are. The next one let through says how many were
    held back, as `repeated`. Thread safe, and bounded: it remembers the last 1000.
    """

    def __init__(self, clock: Clock, seconds: float = REPEAT_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        if event.get("level") not in ("warning", "error"):
            return event
        same = tuple(str(event.get(name)) for name in ("event", "table", "error_class"))
        now = self._clock.monotonic()
        with self._lock:
            passed_at, held = self._seen.pop(same, (None, 0))
            if passed_at is not None and now - passed_at < self._seconds:
                self._seen[same] = (passed_at, held + 1)
                raise structlog.DropEvent
            self._seen[same] = (now, 0)
            while len(self._seen) > 1000:
                del self._seen[next(iter(self._seen))]
        if held:
            event["repeated"] = held
        return event


class _NeverBlocking(QueueHandler):
    """Puts records on the queue as they are; the listener's thread formats them."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def dropped_line(self, handler: logging.Handler) -> None:
        message = f"{self.dropped} log lines were dropped: the log could not be written fast enough"
        handler.handle(logging.LogRecord("cdc", logging.WARNING, "", 0, message, None, None))


class _Listener(QueueListener):
    def enqueue_sentinel(self) -> None:
        assert isinstance(self.queue, queue.Queue)
        self.queue.put(None)  # waits; the standard one raises when the queue is full


def _take_exception(_logger: object, _method: str, event: Event) -> Event:
    """The exception being handled, while still in the thread that handles it."""
    if event.get("exc_info") is True:
        event["exc_info"] = sys.exc_info()
    return event


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, redact: Redactor, processors: Sequence[Any]) -> None:
        super().__init__(
            processors=processors,
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        )
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact.line(super().format(record))


def _formatter(render: Sequence[Any], redact: Redactor) -> logging.Formatter:
    return _Formatter(redact, [structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, *render])


def _shown(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """On a terminal a text is a text, on one line; in JSON it is anyway."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible_line(value)
    return event


def _json() -> Sequence[Any]:
    return (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str))


def _console() -> Sequence[Any]:
    return (
        _shown,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    )


class _PrivateFileHandler(RotatingFileHandler):
    """Its file is for this user alone, as are those it is turned over to."""

    def _open(self) -> TextIOWrapper:
        file = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        return open(file, self.mode, encoding=self.encoding, errors=self.errors)  # type: ignore[return-value]

    def doRollover(self) -> None:  # noqa: N802 - the library's name
        """Begin the next file; where Windows refuses, for another process reads this one, go on with it."""
        try:
            super().doRollover()
        except PermissionError:
            self.stream = self._open()


def _file(config: LoggingConfig, redact: Redactor) -> logging.Handler:
    assert config.log_path is not None
    try:
        private_directory(config.log_path.parent)
        handler = _PrivateFileHandler(
            config.log_path,
            maxBytes=config.log_max_mb << 20,
            backupCount=config.log_keep,
            encoding="utf-8",
        )
    except OSError as error:
        raise ConfigError(
            "open the log",
            config.log_path,
            error.strerror or type(error).__name__,
            "Name a file this user may write, in logging.log_path or DUCKDB_PYTHON_LOG",
        ) from None
    handler.setFormatter(_formatter(_json(), redact))
    return handler
