"""How is a request of ClickHouse's HTTP interface answered?

As HTTPHandler does (src/Server/HTTPHandler.cpp): the query in the URL, the body or both, settings and
parameters in the URL, data in the body. Answers are sent whole, as with wait_end_of_query=1. `/_fault` is the
test's own.
"""

from __future__ import annotations

import base64
import http.server
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from tests.support.modern import faults as faulting
from tests.support.modern.engine import Engine, EngineError, Session, Setting, literal
from tests.support.modern.faults import Dropped, Faults, finish
from tests.support.modern.statement import parse_insert
from tests.support.modern.users import Users
from tests.support.modern.wire import LZ4, ProtocolError, frame, stream_of, unframe

_NOT_SETTINGS = {
    "query", "database", "default_format", "user", "password", "query_id", "session_id", "session_timeout",
    "session_check", "compress", "decompress", "buffer_size", "wait_end_of_query", "quota_key", "role",
    "stacktrace",
}  # fmt: skip
_ENCODINGS = ("gzip", "zstd", "lz4")
_STATUSES = {
    194: 401,
    **dict.fromkeys((192, 193, 516, 497), 403),
    **dict.fromkeys(
        (6, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 117, 130, 131, 321, 376, 427, 452, 467, 675), 400
    ),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 139), 404),
    159: 408,
    48: 501,
    **dict.fromkeys((76, 209, 439), 503),
}
"""HTTP status of an exception's code (exceptionCodeToHTTPStatus.cpp); 500 for the others."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection's requests; `engine`, `users` and `faults` are set on a subclass by `handler_for`."""

    protocol_version = "HTTP/1.1"
    engine: Engine
    users: Users
    faults: Faults

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _respond(self) -> None:
        url = urlsplit(self.path)
        parameters = parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape")
        try:
            body = self._body()
        except (EOFError, ValueError):
            self.close_connection = True
            return
        if url.path == "/_fault":
            self._fault(body)
        elif url.path in ("/ping", "/replicas_status"):
            self._send(200, b"Ok.\n", {})
        elif url.path != "/":
            self._send(404, f"There is no handle {url.path}\n".encode(), {})
        elif self.command != "POST" and not any(name == "query" for name, _ in parameters):
            self._send(200, b"Ok.\n", {})
        else:
            try:
                self._query(dict(parameters), body)
            except Dropped:
                self.close_connection = True

    def _fault(self, body: bytes) -> None:
        """POST a fault's fields to add it, nothing to clear all; the answer is how many are waiting."""
        try:
            if body:
                self.faults.add(faulting.parse(body))
            elif self.command == "POST":
                self.faults.clear()
        except ValueError as error:
            self._send(400, f"{error}\n".encode(), {})
        else:
            self._send(200, b"%d\n" % self.faults.waiting(), {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self._exactly(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self._exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _query(self, parameters: dict[str, str], body: bytes) -> None:
        try:
            body = self._decompressed(body, parameters)
            user, password = self._credentials(parameters)
            with self.users.login(self.engine, user, password) as session:
                output, headers = self._run(session, parameters, body)
        except EngineError as error:
            text = f"Code: {error.code}. {error.text} (version {self.engine.version} (official build))\n"
            headers = {"X-ClickHouse-Exception-Code": str(error.code)}
            self._send(_STATUSES.get(error.code, 500), text.encode("utf-8", "surrogateescape"), headers)
        else:
            self._send(200, *self._compressed(output, headers, parameters))

    def _credentials(self, parameters: dict[str, str]) -> tuple[str, str]:
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
            return user, password
        return (
            self.headers.get("X-ClickHouse-User") or parameters.get("user") or "default",
            self.headers.get("X-ClickHouse-Key") or parameters.get("password") or "",
        )

    def _run(self, session: Session, parameters: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        database = self.headers.get("X-ClickHouse-Database") or parameters.get("database")
        if database:
            session.use(database)
        settings = [
            Setting(n, v) for n, v in parameters.items() if n not in _NOT_SETTINGS and n[:6] != "param_"
        ]
        if self.command != "POST":
            settings.append(Setting("readonly", "1"))
        session.apply(settings, {n[6:]: literal(v) for n, v in parameters.items() if n[:6] == "param_"})
        in_url = parameters.get("query", "").encode("utf-8", "surrogateescape")
        insert = parse_insert(in_url or body)
        if insert is not None:
            rows = self._insert(
                session, insert.table, insert.head, insert.format, insert.data, body if in_url else b""
            )
            return b"", {"X-ClickHouse-Summary": f'{{"written_rows":"{rows}"}}'}
        sql = (in_url + b"\n" + body if in_url else body).decode("utf-8", "surrogateescape")
        format_ = (
            self.headers.get("X-ClickHouse-Format") or parameters.get("default_format") or "TabSeparated"
        )
        output = session.run_for_client(sql.rstrip("; \n\t") or sql, format_)
        named = re.search(
            r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b.*)?\Z", sql.rstrip("; \n\t"), re.IGNORECASE | re.DOTALL
        )
        return output, {"X-ClickHouse-Format": named[1] if named else format_}

    def _insert(
        self, session: Session, table: str, head: str, format_: str, inline: bytes, body: bytes
    ) -> int:
        running = session.insert(head, format_)
        for data in (inline, body):
            if data:
                running.append(data)
        return finish(running, self.faults.next_insert(table))

    def _decompressed(self, body: bytes, parameters: dict[str, str]) -> bytes:
        encoding = self.headers.get("Content-Encoding", "").lower()
        try:
            if parameters.get("decompress") == "1":
                stream = stream_of(body)
                return b"".join(iter(lambda: unframe(stream) if stream.has_more() else b"", b""))
            if encoding in ("", "identity"):
                return body
            if encoding in _ENCODINGS:
                with pa.input_stream(pa.BufferReader(body), compression=encoding) as plain:
                    return bytes(plain.read())
        except (ProtocolError, EOFError, OSError) as error:
            raise EngineError(
                271, f"DB::Exception: Cannot decompress: {error}. (CANNOT_DECOMPRESS)"
            ) from None
        raise EngineError(48, f"DB::Exception: Unknown compression method: {encoding}. (NOT_IMPLEMENTED)")

    def _compressed(
        self, output: bytes, headers: dict[str, str], parameters: dict[str, str]
    ) -> tuple[bytes, dict[str, str]]:
        if parameters.get("compress") == "1":
            return frame(output, LZ4) if output else b"", headers
        accepted = self.headers.get("Accept-Encoding", "").lower()
        if parameters.get("enable_http_compression") == "1":
            for encoding in _ENCODINGS:
                if encoding in accepted:
                    packed = pa.BufferOutputStream()
                    with pa.output_stream(packed, compression=encoding) as plain:
                        plain.write(output)
                    return packed.getvalue().to_pybytes(), {**headers, "Content-Encoding": encoding}
        return output, headers

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-ClickHouse-Timezone", self.engine.timezone)
        self.send_header("X-ClickHouse-Server-Display-Name", "modern")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def handler_for(engine_: Engine, users_: Users, faults_: Faults) -> type[Handler]:
    """The handler of one server."""

    class Bound(Handler):
        engine, users, faults = engine_, users_, faults_

    return Bound
