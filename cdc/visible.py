"""How is text shown that others wrote? With what would steer a terminal, or the reader's eye, as escapes.

Names, keys, values and servers' messages come from whoever writes the source or answers for the target.
"""

from __future__ import annotations

import re

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
"""Control characters but tab and line feed; what is not seen; what turns the direction of a line."""


def visible(text: str) -> str:
    """`text` with such characters as `\\x1b` and `\\u202e`; tabs and line feeds stay."""
    return text if text.isascii() and text.isprintable() else _STEERING.sub(_escaped, text)


def visible_line(text: str) -> str:
    """As `visible`, on one line."""
    return visible(text).replace("\n", "\\n")


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
