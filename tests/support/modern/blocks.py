"""Where does a column end, and how does a block of FORMAT Native become one of the native protocol?

Both are columns one after another: name, type, values. On the wire a revision of 54454 or later puts a byte
after each type, saying whether the values are serialized in a custom (sparse) way, and block information
before the first column; the engine's FORMAT Native has neither. Values are not decoded, only measured.
Layout: ClickHouse, src/Formats/NativeWriter.cpp and src/DataTypes/Serializations.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass

from tests.support.modern.wire import ProtocolError, Stream, string, varint

NOT_IMPLEMENTED = 48
CUSTOM_SERIALIZATION_REVISION = 54454
BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
"""Field 1 is_overflows = false, field 2 bucket_num = -1, end."""

_SIZES = {
    "Bool": 1, "Int8": 1, "UInt8": 1, "Enum8": 1, "Nothing": 1,
    "Int16": 2, "UInt16": 2, "Enum16": 2, "Date": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "Time": 4, "IPv4": 4, "Decimal32": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Time64": 8, "Decimal64": 8,
    "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16,
    "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}
_JSON_AS_STRING = 1


class UnservedType(ProtocolError):
    """A column of a type whose extent this module cannot find; says which."""

    def __init__(self, text: str) -> None:
        super().__init__(text, NOT_IMPLEMENTED)


@dataclass(frozen=True)
class Type:
    """A type's family, its type arguments, and the bytes of one value where that is fixed (else 0)."""

    family: str
    parts: tuple[Type, ...] = ()
    size: int = 0


@dataclass(frozen=True)
class Block:
    """One block: its rows, and each column as (name, type, raw values), values being empty without rows."""

    rows: int
    columns: tuple[tuple[str, str, bytes], ...]

    def header(self) -> Block:
        """The same columns without rows."""
        return Block(0, tuple((name, type_, b"") for name, type_, _ in self.columns))

    def typed_as(self, header: Block) -> Block:
        """This block with the zones of its DateTimes, which FORMAT Native leaves out as for old clients."""
        if not any(type_ == "DateTime" for _, type_, _ in self.columns):
            return self
        typed = (
            (name, described if type_ == "DateTime" else type_, values)
            for (name, type_, values), (_, described, _) in zip(self.columns, header.columns, strict=True)
        )
        return Block(self.rows, tuple(typed))

    def to_wire(self, revision: int) -> bytes:
        """The body of a Data packet, after the packet's type and table name."""
        return BLOCK_INFO + self._write(b"\x00" if revision >= CUSTOM_SERIALIZATION_REVISION else b"")

    def to_format(self) -> bytes:
        """A block of FORMAT Native."""
        return self._write(b"")

    def _write(self, after_type: bytes) -> bytes:
        pieces = [varint(len(self.columns)), varint(self.rows)]
        for name, type_, values in self.columns:
            pieces += (string(name), string(type_), after_type, values)
        return b"".join(pieces)


def read_wire(stream: Stream, revision: int) -> Block:
    """The next block of a Data packet.

    Raises:
        UnservedType: a column of a type unknown here, or in sparse serialization.
        EOFError: the stream ends inside the block.
    """
    while field := stream.varint():
        stream.skip({1: 1, 2: 4}[field])
    return _read(stream, custom_byte=revision >= CUSTOM_SERIALIZATION_REVISION)


def read_format(stream: Stream) -> Block:
    """The next block of FORMAT Native; raises as `read_wire` does."""
    return _read(stream, custom_byte=False)


def _read(stream: Stream, *, custom_byte: bool) -> Block:
    count, rows = stream.varint(), stream.varint()
    columns = []
    for _ in range(count):
        name, type_ = stream.text(), stream.text()
        if custom_byte and stream.byte():
            raise UnservedType(f"column {name} comes in a custom serialization, which is not served")
        stream.mark()
        if rows:
            skip_values(stream, type_, rows)
        columns.append((name, type_, stream.taken()))
    return Block(rows, tuple(columns))


def skip_values(stream: Stream, type_: str, rows: int) -> None:
    """Move past the values of a column, prefix included."""
    parsed = parse_type(type_)
    _skip_prefix(stream, parsed)
    _skip(stream, parsed, rows)


@functools.lru_cache(maxsize=1024)
def parse_type(text: str) -> Type:
    """Raises UnservedType for a type whose extent is not known here."""
    text = text.strip()
    family, _, rest = text.partition("(")
    arguments = _arguments(rest[:-1])
    if family in _ALIASES:
        return parse_type(_ALIASES[family])
    if family.startswith("Interval"):
        return Type(family, size=8)
    if family == "FixedString":
        return Type(family, size=int(arguments[0]))
    if family == "Decimal":
        precision = int(arguments[0])
        return Type(family, size=next(4 << i for i, most in enumerate((9, 18, 38, 76)) if precision <= most))
    if family in _SIZES:
        return Type(family, size=_SIZES[family])
    if family in ("String", "JSON"):
        return Type(family)
    if family in ("Tuple", "Nested"):
        parts = tuple(parse_type(_without_name(argument)) for argument in arguments)
        return Type("Tuple", parts) if family == "Tuple" else Type("Array", (Type("Tuple", parts),))
    if family == "Map":
        return Type("Array", (Type("Tuple", tuple(map(parse_type, arguments))),))
    if family == "SimpleAggregateFunction":
        return parse_type(arguments[1])
    if family in ("Nullable", "Array", "LowCardinality", "Variant"):
        return Type(family, tuple(map(parse_type, arguments)))
    raise UnservedType(f"type {text} is not served")


def _arguments(text: str) -> list[str]:
    """The comma-separated arguments of a type, where commas inside brackets and quotes do not count."""
    arguments, depth, start = [], 0, 0
    for match in re.finditer(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|[(),]", text):
        token = match.group()
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "," and depth == 0:
            arguments.append(text[start : match.start()])
            start = match.end()
    return [argument.strip() for argument in [*arguments, text[start:]] if argument.strip()]


def _without_name(element: str) -> str:
    """The type of a tuple's element, which may carry a name: `a Int8`, `` `a b` Int8 ``."""
    named = re.match(r"(?:`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)\s+(?=[A-Z])", element)
    return element[named.end() :] if named else element


def _skip_prefix(stream: Stream, type_: Type) -> None:
    if type_.family == "LowCardinality":
        stream.skip(8)
        return
    if type_.family == "Variant" and (mode := stream.u64()) != 0:
        raise UnservedType(f"a Variant in mode {mode} is not served")
    if type_.family == "JSON" and (version := stream.u64()) != _JSON_AS_STRING:
        raise UnservedType(
            f"JSON in serialization {version} is not served: set output_format_native_write_json_as_string"
        )
    for part in type_.parts:
        _skip_prefix(stream, part)


def _skip(stream: Stream, type_: Type, rows: int) -> None:
    if not rows:
        return
    if type_.size:
        stream.skip(rows * type_.size)
    elif type_.family in ("String", "JSON"):
        stream.skip_strings(rows)
    elif type_.family == "Nullable":
        stream.skip(rows)
        _skip(stream, type_.parts[0], rows)
    elif type_.family == "Array":
        stream.skip(8 * (rows - 1))
        _skip(stream, type_.parts[0], stream.u64())
    elif type_.family == "Tuple":
        for part in type_.parts:
            _skip(stream, part, rows)
        if not type_.parts:
            stream.skip(rows)
    elif type_.family == "LowCardinality":
        inner = type_.parts[0]
        keys_width = 1 << (stream.u64() & 0xFF)
        _skip(stream, inner.parts[0] if inner.family == "Nullable" else inner, stream.u64())
        stream.skip(stream.u64() * keys_width)
    else:
        _skip_variant(stream, type_, rows)


def _skip_variant(stream: Stream, type_: Type, rows: int) -> None:
    chosen = Counter(stream.byte() for _ in range(rows))
    for discriminator, part in enumerate(type_.parts):
        _skip(stream, part, chosen[discriminator])
