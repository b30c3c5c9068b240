"""Payments that a message names by the gateway's own id, and that no attempt of ours has yet.

An attempt whose answer was lost has no gateway id; its gateway says which key the payment belongs to.
"""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from billing.events import PlatformEvent
from billing.events.payloads import PaymentReported
from worker.context import WorkerContext
from worker.store import hints

LOOK_UP_SECONDS = 5
"""For all look-ups of a batch: a gateway that is slow today must not hold up every message."""

LOOK_UPS_AT_ONCE = 20

log = structlog.get_logger()


async def find_keys(
    context: WorkerContext, events: Sequence[PlatformEvent]
) -> dict[tuple[str, str], str]:
    """Ask the gateways about references nobody knows: (gateway, reference) → idempotency key.

    What is not found, or not in time, is left out; its message waits.
    """
    named = {
        (told.gateway, told.gateway_ref)
        for event in events
        if isinstance(told := event.payload, PaymentReported)
        and told.idempotency_key is None
        and told.gateway_ref is not None
        and told.gateway in context.gateways
    }
    if not named:
        return {}
    async with context.pool.acquire() as conn:
        known = await hints.find(conn, keys=(), references={ref for _, ref in named})
    unknown = named - {(trace.gateway, trace.gateway_ref) for trace in known}
    return await _ask(context, unknown)


async def _ask(
    context: WorkerContext, unknown: Collection[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    at_once = asyncio.Semaphore(LOOK_UPS_AT_ONCE)

    async def ask(gateway: str, reference: str) -> None:
        async with at_once:
            charge = await context.gateways[gateway].look_up_ref(reference)
        if charge is not None:
            found[gateway, reference] = charge.idempotency_key

    try:
        async with asyncio.timeout(LOOK_UP_SECONDS), asyncio.TaskGroup() as group:
            for gateway, reference in unknown:
                group.create_task(ask(gateway, reference))
    except TimeoutError:
        log.warning("payments_not_found", unknown=len(unknown) - len(found))
    return found
