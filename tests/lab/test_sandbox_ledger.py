"""The sandbox gateway's ledger: the oracle of tests, and its memory across any kind of end."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lab.sandbox import LedgerError
from tests.lab.bank import API_KEY, Bank, charge_body
from tests.lab.conftest import OpenBank
from tests.worker.waiting import until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
PROCESS = f"""
import asyncio, sys
from pathlib import Path
from lab.sandbox import SandboxConfig, run
config = SandboxConfig(api_key={API_KEY!r})
asyncio.run(run(config, port=int(sys.argv[1]), ledger_path=Path(sys.argv[2])))
"""


async def test_every_executed_act_is_a_line(bank: Bank) -> None:
    """Charges, refunds, endings, faults and the clock are told over HTTP as they are inside."""
    bank.move_to(NOON)
    charge_id = (await bank.charge(key="k1", reference="inv_9")).body["id"]
    await bank.refund(charge_id, 100, key="r1")
    await bank.charge("tok_pending_ok_1", key="k2")
    bank.meet(rates={"error_500": 1})
    await bank.charge(key="k3")
    bank.move_to(NOON + timedelta(days=1))
    entries = bank.sandbox.ledger()
    assert [entry["kind"] for entry in entries] == [
        *("clock", "charge", "refund", "charge", "fault", "answer", "clock", "status"),
    ]
    charge = entries[1]
    assert (charge["at"], charge["reference"], charge["amount_minor"], charge["status"]) == (
        "2026-03-01T12:00:00.000000Z",
        "inv_9",
        1999,
        "succeeded",
    )
    assert await ledger_over_http(bank) == entries


async def ledger_over_http(bank: Bank) -> list[Any]:
    """GET /v1/sandbox/ledger, line by line."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{bank.sandbox.url}/v1/sandbox/ledger",
            headers={"Authorization": f"Bearer {API_KEY}"},
        ) as answer,
    ):
        return [json.loads(line) async for line in answer.content]


async def test_stats_sum_the_book(bank: Bank) -> None:
    """Charges by status, money by currency, answers, and references that paid twice."""
    charge_id = (await bank.charge(key="k1")).body["id"]
    await bank.charge(key="k1")
    await bank.charge("tok_decline_do_not_honor_1")
    await bank.charge(currency="EUR", amount_minor=5)
    await bank.refund(charge_id, 99, key="r1")
    assert (await bank.get("/v1/sandbox/stats")).body == {
        "answers_by_status": {"200": 5},
        "answers_replayed": 1,
        "charges": 3,
        "charges_by_status": {"succeeded": 2, "declined": 1},
        "refunds": 1,
        "captured_minor": {"USD": 1999, "EUR": 5},
        "refunded_minor": {"USD": 99, "EUR": 0},
        "references_charged_twice": 1,
    }


async def test_a_restart_forgets_nothing(open_bank: OpenBank, tmp_path: Path) -> None:
    """Charges, refunds, stored answers, sequences, what is pending or late, and the clock remain."""
    path = tmp_path / "ledger.jsonl"
    before = await open_bank(ledger_path=path)
    before.move_to(NOON)
    first = await before.charge(key="k1")
    await before.refund(first.body["id"], 100, key="r1")
    sequence = "tok_seq_expired_card-ok_1"
    await before.charge(sequence, key="k2")
    await before.charge("tok_pending_insufficient_funds_mac25_1", key="k3")
    before.meet(rates={"charge_then_500": 1})
    await before.charge(key="k4")
    before.meet(rates={"late_500": 1}, late_minutes=90)
    await before.charge(key="k5")
    charges = before.sandbox.charges()
    await before.sandbox.close()

    after = await open_bank(ledger_path=path)
    assert after.sandbox.charges() == charges
    assert (await after.get("/v1/health")).body["now"] == "2026-03-01T12:00:00.000000Z"
    replayed = await after.charge(key="k1")
    assert (replayed.is_replayed, replayed.body) == (True, first.body)
    assert (await after.charge(key="k4")).status == 500
    assert (await after.charge(sequence, key="k6")).body["status"] == "succeeded"
    assert (await after.charge(key="k1", amount_minor=1)).error["type"] == "idempotency_error"
    after.move_to(NOON + timedelta(days=1))
    declined = (await after.get("/v1/charges", idempotency_key="k3")).body["data"][0]
    assert (declined["status"], declined["decline"]["advice_code"]) == ("declined", "25")
    assert after.executed("k5") == 1


async def test_a_restarted_book_stays_the_same_twice(open_bank: OpenBank, tmp_path: Path) -> None:
    """What was late and has arrived, or ended, does not happen again after the next restart."""
    path = tmp_path / "ledger.jsonl"
    bank = await open_bank(ledger_path=path)
    bank.move_to(NOON)
    bank.meet(rates={"late_silence": 1})
    for key in ("k1", "k2"):
        with pytest.raises(TimeoutError):
            await bank.charge(key=key, timeout_s=0.2)
    bank.meet()
    await bank.charge(key="k2")
    bank.move_to(NOON + timedelta(days=2))
    charges = bank.sandbox.charges()
    await bank.sandbox.close()
    for _ in range(2):
        again = await open_bank(ledger_path=path)
        again.move_to(NOON + timedelta(days=3))
        assert again.sandbox.charges() == charges
        await again.sandbox.close()


async def test_a_torn_last_line_is_dropped(open_bank: OpenBank, tmp_path: Path) -> None:
    """A write that a kill cut short was never answered for; the lines before it stand."""
    path = tmp_path / "ledger.jsonl"
    bank = await open_bank(ledger_path=path)
    await bank.charge(key="k1")
    await bank.sandbox.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    again = await open_bank(ledger_path=path)
    assert [charge["idempotency_key"] for charge in again.sandbox.charges()] == ["k1"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"no json\n", b'{"kind":"wish"}\n', b'{"kind":"charge"}\n'])
async def test_a_spoilt_ledger_is_not_taken(
    open_bank: OpenBank, tmp_path: Path, line: bytes
) -> None:
    """A line that cannot be understood ends the start with one line that names it."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line)
    with pytest.raises(LedgerError, match=r"^ledger.*\b1\b[^\n]*$"):
        await open_bank(ledger_path=path)


async def test_a_ledger_has_one_writer(open_bank: OpenBank, tmp_path: Path) -> None:
    """A second sandbox on the same file does not start."""
    path = tmp_path / "ledger.jsonl"
    await open_bank(ledger_path=path)
    with pytest.raises(LedgerError, match="another sandbox"):
        await open_bank(ledger_path=path)


@asynccontextmanager
async def sandbox_process(port: int, path: Path) -> AsyncIterator[tuple[Process, str]]:
    """`run` in a process of its own, and its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROCESS, str(port), str(path)), cwd=ROOT, stdout=PIPE
    )
    assert process.stdout is not None
    started = (await process.stdout.readline()).decode()
    try:
        yield process, f"http://127.0.0.1:{started.rpartition(':')[2].split(chr(27))[0].strip()}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def charge_all(url: str, keys: list[str], answered: Counter[int]) -> None:
    """Sends every key once, twenty at a time; connections may break at any moment."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    waiting = iter(keys)
    async with aiohttp.ClientSession(url, headers=headers) as session:

        async def send_some() -> None:
            for key in waiting:
                body = charge_body(reference=key)
                named = {"Idempotency-Key": key}
                try:
                    async with session.post("/v1/charges", json=body, headers=named) as answer:
                        await answer.read()
                        answered[answer.status] += 1
                except aiohttp.ClientConnectionError:
                    answered[0] += 1

        await asyncio.gather(*(send_some() for _ in range(20)))


async def test_kill_9_loses_no_answered_charge(tmp_path: Path) -> None:
    """Killed under load and started again, it holds every answered charge, and none twice."""
    path = tmp_path / "ledger.jsonl"
    keys = [f"k{number}" for number in range(3000)]
    answered: Counter[int] = Counter()

    async def is_under_load() -> bool:
        return answered[200] >= 300

    async with sandbox_process(0, path) as (process, url):
        sending = asyncio.create_task(charge_all(url, keys, answered))
        await until(is_under_load)
        process.send_signal(signal.SIGKILL)
        await sending
    assert answered[0] > 0
    resent: Counter[int] = Counter()
    async with sandbox_process(0, path) as (process, url):
        await charge_all(url, keys, resent)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert resent == {200: 3000}
    assert Counter(line["reference"] for line in lines) == dict.fromkeys(keys, 1)
