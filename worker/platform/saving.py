"""Writing a desk: a fixed number of statements, whatever the size of the batch."""

from worker import cases
from worker.db import Connection
from worker.platform.desk import Desk
from worker.store import hints, inbox, methods, parties, plans, signups

ACTOR = "intake"


async def save(conn: Connection, desk: Desk) -> None:
    """Write what the batch changed, referenced rows before those that name them."""
    await parties.write_sellers(conn, list(desk.sellers.changed.values()))
    await plans.write(conn, list(desk.plans.changed.values()), desk.new_prices)
    await parties.write_customers(conn, list(desk.customers.changed.values()))
    await methods.write(conn, list(desk.methods.changed.values()))
    await signups.insert(conn, list(desk.signups.values()))
    await signups.point(conn, [s for id_, s in desk.pointed.items() if id_ not in desk.signups])
    # Before the new messages are numbered: what is sent again is older than all of them.
    for subscription_id, from_sequence in desk.resends:
        await signups.resend(conn, subscription_id, from_sequence=from_sequence)
    await cases.save(conn, desk.cases, actor=ACTOR, now=desk.now)
    await hints.look_again(conn, list(desk.hints), now=desk.now)
    await inbox.write_versions(conn, list(desk.new_versions.items()))
