"""The ledger's lines, written from what happened. restore.py reads them back."""

from dataclasses import asdict
from datetime import datetime

from lab.sandbox.config import Fault
from lab.sandbox.records import Charge, Json, LateRequest, Refund, rfc3339


def charge_entry(charge: Charge) -> Json:
    """An executed charge, with all it can be rebuilt from."""
    order = charge.order
    return {
        "kind": "charge",
        "at": rfc3339(charge.created_at),
        "number": charge.number,
        "id": charge.id,
        "status": charge.status.value,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "payment_method": order.payment_method,
        "customer": order.customer,
        "reference": order.reference,
        "statement_descriptor": order.statement_descriptor,
        "metadata": order.metadata,
        "idempotency_key": charge.idempotency_key,
        "decline": charge.decline,
        "settles_to": charge.settles_to,
        "due_at": rfc3339(charge.due_at) if charge.due_at else None,
        "action_expires_at": rfc3339(charge.action_expires_at)
        if charge.action_expires_at
        else None,
    }


def refund_entry(refund: Refund) -> Json:
    """An executed refund."""
    return {
        "kind": "refund",
        "at": rfc3339(refund.created_at),
        "number": refund.number,
        "id": refund.id,
        "charge": refund.order.charge,
        "amount_minor": refund.order.amount_minor,
        "idempotency_key": refund.idempotency_key,
    }


def status_entry(charge: Charge, at: datetime) -> Json:
    """An open charge that has ended."""
    return {
        "kind": "status",
        "at": rfc3339(at),
        "charge": charge.id,
        "status": charge.status.value,
        "decline": charge.decline,
    }


def answer_entry(*, key: str, body_hash: str, status: int, at: datetime) -> Json:
    """A 5xx stored under a key that executed nothing."""
    return {
        "kind": "answer",
        "at": rfc3339(at),
        "idempotency_key": key,
        "body_hash": body_hash,
        "stored": status,
    }


def late_entry(late: LateRequest, *, at: datetime, due_at: datetime) -> Json:
    """A request that is held up until `due_at`."""
    return {
        "kind": "late",
        "at": rfc3339(at),
        "due_at": rfc3339(due_at),
        "id": late.id,
        "order": asdict(late.order),
        "idempotency_key": late.idempotency_key,
        "body_hash": late.body_hash,
        "answered": late.answered,
    }


def late_done_entry(late: LateRequest, at: datetime) -> Json:
    """A held-up request that found its key used, or nothing left to refund."""
    return {"kind": "late_done", "at": rfc3339(at), "late": late.id}


def fault_entry(*, key: str, nth: int, fault: Fault, at: datetime) -> Json:
    """The nth request of a key met a fault."""
    return {
        "kind": "fault",
        "at": rfc3339(at),
        "idempotency_key": key,
        "nth": nth,
        "fault": fault,
    }


def clock_entry(now: datetime | None, at: datetime) -> Json:
    """The test clock was set; null gives the clock back to the machine."""
    return {"kind": "clock", "at": rfc3339(at), "now": rfc3339(now) if now else None}
