"""Log lines: one shape for ours and for those of libraries, and nothing that nobody listed."""

import ast
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from worker.log_fields import ALLOWED_FIELDS
from worker.logs import TEXT_LIMIT, configure_logging

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "bind"}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    threading.excepthook = hook


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def configured(format: str = "json") -> Any:  # noqa: A002
    configure_logging(format=format, level="INFO", process="worker")
    return structlog.get_logger("renewd")


def test_our_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has time in UTC, level, process, logger, event and its fields."""
    configured().info("batch_renewed", gateway="main", claimed=3)
    (line,) = lines_of(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "batch_renewed",
        "level": "info",
        "logger": "renewd",
        "process": "worker",
        "gateway": "main",
        "claimed": 3,
    }


def test_line_of_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's line has the same shape, the fields bound for the doorbell included."""
    configured()
    with structlog.contextvars.bound_contextvars(message_id="m1", actor="renew"):
        logging.getLogger("dramatiq.worker").warning("Lost %s", "connection", extra={"body": "x"})
    (line,) = lines_of(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "Lost connection",
        "level": "warning",
        "logger": "dramatiq.worker",
        "process": "worker",
        "message_id": "m1",
        "actor": "renew",
    }


def test_unlisted_fields_are_dropped_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not on the allow-list is not written, but that it was there is."""
    configured().info("customer_seen", email="ada@example.org", card="4242", rows=1)
    (line,) = lines_of(capsys)
    assert line["dropped_fields"] == ["card", "email"]
    assert "ada" not in json.dumps(line)
    assert line["rows"] == 1


def test_urls_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """A URL in a log line has neither password nor query."""
    configured().info("server_awaited", url="amqp://renewd:hunter2@mq:5672/v?password=hunter2")
    (line,) = lines_of(capsys)
    assert line["url"] == "amqp://renewd:***@mq:5672/v"


def test_exception_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is type, first line and places, causes included; no locals, no DETAIL."""
    log = configured()

    def fail() -> None:
        token = "tok_secret"  # noqa: F841
        raise ValueError("duplicate key\nDETAIL:  Key (email)=(ada@example.org)")

    try:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError("batch failed") from error
    except RuntimeError:
        log.exception("batch_failed")
    (line,) = lines_of(capsys)
    shown = line["exception"]
    assert shown.startswith("RuntimeError: batch failed\n")
    assert "because of ValueError: duplicate key\n" in shown
    assert "test_logs.py" in shown
    assert "secret" not in shown
    assert "ada" not in shown


def test_long_texts_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A library that quotes a whole batch of ids does not fill the disk."""
    configured()
    logging.getLogger("dramatiq").error("Failed %s", "x" * 10_000)
    (line,) = lines_of(capsys)
    assert line["event"].endswith("(10007 characters)")
    assert len(line["event"]) < TEXT_LIMIT + 30


def test_quiet_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """Pika's and APScheduler's INFO and asyncpg's repeated floor warning are not written."""
    configured()
    logging.getLogger("pika.adapters").info("socket")
    logging.getLogger("apscheduler.executors.default").info("tick")
    logging.getLogger("asyncpg.pool").warning(
        "Failed to restore the pool connection floor; retrying"
    )
    assert lines_of(capsys) == []


def test_dead_thread_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread that dies says so in a log line, not in a bare traceback."""
    configured()

    def fail() -> None:
        raise RuntimeError("as planned")

    thread = threading.Thread(target=fail, name="relay")
    thread.start()
    thread.join()
    (line,) = lines_of(capsys)
    assert (line["event"], line["level"], line["thread"]) == ("thread_died", "critical", "relay")


def test_console_and_auto(capsys: pytest.CaptureFixture[str]) -> None:
    """Console lines are for people; auto means JSON where there is no terminal."""
    configured("console").info("sweep_ended", claimed=2)
    assert "claimed=2" in capsys.readouterr().err
    configured("auto").info("sweep_ended", claimed=2)
    (line,) = lines_of(capsys)
    assert line["claimed"] == 2


def _logged_fields(tree: ast.AST) -> Iterator[str]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for call in calls:
        if isinstance(call.func, ast.Attribute) and _logs(call.func):
            yield from (keyword.arg for keyword in call.keywords if keyword.arg)


def _logs(function: ast.Attribute) -> bool:
    if function.attr in {"bind_contextvars", "bound_contextvars"}:
        return True
    named_log = isinstance(function.value, ast.Name) and function.value.id in {"log", "logger"}
    return named_log and function.attr in METHODS


def test_every_logged_field_is_listed() -> None:
    """The code logs no field that would be dropped."""
    unlisted = {
        f"{path.relative_to(ROOT)}: {name}"
        for package in ("worker", "scheduler", "lab", "console")
        for path in (ROOT / package).rglob("*.py")
        for name in _logged_fields(ast.parse(path.read_text()))
        if name not in ALLOWED_FIELDS | {"exc_info"}
    }
    assert unlisted == set()
