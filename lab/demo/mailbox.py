"""A channel for notices that ends in memory: rendered like every mail, and counted instead of sent."""

from collections import Counter
from datetime import datetime

from worker.notices.channel import Rendered, Sent


class Mailbox:
    """Takes everything; satisfies `worker.notices.channel.Channel`."""

    name = "memory"

    def __init__(self) -> None:
        self.message_ids: Counter[str] = Counter()
        self.last: Rendered | None = None

    async def send(self, rendered: Rendered, *, to: str, at: datetime) -> Sent:
        """Keep that it came, and the newest one whole."""
        self.message_ids[rendered.message_id] += 1
        self.last = rendered
        return Sent()

    async def rest(self) -> None:
        """Nothing is open."""

    @property
    def sent(self) -> int:
        """Mails taken, each counted as often as it came."""
        return self.message_ids.total()
