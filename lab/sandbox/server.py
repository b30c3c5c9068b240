"""Serves a sandbox gateway: in the caller's loop (`serve`) or as a process of its own (`run`)."""

import asyncio
import contextlib
import gc
import signal
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from lab.sandbox.config import FaultPlan, SandboxConfig
from lab.sandbox.gateway import Gateway
from lab.sandbox.ledger import Ledger, open_ledger
from lab.sandbox.outbox import Outbox
from lab.sandbox.records import Json
from lab.sandbox.routes import Router
from lab.sandbox.wire import Connection

log = structlog.get_logger()

_BACKLOG = 2048  # connections the kernel may queue when a whole batch connects at once
_GC_THRESHOLD = 50_000  # allocations; the book only grows, so collecting often finds nothing
_DRAIN_S = 2.0  # answers that are on their way at a stop may leave within this time


class RunningSandbox:
    """A sandbox that answers at `url` until `close`; the same view as over HTTP, without HTTP."""

    def __init__(
        self,
        *,
        server: asyncio.Server,
        gateway: Gateway,
        ledger: Ledger,
        outbox: Outbox,
        connections: set[Connection],
    ) -> None:
        self._server = server
        self._gateway = gateway
        self._ledger = ledger
        self._outbox = outbox
        self._connections = connections
        host, port = server.sockets[0].getsockname()[:2]
        self.port: int = port
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def ledger(self) -> list[Json]:
        """All ledger entries, oldest first; see lab/sandbox/ledger.py for their kinds."""
        return self._ledger.entries()

    def charges(self) -> list[Json]:
        """Every executed charge as `GET /v1/charges/{id}` answers it now, oldest first."""
        self._gateway.now()
        return [charge.answer() for charge in self._gateway.book.charges]

    def stats(self) -> Json:
        """Sums over the book: the body of `GET /v1/sandbox/stats` without the answers' counts."""
        return self._gateway.stats()

    def set_clock(self, now: datetime | None) -> None:
        """Stand still at `now` (aware); None follows the machine's clock again."""
        self._gateway.set_clock(now)
        self._ledger.flush()

    def set_faults(self, plan: FaultPlan) -> None:
        """From the next request on."""
        self._gateway.set_faults(plan)

    async def close(self) -> None:
        """Take no more connections, let answers that are on their way leave, then drop the rest.

        A second call does nothing.
        """
        if not self._server.is_serving():
            return
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._outbox.drained()
        for connection in list(self._connections):
            connection.close()
        self._ledger.close()


async def serve(
    config: SandboxConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ledger_path: Path | None = None,
) -> RunningSandbox:
    """Start answering in the running loop; port 0 takes a free one, no path keeps all in memory.

    A ledger file is taken up where it ends. Raises LedgerError, PopulationError, OSError.
    """
    ledger = open_ledger(ledger_path)
    try:
        gateway = Gateway(config, ledger)
        router = Router(config, gateway, ledger)
        outbox = Outbox(ledger)
        connections: set[Connection] = set()
        server = await asyncio.get_running_loop().create_server(
            partial(Connection, router.handle, outbox, connections), host, port, backlog=_BACKLOG
        )
    except BaseException:
        ledger.close()
        raise
    return RunningSandbox(
        server=server, gateway=gateway, ledger=ledger, outbox=outbox, connections=connections
    )


async def run(
    config: SandboxConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ledger_path: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly. Raises what `serve` raises."""
    gc.set_threshold(_GC_THRESHOLD)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sandbox = await serve(config, host=host, port=port, ledger_path=ledger_path)
    log.info("sandbox_listening", url=sandbox.url)
    await stop.wait()
    await sandbox.close()
    log.info("sandbox_stopped")
