"""Look-ups by key, by parent and by time, in pages, behind by the configured lag."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, TypeVar

from lab.sandbox.answers import invalid
from lab.sandbox.book import Book, Position, Shelf
from lab.sandbox.records import Charge, Json, Refund, read_instant, rfc3339

RowT = TypeVar("RowT", bound=Charge | Refund)
LagOf = Callable[[str], float]
"""Seconds that look-ups are behind for a payment method."""

_START = (datetime.min.replace(tzinfo=UTC), 0)
_WINDOW = {"created_from", "created_to", "cursor"}


def list_charges(
    book: Book, query: dict[str, str], now: datetime, *, page_size: int, lag_s: LagOf
) -> Json:
    """`{data, next_cursor}`. A window is from `created_from` until before `created_to`.

    Raises Refused for parameters it does not know or cannot read.
    """
    rows = _find(book.charges, query, parent="reference")
    seen = (row for row in rows if _is_seen(row, now, lag_s(row.order.payment_method)))
    return _page(seen, page_size)


def list_refunds(
    book: Book, query: dict[str, str], now: datetime, *, page_size: int, lag_s: LagOf
) -> Json:
    """Likewise for refunds; their lag is their charge's."""

    def lag_of(refund: Refund) -> float:
        return lag_s(book.charges[refund.order.charge].order.payment_method)

    rows = _find(book.refunds, query, parent="charge")
    return _page((row for row in rows if _is_seen(row, now, lag_of(row))), page_size)


def _find(
    shelf: Shelf[RowT], query: dict[str, str], *, parent: Literal["reference", "charge"]
) -> Iterator[RowT]:
    if unknown := query.keys() - _WINDOW - {"idempotency_key", parent}:
        raise invalid(min(unknown), "unknown parameter")
    cursor = _read_cursor(query.get("cursor"))
    start = max(cursor, (_read_time(query, "created_from") or _START[0], 0))
    end = _read_time(query, "created_to")
    if "idempotency_key" in query:
        rows: Iterable[RowT] = shelf.of_key(query["idempotency_key"])
    elif parent in query:
        rows = shelf.of_parent(query[parent])
    else:
        rows = shelf.made_from(start)
    for row in rows:
        if end is not None and row.created_at >= end:
            return
        if (row.created_at, row.number) >= start:
            yield row


def _page(rows: Iterator[RowT], page_size: int) -> Json:
    page = list(islice(rows, page_size + 1))
    more = page[page_size] if len(page) > page_size else None
    return {
        "data": [row.answer() for row in page[:page_size]],
        "next_cursor": f"{more.number}@{rfc3339(more.created_at)}" if more else None,
    }


def _read_cursor(cursor: str | None) -> Position:
    """The position of the first row of the page."""
    if not cursor:
        return _START
    number, _, at = cursor.partition("@")
    try:
        return read_instant(at), int(number)
    except ValueError:
        raise invalid("cursor", "not one of this gateway's") from None


def _read_time(query: dict[str, str], field: str) -> datetime | None:
    text = query.get(field)
    if text is None:
        return None
    try:
        return read_instant(text.replace(" ", "+"))  # an offset's + that was not escaped
    except ValueError:
        raise invalid(field, f"{text!r}, expected an RFC 3339 instant") from None


def _is_seen(row: Charge | Refund, now: datetime, lag_s: float) -> bool:
    """Without a lag even what was made before the test clock went back is seen."""
    return lag_s == 0 or now - row.created_at >= timedelta(seconds=lag_s)
