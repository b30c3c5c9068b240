"""What every test may ask for: servers, an empty schema, mail, a seed.

Servers are those of RENEWD_TEST_DATABASE_URL and RENEWD_TEST_AMQP_URL, with a new database and new
vhosts that are dropped afterwards; without these variables they are private ones, started for this
run. A missing server fails the test, it never skips it.
"""

import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from lab.servers import postgres, rabbitmq
from tests.database import SweptDatabase
from tests.mail import SmtpSink
from worker.db import Connection, Pool, create_pool

# Nothing of the caller's renewd reaches a test or a process that it starts.
for _name in [name for name in os.environ if name.startswith("RENEWD_")]:
    if not _name.startswith("RENEWD_TEST_"):
        del os.environ[_name]

# Workers of pytest-xdist inherit it.
SEED = int(os.environ.setdefault("RENEWD_TEST_SEED", str(secrets.randbelow(10**9))))

hypothesis.settings.register_profile(
    "renewd", derandomize=True, print_blob=True, deadline=None, database=None
)
hypothesis.settings.load_profile("renewd")


def pytest_configure() -> None:
    """SIGTERM ends a run as Ctrl-C does, so that databases and vhosts are dropped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_report_header() -> str:
    """The seed, so that a failure can be had again."""
    return f"seed: RENEWD_TEST_SEED={SEED}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number that differs by test and by run; the same for the same RENEWD_TEST_SEED."""
    return random.Random(f"{SEED} {request.node.nodeid}").randrange(2**32)


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A generator of this test's seed."""
    return random.Random(seed)


@pytest.fixture(scope="session", autouse=True)
def away_from_dot_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs everything in an empty directory: a developer's .env names servers that are not ours."""
    checkout = Path.cwd()
    empty = tmp_path_factory.mktemp("cwd")
    os.chdir(empty)
    yield empty
    os.chdir(checkout)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Databases]:
    """A Postgres on which databases can be made; not for a test to break."""
    given = os.environ.get("RENEWD_TEST_DATABASE_URL")
    if given:
        yield postgres.Databases(given)
    else:
        with postgres.private() as server:
            yield server


@pytest.fixture(scope="session")
async def swept_database(postgres_server: postgres.Databases) -> AsyncIterator[SweptDatabase]:
    """The run's own database, with schema.sql in it."""
    name = f"renewd_test_{secrets.token_hex(6)}"
    url = postgres_server.create_database(name)
    try:
        yield await SweptDatabase.load(url)
    finally:
        postgres_server.drop_database(name)


@pytest.fixture(scope="session")
async def session_pool(swept_database: SweptDatabase) -> AsyncIterator[Pool]:
    """The pool behind `pool`."""
    pool = await create_pool(swept_database.url, size=20, application_name="renewd-test")
    yield pool
    await pool.close()


@pytest.fixture
async def database_url(swept_database: SweptDatabase) -> str:
    """The URL of a database as schema.sql leaves it, empty for each test."""
    await swept_database.sweep()
    return swept_database.url


@pytest.fixture
async def pool(database_url: str, session_pool: Pool) -> Pool:
    """Connections to `database_url`, up to 20."""
    return session_pool


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """One connection to `database_url`, outside any transaction."""
    async with pool.acquire() as connection:
        yield connection


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[rabbitmq.Vhosts]:
    """A RabbitMQ on which vhosts can be made; not for a test to break."""
    given = os.environ.get("RENEWD_TEST_AMQP_URL")
    if given:
        yield rabbitmq.Vhosts(given, api_url=os.environ.get("RENEWD_TEST_AMQP_API_URL"))
    else:
        with rabbitmq.private() as server:
            yield server


@pytest.fixture(scope="module")
def amqp_url(rabbit_server: rabbitmq.Vhosts) -> Iterator[str]:
    """The URL of an empty vhost for each test file."""
    name = f"renewd-test-{secrets.token_hex(6)}"
    yield rabbit_server.create_vhost(name)
    rabbit_server.delete_vhost(name)


@pytest.fixture
def smtp_sink() -> Iterator[SmtpSink]:
    """An SMTP server; what is sent to its `url` is in its `messages`."""
    sink = SmtpSink()
    sink.start()
    yield sink
    sink.stop()
