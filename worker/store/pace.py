"""The pace of each gateway, in machine time: the last statement of a transaction that sends.

One UPDATE a batch: a row that is updated early in a transaction makes all workers as fast as one.
"""

from collections.abc import Mapping

from worker.db import Connection

DECLARE = """
INSERT INTO gateway_state (gateway, max_per_second)
SELECT * FROM unnest($1::text[], $2::int[])
ON CONFLICT (gateway) DO UPDATE SET max_per_second = excluded.max_per_second
 WHERE gateway_state.max_per_second <> excluded.max_per_second
"""
RESERVE = """
UPDATE gateway_state
   SET free_at = greatest(free_at, clock_timestamp()) + make_interval(secs => $2::float8 / $3)
 WHERE gateway = $1
RETURNING extract(epoch FROM free_at - clock_timestamp())::float8 - $2::float8 / $3
"""
REST = """
UPDATE gateway_state
   SET resting_until = greatest(resting_until, clock_timestamp() + make_interval(secs => $2))
 WHERE gateway = $1
"""


async def declare(conn: Connection, paces: Mapping[str, int]) -> None:
    """Write down the configured paces, in charges per second."""
    names = sorted(paces)
    await conn.execute(DECLARE, names, [paces[name] for name in names])


async def reserve(conn: Connection, gateway: str, *, charges: int, per_second: int) -> float:
    """Take the next free stretch of the gateway's time; returns the seconds until it begins."""
    begins_in: float = await conn.fetchval(RESERVE, gateway, charges, per_second)
    return max(0.0, begins_in)


async def rest(conn: Connection, gateway: str, *, seconds: float) -> None:
    """Claim nothing for this gateway for a while: it asked for it."""
    await conn.execute(REST, gateway, seconds)
