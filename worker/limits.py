"""The chain of time limits and the bounds of a unit of work, each with the reason for its value.

    2 tries x 9 s < send window 20 s < settle deadline 25 s < actor time limit 28 s < SIGTERM 30 s
    < lease 40 s < unsettled 45 s < orphan takeover 60 s << gateway key lifetime - 4 h

Read from the left: whatever a step does, it has ended before the next one may act on the same row.
Break one link and a row can be charged by two processes at once, so every process asserts the chain
at start-up with the settings it was given. All of it is machine time; only the key lifetime is
business time.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.settings import GatewaySettings, Settings

NETWORK_TRIES = 2
"""One resend of the same key repairs a lost packet; more would only hold a slot."""

TRY_SECONDS = 9
"""Default time of one network try: two of them, with connecting, fit into the send window."""

SEND_WINDOW_SECONDS = 20
"""No byte of a charge leaves later than this after its row was committed (`send_deadline`)."""

SETTLE_DEADLINE_SECONDS = 25
"""Outcomes not committed by then are left to reconciliation; 5 s fit many settle groups."""

ACTOR_TIME_LIMIT_SECONDS = 28
"""Dramatiq cancels the actor; 3 s after the settle deadline nothing of value is left in memory."""

STOP_SECONDS = 30
"""A stopping process lets its actors end (28 s), closes its connections and is gone."""

LEASE_SECONDS = 40
"""A claimed row stays hidden from the sweeps for longer than anybody can still work on it."""

UNSETTLED_SECONDS = 45
"""An attempt still `sent` after this has lost its worker: reconciliation may look at it."""

ORPHAN_SECONDS = 60
"""Reconciliation resends the key of an orphan from here on, and not earlier."""

KEY_MARGIN_HOURS = 4
"""A key is never resent in its last hours: a gateway that forgot it would take a new charge."""

KEY_LIFETIME_FACTOR = 30
"""What `<<` means: at least 30 rounds of takeover fit into the usable life of a key."""

BATCH_SIZE_MAX = 500
"""Ids per doorbell. At 200 to 500 the broker costs nothing; more only makes a lost batch dearer."""

PACE_HORIZON_SECONDS = 5
"""A batch holds at most what its gateway's pace sends in this time: it fits its send window."""

SETTLE_GROUP = 250
"""Outcomes per settle transaction: the commit is shared, a slow call delays at most this many."""

SETTLE_INTERVAL_MS = 40
"""A settle group that does not fill is committed after this, about two commits with fsync."""

STATEMENT_TIMEOUT_SECONDS = 15
"""No statement may use up the settle deadline of its batch."""

IDLE_IN_TRANSACTION_SECONDS = 20
"""Postgres ends the transaction of a frozen process before the lease of its rows does."""

CONNECT_TIMEOUT_SECONDS = 5
"""A server that does not take a connection by then is treated as away."""

CLOCK_SKEW_SECONDS = 300
"""A machine whose clock is this far from the database's must not start."""


class Limit(NamedTuple):
    """One link of the chain: what to call it in an error, and its value in seconds."""

    name: str
    seconds: float


def check_limits(settings: "Settings") -> None:
    """Assert the chain with these settings.

    Raises `SettingsError` with one line that names the first two links out of order.
    """
    chain = [
        Limit("the send window", SEND_WINDOW_SECONDS),
        Limit("the settle deadline", SETTLE_DEADLINE_SECONDS),
        Limit("the time limit of an actor", ACTOR_TIME_LIMIT_SECONDS),
        Limit("the time to stop", STOP_SECONDS),
        Limit("RENEWD_LEASE_SECONDS", settings.lease_seconds),
        Limit("RENEWD_UNSETTLED_SECONDS", settings.unsettled_seconds),
        Limit("the takeover of orphans", ORPHAN_SECONDS),
    ]
    _assert_rising(chain)
    for name, gateway in settings.gateways.items():
        _assert_rising([_tries(name, gateway), chain[0]])
        _assert_rising([_takeovers(), _usable_key_life(name, gateway)])
    _assert_rising(list(_statement_links(settings)))
    _check_pool(settings)


def _assert_rising(chain: list[Limit]) -> None:
    for shorter, longer in pairwise(chain):
        if not shorter.seconds < longer.seconds:
            line = (
                f"{shorter.name} is {shorter.seconds:g} s: "
                f"should be less than {longer.name}, which is {longer.seconds:g} s"
            )
            raise SettingsError(line)


def _tries(name: str, gateway: "GatewaySettings") -> Limit:
    seconds = NETWORK_TRIES * gateway.try_seconds
    return Limit(f"RENEWD_GATEWAYS: {name}.try_seconds x {NETWORK_TRIES} tries", seconds)


def _takeovers() -> Limit:
    return Limit(
        f"{KEY_LIFETIME_FACTOR} takeovers of an orphan", KEY_LIFETIME_FACTOR * ORPHAN_SECONDS
    )


def _usable_key_life(name: str, gateway: "GatewaySettings") -> Limit:
    hours = gateway.key_lifetime_hours - KEY_MARGIN_HOURS
    label = f"RENEWD_GATEWAYS: {name}.key_lifetime_hours - {KEY_MARGIN_HOURS} h"
    return Limit(label, hours * 3600)


def _statement_links(settings: "Settings") -> Iterator[Limit]:
    yield Limit("RENEWD_STATEMENT_TIMEOUT_SECONDS", settings.statement_timeout_seconds)
    yield Limit("the settle deadline", SETTLE_DEADLINE_SECONDS)


def _check_pool(settings: "Settings") -> None:
    # A batch holds one connection at a time; fewer than threads would make batches wait inside
    # deadlines.
    if settings.db_pool_size < settings.worker_threads:
        line = (
            f"RENEWD_DB_POOL_SIZE is {settings.db_pool_size}: should be at least "
            f"RENEWD_WORKER_THREADS, which is {settings.worker_threads}"
        )
        raise SettingsError(line)
