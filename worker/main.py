"""The process `renewd worker`: set up, work until a signal, stop cleanly."""

from functools import partial

import structlog

from worker import metrics
from worker.broker import QUEUES, make_broker
from worker.context import open_context
from worker.embedded import EmbeddedWorker
from worker.health import start_health
from worker.limit_chain import check_limits
from worker.logs import configure_logging
from worker.process import calm_collector, stop_on_signals, timely_stop
from worker.settings import Settings

log = structlog.get_logger()


def run_worker(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT; return the exit code. Call it from the main thread.

    Servers that are away are waited for, at the start and later. Raises `SettingsError` for
    settings that break the chain of limits or name no port to listen on.
    """
    configure_logging(format=settings.log_format, level=settings.log_level, process="worker")
    check_limits(settings)
    metrics.show_build()
    stopping = stop_on_signals()
    worker = EmbeddedWorker(
        make_broker(settings),
        partial(open_context, settings),
        threads=settings.worker_threads,
        stopping=stopping,
    )
    health = start_health(
        settings.metrics_port_of("worker"),
        settings.metrics_host,
        process="worker",
        registry=metrics.REGISTRY,
        is_healthy=worker.is_healthy,
    )
    calm_collector()
    if worker.start():
        log.info("worker_started", threads=settings.worker_threads, queue=",".join(QUEUES))
        stopping.wait()
        with timely_stop():
            worker.stop()
    health.close()
    return 0
