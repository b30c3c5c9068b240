"""Structured logs: one handler formats our lines and those of dramatiq, pika, apscheduler, aiohttp.

Every line is an event `noun_verbed` with fields of one allow-list. A field that is not on it is
dropped and only its name is kept in `dropped_fields`: what nobody listed may hold a name, a token
or a request body. Exceptions are shown by type, first line and places, never with local variables,
and a Postgres DETAIL (which quotes the row) never leaves the process.
"""

import logging
import sys
import threading
import traceback

import structlog
from structlog.typing import EventDict, Processor

from worker.log_fields import ALLOWED_FIELDS
from worker.settings_values import MaskedUrl

TEXT_LIMIT = 400
"""Longest text of a field: dramatiq's lines quote all ids of a doorbell."""

FRAMES_LIMIT = 12
CAUSES_LIMIT = 4

_QUIET = {
    "pika": logging.WARNING,  # INFO tells every socket
    "pika.adapters": logging.CRITICAL,  # eight errors per refused connection; we tell it once
    "apscheduler": logging.CRITICAL,  # a tick that crashed is logged by our own listener
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
}
_FIRST_KEYS = ("time", "level", "process", "logger", "event")
_OUR_KEYS = frozenset({*_FIRST_KEYS, "exception"})
# Of foreign records only these go on; ProcessorFormatter adds and removes the others itself.
_INNER_KEYS = frozenset({"_record", "_from_structlog", "exc_info", "stack_info"})

_STRUCTLOG_CHAIN: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
_FOREIGN_CHAIN: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


def configure_logging(*, format: str, level: str, process: str) -> None:  # noqa: A002
    """Send all logs of this process to stderr.

    `format` is json, console or auto (console on a terminal), `level` the least level of our own
    lines, `process` the name put into each line. May be called again; the last call counts.
    """
    json_lines = format == "json" or (format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(process, json_lines=json_lines))
    handler.addFilter(_is_worth_telling)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    structlog.configure(
        processors=_STRUCTLOG_CHAIN,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    threading.excepthook = _log_dead_thread


def _formatter(process: str, *, json_lines: bool) -> logging.Formatter:
    def name_process(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(timestamp_key="time", colors=sys.stderr.isatty())
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_FOREIGN_CHAIN,
        processors=[
            name_process,
            keep_allowed,
            show_exception,
            shorten_texts,
            _arrange,
            renderer,
        ],
    )


def keep_allowed(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Drop each field that is not on the allow-list, naming it in `dropped_fields`; mask URLs."""
    known = ALLOWED_FIELDS | _OUR_KEYS | _INNER_KEYS
    dropped = sorted(key for key in event if key not in known)
    for key in dropped:
        del event[key]
    if dropped:
        event["dropped_fields"] = dropped
    if "url" in event:
        event["url"] = MaskedUrl(event["url"]).masked()
    return event


def show_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Turn `exc_info` into a text of types, first lines and places, causes included."""
    found = event.pop("exc_info", None)
    if isinstance(found, BaseException):
        event["exception"] = _chain_of(found)
    elif found:
        error = found[1] if isinstance(found, tuple) else sys.exc_info()[1]
        if error is not None:
            event["exception"] = _chain_of(error)
    return event


def shorten_texts(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Cut texts longer than `TEXT_LIMIT`; exceptions are bounded by their frames."""
    for key, text in event.items():
        if isinstance(text, str) and len(text) > TEXT_LIMIT and key != "exception":
            event[key] = f"{text[:TEXT_LIMIT]}… ({len(text)} characters)"
    return event


def _chain_of(error: BaseException) -> str:
    shown: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(shown) < CAUSES_LIMIT:
        shown.append(_one_of(seen))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n because of ".join(shown)


def _one_of(error: BaseException) -> str:
    first_line = str(error).partition("\n")[0][:TEXT_LIMIT]
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_LIMIT:]
    places = [f"\n  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return f"{type(error).__qualname__}: {first_line}{''.join(places)}"


def _arrange(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key in _INNER_KEYS:
        event.pop(key, None)
    return {key: event[key] for key in _FIRST_KEYS if key in event} | dict(event)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    # asyncpg's pool tells an outage again and again with a traceback; whoever uses it tells it too.
    return "Failed to restore the pool connection floor" not in record.getMessage()


def _log_dead_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread else ""
    structlog.get_logger().critical("thread_died", thread=name, exc_info=args.exc_value)
