"""The sandbox's state in memory, indexed for every look-up of the contract."""

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Generic, TypeVar

from lab.sandbox.records import Charge, ChargeStatus, KeyRecord, LateRequest, Refund, Settlement

Event = Settlement | LateRequest
Position = tuple[datetime, int]
"""Order of look-ups: when a row was made, then its number."""

RowT = TypeVar("RowT", bound=Charge | Refund)


class Shelf(Generic[RowT]):
    """All rows of one kind. A row's parent is its invoice (charges) or its charge (refunds)."""

    def __init__(self) -> None:
        self._by_id: dict[str, RowT] = {}
        self._by_key: dict[str, tuple[RowT, ...]] = {}
        self._by_parent: dict[str, tuple[RowT, ...]] = {}
        self._timeline: list[tuple[datetime, int, RowT]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, row: RowT, *, parent: str) -> None:
        self._by_id[row.id] = row
        self._by_key[row.idempotency_key] = (*self.of_key(row.idempotency_key), row)
        self._by_parent[parent] = (*self.of_parent(parent), row)
        place = (row.created_at, row.number, row)
        if not self._timeline or self._timeline[-1] < place:
            self._timeline.append(place)
        else:  # the clock was set back
            insort(self._timeline, place)

    def __getitem__(self, row_id: str) -> RowT:
        return self._by_id[row_id]

    def get(self, row_id: str) -> RowT | None:
        return self._by_id.get(row_id)

    def of_key(self, idempotency_key: str) -> tuple[RowT, ...]:
        return self._by_key.get(idempotency_key, ())

    def of_parent(self, parent: str) -> tuple[RowT, ...]:
        return self._by_parent.get(parent, ())

    def families(self) -> Iterator[tuple[RowT, ...]]:
        """The rows of each parent."""
        return iter(self._by_parent.values())

    def made_from(self, start: Position) -> Iterator[RowT]:
        """Rows at or after that position, oldest first."""
        for index in range(bisect_left(self._timeline, start), len(self._timeline)):
            yield self._timeline[index][2]

    def __iter__(self) -> Iterator[RowT]:
        return iter(self._by_id.values())


class Book:
    """Everything the gateway knows."""

    def __init__(self) -> None:
        self.charges: Shelf[Charge] = Shelf()
        self.refunds: Shelf[Refund] = Shelf()
        self.keys: dict[str, KeyRecord] = {}
        self.executed_by_token: Counter[str] = Counter()  # of tok_seq_ tokens alone
        self.requests_by_key: Counter[str] = Counter()
        self._events: list[tuple[datetime, int, Event]] = []
        self._planned = 0

    def add_charge(self, charge: Charge) -> None:
        """Keep a new charge, and plan its end if it is open."""
        self.charges.add(charge, parent=charge.order.reference)
        token = charge.order.payment_method
        if token.startswith("tok_seq_"):
            self.executed_by_token[token] += 1
        if charge.due_at is not None:
            self.plan(charge.due_at, Settlement(charge.id))

    def add_refund(self, refund: Refund) -> None:
        """Keep a new refund and add it to its charge's sum."""
        self.refunds.add(refund, parent=refund.order.charge)
        charge = self.charges.get(refund.order.charge)
        assert charge is not None
        charge.amount_refunded_minor += refund.order.amount_minor

    def references_charged_twice(self) -> int:
        """References (invoices) with more than one charge that took money."""
        return sum(
            sum(charge.status is ChargeStatus.SUCCEEDED for charge in charges) > 1
            for charges in self.charges.families()
        )

    def plan(self, due_at: datetime, event: Event) -> None:
        self._planned += 1
        heapq.heappush(self._events, (due_at, self._planned, event))

    def next_due(self, now: datetime) -> tuple[datetime, Event] | None:
        """Takes the earliest event that is due, if any."""
        if not self._events or self._events[0][0] > now:
            return None
        due_at, _, event = heapq.heappop(self._events)
        return due_at, event
