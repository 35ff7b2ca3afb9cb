"""Every DuckDB type as `cdc query` and `cdc failed` show it: as DuckDB itself writes it. [issue 12]"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from cdc.change import Batch, Column, Position, TableId, TablePlan
from cdc.cli import build_app
from cdc.cli.answer import Answer, show_table, write
from cdc.cli.form import Format
from cdc.comparison import formatter
from cdc.failed_row import failed_row
from cdc.source.quote import identifier
from cdc.state import Lease, open_store
from cdc.stored import Decision
from cdc.text import texts
from cdc.watermark import bind
from tests.support.duckdb_values import VALUES, duckdb_source, selected

pytestmark = pytest.mark.long


AS_A_STRUCTURE = {
    "(1, x)": "{'element1': 1, 'element2': x}",
    "(NULL, NULL)": "{'element1': NULL, 'element2': NULL}",
}
"""Arrow has no tuples."""
BARE = ("FLOAT", "DOUBLE", "DECIMAL(38,38)")
"""Numbers that stand bare in CSV, as Arrow writes them."""


def written(
    connection: duckdb.DuckDBPyConnection, sql: str = "SELECT CAST(v AS VARCHAR) FROM edge"
) -> list[str]:
    """The values as DuckDB writes them."""
    return [AS_A_STRUCTURE.get(text, text) for (text,) in connection.execute(sql).fetchall()]


def run(directory: Path, *arguments: str) -> Result:
    config = directory / "c.toml"
    config.write_text(
        f'[database]\npath = "{(directory / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'
    )
    env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""}
    result = CliRunner().invoke(build_app(), ["-c", str(config), *arguments], env=env)
    assert result.exit_code == 0, (result.exception, result.stderr)
    return result


def one_of_each(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Make a table `each` with a column of each type, named after it, and a value in it; type → its text."""
    columns = ", ".join(f"{identifier(kind)} {kind}" for kind in VALUES)
    connection.execute(f"CREATE TABLE each (seq BIGINT, {columns})").fetchall()
    values = ", ".join(list[0] for list in VALUES.values())
    connection.execute(f"INSERT INTO each VALUES (1, {values})").fetchall()
    texts = ", ".join(f"CAST({identifier(kind)} AS VARCHAR)" for kind in VALUES)
    (found,) = connection.execute(f"SELECT {texts} FROM each").fetchall()
    return {kind: AS_A_STRUCTURE.get(text, text) for kind, text in zip(VALUES, found, strict=True)}


def test_a_failed_row_is_shown_with_its_types_and_values_as_duckdb_writes_them(tmp_path: Path) -> None:
    with duckdb_source() as connection:
        expected = one_of_each(connection)
        rows = connection.sql("SELECT * FROM each").to_arrow_table().to_batches()[0]
    columns = (Column("seq", "BIGINT"), *(Column(kind, kind) for kind in VALUES))
    plan = TablePlan(TableId("main", "each"), "each", columns, ("HUGEINT",), columns[0])
    batch = Batch(plan, rows, pa.array([1], pa.uint64()), None, Position(1, 1, 1), 0.0)
    state = tmp_path / "t.duckdb.cdc"
    with Lease(state, "0f") as lease, open_store(state) as store:
        marks = bind(store, "0f", lease)
        marks.describe(plan)
        marks.commit(Decision(plan.table, None, 0, 0, None, "v", (failed_row(batch, 0, "no"),)))
    (listed,) = json.loads(run(tmp_path, "failed", "list", "--json").stdout)
    assert listed["key"] == ["-170141183460469231731687303715884105728"]
    shown = json.loads(run(tmp_path, "failed", "show", "1", "--json").stdout)["columns"]
    assert {each["name"]: each["value"] for each in shown} == {"seq": "1"} | expected
    assert {each["name"]: each["type"] for each in shown}["HUGEINT"] == "HUGEINT"
    assert not [each for each in shown if "extension" in each["type"]]
    assert expected["HUGEINT"] in run(tmp_path, "failed", "show", "1").stdout


def test_a_query_shows_each_type_as_duckdb_writes_it(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        expected = one_of_each(connection)
    shown = run(tmp_path, "query", "SELECT * FROM each", "--format", "csv").stdout
    (row,) = csv.DictReader(io.StringIO(shown))
    assert {kind: row[kind] for kind in VALUES if kind not in BARE} == {
        kind: text for kind, text in expected.items() if kind not in BARE
    }
    assert run(tmp_path, "query", "SELECT * FROM each", "--format", "table").stdout.endswith("1 row\n")


@pytest.mark.parametrize("kind", VALUES)
def test_an_answer_of_every_type_leaves_in_every_form(kind: str) -> None:
    with duckdb_source() as connection, formatter() as writer, Answer() as answer:
        selected(connection, kind, VALUES[kind], nullable=False)
        expected = written(connection)
        answer.collect(connection.sql("SELECT v FROM edge").to_arrow_reader(), None)
        out = io.StringIO()
        show_table(answer, writer, Console(file=out, width=4000))
        for line, value in zip(out.getvalue().splitlines()[1:-1], expected, strict=True):
            if len(value) <= 200 and value.isprintable():
                assert line.strip() == value
        for form in Format:
            if form is not Format.TABLE:
                file = io.BytesIO()
                write(answer, form, file, writer)
                assert file.getvalue()


KEYS = (
    "BOOLEAN",
    "HUGEINT",
    "UHUGEINT",
    "BIGNUM",
    "BIT",
    "UUID",
    "TIME WITH TIME ZONE",
    "HUGEINT[]",
    "BIT[]",
)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_stands_as_text_as_duckdb_writes_it(kind: str) -> None:
    with duckdb_source() as connection:
        _, array = selected(connection, kind, VALUES[kind], nullable=False)
        expected = [text.replace("NULL", "null").replace(", ", ",") for text in written(connection)]
    assert texts(array) == expected
