"""HTTP/1.1 for the sandbox: as little of it as the contract needs, parsed by llhttp.

A bare handler costs 21-33 µs of CPU a request here, against 76-89 µs with aiohttp's low-level
server (measured, 200-800 connections, uvloop). The sandbox shares two cores with what it tests.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import assert_never, cast

import httptools

from lab.sandbox.answers import Answer, error_body
from lab.sandbox.faults import Damage
from lab.sandbox.outbox import Outbox
from lab.sandbox.routes import Reply, Request, Stream

_BODY_LIMIT = 1_000_000  # bytes; the contract's client refuses larger ones too
_HEAD_LIMIT = 16_384  # bytes of target and headers
_HUGE_BYTES = 2_000_000
_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close sends RST
_DRIP_S = 0.05

Handle = Callable[[Request], Reply]


class Connection(asyncio.Protocol):
    """One client connection; requests that were sent ahead are answered in their order."""

    def __init__(self, handle: Handle, outbox: Outbox, open_ones: set["Connection"]) -> None:
        self._handle = handle
        self._outbox = outbox
        self._open_ones = open_ones
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._is_busy = False
        self._is_paused = False
        self._rest: Iterator[bytes] | None = None
        self._keeps_alive = True
        self._transport: asyncio.Transport
        self.on_message_begin()

    def close(self) -> None:
        """Drop the connection, answered or not."""
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._open_ones.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(HTTPStatus.BAD_REQUEST, "not a request this server takes")
        if self._size > _BODY_LIMIT + _HEAD_LIMIT:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"over {_BODY_LIMIT} bytes")
        self._serve_next()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send_rest()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._target = b""
        self._size = 0
        self._authorization = b""
        self._idempotency_key: str | None = None
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._size += len(url)
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        lowered = name.lower()
        if lowered == b"authorization":
            self._authorization = value
        elif lowered == b"idempotency-key":
            self._idempotency_key = value.decode("latin-1")
        elif lowered == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= _BODY_LIMIT + _HEAD_LIMIT:
            self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=query,
            authorization=self._authorization,
            idempotency_key=self._idempotency_key,
            body=b"".join(self._body),
        )
        self._waiting.append((request, self._parser.should_keep_alive()))

    def _serve_next(self) -> None:
        if self._is_busy or not self._waiting or self._transport.is_closing():
            return
        self._is_busy = True
        request, self._keeps_alive = self._waiting.popleft()
        reply = self._handle(request)
        delay_s = reply.delay_s if isinstance(reply, Answer) else 0.0
        self._outbox.put(delay_s, partial(self._send, reply))

    def _send(self, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        if isinstance(reply, Stream):
            self._rest = reply.chunks
            self._transport.write(_head(200, reply.size, b""))
            self._send_rest()
            return
        match reply.damage:
            case Damage.NONE | Damage.WRONG_AMOUNT | Damage.NOT_JSON | Damage.HUGE:
                self._transport.write(_render(reply))
                self._finish()
            case Damage.DRIP:
                step = max(1, int(reply.drip_bytes_per_s * _DRIP_S))
                pause_s = step / reply.drip_bytes_per_s
                self._drip(_render(reply), step, pause_s)
            case Damage.SILENCE:
                pass  # the client waits until it gives up
            case Damage.RESET:
                self._reset()
            case _:
                assert_never(reply.damage)

    def _send_rest(self) -> None:
        """The rest of a stream, as long as the client keeps up."""
        while self._rest is not None and not self._is_paused:
            chunk = next(self._rest, None)
            if chunk is None or self._transport.is_closing():
                self._rest = None
                self._finish()
            else:
                self._transport.write(chunk)

    def _drip(self, rest: bytes, step: int, pause_s: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(rest[:step])
        if len(rest) <= step:
            self._finish()
            return
        loop = asyncio.get_running_loop()
        loop.call_later(pause_s, self._drip, rest[step:], step, pause_s)

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """What cannot be parsed ends the connection."""
        body = error_body("invalid_request", message)
        self._transport.write(_head(status, len(body), b"Connection: close\r\n") + body)
        self._transport.close()

    def _finish(self) -> None:
        self._is_busy = False
        if self._keeps_alive:
            self._serve_next()
        else:
            self._transport.close()


def _render(answer: Answer) -> bytes:
    """Head and body as they go onto the wire, spoiled where the answer says so."""
    if answer.damage is Damage.NOT_JSON:
        return _head(200, len(_HTML), b"", content_type=b"text/html") + _HTML
    body = answer.body
    if answer.damage is Damage.HUGE:
        body = body.ljust(_HUGE_BYTES)
    extra = b"Idempotent-Replayed: true\r\n" if answer.replayed else b""
    if answer.retry_after_s is not None:
        extra += b"Retry-After: %d\r\n" % answer.retry_after_s
    return _head(answer.status, len(body), extra) + body


def _head(
    status: int, size: int, extra: bytes, *, content_type: bytes = b"application/json"
) -> bytes:
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        status,
        HTTPStatus(status).phrase.encode(),
        content_type,
        size,
        extra,
    )
