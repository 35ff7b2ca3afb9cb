"""Which conditions of a program become alerts, and what each of them asks a person to do."""

from cdc.alert import AlertKind, Severity

FATAL = AlertKind(
    "program_fatal",
    Severity.CRITICAL,
    "Read the end of its log, mend the cause, then run 'cdc ctl start NAME'.",
)
UNHEALTHY = AlertKind(
    "program_unhealthy",
    Severity.WARNING,
    "It is restarted once it has been unresponsive for too long; read its log for what it is busy with.",
)
MEMORY = AlertKind(
    "program_memory",
    Severity.WARNING,
    "It is restarted; look for what made it grow, or raise limits.memory_mb.",
)
FILE_CORRUPT = AlertKind(
    "file_corrupt",
    Severity.CRITICAL,
    "The files were set aside, not deleted. Restore a backup to the old path, then run 'cdc ctl start NAME'.",
)
FILE_RESTORED = AlertKind(
    "file_restored",
    Severity.WARNING,
    "A backup replaced its damaged files: what was committed since is only in the files set aside.",
)
FILE_UNCHECKED = AlertKind(
    "file_unchecked",
    Severity.CRITICAL,
    "Run the check by hand to see why it cannot run; 'cdc ctl start NAME' starts the program without it.",
)
RECORD = AlertKind(
    "record_not_stored",
    Severity.CRITICAL,
    "Free space for the supervisor's directory, or mend it; no program is started before that.",
)
DISK_SPACE = AlertKind(
    "disk_space",
    Severity.CRITICAL,
    "Free space on this file system or grow it; a writer that cannot write its log stops.",
)
