"""The queue of the intake: made once, checked in one line, made again if somebody deletes it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pika
import pytest

from tests import platform_events as shop
from tests.worker.waiting import until
from tests.world import World
from worker.errors import ServerUnreachable
from worker.platform.intake import Intake
from worker.platform.topology import QUEUE, TopologyError, check_topology, declare_topology
from worker.settings import Settings, isolated_settings


@pytest.fixture
def settings(amqp_url: str) -> Settings:
    """Settings of a broker without a queue of ours."""
    for_queue(amqp_url, lambda channel: channel.queue_delete(QUEUE))
    return isolated_settings(amqp_url=amqp_url)


def for_queue(amqp_url: str, act: Callable[[Any], object]) -> None:
    """Do something on a channel of a connection of its own."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        act(connection.channel())


def publish(amqp_url: str, *bodies: bytes) -> None:
    """Publish as a careful platform does: confirmed, and refused if no queue takes it."""

    def act(channel: Any) -> None:
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("platform", "platform.any", body, mandatory=True)

    for_queue(amqp_url, act)


@asynccontextmanager
async def serving(settings: Settings, world: World) -> AsyncIterator[Intake]:
    """An intake that consumes, stopped at the end."""
    intake, stop = Intake(settings, world.context), asyncio.Event()
    running = asyncio.create_task(intake.run(stop))
    try:
        await until(lambda: consumes(intake), seconds=20)
        yield intake
    finally:
        stop.set()
        await asyncio.wait_for(running, timeout=20)


async def consumes(intake: Intake) -> bool:
    return intake.serving


async def test_messages_are_taken_from_the_queue(world: World, settings: Settings) -> None:
    """What a platform publishes is committed and then acknowledged."""
    async with serving(settings, world):
        await asyncio.to_thread(publish, settings.amqp_url, *shop.sign_up(), b"{")
        await until(lambda: world.value("SELECT count(*) = 1 FROM subscription"))
        await until(lambda: world.value("SELECT count(*) = 1 FROM rejected_event"))
    left: list[int] = []
    for_queue(
        settings.amqp_url,
        lambda channel: left.append(
            channel.queue_declare(QUEUE, passive=True).method.message_count
        ),
    )
    assert left == [0]


async def test_a_deleted_queue_is_made_again(world: World, settings: Settings) -> None:
    """The broker cancels the consumer; the intake declares everything anew and goes on."""
    async with serving(settings, world) as intake:
        for_queue(settings.amqp_url, lambda channel: channel.queue_delete(QUEUE))

        async def is_back() -> bool:
            return intake.serving and await asyncio.to_thread(check_topology, settings) is None

        await until(is_back)
        await asyncio.to_thread(publish, settings.amqp_url, shop.customer())
        await until(lambda: world.value("SELECT count(*) = 1 FROM customer"))


async def test_what_is_not_committed_is_not_acknowledged(world: World, settings: Settings) -> None:
    """While the table is away nothing is lost; when it is back the message counts once."""
    async with serving(settings, world) as intake:
        await world.value("ALTER TABLE inbox_key RENAME TO inbox_key_away")
        try:
            await asyncio.to_thread(publish, settings.amqp_url, shop.customer())

            async def has_stopped() -> bool:
                return not intake.serving

            await until(has_stopped)
        finally:
            await world.value("ALTER TABLE inbox_key_away RENAME TO inbox_key")
        await until(lambda: world.value("SELECT count(*) = 1 FROM customer"))
        assert await world.value("SELECT count(*) FROM inbox_event") == 1


def test_declaring_twice_is_safe(settings: Settings) -> None:
    """Every process may declare; what is there stays, and the check finds nothing wrong."""
    declare_topology(settings)
    declare_topology(settings)
    assert check_topology(settings) is None


def test_the_check_makes_nothing(settings: Settings) -> None:
    """A missing queue is named, and still missing afterwards."""
    declare_topology(settings)
    for_queue(settings.amqp_url, lambda channel: channel.queue_delete(QUEUE))
    line = f"queue {QUEUE} is missing: run renewd migrate"
    assert (check_topology(settings), check_topology(settings)) == (line, line)


def test_other_arguments_are_told_in_one_line(settings: Settings) -> None:
    """A queue that somebody made as a classic one cannot be used, and is left alone."""
    for_queue(settings.amqp_url, lambda channel: channel.queue_declare(QUEUE, durable=True))
    line = check_topology(settings)
    assert line is not None
    assert line.startswith(f"queue {QUEUE} exists with other arguments: should be durable with")
    assert "\n" not in line
    with pytest.raises(TopologyError, match="x-queue-type quorum"):
        declare_topology(settings)


def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    """The line has the setting and the address."""
    settings = isolated_settings(amqp_url="amqp://me:secret@127.0.0.1:1/")
    with pytest.raises(ServerUnreachable, match="RENEWD_AMQP_URL is") as caught:
        declare_topology(settings)
    assert "secret" not in str(caught.value)
