"""The life of a charge, for a batch of one gateway. Read this file before any other of this room.

1. A sweep claimed some rows and rang with their ids; nothing else of the doorbell counts.
2. **Begin**, one transaction (`begin` of renewals.py and retries.py): the CONTROL lock, the locks of the
   subscriptions in id order, every guard asked again; invoices and attempts are inserted, each attempt
   `sent` with its key, its request bytes and its deadline; the gateway's pace is reserved last. COMMIT.
   A row that fails a guard is simply not inserted.
   - No answer to the commit: read again by our fence. What is there goes on, the rest is not sent.
3. **Call**: all at once, in the reserved stretch of time, no transaction open. Before each try the clock
   is checked against the deadline of its row. A network error is repaired once, same key, same bytes.
   - A crash from here on: the row says `sent`. Reconciliation takes it over and uses the same key.
4. **Settle**, in small groups as the outcomes come in, so that one slow call delays nobody: locks, rules,
   writes, COMMIT. The state and what the platform is told are one commit.
   - No answer to the commit: again. An attempt that is resolved stays as it is.
5. The doorbell is acknowledged. Rung again, it finds nothing to do.

Every crash between two lines leaves either nothing or a committed row that reconciliation finds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID, uuid4

import structlog

from billing.dunning_terms import AttemptSource
from billing.facts import Invoice, Subscription
from billing.keys import idempotency_key
from billing.lifecycle import SubscriptionStatus
from worker import limits, memory, metrics, sending, settling
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import TRANSIENT, Connection, is_transient
from worker.gateways import ChargeRequest, Gateway
from worker.halving import breaks_its_batch
from worker.memory import Memory
from worker.settings import Settings
from worker.store import changes, facts, pace
from worker.store.changes import NewAttempt
from worker.store.control import Control

PARK_AFTER = 4
"""Leases that ran out on a row before it is not tried a fifth time: it may take workers with it."""

PACE_GRAIN_SECONDS = 0.005
"""Sends are not held back by less: a timer a charge would cost more than the pace gains."""

log = structlog.get_logger()


class NoProgressError(AssertionError):
    """Claimed five times without progress: it may have taken the worker with it."""


class PaceExceededError(Exception):
    """The batch cannot be sent before its deadline at its gateway's pace: it is given back unsent."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A charge that passed every guard and is about to be committed."""

    subscription: Subscription
    invoice: Invoice
    ordinal: int
    source: str


@dataclass(frozen=True, slots=True)
class Charge:
    """A committed attempt that this process sends; both times are machine time (monotonic)."""

    invoice_id: UUID
    ordinal: int
    subscription_id: str
    key: str
    request: bytes
    send_at: float
    deadline: float
    memory: Memory | None


Begin: TypeAlias = Callable[[Connection, Sequence[str], UUID], Awaitable[list[Charge]]]
"""The transaction of step 2 for some ids under a fence; the caller commits."""

Park: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Take one id out of its sweep, with the reason."""

GiveBack: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]
"""End the lease of ids that were not started."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What renewals and retries have of their own; everything after `begin` is the same."""

    begin: Begin
    park: Park
    give_back: GiveBack


def assert_progress(claims: int) -> None:
    """Raise `NoProgressError` for a row that is about to be tried once too often; it is parked."""
    if claims >= PARK_AFTER:
        raise NoProgressError(NoProgressError.__doc__)


async def run(context: WorkerContext, *, gateway: str, ids: Sequence[str], flow: Flow) -> None:
    """Take a batch through its life. Returns when every outcome is committed or left to reconcile."""
    seats = context.seats
    if not seats.take(gateway):
        await flow.give_back(ids)
        return
    try:
        charges = await _begin_by_halves(context, list(ids), flow)
        await settling.settle_as_they_come(
            context,
            [_send(context.gateways[gateway], charge) for charge in charges],
            within_seconds=limits.SETTLE_DEADLINE_SECONDS,
        )
    finally:
        seats.leave(gateway)


async def insert(
    conn: Connection,
    drafts: Sequence[Draft],
    *,
    gateway: Gateway,
    control: Control,
    fence: UUID,
    settings: Settings,
) -> list[Charge]:
    """Insert the attempts and reserve the pace: the last statements of step 2.

    Raises `PaceExceededError` when the gateway is busy for longer than the send window allows.
    """
    if not drafts:
        return []
    per_second = settings.gateways[gateway.name].max_per_second
    rows = [_row(draft, gateway, control.installation_id) for draft in drafts]
    began_at = machine_now()
    await changes.insert_attempts(
        conn, rows, fence=fence, now=control.now, unsettled_seconds=settings.unsettled_seconds
    )
    begins_at = await reserve_pace(conn, gateway.name, charges=len(rows), per_second=per_second)
    deadline = began_at + limits.SEND_WINDOW_SECONDS
    return [
        Charge(
            row.invoice_id,
            row.ordinal,
            row.subscription_id,
            row.idempotency_key,
            row.request,
            send_at=begins_at + n / per_second,
            deadline=deadline,
            memory=_memory(draft, row, control.now),
        )
        for n, (draft, row) in enumerate(zip(drafts, rows, strict=True))
    ]


def _memory(draft: Draft, row: NewAttempt, now: datetime) -> Memory | None:
    """Only a first attempt of an active subscription can be settled without reading it again."""
    first = draft.source is AttemptSource.RENEWAL and draft.ordinal == 1
    if not first or draft.subscription.status is not SubscriptionStatus.ACTIVE:
        return None
    return memory.remember(draft.subscription, draft.invoice, row, now=now)


async def reserve_pace(conn: Connection, gateway: str, *, charges: int, per_second: int) -> float:
    """Take the gateway's next free stretch, as the last statement of a transaction.

    Returns when it begins (monotonic). Raises `PaceExceededError` if it ends too late to send in.
    """
    if not charges:
        return machine_now()
    begins_in = await pace.reserve(conn, gateway, charges=charges, per_second=per_second)
    if begins_in + charges / per_second > limits.SEND_WINDOW_SECONDS - limits.TRY_SECONDS:
        raise PaceExceededError
    return machine_now() + begins_in


async def _begin_by_halves(context: WorkerContext, ids: list[str], flow: Flow) -> list[Charge]:
    """Step 2, halved until the row that breaks it is alone: that one is parked."""
    fence = uuid4()
    charges: list[Charge] = []
    try:
        async with context.pool.acquire() as conn, conn.transaction():
            charges = await flow.begin(conn, ids, fence)
    except PaceExceededError:
        await flow.give_back(ids)
        return []
    except Exception as error:
        if is_transient(error):
            there = await _what_was_committed(context, charges, fence)
            if not there:
                # During an outage nobody can give them back; then their lease does.
                with contextlib.suppress(*TRANSIENT):
                    await flow.give_back(ids)
            return there
        if not breaks_its_batch(error):
            raise
        if len(ids) == 1:
            log.exception("row_parked", row=ids[0])
            await flow.park(ids[0], f"{type(error).__name__}: {error}"[:500])
            return []
        half = len(ids) // 2
        first = await _begin_by_halves(context, ids[:half], flow)
        return first + await _begin_by_halves(context, ids[half:], flow)
    return charges


async def _what_was_committed(
    context: WorkerContext, charges: Sequence[Charge], fence: UUID
) -> list[Charge]:
    """The commit had no answer: go on with what is there under our fence, send nothing else."""
    if not charges:
        return []
    async with context.pool.acquire() as conn:
        there = await facts.read_fenced(conn, [charge.invoice_id for charge in charges], fence)
    log.warning("commit_read_again", asked=len(charges), there=len(there))
    return [charge for charge in charges if (charge.invoice_id, charge.ordinal) in there]


def _row(draft: Draft, gateway: Gateway, installation_id: UUID) -> NewAttempt:
    subscription, invoice = draft.subscription, draft.invoice
    assert subscription.method_gateway == gateway.name, "the payment method is at another gateway"
    request = gateway.request_bytes(
        ChargeRequest(
            amount_minor=invoice.amount_minor,
            currency=invoice.currency,
            token=subscription.token,
            customer_id=subscription.customer_id,
            invoice_id=invoice.invoice_id,
            ordinal=draft.ordinal,
            statement_descriptor=subscription.statement_descriptor,
        )
    )
    return NewAttempt(
        invoice_id=invoice.invoice_id,
        ordinal=draft.ordinal,
        subscription_id=subscription.subscription_id,
        source=draft.source,
        gateway=gateway.name,
        payment_method_id=subscription.payment_method_id,
        amount_minor=invoice.amount_minor,
        currency=invoice.currency,
        idempotency_key=idempotency_key(installation_id, invoice.invoice_id, draft.ordinal),
        request=request,
        request_hash=sha256(request).digest(),
    )


async def _send(gateway: Gateway, charge: Charge) -> settling.Told:
    delay = charge.send_at - machine_now()
    if delay > PACE_GRAIN_SECONDS:
        await asyncio.sleep(delay)
    with metrics.gateway_request(gateway.name) as observed:
        outcome = await sending.send_once_or_twice(
            gateway, request=charge.request, key=charge.key, deadline=charge.deadline
        )
        observed.outcome = type(outcome).__name__.lower()
    return settling.Told(
        gateway.name,
        charge.invoice_id,
        charge.ordinal,
        charge.subscription_id,
        outcome,
        charge.memory,
    )
