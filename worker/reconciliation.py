"""Finding out what became of attempts without a final word: the unknown-outcome ladder at work.

One transaction reads the attempts under their subscriptions' locks, asks billing/unsettled.py for the
next step of each, and stamps those whose key is about to be sent again: no byte leaves without a
committed row that says so. Then all calls, then settling, both exactly as for a charge.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from billing.facts import Attempt
from billing.lifecycle import UNSETTLED_ATTEMPTS
from billing.outcomes import NotFound, Outcome
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
from worker import charges, limits, settling
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.gateways import Gateway
from worker.settling import Told
from worker.store import control, facts, unsettled

log = structlog.get_logger()


class Look(NamedTuple):
    """One attempt with its next step; `deadline` is machine time (monotonic)."""

    attempt: Attempt
    step: Step
    deadline: float


async def reconcile(context: WorkerContext, *, gateway: str, ids: Sequence[str]) -> None:
    """Take the next step of the ladder for these attempts (`invoice_id:ordinal`) of one gateway."""
    adapter = context.gateways[gateway]

    async def transaction() -> list[Look]:
        async with context.pool.acquire() as conn, conn.transaction():
            return await _plan(conn, adapter, [_key(id_) for id_ in ids])

    looks = await with_retries(transaction, what="reconcile")
    await settling.settle_as_they_come(
        context,
        [_take(adapter, look, context) for look in looks],
        within_seconds=limits.SETTLE_DEADLINE_SECONDS,
        by_reconciler=True,
    )


async def _plan(conn: Connection, gateway: Gateway, keys: Sequence[tuple[UUID, int]]) -> list[Look]:
    """Choose the steps and stamp what will be sent, in one transaction."""
    began_at = machine_now()
    state = await control.enter(conn)
    owners = await facts.subscriptions_of_invoices(conn, [key[0] for key in keys])
    subscriptions = await facts.lock_subscriptions(conn, owners)
    attempts = await facts.read_attempts(conn, keys)
    invoices = await facts.read_invoices(conn, [key[0] for key in keys])
    sent_late = await unsettled.still_sending(conn, keys)
    looks = []
    for key, attempt in attempts.items():
        if attempt.state not in UNSETTLED_ATTEMPTS or attempt.gateway != gateway.name:
            continue
        if key in sent_late:
            continue
        subscription = subscriptions[attempt.subscription_id]
        step = next_step(
            attempt,
            invoices[attempt.invoice_id],
            subscription,
            bounds=_bounds(gateway),
            paused=state.stops(
                gateway=gateway.name,
                seller_id=subscription.seller_id,
                plan_id=subscription.plan_id,
            )
            is not None,
            now=state.now,
        )
        if needs_person(attempt, state.now):
            log.error("attempt_needs_person", subject=attempt.subject, state=attempt.state)
        looks.append(Look(attempt, step, began_at + limits.SEND_WINDOW_SECONDS))
    resent = [look.attempt for look in looks if isinstance(look.step, Resend)]
    await unsettled.stamp_resend(
        conn, resent, now=state.now, send_seconds=limits.SEND_WINDOW_SECONDS
    )
    return looks


async def _take(gateway: Gateway, look: Look, context: WorkerContext) -> Told:
    attempt = look.attempt
    outcome: Outcome
    match look.step:
        case Resend():
            outcome = await charges.send_once_or_twice(
                gateway,
                request=attempt.request,
                key=attempt.idempotency_key,
                deadline=look.deadline,
            )
        case LookUp():
            outcome = await gateway.look_up(
                key=attempt.idempotency_key,
                reference=attempt.invoice_id,
                gateway_ref=attempt.gateway_ref,
            )
        case EndAtGateway(gateway_ref):
            outcome = await gateway.cancel(gateway_ref)
    if isinstance(outcome, NotFound):
        async with context.pool.acquire() as conn:
            now = await control.read_now(conn)
        outcome = judge_absence(attempt, bounds=_bounds(gateway), now=now)
    return Told(attempt.invoice_id, attempt.ordinal, attempt.subscription_id, outcome)


def _bounds(gateway: Gateway) -> Bounds:
    capabilities = gateway.capabilities
    return Bounds(
        capabilities.key_lifetime, capabilities.lookup_lag, capabilities.max_delivery_delay
    )


def _key(id_: str) -> tuple[UUID, int]:
    invoice_id, _, ordinal = id_.partition(":")
    return UUID(invoice_id), int(ordinal)
