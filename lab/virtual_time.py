"""`renewd clock advance`: the test clock, moved by a person on the servers of the settings.

How it moves is in lab/stepping.py. Between two calls time stands still.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.stepping import (
    STALL_SECONDS,
    ClockStalledError,
    OnStep,
    advance,
    stand_still,
    sweep_with,
)
from scheduler.jobs import Jobs
from scheduler.store import due
from scheduler.sweeps import Ringer
from worker import db
from worker.actors import declare_actors
from worker.broker import BillingBroker, make_broker
from worker.db import Connection
from worker.errors import RenewdError, ServerUnreachable, SettingsError, UsageError
from worker.gateways import Gateway, open_gateways
from worker.settings import Settings
from worker.settings_values import Adapter

__all__ = ["Advanced", "ClockStalledError", "advance_clock", "parse_span", "require_sandboxes"]

AWAY_SECONDS = 1.0
"""Between two tries while a server is away."""

LONGEST_SPAN = timedelta(weeks=520)
"""Ten years in one call: more is a slip of a keyboard, and would run out of the calendar."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,6})([mhdw])")


class ClockTakenError(RenewdError):
    """Somebody else moves the clock."""


_AWAY: tuple[type[BaseException], ...] = (ServerUnreachable, ClockTakenError, *db.TRANSIENT)


@dataclass(frozen=True, slots=True)
class Advanced:
    """Where the clock stands after a move, and how far that is from where it stood."""

    now: datetime
    advanced_seconds: int


def parse_span(text: str) -> timedelta:
    """`90m`, `36h`, `3d` or `2w`. Raises `UsageError` for anything else, for 0 and over ten years."""
    match = _SPAN.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"clock advance {text!r}: should be a number and m, h, d or w, like 3d")
    span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if span > LONGEST_SPAN:
        raise UsageError(f"clock advance {text!r}: should be at most {LONGEST_SPAN.days // 7}w")
    return span


async def advance_clock(
    settings: Settings,
    *,
    span: timedelta,
    jump: bool = False,
    on_step: OnStep | None = None,
) -> Advanced:
    """Move the test clock by `span` from where it stands (from real time, if it never moved).

    Every instant at which something falls due is stopped at, and left when all of it has finished;
    with more than `STEPS_AT_MOST` instants to come, those that lie closer together than the span /
    `STEPS_AT_MOST` are one. With `jump` there is one step, as after a downtime. Messages that nobody
    has taken from a queue yet do not hold the clock up.
    Raises `SettingsError` unless every gateway is a sandbox, `ClockStalledError` when something due
    does not finish, and `ServerUnreachable` or one of `db.TRANSIENT` for a server that is away.
    """
    require_sandboxes(settings)
    target: datetime | None = None
    progress = _Progress(on_step)
    while True:
        try:
            async with _hands_on(settings) as (conn, gateways, jobs):
                if target is None:
                    target = await stand_still(conn, gateways) + span
                await advance(
                    conn,
                    target=target,
                    gateways=gateways,
                    pump=sweep_with(jobs),
                    jump=jump,
                    on_step=progress,
                )
                return Advanced(target, int(span.total_seconds()))
        except _AWAY:
            # A server that restarts is waited for, as the workers do: the target stays what it was.
            if target is None or progress.is_stalled:
                raise
            await asyncio.sleep(AWAY_SECONDS)


@asynccontextmanager
async def _hands_on(
    settings: Settings,
) -> AsyncIterator[tuple[Connection, Mapping[str, Gateway], Jobs]]:
    """Everything that moving the clock takes, with the right to move it."""
    async with AsyncExitStack() as stack:
        conn = await db.connect(settings, application_name="renewd clock")
        stack.push_async_callback(conn.close)
        if not await due.take_clock(conn):
            raise ClockTakenError("somebody else is moving the test clock: wait until it stands")
        gateways = open_gateways(settings)
        for gateway in gateways.values():
            stack.push_async_callback(gateway.close)
        broker = make_broker(settings)
        stack.callback(_close, broker)
        ringer = Ringer(broker, declare_actors(broker, None))
        stack.callback(ringer.close)
        jobs = Jobs(settings, ringer)
        stack.push_async_callback(jobs.close)
        yield conn, gateways, jobs


def _close(broker: BillingBroker) -> None:
    with contextlib.suppress(Exception):
        broker.close()


class _Progress:
    """Passes each step on, and knows how long ago the last one was (machine time)."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step
        self._stepped_at = time.monotonic()

    async def __call__(self, now: datetime) -> None:
        self._stepped_at = time.monotonic()
        if self._on_step is not None:
            await self._on_step(now)

    @property
    def is_stalled(self) -> bool:
        return time.monotonic() > self._stepped_at + STALL_SECONDS


def require_sandboxes(settings: Settings) -> None:
    """Raise `SettingsError` unless there is a gateway and every one is a sandbox."""
    if not settings.gateways:
        raise SettingsError(
            "RENEWD_GATEWAYS is missing: the test clock moves sandbox gateways only"
        )
    for name, gateway in settings.gateways.items():
        if str(gateway.adapter) != Adapter.SANDBOX:
            raise SettingsError(
                f"RENEWD_GATEWAYS: {name}.adapter is {gateway.adapter}: "
                "should be sandbox for the test clock to move"
            )
