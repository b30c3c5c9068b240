"""Settling: what a gateway's word does to an attempt in each state, and to what hangs on it."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import settlement
from billing.facts import Case
from billing.lifecycle import ENDED_SUBSCRIPTIONS
from billing.outcomes import (
    Absent,
    ActionRequired,
    Approved,
    Canceled,
    DeclineClass,
    Declined,
    NotFoundYet,
    NotSent,
    Outcome,
    Pending,
    Refused,
    Unknown,
)
from tests.billing.rows import (
    ATT,
    INV,
    NOW,
    RESOLVED,
    SUB,
    assert_storable,
    attempt,
    case,
    in_dunning,
    invoice,
    moved,
    subscription,
    told,
)

YES = Approved("ch_1", 4900, "USD")
WRONG = Approved("ch_1", 4901, "USD")
NO = Declined("ch_1", "do_not_honor", DeclineClass.SOFT, "05")
STOLEN = Declined("ch_1", "stolen_card", DeclineClass.HARD, "43")
ACTION = {"type": "redirect", "url": "https://x"}
ASKED = ActionRequired("ch_1", ACTION)
LATER = Pending("ch_1")
GONE = Canceled("ch_1")
ABSENT = Absent(NOW)
HOUR = timedelta(hours=1)
NOT_YET = NotFoundYet(NOW + HOUR)
LOST = Unknown("no answer in time")
ANSWERED = Unknown("500 server_error", answered=True, replayed=True)
REFUSED = Refused("401 unauthorized")
UNSENT = NotSent("refused")
ALL = (YES, WRONG, NO, STOLEN, ASKED, LATER, GONE, ABSENT, NOT_YET, LOST, ANSWERED, REFUSED, UNSENT)


def settled(state: ATT, outcome: Outcome, **changes: Any) -> Case:
    """A gateway's word on an attempt in this state; `sub` and `bill` replace the plainest rows."""
    owner, bill = changes.pop("sub", None), changes.pop("bill", None)
    made = case(owner, bill, attempt(state, **changes))
    assert made.attempt is not None
    settlement.settle(made, made.attempt, outcome)
    assert_storable(made)
    return made


def now_is(made: Case) -> ATT:
    """The attempt's state afterwards."""
    assert made.attempt is not None
    return made.attempt.state


LEADS_TO = [
    # from:    sent, unknown, pending, action_required
    (YES, "succeeded succeeded succeeded succeeded"),
    (NO, "declined declined declined declined"),
    (GONE, "void void void void"),
    (LATER, "pending pending pending pending"),
    (ASKED, "action_required action_required impossible action_required"),
    (ABSENT, "void void pending action_required"),
    (NOT_YET, "sent unknown pending action_required"),
    (LOST, "unknown unknown pending action_required"),
    (WRONG, "unknown unknown pending action_required"),
    (REFUSED, "unknown unknown pending action_required"),
    (UNSENT, "sent unknown pending action_required"),
]


@pytest.mark.parametrize(("outcome", "after"), LEADS_TO)
def test_where_an_outcome_leads(outcome: Outcome, after: str) -> None:
    """From each unsettled state; what a gateway cannot say is a bug, and raises."""
    states = (ATT.SENT, ATT.UNKNOWN, ATT.PENDING, ATT.ACTION_REQUIRED)
    for before, expected in zip(states, after.split(), strict=True):
        if expected == "impossible":
            with pytest.raises(AssertionError):
                settled(before, outcome)
        else:
            assert now_is(settled(before, outcome)) == expected


@pytest.mark.parametrize("state", sorted(RESOLVED))
@pytest.mark.parametrize("outcome", ALL)
def test_what_is_resolved_stays_so(state: ATT, outcome: Outcome) -> None:
    """Repeating a word changes nothing, but for money that comes late for a void attempt."""
    if state is ATT.VOID and isinstance(outcome, Approved):
        return
    bill = {ATT.SUCCEEDED: INV.PAID, ATT.DECLINED: INV.OPEN, ATT.VOID: INV.OPEN}[state]
    made = settled(state, outcome, bill=invoice(bill))
    assert made.attempt == attempt(state)
    assert (moved(made), told(made)) == ([], [])


@pytest.mark.parametrize(
    ("sub", "bill", "state", "status", "kept"),
    [
        # On an open invoice it pays; that it was thought absent is an incident.
        (SUB.ACTIVE, INV.OPEN, ATT.SUCCEEDED, INV.PAID, SUB.ACTIVE),
        (SUB.UNPAID, INV.OPEN, ATT.SUCCEEDED, INV.PAID, SUB.ACTIVE),
        # Written off or void: paid all the same, and nothing revives.
        (SUB.CANCELED, INV.UNCOLLECTIBLE, ATT.SUCCEEDED, INV.PAID, SUB.CANCELED),
        (SUB.CANCELED, INV.VOID, ATT.SUCCEEDED, INV.PAID, SUB.CANCELED),
        (SUB.PAUSED, INV.UNCOLLECTIBLE, ATT.SUCCEEDED, INV.PAID, SUB.PAUSED),
        # A second success of an invoice is none: it is a refund to be proposed.
        (SUB.ACTIVE, INV.PAID, ATT.VOID, INV.PAID, SUB.ACTIVE),
        (SUB.CANCELED, INV.PAID, ATT.VOID, INV.PAID, SUB.CANCELED),
    ],
)
def test_late_money_is_recorded_and_a_person_is_told(
    sub: SUB, bill: INV, state: ATT, status: INV, kept: SUB
) -> None:
    """Money on a void attempt: by the invoice and the subscription that it finds."""
    made = settled(ATT.VOID, YES, sub=subscription(sub), bill=invoice(bill))
    assert made.attempt is not None
    assert (made.attempt.state, made.invoice.status) == (state, status)
    assert made.subscription.status is kept
    assert made.attempt.gateway_ref == "ch_1"
    assert made.attempt.needs_human is not None


def test_late_money_of_a_wrong_amount_is_for_a_person_alone() -> None:
    """Neither paid nor looked up again: the void attempt says what came."""
    made = settled(ATT.VOID, WRONG)
    assert made.attempt is not None
    assert (made.attempt.state, made.invoice.status) == (ATT.VOID, INV.OPEN)
    assert made.attempt.needs_human == "ch_1 charged 4901 USD, which is not what was asked"


@pytest.mark.parametrize(
    ("source", "by_reconciler", "dunning", "expected"),
    [
        ("renewal", False, False, None),
        ("retry", False, True, "retry"),
        ("technical", False, True, "retry"),
        ("final", False, True, "retry"),
        ("new_card", False, True, "new_card"),
        ("manual", False, True, "manual"),
        ("retry", True, True, "reconciliation"),
        ("renewal", True, False, None),
    ],
)
def test_who_recovered_it(
    source: str, expected: str | None, *, by_reconciler: bool, dunning: bool
) -> None:
    """Only what was declined before is recovered, by who made the attempt or who found it."""
    made = case(
        subscription(SUB.PAST_DUE) if dunning else None,
        in_dunning() if dunning else None,
        attempt(source=source),
        by_reconciler=by_reconciler,
    )
    assert made.attempt is not None
    settlement.settle(made, made.attempt, YES)
    assert made.invoice.recovered_by == expected


@pytest.mark.parametrize("status", sorted(ENDED_SUBSCRIPTIONS))
@pytest.mark.parametrize("outcome", [NO, STOLEN, GONE, ABSENT])
def test_nobody_who_has_left_is_dunned(status: SUB, outcome: Outcome) -> None:
    """Without money the invoice is void, and that is all there is to tell."""
    made = settled(ATT.UNKNOWN, outcome, sub=subscription(status))
    assert made.invoice.status is INV.VOID
    assert told(made) == ["invoice.voided"]
    assert made.invoice.first_declined_at is None


def test_a_hard_decline_marks_the_card() -> None:
    """Its code is kept for the method, and no retry follows before the window's end."""
    made = settled(ATT.SENT, STOLEN)
    assert made.hard_decline_code == "stolen_card"
    assert made.invoice.attempt_due_at == NOW + timedelta(days=28)
    assert made.messages[0].fields["next_retry_at"] is None


def test_what_is_proven_absent_is_due_again_as_it_was() -> None:
    """Not a decline: no dunning begins, and whoever asked meanwhile is heard."""
    made = settled(ATT.UNKNOWN, ABSENT, source="retry", bill=in_dunning())
    assert (made.invoice.attempt_due_at, made.invoice.attempt_source) == (NOW, "retry")
    assert told(made) == []
    made = settled(ATT.SENT, ABSENT, bill=invoice(requested_source="manual"))
    assert made.invoice.attempt_source == "manual"
    assert moved(made) == ["attempt: sent -> unknown", "attempt: unknown -> void"]


def test_a_proof_of_an_earlier_send_is_none() -> None:
    """The key was sent again since: it is looked at again at once."""
    made = settled(ATT.UNKNOWN, Absent(NOW - HOUR))
    assert made.attempt is not None
    assert (made.attempt.state, made.attempt.check_due_at) == (ATT.UNKNOWN, NOW)


def test_what_was_told_of_cannot_be_absent() -> None:
    """The gateway gave an id for it: only a person can tell what that means."""
    made = settled(ATT.PENDING, ABSENT)
    assert made.attempt is not None
    assert made.attempt.check_due_at is None
    assert made.attempt.needs_human is not None


def test_a_wrong_amount_is_looked_up_before_a_person_is_asked() -> None:
    """The answer may be garbled: only what the look-up says again is believed."""
    made = settled(ATT.SENT, WRONG)
    assert made.attempt is not None
    assert (made.attempt.answered, made.attempt.replayed) == (True, True)
    assert (made.attempt.check_due_at, made.attempt.needs_human) == (NOW, None)
    settlement.settle(made, made.attempt, YES)
    assert made.invoice.status is INV.PAID
    made = settled(ATT.UNKNOWN, WRONG, replayed=True)
    assert made.attempt is not None
    assert (made.attempt.check_due_at, made.attempt.state) == (None, ATT.UNKNOWN)
    assert made.attempt.needs_human is not None


@pytest.mark.parametrize(
    ("checks", "outcome", "wait"),
    [
        (0, LOST, 5),
        (1, LOST, 10),
        (5, LOST, 160),
        (6, LOST, 300),
        (60, LOST, 300),
        (0, UNSENT, 5),
        (0, Unknown("429", retry_after_seconds=60), 60),
        (6, Unknown("429", retry_after_seconds=60), 300),
    ],
)
def test_looking_again_gets_slower(checks: int, outcome: Outcome, wait: int) -> None:
    """Machine time; never sooner than the gateway asked for, never later than five minutes else."""
    made = settled(ATT.UNKNOWN, outcome, checks=checks)
    assert made.attempt is not None
    assert (made.wait_seconds, made.attempt.checks) == (wait, checks + 1)
    assert made.attempt.check_due_at == NOW


@pytest.mark.parametrize(
    ("changes", "bill", "sub", "after"),
    [
        ({}, {}, SUB.ACTIVE, HOUR),
        # Nobody wants it any more: it is ended without waiting.
        ({}, {"requested_source": "new_card"}, SUB.ACTIVE, timedelta()),
        ({}, {}, SUB.CANCELED, timedelta()),
    ],
)
@pytest.mark.parametrize("outcome", [LATER, ASKED])
def test_when_a_payment_under_way_is_looked_at(
    changes: dict[str, Any], bill: dict[str, Any], sub: SUB, after: timedelta, *, outcome: Outcome
) -> None:
    """Hourly, and at once if it is to be ended; told when it begins, and once."""
    made = settled(ATT.SENT, outcome, bill=invoice(**bill), sub=subscription(sub), **changes)
    assert made.attempt is not None
    assert made.attempt.check_due_at == NOW + after
    assert len(told(made)) == 1
    settlement.settle(made, made.attempt, outcome)
    assert made.attempt.check_due_at == NOW + HOUR
    assert len(told(made)) == 1


@given(st.lists(st.sampled_from(ALL), max_size=12), st.sampled_from(sorted(SUB)), st.booleans())
def test_no_order_of_outcomes_breaks_a_rule(
    outcomes: list[Outcome],
    status: SUB,
    has_debt: bool,  # noqa: FBT001
) -> None:
    """Any words in any order: every move is legal, money counts once, and the end stays the end."""
    made = case(subscription(status), in_dunning() if has_debt else invoice(), attempt())
    assert made.attempt is not None
    for outcome in outcomes:
        impossible = made.attempt.state is ATT.PENDING and isinstance(outcome, ActionRequired)
        if not impossible:
            settlement.settle(made, made.attempt, outcome)
            assert_storable(made)
    succeeded = [move for move in moved(made) if move.endswith("-> succeeded")]
    assert len(succeeded) <= 1
    assert (made.invoice.status is INV.PAID) is bool(succeeded)
    assert told(made).count("invoice.paid") == len(succeeded)
    if status in ENDED_SUBSCRIPTIONS:
        assert made.subscription.status is status
