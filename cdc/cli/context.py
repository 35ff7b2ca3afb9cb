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


def settings(context: typer.Context) -> Settings:
    """The configuration, loaded.

    Raises:
        ConfigError: it is missing or wrong.
    """
    return load(config_path(context))
