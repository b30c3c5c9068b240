"""What is due, as one table of sweeps, and the one function that runs any of them.

A sweep claims pages of due rows with a lease and rings a worker with their ids. Nothing is decided
here: the worker asks every question again under its locks. A doorbell that is lost costs one lease.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import dramatiq
import structlog
from pika.exceptions import AMQPError

from scheduler.store import claims
from scheduler.store.claims import Claimed, Pace, PageKey
from worker import metrics
from worker.actors import Actors
from worker.broker import BillingBroker, outstanding
from worker.db import Connection
from worker.limits import PACE_HORIZON_SECONDS
from worker.settings import Settings
from worker.store import control

RING_ALONE_AFTER = 2
"""Leases that ran out on a row before it is rung alone: it may be what takes its neighbours down."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_NIL = "00000000-0000-0000-0000-000000000000"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sweep:
    """One kind of due work: its claim, the actor it rings, and the id that sorts before all others."""

    name: str
    claim: str
    actor: str
    queue: str
    per_gateway: bool
    first_id: str = ""


SWEEPS: tuple[Sweep, ...] = (
    Sweep("unsettled", claims.CLAIM_UNSETTLED, "reconcile", "maintenance", per_gateway=True),
    Sweep("cancels", claims.CLAIM_CANCELS, "cancel_due", "maintenance", per_gateway=False),
    Sweep("grace", claims.CLAIM_GRACE, "finish_grace", "maintenance", per_gateway=False),
    Sweep("collections", claims.CLAIM_COLLECTIONS, "collect", "charge", True, _NIL),
    Sweep("renewals", claims.CLAIM_RENEWALS, "renew", "charge", per_gateway=True),
    Sweep("notices", claims.CLAIM_NOTICES, "remind", "notify", False, _NIL),
    Sweep("half_sent", claims.FIND_HALF_SENT, "remind", "notify", False, _NIL),
    Sweep("waiting", claims.CLAIM_WAITING, "expire_waiting", "maintenance", False, "0"),
)
"""In the order in which one round should look: what frees an invoice before what charges it."""


class Ringer:
    """Rings doorbells from a thread of its own: publishing blocks until the broker has confirmed."""

    def __init__(self, broker: dramatiq.Broker, actors: Actors) -> None:
        self._broker = broker
        self._actors = actors
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ringer")

    async def waiting(self, queue: str) -> int:
        """How many doorbells wait in a queue. Raises `ServerUnreachable`."""
        waiting: int = await self._run(outstanding, self._broker, queue)
        return waiting

    async def ring(self, actor: str, *arguments: object) -> None:
        """Ring once; a failure is the caller's to log: the rows come back with their lease."""
        message = getattr(self._actors, actor).message(*arguments)
        await self._run(self._broker.enqueue, message)

    def close(self) -> None:
        """Close the connection in the thread that owns it, and end that thread."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=True)

    def _hang_up(self) -> None:
        if isinstance(self._broker, BillingBroker):
            with contextlib.suppress(AMQPError, OSError):
                del self._broker.connection

    async def _run(self, call: Callable[..., Any], *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, call, *arguments)


@dataclass(slots=True)
class _Turn:
    """What one gateway (None: whoever) may still be given in this round, a page at a time."""

    gateway: str | None
    page: int
    left: int
    after: PageKey

    @property
    def size(self) -> int:
        return min(self.page, self.left)


async def run_sweep(conn: Connection, ringer: Ringer, settings: Settings, sweep: Sweep) -> int:
    """Claim and ring until nothing is due or enough is outstanding; returns the rows claimed.

    Gateways take turns, a page each, the least busy one first: the backlog of one delays no other.
    Raises what the database or the broker raises; rows claimed by then come back with their lease.
    """
    started = time.perf_counter()
    now = await control.read_now(conn)
    waiting = await ringer.waiting(sweep.queue)
    room = settings.max_outstanding - waiting
    claimed = expired = 0
    turns = deque(await _turns(conn, settings, sweep))
    while room > 0 and turns:
        turn = turns.popleft()
        rows = await claims.claim(
            conn,
            sweep.claim,
            gateway=turn.gateway,
            now=now,
            after=turn.after,
            size=turn.size,
            lease_seconds=settings.lease_seconds,
            counts=waiting == 0,
        )
        for batch in _batches(rows):
            ids = [row.id for row in batch]
            await ringer.ring(sweep.actor, *([turn.gateway] if turn.gateway else []), ids)
            room -= 1
        claimed += len(rows)
        expired += sum(row.expired for row in rows)
        if len(rows) == turn.size and turn.left > len(rows):
            turn.left -= len(rows)
            turn.after = PageKey(rows[-1].due_at, rows[-1].id)
            turns.append(turn)
    metrics.count_sweep(
        sweep.name, claimed=claimed, leases_expired=expired, seconds=time.perf_counter() - started
    )
    return claimed


async def _turns(conn: Connection, settings: Settings, sweep: Sweep) -> list[_Turn]:
    """Whom to claim for, and how much: of a gateway what its pace sends within the horizon."""
    after = PageKey(_BEGINNING, sweep.first_id)
    if not sweep.per_gateway:
        page = settings.batch_size
        return [_Turn(None, page, page * settings.max_outstanding, after)]
    paces = await claims.read_paces(conn)
    idle = Pace(max_per_second=1, busy_seconds=0, resting=False)
    turns: list[tuple[float, _Turn]] = []
    for gateway, configured in settings.gateways.items():
        pace = paces.get(gateway, idle)
        free_seconds = PACE_HORIZON_SECONDS - pace.busy_seconds
        if pace.resting or free_seconds < 0:
            continue
        left = max(1, int(configured.max_per_second * free_seconds))
        turns.append((pace.busy_seconds, _Turn(gateway, settings.batch_size, left, after)))
    return [turn for _, turn in sorted(turns, key=itemgetter(0))]


def _batches(rows: Sequence[Claimed]) -> Iterator[Sequence[Claimed]]:
    """All in one doorbell, but for rows that were claimed again and again: each of them alone."""
    together = [row for row in rows if row.claims < RING_ALONE_AFTER]
    if together:
        yield together
    for row in rows:
        if row.claims >= RING_ALONE_AFTER:
            yield [row]
