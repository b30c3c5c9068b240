"""What every long-running process does alike: end on a signal, and in time."""

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from worker import limits

OVERDUE_SECONDS = limits.STOP_SECONDS - 0.5
"""A stop that takes longer is cut: the supervisor's SIGKILL would come a moment later anyway."""

GC_THRESHOLD = 50_000
"""Thousands of calls in flight are live objects that the collector would walk again and again."""

log = structlog.get_logger()


def calm_collector() -> None:
    """Keep what was imported out of garbage collection, and collect less often; call once set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def stop_on_signals() -> threading.Event:
    """Set the returned event on SIGTERM and SIGINT, however often they come.

    Supervisors signal a process and then its whole group, so the second one must be harmless. Call
    it from the main thread.
    """
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Not here: the handler may have interrupted this very thread inside the event's own lock.
        threading.Thread(target=stopping.set, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


@contextmanager
def timely_stop() -> Iterator[None]:
    """Log a stop and how long it took; end the process with exit code 1 if it takes too long.

    Nothing is lost by that: what was under way is committed as `sent`, reconciliation finds it.
    """
    log.info("process_stopping")
    started = time.monotonic()
    overdue = threading.Timer(OVERDUE_SECONDS, _exit_overdue)
    overdue.daemon = True
    overdue.start()
    try:
        yield
    finally:
        overdue.cancel()
        log.info("process_stopped", seconds=round(time.monotonic() - started, 2))


def _exit_overdue() -> None:
    log.error("stop_overdue", seconds=OVERDUE_SECONDS)
    os._exit(1)
