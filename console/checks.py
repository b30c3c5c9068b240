"""What `renewd check` looks at: each look answers in one line, and none changes anything."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import urlsplit

import aiosmtplib

from console.database import connected
from console.terminal import when
from worker import limits, migrations
from worker.db import Connection
from worker.errors import RenewdError, ServerUnreachable
from worker.gateways import Gateway, open_gateways
from worker.notices.smtp import SmtpServer, parse_smtp_url
from worker.platform.topology import check_topology
from worker.settings import Settings
from worker.store import control
from worker.store import migrations as migrations_store

OLDEST_POSTGRES = 15
SMTP_SECONDS = 10


class Health(Enum):
    """`AWAY`: bad because a server cannot be reached."""

    GOOD = "ok"
    BAD = "bad"
    AWAY = "unreachable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    name: str
    health: Health
    detail: str


async def check_all(settings: Settings) -> AsyncIterator[Finding]:
    """Look at everything, one after the other; a look that fails never ends the check."""
    yield Finding("settings", Health.GOOD, "complete, and their time limits fit together")
    async for finding in _check_database(settings):
        yield finding
    yield await _check_broker(settings)
    if not settings.gateways:
        yield Finding("gateway", Health.BAD, "RENEWD_GATEWAYS is missing: nothing can be charged")
    gateways = open_gateways(settings)
    try:
        for name, gateway in gateways.items():
            yield await _check_gateway(gateway, settings.gateways[name].base_url)
    finally:
        for gateway in gateways.values():
            await gateway.close()
    yield await _check_smtp(settings)


async def _check_database(settings: Settings) -> AsyncIterator[Finding]:
    place = settings.database_url
    try:
        async with connected(settings) as conn:
            new = conn.get_server_version().major >= OLDEST_POSTGRES
            health = Health.GOOD if new else Health.BAD
            detail = f"PostgreSQL {conn.get_settings().server_version} at {place!r}"
            if health is Health.BAD:
                detail += f": should be {OLDEST_POSTGRES} or newer"
            yield Finding("database", health, detail)
            schema = await _check_schema(conn)
            yield schema
            yield await _check_clock(conn, has_tables=schema.health is Health.GOOD)
    except RenewdError as error:
        yield _failed("database", error)


async def _check_schema(conn: Connection) -> Finding:
    known = migrations.load()
    applied = await migrations_store.read_applied(conn)
    version = applied[-1].version if applied else 0
    try:
        missing = migrations.pending(known, applied)
    except RenewdError as error:
        return _failed("schema", error)
    if missing:
        detail = f"version {version}: should be {known[-1].version}, run renewd migrate"
        return Finding("schema", Health.BAD, detail)
    return Finding("schema", Health.GOOD, f"version {version}")


async def _check_clock(conn: Connection, *, has_tables: bool) -> Finding:
    before = datetime.now(UTC)
    theirs = await migrations_store.read_machine_time(conn)
    after = datetime.now(UTC)
    skew = (theirs - (before + (after - before) / 2)).total_seconds()
    detail = f"the database's clock differs from ours by {abs(skew):.2f} s"
    if abs(skew) > limits.CLOCK_SKEW_SECONDS:
        detail += f": should be less than {limits.CLOCK_SKEW_SECONDS} s"
        return Finding("clock", Health.BAD, detail)
    if has_tables:
        state = await control.read(conn)
        if state.is_virtual:
            detail += f"; the test clock stands at {when(state.now)}"
    return Finding("clock", Health.GOOD, detail)


async def _check_broker(settings: Settings) -> Finding:
    try:
        wrong = await asyncio.to_thread(check_topology, settings)
    except RenewdError as error:
        return _failed("broker", error)
    if wrong is not None:
        return Finding("broker", Health.BAD, wrong)
    detail = f"exchanges and queues are there at {settings.amqp_url!r}"
    return Finding("broker", Health.GOOD, detail)


async def _check_gateway(gateway: Gateway, base_url: str) -> Finding:
    name = f"gateway {gateway.name}"
    if await gateway.is_healthy():
        return Finding(name, Health.GOOD, f"answers at {base_url} and takes our key")
    if await _connects(base_url):
        detail = f"answers at {base_url}, but is not healthy or does not take its api_key"
        return Finding(name, Health.BAD, detail)
    return Finding(name, Health.AWAY, f"does not answer at {base_url}")


async def _connects(base_url: str) -> bool:
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(limits.CONNECT_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError:
        return False
    writer.close()
    return True


async def _check_smtp(settings: Settings) -> Finding:
    if not settings.smtp_url:
        return Finding("smtp", Health.GOOD, "RENEWD_SMTP_URL is not set: no notice is sent")
    try:
        return await _greet(parse_smtp_url(settings.smtp_url))
    except RenewdError as error:
        return _failed("smtp", error)


async def _greet(server: SmtpServer) -> Finding:
    """Connect, encrypt and log in as a notice would, and leave."""
    place = f"{server.host}:{server.port}"
    smtp = server.client()
    try:
        async with asyncio.timeout(SMTP_SECONDS):
            await smtp.connect()
            await smtp.quit()
    except aiosmtplib.SMTPResponseException as error:
        return Finding("smtp", Health.BAD, f"{place} answers {error.code}: should take our mail")
    except (aiosmtplib.SMTPConnectError, OSError, ssl.SSLError, socket.gaierror) as error:
        said = str(error).partition("\n")[0] or "no answer in time"
        return Finding("smtp", Health.AWAY, f"does not answer at {place} ({said})")
    except aiosmtplib.SMTPException as error:
        return Finding("smtp", Health.BAD, f"{place}: {type(error).__name__}")
    finally:
        smtp.close()
    return Finding("smtp", Health.GOOD, f"takes our connection at {place}")


def _failed(name: str, error: RenewdError) -> Finding:
    away = isinstance(error, ServerUnreachable)
    return Finding(name, Health.AWAY if away else Health.BAD, str(error))
