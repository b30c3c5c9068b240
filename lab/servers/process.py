"""What both private servers share: an unprivileged identity, a directory, free ports, a keeper."""

import errno
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# Below the range that Linux hands to outgoing connections (32768 on), so that nobody takes a
# server's port between its kill and its restart.
PORT_RANGE = range(20_000, 32_000)
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02

# Ends when its owner does: the owner holds the other end of standard input.
KEEPER_SCRIPT = """
cat >/dev/null
for file in "$1"/*.keeper-pid; do
  [ -e "$file" ] && kill -KILL $(cat "$file")
done
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"""


class ServerError(Exception):
    """A server cannot be had; the message is one line with what would help."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the servers run as: the caller, or `nobody` if the caller is root."""

    uid: int
    gid: int
    changes: bool

    @classmethod
    def current(cls) -> Self:
        if os.geteuid() != 0:
            return cls(uid=os.geteuid(), gid=os.getegid(), changes=False)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise ServerError(
                "as root the servers run as the user nobody, which this system lacks: "
                "run as a normal user"
            ) from None
        return cls(uid=nobody.pw_uid, gid=nobody.pw_gid, changes=True)

    def popen(
        self, command: Sequence[str | Path], *, env: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Starts `command` in a session of its own, so that Ctrl-C reaches only its owner."""
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                user=self.uid if self.changes else None,
                group=self.gid if self.changes else None,
                extra_groups=[] if self.changes else None,
            )

    def run(self, command: Sequence[str | Path], *, env: Mapping[str, str]) -> str:
        """Standard output of a command; ServerError with its last line if it fails."""
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=START_SECONDS,
            user=self.uid if self.changes else None,
            group=self.gid if self.changes else None,
            extra_groups=[] if self.changes else None,
        )
        if done.returncode != 0:
            raise ServerError(f"{Path(command[0]).name}: {last_line(done.stderr or done.stdout)}")
        return done.stdout

    def can_enter(self, path: Path) -> bool:
        """Whether a server of this identity reaches what is under `path`."""
        if not self.changes:
            return True
        return all(parent.stat().st_mode & 0o001 for parent in (path, *path.resolve().parents))

    def own(self, path: Path) -> None:
        """Hands a directory made by root to the identity."""
        if self.changes:
            os.chown(path, self.uid, self.gid)


class Home:
    """A temporary directory and its keeper, which ends and removes what a killed owner left."""

    def __init__(self, identity: Identity, *, prefix: str) -> None:
        self.identity = identity
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=_temporary_root(identity)))
        # Stays the owner's: the keeper may be root and trusts what it finds here.
        self.path.chmod(0o711)
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER_SCRIPT, "keeper", self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def directory(self, name: str) -> Path:
        """A directory of that name inside, owned by the identity."""
        path = self.path / name
        path.mkdir(mode=0o700)
        self.identity.own(path)
        return path

    def write(self, name: str, text: str) -> Path:
        """A file of that name inside, readable by the identity only."""
        path = self.path / name
        path.write_text(text)
        path.chmod(0o600)
        self.identity.own(path)
        return path

    def watch(self, name: str, pid: int | None) -> None:
        """Names the process group that the keeper ends; None: nothing of that name runs now."""
        file = self.path / f"{name}.keeper-pid"
        if pid is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(f"-{pid}")

    def close(self) -> None:
        """Removes the directory and ends the keeper."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(STOP_SECONDS)


def _temporary_root(identity: Identity) -> Path:
    for root in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108
        if root.is_dir() and identity.can_enter(root):
            return root
    raise ServerError("no temporary directory that the user nobody can enter: set TMPDIR to one")


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens now."""
    ports = random.SystemRandom().sample(PORT_RANGE, 200)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
            else:
                return port
    raise ServerError(f"no free port between {PORT_RANGE.start} and {PORT_RANGE.stop - 1}")


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Whether the condition held within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and the rest of its group; returns when the process is gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.wait(STOP_SECONDS)


def children_of(pid: int) -> list[int]:
    """Process ids of the children of a process; empty where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
