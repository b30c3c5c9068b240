"""`renewd demo`, `bench` and `clock`: what would happen, how fast it is, and what time it is."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from console import rooms, terminal
from console.database import answering, connected
from console.options import UNKNOWN, AsJson, Who, configured, printable
from console.terminal import when
from worker.settings import Settings
from worker.store import control

TIME = "lab.virtual_time"

app = typer.Typer()
clock = typer.Typer(invoke_without_command=True, help="Read the test clock, or move it.")
app.add_typer(clock, name="clock")

Subscriptions = Annotated[int, typer.Option(min=1, help="How many subscriptions.")]


class Measure(StrEnum):
    """What `renewd bench` measures."""

    RENEWALS = "renewals"
    GROWTH = "growth"
    INTAKE = "intake"
    RELAY = "relay"


@app.command()
def demo(
    *,
    subscriptions: Subscriptions = 2000,
    months: Annotated[int, typer.Option(min=1, help="How long, in virtual time.")] = 12,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep it running afterwards, with /metrics.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another year.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Simulate a year of renewals; needs no server.

    It runs on an embedded Postgres and reads no setting.
    """
    code: int = rooms.call(
        "lab.demo",
        "run_demo",
        subscriptions=subscriptions,
        months=months,
        as_json=as_json,
        keep=keep,
        seed=seed,
    )
    return code


@app.command()
def bench(
    *,
    what: Annotated[Measure, typer.Argument(metavar="renewals|growth|intake|relay")],
    subscriptions: Subscriptions = 100_000,
    due: Annotated[int, typer.Option(min=1, help="How many of them are due.")] = 50_000,
    latency_ms: Annotated[int, typer.Option(min=0, help="Of the sandbox gateway.")] = 200,
    as_json: AsJson = False,
) -> int:
    """Measure renewd on private servers.

    Prints the machine, the figure and the ratio to a bare loop measured in the same run.
    """
    code: int = rooms.call(
        "lab.bench",
        "run_bench",
        what.value,
        subscriptions=subscriptions,
        due=due,
        latency_ms=latency_ms,
        as_json=as_json,
    )
    return code


@clock.callback()
def read_clock(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Read the test clock, or move it with `renewd clock advance 3d`."""
    if context.invoked_subcommand is not None:
        context.obj = as_json
        return
    settings = configured("database_url")
    state = asyncio.run(_read(settings))
    if as_json:
        terminal.print_json({"now": state.now, "is_virtual": state.is_virtual})
    elif state.is_virtual:
        terminal.print_line(f"{when(state.now)} by the test clock, which stands still")
    else:
        terminal.print_line(f"{when(state.now)} by the database; the test clock was never moved")


@clock.command()
def advance(
    context: typer.Context,
    *,
    span: Annotated[str, typer.Argument(help="A number and m, h, d or w, like 3d.")],
    jump: Annotated[bool, typer.Option("--jump", help="In one step, as after a downtime.")] = False,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """Move business time on: from due instant to due instant, letting everything due finish.

    Refused unless every gateway has adapter sandbox.
    """
    settings = configured("database_url", "amqp_url")
    wanted = rooms.call(TIME, "parse_span", span)
    rooms.call(TIME, "require_sandboxes", settings)
    asyncio.run(_log(settings, who=printable(who), span=span, jump=jump))
    with answering(settings):
        moved = asyncio.run(rooms.call(TIME, "advance_clock", settings, span=wanted, jump=jump))
    if as_json or context.obj:
        terminal.print_json({"now": moved.now, "advanced_seconds": moved.advanced_seconds})
    else:
        terminal.print_line(f"the test clock stands at {when(moved.now)}")


async def _read(settings: Settings) -> control.Control:
    async with connected(settings) as conn:
        return await control.read(conn)


async def _log(settings: Settings, *, who: str, span: str, jump: bool) -> None:
    why = f"{span}{' in one jump' if jump else ''}"
    async with connected(settings) as conn:
        await control.log_verb(conn, who=who, verb="clock advance", subject="clock", why=why)
