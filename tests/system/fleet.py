"""The processes of renewd as they are deployed, to be started, killed and watched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

API_KEY = "sk_test_fleet"


@dataclass
class Fleet:
    """Each process by name; `logs` keeps what they say."""

    environment: dict[str, str]
    logs: Path
    arguments: dict[str, list[str]] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start `worker-1`, `scheduler-1` …; the part before the dash is the command."""
        command = [sys.executable, "-m", "console", name.partition("-")[0]]
        log = (self.logs / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            [*command, *self.arguments.get(name, [])],
            env=self._environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def kill(self, name: str) -> None:
        """SIGKILL, and start it again at once, as a supervisor does."""
        self.running[name].kill()
        self.running[name].wait()
        self.start(name)

    def stop(self, name: str) -> float:
        """SIGTERM; returns the seconds until it was gone, and asserts that it ended well."""
        process = self.running.pop(name)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=35)
        assert code == 0, f"{name} ended with {code}: {self.tail(name)}"
        return time.monotonic() - started

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running.clear()

    def command(self, *arguments: str, code: int = 0, timeout: float = 300) -> dict[str, Any]:
        """Run `renewd … --json` to its end and return its object."""
        done = subprocess.run(
            [sys.executable, "-m", "console", *arguments, "--json"],
            env=self._environment(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        said = f"{done.stdout.decode()[-3000:]}\n{done.stderr.decode()[-3000:]}"
        assert done.returncode == code, f"renewd {arguments}: exit {done.returncode}\n{said}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def tail(self, name: str) -> str:
        """The end of what a process said."""
        return (self.logs / f"{name}.log").read_text()[-2000:]

    def _environment(self) -> dict[str, str]:
        bare = {name: text for name, text in os.environ.items() if not name.startswith("RENEWD_")}
        return {**bare, **self.environment}


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until a condition holds; says what was waited for when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.1)
