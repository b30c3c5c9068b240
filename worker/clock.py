"""The two clocks: business time, read from the database, may be virtual; machine time never is."""

import time

from worker.store.control import read_now as business_now

__all__ = ["business_now", "machine_now"]


def machine_now() -> float:
    """Seconds of a clock that only goes forward: for deadlines and pace, never for dates."""
    return time.monotonic()
