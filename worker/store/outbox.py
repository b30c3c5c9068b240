"""The outbox: messages to the platform, written in the transaction that changes the state.

Callers hold the row locks of the subscriptions that they tell about; that is what makes the sequence
gapless and its order the order of positions.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from billing.messages import Message, OutboxRow, numbered
from worker.db import Connection

TAKE_SEQUENCES = """
UPDATE subscription s SET sequence = s.sequence + t.n
  FROM unnest($1::text[], $2::bigint[]) AS t (subscription_id, n)
 WHERE s.subscription_id = t.subscription_id
RETURNING s.subscription_id, s.sequence
"""
INSERT = """
WITH written AS (
    INSERT INTO outbox_event (slot, subscription_id, sequence, type, body)
    SELECT * FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[], $5::text[])
    RETURNING slot, position
)
INSERT INTO outbox_pending (slot, position) SELECT slot, position FROM written
"""


async def append(conn: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write rows in the order given; a reused sequence fails on `outbox_sequence`."""
    if rows:
        await conn.execute(
            INSERT,
            [row.slot for row in rows],
            [row.subscription_id for row in rows],
            [row.sequence for row in rows],
            [row.type for row in rows],
            [row.body for row in rows],
        )


async def tell(conn: Connection, messages: Sequence[Message], *, now: datetime) -> None:
    """Number and write messages, in the order given per subscription (business time `now`)."""
    if not messages:
        return
    counts = Counter(message.party.subscription_id for message in messages)
    taken = await conn.fetch(TAKE_SEQUENCES, list(counts), list(counts.values()))
    following = {
        row["subscription_id"]: row["sequence"] - counts[row["subscription_id"]] for row in taken
    }
    rows = []
    for message in messages:
        following[message.party.subscription_id] += 1
        rows.append(numbered(message, sequence=following[message.party.subscription_id], at=now))
    await append(conn, rows)
