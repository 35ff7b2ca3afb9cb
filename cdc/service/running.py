"""How a configuration becomes a supervisor: its directory, its log's place, and the programs of `cdc up`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import HttpUrl

from cdc.config import LoggingConfig, Settings
from cdc.config.programs import (
    FileCheckConfig,
    HealthConfig,
    HttpCheck,
    ProgramConfig,
    ProgramLimitsConfig,
)
from cdc.errors import ConfigError
from cdc.supervisor import Notify, Supervisor

WRITER = "writer"
REPLICATOR = "replicator"
WRITER_CORES = 2
WRITER_MEMORY_MB = 4096
RUN = ("{python}", "-m", "cdc", "--config", "{config}", "run")
DRAIN_SECONDS = 10
"""How long the replicator may take, once the writer has ended, to deliver the rest. Long enough for what a
writer commits last, and for a restart of ClickHouse; short enough for whoever waits for the end."""
DRAIN = ("--drain", str(DRAIN_SECONDS))
KILL_SECONDS = 10.0
"""And how long after that to end, before it is killed."""


def supervisor_directory(settings: Settings) -> Path:
    """Where the supervisor keeps its record, control file, status and logs."""
    return (settings.supervisor.directory or settings.state.directory / "supervisor").absolute()


def supervisor_log(settings: Settings) -> LoggingConfig:
    """Where the supervisor's log goes. It is its own: the replicator writes the other."""
    path = supervisor_directory(settings) / "supervisor.log"
    return settings.logging.model_copy(update={"log_path": path})


def supervisor_of(
    settings: Settings, programs: Mapping[str, ProgramConfig], notify: Notify | None = None
) -> Supervisor:
    """A supervisor of `programs`, whose directory is there. What it logs goes where its program sends it.

    Raises:
        ConfigError: there is no program.
    """
    if not programs:
        raise ConfigError(
            "supervise",
            settings.path,
            "it has no [programs.NAME]",
            "Add one, or use 'cdc run' for the replicator",
        )
    directory = supervisor_directory(settings)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Supervisor(
        programs, settings.supervisor, directory, config_path=settings.path.absolute(), notify=notify
    )


def programs_of_up(settings: Settings) -> dict[str, ProgramConfig]:
    """The writer and the replicator, each with what it does not say itself.

    A writer gets the limits of [P4], and the check of its file after a crash [P7]; the replicator's command
    is `cdc run`, started once the writer runs, asked over HTTP whether its loops turn [P2], and at the end
    stopped once the writer has ended, to deliver the rest.

    Raises:
        ConfigError: the writer has no command.
    """
    writer = settings.programs.get(WRITER)
    if writer is None:
        raise ConfigError(
            "start", WRITER, "there is no [programs.writer]", "Give its command there, or use 'cdc run' alone"
        )
    said = writer.model_fields_set
    updates: dict[str, object] = {}
    # The file of a database that is served is its writer's matter: it may be on another host.
    database = None if settings.database.file is None else settings.database.file.absolute()
    if "limits" not in said:
        updates["limits"] = ProgramLimitsConfig(
            cpu_cores=WRITER_CORES,
            memory_mb=WRITER_MEMORY_MB,
            disk_paths=() if database is None else (database.parent,),
        )
    if "before_restart" not in said and database is not None:
        updates["before_restart"] = check_of(database)
    replicator = settings.programs.get(REPLICATOR) or ProgramConfig(command=RUN, order=writer.order + 1)
    if replicator.command == RUN:
        added: dict[str, object] = {
            "command": RUN + DRAIN,
            "health": health_of_run(settings),
            "stop_after": (WRITER,),
            "grace_sec": DRAIN_SECONDS + KILL_SECONDS,
        }
        own = replicator.model_fields_set - {"command"}
        replicator = replicator.model_copy(update={k: v for k, v in added.items() if k not in own})
    return {WRITER: writer.model_copy(update=updates), REPLICATOR: replicator}


def health_of_run(settings: Settings) -> HealthConfig:
    """The health check of `cdc run`: its page, where that is at a port known before."""
    metrics = settings.metrics
    if not metrics.enabled or metrics.port == 0:
        return HealthConfig()
    host = f"[{metrics.host}]" if ":" in metrics.host else metrics.host
    return HealthConfig(
        checks=(HttpCheck(kind="http", url=HttpUrl(f"http://{host}:{metrics.port}/healthz")),)
    )


def check_of(database: Path) -> FileCheckConfig:
    """The check of a writer's file; what is damaged is set aside together with its logs."""
    logs = (f"{database}{suffix}" for suffix in (".wal", ".wal.checkpoint", ".wal.recovery"))
    return FileCheckConfig(
        command=("{python}", "-m", "cdc", "check-file", str(database)),
        set_aside=(database, *map(Path, logs)),
    )
