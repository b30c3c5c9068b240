"""Everything about one subscription, as the stores tell it: what `renewd explain` works with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.facts import Attempt, Invoice, Subscription
from worker.db import Connection
from worker.store import control, facts, parking, story
from worker.store.parking import Parked
from worker.store.story import (
    Created,
    Line,
    NoticeRow,
    Pause,
    PlatformMessage,
    SentMessage,
    Skip,
    Transition,
    Verb,
)

AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Story:
    """One subscription and all that happened to it, each list in its own order.

    `taken` are the platform's messages, None where looking for them would have taken too long;
    `rejected` are those of them that had no effect at first.
    """

    now: datetime
    subscription: Subscription
    created: Created
    invoices: Sequence[Invoice]
    lines: Mapping[UUID, Sequence[Line]]
    attempts: Mapping[UUID, Sequence[Attempt]]
    transitions: Sequence[Transition]
    messages: Sequence[SentMessage]
    notices: Sequence[NoticeRow]
    skips: Sequence[Skip]
    parked: Sequence[Parked]
    pauses: Sequence[Pause]
    verbs: Sequence[Verb]
    taken: Sequence[PlatformMessage] | None
    rejected: Sequence[PlatformMessage]


async def read_story(conn: Connection, subscription_id: str) -> Story | None:
    """Read it all without a lock; None if there is no such subscription."""
    created = await story.read_created(conn, subscription_id)
    if created is None:
        return None
    now = await control.read_now(conn)
    subscriptions = await facts.read_subscriptions(conn, [subscription_id])
    ids = await story.read_invoice_ids(conn, subscription_id)
    invoices = await facts.read_invoices(conn, ids)
    lines: dict[UUID, list[Line]] = {id_: [] for id_ in ids}
    for line in await story.read_lines(conn, ids):
        lines[line.invoice_id].append(line)
    attempts = await facts.read_history(conn, ids)
    subscription = subscriptions[subscription_id]
    found = await story.find_messages(conn, [subscription_id, *map(str, ids)], limit=AT_MOST)
    return Story(
        now=now,
        subscription=subscription,
        created=created,
        invoices=[invoices[id_] for id_ in ids],
        lines=lines,
        attempts=attempts,
        transitions=await story.read_transitions(conn, subscription_id),
        messages=await story.read_messages(conn, subscription_id),
        notices=await story.read_notices(conn, subscription_id),
        skips=await story.read_skips(conn, subscription_id),
        parked=await parking.waiting(conn, subscription_id=subscription_id, limit=AT_MOST),
        pauses=await story.read_pauses(conn, subscription_id),
        verbs=await story.read_verbs(conn, _subjects(subscription, attempts)),
        taken=None if found is None else found.taken,
        rejected=() if found is None else found.rejected,
    )


def _subjects(subscription: Subscription, attempts: Mapping[UUID, Sequence[Attempt]]) -> list[str]:
    """How the operator log may name it, its parts, and what it belongs to."""
    own = [f"{kind}:{subscription.subscription_id}" for kind in _OWN]
    for invoice_id, history in attempts.items():
        own += [f"invoice:{invoice_id}", f"collection:{invoice_id}"]
        own += [f"attempt:{attempt.subject}" for attempt in history]
    return [
        *own,
        "global:",
        f"gateway:{subscription.gateway}",
        f"seller:{subscription.seller_id}",
        f"plan:{subscription.plan_id}",
    ]


_OWN = ("subscription", "renewal", "cancel", "grace")
