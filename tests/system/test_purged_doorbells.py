"""Doorbells may all be lost: what is due is found again within one lease and two sweeps."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.system.book import Book
from tests.system.fleet import wait_for
from tests.system.month import (
    LEASE_SECONDS,
    SWEEP_SECONDS,
    all_charged,
    purge,
    stage,
    taken,
)
from tests.system.outside import publish_side_by_side

WORK_SECONDS = 20
"""What charging 600 takes on a busy machine, once they are claimed again."""


@pytest.mark.timeout(300)
def test_purged_doorbells_are_rung_again(tmp_path: Path, seed: int) -> None:
    """Everything is claimed and rung, no worker is there, and the queue is wiped: all is charged."""
    size = 600
    now = datetime.now(UTC).replace(microsecond=0)
    book = Book(size, random.Random(seed), now, due_from=now - timedelta(hours=2))
    with stage(tmp_path, processes=("platform-1",)) as (made, _):
        publish_side_by_side(made.amqp_url, list(book.messages()), publishers=2)
        wait_for(taken(made, size), seconds=120, what=f"{size} subscriptions")
        made.fleet.start("scheduler-1")
        claimed = "subscription WHERE claimed_until IS NOT NULL"
        wait_for(lambda: made.count(claimed) == size, seconds=20, what="every row claimed")
        assert purge(made, "charge") > 0
        made.fleet.start("worker-1")
        within = LEASE_SECONDS + 2 * SWEEP_SECONDS + WORK_SECONDS
        wait_for(all_charged(made, size), seconds=within, what="every charge")
        assert made.fleet.command("audit", "--gateway-ledger")["ok"]
