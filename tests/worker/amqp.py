"""The platform's side of RabbitMQ for tests, in plain pika, and a way to cut connections."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika

from tests.worker.waiting import until


class Listener:
    """A queue bound to everything on exchange `billing`; its messages are kept as they come."""

    def __init__(self, url: str, queue: str, **arguments: object) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.properties: list[tuple[Any, Any]] = []
        self._queue = queue
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.queue_declare(queue, durable=True, arguments=arguments)
        self._channel.queue_bind(queue, "billing", "#")

    def read(self, limit: int = 100_000) -> int:
        """Take what is there, at most `limit` messages; how many that were."""
        for n in range(limit):
            method, properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return n
            self.bodies.append(json.loads(body))
            self.properties.append((method, properties))
        return limit

    async def wait_for(self, count: int, *, seconds: float = 30) -> None:
        """Read until that many different messages came."""
        async with asyncio.timeout(seconds):
            while len({body["id"] for body in self.bodies}) < count:
                if not self.read():
                    await asyncio.sleep(0.02)

    def first_appearances(self) -> dict[str, list[int]]:
        """The sequences of each subscription as they came, without repetitions."""
        found: dict[str, list[int]] = defaultdict(list)
        for body in self.bodies:
            sequence = body["data"].get("sequence")
            if sequence is not None and sequence not in found[body["subject"]]:
                found[body["subject"]].append(sequence)
        return dict(found)

    def disconnect(self) -> None:
        """Leave the queue to collect."""
        self._connection.close()

    def close(self) -> None:
        """Remove the queue."""
        self._channel.queue_delete(self._queue)
        self._connection.close()


class Proxy:
    """A TCP proxy before RabbitMQ that can cut every connection at once."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._bytes_left: int | None = None

    async def start(self) -> str:
        """Listen; the answer is the URL to use instead."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{login}@127.0.0.1:{port}"))

    async def cut_in(self, size: int, *, or_when: Callable[[], Awaitable[bool]]) -> None:
        """Cut once so many bytes more have gone to the server, or when there are no more."""
        self._bytes_left = size

        async def done() -> bool:
            return self._bytes_left is None or await or_when()

        await until(done)
        self._bytes_left = None

    def cut(self) -> None:
        """Break every connection off, in the middle of whatever is on the wire."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Cut and stop listening."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        host, port = self._target.hostname, self._target.port
        server, to_server = await asyncio.open_connection(host, port)
        self._writers |= {to_client, to_server}
        await asyncio.gather(
            self._pump(client, to_server, counted=True),
            self._pump(server, to_client, counted=False),
        )
        self._writers -= {to_client, to_server}

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(4096):
                sink.write(chunk)
                await sink.drain()
                if counted:
                    self._count(len(chunk))
        with contextlib.suppress(OSError):
            sink.close()

    def _count(self, size: int) -> None:
        if self._bytes_left is None:
            return
        self._bytes_left -= size
        if self._bytes_left <= 0:
            self._bytes_left = None
            self.cut()
