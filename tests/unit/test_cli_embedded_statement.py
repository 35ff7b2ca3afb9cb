"""What is one SELECT to DuckDB is one SELECT to the embedded engine, or is refused. [L2, S4]"""

from __future__ import annotations

import pytest

from cdc.cli.embedded_statement import for_embedded_engine
from cdc.errors import SourceError


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("SELECT count(*) FROM t WHERE a LIKE 'x%'", "SELECT count(*) FROM t WHERE a LIKE 'x%'"),
        ("SELECT '\\' AS a, 'it''s'", "SELECT '\\\\' AS a, 'it\\'s'"),
        ('SELECT "odd`name" FROM "t"', "SELECT `odd\\`name` FROM `t`"),
        ("SELECT 1 -- ' one\n+ 1.5e3", "SELECT 1 \n+ 1.5e3"),
        ("SELECT x::INTEGER, [1, 2][1] FROM d.t", "SELECT x::INTEGER, [1, 2][1] FROM d.t"),
        ("SELECT a FROM default.t", "SELECT a FROM default.t"),
    ],
)
def test_a_query_is_written_anew_as_clickhouse_quotes(sql: str, written: str) -> None:
    assert for_embedded_engine(sql, "default") == written


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT 1 into /**/ outfile '/tmp/x'",
        "SELECT 1; DROP TABLE t",
        "SELECT $$a$$",
        "SELECT $a$ ' $a$",
        "SELECT e'\\''",
        "SELECT x'41'",
        "SELECT `a`",
        "SELECT 1 # a comment there",
        "SELECT 1 /* a comment */",
        "SELECT \u2018a\u2019",
        "SELECT 1\u00a0",
        "SELECT {a:Int8}",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 FORMAT Native",
        "SELECT file('/etc/passwd')",
        "SELECT \"FILE\" ('/etc/passwd')",
        'SELECT * FROM "/etc/passwd"',
        'SELECT * FROM "s.csv"',
        "SELECT * FROM default.passwd",
        'SELECT * FROM "default" . passwd',
        "SELECT 'a\0",
    ],
)
def test_what_may_be_more_than_a_query_there_is_refused(sql: str) -> None:
    with pytest.raises(SourceError, match="may be more than a query"):
        for_embedded_engine(sql, "d")
