"""What only the embedded engine can do wrong: not be installed, or be held by another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cdc.config.endpoint import parse_endpoint
from cdc.errors import Meaning, TargetError
from cdc.target import TargetOptions, open_target
from cdc.target.transport import new_transport
from cdc.target.transport.frames import Buffer
from tests.support.places import Place


class Garbage:
    """Megabytes that are not a block."""

    def body(self, revision: int) -> list[Buffer]:
        return [np.full(8 << 20, 0x6B, np.uint8)]


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "chdb.state", None)
    target = open_target([parse_endpoint(f"chdb://{tmp_path}")], TargetOptions())
    with target, pytest.raises(TargetError) as missing:
        target.ping()
    assert missing.value.meaning is Meaning.STOP
    assert "pip install 'duckdb-clickhouse-cdc[embedded]'" in missing.value.remedy


@pytest.mark.parametrize("any_place", ["embedded"], indirect=True)
def test_another_directory_in_the_same_process_is_refused_with_the_reason(
    any_place: Place, tmp_path: Path
) -> None:
    target = open_target([parse_endpoint(f"chdb://{tmp_path}")], TargetOptions())
    with target, pytest.raises(TargetError, match="another directory in this process"):
        target.ping()


@pytest.mark.parametrize("any_place", ["embedded"], indirect=True)
def test_a_directory_that_another_process_holds_is_refused_with_the_reason(any_place: Place) -> None:
    program = (
        "import sys\n"
        "from cdc.config.endpoint import parse_endpoint\n"
        "from cdc.target import TargetOptions, open_target\n"
        "from cdc.errors import TargetError\n"
        "try:\n"
        "    open_target([parse_endpoint(sys.argv[1])], TargetOptions()).ping()\n"
        "except TargetError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(any_place.endpoint)], capture_output=True, text=True, timeout=60
    )
    assert "another process" in done.stdout
    assert "stop the other program" in done.stdout


@pytest.mark.parametrize("any_place", ["embedded"], indirect=True)
@pytest.mark.parametrize("table", ["there", "nowhere"])
def test_what_the_engine_does_not_read_does_not_keep_the_insert_waiting(any_place: Place, table: str) -> None:
    any_place.query(f"CREATE TABLE {any_place.database}.there (x UInt8) ENGINE = Log")
    transport = new_transport(any_place.endpoint, any_place.options(), any_place.database)
    with pytest.raises(TargetError):
        transport.insert(f"INSERT INTO {table} (x)", Garbage(), {})
    transport.execute("INSERT INTO there SELECT 1")
    transport.close()
    assert any_place.rows("there") == 1


@pytest.mark.parametrize("any_place", ["embedded"], indirect=True)
def test_a_decimal_of_more_digits_than_duckdb_has_is_read_as_text(any_place: Place) -> None:
    with any_place.target() as target, target.query("SELECT toDecimal256('1.5', 5) AS v") as reader:
        assert [value for batch in reader for value in batch.column(0).to_pylist()] == ["1.5"]
