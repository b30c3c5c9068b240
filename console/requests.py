"""`renewd collect` and `cancel`: what the platform may ask for, asked for by an operator.

Both go through the intake's own handlers, so that a request means the same whoever makes it.
"""

import asyncio
import time
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer

from billing.events import EventType, PlatformEvent
from billing.events.payloads import CancelRequested, CollectionRequested
from billing.facts import Invoice, Subscription
from billing.lifecycle import CancelOrigin
from console import terminal
from console.database import connected
from console.options import UNKNOWN, AsJson, Who, Why, configured, printable
from console.terminal import when
from worker import cases
from worker.db import Connection
from worker.errors import RenewdError, UsageError
from worker.platform.apply import apply
from worker.platform.apply.collection import as_uuid
from worker.platform.desk import Desk
from worker.platform.loading import load
from worker.platform.references import names_in
from worker.platform.verdicts import Missing, Refused, Superseded
from worker.settings import Settings
from worker.store import control, hints, inbox, story

app = typer.Typer()


class When(StrEnum):
    """When a subscription ends."""

    NOW = "now"
    PERIOD_END = "period_end"


class Trace(NamedTuple):
    """Who asks, and why."""

    who: str
    why: str


@app.command()
def collect(
    *,
    why: Why,
    subscription: Annotated[
        str | None, typer.Option(help="All its open invoices.", metavar="ID")
    ] = None,
    invoice: Annotated[str | None, typer.Option(help="This open invoice.", metavar="ID")] = None,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """Attempt once more, now, what is owed.

    This is outside the retry schedule. An attempt that is under way is settled first; a card whose bank said never again is not touched.
    """
    if (subscription is None) == (invoice is None):
        raise UsageError("--subscription, --invoice: should be one of them")
    payload = CollectionRequested(
        subscription_id=subscription, invoice_id=invoice, by=CancelOrigin.ADMIN.value
    )
    settings = configured("database_url")
    desk, pauses = asyncio.run(_collect(settings, payload, Trace(printable(who), printable(why))))
    asked = [case.invoice for case in desk.cases]
    if as_json:
        invoices = [{"invoice_id": i.invoice_id, "attempt_due_at": i.attempt_due_at} for i in asked]
        terminal.print_json({"invoices": invoices, "charging_paused": bool(pauses)})
        return
    for owed in asked:
        terminal.print_line(f"invoice {owed.invoice_id}: {_outlook(owed)}")
    for pause in pauses:
        terminal.print_line(f"but charging is paused ({pause.scope}): {pause.reason}")


@app.command()
def cancel(
    *,
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION")],
    at: Annotated[When, typer.Option(help="At once, or with the period that is paid.")],
    why: Why,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """End a subscription.

    The platform is told, with origin admin and the reason.
    """
    payload = CancelRequested(
        subscription_id=subscription,
        at=at.value,
        origin=CancelOrigin.ADMIN.value,
        reason=printable(why),
    )
    settings = configured("database_url")
    desk = asyncio.run(_cancel(settings, payload, Trace(printable(who), printable(why))))
    ended = desk.subscriptions[subscription]
    if as_json:
        terminal.print_json(
            {
                "subscription_id": subscription,
                "status": ended.status,
                "cancel_at": ended.cancel_at,
                "ended_at": ended.ended_at,
                "changed": bool(desk.cases),
            }
        )
    else:
        terminal.print_line(_ending(ended))


async def _collect(
    settings: Settings, payload: CollectionRequested, trace: Trace
) -> tuple[Desk, list[story.Pause]]:
    async with connected(settings) as conn:
        desk = await request(
            conn,
            EventType.COLLECTION_REQUESTED,
            payload,
            verb="collect",
            subject=f"subscription:{payload.subscription_id}"
            if payload.invoice_id is None
            else f"invoice:{as_uuid(payload.invoice_id) or payload.invoice_id}",
            trace=trace,
        )
        return desk, await story.read_pauses(conn, next(iter(desk.subscriptions)))


async def _cancel(settings: Settings, payload: CancelRequested, trace: Trace) -> Desk:
    async with connected(settings) as conn:
        return await request(
            conn,
            EventType.CANCEL_REQUESTED,
            payload,
            verb="cancel",
            subject=f"subscription:{payload.subscription_id}",
            trace=trace,
        )


async def request(
    conn: Connection,
    kind: EventType,
    payload: CollectionRequested | CancelRequested,
    *,
    verb: str,
    subject: str,
    trace: Trace,
) -> Desk:
    """Apply a request as the intake would, in one transaction with its trace in the operator log.

    Returns what was changed. Raises `UsageError` if it names nothing that is there, and `RenewdError`
    if a rule forbids it or the platform has asked for something newer.
    """
    async with conn.transaction():
        await inbox.lock(conn)
        now = await control.read_now(conn)
        event = PlatformEvent(_newest_id(), "renewd/console", kind, now, payload, b"")
        desk = Desk(now)
        await load(conn, desk, names_in([event]))
        # After the locks: what was charged before is stamped earlier than what is asked now.
        desk.now = now = await control.read_now(conn)
        _apply(desk, event)
        await _save(conn, desk, actor=f"operator {trace.who}", now=now)
        await control.log_verb(conn, who=trace.who, verb=verb, subject=subject, why=trace.why)
    return desk


def _newest_id() -> str:
    """An event id above all others: at equal times, as under the test clock, the greater one wins."""
    return f"~operator-{time.time_ns():020d}"


def _apply(desk: Desk, event: PlatformEvent) -> None:
    match apply(desk, event):
        case Missing(ref):
            raise UsageError(f"{ref.kind} {ref.id!r} is not known: should be one that exists")
        case Refused(_, error):
            raise RenewdError(error.replace("data.", ""))
        case Superseded():
            raise RenewdError("the platform has asked for something else since: nothing was done")
        case _:
            return


async def _save(conn: Connection, desk: Desk, *, actor: str, now: datetime) -> None:
    """As the intake saves a desk, under the operator's name; neither request touches more."""
    await cases.save(conn, desk.cases, actor=actor, now=now)
    await hints.look_again(conn, list(desk.hints), now=now)
    await inbox.write_versions(conn, list(desk.new_versions.items()))


def _outlook(owed: Invoice) -> str:
    if owed.attempt_due_at is not None:
        return f"the attempt is due since {when(owed.attempt_due_at)}"
    if owed.hold_reason is not None:
        return f"waits: {owed.hold_reason} (see renewd parked)"
    return "waits until the attempt that is under way is settled"


def _ending(ended: Subscription) -> str:
    if ended.ended_at is not None:
        return f"{ended.subscription_id} is {ended.status} since {when(ended.ended_at)}"
    return f"{ended.subscription_id} stays {ended.status} and ends at {when(ended.cancel_at)}"
