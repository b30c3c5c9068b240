"""`renewd bench renewals`: how many charges a second, what each costs, and how fast the switch closes."""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from lab.bench import bare, processes
from lab.bench.processes import WORKERS
from lab.bench.stage import GATEWAY, Size, Stage, until
from lab.store import bench
from worker.store import control

STALLED_SECONDS = 60
MESSAGES_PER_CHARGE = 2
SWITCH_SHARE = 0.4
"""The kill switch is thrown when this share of the second run is charged."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: `due` charges from the first claim to the last outcome."""

    charges: int
    seconds: float
    cpu_seconds: Mapping[str, float]
    wal_bytes: int
    worker_rss_mb: float

    @property
    def per_second(self) -> float:
        return self.charges / self.seconds

    @property
    def cpu_per_1000(self) -> dict[str, float]:
        """CPU seconds per 1,000 charges by process, relay and sandbox included."""
        return {name: 1000 * cpu / self.charges for name, cpu in self.cpu_seconds.items()}


@dataclass(frozen=True, slots=True)
class Switch:
    """The kill switch in the middle of a run: how long it took, and what passed it."""

    seconds_to_close: float
    claims_after: int


async def measure(stage: Stage, due: int) -> Run:
    """Start scheduler, workers and platform, and charge everything that is due."""
    since = datetime.now(UTC)
    async with stage.pool.acquire() as conn:
        wal = await bench.wal_bytes(conn)
    async with running(stage):
        await _charged(stage, since, due)
        async with stage.pool.acquire() as conn:
            summary = await bench.summarize(conn, since)
            wal = await bench.wal_bytes(conn) - wal
        cpu = stage.fleet.cpu_since_mark()
        rss = stage.fleet.rss_mb("worker")
    assert summary.first_at is not None, "nothing was charged"
    assert summary.last_at is not None, "nothing was settled"
    seconds = (summary.last_at - summary.first_at).total_seconds()
    return Run(summary.succeeded, seconds, cpu, wal, rss)


async def throw_switch(stage: Stage, due: int) -> Switch:
    """Charge `due` more, and close charging in the middle of it."""
    since = datetime.now(UTC)
    async with stage.pool.acquire() as conn:
        await bench.make_due(conn, now=since, count=due)
    async with running(stage):
        await _charged(stage, since, int(due * SWITCH_SHARE))
        started = time.perf_counter()
        async with stage.pool.acquire() as conn:
            async with conn.transaction():
                await control.pause(conn, scope="global", scope_id="", reason="bench", who="bench")
            seconds = time.perf_counter() - started
            closed_at = datetime.now(UTC)
            await asyncio.sleep(2)
            after = await bench.summarize(conn, closed_at)
            async with conn.transaction():
                await control.resume(conn, scope="global", scope_id="", reason="bench", who="bench")
        await _charged(stage, since, due)
    return Switch(seconds, after.attempts)


async def measure_bare(stage: Stage, charges: int) -> float:
    """Charges per second of the bare loop against the same servers."""
    return await bare.run_bare(stage.database_url, stage.gateway, charges=charges)


@contextlib.asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[None]:
    """Scheduler, workers and platform, as they are deployed; the scheduler last.

    What is measured is work, not start-up: workers and platform are there before anything is claimed.
    """
    started: dict[str, list[subprocess.Popen[bytes]]] = {}

    def start(name: str, count: int) -> None:
        started[name] = [processes.start(name, stage.environment) for _ in range(count)]
        stage.fleet.processes[name] = [psutil.Process(process.pid) for process in started[name]]

    async def are_there() -> bool:
        async with stage.pool.acquire() as conn:
            return await bench.count_processes(conn) >= WORKERS + 1

    with processes.stopping(started):
        start("worker", WORKERS)
        start("platform", 1)
        await until(are_there, seconds=30)
        stage.fleet.mark()
        start("scheduler", 1)
        yield
    for name in started:
        del stage.fleet.processes[name]


async def _charged(stage: Stage, since: datetime, wanted: int) -> None:
    """Wait until so many are paid since then. Raises `TimeoutError` when nothing moves any more."""
    paid, told, moved_at = 0, 0, time.monotonic()
    while paid < wanted:
        await asyncio.sleep(0.5)
        async with stage.pool.acquire() as conn:
            now_told = await bench.messages_written(conn)
            # Counting rows is work that does not belong to a charge: only near the end.
            if now_told == told or now_told >= MESSAGES_PER_CHARGE * wanted:
                paid = await bench.count_paid(conn, since)
        if now_told > told:
            told, moved_at = now_told, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise TimeoutError(f"{paid} of {wanted} charged, and nothing for {STALLED_SECONDS} s")


Say = Callable[[str], None]


async def bench_renewals(stage: Stage, size: Size, say: Say) -> dict[str, object]:
    """The whole measurement; keys as in docs/contract/command-line.md."""
    say(f"charging {size.due:,} with {WORKERS} workers, gateway at {size.latency_ms} ms")
    run = await measure(stage, size.due)
    say("the bare loop")
    bare_per_second = await measure_bare(stage, min(size.due, 20_000))
    say("the kill switch")
    switch = await throw_switch(stage, min(size.due, 15_000))
    await until(stage.gateway.is_healthy, seconds=5)
    return {
        "charges_per_second": round(run.per_second),
        "bare_loop_charges_per_second": round(bare_per_second),
        "ratio": round(run.per_second / bare_per_second, 3),
        "subscriptions": size.subscriptions,
        "due": size.due,
        "cpu_seconds_per_1000": {k: round(v, 3) for k, v in run.cpu_per_1000.items()},
        "wal_bytes_per_charge": round(run.wal_bytes / run.charges),
        "worker_rss_mb": round(run.worker_rss_mb),
        "kill_switch_seconds": round(switch.seconds_to_close, 3),
        "claims_after_kill_switch": switch.claims_after,
        "gateway": GATEWAY,
        "latency_ms": size.latency_ms,
    }
