"""A virtual year in a house: the platform speaks, time moves, the platform hears and reacts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lab.demo.house import House
from lab.demo.platform import Platform

STARTS_AT = datetime(2026, 1, 1, tzinfo=UTC)

COALESCE = timedelta(hours=12)
"""Instants closer together are one step: two steps a day keep a year far under two minutes."""

Progress = Callable[[datetime], None]
"""Called with the virtual time after each step."""


def ends_at(months: int) -> datetime:
    """So many calendar months after the start."""
    years, month = divmod(STARTS_AT.month - 1 + months, 12)
    return STARTS_AT.replace(year=STARTS_AT.year + years, month=month + 1)


async def simulate(
    house: House, *, subscriptions: int, months: int, seed: int, progress: Progress
) -> int:
    """Let `subscriptions` live through `months` from `STARTS_AT`; returns the steps it took.

    The same seed and numbers make the same history, whatever the machine: only ids of the database
    and of charges differ.
    """
    target = ends_at(months)
    platform = Platform(subscriptions=subscriptions, starts_at=STARTS_AT, ends_at=target, seed=seed)
    await house.set_clock(STARTS_AT)
    await house.deliver(platform.take(STARTS_AT), now=STARTS_AT)

    async def live(now: datetime) -> None:
        for message in await house.told.read():
            platform.hear(message)
        await house.deliver(platform.take(now), now=now)
        progress(now)

    def wake_at() -> datetime | None:
        """A customer who acts between two steps is heard at the next one, 12 h later at most."""
        at = platform.next_at()
        return None if at is None else at + COALESCE

    steps = await house.advance(target, coalesce=COALESCE, on_step=live, wake_at=wake_at)
    await house.told.read()
    return steps
