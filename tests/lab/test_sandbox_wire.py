"""The sandbox gateway's HTTP, byte by byte: what clients other than ours may send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from lab.sandbox import Fault, SandboxConfig, SandboxFaults, serve
from tests.lab.bank import API_KEY, Bank, charge_body
from tests.lab.conftest import OpenBank
from tests.worker.waiting import until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE_S = 5


@asynccontextmanager
async def connected(bank: Bank) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.sandbox.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def post(key: str, *, head: str = "", **changed: Any) -> bytes:
    """A charge as bytes."""
    body = json.dumps(charge_body(**changed)).encode()
    lines = (
        "POST /v1/charges HTTP/1.1",
        "host: sandbox",
        f"authorization: Bearer {API_KEY}",
        f"IDEMPOTENCY-KEY: {key}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n" + head.encode() + b"\r\n" + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Status line and body of one answer."""
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head.split(b"\r\n")[0], await reader.readexactly(length)


async def test_requests_sent_ahead_are_answered_in_order(bank: Bank) -> None:
    """Pipelined requests on one connection get their answers in their order."""
    async with connected(bank) as (reader, writer):
        writer.write(b"".join(post(f"k{number}") for number in range(5)))
        answers = [await read_answer(reader) for _ in range(5)]
    keys = [json.loads(body)["idempotency_key"] for _, body in answers]
    assert keys == [f"k{number}" for number in range(5)]


async def test_a_request_may_come_in_pieces(bank: Bank) -> None:
    """Header names in any case, any split of the bytes."""
    async with connected(bank) as (reader, writer):
        for byte in post("k1"):
            writer.write(bytes([byte]))
            await writer.drain()
        status, _ = await read_answer(reader)
    assert status == b"HTTP/1.1 200 OK"


async def test_a_chunked_body_is_read(bank: Bank) -> None:
    """A body without a length works as well."""
    body = json.dumps(charge_body()).encode()
    head = (
        "POST /v1/charges HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
        f"authorization: Bearer {API_KEY}\r\nidempotency-key: k1\r\n\r\n"
    )
    async with connected(bank) as (reader, writer):
        writer.write(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        status, _ = await read_answer(reader)
    assert status == b"HTTP/1.1 200 OK"


async def test_connection_close_is_honoured(bank: Bank) -> None:
    """After the answer to `Connection: close` the connection ends."""
    async with connected(bank) as (reader, writer):
        writer.write(post("k1", head="connection: close\r\n"))
        await read_answer(reader)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""


@pytest.mark.parametrize("raw", [b"hello\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00"])
async def test_what_is_not_http_ends_the_connection(bank: Bank, raw: bytes) -> None:
    """Noise is answered 400 and closed; the server goes on."""
    async with connected(bank) as (reader, writer):
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (await bank.charge()).status == 200


async def test_a_body_over_a_megabyte_is_refused(bank: Bank) -> None:
    """It is answered 413 and executes nothing."""
    async with connected(bank) as (reader, writer):
        writer.write(post("k1", customer="x" * 1_100_000))
        status, _ = await read_answer(reader)
    assert status.startswith(b"HTTP/1.1 413 ")
    assert bank.sandbox.charges() == []


async def test_a_long_ledger_is_streamed_to_a_slow_reader(open_bank: OpenBank) -> None:
    """The ledger's answer is whole however slowly it is read, and the connection stays usable."""
    bank = await open_bank()
    for number in range(3000):
        await bank.charge(key=f"k{number}", reference="r" * 250)
    ask = f"GET /v1/sandbox/ledger HTTP/1.1\r\nauthorization: Bearer {API_KEY}\r\n\r\n".encode()
    async with connected(bank) as (reader, writer):
        writer.write(ask)
        _, body = await read_answer(reader)
        writer.write(ask)
        _, again = await read_answer(reader)
    assert len(body.splitlines()) == 3000
    assert again == body


async def test_a_closed_client_disturbs_nobody(open_bank: OpenBank) -> None:
    """A client that leaves before its answer has charged all the same, once."""
    bank = await open_bank(faults={"latency": {"ms": 100}})
    async with connected(bank) as (_, writer):
        writer.write(post("k1"))
        await writer.drain()
    await until(bank.has_charged)
    reply = await bank.charge(key="k2")
    assert (reply.status, bank.executed("k1")) == (200, 1)


def test_resets_and_silence_work_on_uvloop_too() -> None:
    """The process runs on uvloop: a reset there is an RST, and a stop does not wait for silence."""

    async def seen() -> list[str]:
        rates = {Fault.CHARGE_THEN_RESET: 0.5, Fault.SILENCE: 0.5}
        sandbox = await serve(SandboxConfig(api_key=API_KEY, faults=SandboxFaults(rates=rates)))
        ends = set()
        for number in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
            writer.write(post(f"k{number}"))
            try:
                await asyncio.wait_for(reader.read(1), 0.2)
                ends.add("closed")
            except ConnectionResetError:
                ends.add("reset")
            except TimeoutError:
                ends.add("silence")
        await sandbox.close()
        return sorted(ends)

    assert uvloop.run(seen()) == ["reset", "silence"]
