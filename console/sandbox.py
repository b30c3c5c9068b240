"""`renewd sandbox`: the sandbox gateway as a process of its own."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from pydantic import ValidationError

from lab.sandbox import LedgerError, SandboxConfig, run
from lab.sandbox.config import first_problem
from worker import metrics
from worker.errors import RenewdError, UsageError
from worker.health import start_health
from worker.logs import configure_logging
from worker.settings import Settings, load_settings

PORT = 9470
KEY = "sandbox"
"""The key that it takes where nobody says another one: it guards nothing of value."""

app = typer.Typer()


@app.command()
def sandbox(
    *,
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = PORT,
    api_key: Annotated[
        str,
        typer.Option(
            envvar="RENEWD_SANDBOX_API_KEY",
            help="The key it takes; else that of RENEWD_GATEWAYS for this port.",
        ),
    ] = "",
    ledger: Annotated[
        Path | None, typer.Option(help="A file that keeps everything; else memory alone.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(min=0, help="From each request to its answer.")
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="A JSON file: {faults, faults_by_prefix, seed, page_size, …}."),
    ] = None,
) -> None:
    """Serve the sandbox gateway.

    It has its own ledger and every fault that one may ask for. SIGTERM or Ctrl-C ends it.
    """
    settings = load_settings()
    configure_logging(format=settings.log_format, level=settings.log_level, process="sandbox")
    told = _read(faults) if faults is not None else {}
    if latency_ms is not None:
        told["faults"] = told.get("faults", {}) | {"latency": {"ms": latency_ms}}
    told["api_key"] = api_key or told.get("api_key") or _configured_key(settings, port)
    _serve(settings, _config(told, faults), host=host, port=port, ledger=ledger)


def _serve(
    settings: Settings, config: SandboxConfig, *, host: str, port: int, ledger: Path | None
) -> None:
    health = start_health(
        settings.metrics_port_of("sandbox"),
        settings.metrics_host,
        process="sandbox",
        registry=metrics.REGISTRY,
        is_healthy=lambda: True,
    )
    try:
        uvloop.run(run(config, host=host, port=port, ledger_path=ledger))
    except LedgerError as error:
        raise RenewdError(str(error)) from error
    except OSError as error:
        line = f"--port is {port}, --host {host!r}: should be where one can listen"
        raise UsageError(f"{line} ({error.strerror})") from error
    finally:
        health.close()


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--faults is {str(path)!r}: should be a JSON file ({error})") from error
    if not isinstance(told, dict):
        raise UsageError(f"--faults is {str(path)!r}: should hold a JSON object")
    return told


def _config(told: dict[str, Any], path: Path | None) -> SandboxConfig:
    try:
        return SandboxConfig.model_validate_json(json.dumps(told))
    except ValidationError as error:
        field, expected = first_problem(error)
        source = "--faults" if path is None else str(path)
        raise UsageError(f"{source}: {field}: {expected}") from error


def _configured_key(settings: Settings, port: int) -> str:
    """The key that the gateway at this port is called with, so that both sides need one setting."""
    for gateway in settings.gateways.values():
        if gateway.base_url.endswith(f":{port}"):
            return gateway.api_key.get_secret_value()
    return KEY
