"""The processes of a benchmark: started as they are run, watched from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

WORKERS = 2

_RUN = {
    "worker": "from worker.main import run_worker as run",
    "scheduler": "from scheduler.main import run_scheduler as run",
    "platform": "from worker.platform.main import run_platform as run",
}
_MAIN = "{start}; from worker.settings import load_settings; raise SystemExit(run(load_settings(env_file=None)))"
_SANDBOX = """
import asyncio, uvloop
from lab.sandbox import SandboxConfig, run
from lab.sandbox.config import Latency, SandboxFaults
config = SandboxConfig(api_key={key!r}, seed=1, faults=SandboxFaults(latency=Latency(ms={latency_ms})))
uvloop.run(run(config, port={port}))
"""


@dataclass
class Fleet:
    """Running processes by name; `cpu` counts each group's CPU seconds so far."""

    processes: dict[str, list[psutil.Process]]
    marked: dict[str, float] = field(default_factory=dict)

    def mark(self) -> None:
        """Count CPU from here on."""
        self.marked = self.cpu()

    def cpu_since_mark(self) -> dict[str, float]:
        """CPU seconds of each group since `mark`, or since its start if that was later."""
        return {name: used - self.marked.get(name, 0.0) for name, used in self.cpu().items()}

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each group, children included."""
        return {name: sum(map(_cpu_of_tree, group)) for name, group in self.processes.items()}

    def rss_mb(self, name: str) -> float:
        """The largest resident size in a group, in MB."""
        return float(max(p.memory_info().rss for p in self.processes[name]) / 1e6)


def _cpu_of_tree(process: psutil.Process) -> float:
    try:
        family = [process, *process.children(recursive=True)]
        times = [member.cpu_times() for member in family]
    except psutil.NoSuchProcess:
        return 0.0
    own = process.cpu_times()
    # A server's ended children (a Postgres backend) are counted in its own children_* times.
    return float(sum(t.user + t.system for t in times) + own.children_user + own.children_system)


def start_sandbox(*, key: str, port: int, latency_ms: int) -> subprocess.Popen[bytes]:
    """The sandbox gateway in a process of its own."""
    code = _SANDBOX.format(key=key, port=port, latency_ms=latency_ms)
    return subprocess.Popen([sys.executable, "-c", code], env=_environment({}))


def start(name: str, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """One process of renewd with exactly these settings."""
    code = _MAIN.format(start=_RUN[name])
    return subprocess.Popen([sys.executable, "-c", code], env=_environment(settings))


@contextmanager
def stopping(started: Mapping[str, list[subprocess.Popen[bytes]]]) -> Iterator[None]:
    """End the processes with SIGTERM, whatever happens inside."""
    try:
        yield
    finally:
        everyone = [process for group in started.values() for process in group]
        for process in everyone:
            process.terminate()
        for process in everyone:
            try:
                process.wait(timeout=35)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RENEWD_")}
    return {**bare, **settings}
