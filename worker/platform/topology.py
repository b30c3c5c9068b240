"""Exchanges and queues shared with the platform: declared by `renewd migrate` and `renewd platform`.

The quorum queue has no other argument: limits and dead-lettering are set by policy, so that they can
be changed without deleting it. What no consumer of exchange `billing` has bound goes to
`renewd.unrouted`, where a person can see it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker

from worker import limits
from worker.errors import RenewdError, ServerUnreachable
from worker.settings import MaskedUrl, Settings

PLATFORM = "platform"
"""Exchange of messages in."""

QUEUE = "renewd.platform"
BILLING = "billing"
"""Exchange of messages out."""

UNROUTED = "renewd.unrouted"
"""Exchange and queue of messages out that nobody wanted."""

NOT_FOUND, OTHER_ARGUMENTS = 404, 406
QUORUM = {"x-queue-type": "quorum"}


class TopologyError(RenewdError):
    """An exchange or queue is missing, or is there with other arguments; the line says which."""


@dataclass(frozen=True, slots=True)
class _Part:
    """An exchange or a queue, how to declare it, and how it should be made."""

    name: str
    kind: str
    made: str
    declare: Callable[..., Any]
    look: Callable[..., Any]


def declare_topology(settings: Settings) -> None:
    """Make what is missing. Raises `ServerUnreachable`, or `TopologyError` with one line."""
    with _connection(settings) as connection:
        for part in _PARTS:
            _declare(connection, part)
        channel = connection.channel()
        channel.queue_bind(QUEUE, PLATFORM, routing_key="#")
        channel.queue_bind(UNROUTED, UNROUTED)


def check_topology(settings: Settings) -> str | None:
    """What is wrong with the exchanges and queues, in one line; None if nothing. Makes nothing."""
    try:
        with _connection(settings) as connection:
            for part in _PARTS:
                _look(connection, part)
                _declare(connection, part)
    except TopologyError as error:
        return str(error)
    return None


def parameters(settings: Settings, name: str) -> pika.URLParameters:
    """How every connection of the platform process is made; `name` is shown by the broker."""
    found = pika.URLParameters(str(settings.amqp_url))
    found.heartbeat = settings.amqp_heartbeat_seconds
    found.blocked_connection_timeout = settings.amqp_heartbeat_seconds
    found.socket_timeout = found.stack_timeout = limits.CONNECT_TIMEOUT_SECONDS
    found.client_properties = {"connection_name": name}
    return found


@contextmanager
def _connection(settings: Settings) -> Iterator[Any]:
    try:
        connection = pika.BlockingConnection(parameters(settings, "renewd topology"))
    except (AMQPError, OSError) as error:
        place = MaskedUrl(settings.amqp_url).masked()
        raise ServerUnreachable(
            f"RENEWD_AMQP_URL is {place!r}: should be a broker that answers ({_first_line(error)})"
        ) from error
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def _declare(connection: Any, part: _Part) -> None:
    try:
        part.declare(connection.channel())
    except ChannelClosedByBroker as error:
        if error.reply_code != OTHER_ARGUMENTS:
            raise
        raise TopologyError(
            f"{part.kind} {part.name} exists with other arguments: should be {part.made} "
            f"({error.reply_text})"
        ) from error


def _look(connection: Any, part: _Part) -> None:
    try:
        part.look(connection.channel())
    except ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        raise TopologyError(f"{part.kind} {part.name} is missing: run renewd migrate") from error


def _exchange(name: str, kind: str, made: str, arguments: dict[str, str] | None = None) -> _Part:
    return _Part(
        name,
        "exchange",
        made,
        lambda channel: channel.exchange_declare(name, kind, durable=True, arguments=arguments),
        lambda channel: channel.exchange_declare(name, passive=True),
    )


def _queue(name: str) -> _Part:
    return _Part(
        name,
        "queue",
        "durable with x-queue-type quorum and no other argument",
        lambda channel: channel.queue_declare(name, durable=True, arguments=QUORUM),
        lambda channel: channel.queue_declare(name, passive=True),
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".partition("\n")[0].strip()


_PARTS = (
    _exchange(PLATFORM, "topic", "a durable topic exchange"),
    _queue(QUEUE),
    _exchange(UNROUTED, "fanout", "a durable fanout exchange"),
    _queue(UNROUTED),
    _exchange(
        BILLING,
        "topic",
        f"a durable topic exchange with alternate-exchange {UNROUTED}",
        {"alternate-exchange": UNROUTED},
    ),
)
