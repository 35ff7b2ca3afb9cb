"""The README's first command, as a stranger would run it: an empty environment, no server, no root."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a virtual environment with nothing but this package, installed from a wheel."""
    directory = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(directory, with_pip=True)
    scripts = directory / ("Scripts" if sys.platform == "win32" else "bin")
    command: list[str | Path] = [
        scripts / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*command, ".[embedded]"], cwd=ROOT, check=True)
    return scripts


def test_the_readmes_first_command_ends_with_source_and_target_equal(installed: Path, tmp_path: Path) -> None:
    environment = {
        "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    shown = subprocess.run(
        [installed / "cdc", "demo"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Conflicting" in shown.stdout  # the writer held its lock
    assert "main.trades: equal" in shown.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_the_installed_command_says_what_to_do_without_a_configuration(
    installed: Path, tmp_path: Path
) -> None:
    shown = subprocess.run(
        [installed / "cdc", "run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 3
    assert shown.stderr.startswith("cdc: cannot read")
    assert "Traceback" not in shown.stderr
