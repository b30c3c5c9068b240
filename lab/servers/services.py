"""`make services`: a private Postgres and RabbitMQ that stay until they are stopped.

A holder process in the background owns both; its lock on `.services/lock` says that it lives.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from lab.servers import postgres, rabbitmq
from lab.servers.process import START_SECONDS, STOP_SECONDS, ServerError, last_line, wait_until

STATE = Path(__file__).resolve().parents[2] / ".services"


def start() -> str:
    """The lines `RENEWD_…_URL=…` of the running servers, started if they are not. ServerError."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    holder = _start_holder() if _holder() is None else None
    wait_until(
        lambda: _addresses().exists() or (holder is not None and holder.poll() is not None),
        seconds=2 * START_SECONDS,
    )
    if not _addresses().exists():
        raise ServerError(last_line((STATE / "log").read_text()).removeprefix("servers: "))
    return _addresses().read_text()


def stop() -> None:
    """Ends the servers of `start` and removes their data; nothing happens if none runs."""
    pid = _holder()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: _holder() is None, seconds=2 * STOP_SECONDS):
        raise ServerError(f"process {pid} does not end: run 'kill -9 {pid}'")


def hold() -> None:
    """Owns both servers until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with _lock(), postgres.private(durable=True) as database, rabbitmq.private() as broker:
        url = database.create_database("renewd")
        partial = _addresses().with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(f"RENEWD_DATABASE_URL={url}\nRENEWD_AMQP_URL={broker.url}\n")
        partial.rename(_addresses())
        ended.wait()
        _addresses().unlink(missing_ok=True)


def _start_holder() -> subprocess.Popen[bytes]:
    _addresses().unlink(missing_ok=True)
    with (STATE / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lab.servers", "hold"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _addresses() -> Path:
    return STATE / "addresses"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    with (STATE / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError("the services run already: run 'make services-stop'") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder() -> int | None:
    """The living holder's process id; the lock, not the number, says that it lives."""
    with contextlib.suppress(FileNotFoundError), (STATE / "lock").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
    return None
