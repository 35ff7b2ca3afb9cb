"""An installation to break, shared by the tests of a module: its target, its proxy, what runs of it.

A module that needs it otherwise overrides `target`, `rig_options` or `rig`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.modern.fixture import ModernServer
from tests.support.proxy import Proxy

Target = ClickHouseServer | ModernServer


@pytest.fixture(scope="module")
def target(_clickhouse: ClickHouseServer) -> Target:
    """The server that an installation sends to."""
    return _clickhouse


@pytest.fixture(scope="module")
def proxy(target: Target) -> Iterator[Proxy]:
    """A network before the target, for `through` of `rig_options`."""
    with Proxy(target.native_port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def rig_directory(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])


@pytest.fixture(scope="module")
def rig_options() -> dict[str, Any]:
    """What the module's installation is given besides its directory and target."""
    return {}


@pytest.fixture(scope="module")
def written_rig(target: Target, rig_directory: Path, rig_options: dict[str, Any]) -> Iterator[Rig]:
    """The writer works, nothing replicates."""
    target.ensure()
    url = f"clickhouse://127.0.0.1:{target.native_port}"
    with Rig(rig_directory, url, target.query, **rig_options) as rig:
        rig.write()
        yield rig


@pytest.fixture(scope="module")
def _running_rig(written_rig: Rig) -> Rig:
    written_rig.replicate()
    return written_rig


@pytest.fixture
def rig(_running_rig: Rig, target: Target) -> Rig:
    """Everything runs and is caught up."""
    target.ensure()
    _running_rig.calm()
    return _running_rig
