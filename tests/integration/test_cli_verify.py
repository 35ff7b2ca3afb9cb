"""`cdc verify`, its --repair and `cdc schema` on a file that its writer holds, against every target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.app.wiring import plans_of
from cdc.config import load
from cdc.errors import ConfigError, ExitCode, LeaseHeld, TargetError
from cdc.failed_row import failed_row
from cdc.source import open_source
from cdc.state import Lease, open_store
from cdc.stored import Decision
from cdc.watermark import bind
from tests.support.commands import Commands, commands
from tests.support.duckdb_values import VALUES
from tests.support.places import Place
from tests.support.sources import LIMITS
from tests.support.writers import Writer

TABLES = '[defaults]\nwatermark = "seq"\n'
ROWS = 3000

OK, DIFFERENT = ExitCode.OK.value, ExitCode.DIFFERENT.value


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A process that holds the file's lock, with a table of trades in it."""
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run(
            "CREATE TABLE trades (id UUID PRIMARY KEY, seq BIGINT NOT NULL, price DECIMAL(18,6), "
            "ts TIMESTAMP_NS, symbol VARCHAR)"
        )
        writer.run(
            "INSERT INTO trades SELECT md5(n::VARCHAR)::UUID, n, n / 1000, "
            f"make_timestamp_ns(1700000000000000000 + n), 'SYM' || n % 7 FROM range({ROWS}) AS r(n)"
        )
        yield writer


@pytest.fixture
def cdc(tmp_path: Path, any_place: Place, writer: Writer) -> Commands:
    return commands(tmp_path, any_place, tables=TABLES)


def filled(cdc: Commands) -> Commands:
    assert cdc("schema", "apply", "--yes").exit_code == OK
    assert cdc("verify", "--repair").exit_code == OK
    return cdc


def overwritten(cdc: Commands, seq: int, **values: str) -> None:
    """Insert the row of `seq` once more, of the same version, with other values: the target is then wrong."""
    table = f"{cdc.place.database}.trades"
    names = ("id", "seq", "price", "ts", "symbol", "_cdc_version", "_cdc_deleted")
    chosen = ", ".join(values.get(name, name) for name in names)
    listed = ", ".join(names)
    cdc.place.query(f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {table} FINAL WHERE seq = {seq}")


def test_a_repair_fills_an_empty_table_and_then_both_are_equal(cdc: Commands) -> None:  # [F7]
    assert cdc("schema", "apply", "--yes").exit_code == OK
    before = cdc("verify", "--ranges", "4")
    assert before.exit_code == DIFFERENT
    assert f"{ROWS:,} missing in the target" in before.stdout
    repaired = cdc.document("verify", "--repair", "--ranges", "4")
    assert repaired["tables"][0]["repaired"] == {"sent": ROWS, "deleted": 0, "rejected": 0}
    after = cdc("verify", "--ranges", "4")
    assert (after.exit_code, after.stdout.count("equal")) == (OK, 1)
    assert cdc.document("verify")["tables"][0]["target_rows"] == ROWS


def test_each_wrong_row_is_named_and_a_repair_delivers_these_alone(cdc: Commands) -> None:
    filled(cdc)
    overwritten(cdc, 10, price="toDecimal64(1, 6)")
    overwritten(cdc, 2000, _cdc_deleted="1")
    result = cdc.document("verify", "--ranges", "5")["tables"][0]
    assert (result["missing"], result["different"], result["extra"]) == (1, 1, 0)
    columns = {each["kind"]: each["columns"] for each in result["examples"]}
    assert columns == {"missing": [], "different": ["price"]}
    assert len(result["differing_ranges"]) == 2
    repaired = cdc.document("verify", "--repair")["tables"][0]
    assert repaired["repaired"] == {"sent": 2, "deleted": 0, "rejected": 0}
    assert cdc("verify").exit_code == OK


def test_rows_pruned_in_the_source_stay_in_the_target_and_are_no_difference(
    cdc: Commands, writer: Writer
) -> None:
    filled(cdc)
    writer.run("DELETE FROM trades WHERE seq < 100")
    result = cdc("verify")
    assert result.exit_code == OK
    assert "100 pruned in the source" in result.stdout
    assert cdc("verify", "--repair").exit_code == OK
    assert cdc.place.rows("trades_current") == ROWS


def test_with_deletes_replicated_a_repair_marks_them_deleted(
    tmp_path: Path, any_place: Place, writer: Writer
) -> None:
    cdc = filled(commands(tmp_path, any_place, tables=TABLES, sync='deletes = "replicate"'))
    writer.run("DELETE FROM trades WHERE seq < 100")
    writer.run("UPDATE trades SET seq = 5000 WHERE seq = 200")  # moves to another range, and is not gone
    assert cdc("verify", "--ranges", "3").exit_code == DIFFERENT
    repaired = cdc.document("verify", "--repair", "--ranges", "3")["tables"][0]
    assert repaired["repaired"] == {"sent": 1, "deleted": 100, "rejected": 0}
    assert repaired["after_repair"]["equal"]
    assert cdc.place.rows("trades_current") == ROWS - 100


def test_a_repair_is_refused_while_a_replicator_runs_unless_forced(cdc: Commands, tmp_path: Path) -> None:
    cdc("schema", "apply", "--yes")
    with open_source(tmp_path / "t.duckdb") as source:
        identity = source.identity
    with Lease(load(cdc.config, {}).state.directory, identity):
        refused = cdc("verify", "--repair", "--wait", "0")
        assert refused.exit_code == ExitCode.HELD.value
        assert "--force" in refused.stderr
        assert cdc.place.rows("trades") == 0
        assert cdc("verify", "--repair", "--force", "--wait", "0").exit_code == OK
    assert cdc.place.rows("trades") == ROWS
    assert LeaseHeld.exit_code is ExitCode.HELD


def test_rows_that_a_repair_brought_are_no_failed_rows_any_more(cdc: Commands, tmp_path: Path) -> None:
    """[issue 12]"""
    cdc("schema", "apply", "--yes")
    with open_source(tmp_path / "t.duckdb") as source:
        identity = source.identity
        (plan,) = plans_of(load(cdc.config, {}), source).plans
        row = next(iter(source.open(plan).read(None, LIMITS)))
    directory = load(cdc.config, {}).state.directory
    with Lease(directory, identity) as lease, open_store(directory) as store:
        marks = bind(store, identity, lease)
        marks.describe(plan)
        marks.commit(Decision(plan.table, None, 0, 0, None, "v", (failed_row(row, 7, "it was refused"),)))
    assert len(cdc.document("failed", "list")) == 1
    assert cdc("verify", "--repair", "--wait", "0").exit_code == OK
    assert cdc.document("failed", "list") == []


def test_a_missing_table_is_an_error_that_names_the_command(cdc: Commands) -> None:
    result = cdc("verify")
    assert result.exit_code == ExitCode.TARGET.value
    assert "missing" in result.stderr
    assert "cdc schema" in result.stderr
    assert cdc.document("verify")["equal"] is False


def test_one_table_that_cannot_be_compared_does_not_hide_the_others(cdc: Commands, writer: Writer) -> None:
    writer.run("CREATE TABLE second (id INTEGER PRIMARY KEY, seq BIGINT)")
    writer.run("INSERT INTO second VALUES (1, 1)")
    assert cdc("schema", "apply", "second", "--yes").exit_code == OK
    found = cdc.document("verify")
    assert [each["table"] for each in found["tables"]] == ["main.second", "main.trades"]
    assert (found["tables"][0]["missing"], "error" in found["tables"][1]) == (1, True)


def test_every_type_compares_equal_once_it_is_delivered(
    tmp_path: Path, any_place: Place, writer: Writer
) -> None:  # [F7]
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(VALUES))
    writer.run(f"CREATE TABLE kinds (id INTEGER PRIMARY KEY, seq INTEGER, {columns})")
    longest = max(map(len, VALUES.values()))
    for row in range(longest + 1):  # the last of them has NULL in most columns
        values = ", ".join(each[row] if row < len(each) else "NULL" for each in VALUES.values())
        writer.run(f"INSERT INTO kinds VALUES ({row}, {row % 3}, {values})")
    cdc = commands(tmp_path, any_place, tables='[[tables]]\nname = "kinds"\nwatermark = "seq"\n')
    assert cdc("schema", "apply", "--yes").exit_code == OK
    repaired = cdc.document("verify", "--repair", "--ranges", "3")["tables"][0]
    assert repaired["repaired"] == {"sent": longest + 1, "deleted": 0, "rejected": 0}
    assert repaired["after_repair"]["equal"], repaired["after_repair"]["examples"]


def test_the_schema_is_shown_compared_and_applied(cdc: Commands) -> None:  # [R10]
    shown = cdc("schema", "show")
    assert (shown.exit_code, shown.stdout.count("CREATE TABLE")) == (OK, 1)
    differs = cdc("schema", "diff")
    assert differs.exit_code == DIFFERENT
    assert "trades` is missing" in differs.stdout
    assert "cdc schema apply" in differs.stdout
    planned = cdc.document("schema", "apply", "--dry-run")["tables"][0]["statements"]
    assert cdc("schema", "diff").exit_code == DIFFERENT
    assert cdc.document("schema", "apply", "--yes")["tables"][0]["statements"] == planned
    assert cdc("schema", "diff").exit_code == OK
    assert cdc.document("schema", "diff") == {
        "database": cdc.place.database,
        "equal": True,
        "tables": [{"table": "main.trades", "differences": []}],
    }
    assert "as needed already" in cdc("schema", "apply").stdout  # with nothing to do it asks nobody


def test_a_column_added_to_the_source_is_a_difference_that_apply_mends(
    cdc: Commands, writer: Writer
) -> None:  # [R10]
    filled(cdc)
    writer.run("ALTER TABLE trades ADD COLUMN note VARCHAR")
    found = cdc.document("schema", "diff")["tables"][0]["differences"]
    assert [(each["kind"], each["blocks"]) for each in found] == [
        ("missing column", True),
        ("other view", False),
    ]
    assert cdc("schema", "apply", "--yes").exit_code == OK
    assert cdc("verify").exit_code == OK


def test_apply_asks_and_does_nothing_without_an_answer(cdc: Commands) -> None:
    asked = cdc("schema", "apply")
    assert asked.exit_code == ExitCode.USAGE.value
    assert "--yes" in asked.stderr
    assert cdc("schema", "diff").exit_code == DIFFERENT


def test_what_apply_cannot_mend_is_refused_with_the_reason(cdc: Commands) -> None:
    cdc.place.query(f"CREATE TABLE {cdc.place.database}.trades (id String) ENGINE = Memory")
    found = cdc("schema", "diff")
    assert (found.exit_code, "not mended" in found.stdout) == (DIFFERENT, True)
    assert isinstance(cdc("schema", "apply", "--yes").exception, TargetError)


def test_grants_are_printed_for_one_user(cdc: Commands) -> None:  # [S4]
    printed = cdc("schema", "grants", "o'brien`").stdout
    assert printed == f"GRANT INSERT ON `{cdc.place.database}`.`trades` TO `o'brien\\``;\n"
    reading = cdc("schema", "grants", "trade", "--select").stdout
    assert reading == f"GRANT INSERT, SELECT ON `{cdc.place.database}`.`trades` TO `trade`;\n"


def test_a_table_that_is_not_replicated_is_refused(cdc: Commands) -> None:
    assert isinstance(cdc("schema", "show", "nosuch").exception, ConfigError)
    assert isinstance(cdc("verify", "nosuch").exception, ConfigError)
