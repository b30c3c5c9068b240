"""Opening the next period of subscriptions that are due, and charging it: see charges.py for the steps."""

from collections.abc import Sequence
from uuid import UUID

from billing import consequences, renewal
from billing.calendar import Period
from billing.dunning_terms import AttemptSource
from billing.facts import Case, Subscription
from billing.renewal import Opened
from worker import cases, charges, metrics
from worker.charges import Charge, Draft, Flow
from worker.context import WorkerContext
from worker.db import Connection
from worker.store import changes, claims, control, facts, plain
from worker.store.control import Control

SKIP_REASON = "missed, and older than catch_up_periods"


async def renew(context: WorkerContext, *, gateway: str, ids: Sequence[str]) -> None:
    """Invoice and charge these subscriptions at one gateway, those of them that are due."""

    async def begin(conn: Connection, some: Sequence[str], fence: UUID) -> list[Charge]:
        return await _begin(context, conn, gateway, some, fence)

    async def park(subscription_id: str, reason: str) -> None:
        async with context.pool.acquire() as conn:
            if await claims.park_renewal(conn, subscription_id, reason):
                metrics.PARKED.labels("renewal").inc()

    async def give_back(some: Sequence[str]) -> None:
        async with context.pool.acquire() as conn:
            await claims.give_back_subscriptions(conn, some)

    flow = Flow(begin, park, give_back)
    await charges.run(context, gateway=gateway, ids=ids, flow=flow)


async def _begin(
    context: WorkerContext, conn: Connection, gateway: str, ids: Sequence[str], fence: UUID
) -> list[Charge]:
    """Step 2 of a renewal: every guard again, invoices, attempts, the next date, the pace."""
    state = await control.enter(conn)
    subscriptions = await facts.lock_subscriptions(conn, ids)
    state = await control.restamp(conn, state)
    unpaid = await facts.read_open_invoices(conn, list(subscriptions))
    opened: list[Opened] = []
    ended: list[Case] = []
    held: list[Subscription] = []
    skips: list[tuple[str, Period]] = []
    for subscription in subscriptions.values():
        if not _may_start(subscription, gateway, state):
            continue
        charges.assert_progress(subscription.claims)
        owes = subscription.subscription_id in unpaid
        if renewal.is_held(subscription, has_open_invoice=owes, now=state.now):
            subscription.next_renewal_at = None
            held.append(subscription)
        elif renewal.is_complete(subscription, state.now):
            missed = renewal.missed_at_the_end(subscription, state.now)
            skips += [(subscription.subscription_id, passed) for passed in missed]
            ended.append(renewal.complete(subscription, now=state.now))
        else:
            opened.append(renewal.open_invoice(subscription, now=state.now))
    drafts, at_once = await _insert(conn, gateway, opened, state)
    await changes.insert_skips(conn, skips, reason=SKIP_REASON, now=state.now)
    await plain.move_on(conn, [draft.subscription for draft in drafts] + held)
    await cases.save(conn, at_once + ended, actor="renew", now=state.now)
    return await charges.insert(
        conn,
        drafts,
        gateway=context.gateways[gateway],
        control=state,
        fence=fence,
        settings=context.settings,
    )


def _may_start(subscription: Subscription, gateway: str, state: Control) -> bool:
    """Whether it is still due here: what a sweep saw may have changed since."""
    return (
        renewal.is_due(subscription, state.now)
        and subscription.gateway == gateway
        and not renewal.is_canceled_before(subscription)
        and not state.stops(
            gateway=gateway, seller_id=subscription.seller_id, plan_id=subscription.plan_id
        )
    )


async def _insert(
    conn: Connection, gateway: str, opened: Sequence[Opened], state: Control
) -> tuple[list[Draft], list[Case]]:
    """Insert the invoices; returns what is to be charged, and what is settled without a charge."""
    new = await changes.insert_invoices(
        conn,
        [(o.case.subscription, o.case.invoice) for o in opened],
        gateway=gateway,
        now=state.now,
    )
    fresh = [o for o in opened if o.case.invoice.invoice_id in new]
    await changes.insert_lines(
        conn,
        [(o.case.invoice.invoice_id, n, line) for o in fresh for n, line in enumerate(o.lines)],
    )
    skips = [(o.case.subscription.subscription_id, skip) for o in opened for skip in o.skipped]
    await changes.insert_skips(conn, skips, reason=SKIP_REASON, now=state.now)
    drafts, at_once = [], []
    for case in (o.case for o in fresh):
        if case.invoice.amount_minor == 0:
            consequences.pay(case, "nothing to pay")
            at_once.append(case)
        elif renewal.waits_for_window(case):
            at_once.append(case)
        elif renewal.has_method(case.subscription):
            drafts.append(Draft(case.subscription, case.invoice, 1, AttemptSource.RENEWAL))
        else:
            renewal.fail_without_method(case)
            at_once.append(case)
    known = [o.case.subscription for o in opened if o.case.invoice.invoice_id not in new]
    await changes.write_subscriptions(conn, known)
    return drafts, at_once
