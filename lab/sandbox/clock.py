"""Gateway time: the machine's until a test clock is set, then that instant until the next one."""

from datetime import UTC, datetime


class GatewayClock:
    """Reads business time for the whole gateway. Machine time (latency) never comes from here."""

    def __init__(self, fixed_at: datetime | None = None) -> None:
        self.fixed_at = fixed_at

    def now(self) -> datetime:
        return self.fixed_at or datetime.now(UTC)

    def set(self, now: datetime | None) -> None:
        """Stand still at `now` (aware); None follows the machine again."""
        self.fixed_at = None if now is None else now.astimezone(UTC)
