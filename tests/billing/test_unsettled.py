"""The unknown-outcome ladder: what may be sent again, what is only read, and what proves absence."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.lifecycle import ENDED_SUBSCRIPTIONS
from billing.outcomes import Absent, NotFoundYet
from billing.unsettled import (
    Bounds,
    EndAtGateway,
    LookUp,
    Resend,
    Step,
    judge_absence,
    needs_person,
    next_step,
)
from tests.billing.rows import ATT, INV, NOW, SUB, attempt, invoice, subscription

BOUNDS = Bounds(
    key_lifetime=timedelta(hours=24),
    lookup_lag=timedelta(minutes=15),
    max_delivery_delay=timedelta(minutes=60),
)
READ, SEND, END = LookUp(), Resend(), EndAtGateway("ch_1")
HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
ALMOST_20H = 20 * HOUR - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("state", "age", "settings", "expected"),
    [
        # While the key lives and the invoice is wanted, the same bytes go again.
        (ATT.SENT, MINUTE, {}, SEND),
        (ATT.UNKNOWN, MINUTE, {}, SEND),
        (ATT.UNKNOWN, ALMOST_20H, {}, SEND),
        # Four hours before the key dies it is not sent any more.
        (ATT.UNKNOWN, 20 * HOUR, {}, READ),
        (ATT.SENT, 30 * HOUR, {}, READ),
        # A replayed answer never changes; a kill switch forbids to send.
        (ATT.UNKNOWN, MINUTE, {"replayed": True}, READ),
        (ATT.UNKNOWN, MINUTE, {"paused": True}, READ),
        # Nobody wants it any more.
        (ATT.UNKNOWN, MINUTE, {"status": SUB.CANCELED}, READ),
        (ATT.UNKNOWN, MINUTE, {"status": SUB.EXPIRED}, READ),
        (ATT.UNKNOWN, MINUTE, {"bill": INV.VOID}, READ),
        (ATT.UNKNOWN, MINUTE, {"bill": INV.UNCOLLECTIBLE}, READ),
        (ATT.UNKNOWN, MINUTE, {"bill": INV.PAID}, READ),
        (ATT.UNKNOWN, MINUTE, {"status": SUB.UNPAID}, SEND),
        # What is under way is read, whatever the key's age …
        (ATT.PENDING, 10 * DAY, {}, READ),
        (ATT.ACTION_REQUIRED, 3 * DAY - MINUTE, {}, READ),
        (ATT.PENDING, MINUTE, {"paused": True}, READ),
        # … until the payer is late, or something else is wanted: then it is ended first.
        (ATT.ACTION_REQUIRED, 3 * DAY, {}, END),
        (ATT.ACTION_REQUIRED, DAY, {"policy": {"action_days": 1}}, END),
        (ATT.PENDING, MINUTE, {"requested": "new_card"}, END),
        (ATT.ACTION_REQUIRED, MINUTE, {"requested": "manual"}, END),
        (ATT.PENDING, MINUTE, {"status": SUB.CANCELED}, END),
    ],
)
def test_the_next_step(
    state: ATT, age: timedelta, settings: dict[str, Any], expected: Step
) -> None:
    """One row a case; by default an open invoice of an active subscription, charging allowed."""
    step = next_step(
        attempt(state, replayed=settings.get("replayed", False)),
        invoice(settings.get("bill", INV.OPEN), requested_source=settings.get("requested")),
        subscription(settings.get("status", SUB.ACTIVE), retry_policy=settings.get("policy", {})),
        bounds=BOUNDS,
        paused=settings.get("paused", False),
        now=NOW + age,
    )
    assert step == expected


# The send window of 20 s, an hour of delivery, and twice 15 minutes of lag.
QUIET = 90 * MINUTE + timedelta(seconds=20)


def absence(now: timedelta, **changes: Any) -> Absent | NotFoundYet:
    """What "not found" means so long after the key was sent."""
    return judge_absence(attempt(ATT.UNKNOWN, **changes), bounds=BOUNDS, now=NOW + now)


@pytest.mark.parametrize(
    ("now", "first", "answered", "again"),
    [
        # The first reading never proves anything; the second one comes after all bounds …
        (0 * MINUTE, None, False, QUIET),
        (10 * HOUR, None, False, 10 * HOUR + 15 * MINUTE),
        # … and at least one lag after the first.
        (80 * MINUTE, None, False, 95 * MINUTE),
        (QUIET, 80 * MINUTE, False, 95 * MINUTE),
        (95 * MINUTE, 80 * MINUTE, False, None),
        (QUIET, 0 * MINUTE, False, None),
        (QUIET - timedelta(seconds=1), 0 * MINUTE, False, QUIET),
        # A complete answer for this key ended its delivery: only the look-ups' lag counts.
        (0 * MINUTE, None, True, 30 * MINUTE),
        (30 * MINUTE, 0 * MINUTE, True, None),
        (30 * MINUTE, 20 * MINUTE, True, 35 * MINUTE),
    ],
)
def test_when_absence_is_proof(
    now: timedelta, first: timedelta | None, *, answered: bool, again: timedelta | None
) -> None:
    """Two readings that agree, after the request can have come no more. `again`: when to read next."""
    not_found_at = None if first is None else NOW + first
    judged = absence(now, not_found_at=not_found_at, answered=answered)
    assert judged == (Absent(NOW) if again is None else NotFoundYet(NOW + again))


@given(
    now=st.timedeltas(timedelta(), 2 * DAY),
    first=st.none() | st.timedeltas(timedelta(), 2 * DAY),
    answered=st.booleans(),
)
def test_absence_is_never_proved_early(
    now: timedelta, first: timedelta | None, *, answered: bool
) -> None:
    """Whatever was read when: never in one reading, never within the bounds, and always at last."""
    not_found_at = None if first is None else NOW + first
    judged = absence(now, not_found_at=not_found_at, answered=answered)
    if isinstance(judged, Absent):
        assert first is not None
        assert now >= first + BOUNDS.lookup_lag
        assert now >= (30 if answered else 90) * MINUTE
    else:
        assert judged.again_at >= NOW + now
        at = max(judged.again_at, NOW + (first or now) + BOUNDS.lookup_lag)
        later = judge_absence(
            attempt(not_found_at=not_found_at or NOW + now, answered=answered),
            bounds=BOUNDS,
            now=at,
        )
        assert isinstance(later, Absent)


@pytest.mark.parametrize(
    ("state", "age", "needs_human", "expected"),
    [
        (ATT.UNKNOWN, 20 * HOUR, None, True),
        (ATT.SENT, 20 * HOUR, None, True),
        (ATT.UNKNOWN, ALMOST_20H, None, False),
        # Asked for already, or not lost at all.
        (ATT.UNKNOWN, 30 * HOUR, "look", False),
        (ATT.PENDING, 30 * HOUR, None, False),
        (ATT.SUCCEEDED, 30 * HOUR, None, False),
    ],
)
def test_a_person_is_called_before_the_key_dies(
    state: ATT, age: timedelta, needs_human: str | None, *, expected: bool
) -> None:
    """Once, for what was sent 20 hours ago without a word of what became of it."""
    assert needs_person(attempt(state, needs_human=needs_human), NOW + age) is expected


@given(
    state=st.sampled_from(sorted(ATT)),
    status=st.sampled_from(sorted(SUB)),
    bill=st.sampled_from(sorted(INV)),
    replayed=st.booleans(),
    paused=st.booleans(),
    age=st.timedeltas(timedelta(), 2 * DAY),
)
def test_nothing_is_sent_that_is_not_wanted(
    *, state: ATT, status: SUB, bill: INV, replayed: bool, paused: bool, age: timedelta
) -> None:
    """A resend takes a living key, an open invoice, a living subscription and no kill switch."""
    row = attempt(state, replayed=replayed, gateway_ref="ch_1")
    owner, now = subscription(status), NOW + age
    step = next_step(row, invoice(bill), owner, bounds=BOUNDS, paused=paused, now=now)
    if step == SEND:
        assert state not in (ATT.PENDING, ATT.ACTION_REQUIRED)
        assert (replayed, paused) == (False, False)
        assert bill is INV.OPEN
        assert status not in ENDED_SUBSCRIPTIONS
        assert age < 20 * HOUR
