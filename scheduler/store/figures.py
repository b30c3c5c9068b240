"""Figures of a whole database, for people: what was billed, declined, recovered and lost.

Each statement reads everything there is: for the demo and for measurements, not for a sweep.
"""

from typing import NamedTuple

from worker.db import Connection

COUNTS = """
SELECT (SELECT count(*) FROM subscription),
       (SELECT count(*) FROM invoice),
       (SELECT count(*) FROM invoice WHERE first_declined_at IS NOT NULL),
       (SELECT count(*) FROM invoice WHERE first_declined_at IS NOT NULL AND status = 'paid'),
       (SELECT count(*) FROM invoice WHERE first_declined_at IS NOT NULL AND status = 'open'),
       (SELECT count(*) FROM subscription JOIN plan USING (plan_id)
         WHERE (status = 'canceled' AND cancel_origin = 'involuntary')
            OR (status = 'expired' AND cycles IS NULL)),
       (SELECT count(*) FROM subscription
         WHERE status = 'canceled' AND cancel_origin <> 'involuntary'),
       (SELECT count(*) FROM attempt)
"""
MONEY = """
SELECT currency, coalesce(sum(amount_minor), 0)::bigint,
       coalesce(sum(amount_minor) FILTER (WHERE first_declined_at IS NOT NULL), 0)::bigint
  FROM invoice WHERE status = 'paid' GROUP BY currency ORDER BY currency
"""
FIRST_DECLINES = """
SELECT coalesce(a.decline_class, 'fix_data'), coalesce(a.decline_code, 'no_payment_method'),
       count(*), count(*) FILTER (WHERE i.status = 'paid')
  FROM invoice i
  LEFT JOIN LATERAL (
       SELECT decline_class, decline_code FROM attempt a
        WHERE a.invoice_id = i.invoice_id AND a.state = 'declined'
        ORDER BY ordinal LIMIT 1) AS a ON true
 WHERE i.first_declined_at IS NOT NULL
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""
RECOVERIES = """
SELECT a.ordinal, i.recovered_by,
       floor(extract(epoch FROM i.paid_at - i.first_declined_at) / 86400)::integer, count(*)
  FROM invoice i JOIN attempt a ON a.invoice_id = i.invoice_id AND a.state = 'succeeded'
 WHERE i.status = 'paid' AND i.first_declined_at IS NOT NULL
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
NOTICES = "SELECT kind, state, count(*) FROM notice GROUP BY kind, state ORDER BY kind, state"
ATTEMPTS = "SELECT idempotency_key, state, amount_minor, currency FROM attempt"


class Counts(NamedTuple):
    """Rows. `lost`: subscriptions that ended because nobody paid; `left`: those that were canceled."""

    subscriptions: int
    invoices: int
    first_declined: int
    recovered: int
    in_dunning: int
    lost: int
    left: int
    attempts: int


class Money(NamedTuple):
    """Paid invoices of a currency, and those of them that were declined first; minor units."""

    currency: str
    paid_minor: int
    recovered_minor: int


class FirstDecline(NamedTuple):
    """Invoices whose first attempt was declined so, and how many of them were paid later."""

    decline_class: str
    code: str
    invoices: int
    recovered: int


class Recoveries(NamedTuple):
    """Invoices paid by their attempt number `ordinal`, so many whole days after the first decline."""

    ordinal: int
    recovered_by: str
    day: int
    invoices: int


class Notices(NamedTuple):
    """Notices of a kind in a state."""

    kind: str
    state: str
    notices: int


class AttemptRow(NamedTuple):
    """What a gateway's ledger is compared with."""

    idempotency_key: str
    state: str
    amount_minor: int
    currency: str


async def counts(conn: Connection) -> Counts:
    """The figures that are plain counts."""
    row = await conn.fetchrow(COUNTS)
    assert row is not None
    return Counts(*row)


async def money(conn: Connection) -> list[Money]:
    """What was paid, by currency."""
    return [Money(*row) for row in await conn.fetch(MONEY)]


async def first_declines(conn: Connection) -> list[FirstDecline]:
    """First declines by class and code, the most frequent first."""
    return [FirstDecline(*row) for row in await conn.fetch(FIRST_DECLINES)]


async def recoveries(conn: Connection) -> list[Recoveries]:
    """Recoveries by attempt, means and day."""
    return [Recoveries(*row) for row in await conn.fetch(RECOVERIES)]


async def notices(conn: Connection) -> list[Notices]:
    """Notices by kind and state."""
    return [Notices(*row) for row in await conn.fetch(NOTICES)]


async def attempts(conn: Connection) -> list[AttemptRow]:
    """Every attempt."""
    return [AttemptRow(*row) for row in await conn.fetch(ATTEMPTS)]
