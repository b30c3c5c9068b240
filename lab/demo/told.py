"""What renewd tells the platform, read from its outbox into memory: the demo has no broker."""

import json
from collections import Counter

from billing.messages import SLOTS
from lab.demo.catalog import Json
from worker.db import Connection
from worker.store import relay

BATCH = 2000


class Told:
    """Counts the messages and checks that each subscription's come in order and without a gap."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._sequences: dict[str, int] = {}
        self.by_type: Counter[str] = Counter()
        self.out_of_order = 0

    async def read(self) -> list[Json]:
        """Everything not read before, in the order of the outbox."""
        messages: list[Json] = []
        full = True
        while full:
            rows = await relay.read_unpublished(self._conn, range(SLOTS), limit=BATCH)
            rows.sort(key=lambda row: row.position)
            messages += [json.loads(row.body) for row in rows]
            if rows:
                await relay.mark_published(self._conn, rows)
            full = len(rows) == BATCH
        for message in messages:
            self._note(message)
        return messages

    def _note(self, message: Json) -> None:
        self.by_type[message["type"]] += 1
        told = message["data"]
        if "sequence" in told:
            id_, sequence = told["subscription_id"], told["sequence"]
            self.out_of_order += sequence != self._sequences.get(id_, 0) + 1
            self._sequences[id_] = sequence
