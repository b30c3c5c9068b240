"""Reads request bodies and headers: what is wrong is answered with 400 and the field's name."""

from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError

from lab.sandbox.answers import Refused, invalid
from lab.sandbox.config import first_problem
from lab.sandbox.records import ChargeOrder, RefundOrder

KEY_LIMIT = 255

_charge_body = TypeAdapter(ChargeOrder)
_refund_body = TypeAdapter(RefundOrder)


def read_key(header: str | None) -> str:
    """The idempotency key, which every POST that moves money needs."""
    if not header:
        raise invalid("Idempotency-Key", "the header is required")
    if len(header) > KEY_LIMIT:
        raise invalid("Idempotency-Key", f"{len(header)} characters, at most {KEY_LIMIT} allowed")
    return header


def read_charge_order(body: bytes, takes: Callable[[str], bool]) -> ChargeOrder:
    """A checked charge; `takes` says which payment methods exist."""
    try:
        order = _charge_body.validate_json(body)
    except ValidationError as error:
        raise refused(error) from None
    if not takes(order.payment_method):
        raise invalid("payment_method", f"no such token: {order.payment_method!r}")
    return order


def read_refund_order(body: bytes) -> RefundOrder:
    """A checked refund; whether the charge exists and allows it is asked later."""
    try:
        return _refund_body.validate_json(body)
    except ValidationError as error:
        raise refused(error) from None


def refused(error: ValidationError) -> Refused:
    """400 for the first thing that is wrong with a body."""
    field, message = first_problem(error)
    return invalid(field or "body", message)
