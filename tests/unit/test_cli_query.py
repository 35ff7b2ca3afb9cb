"""`cdc query`: forms of an answer, what is refused, where a statement is wrong, and what a file becomes."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from cdc.cli import build_app
from cdc.cli.answer import Answer, show_table, shown
from cdc.cli.form import Format
from cdc.cli.query import TRIES, _collect, _deliver
from cdc.cli.statement import on_current_rows
from cdc.comparison import formatter
from cdc.errors import CdcError, SnapshotSuperseded, SourceError

pytestmark = pytest.mark.long


Run = Callable[..., Result]

TRADES = """
CREATE TABLE trades (id UUID PRIMARY KEY, seq BIGINT NOT NULL, price DECIMAL(38,10), ts TIMESTAMP_NS,
                     note VARCHAR, big HUGEINT, x DOUBLE);
INSERT INTO trades VALUES
    ('00112233-4455-6677-8899-aabbccddeeff', 1, '1234567890123456789012345678.9012345678',
     '2024-01-02 03:04:05.123456789', 'é "quoted", [red]', '170141183460469231731687303715884105727', 'nan'),
    ('ffffffff-0000-0000-0000-000000000000', 2, NULL, NULL, '', NULL, '-0')
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `cdc query` on a file with two trades."""
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(TRADES).fetchall()
    config = tmp_path / "c.toml"
    config.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'
    )

    def run(*arguments: str, input: str | None = None) -> Result:
        env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""}
        return CliRunner().invoke(build_app(), ["-c", str(config), "query", *arguments], input=input, env=env)

    return run


def test_csv_keeps_every_digit_and_tells_null_from_the_empty_text(run: Run) -> None:
    result = run("SELECT * FROM trades ORDER BY seq")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        '"id","seq","price","ts","note","big","x"',
        '"00112233-4455-6677-8899-aabbccddeeff",1,1234567890123456789012345678.9012345678,'
        '"2024-01-02 03:04:05.123456789","é ""quoted"", [red]",'
        '"170141183460469231731687303715884105727",nan',
        '"ffffffff-0000-0000-0000-000000000000",2,,,"",,-0',
    ]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_valid_and_keeps_every_digit(run: Run, form: str) -> None:
    text = run("SELECT * FROM trades ORDER BY seq", "--format", form).stdout
    rows = (
        json.loads(text, parse_float=str)
        if form == "json"
        else [json.loads(line, parse_float=str) for line in text.splitlines()]
    )
    assert rows[0] == {
        "id": "00112233-4455-6677-8899-aabbccddeeff",
        "seq": 1,
        "price": "1234567890123456789012345678.9012345678",
        "ts": "2024-01-02 03:04:05.123456789",
        "note": 'é "quoted", [red]',
        "big": 170141183460469231731687303715884105727,
        "x": "nan",
    }
    assert [rows[1][name] for name in ("price", "note")] == [None, ""]


def test_json_of_no_rows_is_an_empty_array(run: Run) -> None:
    assert json.loads(run("FROM trades WHERE false", "-f", "json").stdout) == []


def test_arrow_is_a_stream_of_the_very_types(run: Run) -> None:
    result = run("SELECT id, ts, big FROM trades ORDER BY seq", "-f", "arrow")
    table = pa.ipc.open_stream(result.stdout_bytes).read_all()
    assert [str(kind) for kind in table.schema.types[:2]] == ["extension<arrow.uuid>", "timestamp[ns]"]
    assert table.column("ts").cast(pa.int64()).to_pylist() == [1704164645123456789, None]


def test_parquet_holds_wide_integers_as_text_and_nanoseconds_as_they_are(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert run("SELECT ts, big, price FROM trades ORDER BY seq", "-o", str(out)).exit_code == 0
    table = pq.read_table(out)
    assert table.column("big").to_pylist() == ["170141183460469231731687303715884105727", None]
    assert table.column("ts").cast(pa.int64()).to_pylist()[0] == 1704164645123456789
    assert str(table.column("price").to_pylist()[0]) == "1234567890123456789012345678.9012345678"


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a.json", b"["), ("a.jsonl", b'{"one":1}'), ("a.csv", b'"one"'), ("a.dat", b'"one"')],
)
def test_the_form_follows_the_name_of_the_output(run: Run, tmp_path: Path, name: str, begins: bytes) -> None:
    assert run("SELECT 1 AS one", "--output", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_table_shows_null_types_and_numbers_at_the_right(run: Run, tmp_path: Path) -> None:
    plain = run("SELECT seq, note, price FROM trades ORDER BY seq", "-f", "table").stdout.splitlines()
    assert plain[0].split() == ["seq", "note", "price"]
    assert plain[2].endswith("NULL")
    assert plain[-1] == "2 rows"


def test_a_terminal_sees_types_and_no_escape_of_the_data(run: Run) -> None:
    text = io.StringIO()
    with Answer() as answer, formatter() as connection:
        batch = pa.table({"a": ["\x1b[31mred", None, "[bold]x[/bold]"], "n": [1, 2, 3]})
        answer.collect(batch.to_reader(), None)
        show_table(answer, connection, Console(file=text, force_terminal=True, width=80, color_system=None))
    drawn = text.getvalue()
    assert "VARCHAR" in drawn
    assert "BIGINT" in drawn
    assert r"\x1b[31mred" in drawn
    assert "[bold]x[/bold]" in drawn
    assert "NULL" in drawn


def test_a_table_is_limited_and_says_that_there_is_more(run: Run) -> None:
    result = run("SELECT * FROM range(1000)", "-f", "table")
    assert result.stdout.splitlines()[-1] == "100 rows; there are more, see --limit"
    assert len(run("SELECT * FROM range(1000)").stdout.splitlines()) == 1001
    assert len(run("SELECT * FROM range(1000)", "--limit", "7").stdout.splitlines()) == 8
    assert run("SELECT * FROM range(5)", "-f", "table", "--limit", "5").stdout.splitlines()[-1] == "5 rows"


def test_tables_are_listed_with_columns_and_keys(run: Run) -> None:
    rows = json.loads(run("--tables", "-f", "json").stdout)
    assert rows[0] == {"table": "main.trades", "column": "id", "type": "UUID", "nullable": False, "key": 1}
    assert [row["column"] for row in rows] == ["id", "seq", "price", "ts", "note", "big", "x"]
    assert rows[2] == {
        "table": "main.trades",
        "column": "price",
        "type": "DECIMAL(38,10)",
        "nullable": True,
        "key": None,
    }


def test_a_statement_is_read_from_the_input(run: Run) -> None:
    assert run("-", input="SELECT count(*) AS n FROM trades;\n").stdout.splitlines() == ['"n"', "2"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT 1 form x WHERE", 'syntax error at or near "x" (line 1, column 15)'),
        (
            "SELECT seq\nFROM trades\nWHERE nosuch = 1",
            "(line 3, column 7)",
        ),
        ("SELECT *\nFROM nosuch", "Table with name nosuch does not exist"),
        ("SELECT 1,\n\n  nosuch(1)", "(line 3, column 3)"),
        ("SELECT CAST(note AS INTEGER) FROM trades", "Could not convert string"),
    ],
)
def test_a_wrong_statement_is_one_line_that_says_where(run: Run, sql: str, said: str) -> None:
    error = run(sql).exception
    assert isinstance(error, SourceError)
    assert said in str(error)
    assert "\n" not in str(error)


def test_the_place_in_a_long_line_is_that_of_the_statement(run: Run) -> None:
    sql = f"SELECT {', '.join(f'{n} AS c{n}' for n in range(50))}, seq, nosuch(seq) FROM trades"
    error = run(sql).exception
    assert f"column {sql.index('nosuch') + 1})" in str(error)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM trades",
        "CREATE TABLE x (a INTEGER)",
        "COPY trades TO 'x.csv'",
        "ATTACH 'x.duckdb'",
        "SET threads = 1",
        "INSTALL httpfs",
        "EXPLAIN ANALYZE COPY trades TO 'x.csv'",
        "EXPLAIN ANALYZE DELETE FROM trades",
        "WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT 1",
        "SELECT (WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT 1)",
        "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT 1",
        "WITH x AS (INSERT INTO trades BY NAME (SELECT 1 AS seq) RETURNING seq) FROM x",
        "WITH x AS (DELETE FROM trades RETURNING seq) FROM x",
        "WITH x AS (UPDATE trades SET seq = 1 RETURNING seq) FROM x",
        "SELECT 1; DELETE FROM trades",
        "",
        ";",
    ],
)
def test_what_does_not_only_read_is_refused(run: Run, sql: str) -> None:
    error = run(sql).exception
    assert isinstance(error, SourceError)
    assert "Write one SELECT" in error.remedy


@pytest.mark.parametrize(
    "sql",
    [
        "FROM trades",
        "VALUES (1)",
        "DESCRIBE trades",
        "SHOW TABLES",
        "SUMMARIZE trades",
        "EXPLAIN FROM trades",
    ],
)
def test_whatever_only_reads_is_answered(run: Run, sql: str) -> None:
    result = run(sql, "-f", "table")
    assert result.exit_code == 0, result.output
    assert result.stdout


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT content FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{file}')",
        "SELECT * FROM query('FROM read_text(''{file}'')')",
        "SELECT * FROM enable_logging('QueryLog', storage_path => '{file}')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{file}'')'))",
    ],
)
def test_a_query_reaches_no_file(run: Run, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\nTOPSECRET\n")
    result = run(sql.format(file=secret.as_posix()))
    assert isinstance(result.exception, SourceError)
    assert "TOPSECRET" not in result.output + str(result.exception)
    assert secret.read_text() == "a\nTOPSECRET\n"


@pytest.fixture
def hostile(tmp_path: Path) -> None:
    """The file's writer shadows what DuckDB brings along, and names a secret of the reader's."""
    (tmp_path / "secret.csv").write_text("TOPSECRET")
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        secret = f"(SELECT content FROM read_text('{(tmp_path / 'secret.csv').as_posix()}'))"
        connection.execute(
            'CREATE MACRO sum(x) AS 42; CREATE MACRO "+"(a, b) AS 99; CREATE MACRO twice(a) AS a * 2'
        )
        connection.execute("CREATE VIEW duckdb_tables AS SELECT 'mine' AS table_name")
        connection.execute('CREATE SCHEMA "a ""b\'"; CREATE TABLE "a ""b\'".u AS SELECT 7 AS x')
        connection.execute(f"CREATE MACRO leak() AS {secret}")


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("SELECT sum(seq)::BIGINT AS x FROM trades", "3"),
        ("SELECT 1 + 1 AS x", "2"),
        ("SELECT count(*) AS x FROM duckdb_tables WHERE table_name = 'mine'", "0"),
        ("SELECT twice(4) AS x", "8"),
        ("""SELECT x FROM "a ""b'".u""", "7"),
    ],
)
def test_nothing_in_the_file_stands_for_what_duckdb_brings_along(
    run: Run, hostile: None, sql: str, answer: str
) -> None:
    assert run(sql).stdout.splitlines() == ['"x"', answer]


def test_a_macro_of_the_file_that_reads_another_file_is_refused(run: Run, hostile: None) -> None:
    result = run("SELECT leak()")
    assert "file system operations are disabled" in str(result.exception)
    assert "TOPSECRET" not in result.output


def test_a_query_that_is_too_deep_is_one_error(run: Run) -> None:
    assert isinstance(run("SELECT " + "(" * 20_000 + "1" + ")" * 20_000).exception, SourceError)


def test_a_query_that_takes_too_long_is_ended(run: Run) -> None:
    error = run("SELECT count(*) FROM range(1000000000000)", "--timeout", "0.2").exception
    assert isinstance(error, SourceError)
    assert "did not end within 0.2 s" in str(error)


@pytest.mark.parametrize("arguments", [[], ["SELECT 1", "--tables"]])
def test_there_must_be_one_thing_to_ask(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_an_output_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    error = run("SELECT 1", "-o", str(tmp_path / "no" / "x.csv")).exception
    assert isinstance(error, CdcError)
    assert "No such file" in error.problem


def test_a_file_appears_whole_or_not_at_all(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_text("before")
    assert run("SELECT nosuch", "-o", str(out)).exception is not None
    assert out.read_text() == "before"
    run("SELECT 1 AS one", "-o", str(out))
    assert out.read_text() == '"one"\n1\n'
    assert sorted(path.name for path in tmp_path.glob("*x.csv*")) == ["x.csv"]


class Superseded:
    """A source whose first snapshots end in the middle of the answer."""

    path = Path("t.duckdb")

    def __init__(self, times: int) -> None:
        self.times = times

    def snapshot(self) -> Superseded:
        return self

    def __enter__(self) -> Superseded:
        return self

    def __exit__(self, *_: object) -> None: ...

    def query(self, sql: str) -> pa.RecordBatchReader:
        batch = pa.record_batch({"n": [1, 2]})

        def batches() -> Iterator[pa.RecordBatch]:
            yield batch
            if self.times:
                self.times -= 1
                raise SnapshotSuperseded("query", "t.duckdb", "a checkpoint came", "Resend")
            yield batch

        return pa.RecordBatchReader.from_batches(batch.schema, batches())


def test_an_answer_cut_by_a_checkpoint_is_asked_for_again_and_never_torn() -> None:
    with Answer() as answer:
        _collect(Superseded(3), "SELECT n", answer, None, None)  # type: ignore[arg-type]
        assert answer.reader().read_all().column("n").to_pylist() == [1, 2, 1, 2]
        assert answer.rows == 4


def test_a_query_no_snapshot_lasts_for_is_given_up() -> None:
    with Answer() as answer, pytest.raises(SourceError, match="superseded by a checkpoint") as gaveup:
        _collect(Superseded(TRIES), "SELECT n", answer, None, None)  # type: ignore[arg-type]
    assert "checkpoint_threshold" in gaveup.value.remedy


def test_a_large_answer_is_collected_outside_of_memory(tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array(range(1_000_000), pa.int64())})
    reader = pa.RecordBatchReader.from_batches(rows.schema, iter(rows.to_batches(10_000) * 6))
    with Answer() as answer:
        answer.collect(reader, None)
        assert answer.rows == 6_000_000
        assert sum(batch.num_rows for batch in answer.reader()) == 6_000_000
        assert answer._spool._rolled is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("a\nb", 10, "a\\x0ab"), ("abcdef", 4, "abc…"), ("é🦆", 10, "é🦆")],
)
def test_a_cell_is_one_line_within_its_width(text: str, width: int, expected: str) -> None:
    assert shown(text, width) == expected


def test_names_of_tables_with_a_view_of_current_rows_mean_that_view() -> None:
    sql = on_current_rows("SELECT * FROM trades JOIN my_orders", "d", ["trades_current", "orders_current"])
    assert sql == (
        "WITH `trades` AS (SELECT * FROM `d`.`trades_current`) SELECT * FROM (\n"
        "SELECT * FROM trades JOIN my_orders\n)"
    )
    assert on_current_rows("SELECT 1", "d", ["trades_current"]) == "SELECT 1"


def test_a_missing_file_is_an_error_without_a_fallback(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.duckdb").unlink()
    assert isinstance(run("SELECT 1").exception, SourceError)


def test_a_statement_that_is_wrong_is_not_asked_of_clickhouse(run: Run) -> None:
    result = run("SELECT nosuch FROM trades", "--fallback")
    assert isinstance(result.exception, SourceError)
    assert "nosuch" in str(result.exception)


def test_who_answered_is_said_where_there_may_be_two(run: Run) -> None:
    assert run("SELECT 1", "--fallback").stderr.endswith("t.duckdb answered\n")
    assert run("SELECT 1").stderr == ""


def test_duckdb_writes_values_as_text_the_same_for_both_sides() -> None:
    batch = pa.record_batch({"a": [datetime(2024, 1, 2, 3, 4, 5)], "b": [math.nan], "c": [[1, None]]})
    with formatter() as connection:
        from cdc.comparison import texts

        found = texts(connection, batch)
    assert [column[0].as_py() for column in found.columns] == ["2024-01-02 03:04:05", "nan", "[1, NULL]"]


class Terminal(io.StringIO):
    buffer = io.BytesIO()

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", [Format.CSV, Format.JSON, Format.JSONL])
def test_an_answer_on_a_terminal_steers_nothing_and_one_in_a_pipe_is_as_it_is(
    form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = pa.table({"a\u202e\x9b": ["\x1b]0;mine\x07\x9b\u202eé"]})
    with Answer() as answer:
        answer.collect(hostile.to_reader(), None)
        terminal = Terminal()
        monkeypatch.setattr("sys.stdout", terminal)
        _deliver(answer, form, None)
        pipe = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr("sys.stdout", pipe)
        _deliver(answer, form, None)
    assert not set("\x1b\x07\x9b\u202e") & set(terminal.getvalue())
    assert "é" in terminal.getvalue()
    assert "\u202eé".encode() in pipe.buffer.getvalue()


@pytest.mark.parametrize("form", [Format.ARROW, Format.PARQUET])
def test_bytes_of_a_file_format_are_not_written_to_a_terminal(
    form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    with Answer() as answer:
        answer.collect(pa.table({"a": [1]}).to_reader(), None)
        with pytest.raises(CdcError, match="Give --output FILE"):
            _deliver(answer, form, None)


def test_a_file_is_not_written_through_a_link_that_lies_in_wait(tmp_path: Path) -> None:
    (tmp_path / f".answer.csv.{os.getpid()}").symlink_to(tmp_path / "theirs")
    with Answer() as answer:
        answer.collect(pa.table({"a": [1]}).to_reader(), None)
        with pytest.raises(CdcError):
            _deliver(answer, Format.CSV, tmp_path / "answer.csv")
    assert not (tmp_path / "theirs").exists()
