"""Which conditions ask for a person's attention now: the one place that raises alerts and clears them.

An alert is named by its kind and subject. Raising one that stands only refreshes it; clearing it takes effect
after the condition has stayed away for `hold_seconds`, so a flapping condition is one alert, not a hundred.
Handlers are told of each raise and clear; they must neither block nor raise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum

from cdc.clock import Clock

logger = logging.getLogger(__name__)


class Severity(Enum):
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class AlertKind:
    """A condition worth a person's time. `remedy` says what that person can do, as an imperative."""

    name: str
    severity: Severity
    remedy: str
    unwell: bool = False
    """While it stands the replicator is not well: status and readiness say so."""
    told: bool = False
    """What raises it has a line of its own in the log, which says the same."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on a measured value; `for_seconds` is how long it must be exceeded before the alert."""

    kind: AlertKind
    limit: float
    unit: str
    above: bool = True
    for_seconds: float = 0.0

    def exceeded(self, value: float) -> bool:
        return value > self.limit if self.above else value < self.limit

    def describe(self, value: float) -> str:
        return f"{value:.4g} {self.unit} is {'above' if self.above else 'below'} {self.limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it stands. Times are wall-clock seconds; `raised` is False in the event that clears it."""

    name: str
    subject: str
    severity: Severity
    message: str
    remedy: str
    raised_at: float
    times: int = 1
    raised: bool = True
    cleared_at: float | None = None
    unwell: bool = False
    told: bool = False

    def as_json(self) -> dict[str, object]:
        """The alert as JSON values, as status files, commands and webhooks get it."""
        values = asdict(self) | {"severity": self.severity.value}
        del values["told"]
        return values


Handler = Callable[[Alert], None]
Gauge = Callable[[str, str, int], None]
"""Sets the metric `cdc_alert{name, severity}` to the number of alerts that stand."""


class Alerts:
    """The alerts that stand. Thread safe.

    `tick` must be called now and then (once a second will do): it is what lets a held clear take effect.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        handlers: Sequence[Handler] = (),
        gauge: Gauge | None = None,
        hold_seconds: float = 60.0,
    ) -> None:
        self._clock = clock
        self._handlers = (log_alert, *handlers)
        self._gauge = gauge
        self._hold = hold_seconds
        self._lock = threading.RLock()
        self._standing: dict[tuple[str, str], Alert] = {}
        self._clearing: dict[tuple[str, str], float] = {}
        self._exceeded: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"Alerts({[f'{name}/{subject}' for name, subject in self._standing]})"

    def raise_alert(self, kind: AlertKind, subject: str, message: str) -> None:
        """`message` says what was seen; it must hold no secret."""
        key = (kind.name, subject)
        with self._lock:
            self._clearing.pop(key, None)
            standing = self._standing.get(key)
            if standing is not None:
                times = standing.times + 1
                self._standing[key] = replace(
                    standing, message=message, remedy=kind.remedy, times=times, unwell=kind.unwell
                )
                return
            alert = Alert(
                kind.name,
                subject,
                kind.severity,
                message,
                kind.remedy,
                self._clock.wall(),
                unwell=kind.unwell,
                told=kind.told,
            )
            self._standing[key] = alert
            self._tell(alert)

    def clear(self, kind: AlertKind, subject: str, *, at_once: bool = False) -> None:
        """The condition is away. `at_once` is for what a person resolved: no flapping to wait for."""
        key = (kind.name, subject)
        with self._lock:
            if key not in self._standing:
                return
            self._clearing.setdefault(key, self._clock.monotonic())
            if at_once:
                self._clear_now(key)

    def measure(self, threshold: Threshold, subject: str, value: float | None) -> None:
        """Raise or clear the threshold's alert by `value`; None is unknown and changes nothing."""
        if value is None:
            return
        key = (threshold.kind.name, subject)
        with self._lock:
            if not threshold.exceeded(value):
                self._exceeded.pop(key, None)
                self.clear(threshold.kind, subject)
                return
            now = self._clock.monotonic()
            since = self._exceeded.setdefault(key, now)
            if now - since >= threshold.for_seconds:
                self.raise_alert(threshold.kind, subject, threshold.describe(value))

    def tick(self) -> None:
        """Let clears take effect whose condition has stayed away long enough."""
        with self._lock:
            now = self._clock.monotonic()
            for key, since in list(self._clearing.items()):
                if now - since >= self._hold:
                    self._clear_now(key)

    def standing(self) -> tuple[Alert, ...]:
        """The alerts that stand, oldest first."""
        with self._lock:
            return tuple(self._standing.values())

    def _clear_now(self, key: tuple[str, str]) -> None:
        del self._clearing[key]
        alert = self._standing.pop(key)
        self._tell(replace(alert, raised=False, cleared_at=self._clock.wall()))

    def _tell(self, alert: Alert) -> None:
        if self._gauge is not None:
            count = sum(name == alert.name for name, _ in self._standing)
            self._gauge(alert.name, alert.severity.value, count)
        for handler in self._handlers:
            handler(alert)


def log_alert(alert: Alert) -> None:
    """One line in the log for each alert raised or cleared, unless what raised it has told of it there."""
    if alert.raised and alert.told:
        return
    if not alert.raised:
        logger.info("alert cleared: %s %s", alert.name, alert.subject)
        return
    level = logging.ERROR if alert.severity is Severity.CRITICAL else logging.WARNING
    logger.log(level, "alert: %s %s: %s. %s", alert.name, alert.subject, alert.message, alert.remedy)


SYNC_LATENCY = AlertKind(
    "sync_latency",
    Severity.WARNING,
    "Compare cdc_seconds_behind with the target's insert times: a long log or a slow target is usual.",
)
FAILED_SYNCS = AlertKind(
    "failed_syncs",
    Severity.CRITICAL,
    "Run 'cdc failed list' for the reasons, mend the cause, then 'cdc failed retry'.",
)
BUFFER_MEMORY = AlertKind(
    "buffer_memory",
    Severity.WARNING,
    "Rows that were read fill their memory, and reading waits for the target: check it, or raise [limits]"
    " max_memory_mb.",
)
TRADE_RATE = AlertKind(
    "trade_rate",
    Severity.WARNING,
    "Check that the writer is meant to be this busy; raise the configured rate if it is.",
)
TARGET_LATENCY = AlertKind(
    "target_latency",
    Severity.WARNING,
    "Check the network to ClickHouse and its load; batches are widened meanwhile.",
)
SUCCESS_RATE = AlertKind(
    "success_rate",
    Severity.CRITICAL,
    "Read the reasons in 'cdc status' and 'cdc failed list'; inserts are being refused or retried.",
)

MONITORING: Mapping[str, Threshold] = {
    threshold.kind.name: threshold
    for threshold in (
        Threshold(SYNC_LATENCY, 100.0, "ms", for_seconds=5.0),
        Threshold(FAILED_SYNCS, 10.0, "rows"),
        Threshold(BUFFER_MEMORY, 80.0, "%"),
        Threshold(TRADE_RATE, 200.0, "rows/s", for_seconds=5.0),
        Threshold(TARGET_LATENCY, 500.0, "ms"),
        Threshold(SUCCESS_RATE, 95.0, "%", above=False),
    )
}
"""The monitoring table of the requirements. The two that jump with every batch must last to count."""
