"""Attempting an open invoice again: a retry, a new card, somebody's wish, the end of the window.

The same steps as a renewal (charges.py) with a new ordinal and so a new key: there is no other retry code.
What may be attempted is decided again under the lock by billing/dunning.py, from the attempts as they are.
"""

from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

from billing import consequences, renewal
from billing.dunning import Allowed, AttemptSource, GiveUp, Refused, may_attempt
from billing.facts import Attempt, Case, Invoice, Subscription
from billing.lifecycle import (
    ENDED_SUBSCRIPTIONS,
    UNSETTLED_ATTEMPTS,
    AttemptState,
    InvoiceStatus,
)
from billing.pricing import check_amount
from worker import cases, charges, metrics
from worker.charges import Charge, Draft, Flow
from worker.context import WorkerContext
from worker.db import Connection
from worker.store import claims, control, facts
from worker.store.control import Control


async def collect(context: WorkerContext, *, gateway: str, ids: Sequence[str]) -> None:
    """Attempt these open invoices at one gateway, those of them that are due."""

    async def begin(conn: Connection, some: Sequence[str], fence: UUID) -> list[Charge]:
        return await _begin(context, conn, gateway, [UUID(id_) for id_ in some], fence)

    async def park(invoice_id: str, reason: str) -> None:
        async with context.pool.acquire() as conn:
            if await claims.park_collection(conn, UUID(invoice_id), reason):
                metrics.PARKED.labels("collection").inc()

    async def give_back(some: Sequence[str]) -> None:
        async with context.pool.acquire() as conn:
            await claims.give_back_invoices(conn, [UUID(id_) for id_ in some])

    flow = Flow(begin, park, give_back)
    await charges.run(context, gateway=gateway, ids=ids, flow=flow)


async def _begin(
    context: WorkerContext, conn: Connection, gateway: str, ids: Sequence[UUID], fence: UUID
) -> list[Charge]:
    """Step 2 of a retry: the dunning rules again, attempts with the next ordinal, the pace."""
    state = await control.enter(conn)
    owners = await facts.subscriptions_of_invoices(conn, ids)
    subscriptions = await facts.lock_subscriptions(conn, owners)
    state = await control.restamp(conn, state)
    invoices = await facts.read_invoices(conn, ids)
    history = await facts.read_history(conn, ids)
    drafts: list[Draft] = []
    decided: list[Case] = []
    for invoice in sorted(invoices.values(), key=lambda row: row.period_index):
        subscription = subscriptions[invoice.subscription_id]
        if not _may_start(invoice, subscription, gateway, state):
            continue
        charges.assert_progress(invoice.claims)
        attempts = history[invoice.invoice_id]
        case = Case(subscription, invoice, None, state.now, facts.past(attempts))
        decided.append(case)
        if subscription.method_gateway != gateway:
            # The customer's card is elsewhere now; that gateway's sweep takes it from here.
            invoice.gateway = subscription.method_gateway
        elif not _wait_for_live(case, attempts) and not _is_over(case):
            drafts += _draft(case, attempts)
    drafts = _without_ended(drafts, decided)
    await cases.save(conn, decided, actor="collect", now=state.now)
    return await charges.insert(
        conn,
        drafts,
        gateway=context.gateways[gateway],
        control=state,
        fence=fence,
        settings=context.settings,
    )


def _may_start(invoice: Invoice, subscription: Subscription, gateway: str, state: Control) -> bool:
    """Whether it is still due here, and neither a kill switch nor a cancel that is due comes first."""
    cancel_at = subscription.cancel_at
    stopped = state.stops(
        gateway=gateway, seller_id=subscription.seller_id, plan_id=subscription.plan_id
    )
    return (
        invoice.status is InvoiceStatus.OPEN
        and invoice.gateway == gateway
        and invoice.attempt_due_at is not None
        and invoice.attempt_due_at <= state.now
        and (cancel_at is None or cancel_at > state.now)
        and stopped is None
    )


def _wait_for_live(case: Case, attempts: Sequence[Attempt]) -> bool:
    """An attempt is under way: nothing else may be sent. What was asked for waits for its outcome."""
    live = next((a for a in attempts if a.state in UNSETTLED_ATTEMPTS), None)
    if live is None:
        return False
    case.invoice.attempt_due_at = case.invoice.attempt_source = None
    under_way = live.state in (AttemptState.PENDING, AttemptState.ACTION_REQUIRED)
    if under_way and live.needs_human is None:
        # Somebody wants another way: reconciliation ends this one at the gateway first.
        live.check_due_at = case.now
        case.attempt = live
    return True


def _is_over(case: Case) -> bool:
    """Nothing is charged after the end; what a sibling's end left open is closed."""
    if case.subscription.status not in ENDED_SUBSCRIPTIONS:
        return False
    consequences.close_after_end(case)
    return True


def _without_ended(drafts: Sequence[Draft], decided: Sequence[Case]) -> list[Draft]:
    """Giving up one invoice may have ended a subscription after another of its invoices was drafted."""
    ended = {d.invoice.invoice_id for d in drafts if d.subscription.status in ENDED_SUBSCRIPTIONS}
    for case in decided:
        if case.invoice.invoice_id in ended:
            consequences.close_after_end(case)
    return [draft for draft in drafts if draft.invoice.invoice_id not in ended]


def _draft(case: Case, attempts: Sequence[Attempt]) -> list[Draft]:
    """Ask the rules once more, and change the invoice as they say."""
    invoice, subscription = case.invoice, case.subscription
    if invoice.first_declined_at is None and not renewal.has_method(subscription):
        invoice.requested_source = None
        renewal.fail_without_method(case)
        return []
    source = AttemptSource(invoice.requested_source or invoice.attempt_source or "retry")
    policy = invoice.policy(subscription)
    permission = may_attempt(policy, consequences.history_of(case), now=case.now, source=source)
    match permission:
        case Allowed(as_source):
            check_amount(invoice.amount_minor, ceiling_minor=subscription.ceiling_minor)
            invoice.attempt_due_at = invoice.attempt_source = invoice.requested_source = None
            invoice.hold_reason = None
            ordinal = max((a.ordinal for a in attempts), default=0) + 1
            return [Draft(subscription, invoice, ordinal, as_source)]
        case Refused(reason, until):
            # Who asked has had their answer; from here on it is a retry like any other.
            invoice.attempt_due_at, invoice.requested_source = until, None
            invoice.attempt_source = None if until is None else AttemptSource.RETRY
            invoice.hold_reason = reason
        case GiveUp():
            consequences.follow(case, permission)
        case _:
            assert_never(permission)
    return []
