"""Where in these bytes are we? Reads the primitive parts of ClickHouse's Native format in order."""

from __future__ import annotations

from cdc.errors import TargetError


class Truncated(TargetError):
    """The bytes end before what they announce; where they are still arriving, more are needed."""


class Reader:
    """A cursor over `data`. It does not copy: what it takes lives as long as `data`."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data).cast("B")
        self.at = 0

    def __repr__(self) -> str:
        return f"Reader(at={self.at}, of={len(self.data)})"

    @property
    def ended(self) -> bool:
        return self.at == len(self.data)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes.

        Raises:
            Truncated: if there are fewer.
        """
        end = self.at + count
        if end > len(self.data):
            raise Truncated(
                "read",
                "a Native block",
                f"it ends {end - len(self.data)} bytes early, at byte {len(self.data)}",
                "Ask the server again; if it stays so, the answer is not in the Native format",
            )
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def varint(self) -> int:
        """An unsigned LEB128 number."""
        found = 0
        for shift in range(0, 70, 7):
            octet = self.take(1)[0]
            found |= (octet & 0x7F) << shift
            if octet < 0x80:
                return found
        raise ValueError("a number without an end")

    def text(self) -> str:
        return str(self.take(self.varint()), "utf-8")
