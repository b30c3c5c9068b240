"""`renewd check`: is everything there that renewd needs? One line each."""

import asyncio

import typer

from console import terminal
from console.checks import Finding, Health, check_all
from console.options import AsJson, configured
from worker.errors import RenewdError, ServerUnreachable
from worker.limit_chain import check_limits
from worker.settings import Settings

app = typer.Typer()


@app.command()
def check(*, as_json: AsJson = False) -> int:
    """Look whether all that renewd needs is there.

    Settings, database, schema, clock, broker, gateways and mail, one line each. Exit code 0: all good. 1: one is bad. 2: the settings are wrong. 3: a server does not answer.
    """
    settings = configured("database_url", "amqp_url")
    check_limits(settings)
    findings = asyncio.run(_look(settings, shown=not as_json))
    bad = [finding for finding in findings if finding.health is not Health.GOOD]
    if as_json:
        checks = [
            {"name": f.name, "ok": f.health is Health.GOOD, "detail": f.detail} for f in findings
        ]
        terminal.print_json({"ok": not bad, "checks": checks})
    if any(finding.health is Health.AWAY for finding in bad):
        return ServerUnreachable.exit_code
    return RenewdError.exit_code if bad else 0


async def _look(settings: Settings, *, shown: bool) -> list[Finding]:
    """All findings, each printed as soon as it is known."""
    width = max(map(len, ("settings", *(f"gateway {name}" for name in settings.gateways))))
    findings = []
    async for finding in check_all(settings):
        findings.append(finding)
        if shown:
            _print(finding, width)
    return findings


def _print(finding: Finding, width: int) -> None:
    good = finding.health is Health.GOOD
    terminal.print_verdict(finding.name, finding.detail, good=good, width=width)
