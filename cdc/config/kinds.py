"""What kinds of value do the sections of a configuration have, and what holds for each section?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]


def text_like(pattern: str, allowed: str) -> AfterValidator:
    """A text that matches `pattern` as a whole; the error says what is `allowed` instead of the pattern."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"write {allowed}")
        return text

    return AfterValidator(check)


Name = Annotated[str, text_like(r"[^\x00-\x1f]{1,256}", "a name of 1 to 256 printable characters")]
"""The name of a column, table or database: it is quoted wherever it is used."""
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Sql = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
"""SQL that the operator wrote; the only SQL not written by this program."""
Overlap = Annotated[
    str, text_like(r"0|[1-9][0-9]{0,17}(ms|s|m|h|d)?", "a count, or a time such as 500ms, 5s, 2m, 1h, 1d")
]
"""How far a read goes back: `1000` for one that counts; `500ms`, `5s`, `2m`, `1h`, `1d` for a time."""


def names_a_file(path: Path) -> Path:
    """`path`, which has a name.

    Raises:
        ValueError: it is a directory's.
    """
    if path.name in ("", ".", ".."):
        raise ValueError("write the path of a file")
    return path


FilePath = Annotated[Path, AfterValidator(names_a_file)]
Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86400)]


class Section(BaseModel):
    """A table of the file: an unknown key is an error, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
