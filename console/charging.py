"""`renewd pause-charging` and `resume-charging`: the kill switches."""

import asyncio
from typing import Annotated, NamedTuple

import typer

from console import terminal
from console.database import connected
from console.options import UNKNOWN, AsJson, Who, Why, configured, printable
from scheduler.store import claims
from worker.db import Connection
from worker.errors import UsageError
from worker.settings import Settings
from worker.store import control, parties, plans

app = typer.Typer()

Gateway = Annotated[str | None, typer.Option(help="Only charges at this gateway.")]
Seller = Annotated[str | None, typer.Option(help="Only charges for this seller.")]
Plan = Annotated[str | None, typer.Option(help="Only charges for this plan.")]


class Scope(NamedTuple):
    """What a switch closes; everything where `kind` is global."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" if self.id else "everywhere"


@app.command("pause-charging")
def pause_charging(
    *,
    why: Why,
    gateway: Gateway = None,
    seller: Seller = None,
    plan: Plan = None,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """Stop charging, everywhere or in one scope.

    When this returns, nothing new is sent. Charges that are on their way are resolved. Nothing is lost: what falls due waits.
    """
    scope = _scope(gateway, seller, plan)
    settings = configured("database_url")
    asyncio.run(_pause(settings, scope, who=printable(who), why=printable(why)))
    if as_json:
        terminal.print_json({"scope": scope.kind, "scope_id": scope.id, "paused": True})
    else:
        terminal.print_line(f"charging is paused: {scope}")


@app.command("resume-charging")
def resume_charging(
    *,
    why: Why,
    gateway: Gateway = None,
    seller: Seller = None,
    plan: Plan = None,
    who: Who = UNKNOWN,
    as_json: AsJson = False,
) -> None:
    """Charge again where it was paused.

    Other switches stay as they are.
    """
    scope = _scope(gateway, seller, plan)
    settings = configured("database_url")
    was_paused, left = asyncio.run(_resume(settings, scope, who=printable(who), why=printable(why)))
    if as_json:
        still = [{"scope": pause.scope, "scope_id": pause.scope_id} for pause in left]
        terminal.print_json(
            {
                "scope": scope.kind,
                "scope_id": scope.id,
                "paused": False,
                "was_paused": was_paused,
                "still_paused": still,
            }
        )
        return
    done = "charging goes on" if was_paused else "charging was not paused"
    terminal.print_line(f"{done}: {scope}")
    for pause in left:
        name = Scope(pause.scope, pause.scope_id)
        terminal.print_line(f"still paused: {name}, by {pause.paused_by}: {pause.reason}")


async def _pause(settings: Settings, scope: Scope, *, who: str, why: str) -> None:
    async with connected(settings) as conn, conn.transaction():
        if not await _is_known(conn, settings, scope):
            raise UsageError(f"--{scope.kind} is {scope.id!r}: should be one that exists")
        await control.pause(conn, scope=scope.kind, scope_id=scope.id, reason=why, who=who)


async def _is_known(conn: Connection, settings: Settings, scope: Scope) -> bool:
    """A switch that names nothing would seem to be on, and stop nothing."""
    match scope.kind:
        case "gateway":
            return scope.id in settings.gateways or scope.id in await claims.read_paces(conn)
        case "seller":
            return scope.id in await parties.read_sellers(conn, [scope.id], lock=())
        case "plan":
            return scope.id in await plans.read(conn, [scope.id])
        case _:
            return True


async def _resume(
    settings: Settings, scope: Scope, *, who: str, why: str
) -> tuple[bool, list[control.Pause]]:
    async with connected(settings) as conn:
        async with conn.transaction():
            was_paused = await control.resume(
                conn, scope=scope.kind, scope_id=scope.id, reason=why, who=who
            )
        return was_paused, list(await control.read_pauses(conn))


def _scope(gateway: str | None, seller: str | None, plan: str | None) -> Scope:
    given = {"gateway": gateway, "seller": seller, "plan": plan}
    named = [Scope(kind, id_) for kind, id_ in given.items() if id_ is not None]
    if len(named) > 1:
        raise UsageError("--gateway, --seller, --plan: should be at most one of them")
    if named and not named[0].id:
        raise UsageError(f"--{named[0].kind} is empty: should be its id")
    return named[0] if named else Scope("global", "")
