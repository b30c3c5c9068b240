"""`renewd parked` and `release`: rows that wait for a person."""

import asyncio
from typing import Annotated

import typer

from console import terminal
from console.database import connected
from console.options import UNKNOWN, AsJson, Who, Why, configured, printable
from console.terminal import when
from worker.db import Connection
from worker.errors import UsageError
from worker.settings import Settings
from worker.store import control, facts, parking
from worker.store.parking import Parked, ParkedKind

app = typer.Typer()


@app.command()
def parked(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="List at most so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person.

    Rows that were set aside because they break their batch, and attempts that are frozen.
    """
    settings = configured("database_url")
    rows = asyncio.run(_list(settings, limit))
    if as_json:
        terminal.print_json({"parked": [row._asdict() for row in rows]})
        return
    if not rows:
        terminal.print_line("nothing is parked")
        return
    head = terminal.heading("since", "kind", "id", "reason")
    terminal.print_rows([head, *([when(r.at), r.kind, r.id, r.reason] for r in rows)], whole=2)


@app.command()
def release(
    *,
    kind: Annotated[ParkedKind, typer.Argument(help="As `renewd parked` shows it.")],
    row: Annotated[str, typer.Argument(metavar="ID", help="As `renewd parked` shows it.")],
    why: Why,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """Put a parked row back.

    What was due is due again. A frozen attempt is looked at again at once, under the same key.
    """
    settings = configured("database_url")
    released, back = asyncio.run(
        _release(settings, kind, row, who=printable(who), why=printable(why))
    )
    if as_json:
        terminal.print_json(
            {
                "kind": kind,
                "id": row,
                "subscription_id": released.subscription_id,
                "reason": released.reason,
                "put_back": back,
            }
        )
    elif back:
        terminal.print_line(f"released {kind} {row}, which was parked for: {released.reason}")
    else:
        terminal.print_line(f"{kind} {row} is off the list; there is nothing left to do for it")


async def _list(settings: Settings, limit: int) -> list[Parked]:
    async with connected(settings) as conn:
        return await parking.waiting(conn, subscription_id=None, limit=limit)


async def _release(
    settings: Settings, kind: ParkedKind, row: str, *, who: str, why: str
) -> tuple[Parked, bool]:
    async with connected(settings) as conn, conn.transaction():
        found = await _find(conn, kind, row)
        await facts.lock_subscriptions(conn, [found.subscription_id])
        # Somebody may have released it while we waited for the lock.
        await _find(conn, kind, row)
        now = await control.read_now(conn)
        back = await parking.put_back(conn, kind, row, now=now)
        await control.log_verb(conn, who=who, verb="release", subject=f"{kind}:{row}", why=why)
        return found, back


async def _find(conn: Connection, kind: ParkedKind, row: str) -> Parked:
    try:
        found = await parking.find(conn, kind, row)
    except ValueError:
        found = None
    if found is None:
        raise UsageError(f"{kind} {row!r} is not parked: should be one of renewd parked")
    return found
