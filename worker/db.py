"""Connections to Postgres, and which of its errors mean "again", "this row" or "a bug".

Every connection speaks UTC, has a limit on each statement and on an idle transaction, notices a
dead peer, and reads and writes jsonb as Python values. After a restart of the server the pool works
again by itself; what was in flight raises one of `TRANSIENT`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg
import structlog
from asyncpg.exceptions._base import DataError as ArgumentError
from asyncpg.pool import PoolConnectionProxy
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from worker import limits
from worker.settings import Settings

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:  # asyncpg's own classes take no parameters; its stubs' do
    Connection = asyncpg.Connection | PoolConnectionProxy
    Pool = asyncpg.Pool

T = TypeVar("T")

TRANSIENT: tuple[type[BaseException], ...] = (
    OSError,  # refused, reset, unreachable; a TimeoutError (ours or of command_timeout) is one too
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is about to be promoted
    asyncpg.InterfaceError,  # the connection was closed under us; see `is_transient`
    asyncpg.InternalClientError,  # a rollback on a connection that is just being cut
)
"""Errors after which the whole transaction may be done again. Was it committed? Re-read by key."""

DATA_ERRORS: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    ArgumentError,
)
"""SQLSTATE classes 22 and 23, and arguments that asyncpg could not encode: one row is bad."""

CLIENT_GRACE_SECONDS = 2
"""The server ends a statement first, with a better error; the client's limit is for a dead peer."""

CLOSE_SECONDS = 1
"""A stopping process waited for its actors; what still holds a connection now is lost anyway."""

KEYS_ONLY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""What runs in a pool looks rows up by key, a batch at a time: any other plan reads a whole table."""

log = structlog.get_logger()


def is_data_error(error: BaseException) -> bool:
    """Whether a value of some row is at fault, so that halving the batch finds it."""
    return isinstance(error, DATA_ERRORS)


def is_transient(error: BaseException) -> bool:
    """Whether doing the whole transaction again may help."""
    # asyncpg derives the error for a wrong argument from InterfaceError.
    return isinstance(error, TRANSIENT) and not is_data_error(error)


async def create_pool(settings_or_url: Settings | str, *, size: int, application_name: str) -> Pool:
    """A pool of at most `size` connections, one of them opened now; belongs to the running loop.

    Raises one of `TRANSIENT` if the database cannot be reached.
    """
    pool: Pool = await asyncpg.create_pool(
        _url(settings_or_url),
        min_size=1,
        max_size=size,
        init=_teach_json,
        timeout=limits.CONNECT_TIMEOUT_SECONDS,
        command_timeout=_statement_seconds(settings_or_url) + CLIENT_GRACE_SECONDS,
        server_settings=_session(application_name, _statement_seconds(settings_or_url)) | KEYS_ONLY,
    )
    return pool


async def connect(
    settings_or_url: Settings | str, *, application_name: str, claims: bool = False
) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection, for claims, locks of a session and short commands.

    `claims` makes Postgres plan each statement anew: a generic plan for `LIMIT $1 FOR UPDATE SKIP
    LOCKED` scans the whole table (3 times slower at 100,000 rows, measured).
    """
    seconds = _statement_seconds(settings_or_url)
    session = _session(application_name, seconds)
    if claims:
        session["plan_cache_mode"] = "force_custom_plan"
    connection = await asyncpg.connect(
        _url(settings_or_url),
        timeout=limits.CONNECT_TIMEOUT_SECONDS,
        command_timeout=seconds + CLIENT_GRACE_SECONDS,
        server_settings=session,
    )
    await _teach_json(connection)
    return connection


async def with_retries(
    transaction: Callable[[], Awaitable[T]],
    *,
    what: str,
    tries: int = 4,
    within_seconds: float = limits.SEND_WINDOW_SECONDS,
) -> T:
    """Do a whole transaction, again after a transient error, and return its value.

    `transaction` must be safe to repeat: the commit of a try that failed may have happened. Raises
    the last error once `tries` or `within_seconds` are used up, any other error at once.
    """

    def log_try(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        name = type(error).__name__
        log.warning("transaction_retried", what=what, tries=state.attempt_number, error=name)

    retrying = AsyncRetrying(
        stop=stop_after_attempt(tries) | stop_after_delay(within_seconds),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        retry=retry_if_exception(is_transient),
        before_sleep=log_try,
        reraise=True,
    )

    async def once() -> T:
        # tenacity awaits coroutine functions only, not whatever returns an awaitable.
        return await transaction()

    return await retrying(once)


def _url(settings_or_url: Settings | str) -> str:
    return settings_or_url if isinstance(settings_or_url, str) else settings_or_url.database_url


def _statement_seconds(settings_or_url: Settings | str) -> int:
    if isinstance(settings_or_url, str):
        return limits.STATEMENT_TIMEOUT_SECONDS
    return settings_or_url.statement_timeout_seconds


def _session(application_name: str, statement_seconds: int) -> dict[str, str]:
    return {
        "application_name": application_name,
        "TimeZone": "UTC",
        # Compiling a statement takes 150 ms, and small tables that are never analysed ask for it.
        "jit": "off",
        "statement_timeout": str(statement_seconds * 1000),
        "idle_in_transaction_session_timeout": str(limits.IDLE_IN_TRANSACTION_SECONDS * 1000),
        # A peer that vanished without a word is noticed after 10 + 3 x 5 s.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


async def _teach_json(connection: "asyncpg.Connection[Any]") -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=_encode_json, decoder=_decode_json
        )


def _decode_json(text: str) -> object:
    # Most documents are empty, and a plan's are read with each of its subscriptions.
    match text:
        case "{}":
            return {}
        case "[]":
            return []
        case _:
            return json.loads(text)


def _encode_json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


async def close_pool(pool: Pool) -> None:
    """Close within `CLOSE_SECONDS`; what is still in use then is cut."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()
