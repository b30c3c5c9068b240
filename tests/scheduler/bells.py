"""Bells instead of a broker: who was rung, with what."""

from collections import Counter
from typing import Any

from scheduler.sweeps import SWEEPS, Ringer, Sweep
from tests.world import World
from worker.errors import ServerUnreachable

SWEEP: dict[str, Sweep] = {sweep.name: sweep for sweep in SWEEPS}


class Bells(Ringer):
    """Notes every doorbell; `queued` doorbells wait already, and after `breaks_after` it refuses."""

    def __init__(self, *, queued: int = 0, breaks_after: int | None = None) -> None:
        self.queued = queued
        self.breaks_after = breaks_after
        self.rung: list[tuple[str, str | None, list[str]]] = []

    async def waiting(self, queue: str) -> int:
        return self.queued

    async def ring(self, actor: str, *arguments: object) -> None:
        if self.breaks_after is not None and len(self.rung) >= self.breaks_after:
            raise ServerUnreachable("the broker is away")
        *gateway, ids = arguments
        assert isinstance(ids, list)
        self.rung.append((actor, str(gateway[0]) if gateway else None, ids))

    @property
    def ids(self) -> list[str]:
        """All ids that were rung with, in order."""
        return [id_ for _, _, ids in self.rung for id_ in ids]

    def by_gateway(self) -> Counter[str | None]:
        """Doorbells by gateway."""
        return Counter(gateway for _, gateway, _ in self.rung)


async def subscribe(world: World, count: int, **options: Any) -> list[str]:
    """So many subscriptions that are due, of one plan."""
    plan = options.pop("plan", None) or await world.plan()
    return [
        await world.subscribe(f"tok_ok_{n}", plan=plan, name=f"{plan}_{n:04}", **options)
        for n in range(count)
    ]
