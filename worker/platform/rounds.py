"""One pass over a batch: each message in the order it came, and with it all that waited for it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from billing.events import PlatformEvent, parse
from worker.db import Connection
from worker.platform.apply import apply
from worker.platform.desk import Desk
from worker.platform.loading import load
from worker.platform.references import brought_by, names_in
from worker.platform.saving import save
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Verdict
from worker.store import inbox, rejects
from worker.store.inbox import Clock
from worker.store.rejects import Reject


@dataclass(frozen=True, slots=True)
class Item:
    """A message to be applied: one that came just now, or one that was `kept` before."""

    event: PlatformEvent
    headers: Mapping[str, Any] = field(default_factory=dict)
    kept: Reject | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A message and what became of it."""

    item: Item
    verdict: Verdict


async def play(
    conn: Connection,
    items: Sequence[Item],
    *,
    clock: Clock,
    found_keys: Mapping[tuple[str, str], str],
    release: bool = True,
) -> list[Judged]:
    """Apply messages and write their effects; the caller holds the intake's lock, and commits.

    With `release` everything that waits for what they bring is applied with them, and what waits for
    that in turn. The verdicts come in the order in which the messages were applied.
    """
    waiting = await _waiting_for(conn, items, clock) if release else []
    desk = Desk(clock.now, found_keys=found_keys)
    await load(conn, desk, names_in(item.event for item in (*items, *waiting)))
    # After the locks: an end or a new card is stamped later than any attempt it came after.
    at_locks = await inbox.read_clock(conn)
    if at_locks.is_real is clock.is_real:
        desk.now = max(desk.now, at_locks.now)
    judged = _Round(desk, waiting).run(items)
    await save(conn, desk)
    return judged


async def kept_waiting(conn: Connection, references: Collection[Ref], clock: Clock) -> list[Item]:
    """What is kept until one of these is known, oldest first by its own time."""
    rows = await rejects.read_waiting(conn, [str(ref) for ref in references])
    items = [item for row in rows if (item := kept_item(row, clock)) is not None]
    return sorted(items, key=lambda item: item.event.occurred_at)


def kept_item(row: Reject, clock: Clock) -> Item | None:
    """A kept message, to be applied again; None if it breaks the contract by itself."""
    # Its time was judged when it came.
    event = parse(row.body, now=clock.now, clock_is_real=False)
    return Item(event, row.headers, row) if isinstance(event, PlatformEvent) else None


async def _waiting_for(conn: Connection, items: Sequence[Item], clock: Clock) -> list[Item]:
    """Everything that may be applied once these are, step by step until nothing more is found."""
    found: list[Item] = []
    asked: set[Ref] = set()
    newest: Sequence[Item] = items
    while newest:
        refs = {ref for item in newest if (ref := brought_by(item.event)) is not None} - asked
        asked |= refs
        newest = await kept_waiting(conn, refs, clock)
        found += newest
    return found


class _Round:
    """The messages of a batch in order; those that miss something stand aside until it comes."""

    def __init__(self, desk: Desk, waiting: Sequence[Item]) -> None:
        self._desk = desk
        self._judged: list[Judged] = []
        self._aside: dict[Ref, list[Judged]] = defaultdict(list)
        for item in waiting:
            missing = _as_kept(item)
            self._aside[missing.ref].append(Judged(item, missing))

    def run(self, items: Sequence[Item]) -> list[Judged]:
        for item in items:
            self._apply(item)
        return self._judged + [judged for aside in self._aside.values() for judged in aside]

    def _apply(self, item: Item) -> None:
        verdict = apply(self._desk, item.event)
        judged = Judged(item, verdict)
        if isinstance(verdict, Missing):
            self._aside[verdict.ref].append(judged)
            return
        self._judged.append(judged)
        if isinstance(verdict, Applied) and verdict.brings is not None:
            released = [follower.item for follower in self._aside.pop(verdict.brings, [])]
            for follower in sorted(released, key=lambda item: item.event.occurred_at):
                self._apply(follower)


def _as_kept(item: Item) -> Missing:
    """What a kept message waits for, as its row says."""
    assert item.kept is not None, "read from the rejected ones"
    kind, _, id_ = (item.kept.waits_for or "").partition(":")
    return Missing(Ref(Kind(kind), id_), item.kept.field)
