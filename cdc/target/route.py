"""Which of several endpoints is used now? The first that is not resting after a failure. [R9]"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from cdc.clock import Clock
from cdc.config.endpoint import Endpoint
from cdc.errors import Meaning, TargetError
from cdc.target.codes import is_of_one_server
from cdc.target.meaning import Closed, target_error
from cdc.target.options import TargetOptions
from cdc.target.transport import Transport, new_transport
from cdc.target.version import ServerVersion

T = TypeVar("T")

REST_SECONDS = 30.0
"""How long a failed endpoint is left alone before it is asked again: long enough that a dead one costs
little, short enough that work is back on the first endpoint soon after it is."""


class Route:
    """The endpoints in the order in which they are preferred; shared by all connections of a target."""

    def __init__(self, endpoints: Sequence[Endpoint], clock: Clock) -> None:
        self.endpoints = tuple(endpoints)
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_at: dict[Endpoint, float] = {}

    def endpoint(self) -> Endpoint:
        """The first endpoint that has not failed lately; when all have, the one that failed longest ago."""
        now = self._clock.monotonic()
        with self._lock:
            for endpoint in self.endpoints:
                if now - self._failed_at.get(endpoint, float("-inf")) >= REST_SECONDS:
                    return endpoint
            return min(self.endpoints, key=lambda endpoint: self._failed_at[endpoint])

    def failed(self, endpoint: Endpoint) -> None:
        with self._lock:
            self._failed_at[endpoint] = self._clock.monotonic()


class RoutedConnection:
    """One connection that follows the route: to the next endpoint after a failure, and back.

    Used by one thread at a time; `close` by any.
    """

    def __init__(self, route: Route, options: TargetOptions, database: str = "") -> None:
        self._route = route
        self._options = options
        self._database = database
        self._transport: Transport | None = None
        self._version: ServerVersion | None = None
        self._closed = False

    def run(self, work: Callable[[Transport], T], *, everywhere: bool = False) -> T:
        """`work` over the endpoint in use; with `everywhere`, over each in turn until one answers.

        Raises:
            TargetError: of the last endpoint tried.
        """
        tries = len(self._route.endpoints) if everywhere else 1
        while True:
            transport = self._current()
            tries -= 1
            try:
                return work(transport)
            except TargetError as error:
                if not self._moves_on(transport.endpoint, error) or not tries:
                    raise

    def version(self) -> ServerVersion:
        """The release of the server that `run` last used, or is about to use."""

        def known(transport: Transport) -> ServerVersion:
            if self._version is None:
                self._version = transport.version()
            return self._version

        return self.run(known)

    def close(self) -> None:
        self._closed = True
        transport = self._transport
        if transport is not None:
            transport.close()

    def _moves_on(self, endpoint: Endpoint, error: TargetError) -> bool:
        """Whether another server may do better; `endpoint` then rests."""
        if self._closed or error.meaning is not Meaning.RETRY or not is_of_one_server(error.code):
            return False
        self._route.failed(endpoint)
        return True

    def _current(self) -> Transport:
        """The transport to the endpoint in use; a change of endpoint is checked before work goes there."""
        endpoint = self._route.endpoint()
        transport = self._transport
        if transport is not None and transport.endpoint != endpoint:
            candidate = new_transport(endpoint, self._options, self._database)
            try:
                candidate.ping()
            except TargetError:
                self._route.failed(endpoint)
                candidate.close()
            else:
                transport.close()
                self._transport, self._version = candidate, None
        if self._transport is None:
            self._transport = new_transport(endpoint, self._options, self._database)
        if self._closed:
            self._transport.close()
            raise target_error("use", endpoint, Closed())
        return self._transport
