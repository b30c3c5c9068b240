"""The demo: a small history on a real Postgres, compared with what the gateway and the outbox say."""

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.demo import report, run_demo, simulation
from lab.demo.house import House, open_house
from lab.demo.ledger import compare
from lab.demo.run import load_schema
from lab.demo.summary import Summary, summarize
from lab.servers import postgres
from scheduler.store.figures import AttemptRow
from worker import embedded
from worker.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = {
    *("subscriptions", "renewals", "first_declines", "recovered", "lost"),
    *("revenue_minor", "recovered_minor", "ledger_agrees", "seconds"),
}


@pytest.fixture(autouse=True)
def quick_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle threads look often whether they should end."""
    monkeypatch.setattr(embedded, "POLL_MS", 50)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    """An empty renewd in one process."""
    async with open_house(database_url, seed=1) as opened:
        yield opened


async def live(house: House, *, subscriptions: int, months: int, seed: int = 1) -> Summary:
    """A history, and what it comes to."""
    await simulation.simulate(
        house,
        subscriptions=subscriptions,
        months=months,
        seed=seed,
        progress=lambda _: None,
    )
    return await summarize(house)


class Bank:
    """What the gateway's own charges say, counted without any of renewd's figures."""

    def __init__(self, charges: list[dict[str, Any]]) -> None:
        self.by_invoice: dict[str, list[dict[str, Any]]] = {}
        self.captured: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()
        for charge in charges:
            self.by_invoice.setdefault(charge["reference"], []).append(charge)
            if charge["status"] == "succeeded":
                self.captured[charge["currency"]] += charge["amount_minor"]
                if len(self.by_invoice[charge["reference"]]) > 1:
                    self.recovered[charge["currency"]] += charge["amount_minor"]

    def invoices(self, first: str, *, paid: bool | None = None) -> int:
        """Invoices whose first charge ended so, and which were paid in the end or not."""
        return sum(
            charges[0]["status"] == first
            and (paid is None or paid == (charges[-1]["status"] == "succeeded"))
            for charges in self.by_invoice.values()
        )


async def test_the_summary_is_what_happened(house: House) -> None:
    """Forty subscriptions and three months: every figure is that of the gateway and of the outbox."""
    summary = await live(house, subscriptions=40, months=3)
    bank = Bank(house.sandbox.charges())
    told, figures = house.told.by_type, summary.to_json()
    assert figures["subscriptions"] == 40
    assert figures["renewals"] == len(bank.by_invoice) > 90
    assert figures["first_declines"] == bank.invoices("declined") > 0
    assert figures["recovered"] == bank.invoices("declined", paid=True) > 0
    assert figures["revenue_minor"] == dict(bank.captured)
    assert {c: n for c, n in figures["recovered_minor"].items() if n} == dict(bank.recovered)
    assert figures["charges"] == sum(map(len, bank.by_invoice.values()))
    ended = told["billing.subscription.canceled"] + told["billing.subscription.expired"]
    assert figures["lost"] + figures["canceled"] == ended > 0
    assert figures["notices_sent"] == told["billing.notice.sent"] > 0
    assert figures["messages_told"] == await house.conn.fetchval(
        "SELECT count(*) FROM outbox_event"
    )
    assert sum(figures["first_declines_by_class"].values()) == figures["first_declines"]
    for split in ("recovered_by", "recovered_by_attempt", "recovered_by_day"):
        assert sum(figures[split].values()) == figures["recovered"]
    assert (figures["unexplained"], figures["invariants_broken"]) == ([], [])
    assert summary.is_good


async def test_customers_join_react_and_leave(house: House) -> None:
    """The platform's people do what people do: trials, new cards, cancels, some of them undone."""
    summary = await live(house, subscriptions=120, months=4, seed=3)
    types = await house.conn.fetch("SELECT type, count(*) FROM inbox_event GROUP BY type")
    taken = {row["type"].removeprefix("platform."): row["count"] for row in types}
    assert taken["subscription.created"] == 120
    assert taken["payment_method.attached"] > 120
    assert taken["subscription.payment_method_changed"] > 0
    assert taken["subscription.cancel_requested"] > 0
    assert summary.recovered_by()["new_card"] > 0
    results = await house.conn.fetch("SELECT DISTINCT result FROM inbox_event")
    assert {row["result"] for row in results} <= {"applied", "refused", "superseded"}
    trials = "SELECT count(*) FROM transition WHERE from_state = 'trialing'"
    assert await house.conn.fetchval(trials) > 0
    currencies = {"EUR", "JPY", "KWD", "USD"}
    assert {row.currency for row in summary.money} == currencies
    assert summary.is_good


async def test_a_seed_is_a_history(postgres_server: postgres.Databases) -> None:
    """The same seed comes to the same figures on another database, another seed to others."""
    figures = []
    for seed in (7, 7, 8):
        name = f"renewd_test_{secrets.token_hex(6)}"
        url = postgres_server.create_database(name)
        try:
            await load_schema(url)
            async with open_house(url, seed=seed) as house:
                summary = await live(house, subscriptions=25, months=2, seed=seed)
                figures.append(summary.to_json())
        finally:
            postgres_server.drop_database(name)
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


async def test_a_falsified_row_is_seen(house: House) -> None:
    """One amount changed by one unit, and the ledger does not agree any more."""
    assert (await live(house, subscriptions=10, months=1)).is_good
    await house.conn.execute(
        "UPDATE attempt SET amount_minor = amount_minor + 1 WHERE invoice_id ="
        " (SELECT invoice_id FROM attempt WHERE state = 'succeeded' LIMIT 1)"
    )
    summary = await summarize(house)
    assert not summary.ledger.agrees
    assert not summary.is_good
    assert len(summary.ledger.unexplained) == 1
    shown = lines(summary)
    assert any("✘ gateway ledger does not agree" in line for line in shown)


async def test_the_report_shows_it_all(house: House) -> None:
    """The summary fits a narrow terminal and names what a person looks for."""
    summary = await live(house, subscriptions=40, months=3)
    shown = "\n".join(lines(summary))
    for part in (
        "3 months of 40 subscriptions, in 5 s",
        "declined at first",
        "insufficient_funds",
        "recovered by attempt",
        "recovered by day after the first decline",
        "customers lost",
        f"✔ gateway ledger agrees: {summary.ledger.charges} charges, 0 unexplained",
    ):
        assert part in shown
    assert max(map(len, lines(summary))) <= 80


def lines(summary: Summary) -> list[str]:
    """The report as a narrow terminal shows it."""
    screen = StringIO()
    report.show(summary, Console(file=screen, width=80), months=3, seconds=5)
    return screen.getvalue().splitlines()


CHARGE = {
    "id": "ch_1",
    "status": "succeeded",
    "amount_minor": 4900,
    "currency": "USD",
    "reference": "inv_1",
    "idempotency_key": "key_1",
}
ATTEMPT = AttemptRow("key_1", "succeeded", 4900, "USD")


@pytest.mark.parametrize(
    ("charges", "attempts", "unexplained"),
    [
        # the same on both sides
        ([CHARGE], [ATTEMPT], []),
        # money there that we know nothing of
        ([CHARGE], [], ["charge ch_1: no attempt has its key"]),
        # money here that is not there
        ([], [ATTEMPT], ["attempt key_1: succeeded here, and no charge there"]),
        # nothing there, and nothing said of it here
        ([], [ATTEMPT._replace(state="unknown")], []),
        # another amount, another currency
        (
            [CHARGE],
            [ATTEMPT._replace(amount_minor=4901)],
            ["charge ch_1: (4900, 'USD') there, (4901, 'USD') here"],
        ),
        (
            [CHARGE],
            [ATTEMPT._replace(currency="EUR")],
            ["charge ch_1: (4900, 'USD') there, (4900, 'EUR') here"],
        ),
        # an outcome that was lost
        (
            [CHARGE],
            [ATTEMPT._replace(state="declined")],
            ["charge ch_1: succeeded there, declined here"],
        ),
        # the same key twice; the same invoice twice
        ([CHARGE, CHARGE], [ATTEMPT], ["charge ch_1: a second payment of one invoice"]),
        (
            [CHARGE, CHARGE | {"id": "ch_2", "idempotency_key": "key_2"}],
            [ATTEMPT, ATTEMPT._replace(idempotency_key="key_2")],
            ["charge ch_2: a second payment of one invoice"],
        ),
    ],
)
def test_ledgers_are_compared_both_ways(
    charges: list[dict[str, Any]], attempts: list[AttemptRow], unexplained: list[str]
) -> None:
    """Whatever one side knows and the other does not is named."""
    comparison = compare(charges, attempts)
    assert comparison.unexplained == unexplained
    assert comparison.agrees == (not unexplained)


@pytest.mark.parametrize(("subscriptions", "months"), [(0, 1), (1, 0), (1, 121)])
def test_sizes_are_checked(subscriptions: int, months: int) -> None:
    """A size that makes no sense is one line, before anything is started."""
    with pytest.raises(UsageError, match=r"--\w+ is \d+: should be 1 to "):
        run_demo(subscriptions=subscriptions, months=months, as_json=True, keep=False)


@contextmanager
def kept_demo(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that is kept, in a directory and an environment full of other people's settings."""
    wrong = "RENEWD_DATABASE_URL=postgresql://nobody@127.0.0.1:1/wrong"
    (directory / ".env").write_text(f"{wrong}\nRENEWD_NO_SUCH_SETTING=1\n")
    name, _, url = wrong.partition("=")
    call = "run_demo(subscriptions=12, months=1, as_json=True, keep=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from lab.demo import run_demo\nraise SystemExit({call})"],
        cwd=directory,
        env=os.environ | {name: url, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_reads_no_setting_and_is_kept_until_told(tmp_path: Path) -> None:
    """One JSON object with the contract's keys, /metrics until Ctrl-C, and a clean end."""
    with kept_demo(tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        metrics = process.stderr.readline().removeprefix("metrics: ").strip()
        figures = json.loads(process.stdout.readline())
        assert set(figures) >= CONTRACT
        assert (figures["subscriptions"], figures["ledger_agrees"]) == (12, True)
        with urllib.request.urlopen(metrics, timeout=10) as answer:
            assert b'renewd_payment_attempts_total{decline_class="",' in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""
