"""Gateways take turns: each is given what it can send, and none waits for another's backlog."""

import pytest

from scheduler.sweeps import run_sweep
from tests.scheduler.bells import SWEEP, Bells, subscribe
from tests.world import World
from worker.db import Connection
from worker.settings import Settings
from worker.store import pace


def with_gateways(world: World, **paces: int) -> Settings:
    """Settings with the sandbox under several names, each with its pace."""
    one = world.context.settings.gateways["sandbox"]
    gateways = {name: one.model_copy(update={"max_per_second": p}) for name, p in paces.items()}
    return world.context.settings.model_copy(
        update={"gateways": gateways, "batch_size": 10, "max_outstanding": 4}
    )


async def at_gateways(world: World, *names: str) -> None:
    """Spread the subscriptions over these gateways, in turn."""
    await world.execute(
        "UPDATE subscription s SET gateway = ($1::text[])[1 + n % cardinality($1)] FROM"
        " (SELECT subscription_id, row_number() OVER () AS n FROM subscription) AS t"
        " WHERE s.subscription_id = t.subscription_id",
        list(names),
    )


@pytest.mark.parametrize(
    "state",
    ["resting_until = clock_timestamp() + '1 minute'", "free_at = clock_timestamp() + '9 seconds'"],
)
async def test_a_resting_or_busy_gateway_is_left_alone(
    world: World, claiming: Connection, bells: Bells, state: str
) -> None:
    """Its rows stay unclaimed; those of another gateway are rung."""
    await subscribe(world, 10)
    await at_gateways(world, "a", "b")
    await pace.declare(claiming, {"a": 100, "b": 100})
    await world.execute(f"UPDATE gateway_state SET {state} WHERE gateway = 'a'")
    settings = with_gateways(world, a=100, b=100)
    assert await run_sweep(claiming, bells, settings, SWEEP["renewals"]) == 5
    assert bells.by_gateway() == {"b": 1}


async def test_a_slow_gateway_is_given_what_it_can_send(
    world: World, claiming: Connection, bells: Bells
) -> None:
    """Two charges a second for five seconds, less what it still has to send."""
    await subscribe(world, 40)
    await at_gateways(world, "slow")
    settings = with_gateways(world, slow=2)
    assert await run_sweep(claiming, bells, settings, SWEEP["renewals"]) == 10
    await pace.declare(claiming, {"slow": 2})
    await world.execute("UPDATE gateway_state SET free_at = clock_timestamp() + '3.5 seconds'")
    assert await run_sweep(claiming, bells, settings, SWEEP["renewals"]) in (3, 4)


async def test_the_backlog_of_one_gateway_delays_no_other(
    world: World, claiming: Connection, bells: Bells
) -> None:
    """Room for four doorbells is shared in turns, and the idle gateway comes first."""
    await subscribe(world, 80)
    await at_gateways(world, "a", "b")
    settings = with_gateways(world, a=1000, b=1000)
    await run_sweep(claiming, bells, settings, SWEEP["renewals"])
    assert bells.by_gateway() == {"a": 2, "b": 2}
    await pace.declare(claiming, {"a": 1000, "b": 1000})
    await world.execute(
        "UPDATE gateway_state SET free_at = clock_timestamp() + '2 s' WHERE gateway = 'a'"
    )
    almost_full = Bells(queued=3)
    await run_sweep(claiming, almost_full, settings, SWEEP["renewals"])
    assert almost_full.by_gateway() == {"b": 1}
