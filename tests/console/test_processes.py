"""Processes as they are run: kept running, one stream of logs, ended in time."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.servers.process import free_port, wait_until
from tests.console.command import renewd_here
from tests.world import API_KEY, GATEWAY

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30
SUPERVISE = """
import asyncio, os, sys
from console.supervisor import Child, supervise
children = [Child(name, [sys.executable, "-u", "-c", code]) for name, code in {children!r}]
show = lambda name, line: print(name, line.decode(), flush=True)
sys.exit(asyncio.run(supervise(children, environment=os.environ, show=show)))
"""
STEADY = "import time; print('up'); time.sleep(1000)"

GATEWAYS = '{"main": {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k"}}'


class Running:
    """A process in a group of its own, and what it has printed so far."""

    def __init__(self, *command: str, log: Path, **variables: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def printed(self) -> list[str]:
        return self.log.read_text().splitlines()

    def count(self, text: str) -> int:
        return sum(text in line for line in self.printed())

    def wait_for(self, text: str, *, times: int = 1) -> None:
        found = wait_until(lambda: self.count(text) >= times, seconds=SECONDS)
        assert found, f"waited for {times} x {text!r} in:\n{self.log.read_text()}"

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.printed()]
        return [line for line in lines if line["event"] == name]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal it; its exit code, and the seconds until it was gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(SECONDS + 5), time.monotonic() - began


@contextmanager
def running(*command: str, log: Path, **variables: str) -> Iterator[Running]:
    """A process that is gone with its children afterwards, whatever happens."""
    started = Running(*command, log=log, **variables)
    family = psutil.Process(started.process.pid)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            # Stopped first, so that it starts no new child meanwhile.
            family.suspend()
            for child in family.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            started.process.kill()
            started.process.wait()


def is_healthy(port: int) -> bool:
    """Whether the process with this port says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(json.load(answer)["healthy"])
    except OSError:
        return False


def supervising(log: Path, **children: str) -> Any:
    return running("-c", SUPERVISE.format(children=list(children.items())), log=log)


def test_children_write_into_one_stream(tmp_path: Path) -> None:
    """Every line of every child comes whole, under the child's name; SIGTERM ends all well."""
    with supervising(tmp_path / "log", one=_patient("one"), two=_patient("two")) as up:
        up.wait_for("one says one")
        up.wait_for("two says two")
        code, seconds = up.end()
        assert (code, seconds < 5) == (0, True)
        assert (up.count("one ends"), up.count("two ends")) == (1, 1)


def _patient(name: str) -> str:
    """A child that says so when it is told to end."""
    return (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (print('{name} ends'), sys.exit(0)))\n"
        f"print('says {name}')\n"
        "while True: time.sleep(1)"
    )


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    """Once and again, a little later each time; its neighbour runs on."""
    with supervising(tmp_path / "log", dies="print('up')", stays=STEADY) as up:
        up.wait_for("dies up", times=3)
        assert up.count("stays up") == 1
        assert "0.5" in " ".join(line for line in up.printed() if "child_died" in line)


def test_a_child_with_wrong_settings_ends_all(tmp_path: Path) -> None:
    """Exit code 2 would come for ever: everything is ended, with the same code."""
    with supervising(tmp_path / "log", wrong="raise SystemExit(2)", stays=_patient("x")) as up:
        assert up.process.wait(SECONDS) == 2


def test_ctrl_c_ends_every_child_once(tmp_path: Path) -> None:
    """Children are in sessions of their own, so that the terminal's signal reaches only us."""
    with supervising(tmp_path / "log", one=_patient("one")) as up:
        up.wait_for("one says one")
        os.killpg(up.process.pid, signal.SIGINT)
        assert up.process.wait(SECONDS) == 0
        assert up.count("one ends") == 1


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """Shortly before the time to stop is over; then the exit code is not 0."""
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf')\ntime.sleep(99)"
    short = SUPERVISE.format(children=[("one", deaf)]).replace(
        "children =", "import console.supervisor as s; s.STOP_SECONDS = 0.5\nchildren =", 1
    )
    with running("-c", short, log=tmp_path / "log") as up:
        up.wait_for("one deaf")
        code, seconds = up.end()
        assert (code, seconds < 5) == (1, True)


def test_up_runs_everything(tmp_path: Path, database: str, amqp_url: str) -> None:
    """`renewd up`: all processes start, a killed one comes back, Ctrl-C ends all in time."""
    with running(
        *("-m", "console", "up", "--workers", "2"),
        log=tmp_path / "log",
        RENEWD_AMQP_URL=amqp_url,
        RENEWD_GATEWAYS=GATEWAYS,
        RENEWD_METRICS_PORT="0",
    ) as up:
        up.wait_for("worker_started", times=2)
        up.wait_for("scheduler_started")
        up.wait_for("platform_started")
        worker = next(
            child
            for child in psutil.Process(up.process.pid).children()
            if child.cmdline()[-1] == "worker"
        )
        worker.kill()
        up.wait_for("worker_started", times=3)
        restarted = up.events("metrics_listening")[-1]["port"]
        assert wait_until(lambda: is_healthy(restarted), seconds=SECONDS)
        code, seconds = up.end(signal.SIGINT)
        assert (code, seconds < 30) == (0, True), up.printed()[-40:]
        (died,) = up.events("child_died")
        assert (died["exit_code"], died["process"]) == (-9, "up")
        assert psutil.pid_exists(worker.pid) is False


def test_up_needs_its_servers() -> None:
    """Without settings it ends at once: exit 2 and one line."""
    ran = renewd_here("up")
    assert (ran.code, ran.complaint) == (
        2,
        "RENEWD_DATABASE_URL is missing: should be the Postgres database",
    )


def test_sandbox_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    """It answers with the key of RENEWD_GATEWAYS for its port, keeps a ledger, and ends well."""
    port = free_port()
    gateway = {"adapter": "sandbox", "base_url": f"http://127.0.0.1:{port}", "api_key": API_KEY}
    with running(
        *("-m", "console", "sandbox", "--port", str(port), "--latency-ms", "20"),
        *("--ledger", str(tmp_path / "ledger")),
        log=tmp_path / "log",
        RENEWD_GATEWAYS=json.dumps({GATEWAY: gateway}),
        RENEWD_METRICS_PORT="0",
    ) as sandbox:
        sandbox.wait_for("sandbox_listening")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/charges")
        request.add_header("Authorization", f"Bearer {API_KEY}")
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert (answer.status, json.load(answer)["data"]) == (200, [])
        (metrics,) = sandbox.events("metrics_listening")
        assert is_healthy(metrics["port"])
        assert sandbox.end()[0] == 0
    assert (tmp_path / "ledger").exists()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{"faults": {"rates": {"explode": 1}}}', "faults.rates.explode"),
        ('{"faults": {"rates": {"silence": 0.9, "reset": 0.9}}}', "rates add up to 1.8"),
        ('{"seeds": 1}', "seeds"),
        ("[]", "should hold a JSON object"),
        ("{", "should be a JSON file"),
    ],
)
def test_faults_of_the_sandbox_are_checked(tmp_path: Path, written: str, expected: str) -> None:
    """A file that says nothing sensible: exit 2 and one line that names the field."""
    (tmp_path / "faults.json").write_text(written)
    ran = renewd_here("sandbox", "--faults", str(tmp_path / "faults.json"))
    assert ran.code == 2
    assert expected in ran.complaint


def test_a_taken_port_of_the_sandbox_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else listens: exit 2, and the option is named."""
    monkeypatch.setenv("RENEWD_METRICS_PORT", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = renewd_here("sandbox", "--port", str(port))
    assert ran.code == 2
    assert f"--port is {port}" in ran.err.splitlines()[-1]
