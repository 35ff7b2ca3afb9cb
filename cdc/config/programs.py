"""What the supervisor is to run, and how: the models of `[supervisor]` and `[programs.NAME]`.

Durations are in seconds (`_sec`), sizes in mebibytes (`_mb`). A command is a list of arguments and never goes
through a shell; `{python}` in it stands for the running interpreter, `{config}` for the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

ProgramName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
"""Also the name of the program's log and record, so nothing in it may mean anything to a file system."""

Argument = Annotated[str, StringConstraints(min_length=1)]
Command = Annotated[tuple[Argument, ...], Field(min_length=1)]
StopSignal = Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeartbeatCheck(_Section):
    """The program touches a file; a file older than `max_age_sec` is a failure."""

    kind: Literal["heartbeat"]
    path: Path
    max_age_sec: PositiveFloat = 5.0
    timeout_sec: PositiveFloat = 3.0


class ProgressCheck(_Section):
    """At least one of these files changed its size or time within `max_idle_sec`.

    For a DuckDB writer: the database file, its `.wal` and its `.wal.checkpoint`. Only for a writer that is
    never idle for that long: a quiet market is not a hung engine.
    """

    kind: Literal["progress"]
    paths: Annotated[tuple[Path, ...], Field(min_length=1)]
    max_idle_sec: PositiveFloat = 60.0
    timeout_sec: PositiveFloat = 3.0


class TcpCheck(_Section):
    """A TCP connection is accepted."""

    kind: Literal["tcp"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_sec: PositiveFloat = 3.0


class HttpCheck(_Section):
    """A GET answers with this status; redirects are not followed."""

    kind: Literal["http"]
    url: HttpUrl
    status: Annotated[int, Field(ge=100, le=599)] = 200
    timeout_sec: PositiveFloat = 3.0


class CommandCheck(_Section):
    """A command exits with 0. It gets CDC_PROGRAM and CDC_PID in its environment."""

    kind: Literal["command"]
    command: Command
    timeout_sec: PositiveFloat = 3.0


Check = Annotated[
    HeartbeatCheck | ProgressCheck | TcpCheck | HttpCheck | CommandCheck, Field(discriminator="kind")
]


class HealthConfig(_Section):
    """When a program counts as unresponsive. That it is alive and not suspended is always checked. [P2]"""

    interval_sec: PositiveFloat = 5.0
    unresponsive_sec: PositiveFloat = 10.0
    """Failing without a break for this long: restarted."""
    alert_after_failures: PositiveInt = 3
    """This many failed rounds in a row: an alert."""
    start_timeout_sec: PositiveFloat = 60.0
    """A new program has this long until its checks first pass."""
    checks: tuple[Check, ...] = ()

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.unresponsive_sec < self.interval_sec:
            raise ValueError(
                f"unresponsive_sec ({self.unresponsive_sec:g}) is below interval_sec "
                f"({self.interval_sec:g}): one failed round would restart the program"
            )
        return self


class RestartConfig(_Section):
    """Whether and when a program that ended is started again. [P3]"""

    when: Literal["failure", "always", "never"] = "failure"
    """failure: after any end but an expected exit code. One for health or memory is always a failure."""
    expected_exit_codes: tuple[int, ...] = (0,)
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """Restarts allowed within `window_sec`; the next failure is FATAL."""
    window_sec: PositiveFloat = 300.0
    stable_sec: PositiveFloat = 60.0
    """A program healthy for this long has its past restarts forgiven."""
    backoff_initial_sec: PositiveFloat = 1.0
    backoff_factor: Annotated[float, Field(ge=1.0)] = 2.0
    backoff_max_sec: PositiveFloat = 30.0
    jitter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """Each delay is shortened or lengthened by up to this share, so that programs do not restart in step."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.backoff_max_sec < self.backoff_initial_sec:
            raise ValueError("backoff_max_sec is below backoff_initial_sec")
        return self


class ProgramLimitsConfig(_Section):
    """What a program may use. [P4]"""

    cpu_cores: PositiveInt | None = None
    """Pinned to this many cores; None: all."""
    nice: Annotated[int, Field(ge=-20, le=19)] = 0
    memory_mb: PositiveInt | None = None
    """Resident memory of the program and its children; above it: an alert and a graceful restart."""
    memory_hard_factor: Annotated[float, Field(ge=1.0)] = 1.25
    """The kernel's own ceiling (control group or address space) as a multiple of `memory_mb`: the last
    resort when the program grows faster than it is watched."""
    memory_ceiling: Literal["auto", "cgroup", "rlimit", "none"] = "auto"
    """Who enforces the hard ceiling. auto: a control group where permitted, else watching alone."""
    disk_paths: tuple[Path, ...] = ()
    disk_free_mb: PositiveInt = 1024
    """Less free space than this on a file system of `disk_paths` is an alert."""


class LogConfig(_Section):
    """Where the program's output goes. The file is copied and truncated at `max_mb`, `keep` copies stay."""

    path: Path | None = None
    """None: NAME.log in the supervisor's directory."""
    max_mb: PositiveInt = 50
    keep: Annotated[int, Field(ge=1, le=1000)] = 5


class RunConfig(_Section):
    """A command run once, with a bound."""

    command: Command
    timeout_sec: PositiveFloat = 300.0


class FileCheckConfig(RunConfig):
    """Run after a crash, before the program is started again: exit code 0 means the files are sound. [P7]

    Anything else (or a time-out): an alert, `set_aside` is renamed, never deleted, and the program stays
    FATAL; unless `restore` is given and ends with 0.
    """

    set_aside: tuple[Path, ...] = ()
    corrupt_exit_codes: Annotated[tuple[int, ...], Field(min_length=1)] = (7,)
    """Exit codes that say the files are damaged; 7 is what `cdc check-file` says. Any other failure of the
    check leaves the files where they are: that the check could not run proves nothing against them. (Not 1:
    an interpreter that cannot even start ends with it.)"""
    restore: RunConfig | None = None


class ProgramConfig(_Section):
    """One supervised program."""

    command: Command
    directory: Path | None = None
    environment: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Added to the supervisor's own; values may be secrets and are never shown."""
    user: str | None = None
    """Run as this user; needs a supervisor that may change users."""
    autostart: bool = True
    order: int = 0
    """Started in ascending order, stopped in descending."""
    after: tuple[ProgramName, ...] = ()
    """Started once these are RUNNING. Their later restarts do not touch this program."""
    stop_after: tuple[ProgramName, ...] = ()
    """At the end, stopped once these have ended, whatever its order: it works off what they leave."""
    stop_signal: StopSignal = "SIGTERM"
    reload_signal: StopSignal | None = None
    grace_sec: PositiveFloat = 10.0
    """From the stop signal to the kill."""
    health: HealthConfig = HealthConfig()
    restart: RestartConfig = RestartConfig()
    limits: ProgramLimitsConfig = ProgramLimitsConfig()
    log: LogConfig = LogConfig()
    before_restart: FileCheckConfig | None = None

    @field_validator("environment")
    @classmethod
    def _names_are_names(cls, value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name in value:
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} is not the name of an environment variable")
        return value


class AlertConfig(_Section):
    """Where alerts go besides the log, the status file and the metrics."""

    command: Command | None = None
    """Run for every alert raised or cleared, the alert as JSON on its standard input."""
    webhook: SecretStr | None = None
    """An http(s) URL that gets the alert as a JSON POST; a secret, as such URLs carry their key."""
    timeout_sec: PositiveFloat = 10.0

    @field_validator("webhook")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("the webhook is not an http:// or https:// URL")
        return value


class SupervisorConfig(_Section):
    """The supervisor itself."""

    directory: Path | None = None
    """Its record, lock, control file, status and logs. None: `supervisor` beside the state store."""
    on_exit: Literal["stop", "detach"] = "stop"
    """What SIGTERM to the supervisor means for the programs."""
    shutdown_sec: PositiveFloat = 60.0
    """Bound of the whole shutdown; what still runs after it is killed."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Prometheus metrics on 127.0.0.1; 0: none."""
    alerts: AlertConfig = AlertConfig()


def _consistent(programs: Mapping[str, ProgramConfig]) -> Mapping[str, ProgramConfig]:
    for name, program in programs.items():
        for key, others in (("after", program.after), ("stop_after", program.stop_after)):
            for other in others:
                if other not in programs:
                    raise ValueError(f"programs.{name}.{key} names {other!r}, which is not a program")
    for waits in (
        {name: program.after for name, program in programs.items()},
        {name: program.stop_after for name, program in programs.items()},
    ):
        try:
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            raise ValueError(f"these programs wait for each other: {', '.join(error.args[1])}") from None
    return programs


Programs = Annotated[dict[ProgramName, ProgramConfig], AfterValidator(_consistent)]
"""`[programs.NAME]`: every name in `after` exists, and no two programs wait for each other."""
