"""The chain of time limits and the bounds of a unit of work, each with the reason for its value.

    2 tries x 9 s < send window 20 s < settle deadline 25 s < actor time limit 28 s < SIGTERM 30 s
    < lease 40 s < unsettled 45 s < orphan takeover 60 s << gateway key lifetime - 4 h

Read from the left: whatever a step does, it has ended before the next one may act on the same row.
Break one link and a row can be charged by two processes at once, so every process asserts the chain
at start-up with the settings it was given. All of it is machine time; only the key lifetime is
business time. The chain is asserted in worker/limit_chain.py.
"""

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
"""A machine whose clock is this far from the database's fails `renewd check`."""
