"""Values as text: nothing is lost, and different values stay different. [R1 F8]"""

from __future__ import annotations

import pyarrow as pa
import pytest

from cdc.text import texts

ID = "00000000-0000-0000-0000-000000000005"


@pytest.mark.parametrize(
    ("column", "written"),
    [
        (pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), "2023-11-14 22:13:20.123456789"),
        (pa.array([(5).to_bytes(16)], pa.binary(16)), ID),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([(5).to_bytes(16)], pa.binary(16))), ID),
        (pa.array([b"\x00\xff"]), "00ff"),
        (pa.array([b"\x00\xff"], pa.binary(2)), "00ff"),
        (pa.array(["NEW"]).dictionary_encode(), "NEW"),
        (pa.array([list(range(30))]), f"[{','.join(map(str, range(30)))}]"),
        (pa.array([["x" * 500, None, "é"]]), f'["{"x" * 500}",null,"é"]'),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '[{"key":"k","value":1}]'),
        (pa.array([{"a": [1], "b": b"\x00"}]), '{"a":[1],"b":00}'),
        (pa.array([[7]], pa.list_(pa.timestamp("ns"))), "[1970-01-01 00:00:00.000000007]"),
    ],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else "",
)
def test_a_value_is_written_in_full_and_null_is_none(column: pa.Array, written: str) -> None:
    with_null = pa.concat_arrays([column, pa.nulls(1, column.type)])
    assert texts(with_null) == [written, None]
    assert texts(with_null.slice(1)) == [None]


def test_lists_whose_elements_differ_have_different_texts() -> None:
    one, two, three = texts(pa.array([["a", "b"], ['a","b'], ["a,b"]]))
    assert len({one, two, three}) == 3
