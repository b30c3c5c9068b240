"""Work grows with what is due: every claim finds its rows by its index among fifty times as many."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest

from scheduler.store import claims
from tests.database import SweptDatabase
from tests.world import START, World
from worker import db
from worker.db import Connection

EXIST, DUE = 50_000, 1_000

# Of 50,000 rows 1,000 are due before START, the others in the year after it.
_DUE_AT = f"$1::timestamptz + (n - {DUE}) * interval '10 minutes'"
CROWD = (
    f"""
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, price_version,
       payment_method_id, gateway, status, zone, anchor_local, anchor_day, current_period_start,
       current_period_end, next_renewal_at, access_ends_at, cancel_at, cancel_origin, created_at)
SELECT 'crowd_' || n, 'sel_1', 'cus_1', 'plan_1', 1, 'pm_one', 'sandbox', 'past_due', 'UTC',
       '2026-01-01', 1, $1, $1::timestamptz + interval '1 day', {_DUE_AT}, {_DUE_AT},
       {_DUE_AT} + interval '1 second', 'customer', $1
  FROM generate_series(1, {EXIST}) AS n
""",
    f"""
INSERT INTO invoice (invoice_id, subscription_id, seller_id, customer_id, period_index, period_start,
       period_end, amount_minor, currency, status, gateway, due_at, created_at, attempt_due_at,
       attempt_source)
SELECT md5('i' || n)::uuid, 'crowd_' || n, 'sel_1', 'cus_1', 0, $1,
       $1::timestamptz + interval '1 day', 100, 'USD', 'open', 'sandbox', $1, $1, {_DUE_AT}, 'retry'
  FROM generate_series(1, {EXIST}) AS n
""",
    f"""
INSERT INTO attempt (invoice_id, ordinal, subscription_id, source, state, gateway, payment_method_id,
       amount_minor, currency, idempotency_key, request, request_hash, fence, claimed_at, sent_at,
       send_deadline, retake_at, check_due_at, resolved_at, gateway_ref)
SELECT md5('i' || n)::uuid, 1, 'crowd_' || n, 'renewal',
       CASE WHEN n <= {2 * DUE} THEN 'unknown' ELSE 'succeeded' END, 'sandbox', 'pm_one', 100, 'USD',
       'k' || n, '', '', md5('f')::uuid, $1, $1, $1, '-infinity',
       CASE WHEN n <= {2 * DUE} THEN {_DUE_AT} END, CASE WHEN n > {2 * DUE} THEN $1 END, 'ch_' || n
  FROM generate_series(1, {EXIST}) AS n
""",
    f"""
INSERT INTO notice (notice_id, subscription_id, kind, target_date, send_at, state, created_at,
       settled_at, claimed_until)
SELECT md5('n' || n)::uuid, 'crowd_' || n, 'payment_failed', '2026-01-01', {_DUE_AT},
       CASE WHEN n <= {2 * DUE} THEN 'scheduled' WHEN n <= {2 * DUE} + 20 THEN 'sending' ELSE 'sent' END,
       $1, CASE WHEN n > {2 * DUE} + 20 THEN $1 END, CASE WHEN n > {2 * DUE} THEN $1 END
  FROM generate_series(1, {EXIST}) AS n
""",
    f"""
INSERT INTO rejected_event (source, event_id, type, state, field, error, waits_for, expires_at, body,
       received_at)
SELECT 's', 'e' || n, 't', CASE WHEN n <= {2 * DUE} THEN 'waiting' ELSE 'rejected' END, 'f', 'e',
       CASE WHEN n <= {2 * DUE} THEN 'plan:x' END, CASE WHEN n <= {2 * DUE} THEN {_DUE_AT} END, '', $1
  FROM generate_series(1, {EXIST}) AS n
""",
)
PLANS = {
    "renewals": (claims.CLAIM_RENEWALS, "subscription_renewal_due", "", True),
    "collections": (claims.CLAIM_COLLECTIONS, "invoice_attempt_due", claims_nil := "0" * 32, True),
    "cancels": (claims.CLAIM_CANCELS, "subscription_cancel_due", "", False),
    "grace": (claims.CLAIM_GRACE, "subscription_grace_due", "", False),
    "unsettled": (claims.CLAIM_UNSETTLED, "attempt_unsettled", "", True),
    "notices": (claims.CLAIM_NOTICES, "notice_due", claims_nil, False),
    "half_sent": (claims.FIND_HALF_SENT, "notice_half_sent", claims_nil, False),
    "waiting": (claims.CLAIM_WAITING, "rejected_expiring", 0, False),
}
"""Claim, the index it is to use, the id before all others, and whether it is for a gateway."""


@pytest.fixture(scope="module")
async def crowd(swept_database: SweptDatabase) -> AsyncIterator[Connection]:
    """50,000 of everything, loaded once, on a connection that plans as a scheduler's does."""
    await swept_database.sweep()
    conn = await db.connect(swept_database.url, application_name="renewd-test", claims=True)
    await World.furnish(conn)
    for statement in CROWD:
        await conn.execute(statement, START)
    await conn.execute("ANALYZE")
    yield conn
    await conn.close()
    await swept_database.sweep()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("page", ["first", "next"])
async def test_a_claim_uses_its_partial_index(crowd: Connection, name: str, page: str) -> None:
    """No sequential scan of what grows, and no more rows touched than are due and asked for."""
    statement, index, first_id, per_gateway = PLANS[name]
    after = datetime.min.replace(tzinfo=START.tzinfo) if page == "first" else START
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    gateway = "sandbox" if per_gateway else None
    transaction = crowd.transaction()
    await transaction.start()
    told = await crowd.fetchval(explain, gateway, START, after, first_id, 250, 40.0, True)
    await transaction.rollback()
    [whole] = told if isinstance(told, list) else json.loads(told)
    found = list(nodes(whole["Plan"]))
    scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    assert scanned <= {"charging_pause", "parked"}
    assert index in {node.get("Index Name") for node in found}
    assert max(node["Actual Rows"] for node in found) <= DUE


async def test_a_page_costs_what_is_due_and_not_what_exists(crowd: Connection) -> None:
    """The claim of a page reads a few blocks a row: hundreds, of the thousands there are."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claims.CLAIM_RENEWALS}"
    first = datetime.min.replace(tzinfo=START.tzinfo)
    transaction = crowd.transaction()
    await transaction.start()
    told = await crowd.fetchval(explain, "sandbox", START, first, "", 250, 40.0, True)
    await transaction.rollback()
    lock = next(node for node in nodes(told[0]["Plan"]) if node["Node Type"] == "LockRows")
    assert lock["Actual Rows"] == 250
    assert lock["Shared Hit Blocks"] + lock["Shared Read Blocks"] < 1000
