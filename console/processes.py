"""`renewd scheduler`, `worker` and `platform`: one process each, until SIGTERM or Ctrl-C."""

from collections.abc import Collection

import typer

from console import rooms
from worker.settings import load_settings

SERVERS = ("database_url", "amqp_url")
CHARGING = (*SERVERS, "gateways")

app = typer.Typer()


@app.command()
def scheduler() -> int:
    """Find what is due and ring the workers.

    Any number may run. SIGTERM or Ctrl-C ends it.
    """
    return _run("scheduler.main", "run_scheduler", CHARGING)


@app.command()
def worker() -> int:
    """Charge, settle, reconcile, remind.

    Any number may run. SIGTERM or Ctrl-C ends it.
    """
    return _run("worker.main", "run_worker", CHARGING)


@app.command()
def platform() -> int:
    """Take messages in, send messages out.

    Any number may run. SIGTERM or Ctrl-C ends it.
    """
    return _run("worker.platform.main", "run_platform", SERVERS)


def _run(module: str, function: str, needed: Collection[str]) -> int:
    code: int = rooms.call(module, function, load_settings(require=needed))
    return code
