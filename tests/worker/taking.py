"""Messages taken in as the intake takes them, without a broker."""

from collections.abc import Sequence
from typing import Any

from tests import platform_events as shop
from tests.world import START, World
from worker.platform.batches import BatchResult, Delivery, apply_batch
from worker.store import inbox
from worker.store.inbox import Clock

SOFT = "tok_decline_insufficient_funds_1"
HARD = "tok_decline_stolen_card_1"
PENDING = "tok_pending_ok_1"

TABLES = [
    "seller",
    "plan",
    "price_version",
    "customer",
    "payment_method",
    "subscription",
    "invoice",
    "attempt",
    "transition",
    "outbox_event",
    "inbox_key",
    "inbox_event",
    "applied_version",
    "rejected_event",
    "notice",
]


async def take(
    world: World, *bodies: bytes, repeated: bool = False, clock: Clock | None = None
) -> BatchResult:
    """Take these messages in, in one batch, by the world's clock unless one is given."""
    deliveries = [Delivery(body, repeated=repeated) for body in bodies]
    if clock is None:
        async with world.pool.acquire() as conn:
            clock = await inbox.read_clock(conn)
    return await apply_batch(world.context, deliveries, clock=clock)


async def take_singly(world: World, bodies: Sequence[bytes]) -> None:
    """Take these messages in, each in a batch of its own."""
    for body in bodies:
        await take(world, body)


async def kept(world: World) -> list[tuple[str, str, str | None]]:
    """Every message without effect: (state, field, waits_for)."""
    rows = await world.fetch("SELECT state, field, waits_for FROM rejected_event ORDER BY 1, 2, 3")
    return [(row["state"], row["field"], row["waits_for"]) for row in rows]


async def dump(world: World) -> dict[str, list[str]]:
    """All rows of all tables that the intake writes, but for machine time and positions."""
    volatile = {"position", "created_at", "received_at", "settled_at", "rejected_id"}
    found = {}
    for table in TABLES:
        rows = await world.fetch(f"SELECT * FROM {table}")
        found[table] = sorted(
            repr({name: value for name, value in row.items() if name not in volatile})
            for row in rows
        )
    return found


async def forget(world: World) -> None:
    """Empty those tables."""
    await world.value(f"TRUNCATE {', '.join(TABLES)} CASCADE")


async def indebted(world: World, token: str = SOFT, **policy: Any) -> None:
    """A subscription whose first renewal got this answer."""
    await take(world, shop.seller(), shop.plan(retry_policy=policy), shop.customer())
    await take(world, shop.method(token=token))
    await take(world, shop.created(paid_through=START.isoformat()))
    await world.renew("sub_1")


async def attempt_due(world: World) -> tuple[Any, ...]:
    """When and why the invoice is tried next, and what was asked for."""
    row = await world.row("invoice")
    return row["attempt_due_at"], row["attempt_source"], row["requested_source"]
