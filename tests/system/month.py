"""A month of the main job on real input, to be lived through undisturbed or disturbed.

Real Postgres, RabbitMQ and SMTP, real processes, a publisher that imports nothing of renewd, and the
gateway's own ledger as the oracle. The clock is the test clock; leases are machine time.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pika
import psutil

from lab.servers import postgres, rabbitmq
from lab.servers.process import free_port
from tests.mail import SmtpSink
from tests.system.book import PLANS, Book
from tests.system.fleet import API_KEY, Fleet, wait_for
from tests.system.outside import (
    Listener,
    first_appearances,
    ledger,
    malformed,
    publish_side_by_side,
    strangers,
)

LEASE_SECONDS, SWEEP_SECONDS = 40, 1
IDLE_SECONDS = 10
STRANGERS = 20
PROCESSES = ("worker-1", "worker-2", "scheduler-1", "scheduler-2", "platform-1", "platform-2")


class Stage:
    """Servers, the gateway, the mail sink and the fleet of one run."""

    def __init__(self, home: Path, servers: Any, smtp_url: str) -> None:
        self.database, self.broker = servers
        self.database_url = self.database.create_database("renewd_main")
        self.amqp_url = self.broker.create_vhost("main")
        port = free_port()
        self.gateway_url = f"http://127.0.0.1:{port}"
        gateways = {
            "main": {
                "adapter": "sandbox",
                "base_url": self.gateway_url,
                "api_key": API_KEY,
                "max_per_second": 5000,
            }
        }
        environment = {
            "RENEWD_DATABASE_URL": self.database_url,
            "RENEWD_AMQP_URL": self.amqp_url,
            "RENEWD_GATEWAYS": json.dumps(gateways),
            "RENEWD_SMTP_URL": smtp_url,
            "RENEWD_MAIL_FROM": "billing@example.com",
            "RENEWD_METRICS_PORT": "0",
            "RENEWD_LOG_FORMAT": "json",
        }
        sandbox = [
            "--port",
            str(port),
            "--ledger",
            str(home / "ledger.jsonl"),
            "--api-key",
            API_KEY,
        ]
        self.fleet = Fleet(environment, home, {"sandbox-1": sandbox})

    def sql(self, statement: str, *arguments: object) -> list[Any]:
        async def fetch() -> list[Any]:
            conn = await asyncpg.connect(self.database_url)
            try:
                return list(await conn.fetch(statement, *arguments))
            finally:
                await conn.close()

        return asyncio.run(fetch())

    def count(self, table_and_where: str, *arguments: object) -> int:
        found: int = self.sql(f"SELECT count(*) FROM {table_and_where}", *arguments)[0][0]
        return found


@contextmanager
def stage(home: Path, processes: Sequence[str] = PROCESSES) -> Iterator[tuple[Stage, SmtpSink]]:
    """Private servers for this test alone: it kills them."""
    sink = SmtpSink()
    sink.start()
    with postgres.private() as database, rabbitmq.private() as broker:
        made = Stage(home, (database, broker), sink.url)
        try:
            made.fleet.command("migrate")
            made.fleet.start("sandbox-1")
            for name in processes:
                made.fleet.start(name)
            yield made, sink
        finally:
            made.fleet.close()
            sink.stop()


def purge(made: Stage, queue: str) -> int:
    """Empty a doorbell queue, as a wiped broker would; returns how many were in it."""
    with pika.BlockingConnection(pika.URLParameters(made.amqp_url)) as connection:
        purged: int = connection.channel().queue_purge(queue).method.message_count
    return purged


def taken(made: Stage, size: int) -> Callable[[], bool]:
    """Whether intake has every subscription."""
    return lambda: made.count("subscription") == size


def all_charged(made: Stage, size: int) -> Callable[[], bool]:
    """Whether every subscription has an invoice whose first attempt has a final word."""
    return lambda: (
        made.count("attempt WHERE ordinal = 1 AND state IN ('succeeded', 'declined')") == size
    )


def live_through_a_month(
    home: Path, seed: int, *, size: int, disturb: Callable[[Stage], None]
) -> tuple[Book, dict[str, str]]:
    """Create the book, charge it, live 29 days, and compare everything with what was foretold."""
    rng = random.Random(seed)
    now = datetime.now(UTC).replace(microsecond=0)
    book = Book(size, rng, now, due_from=now + timedelta(hours=6))
    bad = malformed(rng, now)
    with stage(home) as (made, sink):
        listener = Listener(made.amqp_url)
        stream = [*book.messages(), *strangers(STRANGERS, now)]
        for n, (body, _) in enumerate(bad):
            stream.insert(rng.randrange(len(stream)) if n % 2 else n, body)
        publish_side_by_side(made.amqp_url, stream, publishers=4)
        wait_for(taken(made, size), seconds=180, what=f"{size} subscriptions")
        check_rejected(made, bad)
        advance_while(made, disturb, size)
        made.fleet.command("clock", "advance", "29d", timeout=400)
        wait_for(
            lambda: made.count("outbox_pending") == 0,
            seconds=60,
            what="an empty outbox",
        )
        check_strangers(made)
        check_audit(made)
        statuses = check_book(made, book)
        check_listener(made, listener)
        check_mail(made, sink, book)
        check_manners(made)
        listener.close()
    return book, statuses


def advance_while(made: Stage, disturb: Callable[[Stage], None], size: int) -> None:
    """Make everything due, disturb the fleet in the middle of it, and wait until it converged."""
    failures: list[BaseException] = []

    def advance() -> None:
        try:
            made.fleet.command("clock", "advance", "8h", timeout=280)
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            failures.append(error)

    thread = threading.Thread(target=advance)
    thread.start()
    wait_for(lambda: made.count("attempt") > size // 20, seconds=60, what="the first charges")
    assert made.count("attempt") < size, "too late: nothing is under way any more"
    disturb(made)
    thread.join()
    if failures:
        # The command itself lost its servers in the middle: a person would call it again.
        made.fleet.command("clock", "advance", "8h", timeout=280)
    wait_for(all_charged(made, size), seconds=LEASE_SECONDS + 60, what="every first attempt")


def check_rejected(made: Stage, bad: list[tuple[bytes, str]]) -> None:
    """Each malformed message is kept, with its field named in one line."""
    wait_for(
        lambda: made.count("rejected_event WHERE state = 'rejected'") >= len(bad),
        seconds=30,
        what="200 rejected messages",
    )
    rows = made.sql("SELECT field, error, body FROM rejected_event WHERE state = 'rejected'")
    assert Counter(row["field"] for row in rows) == Counter(field for _, field in bad)
    assert all("\n" not in row["error"] for row in rows)
    assert not any(b"4111 1111 1111 1111" in row["body"] for row in rows)
    assert made.count("rejected_event WHERE state = 'waiting'") == STRANGERS


def check_strangers(made: Stage) -> None:
    """What nobody ever explained waited for a day and was rejected then, its reference named."""
    rows = made.sql("SELECT state, field FROM rejected_event WHERE body LIKE '%stranger-%'::bytea")
    assert Counter((row["state"], row["field"]) for row in rows) == {
        ("rejected", "data.subscription_id"): STRANGERS
    }


def check_audit(made: Stage) -> None:
    """Every invariant holds, those against the gateway's ledger included."""
    verdict = made.fleet.command("audit", "--gateway-ledger")
    assert verdict["ok"], [one for one in verdict["invariants"] if not one["ok"]]


def check_book(made: Stage, book: Book) -> dict[str, str]:
    """The gateway's ledger and our rows say of each learner what was foretold."""
    charges = ledger(made.gateway_url, API_KEY)
    per_invoice: dict[str, list[dict[str, Any]]] = {}
    for charge in charges:
        per_invoice.setdefault(charge["reference"], []).append(charge)
    rows = made.sql(
        "SELECT s.subscription_id, s.status, i.invoice_id::text, i.first_declined_at FROM subscription s"
        " JOIN invoice i USING (subscription_id)"
    )
    assert len(rows) == len(book.learners)
    by_id = {row["subscription_id"]: row for row in rows}
    for learner in book.learners:
        row = by_id[learner.subscription_id]
        told = per_invoice.pop(row["invoice_id"], [])
        paid = [charge for charge in told if charge["status"] == "succeeded"]
        assert row["status"] == learner.status, learner
        assert hours_of(told, row["first_declined_at"]) == list(learner.hours), (learner, told)
        assert len(paid) == (learner.status == "active"), (learner, told)
        for charge in told:
            wanted = (book.amount_minor(learner), book.currency(learner))
            assert (charge["amount_minor"], charge["currency"]) == wanted
    assert per_invoice == {}
    return {row["subscription_id"]: row["status"] for row in rows}


def hours_of(charges: list[dict[str, Any]], first_declined_at: datetime | None) -> list[int]:
    """When each charge was made by the gateway's clock, in hours after the first decline was known."""
    made = sorted(datetime.fromisoformat(charge["created_at"]) for charge in charges)
    start = first_declined_at or made[0]
    return [0, *((at - start) // timedelta(hours=1) for at in made[1:])]


def check_listener(made: Stage, listener: Listener) -> None:
    """Every message arrived; first appearances of each subscription are gapless and in order."""
    total = made.sql("SELECT coalesce(sum(sequence), 0)::bigint FROM subscription")[0][0]
    wait_for(
        lambda: (
            sum(len(set(first_appearances(m))) for m in listener.by_subscription().values())
            == total
        ),
        seconds=60,
        what=f"{total} messages out",
    )
    for subscription_id, messages in listener.by_subscription().items():
        seen = first_appearances(messages)
        assert seen == list(range(1, len(seen) + 1)), (subscription_id, seen)


def check_mail(made: Stage, sink: SmtpSink, book: Book) -> None:
    """Each mail came once, and every failed payment and every announced renewal has one."""
    ids = [str(message["Message-ID"]) for message in sink.messages]
    assert len(ids) == len(set(ids))
    sent = Counter(row["kind"] for row in made.sql("SELECT kind FROM notice WHERE state = 'sent'"))
    failed = sum(
        len(learner.hours) > 1 or learner.status == "canceled" for learner in book.learners
    )
    announced = [p.plan_id for p in PLANS if p.reminders]
    paid = sum(x.plan in announced and x.status == "active" for x in book.learners)
    assert sent == {"payment_failed": failed, "upcoming_renewal": paid}
    assert len(ids) == sum(sent.values())


def check_manners(made: Stage) -> None:
    """Idle processes rest, a worker is small, and SIGTERM ends each of them in time."""
    fleet = {name: psutil.Process(made.fleet.running[name].pid) for name in PROCESSES}
    before = {name: sum(process.cpu_times()[:2]) for name, process in fleet.items()}
    time.sleep(IDLE_SECONDS)
    for name, process in fleet.items():
        share = (sum(process.cpu_times()[:2]) - before[name]) / IDLE_SECONDS
        assert share < 0.02, f"{name} uses {share:.1%} of a core while nothing is due"
    worker_mb = max(fleet[name].memory_info().rss for name in ("worker-1", "worker-2")) / 1e6
    assert worker_mb < 200
    for name in PROCESSES:
        assert made.fleet.stop(name) < 30
