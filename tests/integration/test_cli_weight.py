"""Commands that a person or a script waits for start without DuckDB, Arrow and NumPy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import sys
from cdc.cli import main
try:
    main()
except SystemExit:
    pass
print(sorted({"clickhouse_driver", "duckdb", "numpy", "pyarrow"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", ["--help", "run --help", "ctl status", "status", "supervise", "service print", "failed list"]
)
def test_it_starts_without_what_it_does_not_need(tmp_path: Path, arguments: str) -> None:
    config = tmp_path / "cdc.toml"
    config.write_text('[database]\npath = "x"\n[sync]\nclickhouse_endpoint = "http://a"\n')
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "--config", str(config), *arguments.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]"
