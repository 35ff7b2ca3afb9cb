"""What the options before the command's name give to a command: the configuration."""

from __future__ import annotations

from pathlib import Path

import typer

from cdc.config import Settings, load


def config_path(context: typer.Context) -> Path:
    """The file that --config or CDC_CONFIG names, else the default."""
    path = context.find_root().obj
    assert isinstance(path, Path), "the application's callback sets it"
    return path


def is_default(context: typer.Context) -> bool:
    """Whether neither --config nor CDC_CONFIG names one."""
    origin = context.find_root().get_parameter_source("config")
    return origin is not None and origin.name == "DEFAULT"


def settings(context: typer.Context) -> Settings:
    """The configuration, loaded.

    Raises:
        ConfigError: it is missing or wrong.
    """
    return load(config_path(context))
