"""Tables of platform messages: what is taken, what is rejected and why. One commented row a case."""

import json
from datetime import timedelta
from typing import Any

from tests import platform_events as shop
from tests.platform_events import ABSENT, NOW

CARD = "4242 4242 4242 4242"
MASKED = "4242 42** **** 4242"


def told(fields: dict[str, Any], **envelope: Any) -> bytes:
    """A customer with these fields, and with these in the envelope."""
    return shop.event(
        "customer.upserted", {"customer_id": "cus_1", "email": "a@b.c"} | fields, **envelope
    )


def price(**more: Any) -> dict[str, Any]:
    return {"model": "flat", "currency": "USD", "unit_amount_minor": 4900} | more


def policy(**more: Any) -> bytes:
    return shop.plan(retry_policy=more)


def nested(levels: int) -> bytes:
    """A valid customer whose deepest extra field is on that level."""
    inner: Any = 1
    for _ in range(levels - 2):
        inner = [inner]
    return shop.customer(extra=inner)


TAKEN = [
    shop.seller(timezone="America/Sao_Paulo", locale="pt-BR", late_money="keep"),
    shop.seller(pass_offer={"plan_id": "p", "threshold_minor": 1, "currency": "BRL"}),
    shop.plan(trial_days=0, cycles=12, installments=1, grants_all_products=False),
    # A free plan is a price of nothing (LIFECYCLE 18).
    shop.plan(price=price(unit_amount_minor=0, tax_minor=0, apply_to_existing=False)),
    shop.plan(reminders=[{"days_before": 7}, {"days_before": 1, "segment": "vip"}]),
    policy(schedule="learned", max_retries=20, grace_days=28, on_exhausted="pause"),
    policy(schedule=[1, 3], charging_window={"from": "09:00", "to": "11:00"}),
    shop.customer(name=None, country="BR", segments=[]),
    # A language and a place that CLDR knows, though not together.
    shop.customer(locale="de-US"),
    # Nobody knows this field, so it is kept; ids may look like a card number.
    shop.event(
        "customer.upserted",
        {"customer_id": "4242424242424242", "email": "a@b.c", "nickname": "Ada"},
        subject="4242424242424242",
    ),
    shop.method(exp_month=12, exp_year=2031, fingerprint="fp", default=True),
    shop.updated(exp_month=1, source="updater"),
    shop.removed(),
    shop.created(quantity=10**6, starts_at="2026-01-31T10:00:00.123456789+05:30"),
    shop.cancel(when="period_end"),
    shop.undo(),
    shop.changed("pm_2"),
    shop.sync(from_sequence=1),
    shop.collect(invoice_id="b7b6a3d0-0000-5000-8000-000000000000"),
    shop.settled(gateway_ref="ch_1"),
    nested(16),
    # Exactly ten minutes ahead is not more than ten minutes ahead.
    shop.customer(at=NOW + timedelta(minutes=10)),
]

REJECTED: list[tuple[bytes, str, str]] = [
    # The message as a whole.
    (b"", "body", "is not JSON"),
    (b"{", "body", "is not JSON"),
    (b"\xff\xfe{\x00}\x00", "body", "is not UTF-8"),
    (b'{"a": \x00}', "body", "is not JSON"),
    (b"[]", "body", "a JSON object"),
    (b'"platform.seller.upserted"', "body", "a JSON object"),
    (b"9" * 5000, "body", "is not JSON"),
    (shop.customer(extra="x" * 262_144), "body", "at most 262144"),
    (b"[" * 100_000, "body", "100000 levels: should have at most 16"),
    (nested(17), "body", "17 levels"),
    (b'{"type": "a", "type": "b"}', "body", 'names "type" twice'),
    (shop.customer(extra={"b": 1}).replace(b'{"b": 1}', b'{"b": 1, "b": 2}'), "data.extra", "twice"),
    # Leaves that no message may hold.
    (shop.customer(name="a\x00b"), "data.name", "NUL"),
    (shop.customer(extra={"deep": ["\ud800"]}), "data.extra.deep.0", "surrogate"),
    (told({"k\ud800": 1}), "data.k?", "surrogate"),
    (shop.customer(extra=[float("nan")]), "data.extra.0", "finite"),
    (shop.customer(extra=float("-inf")), "data.extra", "finite"),
    (shop.customer(extra=9).replace(b": 9", b": 1e999"), "data.extra", "finite"),
    (shop.customer(name="x" * 10_001), "data.name", "at most 10000"),
    (told({"k" * 10_001: 1}), "data." + "k" * 194 + "…", "at most 10000"),
    # The envelope.
    (shop.customer().replace(b'"type"', b'"kind"'), "type", "missing"),
    (shop.event("customer.upserted", {}, type=7), "type", "a string"),
    (shop.event("customer.erased", {}), "type", "one of the contract"),
    (shop.event("refund.requested", {}), "type", "not built in this version"),
    (shop.event("x", {}, specversion="0.3"), "specversion", "'1.0'"),
    (shop.event("x", {}, id=ABSENT), "id", "missing"),
    (shop.event("x", {}, id=""), "id", "at least 1"),
    (shop.event("x", {}, id="i" * 129), "id", "at most 128"),
    (shop.event("x", {}, source=ABSENT), "source", "missing"),
    (shop.event("x", {}, source="s" * 257), "source", "at most 256"),
    (shop.event("x", {}, time=ABSENT), "time", "missing"),
    (shop.event("x", {}, time="yesterday"), "time", "RFC 3339"),
    (shop.event("x", {}, time="2026-01-31 10:00:00"), "time", "RFC 3339"),
    (shop.event("x", {}, time="2026-02-30T10:00:00Z"), "time", "RFC 3339"),
    (shop.event("x", {}, time=1_769_853_600), "time", "RFC 3339"),
    (shop.event("x", {}, time="0001-01-01T00:00:00+14:00"), "time", "after 1970"),
    (shop.event("x", {}, data=ABSENT), "data", "missing"),
    (shop.event("x", {}, data=[]), "data", "an object"),
    (shop.customer(at=NOW + timedelta(minutes=10, seconds=1)), "time", "future"),
    # Required fields, and their kinds.
    (shop.customer(email=ABSENT), "data.email", "missing"),
    (shop.customer(email=None), "data.email", "a string"),
    (shop.customer(email="ada"), "data.email", "a mail address"),
    (shop.customer(email="a@b.c\nBcc: x@y.z"), "data.email", "a mail address"),
    (told({"customer_id": 7}), "data.customer_id", "a string"),
    (shop.customer(customer_id=""), "data.customer_id", "at least 1"),
    (shop.customer(customer_id="c" * 129), "data.customer_id", "at most 128"),
    (shop.customer(segments="vip"), "data.segments", "a list"),
    (shop.customer(segments=["vip", 7]), "data.segments.1", "a string"),
    (shop.customer(locale="xx-YY"), "data.locale", "BCP 47"),
    (shop.customer(locale="en_US"), "data.locale", "BCP 47"),
    (shop.customer(timezone="Sao Paulo"), "data.timezone", "IANA"),
    (shop.customer(country="Brazil"), "data.country", "ISO 3166-1"),
    (shop.seller(late_money="burn"), "data.late_money", "'refund' or 'keep'"),
    (shop.method(kind="cash"), "data.kind", "'card'"),
    (shop.method(token=""), "data.token", "at least 1"),
    (shop.method(exp_month=13), "data.exp_month", "12 or less"),
    (shop.method(default="yes"), "data.default", "true or false"),
    (shop.updated(source="bank"), "data.source", "'updater' or 'customer'"),
    # Money, quantities and intervals.
    (shop.plan(price=price(currency="XXQ")), "data.price.currency", "ISO 4217"),
    (shop.plan(price=price(currency="usd")), "data.price.currency", "ISO 4217"),
    (shop.plan(price=price(unit_amount_minor=-1)), "data.price.unit_amount_minor", "0 or more"),
    (shop.plan(price=price(unit_amount_minor=10**12 + 1)), "data.price.unit_amount_minor", "or less"),
    (shop.plan(price=price(unit_amount_minor="4900")), "data.price.unit_amount_minor", "whole"),
    (shop.plan(price=price(unit_amount_minor=49.0)), "data.price.unit_amount_minor", "whole"),
    (shop.plan(price=price(unit_amount_minor=True)), "data.price.unit_amount_minor", "whole"),
    (shop.plan(price=price(model="usage")), "data.price.model", "not built"),
    (shop.plan(price=price(model="barter")), "data.price.model", "graduated"),
    (shop.plan(price=ABSENT), "data.price", "missing"),
    (shop.plan(price=4900), "data.price", "an object"),
    (shop.plan(ceiling_minor=0), "data.ceiling_minor", "1 or more"),
    (shop.plan(interval={"unit": "decade", "count": 1}), "data.interval.unit", "'month'"),
    (shop.plan(interval={"unit": "month", "count": 0}), "data.interval.count", "1 or more"),
    (shop.plan(interval={"unit": "year", "count": 11}), "data.interval.count", "at most 10"),
    (shop.created(quantity=0), "data.quantity", "1 or more"),
    (shop.created(quantity=10**6 + 1), "data.quantity", "1000000 or less"),
    (shop.created(anchor_day=32), "data.anchor_day", "31 or less"),
    (shop.created(paid_through="2026-13-01T00:00:00Z"), "data.paid_through", "RFC 3339"),
    (shop.created(paid_through="9999-12-31T23:59:59Z"), "data.paid_through", "before 2999"),
    (shop.created(coupon_id="SUMMER"), "data.coupon_id", "not built"),
    # Wishes about money: ignored, they would charge wrongly.
    (shop.plan(installments=3), "data.installments", "not built"),
    (shop.plan(grants_all_products=True), "data.grants_all_products", "not built"),
    (shop.plan(price=price(apply_to_existing=True)), "data.price.apply_to_existing", "not built"),
    (
        policy(billing_date_follows_recovery=True),
        "data.retry_policy.billing_date_follows_recovery",
        "not built",
    ),
    (shop.settled(amount_minor=0, gateway_ref="ch"), "data.amount_minor", "1 or more"),
    (shop.settled(), "data.idempotency_key", "or gateway_ref"),
    (shop.collect(), "data.subscription_id", "or invoice_id"),
    (shop.sync(from_sequence=0), "data.from_sequence", "1 or more"),
    # The retry policy.
    (policy(max_retries=21), "data.retry_policy.max_retries", "20 or less"),
    (policy(schedule=[0]), "data.retry_policy.schedule", "a list of days"),
    (policy(schedule="soon"), "data.retry_policy.schedule", "learned"),
    (policy(grace_days=29), "data.retry_policy.grace_days", "which is 28"),
    (policy(on_exhausted="sue"), "data.retry_policy.on_exhausted", "'cancel'"),
    (policy(charging_window={"from": "9", "to": "11:00"}), "data.retry_policy.charging_window.from", "09:00"),
    (policy(charging_window={"from": "11:00", "to": "09:00"}), "data.retry_policy.charging_window.to", "later than 11:00"),
    # Card numbers where people or programs may have put one.
    (shop.customer(name=CARD), "data.name", "card number"),
    (shop.customer(extra={"note": [f"pan={CARD}!"]}), "data.extra.note.0", "card number"),
    (shop.customer(extra=4242424242424242), "data.extra", "card number"),
    (told({CARD: 1}), f"data.{MASKED}", "card number"),
    (shop.method(token="4242424242424242"), "data.token", "card number"),
    (shop.customer(subject="4242424242424242"), "data.subject", "card number"),
    (shop.event("x", {}, subject="4242424242424242"), "subject", "card number"),
    (json.dumps(json.loads(told({})) | {"data.customer_id": CARD}).encode(), "data.customer_id", "card number"),
]  # fmt: skip
