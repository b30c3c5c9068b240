"""A private RabbitMQ: own node, cookie, password, directory and epmd, all on free local ports.

It runs beside a system-wide RabbitMQ, since it shares none of its ports, names or files.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from lab.servers.process import (
    START_SECONDS,
    STOP_SECONDS,
    Home,
    Identity,
    ServerError,
    free_port,
    kill_group,
    last_line,
    wait_until,
)

NODE = "renewd@localhost"
USER = "renewd"
MANAGEMENT_PORT = 15672
VHOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# The scripts themselves: Debian's wrappers in /usr/sbin insist on the user rabbitmq.
SCRIPTS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/usr/local/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
)
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
# One scheduler that sleeps when idle: the servers of a test share two cores with what is tested.
ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
CREATE_VHOST = (
    'ok = rabbit_vhost:add(<<"{vhost}">>, <<"{user}">>), '
    'ok = rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{vhost}">>, '
    '<<".*">>, <<".*">>, <<".*">>, <<"{user}">>).'
)


class Vhosts:
    """A RabbitMQ server of which only addresses are known: vhosts come and go on it.

    `api_url` is that of its management plugin; user and password are those of `url`.
    """

    def __init__(self, url: str, *, api_url: str | None = None) -> None:
        self.url = url
        parts = urlsplit(url)
        self.api_url = (api_url or f"http://{parts.hostname}:{MANAGEMENT_PORT}").rstrip("/")
        self._user = unquote(parts.username or "guest")
        self._authorization = f"{self._user}:{unquote(parts.password or 'guest')}"

    def create_vhost(self, name: str) -> str:
        """A new empty vhost; returns its URL."""
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._request("PUT", f"vhosts/{_checked(name)}", {})
        self._request("PUT", f"permissions/{name}/{quote(self._user, safe='')}", everything)
        return with_vhost(self.url, name)

    def delete_vhost(self, name: str) -> None:
        """Removes the vhost with its queues, ending its connections."""
        self._request("DELETE", f"vhosts/{_checked(name)}", None)

    def _request(self, method: str, path: str, body: dict[str, str] | None) -> None:
        request = urllib.request.Request(f"{self.api_url}/api/{path}", method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        request.add_header(
            "Authorization", f"Basic {b64encode(self._authorization.encode()).decode()}"
        )
        content = None if body is None else json.dumps(body).encode()
        try:
            urllib.request.urlopen(request, content, timeout=STOP_SECONDS).close()  # noqa: S310
        except OSError as error:
            raise ServerError(
                f"RabbitMQ management at {self.api_url}: {last_line(str(error))}; "
                "enable rabbitmq_management or set RENEWD_TEST_AMQP_API_URL"
            ) from error


class RabbitServer(Vhosts):
    """A running private server; `url` names its vhost `/` and its only user."""

    def __init__(self, scripts: Path, epmd: Path, home: Home, *, management: bool) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(16)
        self._management = management
        super().__init__(
            f"amqp://{USER}:{self._password}@127.0.0.1:{self.port}/%2F",
            api_url=f"http://127.0.0.1:{free_port()}",
        )
        self._scripts = scripts
        self._epmd = epmd
        self._home = home
        self._log = home.path / "rabbitmq.log"
        self._epmd_port = free_port()
        self._names: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = self._lay_out()

    @property
    def pid(self) -> int | None:
        """The node's process id, None while it is down."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the node on its port; returns when it speaks AMQP."""
        self._start_names()
        command = [self._scripts / "rabbitmq-server"]
        process = self._home.identity.popen(command, env=self._environment, log=self._log)
        self._process = process
        self._home.watch("node", process.pid)
        wait_until(lambda: process.poll() is not None or self._answers(), seconds=START_SECONDS)
        if process.poll() is not None or not self._answers():
            self.kill()
            raise ServerError(
                f"RabbitMQ does not start: {last_line(self._log.read_text(errors='replace'))}"
            )

    def stop(self) -> None:
        """Ends the node in order; durable queues and their messages are kept."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        self.kill()

    def restart(self) -> None:
        """Ends it in order and starts it again on the same port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to the node, as a power cut does it."""
        if self._process is not None:
            kill_group(self._process)
        self._home.watch("node", None)
        self._process = None

    def close(self) -> None:
        """Ends the node at once, and its name server."""
        self.kill()
        if self._names is not None:
            kill_group(self._names)
        self._names = None

    def rabbitmqctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` says to these arguments; it takes about a second."""
        return self._home.identity.run(
            [self._scripts / "rabbitmqctl", "--quiet", *arguments], env=self._environment
        )

    def create_vhost(self, name: str) -> str:
        """A new empty vhost; returns its URL."""
        expression = CREATE_VHOST.format(vhost=_checked(name), user=USER)
        self.rabbitmqctl("eval", expression)
        return with_vhost(self.url, name)

    def delete_vhost(self, name: str) -> None:
        """Removes the vhost with its queues, ending its connections."""
        self.rabbitmqctl("delete_vhost", _checked(name))

    def _start_names(self) -> None:
        """Erlang's epmd, ours: the node would start one that outlives it."""
        if self._names is not None and self._names.poll() is None:
            return
        self._names = self._home.identity.popen(
            [self._epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            env=self._environment,
            log=self._log,
        )
        self._home.watch("epmd", self._names.pid)
        if not wait_until(lambda: _connects(self._epmd_port), seconds=START_SECONDS):
            raise ServerError(f"epmd does not start: {last_line(self._log.read_text())}")

    def _answers(self) -> bool:
        address = ("127.0.0.1", self.port)
        with contextlib.suppress(OSError), socket.create_connection(address, 1) as client:
            client.sendall(PROTOCOL_HEADER)
            return client.recv(1) == METHOD_FRAME
        return False

    def _lay_out(self) -> dict[str, str]:
        """Writes the configuration and returns the environment that points to it."""
        home = self._home
        nowhere = home.path / "absent"
        settings = [
            f"default_user = {USER}",
            f"default_pass = {self._password}",
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
        ]
        if self._management:
            port = urlsplit(self.api_url).port
            settings += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}"]
        home.write("rabbitmq.conf", "\n".join((*settings, "")))
        plugins = "[rabbitmq_management]." if self._management else "[]."
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C.UTF-8",
            "HOME": str(home.directory("home")),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            # Whatever Erlang starts while we end would otherwise leave an epmd of its own behind.
            "ERL_AFLAGS": "-start_epmd false",
            # Makes the script become the node instead of waiting for it, so that its pid is ours.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_BASE": str(home.directory("base")),
            "RABBITMQ_MNESIA_BASE": str(home.directory("mnesia")),
            "RABBITMQ_LOG_BASE": str(home.directory("log")),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home.directory("generated")),
            "RABBITMQ_PID_FILE": str(home.path / "mnesia" / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home.path / "rabbitmq"),
            "RABBITMQ_CONFIG_FILES": str(nowhere),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(nowhere),
            "RABBITMQ_CONF_ENV_FILE": str(home.write("env.conf", "")),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home.write("enabled_plugins", plugins)),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ERLANG} {ON_LOOPBACK}",
            "RABBITMQ_CTL_ERL_ARGS": f"{ERLANG} {ON_LOOPBACK}",
        }


@contextlib.contextmanager
def private(*, management: bool = False) -> Iterator[RabbitServer]:
    """A server from the installed binaries, removed at the end. Raises ServerError.

    `management`: with the management plugin at `api_url`; it starts and stops more slowly.
    """
    scripts, epmd = _installed()
    home = Home(Identity.current(), prefix="renewd-rabbitmq-")
    try:
        server = RabbitServer(scripts, epmd, home, management=management)
        try:
            server.start()
            yield server
        finally:
            server.close()
    finally:
        home.close()


def installed() -> bool:
    """Whether `private` would find its binaries."""
    try:
        _installed()
    except ServerError:
        return False
    return True


def with_vhost(url: str, name: str) -> str:
    """The URL of another vhost of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _installed() -> tuple[Path, Path]:
    roots = [Path(path) for path in SCRIPTS]
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        roots.append(Path(on_path).resolve().parent)
    epmd = shutil.which("epmd") or next(
        (str(path) for path in Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None
    )
    for scripts in roots:
        if epmd and (scripts / "rabbitmq-env").exists() and (scripts / "rabbitmq-server").exists():
            return scripts, Path(epmd)
    raise ServerError(
        "RabbitMQ is not installed: run 'apt-get install rabbitmq-server' as root, "
        "or set RENEWD_TEST_AMQP_URL"
    )


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _checked(name: str) -> str:
    if not VHOST_NAME.fullmatch(name):
        raise ServerError(f"vhost name {name!r}: expected letters, digits, '_', '.' and '-'")
    return name
