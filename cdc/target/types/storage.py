"""What is an array underneath? The same buffers without extension types, and with a map as the list it is.

Codecs see only such arrays: Arrow's kernels refuse extension types inside nested ones, and maps altogether.
"""

from __future__ import annotations

import pyarrow as pa


def bare(array: pa.Array) -> pa.Array:
    """`array` over the same buffers, of the type `bare_type(array.type)`."""
    return dressed(array, bare_type(array.type))


def dressed(array: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """`array` over the same buffers as an array of `arrow_type`, whose bare type is that of `array`."""
    return array if array.type == arrow_type else array.view(arrow_type)


def bare_type(arrow_type: pa.DataType) -> pa.DataType:
    """`arrow_type` with every extension type replaced by its storage, and maps by lists of structs."""
    if isinstance(arrow_type, pa.BaseExtensionType):
        return bare_type(arrow_type.storage_type)
    if not pa.types.is_nested(arrow_type):
        return arrow_type
    if pa.types.is_map(arrow_type):
        key, value = _bare_field(arrow_type.key_field), _bare_field(arrow_type.item_field)
        return pa.list_(pa.struct([key, value]))
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(_bare_field(arrow_type.value_field), arrow_type.list_size)
    if pa.types.is_list(arrow_type):
        return pa.list_(_bare_field(arrow_type.value_field))
    if pa.types.is_large_list(arrow_type):
        return pa.large_list(_bare_field(arrow_type.value_field))
    if pa.types.is_struct(arrow_type):
        return pa.struct([_bare_field(field) for field in arrow_type])
    if pa.types.is_union(arrow_type):
        return pa.sparse_union([_bare_field(field) for field in arrow_type])
    return arrow_type


def _bare_field(field: pa.Field) -> pa.Field:
    return field.with_type(bare_type(field.type))
