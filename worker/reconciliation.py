"""Finding out what became of attempts without a final word: the unknown-outcome ladder at work.

One transaction reads the attempts under their subscriptions' locks, asks billing/unsettled.py for the
next step of each, and stamps those whose key is about to be sent again: no byte leaves without a
committed row that says so. Then all calls, at the gateway's pace, then settling as for a charge.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from billing.facts import Attempt, Invoice, Subscription
from billing.lifecycle import UNSETTLED_ATTEMPTS
from billing.outcomes import ChargeOutcome, LookupOutcome, NotFound, Outcome
from billing.unsettled import (
    Bounds,
    EndAtGateway,
    LookUp,
    Resend,
    Step,
    judge_absence,
    needs_person,
    next_step,
)
from worker import charges, limits, sending, settling
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.gateways import Gateway
from worker.settling import Told
from worker.store import control, facts, unsettled
from worker.store.control import Control

log = structlog.get_logger()


class Look(NamedTuple):
    """One attempt with its next step, chosen `at` (business time)."""

    attempt: Attempt
    step: Step
    at: datetime


class Plan(NamedTuple):
    """The looks of a batch; the times are machine time (monotonic)."""

    looks: Sequence[Look]
    begins_at: float
    deadline: float


async def reconcile(context: WorkerContext, *, gateway: str, ids: Sequence[str]) -> None:
    """Take the next step of the ladder for these attempts (`invoice_id:ordinal`) of one gateway.

    Only those whose time to be looked at has come; if the gateway is too busy, none: their lease
    brings them back.
    """
    adapter = context.gateways[gateway]
    per_second = context.settings.gateways[gateway].max_per_second

    async def transaction() -> Plan:
        async with context.pool.acquire() as conn, conn.transaction():
            return await _plan(conn, adapter, [_key(id_) for id_ in ids], per_second=per_second)

    try:
        plan = await with_retries(transaction, what="reconcile")
    except charges.PaceExceededError:
        return
    calls = [
        _take(adapter, look, send_at=plan.begins_at + n / per_second, deadline=plan.deadline)
        for n, look in enumerate(plan.looks)
    ]
    await settling.settle_as_they_come(
        context, calls, within_seconds=limits.SETTLE_DEADLINE_SECONDS, by_reconciler=True
    )


async def _plan(
    conn: Connection, gateway: Gateway, keys: Sequence[tuple[UUID, int]], *, per_second: int
) -> Plan:
    """Choose the steps, stamp what will be sent and reserve the pace, in one transaction."""
    began_at = machine_now()
    state = await control.enter(conn)
    owners = await facts.subscriptions_of_invoices(conn, [key[0] for key in keys])
    subscriptions = await facts.lock_subscriptions(conn, owners)
    state = await control.restamp(conn, state)
    attempts = await facts.read_attempts(conn, keys)
    invoices = await facts.read_invoices(conn, [key[0] for key in keys])
    sent_late = await unsettled.still_sending(conn, keys)
    looks = [
        _look(
            gateway,
            attempt,
            invoices[attempt.invoice_id],
            subscriptions[attempt.subscription_id],
            state,
        )
        for key, attempt in attempts.items()
        if key not in sent_late and _is_due(attempt, gateway, state)
    ]
    resent = [look.attempt for look in looks if isinstance(look.step, Resend)]
    await unsettled.stamp_resend(
        conn, resent, now=state.now, send_seconds=limits.SEND_WINDOW_SECONDS
    )
    begins_at = await charges.reserve_pace(
        conn, gateway.name, charges=len(looks), per_second=per_second
    )
    return Plan(looks, begins_at, began_at + limits.SEND_WINDOW_SECONDS)


def _is_due(attempt: Attempt, gateway: Gateway, state: Control) -> bool:
    """Asked again under the lock: a frozen one, and one that was settled meanwhile, has no due time."""
    return (
        attempt.state in UNSETTLED_ATTEMPTS
        and attempt.gateway == gateway.name
        and attempt.check_due_at is not None
        and attempt.check_due_at <= state.now
    )


def _look(
    gateway: Gateway,
    attempt: Attempt,
    invoice: Invoice,
    subscription: Subscription,
    state: Control,
) -> Look:
    if needs_person(attempt, state.now):
        log.error("attempt_needs_person", subject=attempt.subject, state=attempt.state)
    paused = state.stops(
        gateway=gateway.name, seller_id=subscription.seller_id, plan_id=subscription.plan_id
    )
    step = next_step(
        attempt,
        invoice,
        subscription,
        bounds=_bounds(gateway),
        paused=paused is not None,
        now=state.now,
    )
    return Look(attempt, step, state.now)


async def _take(gateway: Gateway, look: Look, *, send_at: float, deadline: float) -> Told:
    delay = send_at - machine_now()
    if delay > 0:
        await asyncio.sleep(delay)
    attempt = look.attempt
    outcome = await _ask(gateway, look, deadline)
    if isinstance(outcome, NotFound):
        judged = judge_absence(attempt, bounds=_bounds(gateway), now=look.at)
        return _told(attempt, judged)
    return _told(attempt, outcome)


async def _ask(gateway: Gateway, look: Look, deadline: float) -> ChargeOutcome | LookupOutcome:
    attempt = look.attempt
    match look.step:
        case Resend():
            return await sending.send_once_or_twice(
                gateway,
                request=attempt.request,
                key=attempt.idempotency_key,
                deadline=deadline,
            )
        case LookUp():
            return await gateway.look_up(
                key=attempt.idempotency_key,
                reference=attempt.invoice_id,
                gateway_ref=attempt.gateway_ref,
            )
        case EndAtGateway(gateway_ref):
            return await gateway.cancel(gateway_ref)


def _bounds(gateway: Gateway) -> Bounds:
    capabilities = gateway.capabilities
    return Bounds(
        capabilities.key_lifetime, capabilities.lookup_lag, capabilities.max_delivery_delay
    )


def _key(id_: str) -> tuple[UUID, int]:
    invoice_id, _, ordinal = id_.partition(":")
    return UUID(invoice_id), int(ordinal)


def _told(attempt: Attempt, outcome: Outcome) -> Told:
    return Told(
        attempt.gateway, attempt.invoice_id, attempt.ordinal, attempt.subscription_id, outcome
    )
