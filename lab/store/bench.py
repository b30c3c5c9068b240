"""SQL of the benchmarks: a book of subscriptions made in the server, and reading what happened."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from worker.db import Connection

SELLER = "INSERT INTO seller (seller_id, name) VALUES ('sel_bench', 'Bench Academy')"
PLANS = """
INSERT INTO plan (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
                  price_version)
SELECT 'plan_' || n, 'sel_bench', 'prod_' || n, 'Plan ' || n, 'month', 1,
       (ARRAY['USD', 'EUR', 'BRL', 'JPY', 'USD'])[n], 1
  FROM generate_series(1, 5) AS n
"""
PRICES = """
INSERT INTO price_version (plan_id, version, model, currency, unit_amount_minor)
SELECT plan_id, 1, 'flat', currency, 4900 FROM plan
"""
CUSTOMERS = """
INSERT INTO customer (customer_id, email, timezone)
SELECT 'cus_' || n, 'c' || n || '@example.com', 'America/Sao_Paulo'
  FROM generate_series($1::int, $2::int) AS n
"""
METHODS = """
INSERT INTO payment_method (payment_method_id, customer_id, gateway, token, kind, attached_at)
SELECT 'pm_' || n, 'cus_' || n, 'bench', 'tok_ok_' || n, 'card', $3
  FROM generate_series($1::int, $2::int) AS n
"""
SUBSCRIPTIONS = """
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, price_version,
                          payment_method_id, gateway, status, zone, anchor_local, anchor_day,
                          next_period, current_period_start, current_period_end, next_renewal_at,
                          created_at)
SELECT 'sub_' || n, 'sel_bench', 'cus_' || n, 'plan_' || 1 + n % 5, 1, 'pm_' || n, 'bench',
       'active', 'America/Sao_Paulo', due.at AT TIME ZONE 'America/Sao_Paulo',
       extract(day FROM due.at AT TIME ZONE 'America/Sao_Paulo')::int, 0,
       due.at - interval '28 days', due.at, due.at, due.at - interval '28 days'
  FROM generate_series($1::int, $2::int) AS n,
       LATERAL (SELECT CASE WHEN n % $4 = 0 AND n / $4 <= $5
                            THEN $3::timestamptz - make_interval(secs => 3600 * (n % 997) / 997.0)
                            ELSE $3::timestamptz + make_interval(secs => 86400 + 2400000.0 * (n % 9973) / 9973)
                       END AS at) AS due
"""
ANALYZE = "VACUUM (ANALYZE) subscription, customer, payment_method, plan, price_version"
DUE = "SELECT count(*) FROM subscription WHERE next_renewal_at <= $1"
SUMMARY = """
SELECT count(*), min(a.claimed_at), max(a.resolved_at),
       count(*) FILTER (WHERE a.state = 'succeeded')
  FROM attempt a WHERE a.claimed_at > $1
"""
PAID = "SELECT count(*) FROM invoice WHERE status = 'paid' AND paid_at > $1"
MESSAGES = "SELECT last_value FROM outbox_event_position_seq"
PROCESSES = """
SELECT count(DISTINCT pid) FROM pg_stat_activity
 WHERE application_name IN ('renewd worker', 'renewd relay') AND datname = current_database()
"""
UNPUBLISHED = "SELECT count(*) FROM outbox_pending"
TAKEN = """
SELECT count(*), coalesce(extract(epoch FROM max(received_at) - min(received_at)), 0)::float8
  FROM inbox_event WHERE received_at > $1
"""
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
MAKE_DUE = """
UPDATE subscription SET next_renewal_at = $1
 WHERE subscription_id IN (
    SELECT subscription_id FROM subscription WHERE next_renewal_at > $1 LIMIT $2)
"""
BARE_INVOICES = """
INSERT INTO invoice (invoice_id, subscription_id, seller_id, customer_id, period_index, period_start,
                     period_end, amount_minor, currency, gateway, due_at, status, created_at)
SELECT t.invoice_id, t.subscription_id, 'sel_bench', 'cus_bench', $4, $3, $3::timestamptz + interval '30 days',
       4900, 'USD', 'bench', $3, 'open', $3
  FROM unnest($1::uuid[], $2::text[]) AS t (invoice_id, subscription_id)
"""
BARE_FINISH = """
WITH a AS (
    UPDATE attempt SET state = 'succeeded', resolved_at = $2, check_due_at = NULL,
                       gateway_ref = 'bare'
     WHERE invoice_id = ANY($1::uuid[])
), i AS (
    UPDATE invoice SET status = 'paid', paid_at = $2, closed_at = $2
     WHERE invoice_id = ANY($1::uuid[])
)
UPDATE subscription SET next_renewal_at = $2::timestamptz + interval '30 days', next_period = next_period + 1,
                        current_period_end = $2::timestamptz + interval '30 days', sequence = sequence + 2
 WHERE subscription_id = ANY($3::text[])
"""
SOME_IDS = "SELECT subscription_id FROM subscription ORDER BY next_renewal_at DESC LIMIT $1"


class Summary(NamedTuple):
    """Attempts since an instant: how many, from the first claim to the last outcome."""

    attempts: int
    first_at: datetime | None
    last_at: datetime | None
    succeeded: int


async def make_book(
    conn: Connection, *, subscriptions: int, due: int, now: datetime, chunk: int = 20_000
) -> None:
    """A seller, five plans in four currencies and monthly subscriptions, `due` of them due by `now`."""
    for statement in (SELLER, PLANS, PRICES):
        await conn.execute(statement)
    for first in range(1, subscriptions + 1, chunk):
        last = min(first + chunk - 1, subscriptions)
        await conn.execute(CUSTOMERS, first, last)
        await conn.execute(METHODS, first, last, now)
        await conn.execute(SUBSCRIPTIONS, first, last, now, subscriptions // due, due)
    await conn.execute(ANALYZE)


async def make_due(conn: Connection, *, now: datetime, count: int) -> None:
    """Make so many more subscriptions due at `now`."""
    await conn.execute(MAKE_DUE, now, count)


async def count_due(conn: Connection, now: datetime) -> int:
    """Subscriptions that nobody has renewed yet."""
    left: int = await conn.fetchval(DUE, now)
    return left


async def count_paid(conn: Connection, since: datetime) -> int:
    """Invoices paid since an instant."""
    paid: int = await conn.fetchval(PAID, since)
    return paid


async def count_unpublished(conn: Connection) -> int:
    """Messages that no broker has confirmed yet."""
    left: int = await conn.fetchval(UNPUBLISHED)
    return left


async def summarize(conn: Connection, since: datetime) -> Summary:
    """What became of the attempts since an instant."""
    row = await conn.fetchrow(SUMMARY, since)
    assert row is not None, "an aggregate has one row"
    return Summary(*row)


async def wal_bytes(conn: Connection) -> int:
    """Bytes of write-ahead log written since the server was made."""
    written: int = int(await conn.fetchval(WAL))
    return written


async def some_ids(conn: Connection, count: int) -> list[str]:
    """Subscriptions that are due last, for the bare loop."""
    return [row["subscription_id"] for row in await conn.fetch(SOME_IDS, count)]


async def bare_invoices(
    conn: Connection, invoice_ids: list[UUID], ids: list[str], *, now: datetime, period: int
) -> None:
    """One open invoice per subscription."""
    await conn.execute(BARE_INVOICES, invoice_ids, ids, now, period)


async def bare_finish(
    conn: Connection, invoice_ids: list[UUID], ids: list[str], *, now: datetime
) -> None:
    """Attempts succeeded, invoices paid, subscriptions moved on."""
    await conn.execute(BARE_FINISH, invoice_ids, now, ids)


async def count_taken(conn: Connection, since: datetime) -> tuple[int, float]:
    """Platform messages taken in since then, and the seconds between the first and the last."""
    row = await conn.fetchrow(TAKEN, since)
    assert row is not None, "an aggregate has one row"
    return row[0], row[1]


async def messages_written(conn: Connection) -> int:
    """How many messages out were ever numbered: cheap to ask, while rows are expensive to count."""
    written: int = await conn.fetchval(MESSAGES)
    return written


async def count_processes(conn: Connection) -> int:
    """Workers and relays that are connected; each opens one connection before it is asked to work."""
    there: int = await conn.fetchval(PROCESSES)
    return there
