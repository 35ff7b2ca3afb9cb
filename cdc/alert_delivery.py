"""How an alert leaves this machine: handed to a command or a webhook, by a thread, within bounds.

A delivery that fails is logged and not repeated: the log, the status file and the metric stay the truth.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from cdc.alert import Alert
from cdc.environment import without_secrets

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 100
"""Alerts that may wait for a slow receiver; past it the newest are dropped, and said so in the log."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A receiver that sends elsewhere has failed: the alert, and the key in the URL, are for it alone."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class AlertDelivery:
    """A handler for `Alerts`: give it `deliver`. A context manager; leaving it sends what still waits.

    Args:
        command: run with the alert as JSON on its standard input; no shell.
        webhook: an http(s) URL that gets the alert as a JSON POST. Never shown: such URLs carry their key.
        timeout_seconds: bound of each delivery, and of waiting for the queue to drain on exit.
    """

    def __init__(
        self, command: Sequence[str] = (), webhook: str | None = None, *, timeout_seconds: float = 10.0
    ) -> None:
        self._command = tuple(command)
        self._webhook = webhook
        self._timeout = timeout_seconds
        self._queue: queue.Queue[Alert | None] = queue.Queue(QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._run, name="alert-delivery", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._queue.put(None, timeout=self._timeout)
        except queue.Full:
            logger.error("alerts still undelivered at the end: %d", self._queue.qsize())
            return
        self._thread.join(self._timeout)

    def deliver(self, alert: Alert) -> None:
        """Queue `alert`; returns at once."""
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            logger.error(
                "alert %s %s not delivered: %d wait already", alert.name, alert.subject, QUEUE_LENGTH
            )

    def _run(self) -> None:
        while (alert := self._queue.get()) is not None:
            body = json.dumps(alert.as_json()).encode()
            if self._command:
                self._to_command(body)
            if self._webhook is not None:
                self._to_webhook(self._webhook, body)

    def _to_command(self, body: bytes) -> None:
        try:
            done = subprocess.run(
                self._command,
                env=without_secrets(),
                input=body,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            logger.error("the alert command failed: %s", type(error).__name__)
            return
        if done.returncode != 0:
            logger.error("the alert command ended with %d: %s", done.returncode, done.stderr[-500:])

    def _to_webhook(self, url: str, body: bytes) -> None:
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
        try:
            with _OPENER.open(request, timeout=self._timeout):
                pass
        except (OSError, http.client.HTTPException) as error:
            logger.error("the alert webhook failed: %s", _without_url(error))


def _without_url(error: Exception) -> str:
    """What went wrong, by type and status alone: an error's own text may repeat the URL."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return type(error.reason).__name__
    return type(error).__name__
