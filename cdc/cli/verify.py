"""`cdc verify`: is every row of the source in the target as it is?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cdc.change import TablePlan
from cdc.cli import context
from cdc.cli.console import console
from cdc.cli.saying import complain, say
from cdc.cli.tables import Tables, chosen_plans
from cdc.config import Settings
from cdc.errors import CdcError, ExitCode, LeaseHeld, StateError

if TYPE_CHECKING:
    from cdc.state import Break, FailedRecord, Store

MOST_RANGES = 1000
LIVE_WAIT_SECONDS = 10.0
"""How long rows may be on their way while a replicator runs, where --wait does not say it."""


def register(app: typer.Typer) -> None:
    app.command("verify")(verify)


def verify(
    ctx: typer.Context,
    names: Tables = None,
    ranges: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_RANGES, help="Ranges to compare a table in; one for 100,000 rows if not given."
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Compare differences again, for rows on their way; if not given, 10 while a replicator runs",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, max=10_000, help="Rows that differ to name, per table.")] = 20,
    mend: Annotated[bool, typer.Option("--repair", help="Deliver the rows that differ again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Repair also while a replicator runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Compare counts and checksums of source and target, then the rows of ranges that differ.

    Exit code 7: rows are missing or different. With deletes = "ignore", rows that only the target has were
    pruned in the source, and are no difference.
    """
    settings = context.settings(ctx)
    with VerifyRun(settings, ranges=ranges, wait=wait, limit=limit, mend=mend, force=force) as run:
        documents: list[dict[str, Any]] = []
        worst: CdcError | None = None
        different = False
        for plan in run.plans(names):
            try:
                document, equal = run.table(plan, show=not as_json)
            except CdcError as error:
                document, equal = {"table": str(plan.table), "error": str(error)}, True
                worst = worst or error
                complain(str(error))
            documents.append(document)
            different = different or not equal
    if as_json:
        say(json.dumps({"equal": not different and worst is None, "tables": documents}, indent=2))
    if worst is not None:
        raise typer.Exit(worst.exit_code.value)
    raise typer.Exit(ExitCode.DIFFERENT.value if different else ExitCode.OK.value)


class VerifyRun:
    """Everything that one run of the command has open."""

    def __init__(
        self,
        settings: Settings,
        *,
        ranges: int | None,
        wait: float | None,
        limit: int,
        mend: bool = False,
        force: bool,
    ) -> None:
        self._settings = settings
        self._ranges = ranges
        self._wait = wait
        self._limit = limit
        self._mend = mend
        self._force = force
        self._store: Store | None = None
        self._stack = ExitStack()

    def __enter__(self) -> VerifyRun:
        from cdc.app.wiring import source_of, target_of
        from cdc.comparison import RowHasher, formatter
        from cdc.state import holder, open_store
        from cdc.state.store import FILE_NAME

        with ExitStack() as stack:
            if self._mend and (self._settings.state.directory / FILE_NAME).exists():
                self._store = stack.enter_context(open_store(self._settings.state.directory, mode="write"))
            eras = None if self._store is None else self._store.eras
            self.source = source_of(self._settings, eras=eras)
            stack.enter_context(self.source)
            self.target = stack.enter_context(target_of(self._settings))
            self.hasher = stack.enter_context(RowHasher())
            self.formatter = stack.enter_context(formatter())
            self._stack = stack.pop_all()
        runs = holder(self._settings.state.directory, self.source.identity) is not None
        default = LIVE_WAIT_SECONDS if runs else 0.0
        self.wait_seconds = default if self._wait is None else self._wait
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plans(self, names: Any) -> tuple[TablePlan, ...]:
        from cdc.app.wiring import plans_of

        return chosen_plans(plans_of(self._settings, self.source), names)

    def table(self, plan: TablePlan, *, show: bool) -> tuple[dict[str, Any], bool]:
        """Verify one table, mend it if asked, show it; its document, and whether it is equal now.

        Raises:
            SourceError, TargetError: a side cannot be read or written.
            LeaseHeld: it is to be mended while a replicator runs.
        """
        from cdc.app.repairing import SharedClock
        from cdc.cli.verified import document_of, show_result
        from cdc.clock import SystemClock
        from cdc.comparison import Outranking, repair

        self._check_definition(plan)
        known, failed = self._breaks(plan), self._failed(plan)
        result, comparer = self._verified(plan)
        document = document_of(result)
        if show:
            show_result(result)
        if not self._mend or result.equal:
            self._mended(known if result.equal else ())
            return document, result.equal
        with self._no_replicator():
            beside = self._store if self._force else None  # else the lease is this command's own
            shared = SharedClock(self.source, self.source.identity, beside, SystemClock())
            repaired = repair(result, comparer, Outranking(shared, self.target), self.target)
        after, _ = self._verified(plan)
        if show:
            console().print(
                f"  repaired: {repaired.sent:,} rows delivered again, {repaired.deleted:,} marked deleted"
                + (f", {repaired.rejected:,} refused by the target's types" if repaired.rejected else "")
            )
            console().print("  compared again:")
            show_result(after)
        document["repaired"] = {
            "sent": repaired.sent,
            "deleted": repaired.deleted,
            "rejected": repaired.rejected,
        }
        document["after_repair"] = document_of(after)
        if after.equal:
            self._mended(known)
            self._forget_failed(failed)
        else:
            self.target.check_versions(plan)
        return document, after.equal

    def _verified(self, plan: TablePlan) -> tuple[Any, Any]:
        from cdc.clock import SystemClock
        from cdc.comparison import Comparer, Patience, Verifier, boundaries_of

        comparer = Comparer(plan, self.source, self.target, self.hasher)
        with _progress(str(plan.table)) as progress:
            verifier = Verifier(
                self.formatter,
                Patience(self.wait_seconds, SystemClock()),
                deletes=self._settings.sync.deletes == "replicate",
                limit=self._limit,
                progress=progress,
            )
            result = verifier.verify(
                comparer,
                boundaries_of(self.source, plan, self._ranges),
                self._failed(plan),
                unique=plan.unique_key,
            )
            return result, comparer

    def _failed(self, plan: TablePlan) -> Sequence[FailedRecord]:
        """The failed rows of the table; none where there is no store yet."""
        from cdc.state import open_store
        from cdc.state.store import FILE_NAME

        if not (self._settings.state.directory / FILE_NAME).exists():
            return ()
        try:
            with open_store(self._settings.state.directory, mode="read") as store:
                records = store.failed(plan.table, limit=max(1, store.failed_count(plan.table)))
        except StateError as error:
            complain(f"failed rows are not considered: {error}")
            return ()
        return [record for record in records if record.source == self.source.identity]

    def _breaks(self, plan: TablePlan) -> tuple[Break, ...]:
        """What is remembered of changes of the table that may have gone unseen."""
        from cdc.state import open_store
        from cdc.state.store import FILE_NAME

        if not (self._settings.state.directory / FILE_NAME).exists():
            return ()
        try:
            with open_store(self._settings.state.directory, mode="read") as store:
                found = store.breaks(self.source.identity).standing()
        except StateError:  # of which `_failed` tells
            return ()
        return tuple(each for each in found if each.table == plan.table)

    def _mended(self, breaks: tuple[Break, ...]) -> None:
        """Source and target are equal: a replicator that runs sees that this is forgotten."""
        from cdc.state import open_store

        if not breaks:
            return
        try:
            with open_store(self._settings.state.directory, mode="write") as store:
                for each in breaks:
                    store.breaks(self.source.identity).mended(each)
        except StateError as error:
            complain(f"the alert tail_broken stands: {error}")

    def _forget_failed(self, failed: Sequence[FailedRecord]) -> None:
        """Source and target are equal, also where rows had been set aside before they were compared."""
        from cdc.state import open_store

        if not failed:
            return
        try:
            with open_store(self._settings.state.directory, mode="write") as store:
                store.discard([record.id for record in failed])
        except StateError as error:
            complain(f"the failed rows stay listed: {error}")

    def _check_definition(self, plan: TablePlan) -> None:
        from cdc.errors import TargetError

        blocking = [str(each) for each in self.target.diff(plan) if each.blocks]
        if blocking:
            raise TargetError(
                "verify",
                plan.table,
                "; ".join(blocking),
                "See 'cdc schema diff', then run 'cdc schema apply'",
            )

    @contextmanager
    def _no_replicator(self) -> Iterator[None]:
        from cdc.watermark import no_replicator

        try:
            with no_replicator(self._settings.state.directory, self.source.identity, force=self._force):
                yield
        except LeaseHeld as error:
            remedy = "Stop that replicator, or add --force: later changes still win by their versions"
            raise LeaseHeld("repair", self.source.path, error.problem, remedy) from None


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int], None]]:
    """Rows read so far, on a terminal."""
    out = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        read = 0

        def show(rows: int) -> None:
            nonlocal read
            read += rows
            progress.update(task, description=f"{name}: {read:,} rows read")

        yield show
