"""The append-only ledger: the sandbox's memory across a kill, and the oracle of tests.

One JSON object a line. Kinds, each with `at` in gateway time:

    charge    executed: number, id and everything a charge is made of, `answer_status`, `nth`
    refund    executed, likewise
    status    an open charge ended: charge, status, decline
    answer    a 5xx was stored under a key and nothing executed
    late      a request was held up: it arrives at `due_at`
    late_done it arrived and executed nothing
    fault     a request met a fault: key, nth, fault
    clock     the test clock was set (null: machine time again)

Appended lines reach the file in one write per turn of the event loop, before any answer that tells
of them leaves: kill -9 loses no executed charge (a power cut may). A torn last line was never
answered for and is dropped.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import from_json, to_json

from lab.sandbox.records import Json

_READ_BYTES = 1 << 16


class LedgerError(RuntimeError):
    """The ledger cannot be used; one line that names the file."""


class MemoryLedger:
    """For a sandbox that need not outlive its process."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def append(self, entry: Json) -> None:
        self._lines.append(to_json(entry) + b"\n")

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def entries(self) -> list[Json]:
        """All entries, oldest first."""
        return [from_json(line) for line in self._lines]

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """Size in bytes and the chunks of everything appended so far."""
        lines = list(self._lines)
        return sum(map(len, lines)), iter(lines)


class FileLedger:
    """A ledger file that this process alone writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[bytes] = []
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"ledger {path}: cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise LedgerError(f"ledger {path}: another sandbox writes it") from None
        self._drop_torn_line()

    def append(self, entry: Json) -> None:
        self._pending.append(to_json(entry) + b"\n")

    def flush(self) -> None:
        """Hand everything appended to the kernel. Raises OSError; then nothing may be answered."""
        if not self._pending:
            return
        block = memoryview(b"".join(self._pending))
        self._pending.clear()
        while block:
            block = block[os.write(self._fd, block) :]

    def close(self) -> None:
        self.flush()
        os.close(self._fd)

    def entries(self) -> list[Json]:
        """All entries, oldest first. Raises LedgerError on a line that is no entry."""
        self.flush()
        with self._path.open("rb") as file:
            return [self._read_line(number, line) for number, line in enumerate(file, start=1)]

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """Size in bytes and the chunks of everything appended so far."""
        self.flush()
        size = os.fstat(self._fd).st_size
        return size, self._chunks(size)

    def _read_line(self, number: int, line: bytes) -> Json:
        try:
            entry = from_json(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise LedgerError(f"ledger {self._path}: line {number} is not a JSON object")
        return entry

    def _chunks(self, size: int) -> Iterator[bytes]:
        offset = 0
        while offset < size:
            chunk = os.pread(self._fd, min(_READ_BYTES, size - offset), offset)
            offset += len(chunk)
            yield chunk

    def _drop_torn_line(self) -> None:
        size = os.fstat(self._fd).st_size
        start = size
        tail = b""
        while start and b"\n" not in tail:
            start = max(0, start - _READ_BYTES)
            tail = os.pread(self._fd, size - start, start)
        os.ftruncate(self._fd, start + tail.rfind(b"\n") + 1)


Ledger = MemoryLedger | FileLedger


def open_ledger(path: Path | None) -> Ledger:
    """The file's ledger, or one in memory. Raises LedgerError."""
    return MemoryLedger() if path is None else FileLedger(path)
