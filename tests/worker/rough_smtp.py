"""An SMTP server with bad manners, for what the well-behaved sink cannot do."""

import asyncio
import contextlib

DROP = "DROP"
HANG = "HANG"


class RoughServer:
    """Answers a command with what `answers` says (`DROP`: hang up, `HANG`: say nothing), else 250.

    The end of a mail is called `.`. `mails_per_connection` many mails are taken, then 421.
    """

    def __init__(self, answers: dict[str, str], *, mails_per_connection: int = 1000) -> None:
        self.answers = answers
        self.taken = 0
        self.connections = 0
        self._mails = mails_per_connection
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        """Listen; the answer is its URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError):
            await self._talk(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._mails
        writer.write(b"220 rough\r\n")
        while line := await reader.readline():
            verb = line.split()[0].decode().upper().partition(":")[0] if line.strip() else ""
            if verb == "MAIL" and left == 0:
                writer.write(b"421 too many mails\r\n")
                return
            if not await self._answer(verb, writer):
                return
            if verb == "DATA" and verb not in self.answers:
                while await reader.readline() != b".\r\n":
                    pass
                left -= 1
                self.taken += 1
                if not await self._answer(".", writer):
                    return

    async def _answer(self, verb: str, writer: asyncio.StreamWriter) -> bool:
        answer = self.answers.get(verb, "354 go on" if verb == "DATA" else "250 fine")
        if answer == HANG:
            await asyncio.Event().wait()
        if answer != DROP:
            writer.write(f"{answer}\r\n".encode())
            await writer.drain()
        return answer != DROP
