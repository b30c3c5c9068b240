"""`renewd rejects`: platform messages without effect, and a second chance for them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

import typer

from billing.lifecycle import RejectedState
from console import terminal
from console.database import connected
from console.options import UNKNOWN, AsJson, Who, configured, printable
from console.terminal import Row, when
from worker.errors import UsageError
from worker.platform.rejects import replay as replay_one
from worker.settings import Settings
from worker.store import control
from worker.store import rejects as store
from worker.store.rejects import Reject

REPLAYED_AT_MOST = 100_000
LISTED = (RejectedState.WAITING, RejectedState.REJECTED, RejectedState.REFUSED)

app = typer.Typer()


@app.command()
def rejects(
    *,
    replay: Annotated[
        int | None, typer.Option(metavar="ID", help="Apply this message once more.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Apply all of them once more.")] = False,
    why: Annotated[str, typer.Option("--why", help="Why; needed to apply any.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="List at most so many.")] = 1000,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """List messages that had no effect.

    Those of the platform that are waiting, rejected or refused. With --replay ID or --all they are applied once more, as if they came now.
    """
    if replay is not None and every:
        raise UsageError("--replay, --all: should be one of them")
    settings = configured("database_url")
    if replay is None and not every:
        _show("rejected", asyncio.run(_newest(settings, limit)), as_json=as_json)
        return
    if not why:
        raise UsageError("--why is missing: should be why these messages are applied once more")
    ids = None if replay is None else [replay]
    done = asyncio.run(_replay(settings, ids, who=printable(who), why=printable(why)))
    _show("replayed", done, as_json=as_json)


async def _newest(settings: Settings, limit: int) -> list[Reject]:
    async with connected(settings) as conn:
        return await store.newest(conn, states=LISTED, limit=limit)


async def _replay(
    settings: Settings, ids: Sequence[int] | None, *, who: str, why: str
) -> list[Reject]:
    """Oldest first, each in a transaction of its own: one that fails again stops no other."""
    wait = timedelta(hours=settings.rejected_after_hours)
    async with connected(settings) as conn:
        if ids is None:
            rows = await store.newest(conn, states=LISTED, limit=REPLAYED_AT_MOST)
            ids = sorted(row.rejected_id for row in rows)
        subject = f"rejected:{ids[0]}" if len(ids) == 1 else f"rejected: {len(ids)} messages"
        await control.log_verb(conn, who=who, verb="rejects --replay", subject=subject, why=why)
        return [await replay_one(conn, id_, wait=wait) for id_ in ids]


def _show(name: str, rows: Sequence[Reject], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json({name: [_as_json(row) for row in rows]})
        return
    if not rows:
        terminal.print_line("there are none")
        return
    head = terminal.heading("id", "received", "state", "type", "error")
    terminal.print_rows([head, *map(_row, rows)], whole=3)


def _row(row: Reject) -> Row:
    return [str(row.rejected_id), when(row.received_at), row.state, row.type or "-", row.error]


def _as_json(row: Reject) -> Mapping[str, object]:
    return {
        "id": row.rejected_id,
        "event_id": row.event_id,
        "source": row.source,
        "type": row.type,
        "state": row.state,
        "field": row.field,
        "error": row.error,
        "waits_for": row.waits_for,
        "received_at": row.received_at,
        "expires_at": row.expires_at,
    }
