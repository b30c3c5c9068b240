"""What is due and what comes due next, for the test clock; nothing here writes.

A kind is a sweep of `scheduler/sweeps.py`, or one of two things that no sweep claims but that have to
end before time may move: a charge on its way, and a mail on its way. What waits for a person, for a
kill switch or for a gateway that is not configured is no work: it would hold time up for ever.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from worker.db import Connection

CLOCK_LOCK = 0x72656E63
"""The key of the advisory lock that whoever moves the test clock holds for as long as it takes."""

PATIENCE_CHECKS = 3
"""An unknown outcome asked for this often waits for its gateway, on machine time: not for us."""

PATIENCE_TRIES = 2
"""A mail refused this often waits for its server likewise."""


class _Kind(NamedTuple):
    """One kind of due work: `due` says when, `free` that nobody works on it (machine time).

    `tries` counts what was tried in vain, so that trying again looks different from doing nothing.
    """

    name: str
    table: str
    due: str
    where: str
    per_gateway: bool = False
    free: str = "claimed_until IS NULL OR claimed_until <= clock_timestamp()"
    tries: str = "0"


_OPEN_TO_CHARGE = """NOT EXISTS (
    SELECT FROM charging_pause p
     WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN
           (('gateway', gateway), ('seller', seller_id), ('plan', {plan})))"""
_PLAN_OF_INVOICE = (
    "(SELECT plan_id FROM subscription s WHERE s.subscription_id = invoice.subscription_id)"
)
_NOT_PARKED = """NOT EXISTS (
    SELECT FROM parked p
     WHERE p.kind = 'attempt' AND p.id = attempt.invoice_id || ':' || attempt.ordinal)"""
_MAIL_TRIES = "coalesce((context ->> 'tries')::integer, 0)"
_KINDS = (
    _Kind(
        "renewals",
        "subscription",
        "next_renewal_at",
        "(cancel_at IS NULL OR cancel_at > next_renewal_at) AND "
        + _OPEN_TO_CHARGE.format(plan="plan_id"),
        per_gateway=True,
    ),
    _Kind(
        "collections",
        "invoice",
        "attempt_due_at",
        "NOT EXISTS (SELECT FROM subscription s WHERE s.subscription_id = invoice.subscription_id"
        " AND s.cancel_at <= invoice.attempt_due_at) AND "
        + _OPEN_TO_CHARGE.format(plan=_PLAN_OF_INVOICE),
        per_gateway=True,
    ),
    _Kind(
        "unsettled",
        "attempt",
        "check_due_at",
        f"state IN ('unknown', 'pending', 'action_required') AND checks < {PATIENCE_CHECKS} AND "
        + _NOT_PARKED,
        per_gateway=True,
        free="retake_at <= clock_timestamp()",
        tries="checks",
    ),
    _Kind(
        "charges on their way",
        "attempt",
        "check_due_at",
        "state = 'sent' AND " + _NOT_PARKED,
        per_gateway=True,
        free="retake_at <= clock_timestamp()",
    ),
    _Kind(
        "cancels",
        "subscription",
        "cancel_at",
        "NOT EXISTS (SELECT FROM parked p WHERE p.kind = 'cancel' AND p.id = subscription_id)",
    ),
    _Kind("grace", "subscription", "access_ends_at", "true"),
    _Kind(
        "notices",
        "notice",
        "send_at",
        f"state = 'scheduled' AND {_MAIL_TRIES} < {PATIENCE_TRIES}",
        tries=_MAIL_TRIES,
    ),
    _Kind("mails on their way", "notice", "send_at", "state = 'sending'"),
    _Kind("waiting", "rejected_event", "expires_at", "state = 'waiting'"),
)
_CALLED = {"charges on their way": "unsettled", "mails on their way": "half_sent"}
"""Which sweep ends a kind that has none of its own, should its worker be gone."""

_UNDER_WAY = frozenset({*_CALLED, "unsettled"})

_COUNTED = """
SELECT '{name}', count(*), count(*) FILTER (WHERE {free}), sum({tries})::bigint
  FROM {table} WHERE {at_gateway} {due} <= $2 AND {where}
HAVING count(*) > 0
"""
_IN_ORDER = """
SELECT r.due_at FROM {source} (
    SELECT {distinct} {due} AS due_at FROM {table}
     WHERE {this_gateway} {due} > $2 AND {due} <= $3 AND {where}
     ORDER BY {due} {direction} LIMIT {limit}) AS r
"""


def _counted(kind: _Kind) -> str:
    at_gateway = "gateway = ANY ($1::text[]) AND" if kind.per_gateway else ""
    return _COUNTED.format(**kind._asdict(), at_gateway=at_gateway)


def _in_order(kind: _Kind, *, direction: str, limit: str, distinct: str) -> str:
    """The next or the last instants of a kind, each gateway by its own stretch of the index."""
    source = "unnest($1::text[]) AS g (name) CROSS JOIN LATERAL" if kind.per_gateway else ""
    this_gateway = "gateway = g.name AND" if kind.per_gateway else ""
    return _IN_ORDER.format(
        **kind._asdict(),
        source=source,
        this_gateway=this_gateway,
        direction=direction,
        limit=limit,
        distinct=distinct,
    )


def _union(direction: str, limit: str, *, distinct: str = "") -> str:
    return "UNION ALL".join(
        _in_order(kind, direction=direction, limit=limit, distinct=distinct) for kind in _KINDS
    )


_AS_OPEN = "SELECT * FROM ({rows}) AS o (kind, due, free, tries) WHERE $1::text[] IS NOT NULL"
_AS_COMING = "SELECT {figure} FROM ({rows}) AS coming"
COUNT_OPEN = _AS_OPEN.format(rows="UNION ALL".join(map(_counted, _KINDS)))
NEXT = _AS_COMING.format(figure="min(due_at)", rows=_union("ASC", "1"))
LAST = _AS_COMING.format(figure="max(due_at)", rows=_union("DESC", "1"))
COUNT_COMING = _AS_COMING.format(
    figure="count(DISTINCT due_at)", rows=_union("ASC", "$4", distinct="DISTINCT")
)
TAKE_CLOCK = "SELECT pg_try_advisory_lock($1)"
COUNT_WORKERS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
   AND application_name = 'renewd worker'
"""


class OpenWork(NamedTuple):
    """Rows of one kind that are due; `free`: those that nobody has claimed; `tries` so far in vain."""

    kind: str
    due: int
    free: int
    tries: int

    @property
    def sweep(self) -> str:
        """The sweep that would claim them."""
        return _CALLED.get(self.kind, self.kind)

    @property
    def under_way(self) -> bool:
        """Whether these have left us already: time may not move, even in a jump."""
        return self.kind in _UNDER_WAY


async def count_open(
    conn: Connection, *, now: datetime, gateways: Collection[str]
) -> list[OpenWork]:
    """Everything due at business time `now`, kind by kind; an empty list is quiet."""
    return [OpenWork(*row) for row in await conn.fetch(COUNT_OPEN, list(gateways), now)]


async def next_due_at(
    conn: Connection, *, after: datetime, until: datetime, gateways: Collection[str]
) -> datetime | None:
    """The first instant after `after` and up to `until` at which anything falls due."""
    at: datetime | None = await conn.fetchval(NEXT, list(gateways), after, until)
    return at


async def last_due_at(
    conn: Connection, *, after: datetime, until: datetime, gateways: Collection[str]
) -> datetime | None:
    """The last such instant."""
    at: datetime | None = await conn.fetchval(LAST, list(gateways), after, until)
    return at


async def are_many_coming(
    conn: Connection, *, after: datetime, until: datetime, gateways: Collection[str], many: int
) -> bool:
    """Whether more than `many` instants lie after `after` and up to `until`, known by now."""
    coming: int = await conn.fetchval(COUNT_COMING, list(gateways), after, until, many + 1)
    return coming > many


async def take_clock(conn: Connection) -> bool:
    """Become the only one who moves the clock, until the session ends; False if somebody else is."""
    taken: bool = await conn.fetchval(TAKE_CLOCK, CLOCK_LOCK)
    return taken


async def count_workers(conn: Connection) -> int:
    """Connections of workers to this database: 0 means that none seems to run."""
    count: int = await conn.fetchval(COUNT_WORKERS)
    return count
