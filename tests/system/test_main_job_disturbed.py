"""The main job while everything that can die dies: the result is the same."""

from pathlib import Path

import pytest

from tests.system.month import PROCESSES, Stage, live_through_a_month, purge

DOORBELL_QUEUES = ("charge", "maintenance", "notify")


@pytest.mark.timeout(600)
def test_any_process_and_server_may_die_in_the_middle(tmp_path: Path, seed: int) -> None:
    """Kill -9 of every process, a restart of both servers, purged doorbells: the same result."""
    live_through_a_month(tmp_path, seed, size=1_500, disturb=disturb)


def disturb(made: Stage) -> None:
    """Everything that may happen, while the first charges are under way."""
    for name in PROCESSES:
        made.fleet.kill(name)
    made.fleet.kill("sandbox-1")
    made.broker.restart()
    made.database.restart()
    for queue in DOORBELL_QUEUES:
        purge(made, queue)
