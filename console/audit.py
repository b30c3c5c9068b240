"""`renewd audit`: every invariant, and with `--gateway-ledger` every charge of every gateway."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import typer

from console import terminal
from console.database import connected
from console.options import AsJson, configured
from console.terminal import Style
from scheduler import invariants
from scheduler.invariants import INVARIANTS, Verdict
from scheduler.store import invariants as invariants_store
from worker.db import Connection
from worker.errors import RenewdError
from worker.gateways import open_gateways
from worker.ledger_import import import_ledgers
from worker.settings import Settings
from worker.store import control

NAMED_AT_MOST = 10_000
"""Rows that are named one by one for each invariant of the ledger; their number is told anyway."""

app = typer.Typer()


class Report(NamedTuple):
    """What was found; `charges` by gateway, `unexplained` all rows of the ledger's invariants."""

    verdicts: Sequence[Verdict]
    charges: Mapping[str, int]
    unexplained: Mapping[str, Sequence[str]]


@app.command()
def audit(
    *,
    gateway_ledger: Annotated[
        bool,
        typer.Option(
            "--gateway-ledger",
            help="First import each gateway's own ledger, then compare it with ours both ways.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check every invariant, one line each.

    Exit code 1 if one is broken.
    """
    settings = configured("database_url", *(["gateways"] if gateway_ledger else []))
    report = asyncio.run(_audit(settings, with_ledger=gateway_ledger))
    ok = all(verdict.ok for verdict in report.verdicts)
    if as_json:
        terminal.print_json(_as_json(report, ok=ok))
    else:
        _print(report)
    return 0 if ok else RenewdError.exit_code


async def _audit(settings: Settings, *, with_ledger: bool) -> Report:
    async with connected(settings) as conn:
        now = await control.read_now(conn)
        charges = await _import(conn, settings) if with_ledger else {}
        verdicts = await invariants.check(conn, now=now, with_ledger=with_ledger)
        unexplained = await _name_all(conn, verdicts) if with_ledger else {}
        return Report(verdicts, charges, unexplained)


async def _import(conn: Connection, settings: Settings) -> dict[str, int]:
    gateways = open_gateways(settings)
    try:
        return await import_ledgers(conn, gateways, now=await control.read_now(conn))
    finally:
        for gateway in gateways.values():
            await gateway.close()


async def _name_all(conn: Connection, verdicts: Sequence[Verdict]) -> dict[str, Sequence[str]]:
    """Every row of the ledger's broken invariants: each is money that somebody has to explain."""
    statements = {i.name: i.statement for i in INVARIANTS if i.needs_ledger}
    now = await control.read_now(conn)
    named: dict[str, Sequence[str]] = {}
    for verdict in verdicts:
        if not verdict.ok and verdict.name in statements:
            _, rows = await invariants_store.count(
                conn, statements[verdict.name], now=now, sample=NAMED_AT_MOST
            )
            named[verdict.name] = rows
    return named


def _as_json(report: Report, *, ok: bool) -> dict[str, object]:
    found = [
        {
            "name": verdict.name,
            "meaning": verdict.meaning,
            "ok": verdict.ok,
            "rows": verdict.rows,
            "sample": report.unexplained.get(verdict.name, verdict.sample),
        }
        for verdict in report.verdicts
    ]
    return {"ok": ok, "invariants": found, "ledger_charges": report.charges}


def _print(report: Report) -> None:
    for gateway, count in report.charges.items():
        terminal.print_line(f"gateway {gateway}: {count} charges in its ledger", Style.QUIET)
    width = max(len(verdict.name) for verdict in report.verdicts)
    for verdict in report.verdicts:
        terminal.print_verdict(verdict.name, _detail(verdict), good=verdict.ok, width=width)
    for name, rows in report.unexplained.items():
        for row in rows:
            terminal.print_line(f"unexplained: {name}: {row}", Style.BAD)


def _detail(verdict: Verdict) -> str:
    if verdict.ok:
        return verdict.meaning
    sample = ", ".join(verdict.sample)
    more = ", …" if verdict.rows > len(verdict.sample) else ""
    return f"{verdict.meaning}: {verdict.rows} rows break it ({sample}{more})"
