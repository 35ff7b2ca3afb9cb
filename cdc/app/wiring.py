"""How do settings become a source, a target, a store and plans? The one place that knows every package."""

from __future__ import annotations

from cdc.change import TableId, TablePlan
from cdc.clock import Clock, SystemClock
from cdc.config import Settings
from cdc.config.database import ServedAddress
from cdc.config.target import Setting
from cdc.eras import Eras
from cdc.errors import ConfigError, SourceError, StateError
from cdc.rate import Rate
from cdc.replicator.plan import LeftOut, Overlaps, Resolution, resolve, resolve_table
from cdc.replicator.requests import request_for
from cdc.source import AnySource, SelfTest, SourceEvents, check_completion, open_source
from cdc.state import Store, open_store
from cdc.target import ClickHouseTarget, TargetOptions, Timeouts, open_target
from cdc.target.quote import quote_string


def source_of(
    settings: Settings,
    *,
    self_test: SelfTest | None = None,
    events: SourceEvents | None = None,
    eras: Eras | None = None,
    clock: Clock | None = None,
) -> AnySource:
    """The DuckDB file of [database], read as far as the `self_test` allows, or what a writer serves.

    Raises:
        SourceError: it cannot be read.
    """
    if settings.database.address is not None:
        return _served(settings, settings.database.address, events, eras, clock)
    assert settings.database.file is not None, "it is one of both"
    key = settings.database.encryption_key
    failed = None if self_test is None else self_test.failed
    return open_source(
        settings.database.file,
        memory_limit_mb=settings.performance.cache_size_mb,
        threads=settings.performance.threads,
        spill=settings.state.directory / "spill",
        encryption_key=None if key is None else key.get_secret_value(),
        direct=None if self_test is None or self_test.snapshots else True,
        not_followed=None if failed is None else f"the self-test failed: {failed}",
        max_skew_seconds=settings.sync.max_skew_sec,
        deletes=settings.sync.deletes == "replicate",
        decode_check_percent=settings.performance.decode_check_percent,
        events=events,
        eras=eras,
        clock=clock,
    )


def _served(
    settings: Settings,
    address: ServedAddress,
    events: SourceEvents | None,
    eras: Eras | None,
    clock: Clock | None,
) -> AnySource:
    # Loaded where it is used: it needs a driver that others do without.
    from cdc.source.served import Comparing, open_served

    served, token = settings.served, settings.database.token
    assert token is not None, "the settings have one where there is an address"
    return open_served(
        str(address),
        token.get_secret_value(),
        timeout_seconds=served.request_timeout_sec,
        poll_seconds=served.poll_ms / 1000.0,
        idle_seconds=served.idle_poll_ms / 1000.0,
        comparing=Comparing(served.compare_interval_sec, served.compare_percent),
        memory_limit_mb=settings.performance.cache_size_mb,
        threads=settings.performance.threads,
        spill=settings.state.directory / "spill",
        max_skew_seconds=settings.sync.max_skew_sec,
        deletes=settings.sync.deletes == "replicate",
        events=events,
        eras=eras,
        clock=clock,
    )


def target_of(
    settings: Settings, *, sent: Rate | None = None, clock: Clock | None = None, reading: bool = False
) -> ClickHouseTarget:
    """The ClickHouse of [sync] and [target]; nothing is connected yet.

    Args:
        sent: is told what is sent there.
        reading: as the reader's user, where one is configured.
    """
    target = settings.target
    options = TargetOptions(
        database=target.database,
        cluster=target.cluster,
        partition_by=target.partition_by,
        engine_settings={name: _literal(value) for name, value in target.engine_settings.items()},
        auto_create=target.auto_create,
        compression=target.compression,
        dial_rate=Rate(settings.limits.max_connections_per_second, clock or SystemClock()),
        sent=sent,
        timeouts=Timeouts(
            connect=target.connect_timeout_sec,
            send=target.send_timeout_sec,
            receive=target.receive_timeout_sec,
        ),
        version_column=target.version_column,
        deleted_column=target.deleted_column,
        synced_at_column=target.synced_at_column,
    )
    return open_target(settings.reader_endpoints if reading else settings.endpoints, options, clock)


def store_of(settings: Settings, *, clock: Clock | None = None) -> Store:
    """The state store, for a replicator: made or brought up to date where needed.

    Raises:
        StateError: it is damaged, newer than this program, or may not be opened.
    """
    return open_store(
        settings.state.directory,
        failed_table=settings.error_handling.failed_sync_table,
        retry_backoff_sec=settings.error_handling.retry_backoff_sec,
        clock=clock,
    )


def plans_of(
    settings: Settings, source: AnySource, *, strict: bool = True, store: Store | None = None
) -> Resolution:
    """What is replicated of the source, and what is not.

    Args:
        strict: False leaves out a listed table that cannot be replicated, for the others' sake.
        store: the state store, if it is open; else it is read if there is one.

    Raises:
        ConfigError: a listed table cannot be replicated as the configuration asks.
        SourceError: the source cannot be read.
    """
    found = resolve(
        settings.tables,
        settings.defaults,
        source.tables(),
        overlaps_of(settings),
        strict=strict,
        before=_replicated_before(settings, store),
    )
    plans, left_out = [], list(found.left_out)
    for plan in found.plans:
        try:
            check_completion(plan)
        except ConfigError as error:
            if strict:
                raise
            left_out.append(LeftOut(plan.table, str(error), listed=True))
        else:
            plans.append(plan)
    return Resolution(tuple(plans), tuple(left_out))


def _replicated_before(settings: Settings, store: Store | None) -> frozenset[TableId]:
    """The tables that the state store knows. What a store says that cannot be read is not needed by a command
    that reports just that."""
    if store is not None:
        return frozenset(record.table for record in store.tables())
    try:
        with open_store(settings.state.directory, mode="read") as stored:
            return frozenset(record.table for record in stored.tables())
    except StateError:
        return frozenset()


def plan_again(settings: Settings, source: AnySource, plan: TablePlan) -> TablePlan:
    """The plan of the same table as source and configuration now want it.

    Raises:
        ConfigError: it can no longer be replicated as asked.
        SourceError: the table is gone, or the source cannot be read.
    """
    schemas = source.tables()
    request = request_for(settings.tables, plan.table)
    if request is not None:
        own = [schema for schema in schemas if schema.table.folded == plan.table.folded]
        found = resolve_table(request, settings.defaults, own, overlaps_of(settings))
        check_completion(found)
        return found
    for each in resolve((), settings.defaults, schemas, overlaps_of(settings), before=(plan.table,)).plans:
        if each.table == plan.table:
            return each
    raise SourceError(
        "replicate",
        plan.table,
        "it is gone, or has no key and watermark any more",
        "Create it again, or restart to leave it out",
    )


def overlaps_of(settings: Settings) -> Overlaps:
    return Overlaps(time=settings.sync.overlap, count=settings.sync.overlap_count)


def _literal(value: Setting) -> str:
    """A TOML value as ClickHouse writes it in SETTINGS."""
    if isinstance(value, bool):
        return str(int(value))
    return quote_string(value) if isinstance(value, str) else str(value)
