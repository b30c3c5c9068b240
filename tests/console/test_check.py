"""`renewd check`: one line for each thing that renewd needs, and what is wrong with it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pika
import pytest

from lab.sandbox import RunningSandbox
from tests.console.command import Ran, renewd
from tests.mail import SmtpSink
from tests.world import API_KEY, GATEWAY
from worker.migrations import load
from worker.store import migrations as store

LOOKS = ["settings", "database", "schema", "clock", "broker", f"gateway {GATEWAY}", "smtp"]


@pytest.fixture
async def ready(
    empty: str, sandbox: RunningSandbox, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Everything is there, brought to this version by `renewd migrate`."""
    monkeypatch.setenv("RENEWD_AMQP_URL", amqp_url)
    assert (await renewd("migrate", "--json")).json["broker_declared"] is True
    return empty


def gateways(base_url: str, api_key: str = API_KEY) -> str:
    gateway = {"adapter": "sandbox", "base_url": base_url, "api_key": api_key}
    return json.dumps({GATEWAY: gateway})


def bad(ran: Ran) -> dict[str, Any]:
    """What is not ok, by name."""
    assert ran.err == ""
    assert ran.json["ok"] is (ran.code == 0)
    return {one["name"]: one["detail"] for one in ran.json["checks"] if not one["ok"]}


async def test_everything_is_there(
    ready: str, smtp_sink: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All good: exit 0 and a line each, mail server included."""
    monkeypatch.setenv("RENEWD_SMTP_URL", smtp_sink.url)
    monkeypatch.setenv("RENEWD_MAIL_FROM", "billing@school.example")
    ran = await renewd("check", "--json")
    assert (ran.code, bad(ran)) == (0, {})
    assert [one["name"] for one in ran.json["checks"]] == LOOKS
    shown = (await renewd("check")).out.splitlines()
    assert [line.split()[0] for line in shown] == ["ok"] * len(LOOKS)


async def test_nothing_is_migrated(ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty database: exit 1, and which version it should have."""
    conn = await asyncpg.connect(ready)
    await conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await conn.close()
    ran = await renewd("check", "--json")
    newest = load()[-1].version
    detail = f"version 0: should be {newest}, run renewd migrate"
    assert (ran.code, bad(ran)) == (1, {"schema": detail})


async def test_a_database_of_a_newer_version_is_bad(ready: str) -> None:
    """Exit 1, and that this renewd is too old."""
    conn = await asyncpg.connect(ready)
    await conn.execute("INSERT INTO schema_migration VALUES (99, 'future', 'x')")
    await conn.close()
    ran = await renewd("check", "--json")
    assert (ran.code, list(bad(ran))) == (1, ["schema"])


async def test_clocks_that_differ_are_bad(ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six minutes between our clock and the database's: exit 1, and how much they may differ."""

    async def later(_conn: object) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=6)

    monkeypatch.setattr(store, "read_machine_time", later)
    ran = await renewd("check", "--json")
    assert ran.code == 1
    assert "differs from ours by 360" in bad(ran)["clock"]
    assert bad(ran)["clock"].endswith("should be less than 300 s")


async def test_the_test_clock_is_told(ready: str) -> None:
    """That business time stands still is said, and is not bad."""
    conn = await asyncpg.connect(ready)
    await conn.execute("UPDATE control SET clock_now = '2030-01-01Z'")
    await conn.close()
    ran = await renewd("check")
    assert ran.code == 0
    assert "the test clock stands at 2030-01-01 00:00:00Z" in ran.out


async def test_an_exchange_of_another_kind_is_bad(ready: str, amqp_url: str) -> None:
    """What somebody declared otherwise is named in one line: exit 1."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.exchange_delete("platform")
    channel.exchange_declare("platform", "direct")
    try:
        ran = await renewd("check", "--json")
        assert ran.code == 1
        assert "exchange platform exists with other arguments" in bad(ran)["broker"]
    finally:
        channel.exchange_delete("platform")
        connection.close()


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("RENEWD_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/x", "database"),
        ("RENEWD_AMQP_URL", "amqp://u:hunter2@127.0.0.1:1/x", "broker"),
        ("RENEWD_GATEWAYS", gateways("http://127.0.0.1:1"), f"gateway {GATEWAY}"),
        ("RENEWD_SMTP_URL", "smtp://u:hunter2@127.0.0.1:1", "smtp"),
    ],
)
async def test_a_server_that_is_away(
    ready: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str
) -> None:
    """Exit 3, one bad line with its address; all the others are looked at all the same."""
    monkeypatch.setenv("RENEWD_MAIL_FROM", "billing@school.example")
    monkeypatch.setenv(variable, value)
    ran = await renewd("check", "--json")
    assert (ran.code, list(bad(ran))) == (3, [name])
    assert "127.0.0.1:1" in bad(ran)[name]
    assert "hunter2" not in ran.out


async def test_a_key_that_is_not_taken(
    ready: str, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that answers, but not to our key: exit 1."""
    monkeypatch.setenv("RENEWD_GATEWAYS", gateways(sandbox.url, "sk_wrong"))
    ran = await renewd("check", "--json")
    assert (ran.code, list(bad(ran))) == (1, [f"gateway {GATEWAY}"])


async def test_no_gateway_at_all(ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gateways nothing can be charged: exit 1."""
    monkeypatch.delenv("RENEWD_GATEWAYS")
    ran = await renewd("check", "--json")
    assert (ran.code, list(bad(ran))) == (1, ["gateway"])


async def test_wrong_settings_end_it(ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits that do not fit together: exit 2 and one line, nothing else is looked at."""
    monkeypatch.setenv("RENEWD_LEASE_SECONDS", "10")
    ran = await renewd("check")
    assert (ran.code, ran.out) == (2, "")
    assert "RENEWD_LEASE_SECONDS" in ran.complaint
