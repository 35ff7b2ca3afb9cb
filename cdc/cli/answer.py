"""How does the answer to a query leave: as which text or bytes?

The whole answer is collected first, in memory up to `SPOOL_BYTES` and in a temporary file beyond. So a
snapshot that a checkpoint supersedes half way costs another try and never a torn answer, and what is written
afterwards needs memory for one batch.
"""

from __future__ import annotations

import codecs
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdc.cli.console import console
from cdc.cli.console import table as plain_table
from cdc.cli.form import Format
from cdc.comparison import formatter, texts
from cdc.source.quote import identifier, literal
from cdc.visible import visible

if TYPE_CHECKING:
    import duckdb

SPOOL_BYTES = 32 << 20
CELL_WIDTH = 200
"""Characters of a value in a table; every other format has all of them."""


class Answer:
    """The collected rows. A context manager; reading it again begins at its first row."""

    def __init__(self) -> None:
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - closed by __exit__
        self.rows = 0
        self.complete = True
        """Whether these are all rows, and not the first ones alone."""

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def collect(self, reader: pa.RecordBatchReader, limit: int | None) -> None:
        """Take the rows of `reader`, `limit` at most, in place of those taken before."""
        self._spool.seek(0)
        self._spool.truncate()
        self.rows, self.complete = 0, True
        with pa.ipc.new_stream(pa.PythonFile(self._spool, "w"), reader.schema) as writer:
            for batch in reader:
                room = batch.num_rows if limit is None else limit - self.rows
                writer.write_batch(batch.slice(0, room))
                self.rows += min(room, batch.num_rows)
                if room < batch.num_rows:
                    self.complete = False
                    return

    def reader(self) -> pa.RecordBatchReader:
        self._spool.seek(0)
        return pa.ipc.open_stream(pa.PythonFile(self._spool, "r"))


def write(answer: Answer, form: Format, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:
    """Write `answer` to `out` in a form that is not a table."""
    writers: dict[Format, Callable[[Answer, IO[bytes], duckdb.DuckDBPyConnection], None]] = {
        Format.CSV: _csv,
        Format.JSON: _json,
        Format.JSONL: _jsonl,
        Format.ARROW: _arrow,
        Format.PARQUET: _parquet,
    }
    writers[form](answer, out, connection)


class OnTerminal(io.RawIOBase):
    """Takes text as UTF-8 bytes, and writes it to a terminal with what would steer that as escapes."""

    def __init__(self, terminal: IO[str]) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._terminal.write(visible(self._decoder.decode(raw)))
        return len(raw)


def show_table(answer: Answer, connection: duckdb.DuckDBPyConnection, out: Console | None = None) -> None:
    """Draw `answer`, with each column's type, on a terminal; plain columns where another program reads."""
    out = out or console()
    reader = answer.reader()
    if reader.schema.names == ["explain_key", "explain_value"]:  # a drawing already
        out.print(*(text for batch in reader for text in batch.column(1).to_pylist()), markup=False)
        return
    types = [str(kind) for kind in connection.from_arrow(pa.Table.from_batches([], reader.schema)).types]
    names = reader.schema.names
    numbers = [pa.types.is_decimal(kind) or _is_number(kind) for kind in reader.schema.types]
    rows = [
        row
        for batch in reader
        for row in zip(*(c.to_pylist() for c in texts(connection, batch).columns), strict=True)
    ]
    if not out.is_terminal:
        cells = [[("NULL" if value is None else shown(value)) for value in row] for row in rows]
        right = [name for name, number in zip(names, numbers, strict=True) if number]
        out.print(plain_table(names, cells, right=right))
    else:
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name, kind, number in zip(names, types, numbers, strict=True):
            heading = Text(shown(name)).append(f"\n{shown(kind, 40)}", style="dim not bold")
            drawn.add_column(heading, justify="right" if number else "left", overflow="fold")
        for row in rows:
            drawn.add_row(
                *(Text("NULL", "dim italic") if value is None else Text(shown(value)) for value in row)
            )
        out.print(drawn)
    more = "" if answer.complete else "; there are more, see --limit"
    out.print(f"{answer.rows:,} row{'s' * (answer.rows != 1)}{more}", markup=False)


def shown(text: str, width: int = CELL_WIDTH) -> str:
    """`text` on one line, without anything that would steer a terminal, and not longer than `width`."""
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: width + 1])
    return line if len(text) <= width else line[: width - 1] + "…"


def _csv(answer: Answer, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:
    """Numbers bare, all else in quotes; NULL is nothing, and the empty text is two quotes."""
    reader = answer.reader()
    header = pa.table([pa.array([], pa.string())] * len(reader.schema), names=reader.schema.names)
    pa.csv.write_csv(header, out)
    options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
    for batch in reader:
        written = texts(connection, batch)
        columns = [
            column if _is_number(column.type) else written.column(at)
            for at, column in enumerate(batch.columns)
        ]
        pa.csv.write_csv(pa.table(columns, names=reader.schema.names), out, write_options=options)


def _json(answer: Answer, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:
    out.write(b"[")
    start = b"\n"
    for line in _objects(answer, connection):
        out.write(start + line)
        start = b",\n"
    out.write(b"\n]\n")


def _jsonl(answer: Answer, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:
    for line in _objects(answer, connection):
        out.write(line + b"\n")


def _objects(answer: Answer, connection: duckdb.DuckDBPyConnection) -> Iterator[bytes]:
    """Each row as a JSON object. JSON has no NaN and no infinity: these are texts."""
    relation = connection.from_arrow(answer.reader())
    members = []
    for name, kind in zip(relation.columns, map(str, relation.types), strict=True):
        value = identifier(name)
        if kind in ("FLOAT", "DOUBLE"):
            text = f"to_json(CAST({value} AS VARCHAR))"
            value = f"CASE WHEN isfinite({value}) THEN to_json({value}) ELSE {text} END"
        members.append(f"{literal(name)}: {value}")
    found = relation.project(f"CAST(to_json({{{', '.join(members)}}}) AS VARCHAR) AS j").to_arrow_reader(
        10_000
    )
    for batch in found:
        yield from batch.column(0).cast(pa.binary()).to_pylist()


def _arrow(answer: Answer, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:  # noqa: ARG001
    reader = answer.reader()
    with pa.ipc.new_stream(out, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


_NOT_IN_PARQUET = ("HUGEINT", "UHUGEINT", "BIGNUM", "BIT", "INTERVAL", "TIME WITH TIME ZONE")
"""What Parquet as DuckDB writes it would hold with less precision: these become text."""


def _parquet(answer: Answer, out: IO[bytes], connection: duckdb.DuckDBPyConnection) -> None:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "answer.parquet"
        with formatter(writes=path) as writer:
            relation = writer.from_arrow(answer.reader())
            columns = [
                f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}"
                if kind in _NOT_IN_PARQUET
                else identifier(name)
                for name, kind in zip(relation.columns, map(str, relation.types), strict=True)
            ]
            relation.project(", ".join(columns)).to_parquet(str(path))
        with path.open("rb") as file:
            shutil.copyfileobj(file, out)


def _is_number(kind: pa.DataType) -> bool:
    tests: Sequence[Callable[[pa.DataType], bool]] = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal128,
    )
    return any(test(kind) for test in tests)
