"""How business time moves: from instant to instant, and everything due in between is done.

Moving from one instant to the next, in this order:

1. Everything due by now is let finish: the sweeps are run from here as well (any number of schedulers
   is safe), the workers do what they always do.
2. Charging is closed: one transaction holds the CONTROL lock, so that no attempt can be committed. If
   anything is due or on its way after all, it opens again, back to 1.
3. The gateways are given the new time, then the database; COMMIT opens charging in the new time. A
   gateway never lags behind us, so that nothing there is older than its attempt here.

Between two calls time stands still. Only business time moves: leases, deadlines and pace are machine
time, so a lost worker costs as many seconds here as anywhere.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from scheduler.jobs import Jobs
from scheduler.store import due
from scheduler.store.due import OpenWork
from scheduler.sweeps import SWEEPS
from worker.db import Connection
from worker.errors import RenewdError
from worker.gateways import Gateway
from worker.store import control

STALL_SECONDS = 120.0
"""Longer than a lost worker's charges take to be taken over (45 s) and settled (25 s)."""

POLL_SECONDS = 0.02
"""Between two looks while something is due: a renewal takes about this long."""

STEPS_AT_MOST = 1000
"""If more instants than this are to come, those closer together than span / this are one step."""

_SWEEPS = {sweep.name: sweep for sweep in SWEEPS}

Pump = Callable[[Sequence[OpenWork]], Awaitable[None]]
"""Make work begin on what is due and free, and return when it is time to look again."""

OnStep = Callable[[datetime], Awaitable[None]]
"""Called when everything due at that instant has finished; may bring new work."""

WakeAt = Callable[[], datetime | None]
"""The next instant at which `OnStep` wants to be called, whatever is due; the past counts for nothing."""


class ClockStalledError(RenewdError):
    """What is due does not finish, so time cannot move on; the line says what is left."""


async def stand_still(conn: Connection, gateways: Mapping[str, Gateway]) -> datetime:
    """Stop business time where it is, if it still runs; returns where it stands.

    Only then is there an instant to step from: real time would go on while a step is prepared.
    """
    async with conn.transaction():
        await control.lock_exclusive(conn)
        state = await control.read(conn)
        if not state.is_virtual:
            await _tell(gateways, state.now)
            await control.set_clock(conn, state.now)
        return state.now


def sweep_with(jobs: Jobs) -> Pump:
    """A pump that runs the sweeps of what is due and free, and lets the workers work a moment."""

    async def pump(work: Sequence[OpenWork]) -> None:
        await sweep_free(jobs, work)
        await asyncio.sleep(POLL_SECONDS)

    return pump


async def sweep_free(jobs: Jobs, work: Sequence[OpenWork]) -> int:
    """Run the sweeps of what nobody has claimed; returns how many rows they claimed."""
    names = {kind.sweep: None for kind in work if kind.free}
    return sum([await jobs.sweep(_SWEEPS[name]) for name in names])


async def advance(
    conn: Connection,
    *,
    target: datetime,
    gateways: Mapping[str, Gateway],
    pump: Pump,
    jump: bool = False,
    coalesce: timedelta | None = None,
    on_step: OnStep | None = None,
    wake_at: WakeAt | None = None,
) -> int:
    """Move business time to `target` and return the number of steps; see the head of this file.

    The clock stands still already (`stand_still`) and nobody else moves it.

    What falls due within `coalesce` of the first of a step is part of it, and the step is taken at
    the last of them; None leaves it to `STEPS_AT_MOST`. Nothing of the rules changes by that: they
    see a worker that was late by as much.
    """
    clock = _Clock(conn, gateways, pump)
    now = await control.read_now(conn)
    if coalesce is None:
        coalesce = await clock.fitting_coalescence(now, target)
    steps = 0
    while now < target:
        wanted = None if wake_at is None else wake_at()
        until = target if wanted is None or wanted <= now else min(target, wanted)
        now = await clock.move(now, until, coalesce=coalesce, jump=jump)
        await clock.finish_due()
        if on_step is not None:
            await on_step(now)
        steps += 1
    await clock.finish_due()
    return steps


class _Clock:
    """One clock on its way; `conn` is its own."""

    def __init__(self, conn: Connection, gateways: Mapping[str, Gateway], pump: Pump) -> None:
        self._conn = conn
        self._gateways = gateways
        self._pump = pump

    async def fitting_coalescence(self, now: datetime, target: datetime) -> timedelta:
        """Nothing, unless the steps would be too many."""
        many = await due.are_many_coming(
            self._conn, after=now, until=target, gateways=self._gateways, many=STEPS_AT_MOST
        )
        return (target - now) / STEPS_AT_MOST if many else timedelta()

    async def next_instant(self, now: datetime, until: datetime, coalesce: timedelta) -> datetime:
        """The next step: the first instant at which anything falls due, else `until`."""
        first_at = await due.next_due_at(
            self._conn, after=now, until=until, gateways=self._gateways
        )
        if first_at is None or not coalesce:
            return first_at or until
        last_at = await due.last_due_at(
            self._conn, after=now, until=min(first_at + coalesce, until), gateways=self._gateways
        )
        return last_at or first_at

    async def move(
        self, now: datetime, until: datetime, *, coalesce: timedelta, jump: bool
    ) -> datetime:
        """Step on, once nothing is due any more (in a jump: once nothing is on its way)."""
        while True:
            async with self._conn.transaction():
                await control.lock_exclusive(self._conn)
                if not _in_the_way(await self._open_work(), jump=jump):
                    at = until if jump else await self.next_instant(now, until, coalesce)
                    await _tell(self._gateways, at)
                    await control.set_clock(self._conn, at)
                    return at
            await self.finish_due(jump=jump)

    async def finish_due(self, *, jump: bool = False) -> None:
        """Wait until nothing is in the way of the next step. Raises `ClockStalledError`."""
        seen: list[tuple[str, int, int]] = []
        moved_at = time.monotonic()
        while work := _in_the_way(await self._open_work(), jump=jump):
            # Not `free`: a lease that runs out and is taken again is no progress.
            if (stand := [(kind.kind, kind.due, kind.tries) for kind in work]) != seen:
                seen, moved_at = stand, time.monotonic()
            elif time.monotonic() > moved_at + STALL_SECONDS:
                raise ClockStalledError(await self._complaint(work))
            await self._pump(work)

    async def _open_work(self) -> list[OpenWork]:
        now = await control.read_now(self._conn)
        return await due.count_open(self._conn, now=now, gateways=self._gateways)

    async def _complaint(self, work: Collection[OpenWork]) -> str:
        now = await control.read_now(self._conn)
        workers = await due.count_workers(self._conn)
        left = ", ".join(f"{kind.due} {kind.kind}" for kind in work)
        cause = "a worker is connected" if workers else "no worker seems to be running"
        return (
            f"the clock stands at {now:%Y-%m-%dT%H:%M:%SZ}: for {STALL_SECONDS:.0f} s nothing of "
            f"what is due has moved ({left}); {cause}"
        )


async def _tell(gateways: Mapping[str, Gateway], now: datetime) -> None:
    await asyncio.gather(*(gateway.set_clock(now) for gateway in gateways.values()))


def _in_the_way(work: Sequence[OpenWork], *, jump: bool) -> Sequence[OpenWork]:
    return [kind for kind in work if kind.under_way] if jump else work
