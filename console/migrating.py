"""`renewd migrate`: the database and the broker's exchanges and queues, brought to this version."""

import asyncio

import typer

from console import terminal
from console.database import connected
from console.options import AsJson, configured
from worker import migrations
from worker.platform.topology import declare_topology
from worker.settings import Settings

app = typer.Typer()


@app.command()
def migrate(*, as_json: AsJson = False) -> None:
    """Bring the database and the broker to this version.

    Safe to run twice, at the same time as another one, and while old workers run. Without
    RENEWD_AMQP_URL the broker is left alone.
    """
    settings = configured("database_url")
    known = migrations.load()
    applied = asyncio.run(_migrate(settings, known))
    if settings.amqp_url:
        declare_topology(settings)
    names = [f"{migration.version:04d}_{migration.name}" for migration in applied]
    if as_json:
        terminal.print_json(
            {
                "version": known[-1].version,
                "applied": names,
                "broker_declared": bool(settings.amqp_url),
            }
        )
        return
    for name in names:
        terminal.print_line(f"applied {name}")
    terminal.print_line(f"the database is at version {known[-1].version}")
    if settings.amqp_url:
        terminal.print_line("the broker has its exchanges and queues")


async def _migrate(
    settings: Settings, known: list[migrations.Migration]
) -> list[migrations.Migration]:
    async with connected(settings) as conn:
        return await migrations.migrate(conn, known)
