"""The worker process on real servers: it boots, answers, waits for servers, and ends in time."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from lab.servers import postgres, rabbitmq
from lab.servers.process import wait_until
from tests.database import SweptDatabase
from worker.actors import Actors, declare_actors
from worker.broker import BillingBroker, make_broker, outstanding
from worker.settings import isolated_settings

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "from worker.main import run_worker\n"
    "from worker.settings import load_settings\n"
    "raise SystemExit(run_worker(load_settings(env_file=None)))"
)
NOWHERE = "127.0.0.1:1"
GATEWAYS = '{"main": {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k"}}'
SECONDS = 30


class WorkerProcess:
    """A worker in a process group of its own, and the log lines it has written so far."""

    def __init__(self, **settings: str) -> None:
        ours = {f"RENEWD_{name.upper()}": text for name, text in settings.items()}
        fixed = {"RENEWD_METRICS_PORT": "0", "RENEWD_LOG_FORMAT": "json", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            env=os.environ | fixed | ours,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for text in stream:
                line = json.loads(text)
                self.lines.append(line)
                self._news.put(line)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line with this event."""
        while True:
            line = self._news.get(timeout=SECONDS)
            if line["event"] == event:
                return line

    def started(self) -> "WorkerProcess":
        self.port = self.wait_for("metrics_listening")["port"]
        self.wait_for("worker_started")
        return self

    def get(self, path: str) -> tuple[int, str]:
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def answered(self, actor: str) -> bool:
        name = f'renewd_doorbells_total{{actor="{actor}",result="done"}}'
        return name in self.get("/metrics")[1]

    def terminate(self) -> None:
        """As a supervisor does: the process, and its group as well."""
        self.process.send_signal(signal.SIGTERM)
        os.killpg(self.process.pid, signal.SIGTERM)

    def exit_code(self) -> int:
        return self.process.wait(SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()


@contextmanager
def running(**settings: str) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(**settings)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def ringing(amqp_url: str) -> Iterator[tuple[BillingBroker, Actors]]:
    broker = make_broker(isolated_settings(amqp_url=amqp_url))
    actors = declare_actors(broker, None)
    try:
        yield broker, actors
    finally:
        broker.close()


def test_worker_answers_and_ends(database_url: str, amqp_url: str) -> None:
    """A worker is healthy, answers doorbells, and ends on SIGTERM to itself and its group."""
    settings = {"database_url": database_url, "amqp_url": amqp_url, "gateways": GATEWAYS}
    with running(**settings) as worker:
        worker.started()
        with ringing(amqp_url) as (broker, actors):
            broker.enqueue(actors.finish_grace.message(["nobody"]))
            broker.enqueue(actors.cancel_due.message(["nobody"]))
            broker.enqueue(actors.collect.message("main", []))
            broker.enqueue(actors.remind.message([]))
        rung = ("finish_grace", "cancel_due", "collect", "remind")
        assert wait_until(lambda: all(map(worker.answered, rung)), seconds=SECONDS)
        assert worker.get("/healthz") == (200, '{"process": "worker", "healthy": true}\n')
        assert 'renewd_build_info{version="' in worker.get("/metrics")[1]
        worker.terminate()
        assert worker.exit_code() == 0
        assert worker.lines[-1]["event"] == "process_stopped"


async def test_stop_lets_actors_end_and_gives_back_the_rest(
    database_url: str, amqp_url: str
) -> None:
    """On SIGTERM the doorbell in work is answered; one that was only fetched goes back."""
    with (
        ringing(amqp_url) as (broker, actors),
        running(database_url=database_url, amqp_url=amqp_url, worker_threads="1") as worker,
    ):
        worker.started()
        async with locked(database_url) as conn:
            broker.enqueue(actors.finish_grace.message(["nobody"]))
            assert await somebody_waits(conn)
            for _ in range(3):
                broker.enqueue(actors.collect.message("main", []))
            assert wait_until(lambda: outstanding(broker, "charge") == 2, seconds=SECONDS)
            worker.terminate()
            worker.wait_for("process_stopping")
            assert worker.process.poll() is None
        assert worker.exit_code() == 0
        assert wait_until(lambda: outstanding(broker, "charge") == 3, seconds=SECONDS)
        assert outstanding(broker, "maintenance") == 0
        broker.flush_all()


@asynccontextmanager
async def locked(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that keeps everybody else from the subscriptions."""
    conn = await asyncpg.connect(database_url)
    try:
        await conn.execute("BEGIN; LOCK TABLE subscription IN ACCESS EXCLUSIVE MODE")
        yield conn
    finally:
        await conn.close()


async def somebody_waits(conn: "asyncpg.Connection[asyncpg.Record]") -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if await conn.fetchval(waiting):
            return True
    return False


def test_missing_servers_are_waited_for(amqp_url: str) -> None:
    """Without a database a worker says so, is not healthy, and ends at once when told to."""
    with running(database_url=f"postgresql://{NOWHERE}/renewd", amqp_url=amqp_url) as worker:
        worker.port = worker.wait_for("metrics_listening")["port"]
        assert worker.wait_for("database_awaited")["error"].startswith("ConnectionRefusedError")
        worker.wait_for("database_awaited")
        assert worker.get("/healthz") == (503, '{"process": "worker", "healthy": false}\n')
        worker.terminate()
        assert worker.exit_code() == 0


def test_unmigrated_database_is_waited_for(
    postgres_server: postgres.Databases, amqp_url: str
) -> None:
    """A worker that comes before `renewd migrate` waits for it."""
    url = postgres_server.create_database("renewd_unmigrated")
    try:
        with running(database_url=url, amqp_url=amqp_url) as worker:
            assert worker.wait_for("database_awaited")["error"].startswith("UndefinedTableError")
            worker.terminate()
            assert worker.exit_code() == 0
    finally:
        postgres_server.drop_database("renewd_unmigrated")


def test_broker_may_come_late_and_restart(database_url: str) -> None:
    """A worker without a broker waits for it, and works again after a restart of the broker."""
    with rabbitmq.private() as server:
        server.stop()
        with running(database_url=database_url, amqp_url=server.url) as worker:
            worker.started()
            server.start()
            with ringing(server.url) as (broker, actors):
                broker.enqueue(actors.finish_grace.message(["nobody"]))
                assert wait_until(lambda: worker.answered("finish_grace"), seconds=SECONDS)
                server.restart()
                broker.enqueue(actors.remind.message([]))
                assert wait_until(lambda: worker.answered("remind"), seconds=SECONDS)
            worker.terminate()
            assert worker.exit_code() == 0


async def test_database_may_restart(amqp_url: str) -> None:
    """After a restart of the database the worker's pool works again by itself."""
    with postgres.private() as server:
        url = server.create_database("renewd")
        await SweptDatabase.load(url)
        with running(database_url=url, amqp_url=amqp_url) as worker:
            worker.started()
            with ringing(amqp_url) as (broker, actors):
                broker.enqueue(actors.finish_grace.message(["nobody"]))
                assert wait_until(lambda: worker.answered("finish_grace"), seconds=SECONDS)
                server.restart()
                broker.enqueue(actors.remind.message([]))
                assert wait_until(lambda: worker.answered("remind"), seconds=SECONDS)


def test_idle_worker_is_cheap(database_url: str, amqp_url: str) -> None:
    """A worker with nothing to do uses less than 2 % of a core and less than 200 MB."""
    with running(database_url=database_url, amqp_url=amqp_url) as worker:
        worker.started()
        assert wait_until(lambda: worker.get("/healthz")[0] == 200, seconds=SECONDS)
        process = psutil.Process(worker.process.pid)
        assert cpu_share(process, seconds=8) < 0.02
        assert process.memory_info().rss < 200 * 1024 * 1024


def cpu_share(process: psutil.Process, *, seconds: float) -> float:
    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    before, began_at = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - began_at)
