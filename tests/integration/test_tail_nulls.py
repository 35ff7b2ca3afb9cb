"""A value that comes back from under a NULL: a writer of today logs of it only that it is NULL no more."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc.source import open_source
from tests.support.sources import deliver, plan_of
from tests.support.writers import VERSIONS, Writer

TYPES = {
    "INTEGER": ("7", "8"),
    "VARCHAR": ("'open'", "'a longer text than fits in twelve bytes'"),
    "DOUBLE": ("1.5", "-0.0"),
    "UUID": ("'0190a000-0000-7000-8000-000000000000'", "'00000000-0000-0000-0000-000000000000'"),
    "BOOLEAN": ("true", "false"),
    "TIMESTAMP": ("'2026-01-01'", "'2026-01-02'"),
    "DECIMAL(18,6)": ("1.5", "2.5"),
    "STRUCT(a INTEGER, b VARCHAR)": ("{'a': 1, 'b': NULL}", "{'a': NULL, 'b': 'x'}"),
}


NOTHING, ONE, OTHER = (
    ", ".join(f"c{n} = {value}" for n, value in enumerate(values))
    for values in (["NULL"] * len(TYPES), *zip(*TYPES.values(), strict=True))
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stored", [True, False], ids=["in the file", "in the log"])
def test_a_value_that_was_null_for_a_while_is_delivered_as_it_is(
    tmp_path: Path, version: str, stored: bool
) -> None:
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(TYPES))
    values = ", ".join(one for one, _ in TYPES.values())
    insert = f"INSERT INTO t SELECT i, i, {values} FROM range(4) r(i)"
    with Writer(tmp_path / "s.db", version) as writer, ExitStack() as stack:
        writer.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, {columns})")
        if stored:
            writer.run(insert)
        writer.run("CHECKPOINT")
        source = stack.enter_context(open_source(writer.path))
        plan = plan_of(source, "t")
        reader = source.open(plan)
        mark = deliver(reader, None).mark
        if not stored:
            writer.run(insert)
            mark = deliver(reader, mark).mark

        def check(ids: str, *updates: str) -> None:
            """The rows are updated in one transaction, and delivered as a snapshot has them."""
            for sql in ("BEGIN", *(f"UPDATE t SET {each} WHERE id IN ({ids})" for each in updates), "COMMIT"):
                writer.run(sql)
            wanted = [
                row for row in source.rows(plan, None, None).read_all().to_pylist() if str(row["id"]) in ids
            ]
            found = [row for batch in deliver(reader, mark).batches for row in batch.rows.to_pylist()]
            assert sorted(found, key=lambda row: int(row["id"])) == wanted

        for update in (NOTHING, ONE, NOTHING, OTHER, NOTHING, OTHER, NOTHING, ONE):
            check("1, 2", update)
        for update in (NOTHING, ONE):
            check("2, 3", update)
        check("1", NOTHING, OTHER, NOTHING)
        check("1", OTHER)
        check("1, 2, 3", NOTHING)
        check("1, 2, 3", ONE)
