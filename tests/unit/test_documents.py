"""The documents in `docs/` say what is so: each claim that can be compared with the tree or the code is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.documents import DOCUMENTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = [path for folder in ("cdc", "tests", "tools") for path in (ROOT / folder).rglob("*.py")]


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    described = re.findall(r"^\| `(cdc[\w/]*)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    packages = sorted(str(init.parent.relative_to(ROOT)) for init in (ROOT / "cdc").rglob("__init__.py"))
    assert described == packages


def test_every_requirement_that_is_cited_is_in_the_list() -> None:
    listed = set(re.findall(r"^\| ([A-Z]\d+) \|", (DOCS / "requirements.md").read_text(), re.MULTILINE))
    cited = {
        id_
        for path in CODE
        for group in re.findall(r"\[((?:[A-Z]\d+)(?:, [A-Z]\d+)*)(?: issue \d+)?\]", path.read_text())
        for id_ in group.split(", ")
    }
    assert cited, "none was found: the pattern is wrong"
    assert cited <= listed


def test_each_word_of_the_glossary_stands_once_and_in_order() -> None:
    words = re.findall(r"^\| ([\w ]+) \| ", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    words.remove("word")
    assert words == sorted(set(words), key=str.lower)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_made_from_the_code_is_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == DOCUMENTS[name](), "run: python -m tools.documents"
