"""Reads a ledger back: the book after a kill is the book before it."""

from collections.abc import Iterable
from datetime import datetime

from lab.sandbox.book import Book
from lab.sandbox.ledger import LedgerError
from lab.sandbox.records import (
    Charge,
    ChargeOrder,
    ChargeStatus,
    Json,
    KeyRecord,
    LateRequest,
    Refund,
    RefundOrder,
    read_instant,
)


def restore(entries: Iterable[Json]) -> tuple[Book, datetime | None]:
    """The book that these entries tell of, and the test clock's instant if one was set.

    Raises LedgerError for an entry that cannot be understood.
    """
    restored = _Restored()
    for number, entry in enumerate(entries, start=1):
        try:
            restored.take(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerError(f"ledger: entry {number} cannot be read: {error!r}") from None
    return restored.finish()


class _Restored:
    def __init__(self) -> None:
        self._book = Book()
        self._clock: datetime | None = None
        self._late: dict[str, tuple[datetime, LateRequest]] = {}

    def take(self, entry: Json) -> None:
        match entry["kind"]:
            case "charge":
                self._take_charge(entry)
            case "refund":
                self._take_refund(entry)
            case "status":
                charge = self._book.charges[entry["charge"]]
                charge.status = ChargeStatus(entry["status"])
                charge.decline = entry["decline"]
            case "answer":
                self._store(entry, None)
            case "late":
                self._late[entry["id"]] = (read_instant(entry["due_at"]), _late(entry))
            case "late_done":
                del self._late[entry["late"]]
            case "fault":
                self._count(entry)
            case "clock":
                self._clock = _instant(entry["now"])
            case kind:
                raise ValueError(f"kind {kind!r} is not known")

    def finish(self) -> tuple[Book, datetime | None]:
        for due_at, late in self._late.values():
            self._book.plan(due_at, late)
        return self._book, self._clock

    def _take_charge(self, entry: Json) -> None:
        status = ChargeStatus(entry["status"])
        charge = Charge(
            id=entry["id"],
            number=entry["number"],
            order=_charge_order(entry),
            idempotency_key=entry["idempotency_key"],
            created_at=read_instant(entry["at"]),
            status=status,
            first_status=status,
            decline=entry["decline"],
            settles_to=entry["settles_to"],
            due_at=_instant(entry["due_at"]),
            action_expires_at=_instant(entry["action_expires_at"]),
        )
        self._book.add_charge(charge)
        self._after_execution(entry, charge)

    def _take_refund(self, entry: Json) -> None:
        refund = Refund(
            id=entry["id"],
            number=entry["number"],
            order=RefundOrder(entry["charge"], entry["amount_minor"]),
            idempotency_key=entry["idempotency_key"],
            created_at=read_instant(entry["at"]),
        )
        self._book.add_refund(refund)
        self._after_execution(entry, refund)

    def _after_execution(self, entry: Json, made: Charge | Refund) -> None:
        if entry["late"] is not None:
            del self._late[entry["late"]]
        if entry["stored"] is not None:
            self._store(entry, made)
        self._count(entry)

    def _store(self, entry: Json, made: Charge | Refund | None) -> None:
        self._book.keys[entry["idempotency_key"]] = KeyRecord(
            body_hash=entry["body_hash"],
            first_used_at=read_instant(entry["at"]),
            status=entry["stored"],
            made=made,
            busy_until=0.0,
        )

    def _count(self, entry: Json) -> None:
        if entry["nth"]:
            self._book.requests_by_key[entry["idempotency_key"]] = entry["nth"]


def _charge_order(fields: Json) -> ChargeOrder:
    return ChargeOrder(
        amount_minor=fields["amount_minor"],
        currency=fields["currency"],
        payment_method=fields["payment_method"],
        customer=fields["customer"],
        reference=fields["reference"],
        off_session=True,
        metadata=fields["metadata"],
        statement_descriptor=fields["statement_descriptor"],
    )


def _late(entry: Json) -> LateRequest:
    order = entry["order"]
    return LateRequest(
        id=entry["id"],
        order=_charge_order(order) if "reference" in order else RefundOrder(**order),
        idempotency_key=entry["idempotency_key"],
        body_hash=entry["body_hash"],
        answered=entry["answered"],
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else read_instant(text)
