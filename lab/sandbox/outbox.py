"""Answers on their way: held for their latency, and never let go before the ledger is written.

A timer per answer would cost more than the rest of the request at thousands a second, so answers
leave in turns of `_TURN_S`, each rounded up to the next one.
"""

import asyncio
from collections.abc import Callable

import structlog

from lab.sandbox.ledger import Ledger

log = structlog.get_logger()

_TURN_S = 0.002

Send = Callable[[], None]


class Outbox:
    """Sends after a delay. Once the ledger cannot be written nothing is sent any more."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._turns: dict[int, list[Send]] = {}
        self._now: list[Send] = []
        self._flush_is_due = False
        self._broken = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def drained(self) -> None:
        """Wait until no answer is on its way; once the ledger is broken, for ever."""
        await self._is_empty.wait()

    def put(self, delay_s: float, send: Send) -> None:
        """Call `send` after the delay and after what was appended to the ledger is in its file."""
        self._is_empty.clear()
        if delay_s <= 0:
            self._now.append(send)
        else:
            turn = int((self._loop.time() + delay_s) / _TURN_S) + 1
            if turn not in self._turns:
                self._turns[turn] = []
                self._loop.call_at(turn * _TURN_S, self._send_turn, turn)
            self._turns[turn].append(send)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            self._ledger.flush()
        except OSError as error:
            self._broken = True
            log.critical("ledger_write_failed", error=error.strerror)
        ready, self._now = self._now, []
        self._send_all(ready)

    def _send_turn(self, turn: int) -> None:
        self._send_all(self._turns.pop(turn))

    def _send_all(self, ready: list[Send]) -> None:
        if self._broken:
            return
        for send in ready:
            send()
        if not self._turns and not self._now:
            self._is_empty.set()
