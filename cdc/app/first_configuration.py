"""The configuration that is written for a source and a target: its ten lines, as TOML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdc.app.proposal import Proposal, propose
from cdc.app.wiring import source_of
from cdc.config import SECRETS_NAME, Settings, load, parse_endpoint, settings_of
from cdc.errors import ConfigError
from cdc.private import Unsafe, open_private, private_directory
from cdc.visible import visible_line

KEPT_NAME = "cdc.toml"
"""In the state directory, where source and target were named on the command line."""


def settings_for(source: str, target: str, path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a configuration that says where the source is and where the target, and no more.

    Args:
        path: where it will be; secrets.toml beside it counts, as the environment does.

    Raises:
        ConfigError: one of them is no usable address.
    """
    if parse_endpoint(target).password.get_secret_value():
        raise ConfigError(
            "use",
            "the target's address",
            "it contains a password, which every user of this machine may see",
            f"Set CLICKHOUSE_PASSWORD, or write it into {path.parent / SECRETS_NAME}, as clickhouse_password "
            "of [auth]",
        )
    data: dict[str, Any] = {"database": {"path": source}, "sync": {"clickhouse_endpoint": target}}
    return settings_of(data, path, environ)


def proposals_for(settings: Settings) -> tuple[Proposal, ...]:
    """What is proposed for each table of the source.

    Raises:
        ConfigError: no table can be replicated as it is; it says why, of each.
        SourceError: the source cannot be read.
    """
    with source_of(settings) as source:
        found = propose(source)
    if all(each.left_out for each in found):
        why = "; ".join(f"{each.table}: {each.left_out}" for each in found) or "it has no table"
        raise ConfigError(
            "propose what to replicate of", settings.database.path, why, "Then run this command again"
        )
    return found


def kept_configuration(source: str, target: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration of a source and a target that have none: in the state directory, and made there at
    the first time, so that what was proposed once is what is done from then on.

    Raises:
        ConfigError: the one that is there is of another target, or none can be made.
        SourceError: the source cannot be read.
    """
    here = Path(KEPT_NAME) if "://" in source else Path(f"{source}.cdc", KEPT_NAME)
    settings = settings_for(source, target, here, environ)
    path = settings.state.directory / KEPT_NAME
    if path.exists():
        known = load(path, environ)
        if known.sync.clickhouse_endpoint != settings.sync.clickhouse_endpoint:
            raise ConfigError(
                "replicate",
                source,
                f"{path} replicates it into {', '.join(map(str, known.endpoints))}",
                f"To go on with it, run: cdc -c {path} run; for another target, write another: cdc init",
            )
        return path
    proposals = proposals_for(settings)
    try:
        private_directory(path.parent)
    except OSError as error:
        raise ConfigError(
            "make the state directory", path.parent, str(error.strerror), "Run 'cdc init' and name another"
        ) from None
    write(path, as_toml(source, target, proposals))
    return path


def as_toml(source: str, target: str, proposals: Sequence[Proposal]) -> str:
    """The text of the configuration; what a person has to check is in its comments."""
    lines = [
        "# Every other key has a default: `cdc config show` prints them all.",
        "[database]",
        f"path = {as_text(source if '://' in source else Path(source).absolute().as_posix())}",
        "[sync]",
        f"clickhouse_endpoint = {as_text(target)}",
        "[target]",
        "auto_create = true  # makes the tables in ClickHouse",
    ]
    for each in proposals:
        lines.append("")
        if each.left_out:
            lines.append(f"# {visible_line(str(each.table))} is left out: {visible_line(each.left_out)}")
            continue
        lines += [
            f"# {visible_line(line)}"
            for line in ("; ".join(each.why), *(f"CHECK: {one}" for one in each.unsure))
        ]
        lines += ["[[tables]]", f"name = {as_text(_name(each))}"]
        if each.key:
            lines.append(f"key = [{', '.join(map(as_text, each.key))}]")
        lines.append(f"watermark = {as_text(each.watermark)}")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str, *, replace: bool = False) -> None:
    """Make the file, for this user alone.

    Raises:
        ConfigError: it is there already, or cannot be made.
    """
    flags = os.O_WRONLY | (os.O_TRUNC if replace else os.O_EXCL)
    try:
        with os.fdopen(open_private(path, flags), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            "write the configuration", path, "there is one already", "Name another file, or add --force"
        ) from None
    except OSError as error:
        problem, _, remedy = str(error.strerror).partition("; ")
        if not isinstance(error, Unsafe):
            remedy = "choose a directory that this user may write, with --output"
        raise ConfigError("write the configuration", path, problem, remedy[:1].upper() + remedy[1:]) from None


def _name(proposal: Proposal) -> str:
    return str(proposal.table).removeprefix("main.")


def as_text(value: str) -> str:
    """A TOML basic string: JSON's escapes are among its own, but for DEL, which JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
