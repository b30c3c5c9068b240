"""The process `renewd scheduler`: APScheduler ticks, any number of them side by side."""

import asyncio
import threading
from datetime import UTC, datetime
from functools import partial

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from scheduler.jobs import Jobs
from scheduler.sweeps import SWEEPS, Ringer
from worker import metrics
from worker.actors import declare_actors
from worker.broker import make_broker
from worker.health import start_health
from worker.limit_chain import check_limits
from worker.logs import configure_logging
from worker.process import stop_on_signals, timely_stop
from worker.settings import Settings

SURVEY_PERIOD_SECONDS = 300
"""A broken invariant is seen within 10 minutes, the bound for noticing missed billing."""

log = structlog.get_logger()


def run_scheduler(settings: Settings) -> int:
    """Tick until SIGTERM or SIGINT; return the exit code. Call it from the main thread."""
    configure_logging(format=settings.log_format, level=settings.log_level, process="scheduler")
    check_limits(settings)
    metrics.show_build()
    stopping = stop_on_signals()
    broker = make_broker(settings)
    ringer = Ringer(broker, declare_actors(broker, None))
    jobs = Jobs(settings, ringer)
    health = start_health(
        settings.metrics_port_of("scheduler"),
        settings.metrics_host,
        process="scheduler",
        registry=metrics.REGISTRY,
        is_healthy=lambda: jobs.healthy,
    )
    asyncio.run(_tick_until(stopping, settings, jobs))
    ringer.close()
    health.close()
    return 0


def schedule(settings: Settings, jobs: Jobs) -> AsyncIOScheduler:
    """Put every job on a scheduler that is not started yet; each looks at once when it is."""
    ticks = AsyncIOScheduler(
        timezone=UTC,
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    now = datetime.now(UTC)
    for sweep in SWEEPS:
        ticks.add_job(
            partial(jobs.sweep, sweep),
            "interval",
            seconds=settings.sweep_period_seconds,
            id=f"sweep {sweep.name}",
            next_run_time=now,
        )
    ticks.add_job(
        jobs.census,
        "interval",
        seconds=settings.census_period_seconds,
        id="census",
        next_run_time=now,
    )
    ticks.add_job(
        jobs.survey,
        "interval",
        seconds=SURVEY_PERIOD_SECONDS,
        id="survey",
        next_run_time=now,
    )
    ticks.add_listener(_log_bug, EVENT_JOB_ERROR)
    return ticks


async def _tick_until(stopping: threading.Event, settings: Settings, jobs: Jobs) -> None:
    ticks = schedule(settings, jobs)
    ticks.start()
    log.info("scheduler_started", sweeps=len(SWEEPS))
    await asyncio.to_thread(stopping.wait)
    with timely_stop():
        # Pausing first lets a running round end: shutdown would cancel it between claim and ring.
        ticks.pause()
        await jobs.close()
        ticks.shutdown(wait=False)


def _log_bug(event: JobExecutionEvent) -> None:
    log.error("job_crashed", job=event.job_id, error=repr(event.exception))
