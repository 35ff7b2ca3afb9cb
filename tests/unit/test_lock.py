"""What CI and the README's test command install is one set of versions, known by their hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRIES = re.findall(r"(?m)^(\S+==.*?)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", LOCK)
"""Requirement and hashes of each package."""


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


def locked() -> dict[str, str]:
    """The version of each package that is installed here."""
    versions: dict[str, str] = {}
    for text, _ in ENTRIES:
        requirement = Requirement(text)
        if applies(requirement):
            [specifier] = requirement.specifier
            versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


def test_every_dependency_is_locked_at_a_version_that_the_project_allows() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(text) for text in (*PROJECT["dependencies"], *extras["embedded"], *extras["dev"])]
    versions = locked()
    wrong = {
        str(requirement): versions.get(canonicalize_name(requirement.name))
        for requirement in wanted
        if applies(requirement)
        and not requirement.specifier.contains(
            versions.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
    }
    assert wrong == {}, "run tools/lock.sh"
    assert len(versions) > len(wanted)


def test_every_locked_package_has_hashes_and_nothing_else_is_in_the_lock() -> None:
    assert [text for text, hashes in ENTRIES if not hashes] == []
    rest = [
        line for line in LOCK.splitlines() if not re.match(r"(#|    --hash=sha256:[0-9a-f]{64}|\S+==)", line)
    ]
    assert rest == []


def test_the_lock_names_no_server() -> None:
    """Where packages come from is for each machine's pip to know."""
    assert "://" not in LOCK
    assert "--index" not in LOCK
