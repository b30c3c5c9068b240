"""Platform messages in: what is taken, what is rejected, and which field is named."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.checks import find_card_number
from billing.events import BUILT, EventType, PlatformEvent, Rejection, parse
from billing.events.payloads import PlanUpserted, SubscriptionCreated
from tests import platform_events as shop
from tests.platform_cases import REJECTED, TAKEN, nested, policy
from tests.platform_events import ABSENT, NOW


def read(body: bytes, *, now: datetime = NOW, clock_is_real: bool = True) -> Any:
    return parse(body, now=now, clock_is_real=clock_is_real)


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
