"""The HTTP port of a process: `/metrics` for Prometheus, `/healthz` for whoever restarts processes.

It runs in threads of its own, so that it answers while the event loop is busy; nothing it serves
names a customer, and it listens on loopback unless told otherwise.
"""

import errno
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import ClassVar

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from worker.errors import SettingsError

PORTS_TRIED = 50
"""How far to look for a free port from the one that was asked for."""

REQUEST_SECONDS = 5
"""A client that does not send its request or read the answer by then is dropped."""

log = structlog.get_logger()


class HealthServer:
    """The running server; `port` is where it listens."""

    def __init__(self, server: "_Server") -> None:
        self.port: int = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, name="health", kwargs={"poll_interval": 0.5}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def start_health(
    port: int,
    host: str,
    *,
    process: str,
    registry: CollectorRegistry,
    is_healthy: Callable[[], bool],
) -> HealthServer:
    """Serve `registry` and `is_healthy` at `port` (0: a free one) or the next that is free.

    `is_healthy` is called in another thread for each request and should answer within a second; an
    error in it means no. Raises `SettingsError` if there is no port to be had at `host`.
    """

    class Handler(_Handler):
        answers: ClassVar = {
            "/metrics": lambda: (
                HTTPStatus.OK,
                CONTENT_TYPE_PLAIN_0_0_4,
                generate_latest(registry),
            ),
            "/healthz": lambda: _health(process, is_healthy),
        }

    server = HealthServer(_listen(host, port, Handler))
    log.info("metrics_listening", host=host, port=server.port)
    return server


def _health(process: str, is_healthy: Callable[[], bool]) -> tuple[HTTPStatus, str, bytes]:
    healthy = is_healthy()
    status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
    line = json.dumps({"process": process, "healthy": healthy})
    return status, "application/json", line.encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    answers: ClassVar[dict[str, Callable[[], tuple[HTTPStatus, str, bytes]]]] = {}

    def do_GET(self) -> None:
        answer = self.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND, "Only /metrics and /healthz are here")
            return
        try:
            status, content_type, body = answer()
        except Exception:
            log.exception("health_failed", path=self.path)
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's
        """Say nothing: a scrape every few seconds is no event."""


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    # HTTPServer would ask DNS for its own name at start, which hangs where DNS does.

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that went away while we answered is its own affair."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _listen(host: str, port: int, handler: type[_Handler]) -> _Server:
    kind = _Server6 if ":" in host else _Server
    for candidate in range(port, min(port + PORTS_TRIED, 65535) + 1):
        try:
            return kind((host, candidate), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                line = (
                    f"RENEWD_METRICS_HOST is {host!r}, RENEWD_METRICS_PORT {candidate}: should be "
                )
                raise SettingsError(line + f"where one can listen ({error.strerror})") from None
    raise SettingsError(f"RENEWD_METRICS_PORT is {port}: should be near a free port, or 0")
