"""Messages as a platform writes them: plain JSON, nothing of renewd in them."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
_numbers = itertools.count(1)

ABSENT = object()
"""As the value of a field: leave it out."""


def event(kind: str, told: dict[str, Any], at: datetime = NOW, **envelope: Any) -> bytes:
    """A message of type `platform.{kind}`; each has an id of its own unless one is given."""
    message = {
        "specversion": "1.0",
        "id": f"evt_{next(_numbers):06d}",
        "source": "shop",
        "type": f"platform.{kind}",
        "time": at.isoformat(),
        "data": _present(told),
    }
    return json.dumps(_present(message | envelope)).encode()


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ABSENT}


def seller(seller_id: str = "sel_1", at: datetime = NOW, **more: Any) -> bytes:
    return event("seller.upserted", {"seller_id": seller_id, "name": "Chess School"} | more, at)


def plan(plan_id: str = "plan_1", at: datetime = NOW, **more: Any) -> bytes:
    told = {
        "plan_id": plan_id,
        "seller_id": "sel_1",
        "product_id": "prod_1",
        "name": "Monthly",
        "interval": {"unit": "month", "count": 1},
        "price": {"model": "flat", "currency": "USD", "unit_amount_minor": 4900},
    }
    return event("plan.upserted", told | more, at)


def customer(customer_id: str = "cus_1", at: datetime = NOW, **more: Any) -> bytes:
    told = {"customer_id": customer_id, "email": "ada@example.com"}
    return event("customer.upserted", told | more, at)


def method(payment_method_id: str = "pm_1", at: datetime = NOW, **more: Any) -> bytes:
    told = {
        "payment_method_id": payment_method_id,
        "customer_id": "cus_1",
        "gateway": "sandbox",
        "token": f"tok_ok_{payment_method_id}",
        "kind": "card",
    }
    return event("payment_method.attached", told | more, at)


def updated(payment_method_id: str = "pm_1", at: datetime = NOW, **more: Any) -> bytes:
    told = {"payment_method_id": payment_method_id, "source": "customer"}
    return event("payment_method.updated", told | more, at)


def removed(payment_method_id: str = "pm_1", at: datetime = NOW) -> bytes:
    return event("payment_method.removed", {"payment_method_id": payment_method_id}, at)


def created(subscription_id: str = "sub_1", at: datetime = NOW, **more: Any) -> bytes:
    told = {
        "subscription_id": subscription_id,
        "customer_id": "cus_1",
        "plan_id": "plan_1",
        "payment_method_id": "pm_1",
    }
    return event("subscription.created", told | more, at)


def cancel(
    subscription_id: str = "sub_1", when: str = "now", at: datetime = NOW, **more: Any
) -> bytes:
    told = {"subscription_id": subscription_id, "at": when, "origin": "customer"}
    return event("subscription.cancel_requested", told, at, **more)


def undo(subscription_id: str = "sub_1", at: datetime = NOW, **more: Any) -> bytes:
    return event("subscription.cancel_undone", {"subscription_id": subscription_id}, at, **more)


def changed(payment_method_id: str, subscription_id: str = "sub_1", at: datetime = NOW) -> bytes:
    told = {"subscription_id": subscription_id, "payment_method_id": payment_method_id}
    return event("subscription.payment_method_changed", told, at)


def sync(subscription_id: str = "sub_1", at: datetime = NOW, **more: Any) -> bytes:
    return event("subscription.sync_requested", {"subscription_id": subscription_id} | more, at)


def collect(at: datetime = NOW, **more: Any) -> bytes:
    return event("invoice.collection_requested", {"by": "customer"} | more, at)


def settled(at: datetime = NOW, **more: Any) -> bytes:
    told = {"gateway": "sandbox", "amount_minor": 4900, "currency": "USD"}
    return event("payment.settled", told | more, at)


def sign_up(at: datetime = NOW, **more: Any) -> list[bytes]:
    """Everything that a subscription needs, and the subscription."""
    return [seller(at=at), plan(at=at), customer(at=at), method(at=at), created(at=at, **more)]
