"""The actors: a table of contents. Each looks at the rows it was rung with, and no further.

An actor may run twice, late, or beside itself; what it calls is a compare-and-set on locked rows.
Nothing of a message counts but its ids. No actor has retries, delays or results (worker/broker.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import dramatiq

from worker import cancellations, grace, reconciliation, reminders, renewals, retries
from worker.context import WorkerContext
from worker.platform import rejects

GatewayActor: TypeAlias = "dramatiq.Actor[[str, list[str]], None]"
"""Rung with the name of a gateway and ids that are all charged there."""

Actor: TypeAlias = "dramatiq.Actor[[list[str]], None]"
"""Rung with ids."""

URGENT, NORMAL = 0, 10
"""Among the doorbells that a worker holds, lower goes first: money that hangs before new money."""


@dataclass(frozen=True, slots=True)
class Actors:
    """Every actor by its name; `actors.renew.message(gateway, ids)` makes a doorbell."""

    renew: GatewayActor
    collect: GatewayActor
    reconcile: GatewayActor
    finish_grace: Actor
    cancel_due: Actor
    expire_waiting: Actor
    remind: Actor


def declare_actors(broker: dramatiq.Broker, worker_context: WorkerContext | None) -> Actors:
    """Declare every actor and its queue on this broker, once.

    A process that only rings doorbells gives None: the actors then make messages and cannot run.
    """

    def context() -> WorkerContext:
        assert worker_context is not None, "these actors were declared to ring, not to run"
        return worker_context

    renew, collect, reconcile = _declare_payments(broker, context)
    finish_grace, cancel_due, expire_waiting, remind = _declare_upkeep(broker, context)
    return Actors(renew, collect, reconcile, finish_grace, cancel_due, expire_waiting, remind)


def _declare_payments(
    broker: dramatiq.Broker, context: Callable[[], WorkerContext]
) -> tuple[GatewayActor, GatewayActor, GatewayActor]:
    @dramatiq.actor(broker=broker, queue_name="charge", priority=NORMAL)
    async def renew(gateway: str, ids: list[str]) -> None:
        """Open the next period of these subscriptions and charge it."""
        await renewals.renew(context(), gateway=gateway, ids=ids)

    @dramatiq.actor(broker=broker, queue_name="charge", priority=NORMAL)
    async def collect(gateway: str, ids: list[str]) -> None:
        """Attempt these open invoices again."""
        await retries.collect(context(), gateway=gateway, ids=ids)

    # On another queue than new charges, so that a long run of renewals never holds it up.
    @dramatiq.actor(broker=broker, queue_name="maintenance", priority=URGENT)
    async def reconcile(gateway: str, ids: list[str]) -> None:
        """Find out what became of these attempts."""
        await reconciliation.reconcile(context(), gateway=gateway, ids=ids)

    return renew, collect, reconcile


def _declare_upkeep(
    broker: dramatiq.Broker, context: Callable[[], WorkerContext]
) -> tuple[Actor, Actor, Actor, Actor]:
    @dramatiq.actor(broker=broker, queue_name="maintenance", priority=URGENT)
    async def finish_grace(ids: list[str]) -> None:
        """End the grace period or the dunning of these subscriptions."""
        await grace.end_grace(context(), ids=ids)

    @dramatiq.actor(broker=broker, queue_name="maintenance", priority=URGENT)
    async def cancel_due(ids: list[str]) -> None:
        """Carry out the cancellations that were scheduled for now."""
        await cancellations.cancel_due(context(), ids=ids)

    @dramatiq.actor(broker=broker, queue_name="maintenance", priority=NORMAL)
    async def expire_waiting(ids: list[str]) -> None:
        """Reject these platform messages, which waited too long for what they name."""
        await rejects.expire_waiting(context(), ids=ids)

    @dramatiq.actor(broker=broker, queue_name="notify", priority=NORMAL)
    async def remind(ids: list[str]) -> None:
        """Send these notices, if they are still relevant."""
        await reminders.remind(context(), ids=ids)

    return finish_grace, cancel_due, expire_waiting, remind
