"""The history of every state machine: one row per move, written with the move itself."""

from collections.abc import Sequence
from datetime import datetime

from billing.lifecycle import Move
from worker.db import Connection

__all__ = ["Move", "record"]

INSERT = """
INSERT INTO transition (subscription_id, machine, subject, from_state, to_state, reason, actor, at)
SELECT t.*, $7, $8
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS t
"""


async def record(conn: Connection, moves: Sequence[Move], *, actor: str, now: datetime) -> None:
    """Write the moves in order; `actor` names the flow (`settle`, `intake`, an operator)."""
    if moves:
        await conn.execute(
            INSERT,
            [move.subscription_id for move in moves],
            [move.machine for move in moves],
            [move.subject for move in moves],
            [move.before for move in moves],
            [move.after for move in moves],
            [move.reason for move in moves],
            actor,
            now,
        )
