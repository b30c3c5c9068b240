"""Connections to Postgres and the meaning of their errors."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from worker import db
from worker.settings import isolated_settings


@pytest.fixture
async def own_pool(database_url: str) -> AsyncIterator[db.Pool]:
    settings = isolated_settings(database_url=database_url, statement_timeout_seconds=1)
    pool = await db.create_pool(settings, size=2, application_name="renewd test")
    yield pool
    await db.close_pool(pool)


async def failure(conn: db.Connection, statement: str, *arguments: object) -> BaseException:
    with pytest.raises((*db.TRANSIENT, *db.DATA_ERRORS)) as raised:
        await conn.execute(statement, *arguments)
    return raised.value


async def test_session_is_bounded_and_in_utc(own_pool: db.Pool) -> None:
    """Every connection of a pool has our name, UTC and an end to statements and transactions."""
    async with own_pool.acquire() as conn:
        names = ("application_name", "TimeZone", "statement_timeout", "plan_cache_mode")
        shown = [await conn.fetchval("SELECT current_setting($1)", name) for name in names]
        idle = await conn.fetchval("SHOW idle_in_transaction_session_timeout")
    assert shown == ["renewd test", "UTC", "1s", "auto"]
    assert idle == "20s"


async def test_claims_are_planned_anew(database_url: str) -> None:
    """A connection for claims never uses a generic plan."""
    conn = await db.connect(database_url, application_name="renewd claims", claims=True)
    assert await conn.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
    await conn.close()


async def test_json_arrives_as_values(own_pool: db.Pool) -> None:
    """Documents go in and come out as Python values, letters of any script included."""
    document = {"name": "Ünïcødé", "days": [1, 3, 5], "until": None}
    async with own_pool.acquire() as conn:
        assert await conn.fetchval("SELECT $1::jsonb", document) == document


# Each row: a statement with a fault in one row's values, of the server's or of asyncpg's finding.
DATA_FAULTS: list[tuple[str, tuple[object, ...]]] = [
    ("SELECT 1 / 0", ()),
    ("SELECT $1::text::date", ("tomorrow-ish",)),
    ("SELECT $1::bigint", (2**63,)),
    ("SELECT $1::bigint", ("one",)),
    ("SELECT $1::text", ("nul \0 byte",)),
    ("INSERT INTO charging_pause VALUES ('nowhere', '', '', '', now())", ()),
    ("INSERT INTO control DEFAULT VALUES", ()),
]


@pytest.mark.parametrize(("statement", "arguments"), DATA_FAULTS)
async def test_faulty_values_are_data_errors(
    own_pool: db.Pool, statement: str, arguments: tuple[object, ...]
) -> None:
    """A wrong value is the fault of its row: halving finds it, repeating never helps."""
    async with own_pool.acquire() as conn:
        error = await failure(conn, statement, *arguments)
    assert (db.is_data_error(error), db.is_transient(error)) == (True, False)


async def test_outages_are_transient(own_pool: db.Pool, conn: db.Connection) -> None:
    """A timeout and a connection that the server closed are no fault of any row."""
    async with own_pool.acquire() as victim:
        slow = await failure(victim, "SELECT pg_sleep(5)")
        await conn.execute("SELECT pg_terminate_backend($1)", victim.get_server_pid())
        cut = await failure(victim, "SELECT 1")
        closed = await failure(victim, "SELECT 1")
    assert isinstance(slow, asyncpg.QueryCanceledError)
    found = [(db.is_data_error(error), db.is_transient(error)) for error in (slow, cut, closed)]
    assert found == [(False, True)] * 3


def test_bugs_are_neither() -> None:
    """A statement that is wrong is a bug: nobody repeats or halves it away."""
    for error in (asyncpg.UndefinedColumnError(), asyncpg.PostgresSyntaxError(), KeyError()):
        assert (db.is_data_error(error), db.is_transient(error)) == (False, False)


async def test_transaction_is_repeated_after_outages_only() -> None:
    """A transaction is done again after a transient error; any other error ends it at once."""
    faults: list[Exception] = [ConnectionResetError(), asyncpg.DeadlockDetectedError()]

    async def succeed_at_last() -> str:
        if faults:
            raise faults.pop()
        return "done"

    assert await db.with_retries(succeed_at_last, what="test") == "done"
    faults += [ConnectionResetError(), asyncpg.UniqueViolationError()]
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.with_retries(succeed_at_last, what="test")
    assert len(faults) == 1


async def test_retries_are_bounded() -> None:
    """When an outage lasts, its own error comes out after the tries, none of the retrier."""
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await db.with_retries(fail, what="test", tries=2)
    assert len(calls) == 2
