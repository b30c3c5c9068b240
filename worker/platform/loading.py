"""Filling a desk: what must be locked is found first, then locked in the one order, then read.

The order is that of docs/design.md: seller, customer, subscription (and then its methods), each set
sorted by id. What only the intake writes and this batch does not is read without a lock of its own.
"""

from collections.abc import Collection

from worker.db import Connection
from worker.platform.desk import Desk
from worker.platform.references import Names
from worker.store import facts, hints, inbox, methods, parties, plans, signups


async def load(conn: Connection, desk: Desk, names: Names) -> None:
    """Read everything that a batch names onto its desk; the caller holds the intake's lock."""
    desk.plans.known = await plans.read(conn, names.plans)
    found = await hints.find(
        conn, keys={*names.keys, *desk.found_keys.values()}, references=names.gateway_refs
    )
    for trace in found:
        desk.traces[trace.gateway, trace.idempotency_key] = trace
        if trace.gateway_ref is not None:
            desk.traces[trace.gateway, trace.gateway_ref] = trace
    await _load_parties(conn, desk, names)
    owners = await facts.subscriptions_of_invoices(conn, names.invoices) if names.invoices else []
    await _load_subscriptions(
        conn, desk, names, also={*owners, *(trace.subscription_id for trace in found)}
    )
    await _load_methods(conn, desk, names)
    desk.versions = await inbox.read_versions(conn, names.topics)


async def _load_parties(conn: Connection, desk: Desk, names: Names) -> None:
    changed = await methods.read(conn, names.changed_methods)
    sellers = {plan.seller_id for plan in desk.plans.known.values()}
    desk.sellers.known = await parties.read_sellers(
        conn, names.sellers | sellers | names.new_sellers, lock=names.new_sellers
    )
    # Whoever loses a default method, or gets another, is written too.
    owners = {method.customer_id for method in changed.values()} | names.new_defaults
    desk.customers.known = await parties.read_customers(
        conn,
        names.customers | names.new_customers | owners,
        lock=names.new_customers | owners,
    )


async def _load_subscriptions(
    conn: Connection, desk: Desk, names: Names, *, also: Collection[str]
) -> None:
    ids = {
        *names.subscriptions,
        *also,
        *await signups.of_methods(conn, names.changed_methods),
        *await signups.of_customers(conn, names.new_defaults & desk.customers.known.keys()),
    }
    if not ids:
        return
    for subscription in (await facts.lock_subscriptions(conn, ids)).values():
        desk.add(subscription)
    if not desk.subscriptions:
        return
    desk.open_invoices = await facts.read_open_invoices(conn, list(desk.subscriptions))
    known = [invoice for owed in desk.open_invoices.values() for invoice in owed]
    desk.under_way = await hints.read_unsettled(conn, [invoice.invoice_id for invoice in known])
    closed = await facts.read_invoices(conn, names.invoices) if names.invoices else {}
    # An open invoice is one object, wherever it is looked up.
    desk.owners = closed | {invoice.invoice_id: invoice for invoice in known}


async def _load_methods(conn: Connection, desk: Desk, names: Names) -> None:
    defaults = {
        customer.default_payment_method_id
        for customer in desk.customers.known.values()
        if customer.default_payment_method_id is not None
    }
    wanted = names.methods | names.changed_methods
    if names.changed_methods:
        wanted |= defaults
    desk.methods.known = await methods.read(conn, wanted, lock=names.changed_methods)
