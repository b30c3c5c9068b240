"""Claims with leases, and the pace of gateways.

Every claim takes the same arguments: gateway (null where there is none), business now, the key of the
last row of the page before (due, id), the size of a page, the lease in seconds, and whether a lease
that ran out counts against the row. Paging goes by key, so that a round never reads the dead index
entries of the rows it has already claimed. Claims are safe with any number of schedulers.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.db import Connection

_PAGE = """
WITH due AS (
    SELECT {id} AS id, {due} AS due_at, {table}.claimed_until IS NOT NULL AS expired
      FROM {table}
     WHERE {where}
       AND {due} <= $2 AND ({due}, {id}) > ($3, $4::{type})
       AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
     ORDER BY {due}, {id}
     LIMIT $5
       FOR UPDATE SKIP LOCKED
)
UPDATE {table}
   SET claimed_until = clock_timestamp() + make_interval(secs => $6),
       claims = claims + (due.expired AND $7)::int
  FROM due WHERE {table}.{id} = due.id
RETURNING due.id::text AS id, due.due_at, due.expired, {table}.claims
"""
_OPEN_TO_CHARGE = """NOT EXISTS (
    SELECT FROM charging_pause p
     WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN {scopes}
)"""

CLAIM_RENEWALS = _PAGE.format(
    table="subscription",
    id="subscription_id",
    type="text",
    due="next_renewal_at",
    # What ends before it renews is left to its cancel: a lease of ours would only keep that one away.
    where="gateway = $1::text AND next_renewal_at IS NOT NULL "
    "AND (cancel_at IS NULL OR cancel_at > next_renewal_at) AND "
    + _OPEN_TO_CHARGE.format(
        scopes="(('gateway', gateway), ('seller', seller_id), ('plan', plan_id))"
    ),
)
CLAIM_COLLECTIONS = _PAGE.format(
    table="invoice",
    id="invoice_id",
    type="uuid",
    due="attempt_due_at",
    where="gateway = $1::text AND attempt_due_at IS NOT NULL AND "  # noqa: S608 - constants
    "NOT EXISTS (SELECT FROM subscription s WHERE s.subscription_id = invoice.subscription_id "
    "AND s.cancel_at <= $2) AND "
    + _OPEN_TO_CHARGE.format(
        scopes="(('gateway', gateway), ('seller', seller_id), ('plan', ("
        "SELECT plan_id FROM subscription s WHERE s.subscription_id = invoice.subscription_id)))"
    ),
)
CLAIM_CANCELS = _PAGE.format(
    table="subscription",
    id="subscription_id",
    type="text",
    due="cancel_at",
    where="$1::text IS NULL AND cancel_at IS NOT NULL AND NOT EXISTS ("
    "SELECT FROM parked p WHERE p.kind = 'cancel' AND p.id = subscription.subscription_id)",
)
CLAIM_GRACE = _PAGE.format(
    table="subscription",
    id="subscription_id",
    type="text",
    due="access_ends_at",
    where="$1::text IS NULL AND access_ends_at IS NOT NULL",
)
CLAIM_NOTICES = _PAGE.format(
    table="notice",
    id="notice_id",
    type="uuid",
    due="send_at",
    where="$1::text IS NULL AND state = 'scheduled'",
)
CLAIM_WAITING = _PAGE.format(
    table="rejected_event",
    id="rejected_id",
    type="bigint",
    due="expires_at",
    where="$1::text IS NULL AND state = 'waiting'",
)
CLAIM_UNSETTLED = """
WITH due AS (
    SELECT invoice_id, ordinal, check_due_at AS due_at
      FROM attempt
     WHERE gateway = $1::text AND state IN ('sent', 'unknown', 'pending', 'action_required')
       AND check_due_at <= $2
       AND (check_due_at, invoice_id || ':' || ordinal) > ($3, $4::text)
       -- A row whose send window is open would be passed over, and claimed for nothing.
       AND retake_at <= clock_timestamp() AND send_deadline <= clock_timestamp()
     ORDER BY check_due_at, invoice_id || ':' || ordinal
     LIMIT $5
       FOR UPDATE SKIP LOCKED
)
UPDATE attempt a SET retake_at = clock_timestamp() + make_interval(secs => $6)
  FROM due WHERE (a.invoice_id, a.ordinal) = (due.invoice_id, due.ordinal)
RETURNING a.invoice_id || ':' || a.ordinal AS id, due.due_at, $7 AND false AS expired, 0 AS claims
"""
READ_PACE = """
SELECT gateway, max_per_second,
       extract(epoch FROM greatest(free_at, clock_timestamp()) - clock_timestamp())::float8 AS busy_seconds,
       resting_until > clock_timestamp() AS resting
  FROM gateway_state
"""
FIND_HALF_SENT = """
SELECT notice_id::text AS id, send_at AS due_at, true AS expired, 0 AS claims
  FROM notice
 WHERE $1::text IS NULL AND state = 'sending' AND claimed_until < clock_timestamp()
   AND send_at <= $2 AND (send_at, notice_id) > ($3, $4::uuid)
   AND $6::float8 IS NOT NULL AND $7::boolean IS NOT NULL
 ORDER BY send_at, notice_id
 LIMIT $5
"""


class Claimed(NamedTuple):
    """One claimed row; `expired`: a lease on it had run out; `claims`: how often without progress."""

    id: str
    due_at: datetime
    expired: bool
    claims: int


class Pace(NamedTuple):
    """What a gateway can take now; seconds of machine time."""

    max_per_second: int
    busy_seconds: float
    resting: bool


class PageKey(NamedTuple):
    """Where a page ended."""

    due_at: datetime
    id: str


async def claim(
    conn: Connection,
    statement: str,
    *,
    gateway: str | None,
    now: datetime,
    after: PageKey,
    size: int,
    lease_seconds: float,
    counts: bool,
) -> list[Claimed]:
    """Claim a page in key order; rows that somebody else holds are passed over."""
    first_id: object = int(after.id) if statement is CLAIM_WAITING else after.id
    rows = await conn.fetch(
        statement, gateway, now, after.due_at, first_id, size, lease_seconds, counts
    )
    return sorted((Claimed(**row) for row in rows), key=lambda row: (row.due_at, row.id))


async def read_paces(conn: Connection) -> Mapping[str, Pace]:
    """The pace of every gateway that was ever declared."""
    return {
        row["gateway"]: Pace(row["max_per_second"], row["busy_seconds"], row["resting"])
        for row in await conn.fetch(READ_PACE)
    }
