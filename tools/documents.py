"""Writes those documents that are made from the code: `python -m tools.documents`.

`docs/types.md`, `docs/metrics.md` and `docs/errors.md`. A test compares each with what this would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from cdc import errors
from cdc.errors import CdcError, ExitCode, Meaning
from cdc.observe.metrics import Metrics
from cdc.observe.redis_events import RedisEvents
from cdc.supervisor.metrics import SupervisorMetrics
from cdc.target.codes import KNOWN
from cdc.target.types.table import markdown
from cdc.target.version import ServerVersion

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `python -m tools.documents`: change the code, then run that. -->"
SERVERS = (ServerVersion(26, 9), ServerVersion(18, 16))
"""The releases that the tests run against."""


def types() -> str:
    """Which ClickHouse type holds each DuckDB type, by release of the server."""
    parts = [
        "# Types",
        MADE,
        "Every mapping is exact both ways. A column that may be NULL is Nullable; an Array, Tuple or Map, "
        "which cannot be, is an Array of at most one. A value that the server's type cannot hold (a date "
        "beyond its range, an infinite time) makes its row a failed row; it is never changed.",
    ]
    for server in SERVERS:
        parts += [f"## ClickHouse {server.major}.{server.minor}", markdown(server)]
    return _page(parts)


def metrics() -> str:
    """Every Prometheus metric, by who serves it."""
    replicator = Metrics()
    RedisEvents(replicator.registry)
    return _page(
        [
            "# Metrics",
            MADE,
            "Base units: seconds and bytes. `table` is the source's table as `schema.name`. A value that is "
            "not known is absent, never 0.",
            "## Of a replicator",
            "On `[metrics] host` and `port`, beside the process's own (`process_…`).",
            _metric_table(replicator.registry),
            "## Of a supervisor",
            _metric_table(SupervisorMetrics().registry),
        ]
    )


def errors_and_codes() -> str:
    """The kinds of errors, the exit codes, and what each of ClickHouse's codes leads to."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CdcError)]
    meanings = {
        Meaning.RETRY: "tried again, for as long as it takes",
        Meaning.POISON: "the rows at fault are set aside, the rest goes on",
        Meaning.STOP: "the table halts until a person has done something",
    }
    parts = [
        "# Errors",
        MADE,
        "Every message says what was being done, to what, what went wrong, and what to do about it.",
        "## Kinds",
        _table(
            ("error", "exit code", "says"),
            ((f"`{kind.__name__}`", str(kind.exit_code.value), _first_line(kind)) for kind in kinds),
        ),
        "## Exit codes",
        _table(
            ("code", "means"),
            ((str(code.value), code.name.lower()) for code in ExitCode),
        ),
        "## What ClickHouse's codes lead to",
        "A code that is not listed means stop: what nobody understood is neither retried nor skipped.",
    ]
    for meaning, consequence in meanings.items():
        remedies: dict[str, list[str]] = {}
        for number, (name, verdict) in sorted(KNOWN.items()):
            if verdict.meaning is meaning:
                remedies.setdefault(verdict.remedy, []).append(f"{number} {name}")
        rows = ((", ".join(codes), remedy) for remedy, codes in remedies.items())
        parts += [f"### {meaning.value.capitalize()}: {consequence}", _table(("codes", "remedy"), rows)]
    return _page(parts)


DOCUMENTS: dict[str, Callable[[], str]] = {
    "types.md": types,
    "metrics.md": metrics,
    "errors.md": errors_and_codes,
}


def _metric_table(registry: CollectorRegistry) -> str:
    return _table(("metric", "kind", "labels", "says"), _metrics(registry))


def _metrics(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    # The library tells the labels of a metric that has no value yet by this attribute alone.
    for collector in registry._collector_to_names:
        labels: Sequence[str] = getattr(collector, "_labelnames", ())
        for family in collector.collect():
            if family.name.startswith("cdc_"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                yield f"`{name}`", family.type, ", ".join(labels), family.documentation


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for name, make in DOCUMENTS.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
