"""Platform messages in: what is taken, what is rejected, and which field is named."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.checks import find_card_number
from billing.events import BUILT, EventType, PlatformEvent, Rejection, parse
from billing.events.payloads import PlanUpserted, SubscriptionCreated
from tests import platform_events as shop
from tests.platform_events import ABSENT, NOW

CARD = "4242 4242 4242 4242"
MASKED = "4242 42** **** 4242"


def read(body: bytes, *, now: datetime = NOW, clock_is_real: bool = True) -> Any:
    return parse(body, now=now, clock_is_real=clock_is_real)


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
    shop.plan(trial_days=0, cycles=12, installments=3, grants_all_products=True),
    # A free plan is a price of nothing (LIFECYCLE 18).
    shop.plan(price=price(unit_amount_minor=0, tax_minor=0, apply_to_existing=True)),
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


@pytest.mark.parametrize("body", TAKEN)
def test_messages_of_the_contract_are_taken(body: bytes) -> None:
    """What keeps to the contract becomes an event with its own bytes."""
    event = read(body)
    assert isinstance(event, PlatformEvent), event
    assert event.body == body


def test_instants_are_utc_and_unknown_fields_are_kept() -> None:
    """The time of an event is told in UTC; fields that nobody knows stay in `extra`."""
    at = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    event = read(shop.customer(nickname="Ada", time="x"), now=at)
    local = read(
        shop.event(
            "customer.upserted",
            {"customer_id": "c", "email": "a@b.c"},
            time="2026-01-31T07:00:00-03:00",
        ),
        now=at,
    )
    assert event.payload.extra == {"nickname": "Ada", "time": "x"}
    assert local.occurred_at == NOW


def test_optional_fields_may_be_null_or_absent() -> None:
    """Null says as little as nothing."""
    told = read(shop.created(quantity=None, trial_days=None, coupon_id=None)).payload
    assert isinstance(told, SubscriptionCreated)
    assert (told.quantity, told.trial_days, told.coupon_id) == (None, None, None)


def test_a_retry_policy_is_kept_as_it_was_told() -> None:
    """What is not said is not invented, so that a default may change."""
    told = read(
        policy(schedule="learned", charging_window={"from": "09:00", "to": "11:00"})
    ).payload
    assert isinstance(told, PlanUpserted)
    assert told.retry_policy is not None
    assert told.retry_policy.model_dump(by_alias=True, exclude_none=True) == {
        "schedule": "learned",
        "charging_window": {"from": "09:00", "to": "11:00"},
    }


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


@pytest.mark.parametrize(("body", "field", "error"), REJECTED)
def test_what_breaks_the_contract_is_rejected(body: bytes, field: str, error: str) -> None:
    """Each fault is told in one line that names the field; no card number is left anywhere."""
    rejection = read(body)
    assert isinstance(rejection, Rejection), rejection
    assert (rejection.field, error in rejection.error) == (field, True), rejection.error
    assert rejection.error.isprintable()
    assert len(rejection.error) <= 500
    assert not find_card_number(rejection.error + rejection.field)


@pytest.mark.parametrize("kind", [kind for kind in EventType if kind not in BUILT])
def test_types_of_later_versions_say_so(kind: EventType) -> None:
    """A type of the contract that is not built yet is rejected with an error that says so."""
    rejection = read(shop.event("x", {}, type=str(kind)))
    assert (rejection.field, rejection.type) == ("type", kind)
    assert "not built in this version" in rejection.error


def test_under_the_test_clock_no_time_is_ahead() -> None:
    """Messages may come from any time while the clock is moved by hand."""
    event = read(shop.customer(at=NOW + timedelta(days=400)), clock_is_real=False)
    assert isinstance(event, PlatformEvent)


def test_a_rejection_tells_whose_it_is() -> None:
    """Id, source and type are read even from messages that are too large or too deep."""
    large = read(shop.customer(extra="x" * 1_000_000, email=ABSENT))
    deep = read(nested(100))
    assert (large.source, large.type) == ("shop", "platform.customer.upserted")
    assert large.event_id.startswith("evt_")
    assert deep.event_id.startswith("evt_")
    assert read(b"{").event_id == ""


MASKS: list[tuple[bytes, bytes]] = [
    # Only free text is masked: the id with the same digits stays.
    (
        b'{"id": "4242424242424242", "data": {"name": "4242424242424242"}}',
        b'{"id": "4242424242424242", "data": {"name": "424242******4242"}}',
    ),
    (
        b'{"data": {"name": "pan 4242424242424242"} }',
        b'{"data": {"name": "pan 424242******4242"} }',
    ),
    # A number, and digits written as escapes, cannot be masked in place.
    (b'{"extra": 4242424242424242}', b'{"extra": "424242******4242"}'),
    (b'{"a": "424242424242424\\u0032"}', b'{"a": "424242******4242"}'),
    # Not JSON, not UTF-8, UTF-16, and an object with a name twice: masked as text.
    (b"4242 4242 4242 4242 <", b"4242 42** **** 4242 <"),
    (b"\xff4242424242424242", b"\xff424242******4242"),
    ("4242424242424242".encode("utf-16-be"), b"424242******4242"),
    (b'{"n": "4242424242424242", "n": 1}', b'{"n": "424242******4242", "n": 1}'),
    # Nothing to mask: the bytes stay as they came.
    (b"{ \xff", b"{ \xff"),
]


@pytest.mark.parametrize(("body", "kept"), MASKS)
def test_card_numbers_are_masked_in_what_is_kept(body: bytes, kept: bytes) -> None:
    """A rejected message keeps its bytes, but for the middle digits of card numbers."""
    rejection = read(body)
    assert isinstance(rejection, Rejection)
    assert rejection.body == kept


def test_an_escaped_card_number_is_found() -> None:
    """Escapes do not hide digits."""
    body = shop.customer(name="x").replace(b'"x"', b'"\\u0034242424242424242"')
    rejection = read(body)
    assert rejection.field == "data.name"
    assert json.loads(rejection.body)["data"]["name"] == "424242******4242"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from([CARD, "platform.customer.upserted", "1.0", NOW.isoformat()]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=200) | json_values.map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_are_answered(body: bytes) -> None:
    """Whatever comes, the answer is an event or a rejection without a card number in it."""
    answer = read(body)
    if isinstance(answer, Rejection):
        assert not find_card_number(answer.body.decode("latin-1"))
        assert answer.error.isprintable()


@given(
    st.sampled_from(TAKEN),
    st.dictionaries(
        st.sampled_from(["id", "type", "source", "time", "data", "specversion", "subject"]),
        json_values,
        min_size=1,
        max_size=2,
    ),
)
def test_any_envelope_is_answered(body: bytes, changes: dict[str, Any]) -> None:
    """A known message with wrong values anywhere in its envelope is answered as well."""
    answer = read(json.dumps(json.loads(body) | changes).encode())
    assert isinstance(answer, PlatformEvent | Rejection)


@given(st.sampled_from(TAKEN), st.data())
def test_any_field_of_any_payload_is_answered(body: bytes, data: st.DataObject) -> None:
    """Every field of every type may be anything: a rejection then names a path that was sent."""
    message = json.loads(body)
    name = data.draw(st.sampled_from(sorted(message["data"])))
    message["data"][name] = data.draw(json_values)
    answer = read(json.dumps(message).encode())
    if isinstance(answer, Rejection):
        assert answer.field == "body" or answer.field.startswith("data")
