"""What a person is told of a configuration that was refused: file, key, value and what is allowed.

A value is shown only where its key is known and not a secret: an unknown key may be a misspelt password.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from cdc.errors import ConfigError

MASK = "********"
Location = Sequence[int | str]


def dotted(location: Location) -> str:
    """`tables[0].name` of `("tables", 0, "name")`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(
    error: ValidationError, model: type[BaseModel], path: Path, origins: Mapping[str, str]
) -> ConfigError:
    """One error for everything that is wrong with the values, in the order of the sections."""
    details = error.errors(include_url=False)
    problems = []
    for detail in details:
        key = dotted(_in_file(model, detail["loc"]))
        origin = origins.get(key, "")
        variable = f" (from {origin})" if origin and ":" not in origin else ""
        problems.append(f"{_problem(detail, key, model)}{variable}")
    return ConfigError(
        "use the configuration",
        path,
        "; ".join(dict.fromkeys(problems)),
        "Correct it, then: cdc config check",
    )


def _problem(detail: ErrorDetails, key: str, model: type[BaseModel]) -> str:
    location = _in_file(model, detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{key} is not a key{_suggestion(location, model)}"
        case "missing":
            return f"{key} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(detail["input"], dict | list):  # a rule between several keys, which the message names
        return f"{key}: {message}" if key else message
    return f"{key} = {_shown(detail['input'], location, model)}: {message}"


def _shown(value: object, location: Location, model: type[BaseModel]) -> str:
    if any(SecretStr in _parts(annotation) for annotation in _annotations(model, location)):
        return MASK
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggestion(location: Location, model: type[BaseModel]) -> str:
    name = str(location[-1])
    here = _fields_at(model, location[:-1])
    hints = [f"did you mean {close}?" for close in get_close_matches(name, here, n=1)]
    if len(location) <= 2:
        hints += [
            f"{name} belongs in [{section}]"
            for section, field in model.model_fields.items()
            if any(name in inner.model_fields for inner in _models(field.annotation))
        ]
    if hints:
        return f"; {', or '.join(hints)}"
    return f"; allowed: {', '.join(here)}"


def _in_file(model: type[BaseModel], location: Location) -> tuple[int | str, ...]:
    """`location` without the tags that pydantic adds for the members of unions."""
    kept: list[int | str] = []
    annotation: object = model
    for part in location:
        inner = _step(annotation, part)
        if inner is not None:
            kept.append(part)
            annotation = inner
        elif not _models(annotation) or len(_models(annotation)) == 1:
            kept.append(part)
            annotation = None
    return tuple(kept)


def _step(annotation: object, part: int | str) -> object | None:
    """The type of `part` inside a value of this type; None where there is no such part."""
    for model in _models(annotation):
        if part in model.model_fields:
            return model.model_fields[str(part)].annotation
    for inner in _parts(annotation):
        origin, arguments = typing.get_origin(inner), typing.get_args(inner)
        if origin is tuple and isinstance(part, int):
            return typing.cast(object, arguments[0])
        if origin in (dict, Mapping) and isinstance(part, str):
            return typing.cast(object, arguments[1])
    return None


def _annotations(model: type[BaseModel], location: Location) -> Iterator[object]:
    annotation: object | None = model
    for part in location:
        annotation = _step(annotation, part)
        if annotation is None:
            return
        yield annotation


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    *_, annotation = (model, *_annotations(model, location))
    return [name for inner in _models(annotation) for name in inner.model_fields]


def _models(annotation: object) -> list[type[BaseModel]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _parts(annotation: object) -> list[object]:
    """The members of a union, with Annotated taken off; a plain type is its only member."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is UnionType:
        return [part for member in typing.get_args(annotation) for part in _parts(member)]
    if origin is tuple:
        return [annotation, *_parts(typing.get_args(annotation)[0])]
    return [annotation]
