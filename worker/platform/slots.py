"""Which slots of the outbox a relay owns, and how relays share them fairly.

Each relay holds an advisory lock that says "I am here" and one per slot it owns, all on the session of
one direct connection. Every few seconds it counts the relays: holding more than ceil(64 / relays) it
gives idle ones back, holding fewer it takes free ones, up to that share. A relay that dies loses its
session and thereby everything at once; nobody has to be told.
"""

from collections.abc import Collection

from billing.messages import SLOTS
from worker.db import Connection
from worker.store import relay


class Slots:
    """The slots that one session owns; `owned` rotates, so that none of them starves."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.owned: list[int] = []

    async def rebalance(self, *, busy: Collection[int]) -> bool:
        """Give or take slots towards a fair share, never one that is `busy`; True if any moved."""
        locks = await relay.read_locks(self._conn)
        share = -(-SLOTS // locks.relays)
        surplus = len(self.owned) - share
        if surplus > 0:
            return await self._give([slot for slot in self.owned if slot not in busy][:surplus])
        free = [slot for slot in range(SLOTS) if slot not in locks.taken]
        return await self._take(free[:-surplus])

    def rotate(self, last: int) -> None:
        """Put the slots after `last` in front: they are served next."""
        following = self.owned.index(last) + 1
        self.owned = self.owned[following:] + self.owned[:following]

    async def _give(self, slots: list[int]) -> bool:
        if slots:
            await relay.give_slots(self._conn, slots)
            self.owned = [slot for slot in self.owned if slot not in slots]
        return bool(slots)

    async def _take(self, slots: list[int]) -> bool:
        taken = await relay.take_slots(self._conn, slots) if slots else set()
        self.owned += sorted(taken)
        return bool(taken)
