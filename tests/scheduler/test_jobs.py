"""The jobs of a scheduler: servers come and go, and every tick tries again."""

import secrets
from collections.abc import AsyncIterator

import pytest
import structlog

from lab.servers import postgres
from scheduler import main
from scheduler.jobs import Jobs
from scheduler.sweeps import SWEEPS
from tests.scheduler.bells import SWEEP, Bells, subscribe
from tests.world import World
from worker.metrics import REGISTRY
from worker.settings import Settings, isolated_settings

OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'renewd scheduler'
"""


@pytest.fixture
def settings(world: World, database_url: str) -> Settings:
    """Those of the world, with its database."""
    return world.context.settings.model_copy(update={"database_url": database_url})


@pytest.fixture
async def jobs(settings: Settings, bells: Bells) -> AsyncIterator[Jobs]:
    """A scheduler's jobs with bells for a broker."""
    made = Jobs(settings, bells)
    yield made
    await made.close()


async def test_a_round_of_every_sweep_finds_what_is_due(
    world: World, jobs: Jobs, bells: Bells
) -> None:
    """Three renewals: claimed once, by the round that came first."""
    subs = await subscribe(world, 3)
    assert not jobs.healthy
    assert await jobs.sweep_all() == 3
    assert bells.rung == [("renew", "sandbox", subs)]
    assert jobs.healthy
    assert await jobs.sweep_all() == 0


async def test_a_lost_connection_is_opened_anew(world: World, jobs: Jobs) -> None:
    """One tick may fail; the next one works, and nothing is raised."""
    await subscribe(world, 1)
    await jobs.sweep(SWEEP["grace"])
    await world.fetch(OTHERS)
    claimed = [await jobs.sweep(SWEEP["renewals"]) for _ in range(2)]
    assert sum(claimed) == 1
    assert jobs.healthy


async def test_a_broker_that_is_away_costs_a_lease(world: World, settings: Settings) -> None:
    """The round is cut off and logged; the scheduler says that it is not well."""
    await subscribe(world, 1)
    jobs = Jobs(settings, Bells(breaks_after=0))
    with structlog.testing.capture_logs() as logs:
        assert await jobs.sweep(SWEEP["renewals"]) == 0
    assert not jobs.healthy
    [line] = [line for line in logs if line["event"] == "job_failed"]
    assert (line["job"], line["error"]) == (
        "sweep renewals",
        "ServerUnreachable: the broker is away",
    )
    await jobs.close()


@pytest.mark.parametrize("what", ["away", "empty"])
async def test_a_database_that_is_not_there_yet_is_waited_for(
    settings: Settings, bells: Bells, postgres_server: postgres.Databases, what: str
) -> None:
    """Nobody answers, or nobody has migrated: every job logs it and returns."""
    name = f"renewd_test_{secrets.token_hex(6)}"
    url = "postgresql://nobody@127.0.0.1:9/none"
    if what == "empty":
        url = postgres_server.create_database(name)
    jobs = Jobs(settings.model_copy(update={"database_url": url}), bells)
    assert await jobs.sweep_all() == 0
    await jobs.census()
    await jobs.survey()
    assert not jobs.healthy
    await jobs.close()
    postgres_server.drop_database(name)


async def test_a_survey_shows_what_is_broken(world: World, jobs: Jobs) -> None:
    """The gauge has the number of rows, and the log names the invariant."""
    await world.renew(await world.subscribe("tok_decline_insufficient_funds_1"))
    await world.execute("UPDATE invoice SET attempt_due_at = NULL")
    with structlog.testing.capture_logs() as logs:
        await jobs.survey()
    broken = [line for line in logs if line["event"] == "invariant_broken"]
    assert [(line["invariant"], line["rows"]) for line in broken] == [("invoice_not_forgotten", 1)]
    rows = "renewd_invariant_rows"
    assert REGISTRY.get_sample_value(rows, {"invariant": "invoice_not_forgotten"}) == 1
    assert REGISTRY.get_sample_value(rows, {"invariant": "outbox_flows"}) == 0
    assert REGISTRY.get_sample_value("renewd_subscriptions", {"status": "past_due"}) == 1


def test_every_job_ticks_by_itself(bells: Bells) -> None:
    """A tick for each sweep, the census and the survey; one at a time, none ever given up."""
    settings = isolated_settings(sweep_period_seconds=2, census_period_seconds=30)
    ticks = main.schedule(settings, Jobs(settings, bells))
    jobs = {job.id: job for job in ticks.get_jobs()}
    assert jobs.keys() == {f"sweep {sweep.name}" for sweep in SWEEPS} | {"census", "survey"}
    assert jobs["sweep renewals"].trigger.interval.total_seconds() == 2
    assert jobs["census"].trigger.interval.total_seconds() == 30
    assert jobs["survey"].trigger.interval.total_seconds() < 600
