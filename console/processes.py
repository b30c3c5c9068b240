"""`renewd scheduler`, `worker` and `platform`: one process each, until SIGTERM or Ctrl-C."""

import importlib

import typer

from worker.settings import load_settings

SERVERS = ("database_url", "amqp_url")

app = typer.Typer()


@app.command()
def scheduler() -> int:
    """Find what is due and ring the workers; any number may run."""
    return _run("scheduler.main", "run_scheduler")


@app.command()
def worker() -> int:
    """Charge, settle, reconcile and remind; any number may run."""
    return _run("worker.main", "run_worker")


@app.command()
def platform() -> int:
    """Take the platform's messages in and tell it what changed; any number may run."""
    return _run("worker.platform.main", "run_platform")


def _run(module: str, function: str) -> int:
    settings = load_settings(require=SERVERS)
    run = getattr(importlib.import_module(module), function)
    code: int = run(settings)
    return code
