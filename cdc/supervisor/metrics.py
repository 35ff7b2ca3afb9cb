"""What Prometheus is told of the supervised programs and of the alerts."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from cdc.supervisor.program import Program
from cdc.supervisor.states import State


class SupervisorMetrics:
    """The metrics, and with a port their page on 127.0.0.1 while it is entered."""

    def __init__(self, port: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._port = port
        self._state = Gauge(
            "cdc_program_state",
            "1 for the state a program is in",
            ("program", "state"),
            registry=self.registry,
        )
        self._memory = Gauge(
            "cdc_program_memory_bytes", "Resident memory of its tree", ("program",), registry=self.registry
        )
        self._restarts = Counter(
            "cdc_program_restarts", "Starts but the first", ("program",), registry=self.registry
        )
        self._alert = Gauge("cdc_alert", "Alerts that stand", ("name", "severity"), registry=self.registry)
        self._seen: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._port:
            self._server, self._thread = start_http_server(self._port, "127.0.0.1", self.registry)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._port:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def alert(self, name: str, severity: str, standing: int) -> None:
        """The gauge of `cdc.alert.Alerts`."""
        self._alert.labels(name, severity).set(standing)

    def update(self, programs: Iterable[Program]) -> None:
        for program in programs:
            for state in State:
                self._state.labels(program.name, state.value).set(program.state is state)
            self._memory.labels(program.name).set(program.memory)
            new = program.restarts_total - self._seen.get(program.name, 0)
            self._restarts.labels(program.name).inc(new)
            self._seen[program.name] = program.restarts_total
