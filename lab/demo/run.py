"""`renewd demo`: from nothing to a summary, without a server, a setting or a variable of the caller."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import asyncpg
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lab.demo import report, simulation
from lab.demo.house import House, open_house
from lab.demo.summary import Summary, summarize
from lab.servers import postgres
from lab.servers.process import ServerError
from worker import metrics
from worker.errors import ServerUnreachable, UsageError
from worker.health import HealthServer, start_health
from worker.logs import configure_logging

SCHEMA = Path(__file__).resolve().parents[2] / "schema.sql"
SUBSCRIPTIONS_AT_MOST = 1_000_000
MONTHS_AT_MOST = 120
INTERRUPTED = 130
WATCH_SECONDS = 1.0


def run_demo(*, subscriptions: int, months: int, as_json: bool, keep: bool, seed: int = 1) -> int:
    """Play the demo and print what came of it; 0 if the gateway's ledger and all checks agree.

    With `as_json` one object goes to standard output, and nothing else does. With `keep` everything
    runs on after the summary, with /metrics, until Ctrl-C. Raises `UsageError`, and
    `ServerUnreachable` where the embedded Postgres cannot be started.
    """
    _check("--subscriptions", subscriptions, SUBSCRIPTIONS_AT_MOST)
    _check("--months", months, MONTHS_AT_MOST)
    configure_logging(format="auto", level="WARNING", process="demo")
    demo = _Demo(subscriptions, months, seed, as_json=as_json, keep=keep)
    try:
        with postgres.embedded() as server:
            url = server.create_database("renewd_demo")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(demo.play(url))
    except KeyboardInterrupt:
        return INTERRUPTED if demo.exit_code is None else demo.exit_code
    except ServerError as error:
        raise ServerUnreachable(f"the embedded Postgres: {error}") from error
    assert demo.exit_code is not None
    return demo.exit_code


def _check(option: str, given: int, most: int) -> None:
    if not 1 <= given <= most:
        raise UsageError(f"{option} is {given}: should be 1 to {most}")


class _Demo:
    """One run; `exit_code` is there once the summary is."""

    def __init__(
        self, subscriptions: int, months: int, seed: int, *, as_json: bool, keep: bool
    ) -> None:
        self._subscriptions = subscriptions
        self._months = months
        self._seed = seed
        self._as_json = as_json
        self._keep = keep
        self._aside = Console(stderr=True)
        self.exit_code: int | None = None

    async def play(self, database_url: str) -> None:
        """Fill an empty database with a history, and show it."""
        await load_schema(database_url)
        async with open_house(database_url, seed=self._seed) as house:
            with self._watched(house):
                began = time.monotonic()
                with self._progress(house) as progress:
                    steps = await simulation.simulate(
                        house,
                        subscriptions=self._subscriptions,
                        months=self._months,
                        seed=self._seed,
                        progress=progress,
                    )
                seconds = time.monotonic() - began
                summary = await summarize(house)
                self._show(summary, seconds=seconds, steps=steps)
                self.exit_code = 0 if summary.is_good else 1
                if self._keep:
                    await self._watch(house)

    def _show(self, summary: Summary, *, seconds: float, steps: int) -> None:
        if self._as_json:
            figures = summary.to_json() | {
                "months": self._months,
                "seed": self._seed,
                "steps": steps,
                "seconds": round(seconds, 1),
            }
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()
        else:
            report.show(summary, Console(), months=self._months, seconds=seconds)

    @contextmanager
    def _progress(self, house: House) -> Iterator[simulation.Progress]:
        days = (simulation.ends_at(self._months) - simulation.STARTS_AT).days
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[paid]:>7,} paid"),
            TextColumn("{task.fields[recovered]:>5,} recovered"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._aside, transient=True) as bar:
            task = bar.add_task("the platform tells", total=days, paid=0, recovered=0)

            def progress(now: datetime) -> None:
                told = house.told.by_type
                bar.update(
                    task,
                    description=f"{now:%d %b %Y}",
                    completed=(now - simulation.STARTS_AT).days,
                    paid=told["billing.invoice.paid"],
                    recovered=told["billing.subscription.recovered"],
                )

            yield progress

    @contextmanager
    def _watched(self, house: House) -> Iterator[None]:
        """With /metrics while it runs, if it is to be kept."""
        health: HealthServer | None = None
        if self._keep:
            settings = house.settings
            metrics.show_build()
            health = start_health(
                settings.metrics_port_of("worker"),
                settings.metrics_host,
                process="demo",
                registry=metrics.REGISTRY,
                is_healthy=house.worker.is_healthy,
            )
            self._aside.print(f"metrics: http://{settings.metrics_host}:{health.port}/metrics")
        try:
            yield
        finally:
            if health is not None:
                health.close()

    async def _watch(self, house: House) -> None:
        self._aside.print("running on until Ctrl-C")
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await house.jobs.sweep_all()
                await house.jobs.census()
                await asyncio.sleep(WATCH_SECONDS)


async def load_schema(database_url: str) -> None:
    """Make the empty database one of this version."""
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute(SCHEMA.read_text())
    finally:
        await conn.close()
