"""The HTTP port of a process."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from worker.errors import SettingsError
from worker.health import HealthServer, start_health


@contextmanager
def serving(is_healthy: Callable[[], bool] = lambda: True, port: int = 0) -> Iterator[HealthServer]:
    registry = CollectorRegistry()
    Counter("renewd_probes", "Probes.", registry=registry).inc(3)
    health = start_health(
        port, "127.0.0.1", process="worker", registry=registry, is_healthy=is_healthy
    )
    try:
        yield health
    finally:
        health.close()


def get(health: HealthServer, path: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{health.port}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_served() -> None:
    """/metrics shows the registry in the Prometheus text format."""
    with serving() as health:
        status, content_type, body = get(health, "/metrics?x=1")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "renewd_probes_total 3.0\n" in body


@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 503)])
def test_health_is_a_status_and_a_line(healthy: bool, status: int) -> None:  # noqa: FBT001
    """/healthz says by its status and in one JSON line whether the process works."""
    with serving(lambda: healthy) as health:
        found, content_type, body = get(health, "/healthz")
    assert (found, content_type) == (status, "application/json")
    assert json.loads(body) == {"process": "worker", "healthy": healthy}


def test_broken_health_check_is_unhealthy() -> None:
    """A check that fails means no, and the port goes on answering."""

    def fail() -> bool:
        raise RuntimeError("as planned")

    with serving(fail) as health:
        assert get(health, "/healthz")[0] == 503
        assert get(health, "/metrics")[0] == 200


def test_nothing_else_is_served() -> None:
    """Any other path is not found."""
    with serving() as health:
        assert get(health, "/")[0] == 404


def test_taken_port_moves_to_the_next_and_is_logged() -> None:
    """Two workers on one machine need no setting: the second listens one port further on."""
    with serving() as first, capture_logs() as lines, serving(port=first.port) as second:
        assert first.port < second.port <= first.port + 50
        assert lines == [
            {
                "event": "metrics_listening",
                "log_level": "info",
                "host": "127.0.0.1",
                "port": second.port,
            }
        ]


def test_silent_client_holds_up_nobody() -> None:
    """A client that connects and says nothing does not keep others from their answer."""
    with serving() as health, socket.create_connection(("127.0.0.1", health.port)):
        assert get(health, "/healthz")[0] == 200


def test_wrong_address_is_one_line() -> None:
    """An address of another machine is refused with the setting's name."""
    with pytest.raises(SettingsError) as raised:
        start_health(
            0,
            "192.0.2.1",
            process="worker",
            registry=CollectorRegistry(),
            is_healthy=lambda: True,
        )
    assert str(raised.value).startswith("RENEWD_METRICS_HOST is '192.0.2.1'")
