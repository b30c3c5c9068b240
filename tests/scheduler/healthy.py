"""A world in which everything is as it should be, with a bit of everything in it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from lab.sandbox import Fault, FaultPlan, SandboxFaults
from scheduler import invariants
from tests.world import START, World
from worker.db import Connection

NOW = START + timedelta(hours=2)

TOKENS = {
    "paid": "tok_ok_paid",
    "ended": "tok_ok_ended",
    "lost": "tok_ok_lost",
    "skipped": "tok_ok_skipped",
    "late": "tok_decline_insufficient_funds_1",
    "hard": "tok_decline_stolen_card_1",
    "recovered": "tok_seq_processing_error-ok_1",
    "voided": "tok_action_ok_1",
}
"""What their subscriptions are called, and how their cards answer."""

ATTEMPT = """
INSERT INTO attempt
SELECT (jsonb_populate_record(old, jsonb_build_object(
           'ordinal', old.ordinal + 1, 'fence', gen_random_uuid(), 'claimed_at', $2::timestamptz,
           'idempotency_key', 'b1:' || installation_id || ':' || encode(sha256(convert_to(
               old.invoice_id || ':' || old.ordinal + 1, 'UTF8')), 'hex')) || $3::jsonb)).*
  FROM attempt old, control WHERE old.subscription_id = $1
"""
MOVE = """
INSERT INTO transition (subscription_id, machine, subject, from_state, to_state, reason, actor, at)
SELECT subscription_id, 'attempt', invoice_id || ':' || ordinal, 'sent', state, '', '', $2
  FROM attempt WHERE subscription_id = $1 ORDER BY ordinal DESC LIMIT 1
"""


@dataclass(frozen=True)
class Healthy:
    """Where things are: one subscription of each kind, one invoice each."""

    conn: Connection
    invoices: dict[str, UUID]

    async def run(self, statement: str, *arguments: object) -> None:
        """Change something that must change a row, or the test breaks nothing."""
        done = await self.conn.execute(statement, *arguments)
        assert not done.endswith(" 0"), f"nothing was changed: {done}"

    async def another_attempt(self, sub: str, at: datetime, **changes: object) -> None:
        """A second attempt like the only one, claimed at that time, with its history."""
        await self.run(ATTEMPT, sub, at, changes)
        await self.run(MOVE, sub, at)

    async def broken(self) -> set[str]:
        """The invariants that do not hold."""
        verdicts = await invariants.check(self.conn, now=NOW, with_ledger=True)
        return {verdict.name for verdict in verdicts if not verdict.ok}


async def furnish(world: World) -> dict[str, UUID]:
    """Two hours of life at this world; its invoices by the name of their subscription."""
    lost = SandboxFaults(rates={Fault.RESET: 1})
    world.sandbox.set_faults(FaultPlan(faults_by_prefix={"tok_ok_lost": lost}))
    plan = await world.plan()
    long_ago = datetime(2025, 10, 31, 10, tzinfo=UTC)
    for name, token in TOKENS.items():
        due = long_ago if name == "skipped" else START
        await world.subscribe(token, plan=plan, name=name, due=due)
    await world.renew(*TOKENS)
    action = await world.row("attempt", subscription_id="voided")
    await world.context.gateways["sandbox"].cancel(action["gateway_ref"])
    await world.set_now(START + timedelta(hours=1))
    await world.reconcile()
    await world.collect_due()
    await world.cancel("ended")
    await world.set_now(NOW)
    assert await world.broken(with_ledger=True) == []
    rows = await world.fetch("SELECT subscription_id, invoice_id FROM invoice")
    return {row["subscription_id"]: row["invoice_id"] for row in rows}
